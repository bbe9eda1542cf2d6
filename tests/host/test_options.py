"""The command line of `igaki run`: every option becomes the right op or the right word about the program, in order."""

import os
from collections.abc import Callable
from pathlib import Path

import pytest
from msgspec.structs import replace

from igaki.host.options import GROUPS, OPTIONS, Request, UsageError, parse
from igaki.ops import (
    AnyOp,
    Bind,
    Chmod,
    Dev,
    Etc,
    Mkdir,
    Namespaces,
    Octets,
    Origin,
    Overlay,
    Place,
    Plan,
    Proc,
    Remount,
    Root,
    Setup,
    Symlink,
    Tmpfs,
)
from igaki.ops.place import PLACE_MAX


@pytest.fixture
def holding() -> Callable[[bytes], str]:
    """Makes a descriptor that holds some bytes, and gives its number as text. The options close what they read."""

    def hold(data: bytes) -> str:
        fd = os.memfd_create("test", 0)  # without close-on-exec, as what a caller passes
        os.write(fd, data)
        os.lseek(fd, 0, os.SEEK_SET)
        return str(fd)

    return hold


def bare(op: AnyOp) -> AnyOp:
    return replace(op, origin=None)


def ops_of(*words: str) -> list[AnyOp]:
    """The ops of a command line, without their origins."""
    return [bare(op) for op in parse([*words, "--", "true"]).ops]


def plan_of(*words: str) -> Plan:
    return parse([*words, "--ro-bind", "/", "/", "--", "true"]).plan()


def layers(*sources: str) -> list[str]:
    return [word for source in sources for word in ("--overlay-src", source)]


OP_OPTIONS: dict[str, tuple[list[str], AnyOp]] = {
    "--ro-bind": (["/s", "/t"], Bind("/t", source="/s")),
    "--bind": (["/s", "/t"], Bind("/t", source="/s", writable=True)),
    "--dev-bind": (["/s", "/t"], Bind("/t", source="/s", writable=True, devices=True)),
    "--ro-bind-try": (["/s", "/t"], Bind("/t", source="/s", optional=True)),
    "--bind-try": (["/s", "/t"], Bind("/t", source="/s", writable=True, optional=True)),
    "--dev-bind-try": (["/s", "/t"], Bind("/t", source="/s", writable=True, devices=True, optional=True)),
    "--root": (["/srv"], Root("/", source="/srv")),
    "--etc": (["/usr"], Etc("/etc", source="/usr")),
    "--proc": (["/proc"], Proc("/proc")),
    "--dev": (["/dev"], Dev("/dev", writable=True)),
    "--tmpfs": (["/t"], Tmpfs("/t")),
    "--dir": (["/t"], Mkdir("/t")),
    "--symlink": (["../x", "/t"], Symlink("/t", to="../x")),
    "--chmod": (["1750", "/t"], Chmod("/t", mode=0o1750)),
    "--remount-ro": (["/t"], Remount("/t")),
}

OVERLAYS: dict[str, tuple[list[str], list[str], AnyOp]] = {
    "--overlay": (
        layers("/low", "/high"),
        ["/u", "/w", "/t"],
        Overlay("/t", lower=["/high", "/low"], upper="/u", work="/w"),
    ),
    "--tmp-overlay": (layers("/low", "/high"), ["/t"], Overlay("/t", lower=["/high", "/low"], ephemeral=True)),
    "--ro-overlay": (layers("/low", "/high"), ["/t"], Overlay("/t", lower=["/high", "/low"])),
}

DATA_OPTIONS: dict[str, AnyOp] = {
    "--file": Place("/t", data=b"x\0\xff", mode=0o666, copy=True),
    "--bind-data": Place("/t", data=b"x\0\xff", mode=0o600, writable=True),
    "--ro-bind-data": Place("/t", data=b"x\0\xff", mode=0o600),
}

