"""Which earlier op made a place read-only, for the one that can't create something there."""

from __future__ import annotations

import posix
from errno import EROFS

from igaki.ops import Bind, Dev, Etc, Overlay, Place, Proc, Remount, Root, Tmpfs
from igaki.ops.base import is_below

TYPE_CHECKING = False
if TYPE_CHECKING:
    from types import TracebackType

    from igaki.init.targets import Targets
    from igaki.ops import AnyOp


class blame:  # noqa: N801  reads as a statement: with blame(ops, root)
    """Make a "read-only file system" raised by op `index` name the earlier op that is the reason."""

    __slots__ = ("index", "ops", "targets")

    def __init__(self, ops: list[AnyOp | None], index: int, targets: Targets) -> None:
        self.ops = ops
        self.index = index
        self.targets = targets

    def __enter__(self) -> None:
        return None

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None) -> None:
        if isinstance(error, OSError) and error.errno == EROFS and isinstance(error.filename, str):
            culprit = self._culprit(self.targets.real_path(error.filename))
            if culprit is not None:
                reason = f"{posix.strerror(EROFS)} since op {culprit}: {self.ops[culprit]}"
                raise OSError(EROFS, reason, error.filename) from error

    def _culprit(self, place: str) -> int | None:
        """The last op that mounted what `place` is on, or closed that mount for writing."""
        point, culprit = "/", None
        for index, op in enumerate(self.ops[: self.index]):
            for target in _mount_points(op):
                real = self._real_path(target)
                if is_below(place, real):  # whatever was mounted there before is covered now
                    point, culprit = real, index
            if isinstance(op, Remount):
                real = self._real_path(op.target)
                if real == point or (op.recursive and is_below(point, real)):
                    culprit = index
        return culprit

    def _real_path(self, target: str) -> str:
        try:
            return self.targets.real_path(target)
        except OSError:
            return target  # what was mounted there is covered by something that has no such path


def _mount_points(op: AnyOp | None) -> list[str]:
    match op:
        case Bind() | Dev() | Overlay() | Proc() | Tmpfs():
            return [op.target]
        case Place():
            return [] if op.copy else [op.target]
        case Etc() | Root():
            return [part.target for part in op.expansion if isinstance(part, Bind)]
        case _:
            return []
