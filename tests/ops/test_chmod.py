"""Chmod on the real kernel."""

import errno
import re
import stat

import pytest

from igaki.ops import AnyOp, Bind, Chmod, Mkdir, Place, Symlink, Tmpfs
from tests.harness import Sandbox

MODES = [0, 0o400, 0o711, 0o755, 0o1777, 0o2755, 0o4755, 0o7777]


def test_a_directory_a_file_and_a_mount_get_the_mode(sandbox: Sandbox) -> None:
    ops: list[AnyOp] = []
    expected: dict[str, int] = {}
    for mode in MODES:
        made: list[AnyOp] = [
            Mkdir(f"/{mode:o}/directory"),
            Tmpfs(f"/{mode:o}/tmpfs"),
            Place(f"/{mode:o}/copied", data=b"", copy=True),
            Place(f"/{mode:o}/placed", data=b"", writable=True),
        ]
        ops += [*made, *(Chmod(op.target, mode=mode) for op in made)]
        expected |= {op.target: mode for op in made}
    report = sandbox.probe(ops, *expected)
    assert {path: oct(seen["mode"]) for path, seen in report["paths"].items()} == {
        path: oct(mode) for path, mode in expected.items()
    }


def test_the_root_can_be_changed(sandbox: Sandbox) -> None:
    assert sandbox.probe([Chmod("/", mode=0o711)], "/")["paths"]["/"]["mode"] == 0o711


@pytest.mark.parametrize("name", ["file", "directory"])
def test_below_a_writable_bind_it_is_the_hosts(sandbox: Sandbox, name: str) -> None:
    home = sandbox.directory("home")
    sandbox.file(home / "file")
    sandbox.directory("home/directory")
    sandbox.probe([Bind("/home", source=str(home), writable=True), Chmod(f"/home/{name}", mode=0o701)])
    assert {path.name: stat.S_IMODE(path.stat().st_mode) for path in home.iterdir()} == {
        "file": 0o644,
        "directory": 0o755,
    } | {name: 0o701}


@pytest.mark.parametrize("text", ["/real/file", "real/file", "../../real/file"])
def test_symlinks_are_followed_inside_the_container(sandbox: Sandbox, text: str) -> None:
    ops: list[AnyOp] = [Place("/real/file", data=b"", copy=True), Symlink("/link", to=text), Chmod("/link", mode=0o640)]
    report = sandbox.probe(ops, "/real/file", "/link")
    assert report["paths"]["/real/file"]["mode"] == 0o640
    assert report["paths"]["/link"]["kind"] == "l"


def test_below_a_read_only_bind_it_is_an_error_that_names_both_ops(sandbox: Sandbox) -> None:
    source = sandbox.directory("source")
    path = sandbox.file(source / "file")
    bind = Bind("/data", source=str(source))
    failure = sandbox.refusal([bind, Chmod("/data/file", mode=0o777)], base=False)
    assert (failure.index, failure.phase, failure.errno) == (1, "apply", errno.EROFS)
    assert str(failure) == (
        f"op 1: cannot change the mode of /data/file to 0777: Read-only file system since op 0: {bind}: '/data/file'"
    )
    assert stat.S_IMODE(path.stat().st_mode) == 0o644


def test_a_file_of_another_user_is_not_changed(sandbox: Sandbox) -> None:
    device = Bind("/null", source="/dev/null", writable=True)
    failure = sandbox.refusal([device, Chmod("/null", mode=0o777)], base=False)
    assert str(failure) == "op 1: cannot change the mode of /null to 0777: Operation not permitted: '/null'"


@pytest.mark.parametrize("before", [[], [Symlink("/missing", to="nothing")]], ids=["nothing", "a link to nothing"])
def test_what_is_missing_is_an_error_with_its_path(sandbox: Sandbox, before: list[AnyOp]) -> None:
    failure = sandbox.refusal([*before, Chmod("/missing", mode=0o700)], base=False)
    assert (failure.index, failure.phase, failure.errno) == (len(before), "apply", errno.ENOENT)
    assert str(failure).endswith("cannot change the mode of /missing to 0700: No such file or directory: '/missing'")


@pytest.mark.parametrize(
    ("target", "mode", "reason"),
    [
        ("a", 0o755, "target 'a' is not absolute"),
        ("/a", -1, "mode -0o1 is outside 0-07777"),
        ("/a", 0o10000, "mode 0o10000 is outside 0-07777"),
    ],
)
def test_what_can_not_be_set_is_refused(target: str, mode: int, reason: str) -> None:
    with pytest.raises(ValueError, match=f"^{re.escape(reason)}$"):
        Chmod(target, mode=mode)


@pytest.mark.parametrize(("mode", "text"), [(0o700, "0700"), (0o1777, "1777"), (0, "0000")])
def test_a_chmod_says_what_it_does(mode: int, text: str) -> None:
    assert str(Chmod("/a", mode=mode)) == f"change the mode of /a to {text}"
