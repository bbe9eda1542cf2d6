"""What `igaki run` shows when it is told nothing about the file system: much to read, nothing to keep, no secrets."""

from __future__ import annotations

import os
import pwd

from igaki.ops import Bind, Dev, Origin, Proc, Tmpfs
from igaki.ops.base import check_path, is_below

TYPE_CHECKING = False
if TYPE_CHECKING:
    from igaki.ops import AnyOp

ORIGIN = Origin("default plan")
COVERED = ("/proc", "/sys", "/dev", "/run")
"""Where the working directory is not shown: these have a meaning of their own inside, or hold sockets."""


class HostFacts:
    """What the default plan depends on."""

    def __init__(self, *, homes: list[str], cwd: str | None, resolv_conf: str) -> None:
        self.homes = homes
        """Home directories that exist, of the environment and of the user database."""
        self.cwd = cwd
        """The working directory; None where it can't be shown."""
        self.resolv_conf = resolv_conf
        """Where /etc/resolv.conf leads."""


def gather(*, as_nobody: bool) -> HostFacts:
    """Look at the caller's environment and the host; `as_nobody`: the container will run as an unprivileged user."""
    homes = [os.environ.get("HOME", "")]
    try:
        homes.append(pwd.getpwuid(os.getuid()).pw_dir)
    except KeyError:
        pass  # a user that the database doesn't know has only $HOME
    existing = {home for path in homes if path.startswith("/") and os.path.isdir(home := os.path.realpath(path))}
    return HostFacts(
        homes=sorted(home for home in existing if home != "/"),
        cwd=working_directory(as_nobody=as_nobody),
        resolv_conf=os.path.realpath("/etc/resolv.conf"),
    )


def working_directory(*, as_nobody: bool) -> str | None:
    """The working directory, if it still exists, a stream can carry its name and the container's user can get there."""
    try:
        cwd = os.getcwd()
        check_path("working directory", cwd)
        reachable = not as_nobody or all(os.stat(path).st_mode & 0o001 for path in _ancestry(cwd))
    except (OSError, ValueError):
        return None
    return cwd if reachable else None


def _ancestry(path: str) -> list[str]:
    return [path[:end] or "/" for end in range(len(path) + 1) if path[end : end + 1] in ("/", "")]


def default_plan(facts: HostFacts, *, cwd_mode: str, share_net: bool) -> list[AnyOp]:
    """The host read-only, with own /proc, /dev, /tmp and /run, empty homes, and the working directory."""
    ops: list[AnyOp] = [
        Bind("/", source="/", origin=ORIGIN),
        Proc("/proc", origin=ORIGIN),
        Dev("/dev", origin=ORIGIN),
        Tmpfs("/tmp", mode=0o1777, origin=ORIGIN),
        Tmpfs("/run", origin=ORIGIN),
    ]
    if share_net and is_below(facts.resolv_conf, "/run"):
        ops.append(Bind(facts.resolv_conf, source=facts.resolv_conf, optional=True, origin=ORIGIN))
    ops += [Tmpfs(home, mode=0o700, origin=ORIGIN) for home in facts.homes]
    if facts.cwd is not None and cwd_mode != "none" and not opens_more(facts.cwd, facts.homes):
        ops.append(Bind(facts.cwd, source=facts.cwd, nofollow=True, writable=cwd_mode == "rw", origin=ORIGIN))
    return ops


def opens_more(cwd: str, homes: list[str]) -> bool:
    """Whether showing `cwd` would show again what the plan covers: a home or what lies above one, say."""
    covered = [*homes, *COVERED, "/tmp"]
    return any(is_below(path, cwd) for path in covered) or any(is_below(cwd, path) for path in COVERED)
