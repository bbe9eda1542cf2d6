"""Every system call that Python's `posix` module lacks. Each raises OSError with its operands; none knows a policy.

All go through syscall(2): it returns a `long`, where libc's own wrappers return an `int` whose upper half is garbage in
a `long`, and old C libraries lack most of them. `_ctypes` is used without the `ctypes` package: 2.6 ms less per start.
"""

from __future__ import annotations

import posix
import sys
from _ctypes import FUNCFLAG_CDECL, FUNCFLAG_USE_ERRNO, Array, CFuncPtr, _SimpleCData, dlopen, dlsym, get_errno
from errno import EAGAIN, EINTR, ENOENT, ENOSYS

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, NoReturn

    _Number = _SimpleCData[int]
else:
    _Number = _SimpleCData

# Numbers from the kernel's asm/unistd_64.h (x86_64) and asm-generic/unistd.h (aarch64); from 424 on they are the same.
_NUMBERS = {
    "x86_64": {
        "socket": 41,
        "clone": 56,
        "ioctl": 16,
        "capset": 126,
        "pivot_root": 155,
        "prctl": 157,
        "mount": 165,
        "umount2": 166,
        "sethostname": 170,
        "keyctl": 250,
        "unshare": 272,
        "prlimit64": 302,
    },
    "aarch64": {
        "socket": 198,
        "clone": 220,
        "ioctl": 29,
        "capset": 91,
        "pivot_root": 41,
        "prctl": 167,
        "mount": 40,
        "umount2": 39,
        "sethostname": 161,
        "keyctl": 219,
        "unshare": 97,
        "prlimit64": 261,
    },
}
_COMMON = {
    "open_tree": 428,
    "move_mount": 429,
    "fsopen": 430,
    "fsconfig": 431,
    "fsmount": 432,
    "close_range": 436,
    "openat2": 437,
    "mount_setattr": 442,
}
_NEEDS = {"close_range": "5.9", "openat2": "5.6", "mount_setattr": "5.12", "open_tree": "5.2", "fsopen": "5.2"}

AT_FDCWD = -100
AT_EMPTY_PATH = 0x1000
AT_RECURSIVE = 0x8000

CLONE_NEWNS = 0x00020000
CLONE_NEWCGROUP = 0x02000000
CLONE_NEWUTS = 0x04000000
CLONE_NEWIPC = 0x08000000
CLONE_NEWUSER = 0x10000000
CLONE_NEWPID = 0x20000000
CLONE_NEWNET = 0x40000000
CLONE_PARENT = 0x00008000
CLOSE_RANGE_CLOEXEC = 4
FD_MAX = 2**32 - 1

MOUNT_ATTR_RDONLY = 0x1
MOUNT_ATTR_NOSUID = 0x2
MOUNT_ATTR_NODEV = 0x4
MOUNT_ATTR_NOEXEC = 0x8

MS_BIND = 0x1000
MS_REC = 0x4000
MS_SILENT = 0x8000
MS_PRIVATE = 0x40000
MS_SLAVE = 0x80000
MS_NOSUID = 0x2
MS_NODEV = 0x4
MS_RDONLY = 0x1
MNT_DETACH = 2

OPEN_TREE_CLONE = 1
OPEN_TREE_CLOEXEC = posix.O_CLOEXEC
MOVE_MOUNT_F_EMPTY_PATH = 0x04
MOVE_MOUNT_T_EMPTY_PATH = 0x40

RESOLVE_NO_MAGICLINKS = 0x02
RESOLVE_NO_SYMLINKS = 0x04
RESOLVE_IN_ROOT = 0x10

PR_SET_PDEATHSIG = 1
PR_SET_DUMPABLE = 4
PR_CAPBSET_DROP = 24
PR_SET_NO_NEW_PRIVS = 38
PR_CAP_AMBIENT = 47
PR_CAP_AMBIENT_CLEAR_ALL = 4

RLIMIT_NOFILE = 7


class _Long(_Number):
    _type_ = "l"


class _Word(_Number):
    """One argument: a number, or the address of bytes."""

    _type_ = "P"


class _Byte(_Number):
    _type_ = "B"


