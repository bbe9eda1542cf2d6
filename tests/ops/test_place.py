"""Place on the real kernel."""

import errno
import hashlib
import re
import stat

import pytest

from igaki.ops import AnyOp, Bind, Mkdir, Place, Redacted, Symlink, Tmpfs
from igaki.ops.place import PLACE_MAX
from tests.harness import Sandbox, mount_at

MODES = [0o600, 0o444, 0o640, 0o755, 0o4755, 0]


@pytest.mark.parametrize("writable", [False, True])
def test_a_placed_file_is_a_mount_that_has_its_mode(sandbox: Sandbox, writable: bool) -> None:
    ops = [Place(f"/some/{mode:o}", data=b"data", mode=mode, writable=writable) for mode in MODES]
    report = sandbox.probe(ops, "/some", *(op.target for op in ops))
    assert report["paths"]["/some"]["mode"] == 0o755
    for op in ops:
        seen = report["paths"][op.target]
        assert (seen["kind"], seen["mode"], seen["nlink"]) == ("-", op.mode, 1)
        assert (seen["uid"], seen["gid"]) == (report["uids"][0], report["gids"][0])
        assert seen["content"] == ("data" if op.mode & 0o400 else "EACCES")
        granted = True if writable else "EROFS"
        assert seen["write"] == (granted if op.mode & 0o200 else "EACCES")
        mount = mount_at(report, op.target)
        assert mount["root"].startswith("/placed.")
        assert set(mount["flags"]) >= {"rw" if writable else "ro", "nosuid", "nodev"}


def test_a_placed_file_is_private_and_read_only_by_default(sandbox: Sandbox) -> None:
    report = sandbox.probe([Place("/file", data=b"")], "/file")
    assert report["paths"]["/file"]["mode"] == 0o600
    assert report["paths"]["/file"]["write"] == "EROFS"


def test_a_writable_placed_file_can_be_changed_and_leaves_nothing_on_the_host(sandbox: Sandbox) -> None:
    home = sandbox.directory("home")
    ops: list[AnyOp] = [
        Bind("/home", source=str(home), writable=True),
        Place("/home/a/file", data=b"old", writable=True),
    ]
    outcome = sandbox.run(ops, ["sh", "-ec", "echo new >> /home/a/file; cat /home/a/file; ! rm /home/a/file"])
    assert outcome.stdout == "oldnew\n"
    assert "Device or resource busy" in outcome.stderr
    point = (home / "a" / "file").stat()
    assert (point.st_size, stat.S_IMODE(point.st_mode), point.st_uid) == (0, 0o444, sandbox.uid)
    assert stat.S_IMODE((home / "a").stat().st_mode) == 0o755


def test_each_placed_file_is_another_one(sandbox: Sandbox) -> None:
    ops = [Place(f"/file{number}", data=str(number).encode(), writable=True) for number in range(3)]
    report = sandbox.probe(ops, *(op.target for op in ops))
    assert [seen["content"] for seen in report["paths"].values()] == ["0", "1", "2"]
    assert len({seen["ino"] for seen in report["paths"].values()}) == 3


