"""The order of everything, from a plain process to the program's end.

stage one   reads the namespaces it is to make, makes them, starts PID 1 and ends
PID 1       reads the plan, builds the tree, gives up its privileges, starts the program and reaps
"""

from __future__ import annotations

import posix
import select
import sys

from igaki import signals
from igaki.handover import EXTRA_FD, STATUS_FD, STREAM_FD
from igaki.init import files, identity, kernel, payload, report
from igaki.init.blame import blame
from igaki.init.host_root import HostRoot
from igaki.init.new_root import NewRoot
from igaki.init.reaper import Reaper, Signals
from igaki.init.report import Clock, Refused, step
from igaki.init.targets import SYSROOT
from igaki.ops import Failure, Ready, Settled, Started
from igaki.ops.wire import STREAM_MAX, decode_body, read_namespaces

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import NoReturn

    from igaki.ops import AnyOp, Namespaces

RESERVED_DESCRIPTORS = 64
NO_NOBODY = "a user namespace may lack the user nobody; --host-root stays user 0"
NO_USER_NAMESPACES = (
    "a user namespace may be forbidden here: see the sysctls user.max_user_namespaces, "
    "kernel.unprivileged_userns_clone and kernel.apparmor_restrict_unprivileged_userns"
)


def main(extra_fds: int, *, die_with_thread: bool) -> NoReturn:
    """Stage one. Everything is imported by now: after the pivot an import would read what the container holds."""
    _guarded(lambda: _stage_one(extra_fds, die_with_thread=die_with_thread))


def _stage_one(extra_fds: int, *, die_with_thread: bool) -> None:
    with step("close what was not handed over"):
        kernel.close_range(EXTRA_FD + extra_fds, kernel.FD_MAX)
    with step("read the plan"):
        namespaces = read_namespaces(lambda size: posix.read(STREAM_FD, size))
    mapper = None
    with step("leave user 0 for an unprivileged one", hint=NO_NOBODY):
        if not namespaces.host_root and identity.is_root():
            mapper = identity.Mapper(namespaces)
            identity.become_nobody()
    uid, gid = posix.geteuid(), posix.getegid()
    with step("create the namespaces", hint=NO_USER_NAMESPACES):
        kernel.unshare(_flags(namespaces))
    with step("map the user into its namespace"):
        if mapper is None:
            identity.map_ids(namespaces, uid, gid)
        else:
            mapper.map_ids()
    with step("start PID 1"):
        caught = Signals()  # before there is somebody to send one: without a handler PID 1 gets none
        told, tell = posix.pipe2(posix.O_CLOEXEC)
        # The host's own child rather than ours: CLONE_PARENT. Our end does not matter to it then.
        pid = kernel.clone(kernel.CLONE_PARENT | signals.SIGCHLD)
    if pid:
        report.send(Started(pid))
        posix.write(tell, b"\0")
        return
    with step("die with the parent"):
        _tie_to_host(die_with_thread=die_with_thread)
        posix.close(tell)
        report.hold_until_read(told)  # so that nothing is said before Started
    _guarded(lambda: _pid_one(extra_fds, namespaces, caught, cover_proc=uid == 0))


def _pid_one(extra_fds: int, namespaces: Namespaces, caught: Signals, *, cover_proc: bool) -> None:
    clock = Clock()
    posix.setsid()
    if not namespaces.share_net:
        with step("switch the loopback interface on"):
            kernel.raise_interface(b"lo")
    with step("read the plan"):
        setup, ops = decode_body(_read_stream())
        if len(setup.fds) != extra_fds:
            raise ValueError(f"the plan passes {len(setup.fds)} descriptors on, and {extra_fds} came with it")
    with step("set the hostname"):
        if setup.hostname:
            kernel.sethostname(setup.hostname.encode())
    clock.steps["prepare"] = clock.lap()

    with step("leave the caller's keyring behind"):
        kernel.join_new_session_keyring()
    with step("prepare the set-up"):
        inherited = payload.Inherited()
        last_capability = identity.last_capability()
        null = posix.open("/dev/null", posix.O_RDWR | posix.O_CLOEXEC)
        # Slave: the host's mounts still arrive while we look at them, and ours never reach the host.
        kernel.mount("", "/", "", kernel.MS_SILENT | kernel.MS_SLAVE | kernel.MS_REC)
    host = HostRoot(max(0, inherited.descriptor_limit - RESERVED_DESCRIPTORS), report.warn)
    settled = _early(ops, host, clock, report_them=setup.report_settled)

    with step("make the intermediate root"):
        _enter_intermediate_root()
    _forget_imports()
    clock.steps["intermediate root"] = clock.lap()
    with step("open the new root"):
        root = NewRoot(host, cover_proc=cover_proc)
    _apply(ops, settled, root, host, clock)
    root.close()
    host.close()

    with step("leave the host's root behind"):
        _enter_new_root()
    with step("drop the privileges"):
        identity.drop_privileges(last_capability)
    if caught.ending():
        return  # the host asked for it meanwhile, and knows
    program = payload.start(setup, inherited)
    clock.steps["start"] = clock.lap()
    if setup.report_timing:
        report.send(clock.timing())
    report.send(Ready())
    _let_go(null, extra_fds)
    Reaper(program, setup.linger, caught).run()


