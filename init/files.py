"""Calls on files below an open directory, whose errors name the whole path in the container, not its last part."""

from __future__ import annotations

import posix
from stat import S_ISDIR

TYPE_CHECKING = False
if TYPE_CHECKING:
    from types import TracebackType

ANYTHING = posix.O_PATH | posix.O_CLOEXEC
DIRECTORY = ANYTHING | posix.O_DIRECTORY


class naming:  # noqa: N801  reads as a statement: with naming(path)
    """Make an OSError raised inside name `path`."""

    __slots__ = ("path",)

    def __init__(self, path: str) -> None:
        self.path = path

    def __enter__(self) -> None:
        return None

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None) -> None:
        if isinstance(error, OSError) and error.errno is not None:
            raise OSError(error.errno, posix.strerror(error.errno), self.path) from None


def open_path(path: str, flags: int = ANYTHING) -> int:
    return posix.open(path, flags)


def make_directory(parent: int, name: str, mode: int, path: str) -> int:
    """Create a directory and open it. Its name may belong to something else a moment later: the descriptor doesn't."""
    with naming(path):
        posix.mkdir(name, mode, dir_fd=parent)
        fd = posix.open(name, DIRECTORY | posix.O_NOFOLLOW, dir_fd=parent)
    if mode & 0o6000:  # which mkdir(2) ignores
        change_mode(fd, mode, path)
    return fd


def make_file(parent: int, name: str, mode: int, path: str) -> int:
    """Create an empty file that did not exist, and open it for writing."""
    flags = posix.O_CREAT | posix.O_EXCL | posix.O_WRONLY | posix.O_NOFOLLOW | posix.O_CLOEXEC
    with naming(path):
        return posix.open(name, flags, mode, dir_fd=parent)


def make_symlink(parent: int, name: str, text: str, path: str) -> None:
    with naming(path):
        posix.symlink(text, name, dir_fd=parent)


def write_all(fd: int, data: bytes, path: str) -> None:
    view = memoryview(data)
    with naming(path):
        while view:
            view = view[posix.write(fd, view) :]


def change_mode(fd: int, mode: int, path: str) -> None:
    """Set the mode of what `fd` is open on, also when it was opened with O_PATH, which fchmod(2) refuses."""
    with naming(path):
        posix.chmod(f"/host/proc/self/fd/{fd}", mode)


def read_link(path: str, parent: int | None = None, label: str = "") -> str:
    with naming(label or path):
        return posix.readlink(path, dir_fd=parent)


def is_directory(fd: int) -> bool:
    return S_ISDIR(posix.fstat(fd).st_mode)