@pytest.mark.parametrize("copy", [False, True])
@pytest.mark.parametrize("size", [0, 1, 70_000, PLACE_MAX])
def test_the_data_arrives_whole(user_sandbox: Sandbox, size: int, copy: bool) -> None:
    data = bytes(range(251)) * (size // 251) + bytes(size % 251)
    outcome = user_sandbox.run([Place("/file", data=data, copy=copy)], ["sha256sum", "/file"])
    assert outcome.stdout.split()[0] == hashlib.sha256(data).hexdigest()


def test_a_placed_file_covers_the_hosts_and_leaves_it_as_it_is(sandbox: Sandbox) -> None:
    source = sandbox.directory("source")
    path = sandbox.file(source / "file", "the host's")
    ops: list[AnyOp] = [Bind("/data", source=str(source)), Place("/data/file", data=b"placed")]
    assert sandbox.probe(ops, "/data/file")["paths"]["/data/file"]["content"] == "placed"
    assert path.read_text() == "the host's"


@pytest.mark.parametrize("later", [Place("/at", data=b"later"), Bind("/at", source="/dev/null")], ids=str)
def test_a_placed_file_can_be_covered_by_a_later_op(sandbox: Sandbox, later: AnyOp) -> None:
    report = sandbox.probe([Place("/at", data=b"earlier"), later], "/at")
    assert report["paths"]["/at"].get("content") == ("later" if isinstance(later, Place) else None)


def test_a_placed_file_is_mounted_where_symlinks_lead(sandbox: Sandbox) -> None:
    ops: list[AnyOp] = [
        Place("/real/file", data=b"old", copy=True),
        Symlink("/link", to="/real"),
        Symlink("/file", to="../link/file"),
        Place("/file", data=b"new"),
        Place("/link/other", data=b"other"),
    ]
    report = sandbox.probe(ops, "/real/file", "/real/other", "/file")
    assert report["paths"]["/real/file"]["content"] == "new"
    assert report["paths"]["/real/other"]["content"] == "other"
    assert report["paths"]["/file"]["kind"] == "l"


@pytest.mark.parametrize(
    ("before", "target", "number", "reason"),
    [
        (Mkdir("/at"), "/at", errno.EISDIR, "Is a directory"),
        (Tmpfs("/at"), "/at", errno.EISDIR, "Is a directory"),
        (Mkdir("/at"), "/", errno.EISDIR, "Is a directory"),
        (Symlink("/at", to="/"), "/at", errno.EISDIR, "Is a directory"),
        (Symlink("/at", to="x"), "/at", errno.EEXIST, "it is a symlink that leads nowhere in the container"),
        (Place("/at", data=b""), "/at/x", errno.ENOTDIR, "Not a directory"),
    ],
    ids=str,
)
def test_a_target_that_can_be_no_file_is_an_error_with_its_path(
    user_sandbox: Sandbox, before: AnyOp, target: str, *, number: int, reason: str
) -> None:
    failure = user_sandbox.refusal([before, Place(target, data=b"data")], base=False)
    assert (failure.index, failure.phase, failure.errno) == (1, "apply", number)
    assert str(failure) == f"op 1: cannot place 4 bytes at {target} (mode 0600): {reason}: {target!r}"


# As a copy in the tree.


def test_a_copied_file_is_an_ordinary_one_with_its_mode_and_parents_that_grant_no_one_more(sandbox: Sandbox) -> None:
    parents = {0o600: 0o700, 0o644: 0o755, 0o640: 0o750, 0o604: 0o705, 0o4755: 0o755, 0: 0o700}
    ops = [Place(f"/{mode:o}/b/file", data=b"data", mode=mode, copy=True) for mode in parents]
    report = sandbox.probe(ops, *(f"/{mode:o}{below}" for mode in parents for below in ("", "/b", "/b/file")))
    for mode, above in parents.items():
        top, parent, file = (report["paths"][f"/{mode:o}{below}"] for below in ("", "/b", "/b/file"))
        assert (top["mode"], parent["mode"]) == (above, above)
        assert (file["kind"], file["mode"], file["nlink"]) == ("-", mode, 1)
    assert [mount for mount in report["mounts"] if mount["point"].endswith("/file")] == []


def test_a_copied_file_can_be_changed_renamed_and_removed(sandbox: Sandbox) -> None:
    script = "cd /etc; echo new >> file; mv file other; cat other; rm other"
    outcome = sandbox.run([Place("/etc/file", data=b"old", copy=True)], ["sh", "-ec", script])
    assert (outcome.returncode, outcome.stdout) == (0, "oldnew\n"), outcome.stderr


def test_below_a_writable_bind_a_copy_lands_on_the_host(sandbox: Sandbox) -> None:
    home = sandbox.directory("home")
    ops: list[AnyOp] = [
        Bind("/home", source=str(home), writable=True),
        Place("/home/a/file", data=b"x", mode=0o640, copy=True),
    ]
    sandbox.probe(ops)
    assert (home / "a" / "file").read_bytes() == b"x"
    status = (home / "a" / "file").stat()
    assert (stat.S_IMODE(status.st_mode), status.st_uid) == (0o640, sandbox.uid)


@pytest.mark.parametrize("writable", [False, True])
@pytest.mark.parametrize("name", ["file", "link", "dangling", "directory"])
def test_a_copy_replaces_nothing(sandbox: Sandbox, name: str, writable: bool) -> None:
    home = sandbox.directory("home")
    sandbox.directory("home/directory")
    sandbox.file(home / "file", "old")
    (home / "link").symlink_to("file")
    (home / "dangling").symlink_to("new")
    ops: list[AnyOp] = [
        Bind("/home", source=str(home), writable=writable),
        Place(f"/home/{name}", data=b"new", copy=True),
    ]
    failure = sandbox.refusal(ops, base=False)
    assert (failure.index, failure.phase, failure.errno) == (1, "apply", errno.EEXIST)
    assert str(failure) == f"op 1: cannot copy 3 bytes at /home/{name} (mode 0600): File exists: '/home/{name}'"
    assert (home / "file").read_text() == "old"
    assert not (home / "new").exists()


# What the constructor refuses, and what an op is called.


@pytest.mark.parametrize(
    ("fields", "reason"),
    [
        ({"target": "file"}, "target 'file' is not absolute"),
        ({"target": "/", "copy": True}, "the target of a copied file can't be /"),
        ({"mode": 0o10000}, "mode 0o10000 is outside 0-07777"),
        ({"mode": -1}, "mode -0o1 is outside 0-07777"),
        (
            {"copy": True, "writable": True},
            "a copied file is writable where its tree is; `writable` is for a mounted one",
        ),
        (
            {"data": bytes(PLACE_MAX + 1)},
            f"{PLACE_MAX + 1} bytes for /file are more than the {PLACE_MAX} a Place may hold",
        ),
    ],
    ids=["relative", "root", "large mode", "negative mode", "writable copy", "too large"],
)
def test_what_can_not_be_placed_is_refused(fields: dict[str, object], reason: str) -> None:
    with pytest.raises(ValueError, match=f"^{re.escape(reason)}$"):
        Place(**{"target": "/file", "data": b"", **fields})  # type: ignore[arg-type]


def test_a_redacted_file_can_not_be_placed(sandbox: Sandbox) -> None:
    failure = sandbox.refusal([Place("/file", data=Redacted(3, "0" * 64))], base=False)
    assert str(failure) == (
        "op 0: cannot place 3 bytes at /file (mode 0600): the content was left out of the recording"
    )


@pytest.mark.parametrize(
    ("op", "sentence"),
    [
        (Place("/file", data=b"secret"), "place 6 bytes at /file (mode 0600)"),
        (Place("/file", data=b"", mode=0o444, writable=True), "place 0 bytes at /file (mode 0444, writable)"),
        (Place("/file", data=b"x", copy=True), "copy 1 bytes at /file (mode 0600)"),
        (Place("/file", data=Redacted(9, "")), "place 9 bytes at /file (mode 0600)"),
    ],
)
def test_a_place_says_what_it_does_and_not_what_it_holds(op: Place, sentence: str) -> None:
    assert str(op) == sentence
