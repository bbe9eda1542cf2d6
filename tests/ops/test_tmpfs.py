"""Tmpfs on the real kernel."""

import re

import pytest

from igaki.ops import AnyOp, Bind, Dev, Mkdir, Overlay, Place, Proc, Symlink, Tmpfs
from tests.harness import Sandbox, mount_at, system

MIB = 1024 * 1024


def test_a_tmpfs_is_empty_writable_executable_and_nothing_more(sandbox: Sandbox) -> None:
    report = sandbox.probe([Tmpfs("/new")], "/new")
    seen = report["paths"]["/new"]
    assert (seen["names"], seen["mode"], seen["create"]) == ([], 0o755, True)
    assert (seen["uid"], seen["gid"]) == (report["uids"][0], report["gids"][0])
    mount = mount_at(report, "/new")
    assert mount["kind"] == "tmpfs"
    assert set(mount["flags"]) & {"ro", "rw", "nosuid", "nodev", "noexec"} == {"rw", "nosuid", "nodev"}
    assert sandbox.run([Tmpfs("/new")], ["sh", "-c", "cp /usr/bin/true /new && /new/true"]).returncode == 0


def test_a_read_only_tmpfs_hides_what_is_there_and_stays_empty(sandbox: Sandbox) -> None:
    source = sandbox.directory("source")
    sandbox.file(source / "secret")
    ops: list[AnyOp] = [Bind("/data", source=str(source), writable=True), Tmpfs("/data", writable=False, mode=0o555)]
    report = sandbox.probe(ops, "/data")
    seen = report["paths"]["/data"]
    assert (seen["names"], seen["mode"], seen["create"]) == ([], 0o555, "EROFS")
    assert set(mount_at(report, "/data")["flags"]) >= {"ro", "nosuid", "nodev"}


def test_a_tmpfs_ends_with_its_container_and_hides_the_hosts_directory(sandbox: Sandbox) -> None:
    source = sandbox.directory("source")
    ops: list[AnyOp] = [Bind("/data", source=str(source), writable=True), Tmpfs("/data/tmp")]
    assert sandbox.run(ops, ["touch", "/data/tmp/new"]).returncode == 0
    assert sandbox.probe(ops, "/data/tmp")["paths"]["/data/tmp"]["names"] == []
    assert [str(path.relative_to(source)) for path in source.rglob("*")] == ["tmp"]


@pytest.mark.parametrize("size", [MIB, 3 * MIB])
def test_the_size_is_a_limit(sandbox: Sandbox, size: int) -> None:
    script = "head -c 4194304 /dev/zero > /new/file; stat -c %s /new/file"
    outcome = sandbox.run([Tmpfs("/new", size=size)], ["sh", "-c", script])
    assert "No space left on device" in outcome.stderr
    assert outcome.stdout == f"{size}\n"
    assert sandbox.run([Tmpfs("/new", size=4 * MIB)], ["sh", "-c", script]).stderr == ""


def test_a_tmpfs_has_its_mode_and_parents_that_grant_no_one_more(sandbox: Sandbox) -> None:
    parents = {0o755: 0o755, 0o1777: 0o755, 0o700: 0o700, 0o750: 0o750, 0o705: 0o705, 0o711: 0o755, 0o2770: 0o750}
    expected = {
        f"/{mode:o}{below}": mode if below == "/b/c" else parents[mode]
        for mode in parents
        for below in ("", "/b", "/b/c")
    }
    report = sandbox.probe([Tmpfs(f"/{mode:o}/b/c", mode=mode) for mode in parents], *expected)
    assert {path: oct(seen["mode"]) for path, seen in report["paths"].items()} == {
        path: oct(mode) for path, mode in expected.items()
    }


def test_the_mount_point_has_the_mode_too_where_it_stays_on_the_host(sandbox: Sandbox) -> None:
    home = sandbox.directory("home")
    sandbox.probe([Bind("/home", source=str(home), writable=True), Tmpfs("/home/private/cache", mode=0o700)])
    assert [path.stat().st_mode & 0o7777 for path in (home / "private", home / "private/cache")] == [0o700, 0o700]


