"""The program: a child of PID 1 that puts on what is its own, and executes."""

from __future__ import annotations

import fcntl
import posix
from errno import EACCES, ENOENT, ENOTDIR

from igaki import signals
from igaki.handover import EXTRA_FD
from igaki.init import files, kernel
from igaki.init.report import Refused
from igaki.ops import Failure
from igaki.ops.base import Octets, Redacted
from igaki.ops.failure import EXIT_NOT_EXECUTABLE, EXIT_NOT_FOUND, EXIT_SETUP

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import NoReturn

    from igaki.ops import Setup

IGNORED_BY_PYTHON = (signals.SIGPIPE, signals.SIGXFSZ)
DEFAULT_PATH = b"/usr/local/bin:/usr/bin:/bin"


class Inherited:
    """What init changed for itself and the program gets back as the caller had it."""

    def __init__(self) -> None:
        self.umask = posix.umask(0)
        self.descriptor_limit, self._old_limits = kernel.raise_descriptor_limit()

    def restore(self) -> None:
        posix.umask(self.umask)
        kernel.restore_descriptor_limit(self._old_limits)


def start(setup: Setup, inherited: Inherited) -> int:
    """Fork and execute. Returns the program's pid; raises Refused when it can't be executed."""
    read, write = posix.pipe2(posix.O_CLOEXEC)
    pid = posix.fork()
    if pid == 0:
        try:
            _become(setup, inherited, write)
        finally:
            posix._exit(EXIT_SETUP)
    posix.close(write)
    report = b""
    while piece := posix.read(read, 65536):
        report += piece
    posix.close(read)
    if report:
        posix.waitpid(pid, 0)
        raise Refused(_failure(report))
    return pid


def _become(setup: Setup, inherited: Inherited, report: int) -> None:
    step, path = "prepare the program", ""
    try:
        posix.setpgid(0, 0)
        signals.set_wakeup_fd(-1)
        for number in IGNORED_BY_PYTHON:  # what has a handler gets its default back from execve(2)
            signals.signal(number, signals.SIG_DFL)
        step, path = "enter the working directory", setup.cwd
        cwd = _enter(setup.cwd, setup.cwd_else)
        step, path = "pass descriptors on", ""
        report = _arrange(setup.fds, report)
        inherited.restore()  # not before: a number may be above the caller's limit of descriptors
        argv = [_bytes(argument) for argument in setup.argv]
        env = {name.encode(): _bytes(value) for name, value in setup.env.items()}
        if b"PWD" in env:
            env[b"PWD"] = cwd.encode()
        step, path = "execute", argv[0].decode("utf-8", "backslashreplace")
        _execute(argv, env)
    except (OSError, ValueError) as error:
        errno = getattr(error, "errno", None) or 0
        reason = getattr(error, "strerror", None) or str(error)
        files.write_all(report, f"{step}\0{errno}\0{reason}\0{path}".encode(), "")


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


def _execute(argv: list[bytes], env: dict[bytes, bytes]) -> NoReturn:
    """Execute `argv`, looked up the way execvp(3) does, in the PATH of `env`."""
    if b"/" in argv[0]:
        posix.execve(argv[0], argv, env)
    denied: OSError | None = None
    for directory in env.get(b"PATH", DEFAULT_PATH).split(b":"):
        try:
            posix.execve(b"%s/%s" % (directory or b".", argv[0]), argv, env)
        except OSError as error:
            if error.errno == EACCES:
                denied = error
            elif error.errno not in (ENOENT, ENOTDIR):
                raise
    raise denied or OSError(ENOENT, "not found in PATH")


def _failure(report: bytes) -> Failure:
    step, number, reason, path = report.decode("utf-8", "backslashreplace").split("\0", 3)
    code = EXIT_SETUP
    hint = ""
    if step == "execute":
        code = EXIT_NOT_FOUND if int(number) in (ENOENT, ENOTDIR) else EXIT_NOT_EXECUTABLE
        if int(number) == ENOENT and "/" in path and _exists(path):
            hint = "the file is there: the interpreter or loader that it names is not"
    return Failure(step=step, reason=reason, errno=int(number), path=path, hint=hint, exit_code=code)


def _exists(path: str) -> bool:
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
