"""Bind on the real kernel."""

import errno
import os
import re
import socket
import stat
from pathlib import Path
from typing import Any

import pytest

from igaki.ops import AnyOp, Bind, Dev, Etc, Mkdir, Overlay, Place, Proc, Root, Source, Symlink, Tmpfs
from tests.harness import Sandbox, mount_at, system

ODD_NAMES = ["a b", "a\nb", "a\tb", "a,b", "a:b", "a\\b", "a\\040b", "#a", "\"a'", "héé", ",ro", "-a", "$(a)"]
RESTRICTED = {"ro", "nosuid", "nodev"}


def flags(report: dict[str, Any], point: str) -> set[str]:
    return set(mount_at(report, point)["flags"])


@pytest.fixture
def out_of_reach(scratch: Path) -> Path:
    """A directory that the containers' user can't get to, with no capability over its own files either."""
    if os.getuid() != 0:
        return Path("/root/inside")
    inside = scratch / "closed" / "inside"
    inside.mkdir(parents=True)
    inside.parent.chmod(0)
    return inside


def test_a_bind_is_read_only_nosuid_and_nodev_by_default(sandbox: Sandbox) -> None:
    source = sandbox.directory("source")
    sandbox.file(source / "file", "content")
    report = sandbox.probe([Bind("/data", source=str(source))], "/data", "/data/file")
    assert flags(report, "/data") >= RESTRICTED
    assert report["paths"]["/data"]["create"] == "EROFS"
    assert report["paths"]["/data/file"]["content"] == "content"
    assert report["paths"]["/data/file"]["write"] == "EROFS"


def test_a_writable_bind_writes_to_the_host_and_stays_nosuid_and_nodev(sandbox: Sandbox) -> None:
    source = sandbox.directory("source")
    sandbox.file(source / "file", "old")
    ops = [Bind("/data", source=str(source), writable=True), Bind("/file", source=str(source / "file"), writable=True)]
    report = sandbox.probe(ops)
    outcome = sandbox.run(ops, ["sh", "-c", "echo -n one > /data/new; echo -n two > /file"])
    for point in ("/data", "/file"):
        assert flags(report, point) >= {"rw", "nosuid", "nodev"}
    assert (outcome.returncode, outcome.stderr) == (0, "")
    assert (source / "new").read_text() == "one"
    assert (source / "new").stat().st_uid == sandbox.uid
    assert (source / "file").read_text() == "two"


def test_devices_work_only_where_they_are_granted(sandbox: Sandbox) -> None:
    ops = [
        Bind("/neither", source="/dev/null"),
        Bind("/writable", source="/dev/null", writable=True),
        Bind("/devices", source="/dev/null", devices=True),
        Bind("/both", source="/dev/null", devices=True, writable=True),
    ]
    report = sandbox.probe(ops, *(op.target for op in ops))
    assert {path: seen["write"] for path, seen in report["paths"].items()} == {
        "/neither": "EACCES",
        "/writable": "EACCES",
        "/devices": True,
        "/both": True,
    }
    interesting = RESTRICTED | {"rw"}
    assert {op.target: flags(report, op.target) & interesting for op in ops} == {
        "/neither": {"ro", "nosuid", "nodev"},
        "/writable": {"rw", "nosuid", "nodev"},
        "/devices": {"ro", "nosuid"},
        "/both": {"rw", "nosuid"},
    }


def test_whatever_has_a_name_can_be_bound(sandbox: Sandbox) -> None:
    directory = sandbox.directory("source")
    sandbox.directory("source/directory")
    sandbox.file(directory / "file")
    os.mkfifo(directory / "fifo")
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(directory / "socket"))
    kinds = {"directory": "d", "file": "-", "fifo": "p", "socket": "s"}
    ops = [Bind(f"/{name}", source=str(directory / name)) for name in kinds]
    report = sandbox.probe(ops, *(op.target for op in ops))
    assert {name: report["paths"][f"/{name}"]["kind"] for name in kinds} == kinds
    assert {name: report["paths"][f"/{name}"]["ino"] for name in kinds} == {
        name: (directory / name).stat().st_ino for name in kinds
    }


