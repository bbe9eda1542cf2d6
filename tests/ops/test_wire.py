"""The stream: what goes in comes out, and nothing else is taken for a plan."""

import json
import os
from pathlib import Path
from typing import Any, get_args

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from igaki.ops import (
    AnyOp,
    Bind,
    Chmod,
    Dev,
    Etc,
    Exited,
    Failure,
    Mkdir,
    Namespaces,
    Octets,
    Op,
    Origin,
    Overlay,
    Place,
    Plan,
    Proc,
    ProtocolError,
    Ready,
    Redacted,
    Remount,
    Root,
    Settled,
    Setup,
    Source,
    Started,
    Status,
    Stopped,
    Symlink,
    Timing,
    Tmpfs,
    Warning,  # noqa: A004  the message, not the exception
    decode_plan,
    encode_plan,
)
from igaki.ops.wire import (
    FRAME_MAX,
    LENGTH_BYTES,
    MAGIC,
    OPS_MAX,
    PREAMBLE,
    STREAM_MAX,
    VERSION,
    End,
    StatusReader,
    decode_body,
    encode,
    read_namespaces,
)

DIRECTORY = Source("/srv", 1, 2, "directory")

EVERY_OP: list[AnyOp] = [
    Bind("/a", source="/srv/a b\n,:", writable=True, devices=True, optional=True, found=DIRECTORY),
    Bind("/a", source="/srv", ensure=True, origin=Origin("bind", "profile.toml", 7)),
    Chmod("/a", mode=0o4751),
    Dev("/dev", mqueue=True, writable=True, found=[DIRECTORY]),
    Etc("/etc", source="/etc", expansion=[Bind("/etc/.host", source="/etc"), Symlink("/etc/x", to=".host/x")]),
    Mkdir("/ä", mode=0o700),
    Overlay("/o", lower=["/l"], upper="/u", work="/w", found=[DIRECTORY]),
    Overlay("/o", lower=["/l"], ephemeral=True),
    Overlay("/o", lower=["/l", "/m"]),
    Place("/p", data=bytes(range(256)), mode=0o444, writable=True),
    Place("/p", data=Redacted(5, "ab" * 32), copy=True),
    Proc("/proc"),
    Remount("/r", recursive=True),
    Root("/", source="/srv", writable=True, expansion=[Bind("/x", source="/srv/x")]),
    Symlink("/s", to="../x", origin=Origin("--symlink")),
    Symlink("/s", to="/etc/localtime", dereference=True),
    Tmpfs("/t", size=4096, mode=0o1777, writable=False),
]

EVERY_STATUS: list[Status] = [
    Started(2**22),
    Settled(3, Bind("/a", source="/srv", found=DIRECTORY)),
    Settled(4, None),
    Timing(steps={"prepare": 1}, early=[2, 3], apply=[2**40]),
    Warning("ä\n"),
    Ready(),
    Failure(step="bind", reason="no", index=0, phase="early", errno=2, path="/a", path2="/b", hint="h", exit_code=126),
    Failure(step="s", reason="r"),
    Stopped(20),
    Exited(137, 9),
]

SETUP = Setup(
    argv=["sh", Octets(b"\xff")],
    env={"A": "ä", "B": Octets(b"\xfe"), "C": Redacted(1, "00")},
    cwd="/x",
    cwd_else=["/"],
    hostname="box",
    linger=None,
    fds=[3, 9],
    report_settled=True,
    report_timing=True,
)
EVERYTHING = Plan(SETUP, EVERY_OP, Namespaces(share_net=True, uid=0, gid=2**32 - 2, host_root=True))
SMALL = bytes(encode_plan(Plan(Setup(argv=["true"]), [Tmpfs("/tmp"), Proc("/proc")])))


def frame(body: bytes) -> bytes:
    return len(body).to_bytes(LENGTH_BYTES) + body


def message(**fields: object) -> bytes:
    """A frame of whatever fields, under `is` for "is"."""
    return frame(msgspec.msgpack.encode({name.rstrip("_"): value for name, value in fields.items()}))


def stream(*frames: bytes) -> bytes:
    return PREAMBLE + b"".join(frames)


NAMESPACES = message(is_="namespaces")
PROGRAM = message(is_="setup", argv=["true"])
START = stream(NAMESPACES, PROGRAM)


def op(tag: object, **fields: object) -> bytes:
    """A whole stream with one op of whatever fields."""
    return START + message(is_=tag, **fields) + message(is_="end", ops=1)


