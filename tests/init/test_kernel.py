"""Every system call of init's own, with a kernel that says no: an OSError with the number and the paths, every time.

The calls are made in children of a process of this module's own, which has one thread and may make namespaces: once
with operands that the kernel refuses by itself, once with a seccomp filter under which it refuses this very call.
"""

from __future__ import annotations

import array
import errno
import json
import os
import subprocess
import sys
from collections.abc import Callable
from functools import partial
from types import FunctionType
from typing import Any

import pytest

from igaki.init import kernel
from tests.harness import ROOT

MOUNTS = kernel.CLONE_NEWUSER | kernel.CLONE_NEWNS | kernel.CLONE_NEWNET | kernel.CLONE_NEWUTS
CLONE_FS = 0x200
BAD_FD = 1000

Call = Callable[[], object]


def directory() -> int:
    return os.open("/proc", os.O_PATH | os.O_DIRECTORY)


def limits_upside_down() -> bytes:
    return (99).to_bytes(8, "little") + (98).to_bytes(8, "little")


REFUSED: dict[str, tuple[Call, int, list[str]]] = {
    "close_range backwards": (lambda: kernel.close_range(5, 4), errno.EINVAL, []),
    "unshare with an unknown flag": (lambda: kernel.unshare(1), errno.EINVAL, []),
    "clone with flags at odds": (lambda: kernel.clone(kernel.CLONE_NEWNS | CLONE_FS), errno.EINVAL, []),
    "prctl with an unknown option": (lambda: kernel.prctl(0xDEAD), errno.EINVAL, []),
    "prctl of an unknown capability": (lambda: kernel.prctl(kernel.PR_CAPBSET_DROP, 9999), errno.EINVAL, []),
    "sethostname too long": (lambda: kernel.sethostname(b"x" * 65), errno.EINVAL, []),
    "limits upside down": (lambda: kernel.restore_descriptor_limit(limits_upside_down()), errno.EINVAL, []),
    "no such interface": (lambda: kernel.raise_interface(b"nope0"), errno.ENODEV, ["nope0"]),
    "mount on nothing": (lambda: kernel.mount("none", "/missing", "tmpfs", 0), errno.ENOENT, ["none", "/missing"]),
    "propagation of nothing": (lambda: kernel.mount("", "/missing", "", kernel.MS_SLAVE), errno.ENOENT, ["/missing"]),
    "propagation of no mount": (lambda: kernel.mount("", "/usr/bin", "", kernel.MS_SLAVE), errno.EINVAL, ["/usr/bin"]),
    "mount under another name": (
        lambda: kernel.mount("none", "/missing", "tmpfs", 0, path="/target"),
        errno.ENOENT,
        ["/target"],
    ),
    "umount of nothing": (lambda: kernel.umount("/missing", 0), errno.ENOENT, ["/missing"]),
    "umount of no mount": (lambda: kernel.umount("/usr/bin", kernel.MNT_DETACH), errno.EINVAL, ["/usr/bin"]),
    "pivot_root to nothing": (lambda: kernel.pivot_root("/missing", "/"), errno.ENOENT, ["/missing", "/"]),
    "pivot_root to no mount": (lambda: kernel.pivot_root("/usr", "/usr/bin"), errno.EINVAL, ["/usr", "/usr/bin"]),
    "openat2 of nothing": (
        lambda: kernel.openat2(directory(), "missing/file", os.O_PATH, 0, label="/label"),
        errno.ENOENT,
        ["/label"],
    ),
    "openat2 without a label": (
        lambda: kernel.openat2(directory(), "missing", os.O_PATH, 0),
        errno.ENOENT,
        ["missing"],
    ),
    "openat2 through a magic link": (
        lambda: kernel.openat2(directory(), "self/exe", os.O_RDONLY, kernel.RESOLVE_NO_MAGICLINKS, label="/label"),
        errno.ELOOP,
        ["/label"],
    ),
    "openat2 through a link": (
        lambda: kernel.openat2(directory(), "self/stat", os.O_RDONLY, kernel.RESOLVE_NO_SYMLINKS, label="/label"),
        errno.ELOOP,
        ["/label"],
    ),
    "openat2_if_there through a link": (
        lambda: kernel.openat2_if_there(directory(), "self/stat", os.O_RDONLY, kernel.RESOLVE_NO_SYMLINKS, label="/l"),
        errno.ELOOP,
        ["/l"],
    ),
    "open_tree of a bad descriptor": (lambda: kernel.open_tree(BAD_FD, "/label"), errno.EBADF, ["/label"]),
    "mount_setattr of no mount": (
        lambda: kernel.mount_setattr(os.open("/usr/bin", os.O_PATH), 1, 0, "/label", recursive=False),
        errno.EINVAL,
        ["/label"],
    ),
    "mount_setattr with an unknown attribute": (
        lambda: kernel.mount_setattr(directory(), 1 << 40, 0, "/label", recursive=True),
        errno.EINVAL,
        ["/label"],
    ),
    "move_mount of no mount": (
        lambda: kernel.move_mount(os.open("/usr/bin", os.O_PATH), directory(), "/from", "/to"),
        errno.EINVAL,
        ["/from", "/to"],
    ),
    "no such file system": (lambda: kernel.new_mount("nosuchfs", {}, 0, "/label"), errno.ENODEV, ["/label"]),
    "no such option": (lambda: kernel.new_mount("tmpfs", {"nonsense": "1"}, 0, "/label"), errno.EINVAL, ["/label"]),
    "no such value": (lambda: kernel.new_mount("tmpfs", {"size": "much"}, 0, "/label"), errno.EINVAL, ["/label"]),
    "no such attribute": (lambda: kernel.new_mount("tmpfs", {}, 1 << 20, "/label"), errno.EINVAL, ["/label"]),
}
"""A call, the number of the error and the paths that it names."""