def _buffer(length: int) -> Any:
    """The type of `length` bytes that the kernel may write to."""
    return type("_Buffer", (Array,), {"_type_": _Byte, "_length_": length})


_Limits = _buffer(16)
"""struct rlimit64: soft and hard limit, 8 bytes each."""

_InterfaceRequest = _buffer(40)
"""struct ifreq: a name of 16 bytes, then flags of 2 (netdevice(7))."""


class _Function(CFuncPtr):
    _flags_ = FUNCFLAG_CDECL | FUNCFLAG_USE_ERRNO
    _restype_ = _Long
    _argtypes_ = (_Long, _Word, _Word, _Word, _Word, _Word, _Word)


_syscall = _Function(dlsym(dlopen("", 0), "syscall"))


def _numbers() -> dict[str, int]:
    """The numbers of this machine; none where igaki doesn't know it, so that each call says so."""
    machine = posix.uname().machine
    if machine in ("i386", "i686") and sys.maxsize > 2**32:
        machine = "x86_64"  # under setarch(8), which changes the name and nothing else
    return _NUMBERS[machine] | _COMMON if machine in _NUMBERS else {}


_numbers_here = _numbers()
_PADDING = [(0,) * (6 - length) for length in range(7)]
_OPENAT2 = _COMMON["openat2"]


def _call(name: str, *arguments: int | bytes | Any, path: str = "", path2: str = "") -> int:
    """Call the kernel; it sees numbers sign-extended to 64 bits. Raises OSError with the paths concerned."""
    if name not in _numbers_here:
        raise OSError(ENOSYS, f"igaki knows the system calls of {' and '.join(_NUMBERS)}, not of this machine")
    result: int = _syscall(_numbers_here[name], *arguments, *_PADDING[len(arguments)])
    if result < 0:
        _fail(name, path, path2)
    return result


def _fail(name: str, path: str, path2: str) -> NoReturn:
    number = get_errno()
    reason = posix.strerror(number)
    if number == ENOSYS and name in _NEEDS:
        reason = f"{name}(2) is missing: Linux {_NEEDS[name]} or later is needed"
    raise OSError(number, reason, path, None, path2) if path2 else OSError(number, reason, path or None)


def close_range(first: int, last: int, flags: int = 0) -> None:
    _call("close_range", first, last, flags)


def unshare(flags: int) -> None:
    _call("unshare", flags)


def clone(flags: int) -> int:
    """Like fork, with `flags`; the process must have one thread. Returns 0 in the child."""
    return _call("clone", flags)


def prctl(option: int, argument: int = 0, argument2: int = 0) -> int:
    return _call("prctl", option, argument, argument2, 0, 0)


def sethostname(name: bytes) -> None:
    _call("sethostname", name, len(name))


def join_new_session_keyring() -> None:
    """Replace the session keyring, whose keys no namespace and no change of user takes away (session-keyring(7))."""
    try:
        _call("keyctl", 1, 0)  # KEYCTL_JOIN_SESSION_KEYRING, a new one without a name
    except OSError as error:
        if error.errno != ENOSYS:  # a kernel without keys has nothing to leave behind
            raise


def clear_capabilities() -> None:
    """Empty the effective, permitted and inheritable sets (capset(2), version 3)."""
    header = (0x20080522).to_bytes(4, "little") + bytes(4)
    _call("capset", header, bytes(24))


def raise_descriptor_limit() -> tuple[int, bytes]:
    """Raise the soft limit of open descriptors to the hard one. Returns the new limit and what restores the old one."""
    limits = _Limits()
    _call("prlimit64", 0, RLIMIT_NOFILE, 0, limits)
    old = bytes(limits)
    hard = old[8:]
    _call("prlimit64", 0, RLIMIT_NOFILE, hard + hard, 0)
    return int.from_bytes(hard, "little"), old


def restore_descriptor_limit(old: bytes) -> None:
    _call("prlimit64", 0, RLIMIT_NOFILE, old, 0)