NESTED = b"\x91" * 100_000 + b"\xc0"
HUGE = b"\xff\xff\xff\xff"

WRONG: dict[str, tuple[bytes, str]] = {
    "nothing": (b"", "cut"),
    "another magic": (b"\x89igak1" + SMALL[len(MAGIC) :], "other bytes"),
    "text": (b"--bind /srv /srv\n" * 10, "other bytes"),
    "an older version": (MAGIC + b"\0\0" + SMALL[len(PREAMBLE) :], "version 0"),
    "a newer version": (MAGIC + (VERSION + 1).to_bytes(2) + SMALL[len(PREAMBLE) :], f"version {VERSION + 1}"),
    "an oversized first frame": (stream((FRAME_MAX + 1).to_bytes(4)), str(FRAME_MAX + 1)),
    "an oversized later frame": (START + HUGE + b"x", "4294967295"),
    "a frame that promises more": (START + FRAME_MAX.to_bytes(4) + b"x", "cut in a frame"),
    "half a length": (START + b"\0\0", "cut in the length"),
    "an empty frame": (START + frame(b""), "op 0"),
    "no setup": (stream(NAMESPACES), "before the setup"),
    "a plan without its end": (START, "no end"),
    "a plan cut between two ops": (START + message(is_="proc", target="/p"), "after op 0"),
    "an end that counts too many": (START + message(is_="end", ops=1), "holds 0 ops"),
    "an end that counts too few": (START + message(is_="proc", target="/p") + message(is_="end", ops=0), "holds 1 op"),
    "a negative count": (START + message(is_="end", ops=-1), "-1"),
    "a byte after the end": (SMALL + b"\0", "cut in the length"),
    "a frame after the end": (SMALL + message(is_="proc", target="/p"), "after its end"),
    "a second plan after the end": (SMALL + SMALL, ""),
    "the setup in the place of the namespaces": (stream(PROGRAM, NAMESPACES), "namespaces"),
    "an op in the place of the setup": (stream(NAMESPACES, message(is_="proc", target="/p")), "setup"),
    "a second setup": (START + PROGRAM, "op 0"),
    "a status": (START + message(is_="ready"), "op 0"),
    "an unknown tag": (op("mount", target="/p"), "mount"),
    "no tag": (START + message(target="/p"), "op 0"),
    "a tag that is a number": (op(1, target="/p"), "op 0"),
    "an unknown field of an op": (op("bind", target="/p", source="/p", readonly=True), "readonly"),
    "an unknown field of the setup": (stream(NAMESPACES, message(is_="setup", argv=["a"], seccomp=b"")), "seccomp"),
    "an unknown field of the namespaces": (stream(message(is_="namespaces", share_pid=True)), "share_pid"),
    "an unknown field of an origin": (op("proc", target="/p", origin={"is": "origin", "by": "x", "to": "y"}), "`to`"),
    "an op without its target": (op("proc"), "target"),
    "a field of another type": (op("bind", target="/p", source="/p", writable=1), "writable"),
    "text for a number": (op("mkdir", target="/p", mode="0755"), "mode"),
    "null for text": (op("proc", target=None), "target"),
    "bytes for text": (op("proc", target=b"/p"), "target"),
    "a relative target": (op("proc", target="p"), "not absolute"),
    "an empty target": (op("proc", target=""), "not absolute"),
    "a relative source": (op("bind", target="/p", source="p"), "not absolute"),
    "a relative working directory": (stream(NAMESPACES, message(is_="setup", argv=["a"], cwd="x")), "not absolute"),
    "a NUL in a target": (op("proc", target="/p\0"), "NUL"),
    "a NUL in a source": (op("bind", target="/p", source="/p\0q"), "NUL"),
    "a NUL in a symlink": (op("symlink", target="/p", to="a\0"), "NUL"),
    "a NUL in an argument": (stream(NAMESPACES, message(is_="setup", argv=["a", "b\0"])), "NUL"),
    "a NUL in octets": (
        stream(NAMESPACES, message(is_="setup", argv=["a", {"is": "octets", "data": b"\xff\0"}])),
        "NUL",
    ),
    "a NUL in a variable": (stream(NAMESPACES, message(is_="setup", argv=["a"], env={"A": "\0"})), "NUL"),
    "a target with ..": (op("proc", target="/a/../b"), "normalised"),
    "a target that ends with ..": (op("proc", target="/a/.."), "normalised"),
    "a target with .": (op("proc", target="/a/./b"), "normalised"),
    "a target with an empty component": (op("proc", target="/a//b"), "normalised"),
    "a target that ends with a slash": (op("proc", target="/a/"), "normalised"),
    "two slashes": (op("proc", target="//"), "normalised"),
    "a target of 4096 bytes": (op("proc", target="/" + "ä" * 2047 + "x"), "4095"),
    "a target that is not UTF-8": (START + frame(b"\x82\xa2is\xa4proc\xa6target\xa2/\xff"), "utf-8"),
    "an encoded surrogate": (START + frame(b"\x82\xa2is\xa4proc\xa6target\xa4/\xed\xa0\x80"), "utf-8"),
    "a wrong op in an expansion": (
        op("etc", expansion=[{"is": "bind", "target": "x", "source": "/etc"}]),
        "not absolute",
    ),
    "an op of another kind in an expansion": (op("etc", expansion=[{"is": "proc", "target": "/x"}]), "expansion"),
    "a byte after the message in a frame": (START + frame(b"\x82\xa2is\xa4proc\xa6target\xa2/p\0"), "trailing"),
    "an array for an op": (START + frame(b"\x91\xa4proc"), "op 0"),
    "an extension type": (START + frame(b"\xd4\x01\x01"), "op 0"),
    "an unused code": (START + frame(b"\xc1"), "op 0"),
    "deep nesting as a frame": (stream(frame(NESTED)), "namespaces"),
    "deep nesting in a known field": (START + frame(b"\x82\xa2is\xa4proc\xa6origin" + NESTED), "origin"),
    "deep nesting before the tag": (START + frame(b"\x82\xa1x" + NESTED + b"\xa2is\xa4proc"), "op 0"),
    "a list that lies about its length": (
        stream(NAMESPACES, frame(b"\x82\xa2is\xa5setup\xa4argv\xdd" + HUGE + b"\xa1a")),
        "truncated",
    ),
    "a map that lies about its length": (stream(NAMESPACES, frame(b"\xdf" + HUGE + b"\xa2is\xa5setup")), "truncated"),
    "bytes that lie about their length": (
        START + frame(b"\x83\xa2is\xa5place\xa6target\xa2/p\xa4data\xc6" + HUGE + b"x"),
        "truncated",
    ),
    "text that lies about its length": (START + frame(b"\x82\xa2is\xa4proc\xa6target\xdb" + HUGE + b"/"), "truncated"),
    "a name that lies about its length": (START + frame(b"\x82\xdb" + HUGE), "truncated"),
}
"""Streams that are no plan, and what the refusal mentions."""


