"""The two roots an op sees, as small protocols: what it may ask in `early`, what it may do in `apply`.

`igaki.init` implements them. The verbs speak the container's language, not the kernel's; an op that needs `os`
shows that a verb is missing here. All of them raise OSError with the paths concerned.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol

from igaki.ops.base import Source


class HostRoot(Protocol):
    """The host's root, during `early`. Nothing here changes a mount."""

    def find(self, path: str, *, follow: bool = True) -> Source:
        """Resolve every symlink of `path`, or refuse them all, and hold on to what it is now."""
        ...

    def make(self, path: str) -> None:
        """Create the directory `path`, and missing ones above it, with mode 0700."""
        ...

    def read_link(self, path: str) -> str:
        """The text of the symlink `path`."""
        ...

    def names(self, path: str) -> list[str]:
        """The names in the directory `path`, sorted; names that are not UTF-8 are left out with a warning."""
        ...


class NewRoot(Protocol):
    """The container's root, during `apply`. Symlinks in targets are followed inside the container only."""

    def directory(self, target: str, mode: int = 0o755) -> None:
        """Make sure that `target` is a directory; what is missing is created, `mode` for the last component."""
        ...

    def bind(self, source: Source, target: str, *, writable: bool = False, devices: bool = False) -> None:
        """Mount what `source` is, with everything mounted below it, on `target`, which is created if missing."""
        ...

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
        """Mount a new file system of type `kind` on `target`: nosuid, and noexec and nodev unless these are granted.

        `mode` is for the mount point, where it is missing.
        """
        ...

    def proc(self, target: str) -> None:
        """Mount the processes of the container on `target`."""
        ...

    def overlay(self, target: str, lower: list[Source], upper: Source | None, work: Source | None) -> None:
        """Mount an overlay of `lower` (topmost first): writable with `upper` and `work`, else read-only."""
        ...

    def scratch(self, target: str, lower: list[Source]) -> None:
        """Mount an overlay of `lower` whose changes are kept in memory and end with the container."""
        ...

    def remount(self, target: str, *, recursive: bool) -> None:
        """Make the mount at `target` read-only."""
        ...

    def symlink(self, target: str, text: str) -> None:
        """Create a symlink; one that already says `text` is left alone."""
        ...

    def place(self, target: str, data: bytes, mode: int, *, writable: bool) -> None:
        """Mount a file that holds `data` on `target`."""
        ...

    def write(self, target: str, data: bytes, mode: int) -> None:
        """Create the file `target`, holding `data`, in the tree itself."""
        ...

    def chmod(self, target: str, mode: int) -> None:
        """Set the permission bits of `target`."""
        ...
