"""Proc on the real kernel."""

import os
import stat

import pytest

from igaki.ops import AnyOp, Bind, Namespaces, Proc
from tests.harness import PYTHON_INSIDE, Sandbox, mount_at, system

OF_THE_HOST = ["/proc/sys/kernel/core_pattern", "/proc/sys/vm/drop_caches"]
"""What host user 0 may write, with no capability at all."""


def test_a_proc_shows_the_containers_processes_and_no_others(sandbox: Sandbox) -> None:
    report = sandbox.probe([])
    assert sorted(report["pids"]) == sorted({1, report["pid"]})
    mount = mount_at(report, "/proc")
    assert (mount["kind"], mount["root"]) == ("proc", "/")
    assert set(mount["flags"]) >= {"rw", "nosuid", "nodev", "noexec"}


def test_a_proc_can_be_anywhere_and_more_than_once(sandbox: Sandbox) -> None:
    report = sandbox.probe([Proc("/some/where"), Proc("/proc")], "/some", "/some/where", "/some/where/1/comm")
    assert report["paths"]["/some"]["mode"] == 0o755
    assert report["paths"]["/some/where"]["mode"] == 0o555
    assert report["paths"]["/some/where/1/comm"]["exists"]
    assert {mount["kind"] for mount in report["mounts"] if mount["point"] in ("/proc", "/some/where")} == {"proc"}


def test_a_program_may_change_what_is_its_own(sandbox: Sandbox) -> None:
    outcome = sandbox.run([], ["sh", "-c", "echo -n renamed > /proc/self/comm; cat /proc/$$/comm"])
    assert (outcome.returncode, outcome.stdout) == (0, "renamed\n"), outcome.stderr


@pytest.mark.parametrize("path", OF_THE_HOST)
def test_what_belongs_to_the_hosts_root_can_not_be_written(sandbox: Sandbox, path: str) -> None:
    assert stat.S_IMODE(os.stat(path).st_mode) & 0o200, "its owner could write it"
    report = sandbox.probe([], path)
    assert report["paths"][path]["write"] == "EACCES"


@pytest.mark.parametrize("target", ["/proc", "/other/proc"])
def test_for_the_hosts_root_all_that_is_no_process_is_read_only(root_sandbox: Sandbox, target: str) -> None:
    host_root = Namespaces(host_root=True)
    paths = [path.replace("/proc", target, 1) for path in OF_THE_HOST]
    report = root_sandbox.probe([Proc(target)], *paths, namespaces=host_root)
    assert {path: report["paths"][path]["write"] for path in paths} == dict.fromkeys(paths, "EROFS")
    listing = (
        f"import os; print(*(e.name for e in os.scandir({target!r}) if not e.is_symlink() and not e.name.isdigit()))"
    )
    names = root_sandbox.run([Proc(target)], [PYTHON_INSIDE, "-c", listing], namespaces=host_root).stdout.split()
    assert {"sys", "fs", "cmdline"} <= set(names)
    covered = {mount["point"] for mount in report["mounts"] if "ro" in mount["flags"]}
    assert {f"{target}/{name}" for name in names} <= covered
    own = root_sandbox.run([], ["sh", "-c", "echo -n renamed > /proc/self/comm"], namespaces=host_root)
    assert own.returncode == 0, own.stderr


def test_where_the_hosts_own_proc_is_partly_covered_the_failure_says_so(sandbox: Sandbox) -> None:
    # All that there are: one that shows everything is enough for the kernel to allow another.
    procs = "awk '/ - proc /{print $5}' /proc/self/mountinfo"
    cover = f'for proc in $({procs}); do mount --bind /dev/null "$proc/version"; done'
    script = f"{cover}; $IGAKI run --ro-bind / / --proc /proc -- true"
    result = sandbox.in_outer_namespace(script)
    assert result.returncode == 125
    assert result.stderr.startswith("igaki: op 1: cannot mount proc on /proc: Operation not permitted")
    assert "partly covered" in result.stderr


def test_a_proc_can_be_replaced_by_the_hosts(sandbox: Sandbox) -> None:
    report = sandbox.probe([Bind("/proc/fs", source="/usr")], "/proc/fs")
    assert "bin" in report["paths"]["/proc/fs"]["names"]


def test_a_proc_on_a_file_is_an_error_with_its_path(sandbox: Sandbox) -> None:
    ops: list[AnyOp] = [Bind("/file", source="/etc/passwd"), Proc("/file")]
    assert str(sandbox.refusal(ops, base=False)) == "op 1: cannot mount proc on /file: Not a directory: '/file'"


def test_a_proc_says_what_it_does() -> None:
    assert str(Proc("/proc")) == "mount proc on /proc"


def test_the_proc_of_the_base_is_one_op() -> None:
    assert [str(op) for op in system() if isinstance(op, Proc)] == ["mount proc on /proc"]
