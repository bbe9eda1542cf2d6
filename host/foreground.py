"""One container in the foreground of a terminal: feed it the plan, pass signals on, wait. One poll loop, no trio."""

from __future__ import annotations

import os
import select
import time

from igaki import signals
from igaki.host.session import SETUP_TIMEOUT, Session
from igaki.ops import Failure, SetupError
from igaki.signals import ENDING, FORWARDED

TYPE_CHECKING = False
if TYPE_CHECKING:
    from types import FrameType

    from igaki.host.launch import Init
    from igaki.ops import Plan

GRACE = 1.0
"""Seconds that an interrupted set-up may still take."""


class Interrupted(Exception):
    """A signal that ends us came before the program ran."""

    def __init__(self, number: int) -> None:
        super().__init__(number)
        self.number = number


class Foreground:
    """Supervises one container until its program has ended."""

    def __init__(self, init: Init, plan: Plan, stream: bytes | bytearray) -> None:
        self._init = init
        self._plan = plan
        self._unsent = memoryview(stream)
        self._session = Session()
        self._wakeup = _signals_as_bytes()
        self._deadline = time.monotonic() + SETUP_TIMEOUT
        self._interrupted = 0
        """The signal that came before the program ran, if one did."""
        self._reaped = False
        self._waiting: list[int] = []
        """Signals that came before there was somebody to pass them on to."""

    @property
    def warnings(self) -> list[str]:
        return self._session.warnings

    def run(self) -> int:
        """Returns the exit code: the program's, or 128 + the signal that killed it. Raises SetupError, Interrupted."""
        os.set_blocking(self._init.stream, False)
        self._poll = select.poll()
        self._poll.register(self._wakeup, select.POLLIN)
        self._poll.register(self._init.status, select.POLLIN)
        self._poll.register(self._init.stream, select.POLLOUT)
        lingers = self._plan.setup.linger != 0
        while True:
            events = dict(self._poll.poll(self._patience()))
            if not events and not self._session.ready:
                if self._interrupted:
                    raise Interrupted(self._interrupted)
                reason = f"it took longer than {SETUP_TIMEOUT:g} seconds"
                raise SetupError(Failure(step="set the container up", reason=reason))
            if self._wakeup in events:
                for number in os.read(self._wakeup, 4096):
                    self._signal(number)
            if self._init.stream in events:
                self._send()
            if self._init.status in events and not self._receive():
                break  # the container is gone
            if self._session.exited is not None and not lingers:
                break  # the kernel takes the container down without us
        assert self._session.exited is not None, "the session raises when init goes without a word"
        return self._session.exited.code

    def _patience(self) -> float | None:
        """How long to wait, in milliseconds."""
        return None if self._session.ready else max(0.0, self._deadline - time.monotonic()) * 1000

    def _send(self) -> None:
        try:
            self._unsent = self._unsent[os.write(self._init.stream, self._unsent) :]
        except BlockingIOError:
            return
        except BrokenPipeError:
            self._unsent = self._unsent[:0]  # init gave up reading: the status says why
        if not self._unsent:
            self._poll.unregister(self._init.stream)
            os.close(self._init.stream)

    def _receive(self) -> bool:
        try:
            data = os.read(self._init.status, 1 << 16)
        except ConnectionResetError:
            data = b""
        try:
            self._session.feed(data)
        except SetupError:
            if self._interrupted:
                raise Interrupted(self._interrupted) from None
            raise
        if self._session.ready:
            self._interrupted = 0  # it was passed on to the program
        if self._session.pid is not None:
            self._reap_stage_one()
            while self._waiting:
                self._signal(self._waiting.pop(0))
        if self._session.stopped_by:
            self._session.stopped_by = 0
            _stop_as_a_job()
        return bool(data)

    def _reap_stage_one(self) -> None:
        """It ends as soon as it has said Started."""
        if not self._reaped:
            self._reaped = True
            try:
                os.waitpid(self._init.pid, 0)
            except ChildProcessError:
                pass  # the kernel did, because our caller ignores SIGCHLD

    def _signal(self, number: int) -> None:
        if self._session.pid is None:
            if number in ENDING:
                raise Interrupted(number)
            self._waiting.append(number)
            return
        if not self._session.ready and number in ENDING:
            # The program may run although we haven't heard of it; then it is the program's. If not, PID 1 gives up.
            self._interrupted = number
            self._deadline = min(self._deadline, time.monotonic() + GRACE)
        try:
            os.kill(self._session.pid, number)
        except ProcessLookupError:
            pass  # it has just ended


def _stop_as_a_job() -> None:
    """Stop with the program where a shell can see that and continue us; elsewhere nobody would."""
    if any(os.isatty(fd) for fd in range(3)):
        os.kill(os.getpid(), signals.SIGSTOP)


def _signals_as_bytes() -> int:
    """Signals to pass on, as bytes on a pipe. Those that the caller has us ignore (nohup, say) stay ignored."""
    read, write = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
    signals.set_wakeup_fd(write)
    for number in FORWARDED:
        if signals.getsignal(number) is not signals.SIG_IGN:
            signals.signal(number, _nothing)
    return read


def _nothing(_number: int, _frame: FrameType | None) -> None:
    return None
