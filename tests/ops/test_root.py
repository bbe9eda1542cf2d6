"""Root on the real kernel."""

import errno
import os
from pathlib import Path

import pytest

from igaki.ops import AnyOp, Bind, Dev, Mkdir, Place, Proc, Root, Symlink, Tmpfs
from tests.harness import PROBE, Sandbox, mount_at, system

LEFT_FREE = ("dev", "etc", "mnt", "proc", "tmp")


def tree(sandbox: Sandbox) -> Path:
    """A directory like /."""
    source = sandbox.directory("tree")
    for name in ("a b", "home", "outside", "outside/inner", *LEFT_FREE):
        sandbox.directory(f"tree/{name}")
        sandbox.file(source / name / "file", name)
    sandbox.file(source / "kernel", "an image")
    links = {
        "link": "home",
        "link-below": "home/file",
        "link-to-link": "link",
        "absolute": str(source / "outside" / "inner"),
        "up": "../tree/outside/inner",
        "free": "tmp",
        "dangling": "nothing",
        "dangling-absolute": "/nothing/there",
    }
    for name, text in links.items():
        (source / name).symlink_to(text)
    return source


def test_every_entry_is_shown_but_those_left_free(sandbox: Sandbox) -> None:
    source = tree(sandbox)
    script = "cd /mirror; ls; cat 'a b/file' home/file kernel outside/inner/file"
    outcome = sandbox.run([Root("/mirror", source=str(source))], ["sh", "-ec", script])
    assert outcome.stdout == (
        "a b\nabsolute\nfree\nhome\nkernel\nlink\nlink-below\nlink-to-link\noutside\nup\na bhomean imageoutside/inner"
    )


def test_a_link_to_another_entry_stays_one_and_any_other_becomes_what_it_names(sandbox: Sandbox) -> None:
    source = tree(sandbox)
    names = ["link", "link-below", "link-to-link", "absolute", "up", "free"]
    report = sandbox.probe([Root("/mirror", source=str(source))], *(f"/mirror/{name}" for name in names))
    seen = {name: report["paths"][f"/mirror/{name}"] for name in names}
    assert {name: seen[name].get("link") for name in names} == {
        "link": "home",
        "link-below": "home/file",
        "link-to-link": "link",
        "absolute": None,
        "up": None,
        "free": None,
    }
    inner = (source / "outside" / "inner").stat().st_ino
    assert [seen[name]["ino"] for name in ("absolute", "up", "free")] == [inner, inner, (source / "tmp").stat().st_ino]


@pytest.mark.parametrize("writable", [False, True])
def test_the_entries_are_read_only_unless_granted(sandbox: Sandbox, writable: bool) -> None:
    source = tree(sandbox)
    names = ["a b", "home", "outside", "absolute", "free"]
    report = sandbox.probe([Root("/mirror", source=str(source), writable=writable)], *(f"/mirror/{n}" for n in names))
    for name in names:
        assert report["paths"][f"/mirror/{name}"]["create"] == (True if writable else "EROFS")
        flags = set(mount_at(report, f"/mirror/{name}")["flags"])
        assert flags >= {"rw" if writable else "ro", "nosuid", "nodev"}


def test_a_writable_mirror_writes_to_the_host_below_its_entries_only(sandbox: Sandbox) -> None:
    source = tree(sandbox)
    before = set(os.listdir(source))
    ops = [Root("/mirror", source=str(source), writable=True)]
    outcome = sandbox.run(ops, ["sh", "-ec", "echo -n new > /mirror/home/new; touch /mirror/new"])
    assert (outcome.returncode, outcome.stderr) == (0, "")
    assert (source / "home" / "new").read_text() == "new"
    assert set(os.listdir(source)) == before


def test_it_mirrors_to_the_root_of_the_container(sandbox: Sandbox) -> None:
    report = sandbox.probe([Root("/", source=str(tree(sandbox)))], "/", "/home/file", "/link-below", "/tmp", "/mnt")
    assert {"a b", "home", "kernel", "link", "outside"} <= set(report["paths"]["/"]["names"])
    assert report["paths"]["/home/file"]["content"] == "home"
    assert not report["paths"]["/tmp"]["exists"]
    assert not report["paths"]["/mnt"]["exists"]


