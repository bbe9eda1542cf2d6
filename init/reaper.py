"""PID 1 once the program runs: reap everything, pass signals on, end with the program or when the host is gone."""

from __future__ import annotations

import posix
import select
from time import monotonic

from igaki import signals
from igaki.handover import STATUS_FD
from igaki.init.report import send
from igaki.ops import Exited, Stopped
from igaki.signals import ENDING, FORWARDED

TYPE_CHECKING = False
if TYPE_CHECKING:
    from types import FrameType

TO_THE_GROUP = (signals.SIGINT, signals.SIGQUIT, signals.SIGTSTP, signals.SIGCONT, signals.SIGWINCH)
"""What a terminal sends to its whole foreground group."""


LONGEST_POLL = 86400.0
"""Seconds; poll(2) counts milliseconds in 32 bits."""


class Signals:
    """Signals as bytes on a pipe, so that nothing is done in a handler."""

    def __init__(self) -> None:
        self._early = b""
        self.read, write = posix.pipe2(posix.O_CLOEXEC | posix.O_NONBLOCK)
        signals.set_wakeup_fd(write)
        for number in (*FORWARDED, signals.SIGCHLD):
            signals.signal(number, _nothing)  # without a handler the kernel keeps signals from PID 1

    def ending(self) -> bool:
        """Whether a signal that ends programs has come before there is one to pass it on to."""
        self._early = self.take()
        return any(number in ENDING for number in self._early)

    def take(self) -> bytes:
        """The signals that came since."""
        early, self._early = self._early, b""
        try:
            return early + posix.read(self.read, 4096)
        except BlockingIOError:
            return early


class Reaper:
    """Waits for everything in the container."""

    def __init__(self, program: int, linger: float | None, signals: Signals) -> None:
        self._program = program
        self._linger = linger
        self._signals = signals
        self._ended = False
        self._dismissed = False
        """Whether what lingers has been told to end."""
        self._deadline: float | None = None

    def run(self) -> None:
        """Return when the container may end."""
        poll = select.poll()
        poll.register(self._signals.read, select.POLLIN)
        poll.register(STATUS_FD, 0)  # POLLHUP is always reported: the host is gone
        for number in self._signals.take():
            self._forward(number)
        while not self._reap():
            patience = None if self._deadline is None else max(0.0, self._deadline - monotonic())
            if patience == 0:
                return
            events = dict(poll.poll(None if patience is None else min(patience, LONGEST_POLL) * 1000))
            if STATUS_FD in events:
                return
            for number in self._signals.take():
                self._forward(number)
            if self._dismissed:
                return

    def _reap(self) -> bool:
        """Collect who has ended. Returns whether there is nothing left to wait for."""
        while True:
            try:
                pid, status = posix.waitpid(-1, posix.WNOHANG | posix.WUNTRACED)
            except ChildProcessError:
                return True
            if pid == 0:
                return False
            if pid == self._program and self._program_changed(status):
                return True

    def _program_changed(self, status: int) -> bool:
        if posix.WIFSTOPPED(status):
            send(Stopped(posix.WSTOPSIG(status)))
            return False
        signal = posix.WTERMSIG(status) if posix.WIFSIGNALED(status) else 0
        send(Exited(128 + signal if signal else posix.WEXITSTATUS(status), signal))
        self._ended = True
        if self._linger:
            self._deadline = monotonic() + self._linger
        return self._linger == 0

    def _forward(self, number: int) -> None:
        if self._ended:
            self._dismissed = self._dismissed or number in ENDING
        if self._ended or number == signals.SIGCHLD:
            return
        try:
            posix.kill(-self._program if number in TO_THE_GROUP else self._program, number)
        except ProcessLookupError:
            pass  # it has just ended; the next reap says so


def _nothing(_number: int, _frame: FrameType | None) -> None:
    return None
