"""Start init: a plain spawn with every descriptor at its place, and nothing else of the caller's.

Safe in any process: posix_spawn needs no fork handlers, whatever threads the caller has, and the caller's signal mask,
descriptors and their flags stay as they are.
"""

from __future__ import annotations

import _socket
import _thread
import fcntl
import posix  # rather than os, which takes a millisecond where site has not imported it
import sys

from igaki.handover import EXTRA_FD, STATUS_FD, STREAM_FD

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

PACKAGE = __file__.removesuffix("/host/launch.py")
ENTRY = f"{PACKAGE}/init/entry"
KILL, STOP = 9, 19
SIGNALS = tuple(number for number in range(1, 65) if number not in (KILL, STOP, 32, 33))  # 32, 33: the C library's own


class Init:
    """A started init: its first stage's pid, the pipe for the plan, the socket for the status."""

    __slots__ = ("pid", "status", "stream")

    def __init__(self, pid: int, stream: int, status: int) -> None:
        self.pid = pid
        self.stream = stream
        self.status = status


def start_init(stdio: Sequence[int], extra: Sequence[int] = ()) -> Init:
    """Start init with `stdio` as the program's descriptors 0 to 2, and `extra` to pass on.

    Raises OSError. The caller owns the two descriptors of the result, and the process.
    """
    stream_out, stream_in = posix.pipe2(posix.O_CLOEXEC)
    try:
        ours, theirs = (end.detach() for end in _socket.socketpair(_socket.AF_UNIX, _socket.SOCK_STREAM))
    except OSError:
        posix.close(stream_out)
        posix.close(stream_in)
        raise
    handed = {0: stdio[0], 1: stdio[1], 2: stdio[2], STREAM_FD: stream_out, STATUS_FD: theirs}
    handed.update({EXTRA_FD + index: fd for index, fd in enumerate(extra)})
    copies: list[int] = []
    try:
        actions: list[tuple[int, int, int]] = []
        for number, fd in handed.items():
            # A copy above all the numbers to be given, so that none is overwritten before it is used.
            copies.append(fcntl.fcntl(fd, fcntl.F_DUPFD_CLOEXEC, EXTRA_FD + len(extra)))
            actions.append((posix.POSIX_SPAWN_DUP2, copies[-1], number))
        die_with_thread = "1" if _on_main_thread() else "0"
        argv = [
            ENTRY,
            sys.executable,
            str(len(extra)),
            die_with_thread,
            PACKAGE.removesuffix("/igaki"),
            _home_of_msgspec(),
        ]
        # A process group of its own: what the terminal sends to ours is ours to pass on.
        pid = posix.posix_spawn(ENTRY, argv, {}, file_actions=actions, setpgroup=0, setsigmask=(), setsigdef=SIGNALS)
    except BaseException:
        posix.close(stream_in)
        posix.close(ours)
        raise
    finally:
        for fd in (stream_out, theirs, *copies):
            posix.close(fd)
    return Init(pid, stream_in, ours)


def _on_main_thread() -> bool:
    """Whether this thread lives as long as the process, as the parent-death signal of its children assumes."""
    return _thread.get_native_id() == posix.getpid()


def _home_of_msgspec() -> str:
    """The directory from which init can import msgspec; it has no site-packages of its own."""
    for directory in sys.path:
        if directory.startswith("/") and _exists(f"{directory}/msgspec/__init__.py"):
            return directory
    raise OSError(2, "msgspec is not installed as a directory on sys.path", "msgspec")


def _exists(path: str) -> bool:
    try:
        posix.stat(path)
    except OSError:
        return False
    return True
