"""Symlink on the real kernel."""

import errno
import os
import re

import pytest

from igaki.ops import AnyOp, Bind, Mkdir, Place, Symlink, Tmpfs
from tests.harness import Sandbox, system


def test_a_link_says_its_text_and_nothing_is_resolved(sandbox: Sandbox) -> None:
    texts = ["relative", "/absolute", "../up", ".", "nothing/ here\n", "é\\,:", "x" * 4095]
    links = {f"/some/where/{number}": text for number, text in enumerate(texts)}
    ops = [Symlink(target, to=text) for target, text in links.items()]
    seen = sandbox.probe(ops, *links, "/some", "/some/where")["paths"]
    assert {path: (seen[path]["kind"], seen[path]["link"]) for path in links} == {
        path: ("l", text) for path, text in links.items()
    }
    assert (seen["/some"]["mode"], seen["/some/where"]["mode"]) == (0o755, 0o755)


def test_a_link_that_says_so_already_is_left_alone(sandbox: Sandbox) -> None:
    home = sandbox.directory("home")
    (home / "link").symlink_to("text")
    before = (home / "link").lstat()
    for writable in (False, True):
        ops: list[AnyOp] = [Bind("/home", source=str(home), writable=writable), Symlink("/home/link", to="text")]
        assert sandbox.probe(ops, "/home/link")["paths"]["/home/link"]["link"] == "text"
    after = (home / "link").lstat()
    assert (after.st_ino, after.st_ctime_ns) == (before.st_ino, before.st_ctime_ns)


@pytest.mark.parametrize(
    "before",
    [
        Symlink("/at", to="other"),
        Symlink("/at", to="/to"),
        Mkdir("/at"),
        Place("/at", data=b""),
        Tmpfs("/at"),
    ],
    ids=str,
)
def test_anything_else_there_is_an_error_with_its_path(user_sandbox: Sandbox, before: AnyOp) -> None:
    failure = user_sandbox.refusal([before, Symlink("/at", to="to")], base=False)
    assert (failure.index, failure.phase, failure.errno) == (1, "apply", errno.EEXIST)
    assert str(failure) == "op 1: cannot link /at to to: File exists: '/at'"


@pytest.mark.parametrize(
    ("before", "number"),
    [
        (Place("/at", data=b""), errno.ENOTDIR),
        (Symlink("/at", to="x"), errno.EEXIST),
        (Symlink("/at", to="at"), errno.ELOOP),
    ],
    ids=str,
)
def test_a_parent_that_is_no_directory_is_an_error(user_sandbox: Sandbox, before: AnyOp, number: int) -> None:
    failure = user_sandbox.refusal([before, Symlink("/at/link", to="to")], base=False)
    assert (failure.index, failure.phase, failure.errno, failure.path) == (1, "apply", number, "/at")


def test_a_link_below_a_writable_bind_is_made_on_the_host(sandbox: Sandbox) -> None:
    home = sandbox.directory("home")
    sandbox.probe([Bind("/home", source=str(home), writable=True), Symlink("/home/a/link", to="/text")])
    assert os.readlink(home / "a" / "link") == "/text"


def test_a_link_is_made_through_links(sandbox: Sandbox) -> None:
    ops: list[AnyOp] = [Mkdir("/run"), Symlink("/var/run", to="../run"), Symlink("/var/run/link", to="text")]
    assert sandbox.probe(ops, "/run/link")["paths"]["/run/link"]["link"] == "text"


def test_a_dereferenced_link_has_the_text_of_the_hosts_one_level_deep(sandbox: Sandbox) -> None:
    directory = sandbox.directory("source")
    (directory / "one").symlink_to("two")
    (directory / "two").symlink_to("/nothing/there")
    asked = Symlink("/link", to=f"{directory}/one", dereference=True)
    outcome = sandbox.run([asked], ["readlink", "/link"], report_settled=True)
    assert outcome.stdout == "two\n"
    assert outcome.settled[len(system())] == Symlink("/link", to="two")


@pytest.mark.parametrize(("name", "number"), [("file", errno.EINVAL), ("missing", errno.ENOENT), ("bad", errno.EILSEQ)])
def test_what_can_not_be_dereferenced_is_an_error_with_its_path(sandbox: Sandbox, name: str, number: int) -> None:
    directory = sandbox.directory("source")
    sandbox.file(directory / "file")
    (directory / "bad").symlink_to(os.fsdecode(b"\xff"))
    failure = sandbox.refusal([Symlink("/link", to=f"{directory}/{name}", dereference=True)], base=False)
    assert (failure.index, failure.phase, failure.errno, failure.path) == (0, "early", number, f"{directory}/{name}")
    assert str(failure).startswith(f"op 0: cannot link /link to what is in {directory}/{name}: ")


@pytest.mark.parametrize(
    ("fields", "reason"),
    [
        ({"target": "link"}, "target 'link' is not absolute"),
        ({"target": "/"}, "the target of a symlink can't be /"),
        ({"to": ""}, "a symlink to nowhere: its text is empty"),
        ({"dereference": True}, "'to' is not absolute, as the host's symlink to read must be"),
        ({"to": "a\0"}, "symlink text 'a\\x00' contains a NUL byte"),
        ({"to": "\udcff"}, "symlink text '\\udcff' is not valid UTF-8, which a stream of ops requires"),
        ({"to": "x" * 4096}, f"symlink text '{'x' * 40}'… is longer than 4095 bytes"),
        ({"to": "é" * 2048}, f"symlink text '{'é' * 40}'… is longer than 4095 bytes"),
    ],
)
def test_what_no_link_can_be_is_refused(fields: dict[str, object], reason: str) -> None:
    with pytest.raises(ValueError, match=f"^{re.escape(reason)}$"):
        Symlink(**{"target": "/link", "to": "to", **fields})  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("op", "sentence"),
    [
        (Symlink("/bin", to="usr/bin"), "link /bin to usr/bin"),
        (Symlink("/bin", to="/bin", dereference=True), "link /bin to what is in /bin"),
    ],
)
def test_a_link_says_what_it_does(op: Symlink, sentence: str) -> None:
    assert str(op) == sentence
