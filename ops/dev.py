"""Dev: the few devices that every program expects."""

from __future__ import annotations

from msgspec.structs import replace

from igaki.ops.base import Op, Source

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Self

    from igaki.ops.phases import HostRoot, NewRoot

DEVICES = ("full", "null", "random", "tty", "urandom", "zero")

LINKS = {
    "core": "/proc/kcore",
    "fd": "/proc/self/fd",
    "ptmx": "pts/ptmx",
    "stderr": "/proc/self/fd/2",
    "stdin": "/proc/self/fd/0",
    "stdout": "/proc/self/fd/1",
}


class Dev(Op, frozen=True, kw_only=True):
    """Mount a small /dev on `target`: six harmless devices, own pseudo-terminals and own shared memory."""

    mqueue: bool = False
    """Add the container's POSIX message queues."""

    writable: bool = False
    """Leave the directory itself writable, for later ops that mount more devices into it."""

    found: list[Source] = []
    """The devices, in the order of `DEVICES`; filled in by `early`."""

    def __str__(self) -> str:
        extras = [name for name in ("mqueue", "writable") if getattr(self, name)]
        return f"set up devices on {self.target}" + (f" ({', '.join(extras)})" if extras else "")

    def early(self, root: HostRoot) -> Self | None:
        return replace(self, found=[root.find(f"/dev/{name}") for name in DEVICES])

    def apply(self, root: NewRoot) -> None:
        below = "/" if self.target == "/" else f"{self.target}/"
        root.mount("tmpfs", self.target, {"mode": "755"})
        for name, source in zip(DEVICES, self.found, strict=True):
            # Not writable: that is about the node, its mode and owner, and not about what is written to the device.
            root.bind(source, below + name, devices=True)
        for name, to in LINKS.items():
            root.symlink(below + name, to)
        # No gid=5: the group tty is not mapped, and the kernel refuses what it can't map.
        root.mount("devpts", below + "pts", {"ptmxmode": "0666", "mode": "620"}, devices=True)
        root.mount("tmpfs", below + "shm", {"mode": "1777"}, executable=True)
        if self.mqueue:
            root.mount("mqueue", below + "mqueue", {})
        if not self.writable:
            # Not recursive: the devices, pts and shm are mounts of their own and stay writable.
            root.remount(self.target, recursive=False)
