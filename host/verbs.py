"""The options of `igaki run`: what each is called, takes and does, in the groups that --help prints."""

from __future__ import annotations

import fcntl
import os

from igaki.host.request import Request, normalised
from igaki.ops import Bind, Chmod, Dev, Etc, Mkdir, Overlay, Place, Proc, Remount, Root, Symlink, Tmpfs
from igaki.ops.base import SIZE_MAX
from igaki.ops.place import PLACE_MAX
from igaki.ops.setup import ID_MAX

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable


class Option:
    """One option: the operands it takes, its line in --help, and what it does."""

    __slots__ = ("act", "help", "operands")

    def __init__(self, operands: str, help: str, act: Callable[..., None]) -> None:  # noqa: A002
        self.operands = operands.split()
        self.help = help
        self.act = act


def read_descriptor(descriptor: str, most: int) -> bytes:
    """All of a descriptor, which is closed."""
    fd = _number(descriptor, 0, 2**31 - 1)
    if fcntl.fcntl(fd, fcntl.F_GETFD) & fcntl.FD_CLOEXEC:  # nothing that was passed to us is: it is one of our own
        raise ValueError("the caller passed no such descriptor")
    with open(fd, "rb", buffering=0) as file:
        data = b""
        while piece := file.read(1 << 20):
            data += piece
            if len(data) > most:
                raise ValueError(f"there are more than {most} bytes to read")
    return data


def _number(text: str, low: int, high: int, base: int = 10) -> int:
    digits = "01234567" if base == 8 else "0123456789"
    if not text or text.strip(digits):  # int() takes signs, blanks and underscores too
        raise ValueError(f"{text!r} is not a number{' in octal' if base == 8 else ''}")
    number = int(text, base)
    if not low <= number <= high:
        raise ValueError(f"{text} is outside {low}-{high:o}" if base == 8 else f"{text} is outside {low}-{high}")
    return number


def _source(path: str) -> str:
    if not path:
        raise ValueError("a source is empty")
    return path if path.startswith("/") else os.path.join(os.getcwd(), path)


# What the options do. Each is called with the request and the operands.


def _bind(*, writable: bool = False, devices: bool = False, optional: bool = False) -> Callable[..., None]:
    def act(request: Request, source: str, target: str) -> None:
        op = Bind(
            normalised(target),
            source=_source(source),
            writable=writable,
            devices=devices,
            optional=optional,
            origin=request.origin,
        )
        request.add(op)

    return act


def _layer(request: Request, source: str) -> None:
    request.layer(_source(source))


def _tmpfs(request: Request, target: str) -> None:
    size, mode = request.modifier("size", 0), request.modifier("perms", 0o755)
    request.add(Tmpfs(normalised(target), size=size, mode=mode, origin=request.origin))


def _proc(request: Request, target: str) -> None:
    request.add(Proc(normalised(target), origin=request.origin))


def _dev(request: Request, target: str) -> None:
    request.add(Dev(normalised(target), writable=True, origin=request.origin))


def _dir(request: Request, target: str) -> None:
    request.add(Mkdir(normalised(target), mode=request.modifier("perms", 0o755), origin=request.origin))


def _symlink(request: Request, text: str, target: str) -> None:
    request.add(Symlink(normalised(target), to=text, origin=request.origin))


def _remount(request: Request, target: str) -> None:
    request.add(Remount(normalised(target), origin=request.origin))


def _chmod(request: Request, mode: str, target: str) -> None:
    request.add(Chmod(normalised(target), mode=_number(mode, 0, 0o7777, 8), origin=request.origin))


def _overlay(request: Request, upper: str, work: str, target: str) -> None:
    request.add(
        Overlay(
            normalised(target),
            lower=request.layers(),
            upper=_source(upper),
            work=_source(work),
            origin=request.origin,
        )
    )


def _tmp_overlay(request: Request, target: str) -> None:
    request.add(Overlay(normalised(target), lower=request.layers(), ephemeral=True, origin=request.origin))


def _ro_overlay(request: Request, target: str) -> None:
    request.add(Overlay(normalised(target), lower=request.layers(), origin=request.origin))


def _place(mode: int, *, writable: bool = False, copy: bool = False) -> Callable[..., None]:
    def act(request: Request, descriptor: str, target: str) -> None:
        data = read_descriptor(descriptor, PLACE_MAX)
        perms = request.modifier("perms", mode)
        op = Place(normalised(target), data=data, mode=perms, writable=writable, copy=copy, origin=request.origin)
        request.add(op)

    return act


