"""The program: a child of PID 1 that puts on what is its own, and executes."""

from __future__ import annotations

import fcntl
import posix
from errno import EACCES, ENOENT, ENOTDIR

from igaki import signals
from igaki.handover import EXTRA_FD
from igaki.init import kernel
from igaki.init.report import Refused, step
from igaki.ops import Failure
from igaki.ops.base import Octets, Redacted
from igaki.ops.failure import EXIT_NOT_EXECUTABLE, EXIT_NOT_FOUND, EXIT_SETUP

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import NoReturn

    from igaki.ops import Setup

    Command = tuple[list[bytes], list[bytes], dict[bytes, bytes]]
    """The paths to try, argv and env."""

IGNORED_BY_PYTHON = (signals.SIGPIPE, signals.SIGXFSZ)
DEFAULT_PATH = b"/usr/local/bin:/usr/bin:/bin"


class Inherited:
    """What init changed for itself and the program gets back as the caller had it."""

    def __init__(self) -> None:
        self.umask = posix.umask(0)
        self.descriptor_limit, self.old_limits = kernel.raise_descriptor_limit()


def start(setup: Setup, inherited: Inherited) -> int:
    """Fork and execute. Returns the program's pid; raises Refused when it can't be executed.

    What can be done before the fork is done there: every page that the child writes to, be it to count a reference, is
    copied for it, and that took half of the time from fork to execve.
    """
    with step("enter the working directory"):
        cwd = _enter(setup.cwd, setup.cwd_else)
    with step("prepare the program"):
        argv = [_bytes(argument) for argument in setup.argv]
        env = {name.encode(): _bytes(value) for name, value in setup.env.items()}
        if b"PWD" in env:
            env[b"PWD"] = cwd.encode()
        command = _candidates(argv[0], env), argv, env
        posix.umask(inherited.umask)
        read, write = posix.pipe2(posix.O_CLOEXEC)
    pid = posix.fork()
    if pid == 0:
        _become(setup.fds, inherited.old_limits, command, write)
    posix.close(write)
    report = posix.read(read, 4096)  # nothing, when the descriptor was closed by execve
    posix.close(read)
    if report:
        posix.waitpid(pid, 0)
        raise Refused(_failure(report, argv[0], command[0]))
    posix.chdir("/")
    return pid


def _become(numbers: list[int], limits: bytes, command: Command, report: int) -> NoReturn:
    """Become the program, or report the step at which that failed and the number of the error."""
    stage = b"prepare the program"
    try:
        posix.setpgid(0, 0)
        signals.set_wakeup_fd(-1)
        for number in IGNORED_BY_PYTHON:  # what has a handler gets its default back from execve(2)
            signals.signal(number, signals.SIG_DFL)
        report = _arrange(numbers, report)
        kernel.restore_descriptor_limit(limits)  # not before: a number may be above it
        stage = b"execute"
        _execute(*command)
    except OSError as error:
        posix.write(report, b"%s\0%d" % (stage, error.errno or 0))
    finally:
        posix._exit(EXIT_SETUP)


def _enter(cwd: str, otherwise: list[str]) -> str:
    """Enter the first of the directories that can be entered. Raises OSError for `cwd` when none can."""
    try:
        posix.chdir(cwd)
    except OSError as error:
        for directory in otherwise:
            try:
                posix.chdir(directory)
            except OSError:
                continue
            return directory
        raise error from None
    return cwd


def _arrange(numbers: list[int], report: int) -> int:
    """Give the declared descriptors their numbers and close the others on exec. Returns where `report` went."""
    free = max([EXTRA_FD + len(numbers), *numbers]) + 1
    moved = [fcntl.fcntl(EXTRA_FD + index, fcntl.F_DUPFD_CLOEXEC, free) for index in range(len(numbers))]
    report = fcntl.fcntl(report, fcntl.F_DUPFD_CLOEXEC, free)
    kernel.close_range(3, kernel.FD_MAX, kernel.CLOSE_RANGE_CLOEXEC)
    for fd, number in zip(moved, numbers, strict=True):
        posix.dup2(fd, number)
    return report


def _candidates(name: bytes, env: dict[bytes, bytes]) -> list[bytes]:
    """The paths to try for a program, as execvp(3) does: itself, or in each directory of the PATH of `env`."""
    if b"/" in name:
        return [name]
    return [b"%s/%s" % (directory or b".", name) for directory in env.get(b"PATH", DEFAULT_PATH).split(b":")]


def _execute(candidates: list[bytes], argv: list[bytes], env: dict[bytes, bytes]) -> NoReturn:
    """Execute the first candidate that can be. Raises OSError, for one that is there rather than those that aren't."""
    failed = OSError(ENOENT, "")
    for path in candidates:
        try:
            posix.execve(path, argv, env)
        except OSError as error:
            if error.errno == EACCES and (len(candidates) == 1 or _is_there(path)):
                failed = error
            elif error.errno not in (EACCES, ENOENT, ENOTDIR) or len(candidates) == 1:
                raise
    raise failed


def _failure(report: bytes, name: bytes, candidates: list[bytes]) -> Failure:
    path = name.decode("utf-8", "backslashreplace")
    stage, number = report.decode().split("\0")
    errno = int(number)
    code, hint, reason = EXIT_SETUP, "", posix.strerror(errno)
    if stage == "execute":
        code = EXIT_NOT_FOUND if errno in (ENOENT, ENOTDIR) else EXIT_NOT_EXECUTABLE
        if errno == ENOENT and any(_is_there(candidate) for candidate in candidates):
            hint = "the file is there: the interpreter or loader that it names is not"
        elif errno == ENOENT and b"/" not in name:
            reason = "not found in PATH"
    return Failure(step=stage, reason=reason, errno=errno, path=path, hint=hint, exit_code=code)


def _is_there(path: bytes) -> bool:
    try:
        posix.stat(path)
    except OSError:
        return False
    return True


def _bytes(value: str | Octets | Redacted) -> bytes:
    if isinstance(value, str):
        return value.encode()
    if isinstance(value, Octets):
        return value.data
    raise ValueError("a value of the environment was left out of the recording")
