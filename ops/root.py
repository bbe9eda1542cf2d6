"""Root: the top level of the host's tree, entry by entry."""

from __future__ import annotations

from errno import EINVAL

from msgspec.structs import replace

from igaki.ops.base import Op, check_source
from igaki.ops.bind import Bind
from igaki.ops.symlink import Symlink

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Self

    from igaki.ops.phases import HostRoot, NewRoot

LEFT_FREE = ("dev", "etc", "mnt", "proc", "tmp")


class Root(Op, frozen=True, kw_only=True):
    """Mirror the entries of the directory `source` at `target`: all but dev, etc, mnt, proc and tmp.

    A symlink to another mirrored entry (/bin -> usr/bin) stays a symlink; any other one is replaced by what it names.
    """

    source: str
    writable: bool = False
    expansion: list[Bind | Symlink] = []
    """What the mirror consists of; filled in by `early`."""

    def __post_init__(self) -> None:
        super().__post_init__()
        check_source("source", self.source)

    def __str__(self) -> str:
        return f"mirror the entries of {self.source} at {self.target}{' (writable)' if self.writable else ''}"

    def early(self, root: HostRoot) -> Self | None:
        names = [name for name in root.names(self.source) if name not in LEFT_FREE]
        expansion = [op for name in names if (op := self._entry(root, name, names)) is not None]
        return replace(self, expansion=expansion)

    def apply(self, root: NewRoot) -> None:
        for op in self.expansion:
            op.apply(root)

    def _entry(self, root: HostRoot, name: str, names: list[str]) -> Bind | Symlink | None:
        source = f"{self.source.rstrip('/')}/{name}"
        target = f"{self.target.rstrip('/')}/{name}"
        try:
            text = root.read_link(source)
        except OSError as error:
            if error.errno != EINVAL:  # which says that it is no symlink
                raise
            return Bind(target, source=source, writable=self.writable).early(root)
        if text.split("/", 1)[0] in names:
            return Symlink(target, to=text)
        # A link that leads nowhere shows nothing, there as here.
        return Bind(target, source=source, writable=self.writable, optional=True).early(root)
