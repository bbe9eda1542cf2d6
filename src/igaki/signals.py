"""The `signal` module without its enums, which take 3 ms to make: numbers, handlers and the wakeup descriptor."""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from signal import (
        SIG_DFL,
        SIG_IGN,
        SIGCHLD,
        SIGCONT,
        SIGHUP,
        SIGINT,
        SIGKILL,
        SIGPIPE,
        SIGQUIT,
        SIGSTOP,
        SIGTERM,
        SIGTSTP,
        SIGUSR1,
        SIGUSR2,
        SIGWINCH,
        SIGXFSZ,
        default_int_handler,
        getsignal,
        set_wakeup_fd,
        signal,
    )
else:
    from _signal import *  # noqa: F403  has no stub, and is what the names above come from

ENDING = (SIGHUP, SIGINT, SIGQUIT, SIGTERM)
"""What ends a program that doesn't care."""

FORWARDED = (*ENDING, SIGUSR1, SIGUSR2, SIGTSTP, SIGCONT, SIGWINCH)
"""What is passed on to the program."""


def end_quietly() -> None:
    """Let SIGINT end this process without Python's traceback, until there is something to pass it on to."""
    if getsignal(SIGINT) is default_int_handler:
        signal(SIGINT, SIG_DFL)


__all__ = [
    "ENDING",
    "FORWARDED",
    "SIGCHLD",
    "SIGCONT",
    "SIGHUP",
    "SIGINT",
    "SIGKILL",
    "SIGPIPE",
    "SIGQUIT",
    "SIGSTOP",
    "SIGTERM",
    "SIGTSTP",
    "SIGUSR1",
    "SIGUSR2",
    "SIGWINCH",
    "SIGXFSZ",
    "SIG_DFL",
    "SIG_IGN",
    "end_quietly",
    "getsignal",
    "set_wakeup_fd",
    "signal",
]