def test_a_mount_point_that_exists_keeps_its_mode(sandbox: Sandbox) -> None:
    home = sandbox.directory("home")
    cache = sandbox.directory("home/cache", 0o751)
    report = sandbox.probe([Bind("/home", source=str(home)), Tmpfs("/home/cache", mode=0o700)], "/home/cache")
    assert report["paths"]["/home/cache"]["mode"] == 0o700
    assert cache.stat().st_mode & 0o7777 == 0o751


def test_the_last_of_several_tmpfs_on_one_target_is_seen(sandbox: Sandbox) -> None:
    report = sandbox.probe([Tmpfs("/new"), Mkdir("/new/first"), Tmpfs("/new"), Mkdir("/new/second")], "/new")
    assert report["paths"]["/new"]["names"] == ["second"]


def test_a_tmpfs_is_mounted_through_a_symlink(sandbox: Sandbox) -> None:
    report = sandbox.probe([Mkdir("/run"), Symlink("/var/run", to="/run"), Tmpfs("/var/run/user", mode=0o700)])
    assert mount_at(report, "/run/user")["kind"] == "tmpfs"


@pytest.mark.parametrize("root", ["tmpfs", "dev", "overlay", "several"])
def test_a_mount_on_the_root_is_the_root_of_all_that_follows(sandbox: Sandbox, root: str) -> None:
    lower = sandbox.directory("lower")
    sandbox.directory("lower/here")
    overlay = Overlay("/", lower=[str(lower)], ephemeral=True)
    roots: dict[str, list[AnyOp]] = {
        "tmpfs": [Tmpfs("/", mode=0o751)],
        "dev": [Dev("/", writable=True)],
        "overlay": [overlay],
        "several": [Mkdir("/gone"), Tmpfs("/"), Mkdir("/gone"), overlay],
    }
    ops = [*roots[root], *system(), Mkdir("/made"), Tmpfs("/here/below"), Place("/file", data=b"data")]
    report = sandbox.probe(ops, "/", "/file", "/here/below", base=False)
    names = report["paths"]["/"]["names"]
    assert {"here", "made", "usr", "proc", "dev", "file"} <= set(names)
    assert "gone" not in names
    assert report["paths"]["/file"]["content"] == "data"
    assert mount_at(report, "/here/below")["kind"] == "tmpfs"
    assert mount_at(report, "/")["kind"] == ("overlay" if root in ("overlay", "several") else "tmpfs")
    assert list(lower.rglob("*")) == [lower / "here"]


@pytest.mark.parametrize("target", ["/file", "/file/below"])
def test_a_tmpfs_on_a_file_is_an_error_with_its_path(sandbox: Sandbox, target: str) -> None:
    failure = sandbox.refusal([Place("/file", data=b""), Tmpfs(target)], base=False)
    assert str(failure) == f"op 1: cannot mount tmpfs on {target} (mode 0755): Not a directory: {target!r}"


def test_a_directory_that_can_not_be_made_is_named(sandbox: Sandbox) -> None:
    failure = sandbox.refusal([Proc("/proc"), Tmpfs("/proc/new/er")], base=False)
    assert (failure.index, failure.phase, failure.path) == (1, "apply", "/proc/new")


@pytest.mark.parametrize(
    ("fields", "reason"),
    [
        ({"target": "tmp"}, "target 'tmp' is not absolute"),
        ({"size": -1}, "size -1 is outside 0-9223372036854775807 bytes"),
        ({"size": 2**63}, "size 9223372036854775808 is outside 0-9223372036854775807 bytes"),
        ({"mode": -1}, "mode -0o1 is outside 0-07777"),
        ({"mode": 0o10000}, "mode 0o10000 is outside 0-07777"),
    ],
)
def test_what_no_tmpfs_can_have_is_refused(fields: dict[str, object], reason: str) -> None:
    with pytest.raises(ValueError, match=f"^{re.escape(reason)}$"):
        Tmpfs(**{"target": "/tmp", **fields})  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("op", "sentence"),
    [
        (Tmpfs("/tmp"), "mount tmpfs on /tmp (mode 0755)"),
        (Tmpfs("/tmp", mode=0o1777, size=4096), "mount tmpfs on /tmp (mode 1777, at most 4096 bytes)"),
        (Tmpfs("/tmp", writable=False), "mount read-only tmpfs on /tmp (mode 0755)"),
    ],
)
def test_a_tmpfs_says_what_it_does(op: Tmpfs, sentence: str) -> None:
    assert str(op) == sentence