SETTINGS: dict[str, tuple[list[str], Callable[[Plan], object], object]] = {
    "--setenv": (["A", "b=c"], lambda plan: plan.setup.env.get("A"), "b=c"),
    "--unsetenv": (["PATH"], lambda plan: "PATH" in plan.setup.env, False),
    "--clearenv": ([], lambda plan: plan.setup.env, {}),
    "--chdir": (["/x//y/./"], lambda plan: (plan.setup.cwd, plan.setup.cwd_else), ("/x/y", [])),
    "--hostname": (["box"], lambda plan: plan.setup.hostname, "box"),
    "--uid": (["0"], lambda plan: plan.namespaces, Namespaces(uid=0)),
    "--gid": (["4294967294"], lambda plan: plan.namespaces, Namespaces(gid=2**32 - 2)),
    "--share-net": ([], lambda plan: plan.namespaces, Namespaces(share_net=True)),
    "--host-root": ([], lambda plan: plan.namespaces, Namespaces(host_root=True)),
    "--linger": (["2.5"], lambda plan: plan.setup.linger, 2.5),
}

REQUESTS: dict[str, tuple[list[str], Callable[[Request], object], object]] = {
    "--cwd": (["rw"], lambda request: request.cwd_mode, "rw"),
    "--dry-run": ([], lambda request: request.dry_run, True),
    "--record": (["/x"], lambda request: request.record, "/x"),
    "--record-secrets": ([], lambda request: request.record_secrets, True),
}

ELSEWHERE = {"--args", "--overlay-src", "--perms", "--size"}


def test_every_option_is_tried_here() -> None:
    assert {*OP_OPTIONS, *OVERLAYS, *DATA_OPTIONS, *SETTINGS, *REQUESTS, *ELSEWHERE} == set(OPTIONS)
    assert [name for group in GROUPS.values() for name in group] == list(OPTIONS)


@pytest.mark.parametrize(("name", "operands", "op"), [(name, *each) for name, each in OP_OPTIONS.items()])
def test_an_option_about_files_becomes_its_op(name: str, operands: list[str], op: AnyOp) -> None:
    assert ops_of(name, *operands) == [op]


@pytest.mark.parametrize(
    ("name", "before", "operands", "op"), [(name, *each) for name, each in OVERLAYS.items()], ids=OVERLAYS
)
def test_an_overlay_takes_the_layers_before_it(name: str, before: list[str], operands: list[str], op: AnyOp) -> None:
    assert ops_of(*before, name, *operands) == [op]


@pytest.mark.parametrize(("name", "op"), DATA_OPTIONS.items())
def test_data_is_read_from_its_descriptor_which_is_closed(
    holding: Callable[[bytes], str], name: str, op: AnyOp
) -> None:
    fd = holding(b"x\0\xff")
    assert ops_of(name, fd, "/t") == [op]
    with pytest.raises(OSError, match="Bad file descriptor"):
        os.fstat(int(fd))


@pytest.mark.parametrize(
    ("name", "operands", "look", "value"), [(name, *each) for name, each in SETTINGS.items()], ids=SETTINGS
)
def test_an_option_about_the_program_reaches_the_plan(
    name: str, operands: list[str], look: Callable[[Plan], object], value: object
) -> None:
    assert look(plan_of()) != value
    assert look(plan_of(name, *operands)) == value


@pytest.mark.parametrize(
    ("name", "operands", "look", "value"), [(name, *each) for name, each in REQUESTS.items()], ids=REQUESTS
)
def test_an_option_about_what_happens_is_noted(
    name: str, operands: list[str], look: Callable[[Request], object], value: object
) -> None:
    assert look(parse(["true"])) != value
    assert look(parse([name, *operands, "true"])) == value


def test_ops_stand_in_the_order_of_their_options() -> None:
    words = [word for name, (operands, _) in OP_OPTIONS.items() for word in (name, *operands)]
    assert ops_of(*words) == [op for _, op in OP_OPTIONS.values()]
    assert ops_of("--dir", "/a", "--tmpfs", "/b", "--dir", "/a") == [Mkdir("/a"), Tmpfs("/b"), Mkdir("/a")]


@pytest.mark.parametrize("name", OP_OPTIONS)
def test_an_op_knows_the_option_that_it_comes_from(name: str) -> None:
    assert [op.origin for op in parse([name, *OP_OPTIONS[name][0], "true"]).ops] == [Origin(name)]