FILTERED: dict[tuple[str, str], tuple[Call, list[str]]] = {
    ("close_range", "close_range"): (lambda: kernel.close_range(500, 501), []),
    ("unshare", "unshare"): (lambda: kernel.unshare(kernel.CLONE_NEWUTS), []),
    ("clone", "clone"): (lambda: kernel.clone(17), []),
    ("prctl", "prctl"): (lambda: kernel.prctl(kernel.PR_SET_DUMPABLE, 1), []),
    ("sethostname", "sethostname"): (lambda: kernel.sethostname(b"name"), []),
    ("clear_capabilities", "capset"): (kernel.clear_capabilities, []),
    ("join_new_session_keyring", "keyctl"): (kernel.join_new_session_keyring, []),
    ("raise_descriptor_limit", "prlimit64"): (kernel.raise_descriptor_limit, []),
    ("restore_descriptor_limit", "prlimit64"): (lambda: kernel.restore_descriptor_limit(bytes(16)), []),
    ("raise_interface", "socket"): (lambda: kernel.raise_interface(b"lo"), []),
    ("raise_interface", "ioctl"): (lambda: kernel.raise_interface(b"lo"), ["lo"]),
    ("mount", "mount"): (lambda: kernel.mount("none", "/proc", "tmpfs", 0), ["none", "/proc"]),
    ("umount", "umount2"): (lambda: kernel.umount("/proc", kernel.MNT_DETACH), ["/proc"]),
    ("pivot_root", "pivot_root"): (lambda: kernel.pivot_root("/proc", "/proc/fs"), ["/proc", "/proc/fs"]),
    ("openat2", "openat2"): (lambda: kernel.openat2(directory(), "self", os.O_PATH, 0, label="/label"), ["/label"]),
    ("openat2_if_there", "openat2"): (
        lambda: kernel.openat2_if_there(directory(), "self", os.O_PATH, 0, label="/label"),
        ["/label"],
    ),
    ("open_tree", "open_tree"): (lambda: kernel.open_tree(directory(), "/label"), ["/label"]),
    ("mount_setattr", "mount_setattr"): (
        lambda: kernel.mount_setattr(directory(), 1, 0, "/label", recursive=False),
        ["/label"],
    ),
    ("move_mount", "move_mount"): (
        lambda: kernel.move_mount(kernel.open_tree(directory(), ""), directory(), "/from", "/to"),
        ["/from", "/to"],
    ),
    ("new_mount", "fsopen"): (lambda: kernel.new_mount("tmpfs", {}, 0, "/label"), ["/label"]),
    ("new_mount", "fsconfig"): (lambda: kernel.new_mount("tmpfs", {}, 0, "/label"), ["/label"]),
    ("new_mount", "fsmount"): (lambda: kernel.new_mount("tmpfs", {}, 0, "/label"), ["/label"]),
}
"""A wrapper and the system call that fails below it: a call, and the paths that the error names."""

VERSIONS = {"close_range": "5.9", "openat2": "5.6", "mount_setattr": "5.12", "open_tree": "5.2", "fsopen": "5.2"}
"""Calls that a kernel may be too old for, and the first one that has it."""

NUMBERS: dict[str, int] = vars(kernel)["_numbers_here"]
WRAPPERS = {name for name, value in vars(kernel).items() if isinstance(value, FunctionType) and name[0] != "_"}


