"""Chmod: permission bits in the container."""

from __future__ import annotations

from igaki.ops.base import Op, check_mode

TYPE_CHECKING = False
if TYPE_CHECKING:
    from igaki.ops.phases import NewRoot


class Chmod(Op, frozen=True, kw_only=True):
    """Set the permission bits of `target`, following symlinks in the container. Below a writable bind, the host's."""

    mode: int

    def __post_init__(self) -> None:
        super().__post_init__()
        check_mode(self.mode)

    def __str__(self) -> str:
        return f"change the mode of {self.target} to {self.mode:04o}"

    def apply(self, root: NewRoot) -> None:
        root.chmod(self.target, self.mode)