TEXT = st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]), max_size=30)
COMPONENT = TEXT.map(lambda text: text.replace("/", "_")).filter(lambda text: text not in ("", ".", ".."))
PATH = st.lists(COMPONENT, max_size=4).map(lambda parts: "/" + "/".join(parts))
BELOW = st.lists(COMPONENT, min_size=1, max_size=4).map(lambda parts: "/" + "/".join(parts))
MODE = st.integers(0, 0o7777)
ORIGIN = st.none() | st.builds(Origin, TEXT, TEXT, st.integers(0, 2**31))
STRING = TEXT | st.binary(max_size=30).map(lambda data: Octets(data.replace(b"\0", b"")))
NAME = TEXT.map(lambda text: text.replace("=", "_")).filter(bool)
REDACTED = st.builds(Redacted, st.integers(0, 2**63 - 1), TEXT)
SOURCE = st.builds(Source, PATH, st.integers(0, 2**64 - 1), st.integers(0, 2**64 - 1), TEXT)

OPS: st.SearchStrategy[AnyOp] = st.one_of(
    st.builds(Bind, PATH, origin=ORIGIN, source=PATH, writable=st.booleans(), found=st.none() | SOURCE),
    st.builds(Chmod, PATH, origin=ORIGIN, mode=MODE),
    st.builds(Mkdir, PATH, origin=ORIGIN, mode=MODE),
    st.builds(Overlay, PATH, origin=ORIGIN, lower=st.lists(PATH, min_size=2, max_size=5)),
    st.builds(Place, PATH, origin=ORIGIN, data=st.binary() | REDACTED, mode=MODE, writable=st.booleans()),
    st.builds(Symlink, BELOW, origin=ORIGIN, to=TEXT.filter(bool)),
    st.builds(Tmpfs, PATH, origin=ORIGIN, size=st.integers(0, 2**63 - 1), mode=MODE, writable=st.booleans()),
)
SETUPS = st.builds(
    Setup,
    argv=st.lists(STRING, max_size=4).map(lambda arguments: ["program", *arguments]),
    env=st.dictionaries(NAME, STRING | REDACTED, max_size=4),
    cwd=PATH,
    linger=st.none() | st.floats(0, 1e9),
    fds=st.lists(st.integers(3, 1023), unique=True, max_size=4),
)
IDS = st.none() | st.integers(0, 2**32 - 2)
PLANS = st.builds(
    Plan, SETUPS, st.lists(OPS, max_size=5), st.builds(Namespaces, share_net=st.booleans(), uid=IDS, gid=IDS)
)
QUIET = settings(max_examples=60, deadline=None, database=None)


