"""The program finds itself as its caller would have started it, and with nothing that its caller didn't give it."""

from __future__ import annotations

import errno
import os
from collections.abc import Sequence
from pathlib import Path

import pytest

from igaki.ops import AnyOp, Bind, Mkdir, Octets, Place
from tests.harness import ENV, PYTHON_INSIDE, Sandbox

PYTHON = (PYTHON_INSIDE, "-I", "-S", "-c")


def script(text: str) -> bytes:
    return f"#!/bin/sh\n{text}\n".encode()


def executable(path: str, text: str) -> Place:
    return Place(path, data=script(text), mode=0o755)


# What is inherited and what isn't.


@pytest.mark.parametrize("umask", [0, 0o022, 0o077, 0o027])
def test_the_umask_is_the_callers(sandbox: Sandbox, umask: int) -> None:
    result = sandbox.command("igaki", "run", "--", "sh", "-c", "umask", umask=umask)
    assert int(result.stdout, 8) == umask, result.stderr


@pytest.mark.parametrize(("soft", "hard"), [(100, 200), (333, 333), (1024, 4096)])
def test_the_limit_of_descriptors_is_the_callers(sandbox: Sandbox, soft: int, hard: int) -> None:
    script = f"ulimit -Sn {soft}; ulimit -Hn {hard}; exec $0 run -- sh -c 'ulimit -Sn; ulimit -Hn'"
    result = sandbox.command("sh", "-c", script, "igaki")
    assert result.stdout.split() == [str(soft), str(hard)], result.stderr


def test_other_limits_are_the_callers(sandbox: Sandbox) -> None:
    show = "ulimit -c; ulimit -s; ulimit -f"
    result = sandbox.command(
        "sh", "-c", f"ulimit -c 0; ulimit -s 4096; ulimit -f 99; exec $0 run -- sh -c '{show}'", "igaki"
    )
    assert result.stdout.split() == ["0", "4096", "99"], result.stderr


@pytest.mark.parametrize("option", ["--ignore-signal", "--block-signal"])
def test_signals_are_neither_ignored_nor_blocked(sandbox: Sandbox, option: str) -> None:
    """Whatever the caller does with its own, and whatever Python does: SIGPIPE and SIGXFSZ."""
    words = [f"{option}={name}" for name in ("PIPE", "XFSZ", "USR1", "CHLD", "ALRM", "RTMIN")]
    result = sandbox.command("env", *words, "igaki", "run", "--", "cat", "/proc/self/status")
    status = dict(line.split(":\t", 1) for line in result.stdout.splitlines())
    # 32 and 33 are the C library's own: posix_spawn(3) leaves them ignored, and each program's library sees to them.
    internal = 0b11 << 31
    masks = {name: int(status[name], 16) & ~internal for name in ("SigBlk", "SigIgn", "SigCgt", "SigPnd")}
    assert masks == dict.fromkeys(masks, 0)


def test_a_closed_pipe_ends_the_program(sandbox: Sandbox) -> None:
    outcome = sandbox.run([], ["sh", "-c", "{ yes; echo $? >&2; } | head -c 1"])
    assert outcome.stderr.strip() == str(128 + 13)


def test_the_program_leads_a_process_group_in_the_session_of_pid_1(sandbox: Sandbox) -> None:
    code = "import os; print(os.getpid() == os.getpgrp(), os.getsid(0), os.getppid())"
    assert sandbox.run([], [*PYTHON, code]).stdout.split() == ["True", "1", "1"]


def test_only_the_program_runs_beside_pid_1(sandbox: Sandbox) -> None:
    report = sandbox.probe([])
    assert sorted(report["pids"]) == [1, report["pid"]]


# Working directory.


@pytest.mark.parametrize(
    ("cwd", "otherwise", "entered"),
    [
        ("/", [], "/"),
        ("/usr/bin", [], "/usr/bin"),
        ("/usr/bin", ["/usr"], "/usr/bin"),
        ("/missing", ["/usr"], "/usr"),
        ("/probe.py", ["/missing", "/closed", "/usr", "/"], "/usr"),
    ],
)
def test_the_working_directory_is_the_first_that_can_be_entered(
    sandbox: Sandbox, cwd: str, otherwise: list[str], entered: str
) -> None:
    outcome = sandbox.run(
        [Mkdir("/closed", mode=0)],
        [*PYTHON, "import os; print(os.getcwd(), os.environ['PWD'])"],
        cwd=cwd,
        cwd_else=otherwise,
        env={**ENV, "PWD": "/somewhere"},
    )
    assert outcome.stdout.split() == [entered, entered]


@pytest.mark.parametrize("otherwise", [[], ["/closed"], ["/closed", "/probe.py"]])
def test_when_no_directory_can_be_entered_the_error_is_about_the_first(sandbox: Sandbox, otherwise: list[str]) -> None:
    failure = sandbox.refusal([Mkdir("/closed", mode=0)], cwd="/missing", cwd_else=otherwise)
    expected = ("enter the working directory", errno.ENOENT, os.strerror(errno.ENOENT), "/missing", 125)
    assert (failure.step, failure.errno, failure.reason, failure.path, failure.exit_code) == expected


def test_pwd_is_not_added_to_the_environment(sandbox: Sandbox) -> None:
    assert sandbox.run([], ["/usr/bin/env"], cwd="/usr", env={"A": "b"}).stdout == "A=b\n"


# Arguments and environment.


@pytest.mark.parametrize("env", [{}, {"A": ""}, {"A": "1", "LC_ALL": "ümlaut", "with space": "a=b\nc"}])
def test_the_environment_is_exactly_what_was_given(sandbox: Sandbox, env: dict[str, str]) -> None:
    outcome = sandbox.run([], ["/usr/bin/cat", "/proc/self/environ"], env=env)
    assert outcome.stdout == "".join(f"{name}={value}\0" for name, value in env.items())


