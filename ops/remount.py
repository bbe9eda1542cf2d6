"""Remount: close a mount for writing once everything is in place."""

from __future__ import annotations

from igaki.ops.base import Op

TYPE_CHECKING = False
if TYPE_CHECKING:
    from igaki.ops.phases import NewRoot


class Remount(Op, frozen=True, kw_only=True):
    """Make the mount at `target` read-only; its other flags stay, and mounts below it too unless `recursive`."""

    recursive: bool = False

    def __str__(self) -> str:
        return f"remount {self.target} read-only{', recursively' if self.recursive else ''}"

    def apply(self, root: NewRoot) -> None:
        root.remount(self.target, recursive=self.recursive)
