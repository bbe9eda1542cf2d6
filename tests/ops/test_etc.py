"""Etc on the real kernel."""

import errno
import os
from pathlib import Path

import pytest

from igaki.ops import AnyOp, Bind, Etc, Mkdir, Place, Symlink, Tmpfs
from tests.harness import Sandbox, mount_at, system


def tree(sandbox: Sandbox) -> Path:
    """A directory like /etc."""
    source = sandbox.directory("etc")
    for name in ("passwd", "group", "shadow", "hosts", "mtab", "a b\nc"):
        sandbox.file(source / name, f"the host's {name}")
    sandbox.directory("etc/ssl")
    sandbox.file(source / "ssl" / "cert.pem", "certificate")
    (source / "ssl" / "link").symlink_to("../hosts")
    (source / "absolute").symlink_to("/usr/bin/env")
    (source / "relative").symlink_to("ssl/cert.pem")
    return source


def test_a_mirror_shows_all_but_passwd_and_group(sandbox: Sandbox) -> None:
    source = tree(sandbox)
    names = ["a b\nc", "absolute", "hosts", "mtab", "relative", "shadow", "ssl"]
    report = sandbox.probe([Etc("/mirror", source=str(source))], "/mirror", *(f"/mirror/{name}" for name in names))
    assert report["paths"]["/mirror"]["names"] == names
    assert report["paths"]["/mirror"]["mode"] == 0o755
    links = {name: report["paths"][f"/mirror/{name}"]["kind"] for name in names}
    assert set(links.values()) == {"l"}
    assert report["paths"]["/mirror/mtab"]["link"] == "/proc/mounts"
    assert report["paths"]["/mirror/hosts"]["link"] == "../.mirror.host/hosts"
    assert set(mount_at(report, "/.mirror.host")["flags"]) >= {"ro", "nosuid", "nodev"}


def test_what_a_mirror_shows_is_the_hosts_and_read_only(sandbox: Sandbox) -> None:
    source = tree(sandbox)
    script = """
        cd /mirror; cat hosts relative ssl/link "$(printf 'a b\\nc')"; test -x absolute; head -c 9 mtab >/dev/null
        ! echo changed > hosts; ! touch ssl/new; touch new
    """
    outcome = sandbox.run([Etc("/mirror", source=str(source))], ["sh", "-ec", script])
    assert outcome.returncode == 0, outcome.stderr
    assert outcome.stdout == "the host's hostscertificatethe host's hoststhe host's a b\nc"
    assert outcome.stderr.count("Read-only file system") == 2
    assert (source / "hosts").read_text() == "the host's hosts"


@pytest.mark.parametrize("name", ["os-release", "ssl/deep/certs"])
def test_a_relative_link_out_of_the_mirrored_directory_leads_where_it_leads_on_the_host(
    sandbox: Sandbox, name: str
) -> None:
    source = sandbox.directory("etc")
    sandbox.directory("etc/ssl/deep")
    (source / name).symlink_to(f"{'../' * (name.count('/') + 1)}usr/bin/env")
    ops = [Etc("/etc", source=str(source))]
    outcome = sandbox.run(ops, ["readlink", "-e", f"/etc/{name}"])
    assert outcome.stdout == "/usr/bin/env\n"


@pytest.mark.parametrize("copy", [False, True])
def test_passwd_and_group_are_free_for_the_containers_own(sandbox: Sandbox, copy: bool) -> None:
    ops: list[AnyOp] = [
        Etc("/mirror", source=str(tree(sandbox))),
        Place("/mirror/passwd", data=b"me", mode=0o444, copy=copy),
        Place("/mirror/group", data=b"us", mode=0o444, copy=copy),
        Place("/mirror/new", data=b"more", copy=copy),
    ]
    report = sandbox.probe(ops, "/mirror/passwd", "/mirror/group", "/mirror/new")
    assert [seen["content"] for seen in report["paths"].values()] == ["me", "us", "more"]


def test_the_hosts_users_are_resolved_where_their_files_are_placed(sandbox: Sandbox) -> None:
    passwd = Place("/etc/passwd", data=f"me:x:{sandbox.uid}:{sandbox.uid}::/:/bin/sh\n".encode(), mode=0o444)
    group = Place("/etc/group", data=f"us:x:{sandbox.uid}:\n".encode(), mode=0o444)
    ops: list[AnyOp] = [Etc("/etc"), passwd, group]
    outcome = sandbox.run([*ops, *system()], ["sh", "-c", "id -un; id -gn; ls /.etc.host/passwd"], base=False)
    assert outcome.stdout == "me\nus\n/.etc.host/passwd\n", outcome.failure


