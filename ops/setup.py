"""What a container is besides its file system: Namespaces, known before anything else, and Setup, the program."""

from __future__ import annotations

from igaki.ops.base import Message, Octets, Redacted, check_path, check_text

ID_MAX = 2**32 - 2
"""Largest user or group id; 2**32 - 1 means "no id" to the kernel."""

NOBODY = 65534
"""The id under which the container of a privileged user runs: it owns nothing."""

HOSTNAME_MAX = 64


class Namespaces(Message, frozen=True, kw_only=True):
    """The namespaces a container gets and the one user and group mapped into it.

    User, mount, PID, IPC, UTS and cgroup namespaces are always new.
    """

    share_net: bool = False
    """Keep the host's network namespace, and with it its abstract sockets."""

    uid: int | None = None
    """User id inside; None is the one outside."""

    gid: int | None = None
    host_root: bool = False
    """Let root stay host user 0 outside. Without it a container that root starts runs as `NOBODY`, because user 0,
    even without any capability, may write what belongs to user 0: /etc/shadow, or /proc/sys/kernel/core_pattern."""

    def __post_init__(self) -> None:
        for name in ("uid", "gid"):
            number = getattr(self, name)
            if number is not None and not 0 <= number <= ID_MAX:
                raise ValueError(f"{name} {number} is outside 0-{ID_MAX}")


class Setup(Message, frozen=True, kw_only=True):
    """The program a container runs and what it is given.

    Arguments and values that are not UTF-8 travel as `Octets`.
    """

    argv: list[str | Octets]
    """The program, looked up in the container's PATH, and its arguments."""

    env: dict[str, str | Octets | Redacted] = {}
    """The whole environment; nothing is inherited."""

    cwd: str = "/"
    cwd_else: list[str] = []
    """Directories to try, in order, where `cwd` can't be entered."""

    hostname: str = ""
    """Empty keeps the host's name."""

    linger: float | None = 0.0
    """Seconds that processes may live on when the program has ended; None: until the last one has ended."""

    fds: list[int] = []
    """Numbers of the further descriptors the program gets, in the order in which the host hands them to init."""

    report_settled: bool = False
    """Send back the ops as `early` settled them."""

    report_timing: bool = False
    """Send back how long each step took."""

    def __post_init__(self) -> None:
        if not self.argv or self.argv[0] in ("", Octets(b"")):
            raise ValueError("no program to run: argv is empty")
        for argument in self.argv:
            _check_string("argument", argument)
        for name, value in self.env.items():
            _check_variable(name, value)
        for path in (self.cwd, *self.cwd_else):
            check_path("working directory", path)
        check_text("hostname", self.hostname)
        if len(self.hostname.encode()) > HOSTNAME_MAX:
            raise ValueError(f"hostname {self.hostname!r} is longer than {HOSTNAME_MAX} bytes")
        if self.linger is not None and not 0 <= self.linger <= 1e9:
            raise ValueError(f"linger {self.linger} is not a number of seconds")
        _check_descriptors(self.fds)


def _check_variable(name: str, value: str | Octets | Redacted) -> None:
    check_text("environment variable", name)
    if not name or "=" in name:
        raise ValueError(f"environment variable {name!r} has an empty name or an '=' in it")
    if not isinstance(value, Redacted):
        _check_string(f"value of environment variable {name}", value)


def _check_descriptors(numbers: list[int]) -> None:
    if len(set(numbers)) != len(numbers):
        raise ValueError(f"descriptors {numbers} name one twice")
    for number in numbers:
        if not 3 <= number < 1024:
            raise ValueError(f"descriptor {number} is outside 3-1023")


def _check_string(what: str, value: str | Octets) -> None:
    if isinstance(value, str):
        check_text(what, value)
    elif b"\0" in value.data:
        raise ValueError(f"{what} {value.data!r} contains a NUL byte")
