"""Dev on the real kernel."""

import os
from pathlib import Path

import pytest

from igaki.ops import AnyOp, Bind, Dev, Mkdir, Place, Remount, Source, Symlink
from igaki.ops.dev import DEVICES
from tests.harness import PYTHON_INSIDE, Sandbox, system

CHARACTER_DEVICES = {
    "full": [1, 7],
    "null": [1, 3],
    "random": [1, 8],
    "tty": [5, 0],
    "urandom": [1, 9],
    "zero": [1, 5],
}
LINKS = {
    "core": "/proc/kcore",
    "fd": "/proc/self/fd",
    "ptmx": "pts/ptmx",
    "stderr": "/proc/self/fd/2",
    "stdin": "/proc/self/fd/0",
    "stdout": "/proc/self/fd/1",
}
ALL = {*CHARACTER_DEVICES, *LINKS, "pts", "shm"}


@pytest.mark.parametrize("mqueue", [False, True])
@pytest.mark.parametrize("writable", [False, True])
@pytest.mark.parametrize("target", ["/dev", "/some/dev"])
def test_a_dev_holds_these_and_no_others(sandbox: Sandbox, target: str, writable: bool, mqueue: bool) -> None:
    names = sorted({*ALL, *(["mqueue"] if mqueue else [])})
    paths = [f"{target}/{name}" for name in names]
    report = sandbox.probe([Dev(target, writable=writable, mqueue=mqueue)], target, *paths)
    top = report["paths"][target]
    assert (top["names"], top["mode"], top["create"]) == (names, 0o755, True if writable else "EROFS")
    seen = {name: report["paths"][f"{target}/{name}"] for name in names}
    assert {name: seen[name]["rdev"] for name in CHARACTER_DEVICES} == CHARACTER_DEVICES
    assert {name: seen[name]["link"] for name in LINKS} == LINKS
    assert (seen["shm"]["mode"], seen["shm"]["names"], seen["shm"]["create"]) == (0o1777, [], True)
    assert (seen["pts"]["mode"], seen["pts"]["names"]) == (0o755, ["ptmx"])
    if mqueue:
        assert (seen["mqueue"]["names"], seen["mqueue"]["create"]) == ([], True)


def test_each_part_of_a_dev_is_a_mount_that_grants_no_more_than_it_needs(sandbox: Sandbox) -> None:
    report = sandbox.probe([Dev("/new", mqueue=True)])
    interesting = {"ro", "rw", "nosuid", "nodev", "noexec"}
    mounts = {mount["point"]: mount for mount in report["mounts"] if mount["point"].startswith("/new")}
    assert {point: set(mount["flags"]) & interesting for point, mount in mounts.items()} == {
        "/new": {"ro", "nosuid", "nodev", "noexec"},
        "/new/pts": {"rw", "nosuid", "noexec"},
        "/new/shm": {"rw", "nosuid", "nodev"},
        "/new/mqueue": {"rw", "nosuid", "nodev", "noexec"},
        **{f"/new/{name}": {"ro", "nosuid"} for name in DEVICES},
    }
    kinds = {"": "tmpfs", "/pts": "devpts", "/shm": "tmpfs", "/mqueue": "mqueue"}
    assert {name: mounts[f"/new{name}"]["kind"] for name in kinds} == kinds
    assert {"mode=620", "ptmxmode=666"} <= set(mounts["/new/pts"]["options"])


def test_the_devices_do_what_they_are_for(sandbox: Sandbox) -> None:
    script = """
        echo gone > /dev/null
        head -c 3 /dev/zero | od -An -tx1
        test "$(head -c 16 /dev/urandom | od -An -tx1)" != "$(head -c 16 /dev/random | od -An -tx1)"
        head -c 1 /dev/zero > /dev/full
    """
    outcome = sandbox.run([], ["sh", "-ec", script])
    assert outcome.stdout == " 00 00 00\n"
    assert "No space left on device" in outcome.stderr


def test_the_links_lead_to_the_programs_own_descriptors(user_sandbox: Sandbox) -> None:
    script = 'echo "$(cat /dev/stdin)" > /dev/stdout; echo error > /dev/stderr; ls /dev/fd'
    outcome = user_sandbox.run([], ["sh", "-ec", script], stdin=b"input")
    assert (outcome.stdout, outcome.stderr) == ("input\n0\n1\n2\n3\n", "error\n")


def test_a_pseudo_terminal_is_the_containers_own_and_has_a_name_there(sandbox: Sandbox) -> None:
    program = """
import os, subprocess, sys
leader, follower = os.openpty()
again = os.open("/dev/ptmx", os.O_RDWR | os.O_NOCTTY)
print(os.ttyname(follower), oct(os.fstat(follower).st_mode), os.fstat(follower).st_uid == os.getuid())
sys.stdout.flush()
subprocess.run(["tty"], stdin=follower, check=True)
subprocess.run(["setsid", "--ctty", "sh", "-c", "echo hello > /dev/tty"], stdin=follower, check=True)
print(os.read(leader, 100), sorted(os.listdir("/dev/pts")))
"""
    outcome = sandbox.run([], [PYTHON_INSIDE, "-c", program])
    assert outcome.stdout.splitlines() == [
        "/dev/pts/0 0o20620 True",
        "/dev/pts/0",
        "b'hello\\r\\n' ['0', '1', 'ptmx']",
    ], outcome.stderr


def test_without_a_terminal_dev_tty_opens_nothing(sandbox: Sandbox) -> None:
    assert sandbox.probe([], "/dev/tty")["paths"]["/dev/tty"]["write"] == "ENXIO"


