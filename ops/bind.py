"""Bind: show a file or directory of the host in the container."""

from __future__ import annotations

from msgspec.structs import replace

from igaki.ops.base import Op, Source, check_source

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Self

    from igaki.ops.phases import HostRoot, NewRoot


class Bind(Op, frozen=True, kw_only=True):
    """Mount `source`, and everything mounted below it, on `target`; nosuid, and read-only and nodev unless granted.

    Mount points missing below an earlier writable bind are created on the host.
    """

    source: str
    """Absolute path on the host; its symlinks are resolved there."""

    writable: bool = False
    devices: bool = False
    optional: bool = False
    """Leave the bind out when `source` doesn't exist; any other reason why it can't be had is still an error."""

    nofollow: bool = False
    """Take `source` as it stands: a symlink anywhere in it is an error."""

    ensure: bool = False
    """Create `source` as a directory of mode 0700 when it doesn't exist."""

    found: Source | None = None
    """Filled in by `early`."""

    def __post_init__(self) -> None:
        super().__post_init__()
        check_source("source", self.source)
        if self.optional and self.ensure:
            raise ValueError("a bind is either optional or ensured, not both")

    def __str__(self) -> str:
        grants = [name for name in ("writable", "devices") if getattr(self, name)]
        return f"bind {self.source} on {self.target}" + (f" ({', '.join(grants)})" if grants else "")

    def early(self, root: HostRoot) -> Self | None:
        if self.ensure:
            root.make(self.source)
        try:
            return replace(self, found=root.find(self.source, follow=not self.nofollow))
        except FileNotFoundError:
            if self.optional:
                return None
            raise

    def apply(self, root: NewRoot) -> None:
        assert self.found is not None, "apply comes after early"
        root.bind(self.found, self.target, writable=self.writable, devices=self.devices)