def _etc(request: Request, source: str) -> None:
    request.add(Etc("/etc", source=_source(source or "/etc"), origin=request.origin))


def _root(request: Request, source: str) -> None:
    request.add(Root("/", source=_source(source), origin=request.origin))


def _setenv(request: Request, name: str, value: str) -> None:
    if not name or "=" in name:
        raise ValueError("a variable's name is neither empty nor contains '='")
    request.env[name] = value


def _cwd_mode(request: Request, mode: str) -> None:
    if mode not in ("ro", "rw", "none"):
        raise ValueError("the mode is ro, rw or none")
    request.cwd_mode = mode


def _linger(request: Request, seconds: str) -> None:
    if seconds == "forever":
        request.linger = None
        return
    if not seconds.strip(".") or seconds.strip("0123456789.") or seconds.count(".") > 1:
        raise ValueError("it takes seconds, or forever")
    request.linger = float(seconds)


def _unsetenv(request: Request, name: str) -> None:
    request.env.pop(name, None)


def _clearenv(request: Request) -> None:
    request.env.clear()


def _chdir(request: Request, path: str) -> None:
    request.chdir = normalised(path)


def _hostname(request: Request, name: str) -> None:
    request.hostname = name


def _uid(request: Request, uid: str) -> None:
    request.uid = _number(uid, 0, ID_MAX)


def _gid(request: Request, gid: str) -> None:
    request.gid = _number(gid, 0, ID_MAX)


def _share_net(request: Request) -> None:
    request.share_net = True


def _host_root(request: Request) -> None:
    request.host_root = True


def _perms(request: Request, mode: str) -> None:
    request.modify("perms", _number(mode, 0, 0o7777, 8))


def _size(request: Request, size: str) -> None:
    request.modify("size", _number(size, 1, SIZE_MAX))


def _dry_run(request: Request) -> None:
    request.dry_run = True


def _record(request: Request, path: str) -> None:
    request.record = path


def _record_secrets(request: Request) -> None:
    request.record_secrets = True


def _args(request: Request, descriptor: str) -> None:
    """The parser takes this one itself: what is read takes its place."""
    raise AssertionError(request, descriptor)


GROUPS: dict[str, dict[str, Option]] = {
    "Files of the host": {
        "--ro-bind": Option("SRC DST", "show SRC at DST, read-only", _bind()),
        "--bind": Option("SRC DST", "show SRC at DST, writable: what is written lasts", _bind(writable=True)),
        "--dev-bind": Option("SRC DST", "like --bind, with devices usable", _bind(writable=True, devices=True)),
        "--ro-bind-try": Option("SRC DST", "each of the three, left out when SRC", _bind(optional=True)),
        "--bind-try": Option("SRC DST", "doesn't exist", _bind(writable=True, optional=True)),
        "--dev-bind-try": Option("SRC DST", "", _bind(writable=True, devices=True, optional=True)),
        "--root": Option("SRC", "show SRC's entries at /, but dev etc mnt proc tmp", _root),
        "--etc": Option("[SRC]", "mirror SRC (/etc) at /etc; passwd, group left free", _etc),
        "--cwd": Option("MODE", "show the working directory: ro, rw or none", _cwd_mode),
        "--overlay-src": Option("SRC", "layer of the next overlay; the first is the lowest", _layer),
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
        "--perms": Option("MODE", "permissions for the next option (octal)", _perms),
        "--size": Option("BYTES", "size of the next --tmpfs", _size),
    },
    "The program": {
        "--setenv": Option("VAR VALUE", "set an environment variable", _setenv),
        "--unsetenv": Option("VAR", "remove one", _unsetenv),
        "--clearenv": Option("", "remove all", _clearenv),
        "--chdir": Option("DIR", "start in DIR", _chdir),
        "--hostname": Option("NAME", "hostname inside", _hostname),
        "--uid": Option("ID", "user id inside", _uid),
        "--gid": Option("ID", "group id inside", _gid),
        "--share-net": Option("", "keep the host's network", _share_net),
        "--host-root": Option("", "let root stay host user 0 (dangerous)", _host_root),
        "--linger": Option("SECONDS", "let processes outlive the program; or: forever", _linger),
    },
    "What happens": {
        "--args": Option("FD", "read options from FD, separated by NUL", _args),
        "--dry-run": Option("", "print one line per op and start nothing", _dry_run),
        "--record": Option("FILE", "write the stream that runs, secrets redacted", _record),
        "--record-secrets": Option("", "record the secrets too", _record_secrets),
    },
}
OPTIONS = {name: option for group in GROUPS.values() for name, option in group.items()}
