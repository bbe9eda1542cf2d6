"""What init tells the host, in the order in which it happens."""

from __future__ import annotations

from igaki.ops.base import Message
from igaki.ops.bind import Bind
from igaki.ops.chmod import Chmod
from igaki.ops.dev import Dev
from igaki.ops.etc import Etc
from igaki.ops.failure import Failure
from igaki.ops.mkdir import Mkdir
from igaki.ops.overlay import Overlay
from igaki.ops.place import Place
from igaki.ops.proc import Proc
from igaki.ops.remount import Remount
from igaki.ops.root import Root
from igaki.ops.symlink import Symlink
from igaki.ops.tmpfs import Tmpfs

AnyOp = Bind | Chmod | Dev | Etc | Mkdir | Overlay | Place | Proc | Remount | Root | Symlink | Tmpfs
"""The vocabulary: every op that may be in a stream. A new op is one file, one test file and its name here."""


class Started(Message, frozen=True):
    """PID 1 of the container exists; `pid` is its number on the host, whose child it is."""

    pid: int


class Settled(Message, frozen=True):
    """One op as `early` settled it; None when it was left out. Sent once per op, when Setup asks for it."""

    index: int
    op: AnyOp | None


class Timing(Message, frozen=True, kw_only=True):
    """How long the set-up took, in nanoseconds."""

    steps: dict[str, int]
    early: list[int]
    apply: list[int]


class Warning(Message, frozen=True):
    """Something that the user should know and that does not weaken the container."""

    text: str


class Ready(Message, frozen=True):
    """The program is running."""


class Stopped(Message, frozen=True):
    """The program was stopped by `signal`."""

    signal: int


class Exited(Message, frozen=True):
    """The program ended: with exit status `code`, or with 128 + `signal` when that signal killed it."""

    code: int
    signal: int = 0


Status = Started | Settled | Timing | Warning | Ready | Failure | Stopped | Exited
