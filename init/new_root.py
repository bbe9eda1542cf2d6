"""The container's tree while it grows, at /sysroot of the intermediate root, with the host's at /host beside it."""

from __future__ import annotations

import posix
from errno import EINVAL, ENOTDIR

from igaki.init import files, kernel
from igaki.init.targets import Targets, split
from igaki.ops.base import parent_mode

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping

    from igaki.init.host_root import HostRoot
    from igaki.ops import Source

PROC_IS_COVERED = "a host's /proc that is partly covered, as in many containers, allows no new one"


class NewRoot:
    """Implements `igaki.ops.phases.NewRoot`."""

    def __init__(self, host: HostRoot, *, cover_proc: bool) -> None:
        self._host = host
        self._cover_proc = cover_proc
        self.targets = Targets()
        self._scratches = 0
        self._placed = 0

    def close(self) -> None:
        self.targets.close()

    def directory(self, target: str, mode: int = 0o755) -> None:
        posix.close(self.targets.directory(target, mode))

    def bind(self, source: Source, target: str, *, writable: bool = False, devices: bool = False) -> None:
        attributes = kernel.MOUNT_ATTR_NOSUID
        if not writable:
            attributes |= kernel.MOUNT_ATTR_RDONLY
        if not devices:
            attributes |= kernel.MOUNT_ATTR_NODEV
        tree = kernel.open_tree(self._host.take(source), source.path)
        try:
            # Private: what the host mounts below the source later would arrive writable, whatever is set here.
            kernel.mount_setattr(tree, attributes, kernel.MS_PRIVATE, source.path, recursive=True)
            point = self.targets.directory(target) if source.is_directory else self.targets.file(target)
            self._attach(tree, point, source.path, target)
        finally:
            posix.close(tree)

    def mount(
        self,
        kind: str,
        target: str,
        options: Mapping[str, str],
        *,
        writable: bool = True,
        executable: bool = False,
        devices: bool = False,
        mode: int = 0o755,
    ) -> None:
        attributes = kernel.MOUNT_ATTR_NOSUID
        if not writable:
            attributes |= kernel.MOUNT_ATTR_RDONLY
        if not devices:
            attributes |= kernel.MOUNT_ATTR_NODEV
        if not executable:
            attributes |= kernel.MOUNT_ATTR_NOEXEC
        point = self.targets.directory(target, mode)
        try:
            made = kernel.new_mount(kind, dict(options), attributes, target)
        except OSError:
            posix.close(point)
            raise
        try:
            self._attach(made, point, "", target)
        finally:
            posix.close(made)

    def proc(self, target: str) -> None:
        try:
            self.mount("proc", target, {})
        except PermissionError as error:
            error.add_note(PROC_IS_COVERED)
            raise
        if self._cover_proc:
            self._make_proc_read_only(target)

    def overlay(self, target: str, lower: list[Source], upper: Source | None, work: Source | None) -> None:
        options = {"lowerdir": ":".join([self._layer(source) for source in lower])}
        if upper is not None and work is not None:
            options = {"upperdir": self._layer(upper), "workdir": self._layer(work), **options}
        self._mount_overlay(target, options)

    def scratch(self, target: str, lower: list[Source]) -> None:
        self._scratches += 1
        directory = f"/scratch.{self._scratches}"
        # The merged directory shows the mode of the upper one.
        mode = posix.fstat(self._host.take(lower[0])).st_mode & 0o7777
        with files.naming(target):
            posix.mkdir(directory, 0o700)
            posix.mkdir(f"{directory}/work", 0o700)
            posix.mkdir(f"{directory}/upper", 0o700)
            posix.chmod(f"{directory}/upper", mode)
        layers = ":".join([self._layer(source) for source in lower])
        self._mount_overlay(
            target, {"upperdir": f"{directory}/upper", "workdir": f"{directory}/work", "lowerdir": layers}
        )

    def remount(self, target: str, *, recursive: bool) -> None:
        point = self.targets.open(target)
        try:
            kernel.mount_setattr(point, kernel.MOUNT_ATTR_RDONLY, 0, target, recursive=recursive)
        except OSError as error:
            if error.errno == EINVAL:
                raise OSError(EINVAL, "nothing is mounted there", target) from None
            raise
        finally:
            posix.close(point)

    def symlink(self, target: str, text: str) -> None:
        directory, name = split(target)
        parent = self.targets.directory(directory)
        try:
            files.make_symlink(parent, name, text, target)
        except FileExistsError:
            if not _says(parent, name, text):
                raise
        finally:
            posix.close(parent)

    def place(self, target: str, data: bytes, mode: int, *, writable: bool) -> None:
        attributes = kernel.MOUNT_ATTR_NOSUID | kernel.MOUNT_ATTR_NODEV
        if not writable:
            attributes |= kernel.MOUNT_ATTR_RDONLY
        # It keeps its name in the intermediate root: nothing could be mounted on a file that has lost it.
        self._placed += 1
        file = files.make_file(kernel.AT_FDCWD, f"/placed.{self._placed}", 0o600, target)
        try:
            files.write_all(file, data, target)
            files.change_mode(file, mode, target)
            tree = kernel.open_tree(file, target)
        finally:
            posix.close(file)
        try:
            kernel.mount_setattr(tree, attributes, kernel.MS_PRIVATE, target, recursive=True)
            self._attach(tree, self.targets.file(target), "", target)
        finally:
            posix.close(tree)

    def write(self, target: str, data: bytes, mode: int) -> None:
        directory, name = split(target)
        parent = self.targets.directory(directory, parent_mode(mode))
        try:
            file = files.make_file(parent, name, 0o600, target)
        finally:
            posix.close(parent)
        try:
            files.write_all(file, data, target)
            files.change_mode(file, mode, target)
        finally:
            posix.close(file)

    def chmod(self, target: str, mode: int) -> None:
        point = self.targets.open(target)
        try:
            files.change_mode(point, mode, target)
        finally:
            posix.close(point)

    def _attach(self, tree: int, point: int, label: str, target: str) -> None:
        """Mount `tree` on `point`, which is closed."""
        try:
            kernel.move_mount(tree, point, label, target)
            self.targets.reopen_if_covered(point)
        finally:
            posix.close(point)

    def _layer(self, source: Source) -> str:
        """A path of an overlay's layer that needs no escaping, however the directory is called."""
        if not source.is_directory:
            raise OSError(ENOTDIR, posix.strerror(ENOTDIR), source.path)
        return f"/host/proc/self/fd/{self._host.take(source)}"

    def _mount_overlay(self, target: str, options: dict[str, str]) -> None:
        # userxattr: a user namespace may not write the trusted.* attributes that an overlay uses otherwise.
        data = ",".join([*(f"{key}={value}" for key, value in options.items()), "userxattr"])
        flags = kernel.MS_SILENT | kernel.MS_NOSUID | kernel.MS_NODEV
        if "upperdir" not in options:
            flags |= kernel.MS_RDONLY
        point = self.targets.directory(target)
        try:
            kernel.mount("overlay", f"/host/proc/self/fd/{point}", "overlay", flags, data, path=target)
            self.targets.reopen_if_covered(point)
        finally:
            posix.close(point)

    def _make_proc_read_only(self, target: str) -> None:
        """Cover everything in a new proc that belongs to host user 0 and is no process of the container."""
        proc = self.targets.open(target, posix.O_RDONLY | posix.O_DIRECTORY | posix.O_CLOEXEC)
        try:
            for name in posix.listdir(proc):
                entry = kernel.openat2(proc, name, files.ANYTHING | posix.O_NOFOLLOW, 0, label=f"{target}/{name}")
                try:
                    if not name.isdigit() and not _is_symlink(entry):
                        self._cover_read_only(entry, f"{target}/{name}")
                finally:
                    posix.close(entry)
        finally:
            posix.close(proc)

    def _cover_read_only(self, entry: int, path: str) -> None:
        tree = kernel.open_tree(entry, path)
        try:
            kernel.mount_setattr(tree, kernel.MOUNT_ATTR_RDONLY, kernel.MS_PRIVATE, path, recursive=True)
            kernel.move_mount(tree, entry, path, path)
        finally:
            posix.close(tree)


def _says(parent: int, name: str, text: str) -> bool:
    try:
        return posix.readlink(name, dir_fd=parent) == text
    except OSError:  # EINVAL: not a symlink
        return False


def _is_symlink(fd: int) -> bool:
    return posix.fstat(fd).st_mode & 0o170000 == 0o120000
