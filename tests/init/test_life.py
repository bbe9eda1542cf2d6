"""From the first process to the last: who ends when, who learns of it, and that nothing is left."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, suppress
from pathlib import Path

import pytest
import trio

import igaki
from igaki.host.launch import start_init
from igaki.host.session import Session
from igaki.ops import Bind, Plan, Setup, encode_plan
from tests.harness import (
    ENV,
    IGAKI,
    ROOT,
    Sandbox,
    children_of,
    is_alive,
    marked_environment,
    processes_of,
    system,
    wait_until,
)

MOMENTS = [step * 0.0015 for step in range(28)]
"""Seconds after the start of init, over the time that a container takes to come up."""

Started = Callable[..., "subprocess.Popen[str]"]


@pytest.fixture
def start() -> Iterator[Callable[..., subprocess.Popen[str]]]:
    """Starts `igaki run` as a sandbox's caller and leaves it running."""
    with ExitStack() as running:

        def begin(
            sandbox: Sandbox, script: str, *options: str, stdin: int = subprocess.DEVNULL
        ) -> subprocess.Popen[str]:
            process = running.enter_context(
                subprocess.Popen(
                    [IGAKI, "run", "--setenv", "MARK", str(sandbox.directory_root), *options, "--", "sh", "-c", script],
                    **sandbox.identity(),
                    cwd="/",
                    env={**ENV, "HOME": sandbox.home},
                    stdin=stdin,
                    stdout=subprocess.PIPE,
                    stderr=subprocess.PIPE,
                    text=True,
                )
            )
            running.callback(process.kill)
            return process

        yield begin


def first_line(process: subprocess.Popen[str]) -> str:
    assert process.stdout is not None
    return process.stdout.readline().strip()


def plan(script: str, *, linger: float | None = 0.0) -> Plan:
    return Plan(Setup(argv=["sh", "-c", script], env=dict(ENV), linger=linger), system())


# The host is killed.


def kill_hosts() -> None:
    """Runs in a process of its own: for every moment, a host that has started a container is killed at that moment.

    "stop": init's first stage is stopped at the moment and goes on when the host is gone.
    """
    stream = encode_plan(Plan(Setup(argv=["sleep", "99"], env=dict(ENV)), system()))
    for moment in MOMENTS:
        told, tell = os.pipe()
        host = os.fork()
        if host == 0:
            init = start_init([0, 1, 2])
            os.write(tell, str(init.pid).encode())
            os.write(init.stream, stream)
            os.close(init.stream)
            while True:
                signal.pause()
        stage_one = int(os.read(told, 99))
        time.sleep(moment)
        if sys.argv[1] == "stop":
            os.kill(stage_one, signal.SIGSTOP)
        os.kill(host, signal.SIGKILL)
        os.waitpid(host, 0)
        if sys.argv[1] == "stop":
            try:
                os.kill(stage_one, signal.SIGCONT)
            except ProcessLookupError:  # it had done its work before the moment came
                pass
        os.close(told)
        os.close(tell)


@pytest.mark.parametrize("how", ["go on", "stop"])
def test_a_host_killed_at_any_moment_leaves_nothing(sandbox: Sandbox, how: str) -> None:
    env = marked_environment(sandbox.directory_root)
    code = "from tests.init.test_life import kill_hosts; kill_hosts()"
    result = sandbox.command(sys.executable, "-c", code, how, cwd=ROOT, env=env)
    assert result.returncode == 0, result.stderr
    assert wait_until(lambda: not processes_of(sandbox.directory_root), 1)


def kill_silent_host() -> None:
    """Runs in a process of its own: dies while PID 1 waits for a plan that another process could still write."""
    stream = encode_plan(Plan(Setup(argv=["sleep", "99"], env=dict(ENV)), system()))
    init = start_init([0, 1, 2])
    os.write(init.stream, stream[:-1])
    session = Session()
    while session.pid is None:
        session.feed(os.read(init.status, 65536))
    if os.fork() == 0:
        os.close(init.status)
        os.kill(os.getppid(), signal.SIGKILL)
        print(session.pid, flush=True)
        sys.stdin.read()  # holds the stream until the test is over
    else:
        signal.pause()