def test_names_may_hold_every_character_but_nul(sandbox: Sandbox) -> None:
    ops: list[AnyOp] = []
    for name in ODD_NAMES:
        sandbox.file(sandbox.directory(f"sources/{name}") / "file", name)
        source = sandbox.directory_root / "sources" / name
        ops += [Bind(f"/to/{name}", source=str(source)), Bind(f"/file/{name}", source=str(source / "file"))]
    inside = [path for name in ODD_NAMES for path in (f"/to/{name}/file", f"/file/{name}")]
    report = sandbox.probe(ops, *inside)
    for name in ODD_NAMES:
        assert report["paths"][f"/to/{name}/file"]["content"] == name
        assert report["paths"][f"/file/{name}"]["content"] == name
        assert flags(report, f"/to/{name}") >= RESTRICTED
        assert flags(report, f"/file/{name}") >= RESTRICTED


# What is mounted below the source.


@pytest.mark.parametrize(("option", "expected", "create"), [("--ro-bind", "ro", "EROFS"), ("--bind", "rw", True)])
@pytest.mark.parametrize(
    "below",
    [
        ["", "sub", "sub/sub"],
        ["home", "home2"],
        ["home2", "home", "home/deep"],
        ["stacked", "stacked", "a b", "a:b,c"],
    ],
    ids=["nested", "siblings", "siblings the other way round", "stacked and oddly named"],
)
def test_every_mount_below_the_source_is_restricted_like_the_bind(
    sandbox: Sandbox, below: list[str], option: str, expected: str, create: object
) -> None:
    top = sandbox.directory("top")
    points = [os.path.normpath(top / name) for name in below]
    prepare = "mount --make-rshared /\n" + "\n".join(
        f"mkdir -p '{point}'; mount -t tmpfs -o mode=777 tmpfs '{point}'" for point in points
    )
    inside = [os.path.normpath(f"/data/{name}") for name in below]
    report = sandbox.probe_in_outer_namespace(prepare, [option, top, "/data"], *inside)
    for point in inside:
        assert flags(report, point) >= {expected, "nosuid", "nodev"}
        assert report["paths"][point]["create"] == create
    assert [mount for mount in report["mounts"] if mount["optional"]] == []


@pytest.mark.parametrize(
    ("option", "expected"), [("--ro-bind", RESTRICTED), ("--bind", {"nosuid", "nodev"}), ("--dev-bind", {"nosuid"})]
)
@pytest.mark.parametrize("locked", ["nosuid,nodev,noexec,noatime", "ro,nodiratime,nosymfollow", "rw,nodev,relatime"])
def test_flags_that_the_source_has_are_kept(sandbox: Sandbox, locked: str, option: str, expected: set[str]) -> None:
    place = sandbox.directory("place")
    prepare = f"mount -t tmpfs -o {locked} tmpfs {place}"
    report = sandbox.probe_in_outer_namespace(prepare, [option, place, "/data"])
    assert flags(report, "/data") >= (set(locked.split(",")) - {"rw"}) | expected


# Where the source is.


@pytest.mark.parametrize("text", ["{directory}/real", "real", "./again", "../{name}/again"])
def test_symlinks_of_the_source_are_resolved_on_the_host(sandbox: Sandbox, text: str) -> None:
    directory = sandbox.directory("source")
    sandbox.file(sandbox.directory("source/real") / "file", "the host's")
    (directory / "again").symlink_to(directory / "real")
    (directory / "link").symlink_to(text.format(directory=directory, name=directory.name))
    decoy = Place(f"{directory}/real/file", data=b"what this path means in the container")
    report = sandbox.probe([decoy, Bind("/data", source=f"{directory}/link")], "/data/file")
    assert report["paths"]["/data/file"]["content"] == "the host's"


