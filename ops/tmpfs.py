"""Tmpfs: an empty directory that ends with the container."""

from __future__ import annotations

from igaki.ops.base import SIZE_MAX, Op, check_mode

TYPE_CHECKING = False
if TYPE_CHECKING:
    from igaki.ops.phases import NewRoot


class Tmpfs(Op, frozen=True, kw_only=True):
    """Mount an empty file system in memory on `target`."""

    size: int = 0
    """Limit in bytes; 0 leaves the kernel's, half of the memory."""

    mode: int = 0o755
    writable: bool = True
    """False hides what is below `target` behind an empty directory that stays empty."""

    def __post_init__(self) -> None:
        super().__post_init__()
        check_mode(self.mode)
        if not 0 <= self.size <= SIZE_MAX:
            raise ValueError(f"size {self.size} is outside 0-{SIZE_MAX} bytes")

    def __str__(self) -> str:
        limit = f", at most {self.size} bytes" if self.size else ""
        return f"mount {'' if self.writable else 'read-only '}tmpfs on {self.target} (mode {self.mode:04o}{limit})"

    def apply(self, root: NewRoot) -> None:
        options = {"mode": f"{self.mode:o}"}
        if self.size:
            options["size"] = str(self.size)
        root.mount(
            "tmpfs",
            self.target,
            options,
            writable=self.writable,
            executable=True,
            mode=self.mode,
        )