@pytest.mark.parametrize(
    ("words", "argv"),
    [
        (["true"], ["true"]),
        (["--", "true"], ["true"]),
        (["--", "--", "x"], ["--", "x"]),
        (["--dir", "/a", "ls", "--dir", "/b", "--", "-l"], ["ls", "--dir", "/b", "--", "-l"]),
        (["--", "-x", ""], ["-x", ""]),
        (["--setenv", "--", "x", "true"], ["true"]),
    ],
)
def test_what_follows_the_options_is_the_command(words: list[str], argv: list[str]) -> None:
    assert parse(words).argv == argv


@pytest.mark.parametrize(
    ("words", "op"),
    [
        (["--perms", "0700", "--dir", "/t"], Mkdir("/t", mode=0o700)),
        (["--perms", "1777", "--tmpfs", "/t"], Tmpfs("/t", mode=0o1777)),
        (["--size", "4096", "--tmpfs", "/t"], Tmpfs("/t", size=4096)),
        (["--size", "4096", "--perms", "700", "--tmpfs", "/t"], Tmpfs("/t", size=4096, mode=0o700)),
        (["--perms", "700", "--size", "4096", "--tmpfs", "/t"], Tmpfs("/t", size=4096, mode=0o700)),
    ],
)
def test_a_modifier_changes_the_next_op(words: list[str], op: AnyOp) -> None:
    assert ops_of(*words) == [op]


@pytest.mark.parametrize(("name", "op"), DATA_OPTIONS.items())
def test_the_permissions_of_data_can_be_said(holding: Callable[[bytes], str], name: str, op: Place) -> None:
    assert ops_of("--perms", "0444", name, holding(b"x\0\xff"), "/t") == [replace(op, mode=0o444)]


def test_a_modifier_is_used_once() -> None:
    assert ops_of("--perms", "0700", "--dir", "/a", "--dir", "/b") == [Mkdir("/a", mode=0o700), Mkdir("/b")]
    assert ops_of(*layers("/l"), "--tmp-overlay", "/a", *layers("/m"), "--tmp-overlay", "/b") == [
        Overlay("/a", lower=["/l"], ephemeral=True),
        Overlay("/b", lower=["/m"], ephemeral=True),
    ]


@pytest.mark.parametrize("modifier", [["--perms", "700"], ["--size", "1"], ["--overlay-src", "/l"]], ids=" ".join)
@pytest.mark.parametrize(
    "rest", [[], ["--proc", "/p"], ["--ro-bind", "/a", "/b"], ["--symlink", "a", "/b"]], ids=["end", "p", "b", "s"]
)
def test_a_modifier_that_nothing_uses_is_refused(modifier: list[str], rest: list[str]) -> None:
    with pytest.raises(UsageError, match=f"^{modifier[0]} must stand before"):
        parse([*modifier, *rest, "true"]).plan()


@pytest.mark.parametrize(("modifier", "option"), [("--size", "--dir"), ("--overlay-src", "--tmpfs")])
def test_a_modifier_is_refused_before_an_op_that_has_others(modifier: str, option: str) -> None:
    with pytest.raises(UsageError, match=f"^{modifier} must stand before .*{option}$"):
        parse([modifier, "1", option, "/t", "true"])


@pytest.mark.parametrize(
    ("words", "ops"),
    [
        (["--etc", "true"], [Etc("/etc")]),
        (["--etc", "--proc", "/proc", "true"], [Etc("/etc"), Proc("/proc")]),
        (["--etc", "--", "/usr"], [Etc("/etc")]),
        (["--etc", "/usr", "true"], [Etc("/etc", source="/usr")]),
        (["--etc=/nonexistent", "true"], [Etc("/etc", source="/nonexistent")]),
    ],
    ids=lambda value: " ".join(map(str, value)),
)
def test_the_source_of_etc_can_be_left_out(words: list[str], ops: list[AnyOp]) -> None:
    assert [bare(op) for op in parse(words).ops] == ops


def test_an_option_of_one_operand_takes_it_after_an_equals_sign() -> None:
    assert ops_of("--dir=/a=b", "--perms=700", "--tmpfs=/t") == [Mkdir("/a=b"), Tmpfs("/t", mode=0o700)]


