"""Init with somebody beside it who is faster: the arguments of `boot.py`, "--", then what happens.

swap PATH               a directory x is renamed when it is made, and a link to PATH of the host takes its name
share                   somebody else made each directory, a moment before
replace PATH BY HELD    between the two phases BY takes the name PATH; with HELD 0 no descriptor is kept meanwhile
slow                    nothing, but every system call takes ten milliseconds
"""

import posix
import sys
import time
from collections.abc import Callable
from types import FunctionType
from typing import TypeVar

T = TypeVar("T")
end = sys.argv.index("--")
what, *operands = sys.argv[end + 1 :]
sys.path += sys.argv[4:end]

from igaki.lite import load_msgspec  # noqa: E402

load_msgspec()

from igaki.init import kernel, stages  # noqa: E402

make = posix.mkdir


def make_and_swap(path: str, mode: int = 0o777, *, dir_fd: int | None = None) -> None:
    make(path, mode, dir_fd=dir_fd)
    if path == "x":
        posix.rename(path, f"{path}.moved", src_dir_fd=dir_fd, dst_dir_fd=dir_fd)
        posix.symlink(f"/host{operands[0]}", path, dir_fd=dir_fd)


def make_as_a_peer(path: str, mode: int = 0o777, *, dir_fd: int | None = None) -> None:
    make(path, mode, dir_fd=dir_fd)
    if dir_fd is not None:
        raise FileExistsError(17, "File exists", path)


def slow(call: Callable[..., T]) -> Callable[..., T]:
    def wrapper(*arguments: object, **options: object) -> T:
        time.sleep(0.01)
        return call(*arguments, **options)

    return wrapper


match what:
    case "swap":
        setattr(posix, "mkdir", make_and_swap)  # noqa: B010  its type is wider
    case "share":
        setattr(posix, "mkdir", make_as_a_peer)  # noqa: B010
    case "replace":
        path, by, held = operands
        enter = stages._enter_intermediate_root
        if held == "0":
            stages.RESERVED_DESCRIPTORS = 1 << 30

        def replace_and_enter() -> None:
            posix.rename(path, f"{path}.moved")
            posix.rename(by, path)
            enter()

        stages._enter_intermediate_root = replace_and_enter
    case _:
        for name, value in list(vars(kernel).items()):
            if isinstance(value, FunctionType) and not name.startswith("_"):
                setattr(kernel, name, slow(value))

stages.main(int(sys.argv[2]), die_with_thread=sys.argv[3] == "1")
