"""Mkdir on the real kernel."""

import errno
import re
import stat
import subprocess

import pytest

from igaki.ops import AnyOp, Bind, Mkdir, Place, Symlink, Tmpfs
from tests.harness import Sandbox

MODES = [
    (0o755, 0o755),
    (0o700, 0o700),
    (0o750, 0o750),
    (0o705, 0o705),
    (0o711, 0o755),
    (0o777, 0o755),
    (0o1777, 0o755),
    (0o2755, 0o755),
    (0o4700, 0o700),
    (0, 0o700),
]


def test_a_directory_has_its_mode_and_parents_that_grant_no_one_more(sandbox: Sandbox) -> None:
    ops = [Mkdir(f"/{mode:o}/b/c", mode=mode) for mode, _ in MODES]
    expected = {
        f"/{mode:o}{below}": mode if below == "/b/c" else parents
        for mode, parents in MODES
        for below in ("", "/b", "/b/c")
    }
    report = sandbox.probe(ops, *expected)
    assert {path: oct(seen["mode"]) for path, seen in report["paths"].items()} == {
        path: oct(mode) for path, mode in expected.items()
    }
    assert {seen["uid"] for seen in report["paths"].values()} == {report["uids"][0]}


def test_a_directory_is_0755_by_default(sandbox: Sandbox) -> None:
    assert sandbox.probe([Mkdir("/a")], "/a")["paths"]["/a"]["mode"] == 0o755


def test_modes_do_not_depend_on_the_callers_umask_which_the_program_keeps(sandbox: Sandbox) -> None:
    script = """
        umask 077
        exec $IGAKI run --ro-bind / / --tmpfs /tmp --perms 0777 --dir /tmp/dir/a --perms 0666 --file 0 /tmp/file/b -- \\
            sh -c 'umask; stat -c %a /tmp /tmp/dir /tmp/dir/a /tmp/file /tmp/file/b'
    """
    result = sandbox.in_outer_namespace(script, stdin=subprocess.DEVNULL)
    assert result.stdout.split() == ["0077", "755", "755", "777", "755", "666"], result.stderr


@pytest.mark.parametrize("mode", [0o751, 0o1777])
def test_a_directory_that_exists_keeps_its_mode(sandbox: Sandbox, mode: int) -> None:
    report = sandbox.probe([Mkdir("/a", mode=mode), Mkdir("/a", mode=0o700), Mkdir("/a/b", mode=0o700)], "/a", "/a/b")
    assert [seen["mode"] for seen in report["paths"].values()] == [mode, 0o700]


def test_the_root_and_what_a_read_only_bind_holds_exist_already(sandbox: Sandbox) -> None:
    source = sandbox.directory("source")
    inner = sandbox.directory("source/inner", 0o700)
    report = sandbox.probe([Mkdir("/"), Bind("/a", source=str(source)), Mkdir("/a/inner", mode=0o777)], "/a/inner")
    assert report["paths"]["/a/inner"]["mode"] == stat.S_IMODE(inner.stat().st_mode) == 0o700


def test_below_a_writable_bind_a_directory_is_made_on_the_host(sandbox: Sandbox) -> None:
    home = sandbox.directory("home")
    sandbox.probe([Bind("/home", source=str(home), writable=True), Mkdir("/home/a/b", mode=0o2750)])
    made = [(home / name).stat() for name in ("a", "a/b")]
    assert [stat.S_IMODE(status.st_mode) for status in made] == [0o750, 0o2750]
    assert {status.st_uid for status in made} == {sandbox.uid}


def test_in_a_tmpfs_a_directory_ends_with_the_container(sandbox: Sandbox) -> None:
    report = sandbox.probe([Tmpfs("/tmp", mode=0o1777), Mkdir("/tmp/.X11-unix", mode=0o1777)], "/tmp")
    assert report["paths"]["/tmp"]["names"] == [".X11-unix"]


@pytest.mark.parametrize("text", ["/real", "real", "../../real"])
def test_a_directory_is_made_through_symlinks(user_sandbox: Sandbox, text: str) -> None:
    ops: list[AnyOp] = [Mkdir("/real", mode=0o711), Symlink("/link", to=text), Mkdir("/link"), Mkdir("/link/a/b")]
    report = user_sandbox.probe(ops, "/real", "/real/a", "/link")
    assert report["paths"]["/real"]["mode"] == 0o711
    assert report["paths"]["/real/a"]["names"] == ["b"]
    assert report["paths"]["/link"]["link"] == text


@pytest.mark.parametrize("target", ["/at", "/at/below"])
@pytest.mark.parametrize(
    ("before", "number", "reason"),
    [
        (Place("/at", data=b""), errno.ENOTDIR, "Not a directory"),
        (Symlink("/at", to="x"), errno.EEXIST, "it is a symlink that leads nowhere in the container"),
        (Symlink("/at", to="at"), errno.ELOOP, "Too many levels of symbolic links"),
    ],
    ids=str,
)
def test_what_is_in_the_way_is_named(
    user_sandbox: Sandbox, before: AnyOp, number: int, reason: str, target: str
) -> None:
    failure = user_sandbox.refusal([before, Mkdir(target)], base=False)
    assert (failure.index, failure.phase, failure.errno) == (1, "apply", number)
    assert failure.path in (target, "/at")
    assert str(failure) == f"op 1: cannot make directory {target} (mode 0755): {reason}: {failure.path!r}"


@pytest.mark.parametrize(
    ("target", "mode", "reason"),
    [
        ("a", 0o755, "target 'a' is not absolute"),
        ("/a/", 0o755, "target '/a/' is not normalised: it has an empty, '.' or '..' component"),
        ("/a", -1, "mode -0o1 is outside 0-07777"),
        ("/a", 0o10000, "mode 0o10000 is outside 0-07777"),
    ],
)
def test_what_no_directory_can_be_is_refused(target: str, mode: int, reason: str) -> None:
    with pytest.raises(ValueError, match=f"^{re.escape(reason)}$"):
        Mkdir(target, mode=mode)


@pytest.mark.parametrize(
    ("op", "sentence"),
    [
        (Mkdir("/a"), "make directory /a (mode 0755)"),
        (Mkdir("/a", mode=0o1777), "make directory /a (mode 1777)"),
        (Mkdir("/a", mode=0), "make directory /a (mode 0000)"),
    ],
)
def test_a_directory_says_what_it_does(op: Mkdir, sentence: str) -> None:
    assert str(op) == sentence
