"""Remount on the real kernel."""

import errno

import pytest

from igaki.ops import AnyOp, Bind, Chmod, Dev, Etc, Mkdir, Overlay, Place, Proc, Remount, Root, Symlink, Tmpfs
from tests.harness import Sandbox, mount_at


@pytest.mark.parametrize("recursive", [False, True])
def test_a_mount_becomes_read_only_and_those_below_it_only_when_asked(sandbox: Sandbox, recursive: bool) -> None:
    home = sandbox.directory("home")
    ops: list[AnyOp] = [
        Tmpfs("/a"),
        Tmpfs("/a/b"),
        Bind("/a/b/home", source=str(home), writable=True),
        Tmpfs("/a2"),
        Remount("/a", recursive=recursive),
    ]
    paths = ["/a", "/a/b", "/a/b/home", "/a2"]
    report = sandbox.probe(ops, *paths)
    below = "EROFS" if recursive else True
    assert [report["paths"][path]["create"] for path in paths] == ["EROFS", below, below, True]
    states = [set(mount_at(report, path)["flags"]) & {"ro", "rw"} for path in paths]
    assert states == [{"ro"}, *[{"ro" if recursive else "rw"}] * 2, {"rw"}]


@pytest.mark.parametrize("recursive", [False, True])
def test_the_root_closes_last(sandbox: Sandbox, recursive: bool) -> None:
    home = sandbox.directory("home")
    ops: list[AnyOp] = [
        Bind("/home", source=str(home), writable=True),
        Tmpfs("/tmp"),
        Remount("/", recursive=recursive),
    ]
    paths = ["/", "/home", "/tmp", "/dev/shm"]
    report = sandbox.probe(ops, *paths)
    others = "EROFS" if recursive else True
    assert {path: report["paths"][path]["create"] for path in paths} == {
        "/": "EROFS",
        "/home": others,
        "/tmp": others,
        "/dev/shm": others,
    }


def test_other_flags_stay(sandbox: Sandbox) -> None:
    ops: list[AnyOp] = [
        Tmpfs("/tmp"),
        Proc("/proc"),
        Bind("/null", source="/dev/null", writable=True, devices=True),
        *(Remount(target) for target in ("/tmp", "/proc", "/null")),
    ]
    report = sandbox.probe(ops, "/null")
    interesting = {"ro", "rw", "nosuid", "nodev", "noexec"}
    assert set(mount_at(report, "/tmp")["flags"]) & interesting == {"ro", "nosuid", "nodev"}
    assert set(mount_at(report, "/proc")["flags"]) & interesting == {"ro", "nosuid", "nodev", "noexec"}
    assert set(mount_at(report, "/null")["flags"]) & interesting == {"ro", "nosuid"}


def test_the_hosts_mount_stays_as_it_is(sandbox: Sandbox) -> None:
    home = sandbox.directory("home")
    bind = Bind("/home", source=str(home), writable=True)
    sandbox.probe([bind, Remount("/home")])
    assert sandbox.probe([bind], "/home")["paths"]["/home"]["create"] is True


def test_what_is_read_only_already_stays_so(sandbox: Sandbox) -> None:
    ops: list[AnyOp] = [Tmpfs("/tmp", writable=False), Remount("/tmp"), Remount("/tmp", recursive=True)]
    assert sandbox.probe(ops, "/tmp")["paths"]["/tmp"]["create"] == "EROFS"


def test_the_topmost_of_several_mounts_is_the_one(sandbox: Sandbox) -> None:
    report = sandbox.probe([Tmpfs("/a", mode=0o711), Tmpfs("/a", mode=0o700), Remount("/a")])
    states = {
        option: "ro" in mount["flags"]
        for mount in report["mounts"]
        if mount["point"] == "/a"
        for option in mount["options"]
        if option.startswith("mode=")
    }
    assert states == {"mode=711": False, "mode=700": True}


@pytest.mark.parametrize("text", ["/run", "../run"])
def test_a_mount_is_found_through_symlinks(sandbox: Sandbox, text: str) -> None:
    ops: list[AnyOp] = [Tmpfs("/run"), Symlink("/var/run", to=text), Remount("/var/run")]
    assert sandbox.probe(ops, "/run")["paths"]["/run"]["create"] == "EROFS"


