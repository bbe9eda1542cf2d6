"""Who the container is outside and inside: never root outside unless asked, one user and one group inside."""

from __future__ import annotations

import posix

from igaki.init import files, kernel
from igaki.ops.setup import NOBODY
from igaki.signals import SIGCHLD

TYPE_CHECKING = False
if TYPE_CHECKING:
    from igaki.ops import Namespaces


def is_root() -> bool:
    """Whether this is user 0 in a way that can matter.

    It can't in a user namespace that maps user 0 alone to an ordinary user outside, as `unshare -r` makes it: there is
    nobody else to become there, and what user 0 owns is what that user owns.
    """
    if posix.geteuid() != 0:
        return False
    outside: dict[int, int] = {}
    fd = files.open_path("/proc/self/uid_map", posix.O_RDONLY | posix.O_CLOEXEC)
    try:
        for line in posix.read(fd, 65536).splitlines():
            first, first_outside, count = (int(field) for field in line.split())
            outside.update({uid: first_outside + uid - first for uid in (0, NOBODY) if first <= uid < first + count})
    finally:
        posix.close(fd)
    return outside.get(0) == 0 or NOBODY in outside


def become_nobody() -> None:
    """User 0 owns the host's files, and owning needs no capability.

    The process is undumpable from here on: others may run as nobody too, and must not look into it.
    """
    posix.setgroups([])
    posix.setresgid(NOBODY, NOBODY, NOBODY)
    posix.setresuid(NOBODY, NOBODY, NOBODY)
    kernel.prctl(kernel.PR_SET_DUMPABLE, 0)


def map_ids(namespaces: Namespaces, uid: int, gid: int) -> None:
    """Map the one user and the one group of the new user namespace to `uid` and `gid` outside (user_namespaces(7)).

    Afterwards the process is undumpable: no other process of the user can look into it.
    """
    # Only the owner of /proc/self/uid_map may write it, which is root for a process that is not dumpable.
    kernel.prctl(kernel.PR_SET_DUMPABLE, 1)
    _write_maps("self", namespaces, uid, gid)
    kernel.prctl(kernel.PR_SET_DUMPABLE, 0)


class Mapper:
    """A process that stays root for as long as it takes to map the ids of this one, which stops being it."""

    def __init__(self, namespaces: Namespaces) -> None:
        process = str(posix.getpid())
        wait, self._go = posix.pipe2(posix.O_CLOEXEC)
        self._pid = kernel.clone(SIGCHLD)
        if self._pid == 0:
            code = 1
            try:
                posix.close(self._go)
                if posix.read(wait, 1):
                    _write_maps(process, namespaces, NOBODY, NOBODY)
                    code = 0
            except OSError as error:
                code = error.errno or 1
            finally:
                posix._exit(code)
        posix.close(wait)

    def map_ids(self) -> None:
        """Have the ids mapped. Raises OSError."""
        posix.write(self._go, b"\0")
        posix.close(self._go)
        code = posix.waitstatus_to_exitcode(posix.waitpid(self._pid, 0)[1])
        if code:
            raise OSError(abs(code), posix.strerror(abs(code)), "/proc/self/uid_map")


def _write_maps(process: str, namespaces: Namespaces, uid: int, gid: int) -> None:
    _write(f"/proc/{process}/uid_map", f"{uid if namespaces.uid is None else namespaces.uid} {uid} 1\n")
    _write(f"/proc/{process}/setgroups", "deny\n")  # before gid_map: the kernel insists on it
    _write(f"/proc/{process}/gid_map", f"{gid if namespaces.gid is None else namespaces.gid} {gid} 1\n")


def drop_privileges(last_capability: int) -> None:
    """Give up every capability for good. Raises OSError when one can't be dropped."""
    kernel.prctl(kernel.PR_CAP_AMBIENT, kernel.PR_CAP_AMBIENT_CLEAR_ALL)
    for capability in range(last_capability + 1):
        kernel.prctl(kernel.PR_CAPBSET_DROP, capability)
    kernel.clear_capabilities()
    kernel.prctl(kernel.PR_SET_NO_NEW_PRIVS, 1)


def last_capability() -> int:
    fd = files.open_path("/proc/sys/kernel/cap_last_cap", posix.O_RDONLY | posix.O_CLOEXEC)
    try:
        return int(posix.read(fd, 16))
    finally:
        posix.close(fd)


def _write(path: str, text: str) -> None:
    fd = files.open_path(path, posix.O_WRONLY | posix.O_CLOEXEC)
    try:
        files.write_all(fd, text.encode(), path)
    finally:
        posix.close(fd)