def test_shared_memory_and_message_queues_are_the_containers_own(sandbox: Sandbox) -> None:
    program = """
import multiprocessing.shared_memory as shm, os
segment = shm.SharedMemory("igaki-test", create=True, size=4096)
os.close(os.open("/dev/mqueue/igaki-test", os.O_CREAT | os.O_EXCL | os.O_RDWR))
print(os.listdir("/dev/shm"), os.listdir("/dev/mqueue"))
segment.close()
"""
    outcome = sandbox.run([Dev("/dev", mqueue=True)], [PYTHON_INSIDE, "-W", "ignore", "-c", program])
    assert outcome.stdout == "['igaki-test'] ['igaki-test']\n", outcome.stderr
    assert not Path("/dev/shm/igaki-test").exists()


def test_a_program_can_be_executed_from_shared_memory(sandbox: Sandbox) -> None:
    outcome = sandbox.run([], ["sh", "-c", "cp /usr/bin/true /dev/shm/true && /dev/shm/true"])
    assert outcome.returncode == 0, outcome.stderr


def test_more_devices_go_into_a_writable_dev_that_is_closed_afterwards(sandbox: Sandbox) -> None:
    ops: list[AnyOp] = [
        Dev("/dev", writable=True),
        Bind("/dev/extra", source="/dev/zero", devices=True),
        Mkdir("/dev/dri"),
        Remount("/dev"),
    ]
    paths = ["/dev", "/dev/extra", "/dev/null", "/dev/shm", "/dev/dri"]
    report = sandbox.probe(ops, *paths)
    seen = report["paths"]
    assert seen["/dev/extra"]["rdev"] == [1, 5]
    assert {"extra", "dri"} <= set(seen["/dev"]["names"])
    assert {path: seen[path]["create" if seen[path]["kind"] == "d" else "write"] for path in paths} == {
        "/dev": "EROFS",
        "/dev/extra": True,
        "/dev/null": True,
        "/dev/shm": True,
        "/dev/dri": "EROFS",
    }


def test_a_device_that_dev_does_not_have_needs_a_writable_dev(sandbox: Sandbox) -> None:
    dev, bind = Dev("/dev"), Bind("/dev/extra", source="/dev/zero", devices=True)
    failure = sandbox.refusal([dev, bind], base=False)
    assert str(failure) == f"op 1: cannot {bind}: Read-only file system since op 0: {dev}: '/dev/extra'"


def test_a_dev_can_be_mounted_through_a_symlink(sandbox: Sandbox) -> None:
    report = sandbox.probe([Mkdir("/real"), Symlink("/link", to="/real"), Dev("/link")], "/real")
    assert report["paths"]["/real"]["names"] == sorted(ALL)


@pytest.mark.parametrize("name", [*DEVICES, *LINKS, "pts", "shm"])
def test_links_that_an_application_left_where_devices_go_lead_nowhere(user_sandbox: Sandbox, name: str) -> None:
    home = user_sandbox.directory("home")
    victim = user_sandbox.directory("victim")
    user_sandbox.directory("home/dev")
    (home / "dev" / name).symlink_to(victim / "new")
    report = user_sandbox.probe([Bind("/home", source=str(home), writable=True), Dev("/home/dev")], "/home/dev")
    assert report["paths"]["/home/dev"]["names"] == sorted(ALL)
    assert list(victim.iterdir()) == []
    assert [path.name for path in (home / "dev").iterdir()] == [name]


def test_a_settled_dev_shows_the_hosts_devices(sandbox: Sandbox) -> None:
    settled = sandbox.run([Dev("/dev")], report_settled=True).settled[len(system())]
    assert isinstance(settled, Dev)
    status = {name: os.stat(f"/dev/{name}") for name in DEVICES}
    assert settled.found == [
        Source(f"/dev/{name}", status[name].st_dev, status[name].st_ino, "character device") for name in DEVICES
    ]


def test_a_dev_on_a_file_is_an_error_with_its_path(sandbox: Sandbox) -> None:
    failure = sandbox.refusal([Place("/dev", data=b""), Dev("/dev")], base=False)
    assert str(failure) == "op 1: cannot set up devices on /dev: Not a directory: '/dev'"


def test_devices_that_the_host_lacks_are_named(sandbox: Sandbox) -> None:
    prepare = "mount -t tmpfs tmpfs /dev; touch /dev/full /dev/null; chmod 666 /dev/null"
    script = f"{prepare}; $IGAKI run --ro-bind / / --dev /dev -- true"
    result = sandbox.in_outer_namespace(script)
    assert result.returncode == 125
    assert result.stderr == (
        "igaki: op 1: cannot set up devices on /dev (writable): No such file or directory: '/dev/random'\n"
    )


@pytest.mark.parametrize("target", ["dev", "/dev/", "/../dev"])
def test_a_target_is_absolute_and_normalised(target: str) -> None:
    with pytest.raises(ValueError, match=r"is not absolute|is not normalised"):
        Dev(target)


@pytest.mark.parametrize(
    ("op", "sentence"),
    [
        (Dev("/dev"), "set up devices on /dev"),
        (Dev("/dev", mqueue=True), "set up devices on /dev (mqueue)"),
        (Dev("/dev", mqueue=True, writable=True), "set up devices on /dev (mqueue, writable)"),
    ],
)
def test_a_dev_says_what_it_does(op: Dev, sentence: str) -> None:
    assert str(op) == sentence