def raise_interface(name: bytes) -> None:
    """Switch a network interface of the current network namespace on (netdevice(7): SIOCGIFFLAGS, SIOCSIFFLAGS)."""
    fd = _call("socket", 2, 2 | posix.O_CLOEXEC, 0)  # AF_INET, SOCK_DGRAM
    try:
        request = _InterfaceRequest(*name)
        _call("ioctl", fd, 0x8913, request, path=name.decode())
        request[16] |= 1  # IFF_UP, in the first byte of the flags
        _call("ioctl", fd, 0x8914, request, path=name.decode())
    finally:
        posix.close(fd)


def mount(source: str, target: str, kind: str, flags: int, options: str = "", *, path: str = "") -> None:
    """mount(2), for what the new interface can't do: a whole tree's propagation, and overlays. `path` names errors."""
    _call(
        "mount", _c(source), _c(target), _c(kind), flags, _c(options), path=path or source, path2="" if path else target
    )


def umount(target: str, flags: int) -> None:
    _call("umount2", _c(target), flags, path=target)


def pivot_root(new: str, old: str) -> None:
    _call("pivot_root", _c(new), _c(old), path=new, path2=old)


def openat2(directory: int, path: str, flags: int, resolve: int, *, label: str = "") -> int:
    """Open `path` below `directory` under the `resolve` rules. `label` is the path that an error names."""
    fd = openat2_if_there(directory, path, flags, resolve, label=label)
    if fd is None:
        raise OSError(ENOENT, posix.strerror(ENOENT), label or path)
    return fd


def openat2_if_there(directory: int, path: str, flags: int, resolve: int, *, label: str = "") -> int | None:
    """The same, but None where there is no such path: a thousand exceptions would take five milliseconds."""
    how = (flags | resolve << 128).to_bytes(24, "little")  # struct open_how: flags, mode, resolve
    name = _c(path)
    for _ in range(128):
        fd: int = _syscall(_OPENAT2, directory, name, how, 24, 0, 0)
        if fd >= 0:
            return fd
        error = get_errno()
        if error == ENOENT:
            return None
        # EAGAIN: something was renamed or mounted meanwhile and `..` could not be proven to stay inside.
        if error not in (EAGAIN, EINTR):
            _fail("openat2", label or path, "")
    raise OSError(EAGAIN, "the path keeps changing", label or path)


def open_tree(fd: int, label: str) -> int:
    """A detached copy of the mount that `fd` is on, from `fd` down, with everything mounted below."""
    # Without AT_RECURSIVE a tree with locked children (all that a user namespace inherits) is refused with EINVAL.
    flags = OPEN_TREE_CLONE | OPEN_TREE_CLOEXEC | AT_RECURSIVE | AT_EMPTY_PATH
    return _call("open_tree", fd, b"\0", flags, path=label)


def mount_setattr(fd: int, attributes: int, propagation: int, label: str, *, recursive: bool) -> None:
    """Add `attributes` to the mount at `fd`; those that it has stay, so locked ones are never in the way."""
    request = (attributes | propagation << 128).to_bytes(32, "little")  # struct mount_attr: set, clear, propagation, …
    flags = AT_EMPTY_PATH | (AT_RECURSIVE if recursive else 0)
    _call("mount_setattr", fd, b"\0", flags, request, 32, path=label)


def move_mount(fd: int, target: int, label: str, target_label: str) -> None:
    flags = MOVE_MOUNT_F_EMPTY_PATH | MOVE_MOUNT_T_EMPTY_PATH
    _call("move_mount", fd, b"\0", target, b"\0", flags, path=label, path2=target_label)


def new_mount(kind: str, options: dict[str, str], attributes: int, label: str) -> int:
    """A detached mount of a new file system (fsopen, fsconfig, fsmount). `label` is the path that an error names."""
    context = _call("fsopen", _c(kind), 1, path=label)  # FSOPEN_CLOEXEC
    try:
        for key, value in {"source": kind, **options}.items():
            _call("fsconfig", context, 1, _c(key), _c(value), 0, path=label)  # FSCONFIG_SET_STRING
        _call("fsconfig", context, 6, 0, 0, 0, path=label)  # FSCONFIG_CMD_CREATE
        return _call("fsmount", context, 1, attributes, path=label)  # FSMOUNT_CLOEXEC
    finally:
        posix.close(context)


def _c(text: str) -> bytes:
    """A C string."""
    return text.encode("utf-8", "surrogateescape") + b"\0"