def test_what_is_left_free_has_room_for_other_ops(sandbox: Sandbox) -> None:
    ops: list[AnyOp] = [Root("/", source="/"), Proc("/proc"), Dev("/dev"), Tmpfs("/tmp"), Mkdir("/etc"), Mkdir("/mnt")]
    probe = Place("/probe.py", data=PROBE.read_bytes())
    report = sandbox.probe([*ops, probe], "/", "/etc", "/tmp", "/mnt", "/usr", base=False)
    assert {path: report["paths"][path]["names"] for path in ("/etc", "/tmp", "/mnt")} == {
        "/etc": [],
        "/tmp": [],
        "/mnt": [],
    }
    host = {name for name in os.listdir("/") if Path("/", name).exists()}
    assert set(report["paths"]["/"]["names"]) == {*host, *LEFT_FREE, "probe.py"}
    assert report["paths"]["/usr"]["create"] == "EROFS"


def test_a_mount_below_an_entry_is_shown_and_restricted_with_it(sandbox: Sandbox) -> None:
    source = tree(sandbox)
    prepare = f"mount -t tmpfs -o mode=777 tmpfs {source}/home; mount -t tmpfs tmpfs {source}/tmp"
    report = sandbox.probe_in_outer_namespace(prepare, ["--root", source], "/home")
    assert (report["paths"]["/home"]["names"], report["paths"]["/home"]["create"]) == ([], "EROFS")
    assert set(mount_at(report, "/home")["flags"]) >= {"ro", "nosuid", "nodev"}


def test_a_settled_mirror_shows_what_it_consists_of(sandbox: Sandbox) -> None:
    source = tree(sandbox)
    settled = sandbox.run([Root("/mirror", source=str(source))], report_settled=True).settled[len(system())]
    assert isinstance(settled, Root)
    binds = {op.target: op.found.path for op in settled.expansion if isinstance(op, Bind) and op.found is not None}
    assert binds == {
        "/mirror/a b": f"{source}/a b",
        "/mirror/home": f"{source}/home",
        "/mirror/kernel": f"{source}/kernel",
        "/mirror/outside": f"{source}/outside",
        "/mirror/absolute": f"{source}/outside/inner",
        "/mirror/up": f"{source}/outside/inner",
        "/mirror/free": f"{source}/tmp",
    }
    assert {op.target for op in settled.expansion if isinstance(op, Symlink)} == {
        "/mirror/link",
        "/mirror/link-below",
        "/mirror/link-to-link",
    }


def test_a_name_that_is_not_utf_8_is_left_out_with_a_warning(sandbox: Sandbox) -> None:
    source = sandbox.directory("tree")
    sandbox.directory("tree/home")
    (source / os.fsdecode(b"bad\xff")).mkdir()
    outcome = sandbox.run([Root("/mirror", source=str(source))], ["ls", "/mirror"])
    assert outcome.stdout == "home\n"
    assert outcome.warnings == [f"{source} holds 'bad\\udcff', which is not UTF-8 and is left out"]


@pytest.mark.parametrize(("name", "number"), [("missing", errno.ENOENT), ("file", errno.ENOTDIR)])
def test_a_source_that_is_no_directory_is_an_error_with_its_path(sandbox: Sandbox, name: str, number: int) -> None:
    source = f"{sandbox.directory('source')}/{name}"
    sandbox.file(Path(source).with_name("file"))
    failure = sandbox.refusal([Root("/", source=source)], base=False)
    assert (failure.index, failure.phase, failure.errno) == (0, "early", number)
    assert str(failure) == f"op 0: cannot mirror the entries of {source} at /: {os.strerror(number)}: {source!r}"


def test_an_entry_that_does_not_fit_is_an_error_with_both_paths(sandbox: Sandbox) -> None:
    source = tree(sandbox)
    failure = sandbox.refusal([Place("/home", data=b""), Root("/", source=str(source))], base=False)
    assert (failure.index, failure.phase, failure.errno, failure.path) == (1, "apply", errno.ENOTDIR, "/home")


@pytest.mark.parametrize("source", ["", "tree", "/a\0"])
def test_a_source_is_absolute(source: str) -> None:
    with pytest.raises(ValueError, match=r"^source .* (is not absolute|contains a NUL byte)$"):
        Root("/", source=source)


@pytest.mark.parametrize(
    ("op", "sentence"),
    [
        (Root("/", source="/"), "mirror the entries of / at /"),
        (Root("/a", source="/b", writable=True), "mirror the entries of /b at /a (writable)"),
    ],
)
def test_a_mirror_says_what_it_does(op: Root, sentence: str) -> None:
    assert str(op) == sentence
