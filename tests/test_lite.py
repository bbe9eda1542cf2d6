"""The light way to msgspec: the same bytes and the same refusals as the ordinary one, and no more of the library."""

import json
import os
import subprocess
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import msgspec
import pytest

from igaki.host.launch import start_init
from igaki.ops import Exited, Plan, Setup, Started, encode_plan
from igaki.ops.wire import StatusReader
from tests.harness import ENV, ROOT, system
from tests.ops.test_wire import EVERY_STATUS, EVERYTHING, WRONG

STAND_INS = ["datetime", "decimal", "enum", "re", "typing", "types", "uuid"]

SLOW = {"argparse", "ctypes", "enum", "re", "rich", "signal", "socket", "subprocess", "trio", "typing"}
"""What takes milliseconds to import and is not needed on the way to a running container."""

PATHS = [str(ROOT / "src"), str(Path(msgspec.__file__).parent.parent)]

REPORT = """
import json, sys
from igaki.ops import *
from igaki.ops.wire import StatusReader, decode_plan, encode, encode_plan
from igaki.ops import ProtocolError

given = json.load(sys.stdin)

def answer(call, *arguments):
    try:
        return repr(call(*arguments))
    except ProtocolError as error:
        return f"refused: {error}"
    except Exception as error:
        return f"{type(error).__name__}: {error}"

def made(text):
    return encode_plan(Plan(**vars_of(eval(text)))).hex()

def vars_of(plan):
    return {name: getattr(plan, name) for name in ("setup", "ops", "namespaces")}

plan = bytes.fromhex(given["plan"])
status = bytes.fromhex(given["status"])
print(json.dumps({
    "plan": encode_plan(decode_plan(plan)).hex(),
    "made": made(given["text"]),
    "read": repr(decode_plan(plan)),
    "status": encode(*StatusReader().feed(status)).hex(),
    "wrong": {name: answer(decode_plan, bytes.fromhex(data)) for name, data in given["wrong"].items()},
    "values": [answer(eval, text) for text in given["values"]],
    "full": "msgspec.json" in sys.modules,
}))
"""

WRONG_VALUES = ["Bind('x', source='/x')", "Bind('/x')", "Bind('/x', source='/x', readonly=True)", "Setup(argv=[])"]


