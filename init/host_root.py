"""The host's root: what `early` finds is held open, so that `apply` gets that very thing and no other."""

from __future__ import annotations

import posix
import stat
from errno import EILSEQ, ESTALE

from igaki.init import files, kernel
from igaki.ops import Source

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

KINDS = {
    stat.S_IFDIR: "directory",
    stat.S_IFREG: "file",
    stat.S_IFLNK: "symlink",
    stat.S_IFSOCK: "socket",
    stat.S_IFIFO: "fifo",
    stat.S_IFBLK: "block device",
    stat.S_IFCHR: "character device",
}


class HostRoot:
    """Implements `igaki.ops.phases.HostRoot`, and hands what it found to NewRoot."""

    def __init__(self, most_held: int, warn: Callable[[str], None]) -> None:
        self._most_held = most_held
        """How many descriptors may be kept; what goes beyond is opened again and compared."""
        self._held: dict[tuple[str, int, int], int] = {}
        self._borrowed: list[int] = []
        self._warn = warn

    def find(self, path: str, *, follow: bool = True) -> Source:
        resolve = 0 if follow else kernel.RESOLVE_NO_SYMLINKS
        fd = kernel.openat2(kernel.AT_FDCWD, path, files.ANYTHING, resolve)
        try:
            source = self._identify(fd, path)
            if len(self._held) < self._most_held and _key(source) not in self._held:
                self._held[_key(source)] = fd
                fd = -1
            return source
        finally:
            if fd >= 0:
                posix.close(fd)

    def make(self, path: str) -> None:
        missing: list[str] = []
        path = path.rstrip("/")
        while path and not _exists(path):
            missing.append(path)
            path = path.rpartition("/")[0].rstrip("/")
        while missing:
            try:
                posix.mkdir(missing.pop(), 0o700)
            except FileExistsError:
                pass  # somebody else was faster; `find` sees what it is

    def read_link(self, path: str) -> str:
        text = files.read_link(path)
        return _utf8(text, path)

    def names(self, path: str) -> list[str]:
        with files.naming(path):
            names = sorted(posix.listdir(path))
        for name in names:
            if not _is_utf8(name):
                self._warn(f"{path} holds {name!r}, which is not UTF-8 and is left out")
        return [name for name in names if _is_utf8(name)]

    def take(self, source: Source) -> int:
        """A descriptor of `source`, valid until `release`. Raises OSError ESTALE when it was replaced since `find`."""
        fd = self._held.get(_key(source))
        if fd is None:
            resolve = kernel.RESOLVE_IN_ROOT | kernel.RESOLVE_NO_SYMLINKS | kernel.RESOLVE_NO_MAGICLINKS
            root = files.open_path("/host")
            try:
                below = source.path.lstrip("/") or "."
                fd = kernel.openat2(root, below, files.ANYTHING, resolve, label=source.path)
            finally:
                posix.close(root)
            self._borrowed.append(fd)
            status = posix.fstat(fd)
            if (status.st_dev, status.st_ino) != (source.device, source.inode):
                raise OSError(ESTALE, "it was replaced while the container was being set up", source.path)
        return fd

    def release(self) -> None:
        """Close what was opened for one op."""
        while self._borrowed:
            posix.close(self._borrowed.pop())

    def close(self) -> None:
        self.release()
        while self._held:
            posix.close(self._held.popitem()[1])

    def _identify(self, fd: int, path: str) -> Source:
        status = posix.fstat(fd)
        resolved = _utf8(posix.readlink(f"/proc/self/fd/{fd}"), path)
        return Source(resolved, status.st_dev, status.st_ino, KINDS[stat.S_IFMT(status.st_mode)])


def _key(source: Source) -> tuple[str, int, int]:
    return source.path, source.device, source.inode


def _exists(path: str) -> bool:
    try:
        posix.stat(path)
    except FileNotFoundError:
        return False
    return True


def _is_utf8(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def _utf8(text: str, path: str) -> str:
    if not _is_utf8(text):
        raise OSError(EILSEQ, f"it leads to {text!r}, which is not UTF-8", path)
    return text