def _flags(namespaces: Namespaces) -> int:
    flags = kernel.CLONE_NEWUSER | kernel.CLONE_NEWNS | kernel.CLONE_NEWPID
    flags |= kernel.CLONE_NEWIPC | kernel.CLONE_NEWUTS | kernel.CLONE_NEWCGROUP
    return flags if namespaces.share_net else flags | kernel.CLONE_NEWNET


def _tie_to_host(*, die_with_thread: bool) -> None:
    """End when the host ends, whatever it was doing.

    The kernel's signal is tied to the thread that spawned us, so it is asked for only where that thread lives as long
    as its process. The lifeline holds in any case; it is looked at once here, because the host may be gone already, and
    in a new PID namespace getppid() is 0 either way.
    """
    if die_with_thread:
        kernel.prctl(kernel.PR_SET_PDEATHSIG, signals.SIGKILL)
    lifeline = select.poll()
    lifeline.register(STATUS_FD, 0)  # its hang-up is reported always
    if lifeline.poll(0):
        posix._exit(1)


def _read_stream() -> bytes:
    pieces: list[bytes] = []
    size = 0
    events = select.poll()
    events.register(STREAM_FD, select.POLLIN)
    events.register(STATUS_FD, 0)
    while piece := _read_while_host_lives(events):
        pieces.append(piece)
        size += len(piece)
        if size > STREAM_MAX:
            raise ValueError(f"the stream is longer than {STREAM_MAX} bytes")
    posix.close(STREAM_FD)
    return b"".join(pieces)


def _read_while_host_lives(events: select.poll) -> bytes:
    """The next piece of the stream. Whoever else holds its other end must not keep us when the host is gone."""
    if STATUS_FD in dict(events.poll()):
        posix._exit(1)
    return posix.read(STREAM_FD, 1 << 16)


def _early(ops: list[AnyOp], host: HostRoot, clock: Clock, *, report_them: bool) -> list[AnyOp | None]:
    """Settle every op in the host's root, in order. Nothing may change a mount here."""
    clock.lap()
    settled: list[AnyOp | None] = []
    for index, op in enumerate(ops):
        with step(op, index, "early"):
            settled.append(op.early(host))
        clock.early.append(clock.lap())
    if report_them:
        report.send(*(Settled(index, op) for index, op in enumerate(settled)))
    return settled


def _enter_intermediate_root() -> None:
    """A tmpfs as root, with the host's tree at /host and the container's, still empty, at /sysroot.

    /proc/self/fd is a mount point that exists on every host and that nobody needs meanwhile.
    """
    place = "/proc/self/fd"
    flags = kernel.MS_SILENT | kernel.MS_NOSUID | kernel.MS_NODEV
    kernel.mount("tmpfs", place, "tmpfs", flags, "mode=755")
    posix.chdir(place)
    posix.mkdir("sysroot", 0o755)
    kernel.mount("sysroot", "sysroot", "", kernel.MS_SILENT | kernel.MS_BIND)
    posix.mkdir("host", 0o755)
    kernel.pivot_root(".", "host")
    posix.chdir("/")


def _forget_imports() -> None:
    """Make sure that nothing is imported any more: the path would lead into the container."""
    sys.meta_path.clear()
    sys.path_hooks.clear()
    sys.path.clear()


def _apply(ops: list[AnyOp], settled: list[AnyOp | None], root: NewRoot, host: HostRoot, clock: Clock) -> None:
    """Build the container's tree, in order."""
    for index, (asked, op) in enumerate(zip(ops, settled, strict=True)):
        if op is not None:
            with step(asked, index, "apply"), blame(settled, index, root.targets):
                op.apply(root)
            host.release()
        clock.apply.append(clock.lap())


def _enter_new_root() -> None:
    """Detach the host's tree and make the container's the root."""
    # Private first: the detaching must not travel to whom these mounts still listen or speak.
    kernel.mount("", "/host", "", kernel.MS_SILENT | kernel.MS_PRIVATE | kernel.MS_REC)
    kernel.umount("/host", kernel.MNT_DETACH)
    intermediate = files.open_path("/", files.DIRECTORY)
    posix.chdir(SYSROOT)
    kernel.pivot_root(".", ".")
    posix.fchdir(intermediate)
    kernel.umount(".", kernel.MNT_DETACH)
    posix.chdir("/")
    posix.close(intermediate)


def _let_go(null: int, extra_fds: int) -> None:
    """Hold none of the program's descriptors: whoever reads its output waits for the last copy to be closed."""
    for fd in range(3):
        posix.dup2(null, fd)
    for fd in range(EXTRA_FD, EXTRA_FD + extra_fds):
        posix.close(fd)
    posix.close(null)


def _guarded(stage: Callable[[], None]) -> NoReturn:
    """Run a stage and end the process; whatever goes wrong becomes one Failure, never a traceback."""
    code = 1
    try:
        try:
            stage()
            code = 0
        except Refused as refused:
            report.send(refused.failure)
        except Exception as error:
            reason = f"internal error: {type(error).__name__}: {error}"
            report.send(Failure(step="set the container up", reason=reason))
    except OSError:
        pass  # the host is gone; there is nobody to tell
    finally:
        posix._exit(code)
