"""Recorded streams: the plan that ran, in a file that only its owner can read, without what is secret."""

import hashlib
import os
import stat
from pathlib import Path

import pytest

from igaki.host.record import record, redact
from igaki.ops import Mkdir, Namespaces, Octets, Place, Plan, Redacted, Setup, Tmpfs, decode_plan, encode_plan
from tests.harness import Sandbox

SECRET = b"hunter2 \xff"
PLAN = Plan(
    Setup(argv=["true", Octets(b"\xff")], env={"TOKEN": "hunter2", "BYTES": Octets(SECRET), "EMPTY": ""}, hostname="h"),
    [Tmpfs("/tmp"), Place("/key", data=SECRET, mode=0o400), Place("/copy", data=SECRET, copy=True)],
    Namespaces(uid=0),
)


def redacted(data: bytes) -> Redacted:
    return Redacted(len(data), hashlib.sha256(data).hexdigest())


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def test_secrets_are_replaced_by_their_length_and_digest() -> None:
    safe = redact(PLAN)
    assert safe.setup.env == {"TOKEN": redacted(b"hunter2"), "BYTES": redacted(SECRET), "EMPTY": redacted(b"")}
    assert safe.ops == [
        Tmpfs("/tmp"),
        Place("/key", data=redacted(SECRET), mode=0o400),
        Place("/copy", data=redacted(SECRET), copy=True),
    ]
    assert (safe.setup.argv, safe.namespaces) == (PLAN.setup.argv, PLAN.namespaces)
    assert b"hunter2" not in encode_plan(safe)


def test_what_is_redacted_stays_as_it_is() -> None:
    assert redact(redact(PLAN)) == redact(PLAN)


@pytest.mark.parametrize("secrets", [True, False])
def test_the_file_holds_the_stream_and_nothing_else(tmp_path: Path, secrets: bool) -> None:
    path = tmp_path / "stream"
    path.write_bytes(b"x" * 100_000)
    record(PLAN, str(path), secrets=secrets)
    expected = PLAN if secrets else redact(PLAN)
    assert path.read_bytes() == bytes(encode_plan(expected))
    assert decode_plan(path.read_bytes()) == expected


@pytest.mark.parametrize("umask", [0, 0o077])
def test_a_new_file_is_its_owners_alone(tmp_path: Path, umask: int) -> None:
    before = os.umask(umask)
    try:
        record(PLAN, str(tmp_path / "stream"), secrets=True)
    finally:
        os.umask(before)
    assert mode(tmp_path / "stream") == 0o600


def test_a_file_that_others_could_read_becomes_its_owners_alone(tmp_path: Path) -> None:
    path = tmp_path / "stream"
    path.touch()
    path.chmod(0o644)
    record(PLAN, str(path), secrets=True)
    assert mode(path) == 0o600


def test_what_is_no_file_keeps_its_mode(tmp_path: Path) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    pipe.chmod(0o644)
    reader = os.open(pipe, os.O_RDONLY | os.O_NONBLOCK)
    try:
        record(PLAN, str(pipe), secrets=True)
        assert os.read(reader, 1 << 16) == bytes(encode_plan(PLAN))
    finally:
        os.close(reader)
    assert mode(pipe) == 0o644


def test_the_command_records_what_it_runs_and_leaves_the_secrets_out(sandbox: Sandbox) -> None:
    path = sandbox.directory("records", 0o777) / "stream"
    words = ["--setenv", "TOKEN", "hunter2", "--bind-data", "0", "/tmp/key", "--hostname", "box"]
    files = ["--ro-bind", "/", "/", "--tmpfs", "/tmp"]
    program = ["--", "sh", "-c", "cat /tmp/key; echo $TOKEN"]
    done = sandbox.command("igaki", "run", *files, *words, "--record", path, *program, input="secret data ")
    assert (done.returncode, done.stdout, done.stderr) == (0, "secret data hunter2\n", "")
    plan = decode_plan(path.read_bytes())
    assert mode(path) == 0o600
    assert path.stat().st_uid == sandbox.caller
    assert plan.setup.argv == ["sh", "-c", "cat /tmp/key; echo $TOKEN"]
    assert plan.setup.hostname == "box"
    assert plan.setup.env["TOKEN"] == redacted(b"hunter2")
    assert all(isinstance(value, Redacted) for value in plan.setup.env.values())
    assert [op.data for op in plan.ops if isinstance(op, Place)] == [redacted(b"secret data ")]
    assert b"hunter2" not in path.read_bytes()


def test_a_recording_with_its_secrets_runs_again_the_same_way(sandbox: Sandbox) -> None:
    path = sandbox.directory("records", 0o777) / "stream"
    words = ["--ro-bind", "/", "/", "--tmpfs", "/tmp", "--file", "0", "/tmp/key", "--clearenv"]
    words += ["--setenv", "TOKEN", "hunter2", "--setenv", "PATH", "/usr/bin:/bin", "--hostname", "box"]
    program = ["--", "sh", "-c", "cat /tmp/key; echo $TOKEN; uname -n; exit 5"]
    first = sandbox.command("igaki", "run", *words, "--record", path, "--record-secrets", *program, input="data ")
    assert (first.returncode, first.stdout) == (5, "data hunter2\nbox\n")
    stream = path.read_bytes()
    plan = decode_plan(stream)
    assert bytes(encode_plan(plan)) == stream
    setup = {name: getattr(plan.setup, name) for name in ("cwd", "cwd_else", "hostname")}
    again = sandbox.run(plan.ops, plan.setup.argv, env=plan.setup.env, base=False, **setup)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    assert (again.returncode, again.stdout) == (5, first.stdout)


def test_a_redacted_recording_is_refused_rather_than_run_with_holes(user_sandbox: Sandbox) -> None:
    failure = user_sandbox.refusal([Place("/key", data=redacted(SECRET))])
    assert "left out of the recording" in failure.reason
    failure = user_sandbox.refusal([], env={"PATH": "/usr/bin", "TOKEN": redacted(SECRET)})
    assert "left out of the recording" in failure.reason


@pytest.mark.parametrize(
    ("name", "reason"),
    [("missing/stream", "No such file or directory"), (".", "Is a directory"), ("", "No such file or directory")],
)
def test_a_recording_that_cannot_be_written_runs_nothing(user_sandbox: Sandbox, name: str, reason: str) -> None:
    directory = user_sandbox.directory("work", 0o777)
    path = f"{directory}/{name}" if name else ""
    words = ["--ro-bind", "/", "/", "--bind", str(directory), str(directory), "--record", path]
    done = user_sandbox.command("igaki", "run", *words, "--", "touch", directory / "ran")
    assert (done.returncode, done.stdout) == (125, "")
    assert done.stderr == f"igaki: cannot record to {path}: {reason}\n"
    assert not (directory / "ran").exists()


def test_a_dry_run_records_nothing(user_sandbox: Sandbox) -> None:
    path = user_sandbox.directory("records") / "stream"
    done = user_sandbox.command("igaki", "run", "--dry-run", "--record", path, "true")
    assert done.returncode == 0
    assert not path.exists()


def test_the_origin_of_each_op_is_recorded(user_sandbox: Sandbox) -> None:
    path = user_sandbox.directory("records") / "stream"
    assert user_sandbox.command("igaki", "run", "--record", path, "--", "true").returncode == 0
    origins = [str(op.origin) for op in decode_plan(path.read_bytes()).ops]
    assert set(origins) == {"default plan"}
    assert Mkdir("/x").origin is None