def test_a_settled_bind_shows_what_its_source_was_resolved_to(sandbox: Sandbox) -> None:
    real = sandbox.directory("real")
    link = real.with_name("link")
    link.symlink_to("real")
    asked = Bind("/data", source=str(link))
    gone = Bind("/gone", source=f"{link}/gone", optional=True)
    outcome = sandbox.run([asked, gone], report_settled=True)
    status = real.stat()
    first = len(system())
    settled = outcome.settled[first]
    assert isinstance(settled, Bind)
    assert settled.source == str(link)
    assert settled.found == Source(str(real), status.st_dev, status.st_ino, "directory")
    assert outcome.settled[first + 1] is None
    assert len(outcome.settled) == first + 2


@pytest.mark.parametrize("how", ["nothing there", "nothing above it either", "a link to nothing"])
def test_an_optional_bind_of_what_does_not_exist_is_left_out(sandbox: Sandbox, how: str) -> None:
    directory = sandbox.directory("source")
    (directory / "link").symlink_to("nothing")
    name = {"nothing there": "x", "nothing above it either": "x/y/z", "a link to nothing": "link"}[how]
    report = sandbox.probe([Bind("/some/data", source=str(directory / name), optional=True)], "/some")
    assert report["paths"]["/some"] == {"exists": False, "error": "ENOENT"}
    assert not (directory / "x").exists()


def test_an_optional_bind_of_what_exists_is_made(sandbox: Sandbox) -> None:
    source = sandbox.directory("source")
    assert flags(sandbox.probe([Bind("/data", source=str(source), optional=True)]), "/data") >= RESTRICTED


@pytest.mark.parametrize("optional", [False, True])
@pytest.mark.parametrize(
    ("name", "number"),
    [
        ("file/below", errno.ENOTDIR),
        ("loop", errno.ELOOP),
        ("loop/below", errno.ELOOP),
        ("x" * 256, errno.ENAMETOOLONG),
        ("closed", errno.EACCES),
    ],
)
def test_a_source_that_cannot_be_had_is_an_error_optional_or_not(
    sandbox: Sandbox, out_of_reach: Path, name: str, number: int, optional: bool
) -> None:
    directory = sandbox.directory("source")
    sandbox.file(directory / "file")
    (directory / "loop").symlink_to("loop")
    source = str(out_of_reach if name == "closed" else directory / name)
    failure = sandbox.refusal([Bind("/data", source=source, optional=optional)], base=False)
    assert (failure.index, failure.phase, failure.errno, failure.path) == (0, "early", number, source)
    assert str(failure) == f"op 0: cannot bind {source} on /data: {os.strerror(number)}: {source!r}"


def test_a_missing_source_is_named_with_its_target(sandbox: Sandbox) -> None:
    source = f"{sandbox.directory('source')}/missing"
    failure = sandbox.refusal([Tmpfs("/tmp"), Bind("/data", source=source, writable=True)], base=False)
    assert str(failure) == (f"op 1: cannot bind {source} on /data (writable): No such file or directory: {source!r}")


def test_a_source_that_leads_to_a_name_that_is_not_utf_8_is_refused(sandbox: Sandbox) -> None:
    directory = sandbox.directory("source")
    os.mkdir(os.fsencode(directory) + b"/\xff")
    (directory / "link").symlink_to(os.fsdecode(b"\xff"))
    failure = sandbox.refusal([Bind("/data", source=f"{directory}/link")], base=False)
    assert (failure.errno, failure.path) == (errno.EILSEQ, f"{directory}/link")
    assert "is not UTF-8" in failure.reason


def test_ensure_creates_the_source_private_to_its_user(sandbox: Sandbox) -> None:
    directory = sandbox.directory("source")
    ops = [Bind("/data", source=f"{directory}/a/b", ensure=True, writable=True)]
    assert sandbox.probe(ops, "/data")["paths"]["/data"]["create"] is True
    for path in (directory / "a", directory / "a" / "b"):
        assert (stat.S_IMODE(path.stat().st_mode), path.stat().st_uid) == (0o700, sandbox.uid)


def test_ensure_leaves_a_source_that_exists_as_it_is(sandbox: Sandbox) -> None:
    source = sandbox.directory("source", 0o751)
    sandbox.file(source / "file", "content")
    report = sandbox.probe([Bind("/data", source=str(source), ensure=True)], "/data", "/data/file")
    assert report["paths"]["/data"]["mode"] == stat.S_IMODE(source.stat().st_mode) == 0o751
    assert report["paths"]["/data/file"]["content"] == "content"