def test_an_entry_of_the_mirror_can_be_covered(sandbox: Sandbox) -> None:
    source = tree(sandbox)
    ops: list[AnyOp] = [
        Etc("/mirror", source=str(source)),
        Place("/mirror/hosts", data=b"own"),
        Tmpfs("/mirror/ssl"),
        Mkdir("/mirror/ssl/own"),
    ]
    report = sandbox.probe(ops, "/mirror/hosts", "/.mirror.host/hosts", "/.mirror.host/ssl")
    assert report["paths"]["/mirror/hosts"]["link"] == "../.mirror.host/hosts"
    assert report["paths"]["/.mirror.host/hosts"]["content"] == "own"
    assert report["paths"]["/.mirror.host/ssl"]["names"] == ["own"]
    assert (source / "hosts").read_text() == "the host's hosts"


def test_a_name_that_is_not_utf_8_is_left_out_with_a_warning(sandbox: Sandbox) -> None:
    source = sandbox.directory("etc")
    sandbox.file(source / "hosts")
    (source / os.fsdecode(b"bad\xff")).touch()
    outcome = sandbox.run([Etc("/mirror", source=str(source))], ["ls", "-A", "/mirror"])
    assert outcome.stdout == "hosts\n"
    assert outcome.warnings == [f"{source} holds 'bad\\udcff', which is not UTF-8 and is left out"]


def test_the_hosts_own_directory_can_be_mirrored(sandbox: Sandbox) -> None:
    outcome = sandbox.run([Etc("/mirror")], ["ls", "-A", "/mirror"])
    names = {*os.listdir("/etc")} - {"passwd", "group"}
    assert set(outcome.stdout.splitlines()) == names
    assert outcome.warnings == []


def test_a_settled_mirror_shows_what_it_consists_of(sandbox: Sandbox) -> None:
    source = tree(sandbox)
    link = source.with_name("link")
    link.symlink_to("etc")
    settled = sandbox.run([Etc("/mirror", source=str(link))], report_settled=True).settled[len(system())]
    assert isinstance(settled, Etc)
    hidden, *links = settled.expansion
    assert isinstance(hidden, Bind)
    assert hidden.found is not None
    assert (hidden.target, hidden.source, hidden.found.path) == ("/.mirror.host", str(link), str(source))
    assert {op.target for op in links} == {
        f"/mirror/{name}" for name in ("a b\nc", "absolute", "hosts", "mtab", "relative", "shadow", "ssl")
    }


def test_what_is_there_already_is_an_error_with_its_path(sandbox: Sandbox) -> None:
    source = tree(sandbox)
    ops: list[AnyOp] = [Place("/etc/hosts", data=b""), Etc("/etc", source=str(source))]
    failure = sandbox.refusal(ops, base=False)
    assert (failure.index, failure.phase, failure.errno) == (1, "apply", errno.EEXIST)
    assert str(failure) == f"op 1: cannot mirror {source} at /etc: File exists: '/etc/hosts'"


def test_mirroring_twice_changes_nothing(sandbox: Sandbox) -> None:
    etc = Etc("/mirror", source=str(tree(sandbox)))
    report = sandbox.probe([etc, etc], "/mirror/hosts")
    assert report["paths"]["/mirror/hosts"]["link"] == "../.mirror.host/hosts"


@pytest.mark.parametrize(("name", "number"), [("missing", errno.ENOENT), ("file", errno.ENOTDIR)])
def test_a_source_that_is_no_directory_is_an_error_with_its_path(sandbox: Sandbox, name: str, number: int) -> None:
    source = f"{sandbox.directory('source')}/{name}"
    sandbox.file(Path(source).with_name("file"))
    failure = sandbox.refusal([Etc("/mirror", source=source)], base=False)
    assert (failure.index, failure.phase, failure.errno) == (0, "early", number)
    assert str(failure) == f"op 0: cannot mirror {source} at /mirror: {os.strerror(number)}: {source!r}"


def test_a_mirror_is_made_through_a_symlink(sandbox: Sandbox) -> None:
    ops: list[AnyOp] = [Mkdir("/real"), Symlink("/link", to="/real"), Etc("/link", source=str(tree(sandbox)))]
    assert "hosts" in sandbox.probe(ops, "/real")["paths"]["/real"]["names"]


@pytest.mark.parametrize(
    ("fields", "reason"),
    [
        ({"target": "/"}, r"^the target of etc can't be /$"),
        ({"target": "etc"}, r"^target 'etc' is not absolute$"),
        ({"source": "etc"}, r"^source 'etc' is not absolute$"),
    ],
)
def test_what_can_not_be_mirrored_is_refused(fields: dict[str, str], reason: str) -> None:
    with pytest.raises(ValueError, match=reason):
        Etc(fields.get("target", "/etc"), source=fields.get("source", "/etc"))


@pytest.mark.parametrize(
    ("op", "sentence"), [(Etc("/etc"), "mirror /etc at /etc"), (Etc("/a", source="/b"), "mirror /b at /a")]
)
def test_a_mirror_says_what_it_does(op: Etc, sentence: str) -> None:
    assert str(op) == sentence
