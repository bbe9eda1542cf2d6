"""Paths in the container, as descriptors. They are hostile: an application may have left symlinks in its writable home
that point at the host. So each one is opened with RESOLVE_IN_ROOT, under which no link leaves /sysroot."""

from __future__ import annotations

import posix
from errno import EEXIST, EISDIR

from igaki.init import files, kernel
from igaki.ops.base import parent_mode

SYSROOT = "/sysroot"
IN_ROOT = kernel.RESOLVE_IN_ROOT | kernel.RESOLVE_NO_MAGICLINKS
MOUNT_POINT_MODE = 0o444
"""Of a file created to mount another on; nobody sees it until that is gone."""


class Targets:
    """Opens and creates what ops name, in the container's tree as it is at that moment."""

    def __init__(self) -> None:
        self._sysroot, self._identity = _open_sysroot()

    def close(self) -> None:
        posix.close(self._sysroot)

    def open(self, target: str, flags: int = files.ANYTHING) -> int:
        """Open what is there. Raises OSError."""
        return kernel.openat2(self._sysroot, target.lstrip("/") or ".", flags, IN_ROOT, label=target)

    def directory(self, target: str, mode: int = 0o755) -> int:
        """Open the directory `target`, created where missing."""
        missing: list[str] = []
        path = target
        while (fd := self._open_if_there(path, files.DIRECTORY)) is None:
            missing.append(path)
            path = split(path)[0]
        while missing:
            path = missing.pop()
            parent = fd
            try:
                fd = files.make_directory(parent, split(path)[1], parent_mode(mode) if missing else mode, path)
            except FileExistsError:  # a container that shares a writable mount was faster, or it leads nowhere
                fd = self._open_existing(path, files.DIRECTORY)
            finally:
                posix.close(parent)
        return fd

    def file(self, target: str) -> int:
        """Open `target`, which is anything but a directory; an empty file is created where it is missing."""
        fd = self._open_if_there(target, files.ANYTHING)
        if fd is None:
            directory, name = split(target)
            parent = self.directory(directory)
            try:
                posix.close(files.make_file(parent, name, MOUNT_POINT_MODE, target))
                return kernel.openat2(parent, name, files.ANYTHING, kernel.RESOLVE_NO_SYMLINKS, label=target)
            except FileExistsError:
                fd = self._open_existing(target, files.ANYTHING)
            finally:
                posix.close(parent)
        if files.is_directory(fd):
            posix.close(fd)
            raise OSError(EISDIR, posix.strerror(EISDIR), target)
        return fd

    def reopen_if_covered(self, point: int) -> None:
        """To be called when something was mounted on `point`."""
        # A descriptor of / from before a mount on / goes on to resolve below that mount, and says nothing.
        if posix.fstat(point)[1:3] == self._identity:
            posix.close(self._sysroot)
            self._sysroot, self._identity = _open_sysroot()

    def real_path(self, target: str) -> str:
        """Where `target`, or the nearest directory above it that exists, is in the container, without symlinks."""
        while (fd := self._open_if_there(target, files.ANYTHING)) is None:
            target = split(target)[0]
        try:
            return files.read_link(f"/host/proc/self/fd/{fd}").removeprefix(SYSROOT) or "/"
        finally:
            posix.close(fd)

    def _open_if_there(self, target: str, flags: int) -> int | None:
        return kernel.openat2_if_there(self._sysroot, target.lstrip("/") or ".", flags, IN_ROOT, label=target)

    def _open_existing(self, target: str, flags: int) -> int:
        fd = self._open_if_there(target, flags)
        if fd is None:
            raise OSError(EEXIST, "it is a symlink that leads nowhere in the container", target)
        return fd


def _open_sysroot() -> tuple[int, tuple[int, int]]:
    """The container's topmost root, and its inode and device."""
    fd = files.open_path(SYSROOT, files.DIRECTORY)
    inode, device = posix.fstat(fd)[1:3]
    return fd, (inode, device)


def split(path: str) -> tuple[str, str]:
    """The directory and the last component of an absolute path."""
    directory, _, name = path.rpartition("/")
    return directory or "/", name
