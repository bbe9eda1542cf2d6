"""What may cross the pipe: the ops, the setup, the failures, and how they become bytes.

Imports msgspec and nothing else: no system call, no trio, no I/O.
"""

from igaki.ops.base import Octets, Op, Origin, Redacted, Source
from igaki.ops.bind import Bind
from igaki.ops.chmod import Chmod
from igaki.ops.dev import Dev
from igaki.ops.etc import Etc
from igaki.ops.failure import Failure, ProtocolError, SetupError
from igaki.ops.mkdir import Mkdir
from igaki.ops.overlay import Overlay
from igaki.ops.place import Place
from igaki.ops.proc import Proc
from igaki.ops.remount import Remount
from igaki.ops.root import Root
from igaki.ops.setup import Namespaces, Setup
from igaki.ops.status import AnyOp, Exited, Ready, Settled, Started, Status, Stopped, Timing, Warning
from igaki.ops.symlink import Symlink
from igaki.ops.tmpfs import Tmpfs
from igaki.ops.wire import Plan, decode_plan, encode_plan

__all__ = [
    "AnyOp",
    "Bind",
    "Chmod",
    "Dev",
    "Etc",
    "Exited",
    "Failure",
    "Mkdir",
    "Namespaces",
    "Octets",
    "Op",
    "Origin",
    "Overlay",
    "Place",
    "Plan",
    "Proc",
    "ProtocolError",
    "Ready",
    "Redacted",
    "Remount",
    "Root",
    "Settled",
    "Setup",
    "SetupError",
    "Source",
    "Started",
    "Status",
    "Stopped",
    "Symlink",
    "Timing",
    "Tmpfs",
    "Warning",
    "decode_plan",
    "encode_plan",
]