def test_a_relative_source_is_below_the_working_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert ops_of("--ro-bind", "a", "/t") == [Bind("/t", source=f"{tmp_path}/a")]
    assert ops_of("--root=.") == [Root("/", source=f"{tmp_path}/.")]
    assert ops_of("--overlay-src", "l", "--overlay", "u", "w", "/t") == [
        Overlay("/t", lower=[f"{tmp_path}/l"], upper=f"{tmp_path}/u", work=f"{tmp_path}/w")
    ]


def test_an_absolute_source_needs_no_working_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    gone = tmp_path / "gone"
    gone.mkdir()
    monkeypatch.chdir(gone)
    gone.rmdir()
    assert ops_of("--ro-bind", "/s", "/t") == [Bind("/t", source="/s")]


@pytest.mark.parametrize("target", ["/a//b", "/a/./b", "/a/b/", "//a/b"])
def test_what_means_nothing_in_a_target_is_dropped(target: str) -> None:
    assert ops_of("--dir", target) == [Mkdir("/a/b")]


def test_arguments_from_a_descriptor_stand_where_it_is_named(holding: Callable[[bytes], str]) -> None:
    fd = holding(b"--dir\0/b\0--setenv\0A\0two\nlines \xff\0")
    request = parse(["--dir", "/a", "--args", fd, "--dir", "/c", "true"])
    assert [op.target for op in request.ops] == ["/a", "/b", "/c"]
    assert request.plan().setup.env["A"] == Octets(b"two\nlines \xff")
    assert request.argv == ["true"]


@pytest.mark.parametrize(
    ("data", "argv"),
    [
        (b"", ["true"]),
        (b"--", ["true"]),
        (b"--dir\0/a\0--\0ls\0-l\0", ["ls", "-l", "true"]),
        (b"ls\0\0", ["ls", "", "true"]),
    ],
)
def test_arguments_from_a_descriptor_may_end_the_options(
    holding: Callable[[bytes], str], data: bytes, argv: list[str]
) -> None:
    assert parse(["--args", holding(data), "true"]).argv == argv


def test_descriptors_named_by_arguments_of_a_descriptor_are_read_too(holding: Callable[[bytes], str]) -> None:
    inner = holding(b"--dir\0/b")
    assert ops_of("--args", holding(f"--args\0{inner}\0".encode()), "--dir", "/c") == [Mkdir("/b"), Mkdir("/c")]


WRONG: dict[str, tuple[list[str], str]] = {
    "nothing": ([], "no command"),
    "no command": (["--dir", "/a"], "no command"),
    "an empty command": (["--", ""], "no command"),
    "one operand of two": (["--bind", "/a"], "--bind needs SRC DST"),
    "an unknown option": (["--ro-bnd", "/a", "/b", "true"], "unknown option --ro-bnd; did you mean --ro-bind?"),
    "an unknown option like none": (["--qqqqqqqqq"], "unknown option --qqqqqqqqq"),
    "a short option": (["-v"], "unknown option -v"),
    "a dash": (["-"], "unknown option -"),
    "a value for a flag": (["--share-net=1", "true"], "--share-net takes no value"),
    "a value for two": (["--bind=/a", "/b", "true"], "--bind takes SRC DST"),
    "a relative target": (["--dir", "a", "true"], "--dir a: target 'a' is not absolute"),
    "an empty target": (["--dir", "", "true"], "not absolute"),
    "a target with ..": (["--dir", "/a/../b", "true"], "not normalised"),
    "a target that is not UTF-8": (["--dir", "/\udcff", "true"], "not valid UTF-8"),
    "a source that is not UTF-8": (["--bind", "/\udcff", "/b", "true"], "not valid UTF-8"),
    "an empty source": (["--bind", "", "/b", "true"], "a source is empty"),
    "an empty symlink": (["--symlink", "", "/b", "true"], "empty"),
    "permissions that are no number": (["--perms", "rwx", "true"], "'rwx' is not a number in octal"),
    "permissions in decimal": (["--perms", "0o80", "true"], "octal"),
    "permissions out of range": (["--perms", "17777", "true"], "17777 is outside 0-7777"),
    "a mode out of range": (["--chmod", "10000", "/a", "true"], "10000 is outside 0-7777"),
    "a mode with a sign": (["--chmod", "-1", "/a", "true"], "'-1' is not a number in octal"),
    "a size that is no number": (["--size", "4k", "true"], "'4k' is not a number"),
    "a size of nothing": (["--size", "0", "true"], "0 is outside"),
    "too large a size": (["--size", str(2**63), "true"], "outside"),
    "an id that is no number": (["--uid", "root", "true"], "'root' is not a number"),
    "an id that nobody can have": (["--gid", str(2**32 - 1), "true"], "outside"),
    "a descriptor that is no number": (["--file", "x", "/a", "true"], "'x' is not a number"),
    "a descriptor that is closed": (["--file", "999", "/a", "true"], "Bad file descriptor"),
    "arguments from one that is closed": (["--args", "999", "true"], "--args 999: Bad file descriptor"),
    "another cwd": (["--cwd", "r", "true"], "the mode is ro, rw or none"),
    "a time that is no number": (["--linger", "soon", "true"], "--linger soon: "),
    "a variable without a name": (["--setenv", "", "x", "true"], "neither empty"),
    "a variable with = in its name": (["--setenv", "A=B", "x", "true"], "neither empty"),
    "an overlay without layers": (["--tmp-overlay", "/a", "true"], "at least 1"),
    "a read-only overlay of one layer": (["--overlay-src", "/l", "--ro-overlay", "/a", "true"], "at least 2"),
}