ALL_BYTES = bytes(range(1, 256))


def test_arguments_arrive_byte_for_byte(sandbox: Sandbox) -> None:
    arguments: list[str | Octets] = ["", "a b", "ümlaut\n", Octets(ALL_BYTES), "x" * 100_000]
    code = "print(open('/proc/self/cmdline', 'rb').read().split(b'\\0')[5:-1])"
    outcome = sandbox.run([], [*PYTHON, code, *arguments])
    expected = [b"", b"a b", "ümlaut\n".encode(), ALL_BYTES, b"x" * 100_000]
    assert outcome.stdout.strip() == str(expected)


def test_values_arrive_byte_for_byte(sandbox: Sandbox) -> None:
    env: dict[str, str | Octets] = {"BYTES": Octets(ALL_BYTES), "ümlaut": "ü", "EMPTY": Octets(b"")}
    outcome = sandbox.run([], [*PYTHON, "print(open('/proc/self/environ', 'rb').read().split(b'\\0'))"], env=env)
    expected = [b"BYTES=" + ALL_BYTES, "ümlaut=ü".encode(), b"EMPTY=", b""]
    assert outcome.stdout.strip() == str(expected)


# Finding and executing the program.


@pytest.mark.parametrize(
    ("path", "cwd", "expected"),
    [
        ("/first:/second", "/", "first"),
        ("/missing:/second:/first", "/", "second"),
        ("/probe.py:/first", "/", "first"),
        ("/plain:/second", "/", "second"),
        ("/directory:/second", "/", "second"),
        ("/broken:/second", "/", "second"),
        (":/first", "/second", "second"),
        ("/missing:", "/second", "second"),
        ("first", "/", "first"),
        (None, "/", "default"),
    ],
    ids=str,
)
def test_the_program_is_looked_up_in_the_path_of_the_container(
    sandbox: Sandbox, path: str | None, cwd: str, expected: str
) -> None:
    ops: list[AnyOp] = [
        executable("/first/program", "echo first"),
        executable("/second/program", "echo second"),
        Place("/plain/program", data=script("echo plain"), mode=0o644),
        Mkdir("/directory/program"),
        Place("/broken/program", data=b"#!/missing\n", mode=0o755),
    ]
    if path is None:
        # Where a missing PATH leads to; /usr of the container is the host's, and read-only.
        ops = [Bind("/usr/local/bin", source=str(sandbox.directory("local")))]
        program = sandbox.directory_root / "local" / "program"
        sandbox.file(program, script("echo default").decode(), 0o755)
    outcome = sandbox.run(ops, ["program"], cwd=cwd, env={} if path is None else {"PATH": path})
    assert outcome.failure is None, str(outcome.failure)
    assert outcome.stdout.strip() == expected


PLACED: Sequence[AnyOp] = (
    Place("/plain", data=script("true"), mode=0o644),
    Place("/broken", data=b"#!/missing/interpreter\n", mode=0o755),
    Place("/text", data=b"\0\1\2", mode=0o755),
    Mkdir("/directory/directory"),
    Place("/plains/plain", data=script("true"), mode=0o644),
)


@pytest.mark.parametrize(
    ("program", "path", "code", "number"),
    [
        ("missing", "/usr/bin:/bin", 127, errno.ENOENT),
        ("/missing", "", 127, errno.ENOENT),
        ("/plain/program", "", 127, errno.ENOTDIR),
        ("/broken", "", 127, errno.ENOENT),
        ("/plain", "", 126, errno.EACCES),
        ("plain", "/plains:/usr/bin", 126, errno.EACCES),
        ("/directory", "", 126, errno.EACCES),
        ("directory", "/usr/bin:/directory", 126, errno.EACCES),
        ("/text", "", 126, errno.ENOEXEC),
    ],
)
def test_what_cannot_be_executed_has_the_status_of_a_shell(
    sandbox: Sandbox, program: str, path: str, code: int, number: int
) -> None:
    failure = sandbox.refusal(PLACED, [program], env={"PATH": path})
    assert (failure.step, failure.exit_code, failure.errno, failure.path) == ("execute", code, number, program)
    assert ("interpreter" in failure.hint) == (program == "/broken")


@pytest.mark.parametrize(("program", "code"), [("/missing", 127), ("/etc/passwd", 126), ("/", 126)])
def test_igaki_run_exits_as_a_shell_does_and_says_why(sandbox: Sandbox, program: str, code: int) -> None:
    result = sandbox.command("igaki", "run", "--", program)
    assert result.returncode == code
    assert result.stderr.startswith("igaki: cannot execute: ")
    assert repr(program) in result.stderr
    assert result.stderr.count("\n") == 1


def test_bytes_in_the_name_of_a_missing_program_are_shown(sandbox: Sandbox) -> None:
    failure = sandbox.refusal([], [Octets(b"/missing\xff")])
    assert (failure.path, failure.exit_code) == ("/missing\\xff", 127)


def test_a_program_may_have_a_name_that_is_not_utf_8(sandbox: Sandbox) -> None:
    directory = os.fsencode(sandbox.directory("programs"))
    name = b"pro\xff\ngram"
    path = Path(os.fsdecode(directory + b"/" + name))
    sandbox.file(path, "#!/bin/sh\necho here\n", 0o755)
    outcome = sandbox.run([Bind("/programs", source=os.fsdecode(directory))], [Octets(b"/programs/" + name)])
    assert outcome.stdout == "here\n"
