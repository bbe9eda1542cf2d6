"""What a plan would do, one line an op."""

from __future__ import annotations

import os

from igaki.host.printable import printable
from igaki.ops import Bind, Chmod, Dev, Etc, Overlay, Proc, Remount, Root, Tmpfs
from igaki.ops.base import is_below

TYPE_CHECKING = False
if TYPE_CHECKING:
    from igaki.ops import AnyOp, Plan

MOUNTING = (Bind, Dev, Overlay, Proc, Tmpfs)


def describe(plan: Plan) -> str:
    """One line per op: its number, its sentence, and what it would create on the host."""
    lines = [f"{index:3}  {op}{_side_effect(plan.ops, index)}" for index, op in enumerate(plan.ops)]
    return "".join(f"{printable(line)}\n" for line in lines)


def _side_effect(ops: list[AnyOp], index: int) -> str:
    """What an op leaves on the host: below a writable bind, things that are missing are created there."""
    op = ops[index]
    if isinstance(op, (Chmod, Remount)):
        return ""
    for earlier in reversed(ops[:index]):
        if isinstance(earlier, MOUNTING) and is_below(op.target, earlier.target):
            if not isinstance(earlier, Bind) or not earlier.writable:
                return ""
            path = os.path.join(earlier.source, os.path.relpath(op.target, earlier.target))
            if isinstance(op, (Etc, Root)):
                return f" [creates what is missing in {path} on the host]"
            return "" if os.path.lexists(path) else f" [creates {path} on the host]"
    return ""
