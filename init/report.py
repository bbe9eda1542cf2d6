"""What init tells the host, and how an exception becomes a Failure that names the step it happened in."""

from __future__ import annotations

import posix
from time import monotonic_ns

from igaki.handover import STATUS_FD
from igaki.ops import Failure, ProtocolError, Timing, Warning
from igaki.ops.wire import encode

TYPE_CHECKING = False
if TYPE_CHECKING:
    from types import TracebackType

    from igaki.ops import Status


LONGEST_TEXT = 4096


class Refused(Exception):
    """The container can't be set up; `failure` says why."""

    def __init__(self, failure: Failure) -> None:
        super().__init__(failure)
        self.failure = failure


_holding: list[int] = []


def hold_until_read(fd: int) -> None:
    """Let the first message wait until `fd`, which is closed then, has something to read.

    Where it ends instead, stage one was killed before it could say Started. Nobody knows us then, and we end.
    """
    _holding.append(fd)


def send(*messages: Status) -> None:
    """Tell the host. Raises BrokenPipeError when it is gone."""
    while _holding:
        if not posix.read(_holding[-1], 1):
            posix._exit(1)
        posix.close(_holding.pop())
    data = memoryview(encode(*messages))
    while data:
        data = data[posix.write(STATUS_FD, data) :]


def warn(text: str) -> None:
    send(Warning(text))


class Clock:
    """How long the steps and the phases of the ops took."""

    def __init__(self) -> None:
        self.steps: dict[str, int] = {}
        self.early: list[int] = []
        self.apply: list[int] = []
        self._last = monotonic_ns()

    def lap(self) -> int:
        """Nanoseconds since the last call."""
        now = monotonic_ns()
        passed, self._last = now - self._last, now
        return passed

    def timing(self) -> Timing:
        return Timing(steps=self.steps, early=self.early, apply=self.apply)


class step:  # noqa: N801  reads as a statement: with step("create the namespaces")
    """Name what is attempted: an error inside leaves as Refused, with a Failure that says so.

    `hint`, or else the notes of the error, are what may help the user.
    """

    __slots__ = ("hint", "index", "phase", "what")

    def __init__(self, what: object, index: int | None = None, phase: str = "", hint: str = "") -> None:
        self.what = what
        self.index = index
        self.phase = phase
        self.hint = hint

    def __enter__(self) -> None:
        return None

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None) -> None:
        if isinstance(error, OSError):
            reason = error.strerror or str(error)
            number = error.errno or 0
            paths = [path for path in (error.filename, error.filename2) if isinstance(path, str)]
        elif isinstance(error, (ValueError, ProtocolError)):
            reason, number, paths = str(error), 0, []
        else:
            return
        path, path2 = [*paths, "", ""][:2]
        raise Refused(
            Failure(
                step=_printable(str(self.what)),
                reason=_printable(reason),
                index=self.index,
                phase=self.phase,
                errno=number,
                path=_printable(path),
                path2=_printable(path2),
                hint=self.hint or "; ".join(getattr(error, "__notes__", ())),
            )
        ) from error


def _printable(text: str) -> str:
    """What a frame and UTF-8 can carry: it ends after 4096 characters, and bytes that are not UTF-8 show as \\xNN."""
    return text[:LONGEST_TEXT].encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")
