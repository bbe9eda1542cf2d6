"""Init with one failing call: the arguments of `boot.py`, then WHERE ("ops" or "anywhere") and the number of the call.

Every function of `kernel`, and every call of `posix` that changes or reads the file system, counts as a call.
"""

import posix
import sys
from collections.abc import Callable
from errno import EIO
from types import FunctionType
from typing import TypeVar

T = TypeVar("T")

where, number = sys.argv[-2], int(sys.argv[-1])
sys.path += sys.argv[4:-2]

from igaki.lite import load_msgspec  # noqa: E402

load_msgspec()

from igaki.init import kernel, stages  # noqa: E402

POSIX = ("chmod", "fstat", "listdir", "mkdir", "open", "readlink", "stat", "symlink", "unlink", "write")
UNCOUNTED = ("close_range", "write")  # not part of building; and what a Failure itself is sent with

armed = where == "anywhere"
calls = 0


def faulty(name: str, call: Callable[..., T]) -> Callable[..., T]:
    def wrapper(*arguments: object, **options: object) -> T:
        global calls  # noqa: PLW0603
        if armed:
            calls += 1
            if calls == number:
                raise OSError(EIO, "injected", name)
        return call(*arguments, **options)

    return wrapper


def arming(phase: Callable[..., T]) -> Callable[..., T]:
    def wrapper(*arguments: object, **options: object) -> T:
        global armed  # noqa: PLW0603
        armed = True
        try:
            return phase(*arguments, **options)
        finally:
            armed = where == "anywhere"

    return wrapper


for name, value in list(vars(kernel).items()):
    if isinstance(value, FunctionType) and not name.startswith("_") and name not in UNCOUNTED:
        setattr(kernel, name, faulty(name, value))
for name in POSIX:
    if name not in UNCOUNTED or where == "ops":
        setattr(posix, name, faulty(name, getattr(posix, name)))
stages._early = arming(stages._early)
stages._apply = arming(stages._apply)

stages.main(int(sys.argv[2]), die_with_thread=sys.argv[3] == "1")
