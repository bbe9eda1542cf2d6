"""Mkdir: a directory in the container."""

from __future__ import annotations

from igaki.ops.base import Op, check_mode

TYPE_CHECKING = False
if TYPE_CHECKING:
    from igaki.ops.phases import NewRoot


class Mkdir(Op, frozen=True, kw_only=True):
    """Create the directory `target`; one that exists keeps its mode."""

    mode: int = 0o755

    def __post_init__(self) -> None:
        super().__post_init__()
        check_mode(self.mode)

    def __str__(self) -> str:
        return f"make directory {self.target} (mode {self.mode:04o})"

    def apply(self, root: NewRoot) -> None:
        root.directory(self.target, self.mode)