def fresh(code: str, given: str = "") -> str:
    """What `code` prints in an interpreter without site-packages that finds igaki and msgspec."""
    start = f"import sys\nsys.path += {PATHS!r}\n"
    done = subprocess.run(
        [sys.executable, "-I", "-S", "-c", start + code],
        input=given,
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    return done.stdout


def report(before: str) -> dict[str, Any]:
    given = {
        "plan": encode_plan(EVERYTHING).hex(),
        "text": repr(EVERYTHING),
        "status": b"".join(bytes(frame) for frame in map(encoded, EVERY_STATUS)).hex(),
        "wrong": {name: data.hex() for name, (data, _) in WRONG.items()},
        "values": WRONG_VALUES,
    }
    answer: dict[str, Any] = json.loads(fresh(before + REPORT, json.dumps(given)))
    return answer


def encoded(status: msgspec.Struct) -> bytes:
    body = msgspec.msgpack.encode(status)
    return len(body).to_bytes(4) + body


LITE = "from igaki.lite import load_msgspec\nload_msgspec()\n"
BROKEN = "from igaki import lite\nlite.TYPING = ('Any',)\nlite.load_msgspec()\nassert 'msgspec' not in sys.modules\n"


@pytest.fixture(scope="module")
def ordinary() -> dict[str, Any]:
    """What the ordinary msgspec does."""
    return report("")


@pytest.fixture(scope="module")
def light() -> dict[str, Any]:
    return report(LITE)


def test_the_light_way_is_taken(ordinary: dict[str, Any], light: dict[str, Any]) -> None:
    assert (ordinary["full"], light["full"]) == (True, False)


@pytest.mark.parametrize("what", ["plan", "made", "read", "status"])
def test_bytes_and_values_are_the_same_both_ways(ordinary: dict[str, Any], light: dict[str, Any], what: str) -> None:
    assert light[what] == ordinary[what]


def test_the_bytes_are_those_of_this_process(light: dict[str, Any]) -> None:
    assert light["plan"] == encode_plan(EVERYTHING).hex()


def test_the_same_streams_are_refused_with_the_same_texts(ordinary: dict[str, Any], light: dict[str, Any]) -> None:
    assert light["wrong"] == ordinary["wrong"]
    assert {name for name, text in light["wrong"].items() if text.startswith("refused: ")} == set(WRONG)


def test_the_same_values_are_refused_when_they_are_made(ordinary: dict[str, Any], light: dict[str, Any]) -> None:
    assert light["values"] == ordinary["values"]
    assert all("Error: " in text for text in light["values"])


def test_the_ordinary_msgspec_takes_over_when_the_core_asks_for_more(ordinary: dict[str, Any]) -> None:
    assert report(BROKEN) == ordinary


@pytest.mark.parametrize("before", [LITE, BROKEN], ids=["loaded", "given up"])
def test_the_stand_ins_are_gone_afterwards(before: str) -> None:
    code = f"""
for name in {STAND_INS}:
    assert getattr(sys.modules.get(name), "__spec__", True), name
import {", ".join(STAND_INS)}
print([module.__spec__.name for module in ({", ".join(STAND_INS)})])
assert typing.get_type_hints and enum.IntFlag and re.compile("a").match("a") and decimal.Decimal("0.1")
assert datetime.datetime.now() and uuid.uuid4() and types.SimpleNamespace()
"""
    assert fresh(before + code) == f"{STAND_INS}\n"


@pytest.mark.parametrize("first", ["typing", "enum, re", "datetime, decimal, uuid, types"])
def test_modules_that_were_there_before_stay(first: str) -> None:
    code = f"import {first}\nbefore = [{first}]\n{LITE}import {first}\nprint(before == [{first}])\n"
    assert fresh(code + "from igaki.ops import *\nprint(Setup(argv=['a']).argv)") == "True\n['a']\n"


def test_a_process_that_has_the_ordinary_msgspec_keeps_it() -> None:
    code = f"import msgspec\n{LITE}import msgspec as after\nprint(after is msgspec, bool(msgspec.json))"
    assert fresh(code) == "True True\n"


def imported(importtime: str) -> set[str]:
    """The modules in the output of `python -X importtime`."""
    lines = [line for line in importtime.splitlines() if line.startswith("import time:")]
    return {line.rsplit("|", 1)[1].strip() for line in lines[1:]}


def slow(modules: Iterable[str]) -> set[str]:
    return {name for name in modules if name.split(".", 1)[0] in SLOW}


@pytest.fixture
def site_packages(tmp_path: Path) -> Path:
    """Where igaki and msgspec stand side by side, as they do once installed."""
    directory = tmp_path / "site-packages"
    directory.mkdir()
    (directory / "igaki").symlink_to(ROOT / "src/igaki")
    (directory / "msgspec").symlink_to(Path(msgspec.__file__).parent)
    return directory


PROGRAM = ["--", "/bin/sh", "-c", "exit 7"]


@pytest.mark.parametrize(
    ("arguments", "code"),
    [
        (PROGRAM, 7),
        (["--ro-bind", "/", "/", "--proc", "/proc", "--dev", "/dev", "--tmpfs", "/tmp", *PROGRAM], 7),
        (["--share-net", "--setenv", "A", "b", "--hostname", "box", "--cwd", "none", *PROGRAM], 7),
    ],
    ids=["default", "files", "other options"],
)
def test_the_command_imports_nothing_slow(site_packages: Path, arguments: list[str], code: int) -> None:
    boot = site_packages / "igaki/host/boot.py"
    done = subprocess.run(
        [sys.executable, "-I", "-S", "-X", "importtime", boot, "run", *arguments],
        cwd="/",
        env=ENV,
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert done.returncode == code, done.stderr
    modules = imported(done.stderr)
    assert "igaki.host.foreground" in modules
    assert slow(modules) == set()


def test_init_imports_nothing_slow_and_nothing_of_the_host(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    python = tmp_path / "python"
    python.write_text(f'#!/bin/sh\nexec {sys.executable} -X importtime "$@"\n')
    python.chmod(0o755)
    monkeypatch.setattr(sys, "executable", str(python))
    errors, theirs = os.pipe2(os.O_CLOEXEC)
    null = os.open(os.devnull, os.O_RDWR | os.O_CLOEXEC)
    init = start_init((null, theirs, theirs))
    os.close(theirs)
    os.close(null)
    with open(init.stream, "wb") as stream:
        stream.write(encode_plan(Plan(Setup(argv=["true"]), system())))
    with open(init.status, "rb") as status:
        messages = list(StatusReader().feed(status.read()))
    with open(errors) as file:
        modules = imported(file.read())
    os.waitpid(init.pid, 0)
    os.waitpid(next(message.pid for message in messages if isinstance(message, Started)), 0)
    assert messages[-1] == Exited(0)
    assert "igaki.init.stages" in modules
    assert slow(modules) == set()
    assert {name for name in modules if name.startswith("igaki.host")} == set()


@pytest.mark.parametrize("name", ["igaki", "igaki.ops", "igaki.init.stages", "igaki.host"])
def test_a_part_of_the_library_does_not_load_trio(name: str) -> None:
    assert fresh(f"import {name}\nprint('trio' in sys.modules)") == "False\n"
