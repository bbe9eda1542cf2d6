"""Proc: the container's own process list."""

from __future__ import annotations

from igaki.ops.base import Op

TYPE_CHECKING = False
if TYPE_CHECKING:
    from igaki.ops.phases import NewRoot


class Proc(Op, frozen=True, kw_only=True):
    """Mount a new proc on `target`: it shows the processes of the container and no others."""

    def __str__(self) -> str:
        return f"mount proc on {self.target}"

    def apply(self, root: NewRoot) -> None:
        root.proc(self.target)