def test_ensure_says_why_it_cannot_create_the_source(sandbox: Sandbox, out_of_reach: Path) -> None:
    source = str(out_of_reach / "new")
    failure = sandbox.refusal([Bind("/data", source=source, ensure=True)], base=False)
    assert (failure.index, failure.phase, failure.errno) == (0, "early", errno.EACCES)
    assert source.startswith(failure.path)


@pytest.mark.parametrize("option", ["--ro-bind", "--bind"])
def test_a_parent_that_can_be_passed_but_not_read_is_no_obstacle(sandbox: Sandbox, scratch: Path, option: str) -> None:
    outer = scratch / "outer"
    outer.mkdir()
    sandbox.file(sandbox.directory("outer/inner") / "file", "content")
    outer.chmod(0o711)
    writable = option == "--bind"
    report = sandbox.probe(
        [
            Bind("/inner", source=f"{outer}/inner"),
            Bind("/outer", source=str(outer), writable=writable),
            Tmpfs("/outer/inner"),
        ],
        "/inner/file",
        "/outer",
        "/outer/inner",
    )
    assert report["paths"]["/inner/file"]["content"] == "content"
    assert report["paths"]["/outer"]["mode"] == 0o711
    assert report["paths"]["/outer/inner"]["names"] == []


# Where the target is.


def test_missing_parents_of_the_target_are_created_for_all_to_pass(sandbox: Sandbox) -> None:
    source = sandbox.directory("source", 0o700)
    sandbox.file(source / "file")
    ops = [Bind("/a/b/c", source=str(source)), Bind("/x/y/z", source=str(source / "file"))]
    report = sandbox.probe(ops, "/a", "/a/b", "/a/b/c", "/x", "/x/y")
    modes = {path: seen["mode"] for path, seen in report["paths"].items()}
    assert modes == {"/a": 0o755, "/a/b": 0o755, "/a/b/c": 0o700, "/x": 0o755, "/x/y": 0o755}


def test_what_is_missing_below_a_writable_bind_is_created_on_the_host(sandbox: Sandbox) -> None:
    data = sandbox.directory("data")
    other = sandbox.directory("other")
    sandbox.file(other / "file", "content")
    report = sandbox.probe(
        [
            Bind("/data", source=str(data), writable=True),
            Bind("/data/a/b", source=str(other)),
            Bind("/data/file", source=str(other / "file")),
        ],
        "/data/a/b/file",
        "/data/file",
    )
    assert report["paths"]["/data/a/b/file"]["content"] == report["paths"]["/data/file"]["content"] == "content"
    left = {str(path.relative_to(data)): path.stat() for path in data.rglob("*")}
    assert {name: stat.filemode(status.st_mode) for name, status in left.items()} == {
        "a": "drwxr-xr-x",
        "a/b": "drwxr-xr-x",
        "file": "-r--r--r--",
    }
    assert {status.st_uid for status in left.values()} == {sandbox.uid}
    assert left["file"].st_size == 0


@pytest.mark.parametrize("text", ["/run", "../run", "../../../../run", "/other/../run"])
@pytest.mark.parametrize("below", ["", "/new", "/new/er"])
def test_a_target_is_followed_through_symlinks_of_the_container(user_sandbox: Sandbox, text: str, below: str) -> None:
    source = user_sandbox.directory("source")
    ops: list[AnyOp] = [
        Mkdir("/other"),
        Mkdir("/run"),
        Symlink("/var/run", to=text),
        Bind(f"/var/run{below}", source=str(source)),
    ]
    report = user_sandbox.probe(ops, "/run")
    assert flags(report, f"/run{below}") >= RESTRICTED
    assert report["paths"]["/run"]["kind"] == "d"