def test_a_host_killed_between_the_stages_takes_a_waiting_pid_1_with_it(sandbox: Sandbox) -> None:
    code = "from tests.init.test_life import kill_silent_host; kill_silent_host()"
    host = subprocess.Popen(
        [sys.executable, "-c", code],
        **sandbox.identity(),
        cwd=ROOT,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    with host:
        pid_one = int(first_line(host))
        assert wait_until(lambda: not is_alive(pid_one), 1)


def test_a_killed_igaki_run_leaves_nothing(sandbox: Sandbox, start: Started) -> None:
    process = start(sandbox, "setsid sleep 99 & sleep 98 & echo started; trap '' HUP TERM; while :; do sleep 1; done")
    assert first_line(process) == "started"
    assert wait_until(lambda: len(processes_of(sandbox.directory_root)) >= 4)
    process.kill()
    assert wait_until(lambda: not processes_of(sandbox.directory_root), 1)


# Parts of the container are killed.


async def test_a_killed_first_stage_is_a_setup_error(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    entry = tmp_path / "entry"
    entry.write_text("#!/bin/sh\nkill -KILL $$\n")
    entry.chmod(0o755)
    monkeypatch.setattr("igaki.host.launch.ENTRY", str(entry))
    before = children_of(os.getpid())
    with pytest.raises(igaki.SetupError, match="init is gone"):
        await igaki.run(plan("exit 0"))
    assert children_of(os.getpid()) == before


def test_a_killed_pid_1_ends_the_program_and_is_an_error(sandbox: Sandbox, start: Started) -> None:
    process = start(sandbox, "sleep 0.05; echo started; sleep 99")
    first_line(process)
    (pid_one,) = filter(is_alive, children_of(process.pid))
    os.kill(pid_one, signal.SIGKILL)
    _, errors = process.communicate(timeout=5)
    assert (process.returncode, errors.startswith("igaki: cannot learn how the program ended")) == (125, True)
    assert wait_until(lambda: not processes_of(sandbox.directory_root), 1)


def test_a_killed_program_ends_the_container(sandbox: Sandbox, start: Started) -> None:
    process = start(sandbox, "echo started; exec sleep 99")
    first_line(process)
    (pid_one,) = filter(is_alive, children_of(process.pid))
    (program,) = children_of(pid_one)
    os.kill(program, signal.SIGKILL)
    assert process.wait(5) == 128 + signal.SIGKILL
    assert wait_until(lambda: not is_alive(pid_one), 1)


# How programs end.


@pytest.mark.parametrize(
    ("script", "returncode", "status"),
    [
        ("exit 0", 0, 0),
        ("exit 7", 7, 7),
        ("exit 255", 255, 255),
        ("kill -SEGV $$", -signal.SIGSEGV, 139),
        ("kill -TERM $$", -signal.SIGTERM, 143),
        ("kill -KILL $$", -signal.SIGKILL, 137),
        ("(exit 9) & exit 3", 3, 3),
    ],
)
def test_the_end_of_the_program_is_reported(sandbox: Sandbox, script: str, returncode: int, status: int) -> None:
    assert sandbox.run([], ["sh", "-c", script]).returncode == returncode
    assert sandbox.command("igaki", "run", "--", "sh", "-c", script).returncode == status


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGQUIT, signal.SIGHUP, signal.SIGUSR1])
def test_signals_to_igaki_run_reach_the_program(sandbox: Sandbox, start: Started, number: signal.Signals) -> None:
    script = f"trap 'exit {number + 40}' {number.value}; sleep 0.05; echo ready; while :; do sleep 0.01; done"
    process = start(sandbox, script)
    first_line(process)
    process.send_signal(number)
    assert process.wait(5) == number + 40


SLOW_BOOT = """
import sys, time
sys.path += sys.argv[4:]
from igaki.lite import load_msgspec
load_msgspec()
from igaki.init import payload, stages
start = payload.start
def start_and_sleep(*arguments):
    program = start(*arguments)
    time.sleep(0.1)
    return program
payload.start = start_and_sleep
stages.main(int(sys.argv[2]), die_with_thread=sys.argv[3] == "1")
"""


