"""The options of `igaki run`: a table of what each is called, takes and does, and the parser that walks it.

No argparse: it costs more time than the container, and can't keep options of different names in the order given.
"""

from __future__ import annotations

import os

from igaki.host import default_plan
from igaki.ops import (
    Bind,
    Chmod,
    Dev,
    Etc,
    Mkdir,
    Namespaces,
    Octets,
    Origin,
    Overlay,
    Place,
    Plan,
    Proc,
    Remount,
    Root,
    Setup,
    Symlink,
    Tmpfs,
)
from igaki.ops.place import PLACE_MAX

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from igaki.ops import AnyOp, Redacted

ARGS_MAX = 16 * 1024 * 1024
"""Most bytes that --args reads."""


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
        setup = Setup(
            argv=[Octets.if_needed(argument) for argument in self.argv],
            env=self._environment(),
            hostname=self.hostname,
            linger=self.linger,
            cwd=self._cwd()[0],
            cwd_else=self._cwd()[1:],
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
        return [Bind(cwd, source=cwd, writable=self.cwd_mode == "rw", origin=Origin("--cwd"))]

    def _environment(self) -> dict[str, str | Octets | Redacted]:
        env: dict[str, str | Octets | Redacted] = {}
        for name, value in self.env.items():
            if isinstance(Octets.if_needed(name), Octets) or not name:
                self.warnings.append(f"environment variable {name!r} is left out: its name is not UTF-8")
            else:
                env[name] = Octets.if_needed(value)
        return env


class Option:
    """One option: the operands it takes, its line in --help, and what it does."""

    __slots__ = ("act", "help", "modifier", "operands")

    def __init__(self, operands: str, help: str, act: Callable[..., None], *, modifier: bool = False) -> None:  # noqa: A002
        self.operands = operands.split()
        self.help = help
        self.act = act
        self.modifier = modifier
        """Whether it only prepares the next option."""


def parse(arguments: list[str]) -> Request:
    """Read the command line after `igaki run`. Raises UsageError."""
    request = Request()
    rest = arguments[::-1]
    while rest and rest[-1].startswith("-"):
        word = rest.pop()
        if word == "--":
            break
        name, equals, value = word.partition("=")
        option = OPTIONS.get(name)
        if option is None:
            raise UsageError(f"unknown option {name}{_similar(name)}")
        if equals:
            if len(option.operands) != 1:
                raise UsageError(f"{name} takes {_operands(option) or 'no value'}, not one after '='")
            rest.append(value)
        elif option.operands == ["[SRC]"] and not (rest and os.path.isdir(rest[-1]) and rest[-1].startswith("/")):
            rest.append("")  # left out: what follows is no directory, so it is the next option or the command
        if len(rest) < len(option.operands):
            raise UsageError(f"{name} needs {_operands(option)}")
        operands = [rest.pop() for _ in option.operands]
        if name == "--args":
            rest += _read_arguments(operands[0])[::-1]
            continue
        _act(request, name, option, operands)
    request.argv = rest[::-1]
    if not request.argv or not request.argv[0]:
        raise UsageError("no command to run")
    return request


def _act(request: Request, name: str, option: Option, operands: list[str]) -> None:
    before = len(request.ops)
    request.origin = Origin(name)
    try:
        option.act(request, *operands)
    except (ValueError, OSError) as error:
        reason = error.strerror if isinstance(error, OSError) else error
        raise UsageError(f"{' '.join([name, *operands])}: {reason}") from error
    if len(request.ops) > before and not option.modifier:
        request.nothing_pending(name)


def _operands(option: Option) -> str:
    return " ".join(option.operands)


def _similar(name: str) -> str:
    import difflib

    names = difflib.get_close_matches(name, OPTIONS, 1)
    return f"; did you mean {names[0]}?" if names else ""


def _number(text: str, low: int, high: int, base: int = 10) -> int:
    try:
        number = int(text, base)
    except ValueError:
        raise ValueError(f"{text!r} is not a number{' in octal' if base == 8 else ''}") from None
    if not low <= number <= high:
        raise ValueError(f"{text} is outside {low}-{high:o}" if base == 8 else f"{text} is outside {low}-{high}")
    return number


def _read(descriptor: str, most: int) -> bytes:
    """All of a descriptor, which is closed."""
    fd = _number(descriptor, 0, 2**31 - 1)
    with open(fd, "rb", buffering=0) as file:
        data = b""
        while piece := file.read(1 << 20):
            data += piece
            if len(data) > most:
                raise ValueError(f"there are more than {most} bytes to read")
    return data


def _read_arguments(descriptor: str) -> list[str]:
    try:
        data = _read(descriptor, ARGS_MAX)
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else error
        raise UsageError(f"--args {descriptor}: {reason}") from error
    return [os.fsdecode(argument) for argument in data.removesuffix(b"\0").split(b"\0")] if data else []


def _is_normal(path: str) -> bool:
    return path.startswith("/") and path == _target(path) and not isinstance(Octets.if_needed(path), Octets)


def _target(path: str) -> str:
    """A path in the container without what means nothing: empty and '.' components."""
    parts = [part for part in path.split("/") if part not in ("", ".")]
    return ("/" if path.startswith("/") else "") + "/".join(parts)


def _source(path: str) -> str:
    if not path:
        raise ValueError("a source is empty")
    return os.path.join(os.getcwd(), path)


# What the options do. Each is called with the request and the operands.


def _bind(*, writable: bool = False, devices: bool = False, optional: bool = False) -> Callable[..., None]:
    def act(request: Request, source: str, target: str) -> None:
        op = Bind(
            _target(target),
            source=_source(source),
            writable=writable,
            devices=devices,
            optional=optional,
            origin=request.origin,
        )
        request.add(op)

    return act


def _tmpfs(request: Request, target: str) -> None:
    size, mode = request.modifier("size", 0), request.modifier("perms", 0o755)
    request.add(Tmpfs(_target(target), size=size, mode=mode, origin=request.origin))


def _proc(request: Request, target: str) -> None:
    request.add(Proc(_target(target), origin=request.origin))


def _dev(request: Request, target: str) -> None:
    request.add(Dev(_target(target), writable=True, origin=request.origin))


def _dir(request: Request, target: str) -> None:
    request.add(Mkdir(_target(target), mode=request.modifier("perms", 0o755), origin=request.origin))


def _symlink(request: Request, text: str, target: str) -> None:
    request.add(Symlink(_target(target), to=text, origin=request.origin))


def _remount(request: Request, target: str) -> None:
    request.add(Remount(_target(target), origin=request.origin))


def _chmod(request: Request, mode: str, target: str) -> None:
    request.add(Chmod(_target(target), mode=_number(mode, 0, 0o7777, 8), origin=request.origin))


def _overlay(request: Request, upper: str, work: str, target: str) -> None:
    request.add(
        Overlay(
            _target(target),
            lower=request.layers(),
            upper=_source(upper),
            work=_source(work),
            origin=request.origin,
        )
    )


def _tmp_overlay(request: Request, target: str) -> None:
    request.add(Overlay(_target(target), lower=request.layers(), ephemeral=True, origin=request.origin))


def _ro_overlay(request: Request, target: str) -> None:
    request.add(Overlay(_target(target), lower=request.layers(), origin=request.origin))


def _place(mode: int, *, writable: bool = False, copy: bool = False) -> Callable[..., None]:
    def act(request: Request, descriptor: str, target: str) -> None:
        data = _read(descriptor, PLACE_MAX)
        perms = request.modifier("perms", mode)
        op = Place(_target(target), data=data, mode=perms, writable=writable, copy=copy, origin=request.origin)
        request.add(op)

    return act


def _etc(request: Request, source: str) -> None:
    request.add(Etc(source=_source(source or "/etc"), origin=request.origin))


def _root(request: Request, source: str) -> None:
    request.add(Root(source=_source(source), origin=request.origin))


def _setenv(request: Request, name: str, value: str) -> None:
    if not name or "=" in name:
        raise ValueError("a variable's name is neither empty nor contains '='")
    request.env[name] = value


def _cwd_mode(request: Request, mode: str) -> None:
    if mode not in ("ro", "rw", "none"):
        raise ValueError("the mode is ro, rw or none")
    request.cwd_mode = mode


def _linger(request: Request, seconds: str) -> None:
    request.linger = None if seconds == "forever" else float(seconds)


def _set(name: str, convert: Callable[[str], object] = str) -> Callable[..., None]:
    def act(request: Request, value: str) -> None:
        setattr(request, name, convert(value))

    return act


def _flag(name: str) -> Callable[..., None]:
    return lambda request: setattr(request, name, True)


def _modify(name: str, low: int, high: int, base: int) -> Callable[..., None]:
    return lambda request, value: request.modify(name, _number(value, low, high, base))


def _id(text: str) -> int:
    return _number(text, 0, 2**32 - 2)


GROUPS: dict[str, dict[str, Option]] = {
    "Files of the host": {
        "--ro-bind": Option("SRC DST", "show SRC at DST, read-only", _bind()),
        "--bind": Option("SRC DST", "show SRC at DST, writable: what is written lasts", _bind(writable=True)),
        "--dev-bind": Option("SRC DST", "like --bind, with devices usable", _bind(writable=True, devices=True)),
        "--ro-bind-try": Option("SRC DST", "each of the three, left out when SRC", _bind(optional=True)),
        "--bind-try": Option("SRC DST", "doesn't exist", _bind(writable=True, optional=True)),
        "--dev-bind-try": Option("SRC DST", "", _bind(writable=True, devices=True, optional=True)),
        "--root": Option("SRC", "show each entry of SRC at /, but dev etc mnt proc tmp", _root),
        "--etc": Option("[SRC]", "mirror SRC, or /etc, at /etc; passwd and group left free", _etc),
        "--cwd": Option("MODE", "show the working directory: ro, rw or none", _cwd_mode),
        "--overlay-src": Option("SRC", "a layer of the next overlay; the first is the lowest", Request.layer),
        "--overlay": Option("UPPER WORK DST", "overlay whose changes go to UPPER", _overlay),
        "--tmp-overlay": Option("DST", "overlay whose changes are kept in memory", _tmp_overlay),
        "--ro-overlay": Option("DST", "overlay of two or more layers, read-only", _ro_overlay),
    },
    "The container's own files": {
        "--proc": Option("DST", "processes of the container", _proc),
        "--dev": Option("DST", "a minimal /dev", _dev),
        "--tmpfs": Option("DST", "an empty directory in memory", _tmpfs),
        "--dir": Option("DST", "a directory", _dir),
        "--symlink": Option("TEXT DST", "a symlink at DST that says TEXT", _symlink),
        "--file": Option("FD DST", "a file with what FD holds", _place(0o666, copy=True)),
        "--bind-data": Option("FD DST", "the same, mounted on DST, writable", _place(0o600, writable=True)),
        "--ro-bind-data": Option("FD DST", "the same, mounted on DST, read-only", _place(0o600)),
        "--chmod": Option("MODE DST", "set permissions (octal)", _chmod),
        "--remount-ro": Option("DST", "make the mount at DST read-only", _remount),
        "--perms": Option("MODE", "permissions for the next option (octal)", _modify("perms", 0, 0o7777, 8), modifier=True),
        "--size": Option("BYTES", "size of the next --tmpfs", _modify("size", 1, 2**63 - 1, 10), modifier=True),
    },
    "The program": {
        "--setenv": Option("VAR VALUE", "set an environment variable", _setenv),
        "--unsetenv": Option("VAR", "remove one", lambda request, name: request.env.pop(name, None)),
        "--clearenv": Option("", "remove all", lambda request: request.env.clear()),
        "--chdir": Option("DIR", "start in DIR", lambda request, path: setattr(request, "chdir", _target(path))),
        "--hostname": Option("NAME", "hostname inside", _set("hostname")),
        "--uid": Option("ID", "user id inside", _set("uid", _id)),
        "--gid": Option("ID", "group id inside", _set("gid", _id)),
        "--share-net": Option("", "keep the host's network", _flag("share_net")),
        "--host-root": Option("", "let root stay host user 0 (dangerous)", _flag("host_root")),
        "--linger": Option("SECONDS", "let processes outlive the program; or: forever", _linger),
    },
    "What happens": {
        "--args": Option("FD", "read options from FD, separated by NUL", lambda _: None),
        "--dry-run": Option("", "print one line per op and start nothing", _flag("dry_run")),
        "--record": Option("FILE", "write the stream that runs, secrets redacted", _set("record")),
        "--record-secrets": Option("", "record the secrets too", _flag("record_secrets")),
    },
}
OPTIONS = {name: option for group in GROUPS.values() for name, option in group.items()}
