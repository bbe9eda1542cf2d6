"""Who the container is: outside, inside, and what it may do with that. Nothing."""

from __future__ import annotations

import json
import os
import pwd
import subprocess
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path

import pytest

from igaki.ops import Bind, Namespaces, Tmpfs
from tests.harness import ENV, IGAKI, NOBODY, PYTHON_INSIDE, Sandbox, children_of, is_alive

KINDS = ("user", "mnt", "pid", "ipc", "uts", "cgroup", "net")
CAPABILITIES = ("CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb")


def gid_of(sandbox: Sandbox) -> int:
    """Group id of the sandbox's containers, on the host."""
    return NOBODY if sandbox.uid == NOBODY else pwd.getpwuid(sandbox.uid).pw_gid


def status_of(pid: int) -> dict[str, str]:
    return dict(line.split(":\t", 1) for line in Path(f"/proc/{pid}/status").read_text().splitlines())


@contextmanager
def running(sandbox: Sandbox, *options: str, before: tuple[str, ...] = ()) -> Generator[tuple[int, int]]:
    """A container that the sandbox's caller started with `igaki run`: the pids of its PID 1 and of its program."""
    command = [*before, str(IGAKI), "run", *options, "--", "sh", "-c", "echo ready; exec sleep 99"]
    with subprocess.Popen(
        command, **sandbox.identity(), cwd="/", env={**ENV, "HOME": sandbox.home}, stdout=subprocess.PIPE
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"ready\n"
        (pid_one,) = filter(is_alive, children_of(process.pid))
        (program,) = children_of(pid_one)
        try:
            yield pid_one, program
        finally:
            process.kill()


# Ids.


@pytest.mark.parametrize(("uid", "gid"), [(None, None), (0, 0), (1000, 100), (2**32 - 2, 5)])
def test_one_user_and_one_group_are_mapped(sandbox: Sandbox, uid: int | None, gid: int | None) -> None:
    inside = [sandbox.uid if uid is None else uid, gid_of(sandbox) if gid is None else gid]
    out = sandbox.directory("out")
    outcome = sandbox.run(
        [Bind("/out", source=str(out), writable=True)],
        ["sh", "-c", "id -u; id -g; cat /proc/self/uid_map /proc/self/gid_map /proc/self/setgroups; : >/out/made"],
        namespaces=Namespaces(uid=uid, gid=gid),
    )
    words = outcome.stdout.split()
    assert [int(word) for word in words[:2]] == inside
    assert words[2:] == [str(inside[0]), str(sandbox.uid), "1", str(inside[1]), str(gid_of(sandbox)), "1", "deny"]
    made = (out / "made").stat()
    assert (made.st_uid, made.st_gid) == (sandbox.uid, gid_of(sandbox))


def test_from_outside_the_container_is_its_caller_or_nobody(sandbox: Sandbox) -> None:
    with running(sandbox, "--uid", "0", "--gid", "0") as processes:
        for pid in processes:
            status = status_of(pid)
            assert status["Uid"].split() == [str(sandbox.uid)] * 4
            assert status["Gid"].split() == [str(gid_of(sandbox))] * 4


def test_nobodys_container_has_no_supplementary_groups(root_sandbox: Sandbox) -> None:
    with running(root_sandbox, before=("setpriv", "--groups", "0,4,27")) as processes:
        assert [status_of(pid)["Groups"].split() for pid in processes] == [[], []]


# Privileges.


@pytest.mark.parametrize(
    "namespaces",
    [Namespaces(), Namespaces(uid=0, gid=0), Namespaces(host_root=True), Namespaces(share_net=True)],
    ids=str,
)
def test_the_program_has_no_capability_and_gets_no_new_privileges(sandbox: Sandbox, namespaces: Namespaces) -> None:
    status = sandbox.probe([], namespaces=namespaces)["status"]
    assert {name: int(status[name], 16) for name in CAPABILITIES} == dict.fromkeys(CAPABILITIES, 0)
    assert status["NoNewPrivs"].strip() == "1"


def test_pid_1_has_no_capability_either(sandbox: Sandbox) -> None:
    with running(sandbox, "--uid", "0") as (pid_one, _):
        status = status_of(pid_one)
    assert {name: int(status[name], 16) for name in CAPABILITIES} == dict.fromkeys(CAPABILITIES, 0)
    assert status["NoNewPrivs"].strip() == "1"


ATTACKS = """
import json, os, sys
pid, results = sys.argv[1], {}
def attempt(name, call):
    try:
        call()
    except OSError as error:
        results[name] = error.strerror
    else:
        results[name] = "done"
for name in ("environ", "mem", "maps", "auxv", "syscall"):
    attempt(name, lambda: open(f"/proc/{pid}/{name}", "rb").read(1))
for name in ("fd", "map_files"):
    attempt(name, lambda: os.listdir(f"/proc/{pid}/{name}"))
for name in ("root", "cwd", "exe", "ns/mnt", "ns/user"):
    attempt(name, lambda: os.readlink(f"/proc/{pid}/{name}"))
for name in ("mem", "uid_map", "oom_score_adj", "coredump_filter"):
    attempt(f"write {name}", lambda: os.close(os.open(f"/proc/{pid}/{name}", os.O_WRONLY)))
json.dump(results, sys.stdout)
"""
REFUSALS = {"Permission denied", "Operation not permitted"}


def test_another_process_of_the_same_user_cannot_look_into_pid_1(sandbox: Sandbox) -> None:
    """It held the plan, and with it whatever secrets the plan holds."""
    with running(sandbox) as (pid_one, _):
        command = [PYTHON_INSIDE, "-I", "-c", ATTACKS, str(pid_one)]
        if os.getuid() == 0:
            ids = [f"--reuid={sandbox.uid}", f"--regid={gid_of(sandbox)}", "--clear-groups"]
            command = ["setpriv", *ids, *command]
        result = subprocess.run(command, capture_output=True, check=True, text=True)
    results = json.loads(result.stdout)
    assert set(results.values()) <= REFUSALS, results


@pytest.mark.parametrize("namespaces", [Namespaces(), Namespaces(uid=0, gid=0)], ids=str)
def test_the_program_cannot_look_into_pid_1(sandbox: Sandbox, namespaces: Namespaces) -> None:
    outcome = sandbox.run([], [PYTHON_INSIDE, "-I", "-S", "-c", ATTACKS, "1"], namespaces=namespaces)
    results = json.loads(outcome.stdout)
    assert set(results.values()) <= REFUSALS, results


# Namespaces.


def namespaces_here() -> dict[str, str]:
    return {kind: os.readlink(f"/proc/self/ns/{kind}") for kind in KINDS}


def test_all_seven_namespaces_are_new(sandbox: Sandbox) -> None:
    report = sandbox.probe([])
    assert {kind for kind in KINDS if report["namespaces"][kind] == namespaces_here()[kind]} == set()


def test_the_network_alone_is_shared_when_asked(sandbox: Sandbox) -> None:
    report = sandbox.probe([], namespaces=Namespaces(share_net=True))
    assert {kind for kind in KINDS if report["namespaces"][kind] == namespaces_here()[kind]} == {"net"}
    assert set(report["interfaces"]) == set(os.listdir("/sys/class/net")) - {"bonding_masters"}


def test_a_new_network_has_a_working_loopback_and_nothing_else(sandbox: Sandbox) -> None:
    code = """
import socket
server = socket.create_server(("127.0.0.1", 0))
client = socket.create_connection(server.getsockname(), 5)
print([name for _, name in socket.if_nameindex()])
"""
    assert sandbox.run([], [PYTHON_INSIDE, "-I", "-S", "-c", code]).stdout == "['lo']\n"


@pytest.mark.parametrize("name", ["", "elsewhere", "x" * 64])
def test_the_hostname_is_the_containers_own(sandbox: Sandbox, name: str) -> None:
    before = os.uname().nodename
    assert sandbox.probe([], hostname=name)["hostname"] == (name or before)
    assert os.uname().nodename == before


def test_the_program_cannot_make_namespaces_of_its_own_that_give_it_the_host(sandbox: Sandbox) -> None:
    outcome = sandbox.run([], ["unshare", "--mount", "true"], namespaces=Namespaces(uid=0, gid=0))
    assert outcome.returncode == 1


# Root on the host.


def test_roots_container_cannot_read_what_only_root_may(root_sandbox: Sandbox) -> None:
    secret = root_sandbox.directory_root / "secret"
    secret.write_text("secret")
    secret.chmod(0o600)
    report = root_sandbox.probe(
        [Bind("/secret", source=str(secret)), Bind("/shadow", source="/etc/shadow")],
        "/secret",
        "/shadow",
        namespaces=Namespaces(uid=0, gid=0),
    )
    assert [report["paths"][path]["content"] for path in ("/secret", "/shadow")] == ["EACCES"] * 2


@pytest.mark.parametrize("host_root", [False, True])
def test_roots_container_cannot_change_the_kernels_settings(root_sandbox: Sandbox, host_root: bool) -> None:
    before = Path("/proc/sys/kernel/core_pattern").read_text()
    paths = ["/proc/sys/kernel/core_pattern", "/proc/sys/kernel/hostname", "/proc/sys/vm/overcommit_memory"]
    report = root_sandbox.probe([], *paths, namespaces=Namespaces(uid=0, gid=0, host_root=host_root))
    assert {report["paths"][path]["write"] for path in paths} == {"EROFS" if host_root else "EACCES"}
    assert Path("/proc/sys/kernel/core_pattern").read_text() == before


def test_host_root_is_user_0_outside(root_sandbox: Sandbox) -> None:
    out = root_sandbox.directory("out")
    out.chmod(0o777)
    root_sandbox.run(
        [Bind("/out", source=str(out), writable=True)],
        ["sh", "-c", ": >/out/made"],
        namespaces=Namespaces(host_root=True, uid=1000),
    )
    assert (out / "made").stat().st_uid == 0


PROC_ATTACK = """
import json, os, stat, sys
opened, results = [], {}
def walk(directory, top):
    for entry in os.scandir(directory):
        if top and (entry.name.isdigit() or entry.is_symlink()):
            continue
        mode = entry.stat(follow_symlinks=False).st_mode
        if stat.S_ISDIR(mode):
            try:
                walk(entry.path, False)
            except PermissionError:
                pass
        elif stat.S_ISREG(mode):
            try:
                os.close(os.open(entry.path, os.O_WRONLY | os.O_NONBLOCK))
            except OSError as error:
                results[error.strerror] = results.get(error.strerror, 0) + 1
            else:
                opened.append(entry.path)
walk("/proc", True)
json.dump([opened, results], sys.stdout)
"""


def test_host_root_can_write_no_file_of_proc_that_is_not_a_processs(root_sandbox: Sandbox) -> None:
    outcome = root_sandbox.run(
        [], [PYTHON_INSIDE, "-I", "-S", "-c", PROC_ATTACK], namespaces=Namespaces(host_root=True)
    )
    opened, refused = json.loads(outcome.stdout)
    assert opened == []
    assert refused["Read-only file system"] > 500


@pytest.mark.parametrize(
    ("kind", "file"), [("proc", "sys/kernel/core_pattern"), ("sysfs", "kernel/mm/transparent_hugepage/enabled")]
)
def test_host_root_gets_no_uncovered_proc_or_sys_in_namespaces_of_its_own(
    root_sandbox: Sandbox, kind: str, file: str
) -> None:
    new = f"mount -t {kind} none /mnt && : >>/mnt/{file} && echo new"
    bare = "umount /proc/sys && : >>/proc/sys/kernel/core_pattern && echo bare"
    unshare = ["unshare", "--map-root-user", "--mount", "--pid", "--net", "--fork"]
    outcome = root_sandbox.run(
        [Tmpfs("/mnt")],
        [*unshare, "sh", "-c", f"echo inside; {new}; {bare}"],
        namespaces=Namespaces(host_root=True, uid=1000, gid=1000),
    )
    assert outcome.stdout == "inside\n", outcome.stderr


def test_without_the_cover_user_0_could_write_there(root_sandbox: Sandbox) -> None:
    """What the test before this one is about."""
    report = root_sandbox.probe(
        [Bind("/open", source="/proc", writable=True)],
        "/open/sys/kernel/core_pattern",
        namespaces=Namespaces(host_root=True),
    )
    assert report["paths"]["/open/sys/kernel/core_pattern"]["write"] is True


# Inside other user namespaces.


@pytest.mark.parametrize("option", ["--map-root-user", "--map-current-user"])
def test_containers_start_in_a_user_namespace_that_maps_one_ordinary_id(user_sandbox: Sandbox, option: str) -> None:
    script = "id -u; cat /proc/self/uid_map"
    result = user_sandbox.command("unshare", option, "igaki", "run", "--", "sh", "-c", script)
    outside = "0" if option == "--map-root-user" else str(user_sandbox.caller)
    assert result.stdout.split() == [outside, outside, outside, "1"], result.stderr


def test_where_only_host_user_0_is_mapped_root_is_not_kept_in_silence(root_sandbox: Sandbox) -> None:
    result = root_sandbox.command("unshare", "--map-root-user", "igaki", "run", "--", "true")
    assert (result.returncode, result.stderr.startswith("igaki: cannot leave user 0")) == (125, True)


def test_containers_start_in_a_container(user_sandbox: Sandbox) -> None:
    """In one of bubblewrap's or podman's, that is: one whose program may make namespaces."""
    result = user_sandbox.command(
        "unshare", "--map-root-user", "--mount", "--pid", "--fork", "--mount-proc", "igaki", "run", "--", "echo", "here"
    )
    assert result.stdout == "here\n", result.stderr