def test_a_signal_reaches_a_program_that_init_has_not_yet_reported(user_sandbox: Sandbox) -> None:
    boot = user_sandbox.file(user_sandbox.directory("init") / "boot.py", SLOW_BOOT)
    entry = user_sandbox.file(boot.with_name("entry"), f'#!/bin/sh\nexec "$1" -I -S {boot} "$@"\n', 0o755)
    code = f"from igaki.host import cli, launch; launch.ENTRY = {str(entry)!r}; cli.main()"
    script = "trap 'exit 55' TERM; echo ready; while :; do sleep 0.01; done"
    command = [sys.executable, "-c", code, "run", "--", "sh", "-c", script]
    with subprocess.Popen(command, **user_sandbox.identity(), cwd="/", stdout=subprocess.PIPE, text=True) as process:
        assert first_line(process) == "ready"
        process.send_signal(signal.SIGTERM)
        assert process.wait(5) == 55


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_forwarded_signal_that_kills_the_program_is_its_status(
    user_sandbox: Sandbox, start: Started, number: signal.Signals
) -> None:
    process = start(user_sandbox, "echo ready; exec sleep 99")
    first_line(process)
    process.send_signal(number)
    assert process.wait(5) == 128 + number


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGSTOP, signal.SIGSEGV, signal.SIGALRM])
def test_the_program_cannot_end_or_stop_pid_1(sandbox: Sandbox, number: signal.Signals) -> None:
    assert sandbox.run([], ["sh", "-c", f"kill -{number.value} 1; sleep 0.02; exit 5"]).returncode == 5


def test_igaki_run_stops_and_goes_on_with_the_program(user_sandbox: Sandbox, start: Started) -> None:
    _, terminal = os.openpty()
    process = start(user_sandbox, "kill -STOP $$; exit 6", stdin=terminal)
    _, status = os.waitpid(process.pid, os.WUNTRACED)
    assert os.WIFSTOPPED(status)
    process.send_signal(signal.SIGCONT)
    assert process.wait(5) == 6


# What outlives the program.

DAEMON = "(setsid sh -c 'sleep 0.6; echo done >/out/done') & exit 3"


@pytest.mark.parametrize(
    ("linger", "finishes", "least", "most"),
    [(0.0, False, 0.0, 5.0), (0.15, False, 0.15, 5.0), (9.0, True, 0.6, 5.0), (None, True, 0.6, 5.0)],
)
def test_a_daemon_lives_as_long_as_linger_grants(
    sandbox: Sandbox, linger: float | None, finishes: bool, least: float, most: float
) -> None:
    out = sandbox.directory("out")
    outcome = sandbox.run(
        [Bind("/out", source=str(out), writable=True)], ["sh", "-c", f"exec >&- 2>&-; {DAEMON}"], linger=linger
    )
    assert outcome.returncode == 3
    assert least <= outcome.seconds < most
    assert (out / "done").exists() == finishes


def test_2000_orphans_leave_no_zombie(user_sandbox: Sandbox) -> None:
    script = """
        i=0; while [ $i -lt 2000 ]; do (: &); i=$((i+1)); done
        tries=0
        while grep -qs '^State:.*Z' /proc/[0-9]*/status && [ $tries -lt 99 ]; do
            sleep 0.02; tries=$((tries+1))
        done
        cat /proc/[0-9]*/status | grep -c '^State:'
    """
    outcome = user_sandbox.run([], ["sh", "-c", script], linger=None)
    # PID 1, the shell, cat and grep.
    assert (outcome.stdout.strip(), outcome.returncode) == ("4", 0)


# Descriptors.


async def test_the_end_of_output_is_seen_when_the_program_closes_it() -> None:
    async with igaki.open_container(plan("exec >&-; sleep 99"), stdout=igaki.PIPE) as container:
        assert container.stdout is not None
        with trio.fail_after(5):
            assert await container.stdout.receive_some() == b""
        assert container.returncode is None


@pytest.mark.skipif(os.getuid() != 0, reason="nobody but root may look into PID 1")
async def test_pid_1_holds_none_of_the_programs_descriptors(tmp_path: Path) -> None:
    with (tmp_path / "file").open("w") as file:
        script = "echo ready; sleep 99"
        fds = {3: file.fileno(), 77: file.fileno()}
        async with igaki.open_container(plan(script), stdin=igaki.PIPE, stdout=igaki.PIPE, fds=fds) as container:
            assert container.stdout is not None
            await container.stdout.receive_some()
            held = Path(f"/proc/{container.pid}/fd")
            # The null device three times, the status socket, both ends of the pipe that its signals come by.
            wanted = ["null"] * 3 + ["pipe"] * 2 + ["socket"]
            assert wait_until(lambda: sorted(kind_of(fd) for fd in held.iterdir()) == wanted)


def kind_of(descriptor: Path) -> str:
    with suppress(FileNotFoundError):  # it has just been closed
        null = descriptor.stat().st_rdev == os.stat(os.devnull).st_rdev
        return "null" if null else os.readlink(descriptor).partition(":")[0]
    return "gone"
