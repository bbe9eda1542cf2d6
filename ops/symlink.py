"""Symlink: a symbolic link in the container."""

from __future__ import annotations

from msgspec.structs import replace

from igaki.ops.base import PATH_MAX, Op, check_text

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Self

    from igaki.ops.phases import HostRoot, NewRoot


class Symlink(Op, frozen=True, kw_only=True):
    """Create the symlink `target` that says `to`. One that says so already is fine, anything else there is an error."""

    to: str
    dereference: bool = False
    """Take the text from the host's symlink at `to`, one level."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.target == "/":
            raise ValueError("the target of a symlink can't be /")
        if not self.to:
            raise ValueError("a symlink to nowhere: its text is empty")
        if self.dereference and not self.to.startswith("/"):
            raise ValueError(f"{self.to!r} is not absolute, as the host's symlink to read must be")
        check_text("symlink text", self.to)
        if len(self.to.encode()) > PATH_MAX:
            raise ValueError(f"symlink text {self.to[:40]!r}… is longer than {PATH_MAX} bytes")

    def __str__(self) -> str:
        return f"link {self.target} to {'what is in ' if self.dereference else ''}{self.to}"

    def early(self, root: HostRoot) -> Self | None:
        if not self.dereference:
            return self
        return replace(self, to=root.read_link(self.to), dereference=False)

    def apply(self, root: NewRoot) -> None:
        root.symlink(self.target, self.to)