def test_every_op_is_in_the_vocabulary() -> None:
    assert set(get_args(AnyOp)) == {kind for kind in Op.__subclasses__() if kind.__module__.startswith("igaki.")}


def test_the_examples_hold_every_op_and_every_status() -> None:
    assert {type(example) for example in EVERY_OP} == set(get_args(AnyOp))
    assert {type(example) for example in EVERY_STATUS} == set(get_args(Status))


def test_a_plan_with_everything_comes_back_as_it_went_in() -> None:
    data = bytes(encode_plan(EVERYTHING))
    assert decode_plan(data) == EVERYTHING
    assert bytes(encode_plan(decode_plan(data))) == data


@QUIET
@given(PLANS)
def test_any_plan_comes_back_as_it_went_in(plan: Plan) -> None:
    assert decode_plan(bytes(encode_plan(plan))) == plan


def test_defaults_take_no_room_on_the_wire() -> None:
    bare = msgspec.msgpack.decode(encode(Bind("/a", source="/b"))[LENGTH_BYTES:])
    assert bare == {"is": "bind", "target": "/a", "source": "/b"}


def test_the_status_comes_back_as_it_went_in_byte_by_byte() -> None:
    reader = StatusReader()
    got = [each for byte in encode(*EVERY_STATUS) for each in reader.feed(bytes([byte]))]
    assert got == EVERY_STATUS


@QUIET
@given(st.lists(st.sampled_from(EVERY_STATUS), max_size=5), st.data())
def test_the_status_comes_back_however_it_is_cut(statuses: list[Status], data: st.DataObject) -> None:
    sent = bytes(encode(*statuses))
    cuts = sorted(data.draw(st.lists(st.integers(0, len(sent)), max_size=6)))
    reader = StatusReader()
    pieces = [sent[start:end] for start, end in zip([0, *cuts], [*cuts, len(sent)], strict=True)]
    assert [each for piece in pieces for each in reader.feed(piece)] == statuses


def test_an_unfinished_status_is_no_status() -> None:
    assert list(StatusReader().feed(bytes(encode(Exited(0)))[:-1])) == []


@pytest.mark.parametrize(
    "data",
    [HUGE, message(is_="proc", target="/p"), message(is_="exited", code=1, core=True), frame(b""), frame(NESTED)],
    ids=["oversized", "an op", "an unknown field", "empty", "deep"],
)
def test_a_wrong_status_is_refused(data: bytes) -> None:
    with pytest.raises(ProtocolError):
        list(StatusReader().feed(data))


@pytest.mark.parametrize("data", [bytes(SMALL[:length]) for length in range(len(SMALL))], ids=str)
def test_a_plan_cut_at_any_byte_is_refused(data: bytes) -> None:
    with pytest.raises(ProtocolError):
        decode_plan(data)


@pytest.mark.parametrize(("data", "mentioned"), WRONG.values(), ids=WRONG)
def test_a_wrong_stream_is_refused_with_its_reason(data: bytes, mentioned: str) -> None:
    with pytest.raises(ProtocolError) as caught:
        decode_plan(data)
    assert mentioned in str(caught.value)


@QUIET
@given(st.binary(max_size=200))
def test_any_bytes_in_the_place_of_the_ops_are_refused(data: bytes) -> None:
    with pytest.raises(ProtocolError):
        decode_plan(START + data)


@settings(parent=QUIET, max_examples=300)
@given(st.integers(0, len(SMALL) - 1), st.integers(0, 255))
def test_a_plan_with_another_byte_is_a_plan_or_refused(position: int, byte: int) -> None:
    changed = SMALL[:position] + bytes([byte]) + SMALL[position + 1 :]
    try:
        plan = decode_plan(changed)
    except ProtocolError:
        return
    assert len(plan.ops) == 2