def test_a_file_is_bound_through_a_symlink_to_a_file(sandbox: Sandbox) -> None:
    source = sandbox.file(sandbox.directory("source") / "file", "content")
    ops: list[AnyOp] = [
        Place("/real", data=b"old", copy=True),
        Symlink("/link", to="/real"),
        Bind("/link", source=str(source)),
    ]
    report = sandbox.probe(ops, "/real", "/link")
    assert report["paths"]["/real"]["content"] == "content"
    assert report["paths"]["/link"]["link"] == "/real"


@pytest.mark.parametrize(
    ("before", "kind", "target", "number", "path"),
    [
        (Mkdir("/at"), "file", "/at", errno.EISDIR, "/at"),
        (Place("/at", data=b""), "directory", "/at", errno.ENOTDIR, "/at"),
        (Place("/at", data=b""), "directory", "/at/x", errno.ENOTDIR, "/at/x"),
        (Place("/at", data=b""), "file", "/at/x", errno.ENOTDIR, "/at/x"),
        (Symlink("/at", to="nothing"), "directory", "/at", errno.EEXIST, "/at"),
        (Symlink("/at", to="nothing"), "file", "/at", errno.EEXIST, "/at"),
        (Symlink("/at", to="nothing"), "file", "/at/x", errno.EEXIST, "/at"),
        (Symlink("/at", to="at"), "directory", "/at", errno.ELOOP, "/at"),
        (Mkdir("/at"), "file", "/", errno.EISDIR, "/"),
    ],
)
def test_a_target_that_does_not_fit_is_an_error_with_its_path(
    user_sandbox: Sandbox, before: AnyOp, kind: str, *, target: str, number: int, path: str
) -> None:
    directory = user_sandbox.directory("source")
    source = directory if kind == "directory" else user_sandbox.file(directory / "file")
    failure = user_sandbox.refusal([before, Bind(target, source=str(source))], base=False)
    assert (failure.index, failure.phase, failure.errno, failure.path) == (1, "apply", number, path)
    reason = "it is a symlink that leads nowhere in the container" if number == errno.EEXIST else os.strerror(number)
    assert str(failure) == f"op 1: cannot bind {source} on {target}: {reason}: {path!r}"


@pytest.mark.parametrize(
    "later",
    [
        Bind("/ro/missing", source="/usr"),
        Bind("/ro/missing", source="/etc/passwd", writable=True),
        Dev("/ro/missing"),
        Etc("/ro/missing", source="/usr/share"),
        Mkdir("/ro/missing"),
        Mkdir("/ro/missing/deep/er"),
        Overlay("/ro/missing", lower=["/usr"], ephemeral=True),
        Overlay("/ro/missing", lower=["/usr", "/opt"]),
        Place("/ro/missing", data=b""),
        Place("/ro/missing", data=b"", copy=True),
        Proc("/ro/missing"),
        Root("/ro/missing", source="/usr"),
        Symlink("/ro/missing", to="x"),
        Tmpfs("/ro/missing"),
    ],
    ids=str,
)
def test_what_an_op_would_create_below_an_earlier_read_only_bind_is_an_error_that_names_both(
    user_sandbox: Sandbox, later: AnyOp
) -> None:
    earlier = Bind("/ro", source=str(user_sandbox.directory("source")))
    failure = user_sandbox.refusal([earlier, later], base=False)
    assert (failure.index, failure.phase, failure.errno) == (1, "apply", errno.EROFS)
    assert str(failure) == f"op 1: cannot {later}: Read-only file system since op 0: {earlier}: '/ro/missing'"


def test_the_op_that_made_a_place_read_only_is_named_through_a_symlink(user_sandbox: Sandbox) -> None:
    earlier = Bind("/run", source=str(user_sandbox.directory("source")))
    failure = user_sandbox.refusal([earlier, Symlink("/var/run", to="/run"), Mkdir("/var/run/x")], base=False)
    assert f"op 0: {earlier}" in failure.reason


