"""Etc: the host's configuration, with room for the container's own users."""

from __future__ import annotations

from msgspec.structs import replace

from igaki.ops.base import Op, check_source
from igaki.ops.bind import Bind
from igaki.ops.symlink import Symlink

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Self

    from igaki.ops.phases import HostRoot, NewRoot

LEFT_FREE = ("passwd", "group")


class Etc(Op, frozen=True, kw_only=True):
    """Mirror the directory `source` at `target` by symlinks, all but passwd and group; other ops can add files.

    The links lead to a bind of `source` beside `target`: /.etc.host for /etc.
    """

    source: str = "/etc"
    expansion: list[Bind | Symlink] = []
    """What the mirror consists of; filled in by `early`."""

    def __post_init__(self) -> None:
        super().__post_init__()
        check_source("source", self.source)
        if self.target == "/":
            raise ValueError("the target of etc can't be /")

    def __str__(self) -> str:
        return f"mirror {self.source} at {self.target}"

    def early(self, root: HostRoot) -> Self | None:
        directory, _, name = self.target.rpartition("/")
        # Beside the target rather than in it: a relative link that leads out of the source then leads where it should.
        beside = f".{name}.host"
        hidden = Bind(f"{directory}/{beside}", source=self.source).early(root)
        assert hidden is not None, "a bind that is not optional is settled or raises"
        links = [
            Symlink(f"{self.target}/{entry}", to="/proc/mounts" if entry == "mtab" else f"../{beside}/{entry}")
            for entry in root.names(self.source)
            if entry not in LEFT_FREE
        ]
        return replace(self, expansion=[hidden, *links])

    def apply(self, root: NewRoot) -> None:
        root.directory(self.target)
        for op in self.expansion:
            op.apply(root)