@pytest.mark.parametrize("recursive", [False, True])
@pytest.mark.parametrize(
    ("before", "number", "reason"),
    [
        (Mkdir("/at"), errno.EINVAL, "nothing is mounted there"),
        (Place("/at", data=b"", copy=True), errno.EINVAL, "nothing is mounted there"),
        (Mkdir("/other"), errno.ENOENT, "No such file or directory"),
        (Symlink("/at", to="nothing"), errno.ENOENT, "No such file or directory"),
    ],
    ids=str,
)
def test_what_is_no_mount_is_an_error_with_its_path(
    user_sandbox: Sandbox, before: AnyOp, number: int, *, reason: str, recursive: bool
) -> None:
    remount = Remount("/at", recursive=recursive)
    failure = user_sandbox.refusal([before, remount], base=False)
    assert (failure.index, failure.phase, failure.errno) == (1, "apply", number)
    assert str(failure) == f"op 1: cannot {remount}: {reason}: '/at'"


# Which op is to blame when a place can't be written any more.


@pytest.mark.parametrize("kind", ["bind", "tmpfs", "overlay", "dev", "etc", "root", "remount", "recursive remount"])
def test_the_op_that_made_a_place_read_only_is_named(user_sandbox: Sandbox, kind: str) -> None:
    source = str(user_sandbox.directory("source"))
    user_sandbox.directory("source/sub")
    other = str(user_sandbox.directory("other"))
    earlier: dict[str, list[AnyOp]] = {
        "bind": [Bind("/ro", source=source)],
        "tmpfs": [Tmpfs("/ro", writable=False)],
        "overlay": [Overlay("/ro", lower=[source, other])],
        "dev": [Dev("/ro")],
        "etc": [Etc("/ro", source=source)],
        "root": [Root("/ro", source=source)],
        "remount": [Tmpfs("/ro"), Remount("/ro")],
        "recursive remount": [Tmpfs("/ro"), Remount("/", recursive=True)],
    }
    ops = earlier[kind]
    target = {"etc": "/.ro.host/new", "root": "/ro/sub/new"}.get(kind, "/ro/new")
    failure = user_sandbox.refusal([*ops, Mkdir(target)], base=False)
    assert failure.reason == f"Read-only file system since op {len(ops) - 1}: {ops[-1]}"
    assert failure.path == target


@pytest.mark.parametrize(
    ("ops", "blamed"),
    [
        ([Tmpfs("/a", writable=False), Remount("/"), Mkdir("/a/new")], 0),
        ([Dev("/dev"), Tmpfs("/other"), Remount("/"), Mkdir("/dev/new")], 0),
        ([Tmpfs("/a"), Remount("/a"), Tmpfs("/a/b"), Remount("/"), Mkdir("/a/new")], 1),
        ([Tmpfs("/a"), Place("/a/file", data=b""), Chmod("/a/file", mode=0o700)], 1),
        ([Place("/file", data=b""), Chmod("/file", mode=0o700)], 0),
        ([Tmpfs("/a", writable=False), Tmpfs("/ab"), Mkdir("/a/new")], 0),
    ],
    ids=["tmpfs", "dev", "remount", "place in a tmpfs", "place", "sibling"],
)
def test_no_other_op_is_blamed(user_sandbox: Sandbox, ops: list[AnyOp], blamed: int) -> None:
    failure = user_sandbox.refusal(ops, base=False)
    assert failure.reason == f"Read-only file system since op {blamed}: {ops[blamed]}"


@pytest.mark.parametrize(
    ("op", "sentence"),
    [
        (Remount("/a"), "remount /a read-only"),
        (Remount("/a", recursive=True), "remount /a read-only, recursively"),
    ],
)
def test_a_remount_says_what_it_does(op: Remount, sentence: str) -> None:
    assert str(op) == sentence


def test_a_target_is_absolute() -> None:
    with pytest.raises(ValueError, match=r"^target 'a' is not absolute$"):
        Remount("a")
