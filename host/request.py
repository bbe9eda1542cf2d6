"""What a command line of `igaki run` asks for, while it is read, and the plan that comes of it."""

from __future__ import annotations

import os

from igaki.host import default_plan
from igaki.ops import Bind, Namespaces, Octets, Origin, Plan, Setup
from igaki.ops.base import is_normal

TYPE_CHECKING = False
if TYPE_CHECKING:
    from igaki.ops import AnyOp, Redacted


class UsageError(Exception):
    """The command line is wrong; the text says where."""


class Request:
    """What a command line of `igaki run` asks for, as far as it has been read."""

    def __init__(self) -> None:
        self.ops: list[AnyOp] = []
        self.argv: list[str] = []
        self.env = dict(os.environ)
        self.warnings: list[str] = []
        self.chdir: str | None = None
        self.cwd_mode: str | None = None
        self.hostname = ""
        self.uid: int | None = None
        self.gid: int | None = None
        self.share_net = False
        self.host_root = False
        self.linger: float | None = 0.0
        self.record: str | None = None
        self.record_secrets = False
        self.dry_run = False
        self.origin = Origin("")
        self._lower: list[str] = []
        self._modifiers: dict[str, int] = {}

    def plan(self) -> Plan:
        """The plan asked for. Raises UsageError, and ValueError for values that no container can have."""
        self.nothing_pending("the end of the options")
        as_nobody = os.geteuid() == 0 and not self.host_root
        if self.ops:
            ops = [*self.ops, *self._shown_cwd(as_nobody=as_nobody)]
        else:
            facts = default_plan.gather(as_nobody=as_nobody)
            self._check_cwd(facts)
            mode = self.cwd_mode or "ro"
            ops = default_plan.default_plan(facts, cwd_mode=mode, share_net=self.share_net)
        cwd, *otherwise = self._cwd()
        setup = Setup(
            argv=[Octets.if_needed(argument) for argument in self.argv],
            env=self._environment(),
            hostname=self.hostname,
            linger=self.linger,
            cwd=cwd,
            cwd_else=otherwise,
        )
        return Plan(
            setup,
            ops,
            Namespaces(share_net=self.share_net, uid=self.uid, gid=self.gid, host_root=self.host_root),
        )

    def add(self, op: AnyOp) -> None:
        self.ops.append(op)

    def modify(self, name: str, value: int) -> None:
        self._modifiers[name] = value

    def modifier(self, name: str, default: int) -> int:
        return self._modifiers.pop(name, default)

    def layer(self, source: str) -> None:
        self._lower.append(source)

    def layers(self) -> list[str]:
        """The collected layers, topmost first; on the command line the first is the lowest, as with bwrap."""
        lower, self._lower = self._lower[::-1], []
        return lower

    def nothing_pending(self, before: str) -> None:
        """Raise UsageError when a modifier or a layer has not been used."""
        for name in self._modifiers:
            raise UsageError(f"--{name} must stand before an option that uses it, not before {before}")
        if self._lower:
            raise UsageError(f"--overlay-src must stand before an overlay, not before {before}")

    def _cwd(self) -> list[str]:
        if self.chdir is not None:
            return [self.chdir]
        candidates = [default_plan.working_directory(as_nobody=False), self.env.get("HOME"), "/"]
        return [path for path in candidates if path is not None and _is_normal(path)]

    def _check_cwd(self, facts: default_plan.HostFacts) -> None:
        if self.cwd_mode in (None, "none"):
            return
        if facts.cwd is None:
            raise UsageError("--cwd: the working directory can't be shown: the container's user can't get there")
        if default_plan.opens_more(facts.cwd, facts.homes):
            raise UsageError(f"--cwd: showing {facts.cwd} would show again what the default plan hides")

    def _shown_cwd(self, *, as_nobody: bool) -> list[AnyOp]:
        if self.cwd_mode in (None, "none"):
            return []
        cwd = default_plan.working_directory(as_nobody=as_nobody)
        if cwd is None:
            raise UsageError("--cwd: the working directory can't be shown: the container's user can't get there")
        return [Bind(cwd, source=cwd, nofollow=True, writable=self.cwd_mode == "rw", origin=Origin("--cwd"))]

    def _environment(self) -> dict[str, str | Octets | Redacted]:
        if self.env.get("LC_CTYPE") == "C.UTF-8" and not _was_given(b"LC_CTYPE"):
            del self.env["LC_CTYPE"]  # Python's own addition, where there is no locale (PEP 538)
        env: dict[str, str | Octets | Redacted] = {}
        for name, value in self.env.items():
            if isinstance(Octets.if_needed(name), Octets) or not name:
                self.warnings.append(f"environment variable {name!r} is left out: its name is not UTF-8")
            else:
                env[name] = Octets.if_needed(value)
        return env


def _was_given(name: bytes) -> bool:
    """Whether the environment that this process was started with has a variable `name`."""
    try:
        with open("/proc/self/environ", "rb") as file:
            return any(variable.startswith(name + b"=") for variable in file.read().split(b"\0"))
    except OSError:  # there may be no proc here; then it is taken as given
        return True


def _is_normal(path: str) -> bool:
    return path.startswith("/") and is_normal(path) and not isinstance(Octets.if_needed(path), Octets)


def normalised(path: str) -> str:
    """A path in the container without what means nothing: empty and '.' components."""
    parts = [part for part in path.split("/") if part not in ("", ".")]
    return ("/" if path.startswith("/") else "") + "/".join(parts)
