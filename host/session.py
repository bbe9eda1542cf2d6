"""What the host knows of one container, from what init has told so far. No I/O: bytes in, state out."""

from __future__ import annotations

from igaki.ops import Exited, Failure, Ready, Settled, SetupError, Started, Stopped, Timing, Warning
from igaki.ops.wire import StatusReader

TYPE_CHECKING = False
if TYPE_CHECKING:
    from igaki.ops import AnyOp, Status


SETUP_TIMEOUT = 30.0
"""Seconds that setting a container up may take; even thousands of ops need one."""


class Session:
    """The state of a container as seen from outside."""

    def __init__(self) -> None:
        self.pid: int | None = None
        """PID 1 of the container, numbered on the host."""
        self.ready = False
        self.exited: Exited | None = None
        self.stopped_by: int = 0
        """The signal that stopped the program, until it is taken note of by resetting this to 0."""
        self.warnings: list[str] = []
        self.settled: dict[int, AnyOp | None] = {}
        self.timing: Timing | None = None
        self._reader = StatusReader()

    def feed(self, data: bytes) -> None:
        """Take in what init sent; no bytes mean that it is gone. Raises SetupError and ProtocolError."""
        if not data and self.exited is None:
            step = "learn how the program ended" if self.ready else "set the container up"
            raise SetupError(Failure(step=step, reason="init is gone without a word: it was killed or could not start"))
        for message in self._reader.feed(data):
            self._take(message)

    def _take(self, message: Status) -> None:
        match message:
            case Started():
                self.pid = message.pid
            case Ready():
                self.ready = True
            case Failure():
                raise SetupError(message)
            case Exited():
                self.exited = message
            case Stopped():
                self.stopped_by = message.signal
            case Warning():
                self.warnings.append(message.text)
            case Settled():
                self.settled[message.index] = message.op
            case Timing():
                self.timing = message