def test_the_refusal_of_an_op_names_the_op() -> None:
    with pytest.raises(ProtocolError, match=r"^op 1: "):
        decode_plan(START + message(is_="proc", target="/p") + message(is_="proc", target="p"))


def test_more_ops_than_allowed_are_refused_on_both_sides() -> None:
    ops: list[AnyOp] = [Proc("/p")] * (OPS_MAX + 1)
    with pytest.raises(ValueError, match=str(OPS_MAX)):
        encode_plan(Plan(Setup(argv=["true"]), ops))
    with pytest.raises(ProtocolError, match=str(OPS_MAX)):
        decode_plan(START + message(is_="proc", target="/p") * (OPS_MAX + 1) + message(is_="end", ops=OPS_MAX + 1))


def test_a_stream_longer_than_allowed_is_refused_unread() -> None:
    with pytest.raises(ProtocolError, match=str(STREAM_MAX)):
        decode_body(bytes(STREAM_MAX + 1))  # zeroes that take no memory until they are read


def test_a_message_too_large_for_a_frame_is_refused_by_the_sender() -> None:
    with pytest.raises(ValueError, match=str(FRAME_MAX)):
        encode(Setup(argv=["true", "x" * (FRAME_MAX + 1)]))


def test_the_namespaces_are_read_to_their_last_byte_and_no_further() -> None:
    rest = bytearray(SMALL)

    def read(size: int) -> bytes:
        piece = bytes(rest[: min(size, 3)])  # as a pipe that gives less than asked for
        del rest[: len(piece)]
        return piece

    assert read_namespaces(read) == Namespaces()
    assert decode_body(bytes(rest)) == (Setup(argv=["true"]), [Tmpfs("/tmp"), Proc("/proc")])


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("plain", "plain"),
        ("ä€😀", "ä€😀"),
        ("", ""),
        (b"plain", "plain"),
        ("ä".encode(), "ä"),
        (b"a\xff", Octets(b"a\xff")),
        ("a\udcff", Octets(b"a\xff")),
        (b"\xed\xa0\x80", Octets(b"\xed\xa0\x80")),
    ],
)
def test_only_what_is_not_utf8_travels_as_octets(value: str | bytes, expected: str | Octets) -> None:
    assert Octets.if_needed(value) == expected


@QUIET
@given(st.binary())
def test_no_byte_of_an_argument_is_lost(data: bytes) -> None:
    carried = Octets.if_needed(os.fsdecode(data))
    assert (carried.encode() if isinstance(carried, str) else carried.data) == data


@pytest.mark.parametrize(
    ("origin", "text"),
    [(Origin("--bind"), "--bind"), (Origin("bind", "/etc/x.toml", 12), "/etc/x.toml:12: bind")],
)
def test_an_origin_says_where_an_op_came_from(origin: Origin, text: str) -> None:
    assert str(origin) == text


def test_a_redacted_place_says_its_size_and_holds_nothing_else() -> None:
    place = Place("/key", data=Redacted(1234, "ab" * 32))
    assert "1234 bytes" in str(place)
    assert decode_plan(bytes(encode_plan(Plan(Setup(argv=["true"]), [place])))).ops == [place]


SCHEMA = Path(__file__).with_name("schema.json")
UPDATE = "IGAKI_UPDATE_SCHEMA"


def current_schema() -> dict[str, Any]:
    """What may be on the wire, without the prose."""
    plan = msgspec.json.schema(Namespaces | Setup | AnyOp | End)
    status = msgspec.json.schema(Status)
    return {"version": VERSION, "plan": without_prose(plan), "status": without_prose(status)}


def without_prose(schema: Any) -> Any:
    """`schema` without the docstrings: those may change at will."""
    text = json.dumps(schema, sort_keys=True)
    return json.loads(text, object_hook=lambda entry: {key: entry[key] for key in entry if key != "description"})


def update_schema() -> None:
    """Save what is on the wire now, where the number was raised or nothing was saved yet."""
    now = current_schema()
    if not SCHEMA.exists() or json.loads(SCHEMA.read_text())["version"] < now["version"]:
        SCHEMA.write_text(json.dumps(now, indent=1, sort_keys=True) + "\n")


def test_the_messages_change_only_together_with_the_version() -> None:
    if os.environ.get(UPDATE):
        update_schema()
    saved = json.loads(SCHEMA.read_text())
    assert current_schema() == saved, (
        f"the messages are not those of version {saved['version']}: raise VERSION in ops/wire.py,"
        f" then run this test once with {UPDATE}=1 to save the new ones"
    )