@pytest.mark.parametrize(("words", "text"), WRONG.values(), ids=WRONG)
def test_a_wrong_command_line_is_refused_with_its_reason(words: list[str], text: str) -> None:
    with pytest.raises(UsageError) as caught:
        parse(words)
    assert text in str(caught.value)


@pytest.mark.parametrize(
    ("words", "text"),
    [
        (["--linger", "-1"], "seconds"),
        (["--linger", "nan"], "seconds"),
        (["--hostname", "x" * 65], "longer"),
        (["--chdir", "x"], "not absolute"),
        (["--chdir", "/a/../b"], "normalised"),
    ],
)
def test_a_value_that_no_container_can_have_is_refused(words: list[str], text: str) -> None:
    with pytest.raises((UsageError, ValueError), match=text):
        plan_of(*words)


def test_more_data_than_a_place_holds_is_refused(holding: Callable[[bytes], str]) -> None:
    fd = holding(b"")
    os.truncate(int(fd), PLACE_MAX + 1)
    with pytest.raises(UsageError, match=str(PLACE_MAX)):
        parse(["--file", fd, "/t", "true"])


def test_linger_can_be_for_ever() -> None:
    assert plan_of("--linger", "forever").setup.linger is None


def test_the_environment_is_the_callers_as_the_options_change_it_in_order(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OURS", "1")
    monkeypatch.setenv("BYTES", "a\udcff")
    env = plan_of("--setenv", "NEW", "2", "--unsetenv", "OURS", "--unsetenv", "NONE").setup.env
    assert "OURS" not in env
    assert (env["NEW"], env["BYTES"]) == ("2", Octets(b"a\xff"))
    assert plan_of("--setenv", "A", "1", "--clearenv", "--setenv", "B", "2").setup.env == {"B": "2"}


def test_a_variable_whose_name_is_not_utf8_is_left_out_with_a_warning(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("A\udcff", "1")
    request = parse(["true"])
    env = request.plan().setup.env
    assert "A\udcff" not in env
    assert len(request.warnings) == 1
    assert "left out" in request.warnings[0]


def test_arguments_that_are_not_utf8_travel_as_octets() -> None:
    argv = parse(["--ro-bind", "/", "/", "printf", "ä", "\udcff"]).plan().setup.argv
    assert argv == ["printf", "ä", Octets(b"\xff")]


def test_the_program_starts_where_the_caller_is_or_at_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", "/home/somebody")
    setup: Setup = plan_of().setup
    assert (setup.cwd, setup.cwd_else) == (str(tmp_path), ["/home/somebody", "/"])


def test_the_working_directory_is_shown_after_the_other_files(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir("/usr/share")
    ops = [bare(op) for op in parse(["--cwd", "rw", "--tmpfs", "/usr", "true"]).plan().ops]
    assert ops == [Tmpfs("/usr"), Bind("/usr/share", source="/usr/share", nofollow=True, writable=True)]