def test_a_directory_bound_on_the_root_is_the_root_of_all_that_follows(sandbox: Sandbox) -> None:
    new = sandbox.directory("new")
    sandbox.directory("new/here")
    source = sandbox.directory("source")
    ops = [Bind("/", source=str(new), writable=True), *system(), Mkdir("/made"), Bind("/here", source=str(source))]
    report = sandbox.probe(ops, "/", base=False)
    assert {"here", "made", "usr", "proc", "dev"} <= set(report["paths"]["/"]["names"])
    assert (new / "made").is_dir()
    assert report["paths"]["/"]["ino"] == new.stat().st_ino
    assert flags(report, "/here") >= RESTRICTED


def test_the_hosts_whole_tree_can_be_the_root(sandbox: Sandbox) -> None:
    ops: list[AnyOp] = [Bind("/", source="/"), Proc("/proc"), Dev("/dev"), Tmpfs("/tmp")]
    script = "touch /new; touch /tmp/new && ls -A /tmp /dev/pts; echo $$ > /proc/self/comm; ls -d /proc/[0-9]*"
    outcome = sandbox.run(ops, ["sh", "-c", script], base=False)
    assert "Read-only file system" in outcome.stderr
    assert outcome.stdout.startswith("/dev/pts:\nptmx\n\n/tmp:\nnew\n/proc/1\n")


# What the constructor refuses, and what an op is called.


@pytest.mark.parametrize(
    ("target", "reason"),
    [
        ("", "target '' is not absolute"),
        ("data", "target 'data' is not absolute"),
        ("./data", "target './data' is not absolute"),
        *(
            (path, f"target {path!r} is not normalised")
            for path in ("//", "/a/", "/a//b", "/./a", "/a/.", "/..", "/a/../b")
        ),
        ("/a\0b", "target '/a\\x00b' contains a NUL byte"),
        ("/\udcff", "target '/\\udcff' is not valid UTF-8"),
        ("/" + "x" * 4095, f"target '/{'x' * 39}'… is longer than 4095 bytes"),
        ("/" + "é" * 2048, f"target '/{'é' * 39}'… is longer than 4095 bytes"),
    ],
)
def test_a_target_is_absolute_normalised_utf_8(target: str, reason: str) -> None:
    with pytest.raises(ValueError, match=f"^{re.escape(reason)}"):
        Bind(target, source="/usr")


@pytest.mark.parametrize("target", ["/", "/a", "/...", "/a/..b", "/.a", "/ ", "/é", "/" + "x" * 4094])
def test_other_targets_are_taken_as_they_are(target: str) -> None:
    assert Bind(target, source="/usr").target == target


@pytest.mark.parametrize(
    ("source", "reason"),
    [
        ("data", "source 'data' is not absolute"),
        ("", "source '' is not absolute"),
        ("/a\0", "source '/a\\x00' contains a NUL byte"),
        ("/\udc80", "source '/\\udc80' is not valid UTF-8"),
        ("/" + "x" * 4095, "is longer than 4095 bytes"),
    ],
)
def test_a_source_is_absolute_utf_8(source: str, reason: str) -> None:
    with pytest.raises(ValueError, match=re.escape(reason)):
        Bind("/data", source=source)


def test_a_source_may_have_dots_which_the_host_resolves(sandbox: Sandbox) -> None:
    source = sandbox.directory("source")
    sandbox.directory("other")
    report = sandbox.probe([Bind("/data", source=f"{source}/../other/.././/source/")], "/data")
    assert report["paths"]["/data"]["ino"] == source.stat().st_ino


def test_a_bind_is_not_both_optional_and_ensured() -> None:
    with pytest.raises(ValueError, match=r"^a bind is either optional or ensured, not both$"):
        Bind("/data", source="/data", optional=True, ensure=True)


@pytest.mark.parametrize(
    ("op", "sentence"),
    [
        (Bind("/b", source="/a"), "bind /a on /b"),
        (Bind("/b", source="/a", writable=True), "bind /a on /b (writable)"),
        (Bind("/b", source="/a", devices=True), "bind /a on /b (devices)"),
        (Bind("/b", source="/a", devices=True, writable=True), "bind /a on /b (writable, devices)"),
    ],
)
def test_a_bind_says_what_it_does(op: Bind, sentence: str) -> None:
    assert str(op) == sentence