def refuse(call: str, number: int) -> None:
    """From now on the kernel answers one system call of this process with an error (seccomp(2))."""
    load, equal, answer = 0x20, 0x15, 0x06
    program = array.array("B")
    for code, true, false, value in (
        (load, 0, 0, 0),  # the number of the call
        (equal, 0, 1, NUMBERS[call]),
        (answer, 0, 0, 0x00050000 | number),  # SECCOMP_RET_ERRNO
        (answer, 0, 0, 0x7FFF0000),  # SECCOMP_RET_ALLOW
    ):
        program.frombytes(code.to_bytes(2, sys.byteorder) + bytes([true, false]) + value.to_bytes(4, sys.byteorder))
    header = (4).to_bytes(8, sys.byteorder) + program.buffer_info()[0].to_bytes(8, sys.byteorder)
    filter_program = array.array("B", header)
    kernel.prctl(kernel.PR_SET_NO_NEW_PRIVS, 1)
    kernel.prctl(22, 2, filter_program.buffer_info()[0])  # PR_SET_SECCOMP, SECCOMP_MODE_FILTER


def attempt(call: Call, prepare: Call) -> dict[str, Any]:
    """What `call` raises in a child, after `prepare`, and how many descriptors it leaves open."""
    read, write = os.pipe()
    pid = os.fork()
    if pid == 0:
        result: dict[str, Any] = {"raised": False}
        try:
            kernel.unshare(MOUNTS)
            os.listdir("/proc/self/fd")
            prepare()
            before = len(os.listdir("/proc/self/fd"))
            try:
                call()
            except OSError as error:
                result = {
                    "raised": True,
                    "errno": error.errno,
                    "reason": error.strerror,
                    "paths": [path for path in (error.filename, error.filename2) if path],
                }
            result["left open"] = len(os.listdir("/proc/self/fd")) - before
        finally:
            os.write(write, json.dumps(result).encode())
            os._exit(0)
    os.close(write)
    answer = os.read(read, 65536)
    os.close(read)
    os.waitpid(pid, 0)
    found: dict[str, Any] = json.loads(answer)
    return found


def main() -> None:
    """What runs in a process of its own. Prints what came of everything."""
    report = {name: attempt(call, lambda: None) for name, (call, _, _) in REFUSED.items()}
    for (wrapper, name), (call, _) in FILTERED.items():
        for number in (errno.EXDEV, errno.ENOSYS, errno.EAGAIN):
            report[f"{wrapper} {name} {number}"] = attempt(call, partial(refuse, name, number))
    json.dump(report, sys.stdout)


@pytest.fixture(scope="module")
def report() -> dict[str, Any]:
    code = "from tests.init.test_kernel import main; main()"
    result = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr
    found: dict[str, Any] = json.loads(result.stdout)
    return found


def test_no_wrapper_and_no_system_call_is_left_out() -> None:
    assert {wrapper for wrapper, _ in FILTERED} == WRAPPERS
    assert {call for _, call in FILTERED} == set(NUMBERS)


@pytest.mark.parametrize("name", REFUSED)
def test_what_the_kernel_refuses_is_an_error_that_names_the_operands(report: dict[str, Any], name: str) -> None:
    _, number, paths = REFUSED[name]
    found = report[name]
    assert found["raised"]
    assert (found["errno"], found["reason"], found["paths"]) == (number, os.strerror(number), paths)


def test_a_path_that_may_be_missing_is_none_where_it_is() -> None:
    assert kernel.openat2_if_there(kernel.AT_FDCWD, "/nowhere/at/all", os.O_PATH, 0) is None


@pytest.mark.parametrize("key", FILTERED, ids=" of ".join)
@pytest.mark.parametrize("number", [errno.EXDEV, errno.EAGAIN], ids=errno.errorcode.get)
def test_no_wrapper_swallows_a_failing_call(report: dict[str, Any], key: tuple[str, str], number: int) -> None:
    """EAGAIN too, at which openat2 tries again, but not for ever."""
    found = report[f"{key[0]} {key[1]} {number}"]
    assert found["raised"]
    assert (found["errno"], found["paths"]) == (number, FILTERED[key][1])


@pytest.mark.parametrize("key", FILTERED, ids=" of ".join)
def test_a_call_that_the_kernel_lacks_is_an_error_that_says_which_kernel_has_it(
    report: dict[str, Any], key: tuple[str, str]
) -> None:
    found = report[f"{key[0]} {key[1]} {errno.ENOSYS}"]
    if key[1] == "keyctl":
        assert not found["raised"]  # where there are no keys there is nothing to leave behind
        return
    assert (found["raised"], found["errno"]) == (True, errno.ENOSYS)
    if key[1] in VERSIONS:
        assert f"{key[1]}(2) is missing: Linux {VERSIONS[key[1]]} or later" in found["reason"]


@pytest.mark.parametrize(
    "key", [key for key in FILTERED if key[0] in {"new_mount", "raise_interface"}], ids=" of ".join
)
def test_a_wrapper_of_several_calls_leaves_no_descriptor_behind(report: dict[str, Any], key: tuple[str, str]) -> None:
    assert report[f"{key[0]} {key[1]} {errno.EXDEV}"]["left open"] == 0
