"""The library: containers from a trio program, in this very process."""

from __future__ import annotations

import errno
import fcntl
import json
import os
import resource
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Generator, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import pytest
import trio
import trio.testing

import igaki
from igaki.host import container as container_module
from igaki.host import launch
from igaki.host.launch import start_init
from igaki.host.session import Session
from igaki.ops import AnyOp, Bind, Mkdir, Place, Plan, Setup, SetupError, Symlink, Tmpfs, encode_plan
from tests.harness import ENV, PYTHON_INSIDE, ROOT, children_of, is_alive, processes_of, system, wait_until

MEBIBYTE = 1024 * 1024
PROBE_ARGV = (PYTHON_INSIDE, "-I", "-S", "/probe.py")


def plan(*argv: str, ops: tuple[AnyOp, ...] = (), env: dict[str, str] = ENV, **setup: Any) -> Plan:
    return Plan(Setup(argv=list(argv), env=dict(env), **setup), [*system(), *ops])


def shell(script: str, **options: Any) -> Plan:
    return plan("sh", "-c", script, **options)


def state() -> dict[str, Any]:
    """What this process has and is."""
    status = dict(line.split(":\t", 1) for line in Path("/proc/self/status").read_text().splitlines())
    kept = ("Umask", "Uid", "Gid", "Groups", "SigBlk", "SigIgn", "SigCgt", "CapInh", "CapPrm", "CapEff", "CapBnd")
    return {
        "status": {name: status[name] for name in (*kept, "NoNewPrivs", "Seccomp", "NSpgid", "NSsid")},
        "cwd": os.getcwd(),
        "limit": resource.getrlimit(resource.RLIMIT_NOFILE),
        "namespaces": {name: os.readlink(f"/proc/self/ns/{name}") for name in os.listdir("/proc/self/ns")},
        "environment": dict(os.environ),
        "descriptors": descriptors(),
    }


def descriptors() -> dict[int, tuple[str, int, int]]:
    """The open descriptors of this process and their flags."""
    found: dict[int, tuple[str, int, int]] = {}
    for name in os.listdir("/proc/self/fd"):
        try:
            target = os.readlink(f"/proc/self/fd/{name}")
        except FileNotFoundError:  # of the listing itself
            continue
        found[int(name)] = (target, fcntl.fcntl(int(name), fcntl.F_GETFD), fcntl.fcntl(int(name), fcntl.F_GETFL))
    return found


@contextmanager
def nothing_left() -> Generator[None]:
    """Nothing of what is started inside may be left: no process or zombie, no descriptor, no mount."""
    before = children_of(os.getpid()), descriptors(), Path("/proc/self/mountinfo").read_text()
    yield
    assert (children_of(os.getpid()), descriptors(), Path("/proc/self/mountinfo").read_text()) == before


# Standard streams.


async def test_run_captures_what_the_program_writes() -> None:
    completed = await igaki.run(shell("printf out; printf err >&2"), capture_stdout=True, capture_stderr=True)
    assert (completed.returncode, completed.stdout, completed.stderr) == (0, b"out", b"err")


@pytest.mark.parametrize("size", [0, 1, 5 * MEBIBYTE])
async def test_run_feeds_bytes_and_captures_all_of_them(size: int) -> None:
    data = os.urandom(size)
    completed = await igaki.run(plan("cat"), stdin=data, capture_stdout=True)
    assert completed.stdout == data


async def test_a_program_may_end_without_reading_what_it_is_fed() -> None:
    completed = await igaki.run(plan("true"), stdin=bytes(MEBIBYTE))
    assert completed.returncode == 0


async def test_pipes_carry_a_conversation() -> None:
    async with igaki.open_container(plan("cat"), stdin=igaki.PIPE, stdout=igaki.PIPE) as container:
        assert container.stdin is not None
        assert container.stdout is not None
        for line in (b"one\n", b"two\n"):
            await container.stdin.send_all(line)
            assert await container.stdout.receive_some() == line
        await container.stdin.aclose()
        assert await container.stdout.receive_some() == b""
        assert await container.wait() == 0


@pytest.mark.parametrize("stream", ["stdout", "stderr"])
@pytest.mark.parametrize("kind", ["descriptor", "object"])
async def test_output_goes_to_a_given_file_which_stays_open(tmp_path: Path, stream: str, kind: str) -> None:
    with (tmp_path / "output").open("wb") as file:
        given = file if kind == "object" else file.fileno()
        if stream == "stdout":
            await igaki.run(shell("echo first"), stdout=given)
        else:
            await igaki.run(shell("echo first >&2"), stderr=given)
        file.write(b"second\n")
    assert (tmp_path / "output").read_text() == "first\nsecond\n"


async def test_input_comes_from_a_given_file(tmp_path: Path) -> None:
    (tmp_path / "input").write_text("content")
    with (tmp_path / "input").open() as file:
        completed = await igaki.run(plan("cat"), stdin=file, capture_stdout=True)
    assert completed.stdout == b"content"


async def test_devnull_is_the_null_device() -> None:
    script = "import os, sys; print(os.readlink('/proc/self/fd/0'), os.readlink('/proc/self/fd/1'), file=sys.stderr)"
    argv = (PYTHON_INSIDE, "-I", "-S", "-c", script)
    completed = await igaki.run(plan(*argv), stdin=igaki.DEVNULL, stdout=igaki.DEVNULL, capture_stderr=True)
    assert completed.stderr == b"/dev/null /dev/null\n"


# Further descriptors.


@contextmanager
def tempting_descriptors(tmp_path: Path) -> Generator[None]:
    """Descriptors that a careless start would hand to the program: the host's root, a socket, a file."""
    with socket.socket(socket.AF_UNIX) as sock, (tmp_path / "secret").open("w") as file:
        root = os.open("/", os.O_RDONLY | os.O_DIRECTORY)
        try:
            for fd in (root, sock.fileno(), file.fileno()):
                os.set_inheritable(fd, True)
            yield
        finally:
            os.close(root)


@pytest.mark.parametrize(
    "numbers",
    [(), (3,), (4,), (5,), (3, 4, 5, 6), (6, 5, 4, 3), (1000, 3, 99), (7, 8, 9, 10, 11, 12, 13, 14)],
    ids=str,
)
async def test_the_program_has_the_declared_descriptors_and_no_other(tmp_path: Path, numbers: tuple[int, ...]) -> None:
    with tempting_descriptors(tmp_path), ExitStack() as files:
        given: dict[int, int] = {}
        for number in numbers:
            (tmp_path / str(number)).write_text(f"content of {number}")
            given[number] = files.enter_context((tmp_path / str(number)).open()).fileno()
        before = descriptors()
        probed = await igaki.run(plan(*PROBE_ARGV), fds=given, capture_stdout=True)
        reading = f"import os; print({{n: os.pread(n, 99, 0).decode() for n in {numbers}}})"
        read = await igaki.run(plan(PYTHON_INSIDE, "-I", "-S", "-c", reading), fds=given, capture_stdout=True)
        assert descriptors() == before
    assert {int(number) for number in json.loads(probed.stdout)["fds"]} == {0, 1, 2, *numbers}
    assert read.stdout.decode().strip() == str({number: f"content of {number}" for number in numbers})


async def test_one_descriptor_may_be_passed_under_several_numbers(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("content")
    with (tmp_path / "file").open() as file:
        script = "cat <&8; cat /proc/self/fd/9"
        completed = await igaki.run(shell(script), fds=dict.fromkeys((8, 9), file.fileno()), capture_stdout=True)
    assert completed.stdout == b"contentcontent"


async def test_the_program_stands_in_its_own_root(tmp_path: Path) -> None:
    with tempting_descriptors(tmp_path):
        completed = await igaki.run(plan("ls", "-a", "/proc/self/cwd/.."), capture_stdout=True)
    assert set(completed.stdout.decode().split()) - {".", ".."} == {
        *(op.target.split("/")[1] for op in system()),
    }


# The caller.


async def test_the_caller_stays_as_it_was(tmp_path: Path) -> None:
    with tempting_descriptors(tmp_path):
        old_umask, old_cwd = os.umask(0o027), os.getcwd()
        old_mask = signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGUSR1])
        os.chdir(tmp_path)
        try:
            before = state()
            await igaki.run(plan("true"))
            with pytest.raises(SetupError):
                await igaki.run(plan("/missing"))
            assert state() == before
        finally:
            os.chdir(old_cwd)
            os.umask(old_umask)
            signal.pthread_sigmask(signal.SIG_SETMASK, old_mask)


async def test_containers_start_where_the_caller_ignores_its_children() -> None:
    old = signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    try:
        with nothing_left():
            completed = await igaki.run(shell("exit 7"), check=False)
    finally:
        signal.signal(signal.SIGCHLD, old)
    assert completed.returncode == 7


# How programs end.


@pytest.mark.parametrize("code", [1, 7, 255])
async def test_run_raises_for_a_status_other_than_0(code: int) -> None:
    script = f"echo out; echo err >&2; exit {code}"
    with pytest.raises(subprocess.CalledProcessError) as caught:
        await igaki.run(shell(script), capture_stdout=True, capture_stderr=True)
    error = caught.value
    assert (error.returncode, error.stdout, error.stderr) == (code, b"out\n", b"err\n")
    assert error.cmd == ["sh", "-c", script]


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL, signal.SIGSEGV])
async def test_a_killed_program_has_a_negative_returncode(number: signal.Signals) -> None:
    completed = await igaki.run(shell(f"kill -{number.value} $$"), check=False)
    assert completed.returncode == -number


# What can't be set up.


@pytest.mark.parametrize(
    ("ops", "argv", "expected"),
    [
        (
            (Bind("/data", source="/nowhere/at/all"),),
            ("true",),
            ("bind /nowhere/at/all on /data", 0, "early", errno.ENOENT, "/nowhere/at/all", 125),
        ),
        (
            (Mkdir("/first"), Bind("/usr/missing/point", source="/usr")),
            ("true",),
            ("bind /usr on /usr/missing/point", 1, "apply", errno.EROFS, "/usr/missing", 125),
        ),
        (
            (Symlink("/bin", to="elsewhere"),),
            ("true",),
            ("link /bin to elsewhere", 0, "apply", errno.EEXIST, "/bin", 125),
        ),
        ((), ("/usr/missing",), ("execute", None, "", errno.ENOENT, "/usr/missing", 127)),
        ((), ("/probe.py",), ("execute", None, "", errno.EACCES, "/probe.py", 126)),
    ],
    ids=["early", "apply", "apply in the way", "no program", "no x bit"],
)
async def test_a_setup_error_says_what_where_and_why(
    ops: tuple[AnyOp, ...], argv: tuple[str, ...], expected: tuple[Any, ...]
) -> None:
    step, index, phase, number, path, code = expected
    with nothing_left(), pytest.raises(SetupError) as caught:
        await igaki.run(plan(*argv, ops=ops))
    failure = caught.value.failure
    assert failure.index == (None if index is None else index + len(system()))
    assert (failure.step, failure.phase, failure.errno, failure.path, failure.exit_code) == (
        step,
        phase,
        number,
        path,
        code,
    )
    assert os.strerror(number) in str(caught.value)
    assert path in str(caught.value)


async def test_a_missing_init_is_a_setup_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(launch, "ENTRY", "/nowhere/entry")
    with nothing_left(), pytest.raises(SetupError) as caught:
        await igaki.run(plan("true"), capture_stdout=True)
    failure = caught.value.failure
    assert (failure.step, failure.errno, failure.path) == ("start init", errno.ENOENT, "/nowhere/entry")


async def test_an_init_that_dies_at_once_is_a_setup_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(launch, "ENTRY", "/bin/true")
    with nothing_left(), pytest.raises(SetupError):
        await igaki.run(plan("true"), capture_stdout=True)


async def test_a_closed_descriptor_is_a_setup_error() -> None:
    closed = os.open("/", os.O_PATH)
    os.close(closed)
    with nothing_left(), pytest.raises(SetupError) as caught:
        await igaki.run(plan("true"), fds={3: closed + 500}, capture_stdout=True, capture_stderr=True)
    assert caught.value.failure.errno == errno.EBADF


@pytest.mark.parametrize(
    ("ops", "fds"),
    [
        ([], {2: 0}),
        ([], {1024: 0}),
        ([], {-1: 0}),
        ([Mkdir("/made")] * 100_001, {}),
        ([Place(f"/{number}", data=bytes(16 * MEBIBYTE)) for number in range(17)], {}),
    ],
    ids=["standard descriptor", "large number", "negative number", "too many ops", "too many bytes"],
)
async def test_a_wrong_plan_raises_before_anything_is_started(
    monkeypatch: pytest.MonkeyPatch, ops: list[AnyOp], fds: dict[int, int]
) -> None:
    monkeypatch.setattr(launch, "ENTRY", "/nowhere/entry")  # with which a start is a SetupError
    with nothing_left(), pytest.raises(ValueError, match=r"\d"):
        await igaki.run(Plan(Setup(argv=["true"]), ops), fds=fds, capture_stdout=True)


# Time limits and cancellation.


@pytest.mark.parametrize("milliseconds", [0, 1, 5, 15, 30, 50])
async def test_a_set_up_that_takes_too_long_leaves_nothing(milliseconds: int) -> None:
    ops = tuple(Tmpfs(f"/{number}") for number in range(3000))
    with nothing_left(), pytest.raises(SetupError) as caught:
        await igaki.run(plan("true", ops=ops), capture_stdout=True, setup_timeout=milliseconds / 1000)
    assert "longer than" in caught.value.failure.reason


@pytest.mark.parametrize("number", [signal.SIGSTOP, signal.SIGKILL])
@pytest.mark.parametrize("size", [0, MEBIBYTE])
async def test_an_init_that_makes_no_progress_is_ended(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, number: signal.Signals, size: int
) -> None:
    """It reads nothing, so that a plan larger than a pipe can't be written, and doesn't notice when the host goes."""
    entry = tmp_path / "entry"
    entry.write_text(
        f"#!/bin/sh\n[ {number.value} = {signal.SIGKILL.value} ] || kill -{number.value} $$\nexec sleep 99\n"
    )
    entry.chmod(0o755)
    monkeypatch.setattr(launch, "ENTRY", str(entry))
    monkeypatch.setattr(container_module, "ABORT_TIMEOUT", 0.05)
    with nothing_left(), pytest.raises(SetupError):
        await igaki.run(plan("true", ops=(Place("/data", data=bytes(size)),)), setup_timeout=0.05)


async def test_cancellation_at_any_moment_leaves_nothing() -> None:
    with nothing_left():
        for milliseconds in range(0, 60, 3):
            with trio.move_on_after(milliseconds / 1000) as scope:
                await igaki.run(plan("sleep", "99"), capture_stdout=True)
            assert scope.cancelled_caught


async def test_an_exception_in_the_block_ends_the_container(tmp_path: Path) -> None:
    with nothing_left(), pytest.raises(LookupError):
        async with igaki.open_container(shell("sleep 99 & sleep 98", env={**ENV, "MARK": str(tmp_path)})):
            raise LookupError
    assert processes_of(tmp_path) == []


async def test_leaving_the_block_early_ends_everything_in_the_container(tmp_path: Path) -> None:
    with nothing_left():
        script = "sleep 99 & setsid sleep 98 & trap '' TERM; echo started; while :; do sleep 1; done"
        marked = shell(script, env={**ENV, "MARK": str(tmp_path)}, linger=None)
        async with igaki.open_container(marked, stdout=igaki.PIPE) as container:
            assert container.stdout is not None
            assert await container.stdout.receive_some() == b"started\n"
            assert container.returncode is None
            assert len(processes_of(tmp_path)) >= 3
        assert processes_of(tmp_path) == []
        assert not os.path.exists(f"/proc/{container.pid}")


# Signals and waiting.


@pytest.mark.parametrize("number", [signal.SIGHUP, signal.SIGINT, signal.SIGQUIT, signal.SIGTERM, signal.SIGUSR1])
async def test_signals_reach_the_program(number: signal.Signals) -> None:
    script = f"trap 'exit {number.value + 40}' {number.value}; echo ready; while :; do sleep 0.01; done"
    async with igaki.open_container(shell(script), stdout=igaki.PIPE) as container:
        assert container.stdout is not None
        await container.stdout.receive_some()
        container.send_signal(number)
        assert await container.wait() == number + 40


async def test_kill_ends_the_container_before_the_program_has_a_status() -> None:
    with nothing_left():
        async with igaki.open_container(plan("sleep", "99")) as container:
            container.kill()
            with pytest.raises(SetupError, match="how the program ended"):
                await container.wait()


async def test_signals_after_the_end_go_nowhere() -> None:
    async with igaki.open_container(plan("true")) as container:
        await container.wait()
        container.send_signal(signal.SIGTERM)
        container.kill()
        assert container.returncode == 0


@pytest.mark.parametrize("linger", [0.0, 0.05, None])
async def test_every_waiter_learns_the_returncode(linger: float | None) -> None:
    codes: list[int] = []

    async def wait(container: igaki.Container) -> None:
        codes.append(await container.wait())

    async with igaki.open_container(shell("exit 5", linger=linger)) as container:
        async with trio.open_nursery() as nursery:
            for _ in range(3):
                nursery.start_soon(wait, container)
        codes.append(await container.wait())
    assert codes == [5] * 4


@pytest.mark.parametrize("patience", range(8))
async def test_a_cancelled_wait_can_be_repeated(patience: int) -> None:
    """Also when it is cancelled while what is left of the container is collected."""
    many = "for i in $(seq 100); do sleep 99 & done; exit 5"  # so that their end takes a while
    with nothing_left():
        async with igaki.open_container(shell(many)) as container:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(container.wait)
                while container.returncode is None:
                    await trio.lowlevel.checkpoint()
                for _ in range(patience):
                    await trio.lowlevel.checkpoint()
                nursery.cancel_scope.cancel()
            with ExitStack() as others:
                bystanders = [others.enter_context(open("/dev/null")) for _ in range(4)]
                assert await container.wait() == 5
                assert [os.readlink(f"/proc/self/fd/{file.fileno()}") for file in bystanders] == ["/dev/null"] * 4


@pytest.mark.parametrize(("linger", "least", "most"), [(0.0, 0.0, 0.7), (0.3, 0.3, 0.75), (None, 0.7, 5.0)])
async def test_wait_lasts_as_long_as_what_lingers(linger: float | None, least: float, most: float) -> None:
    async with igaki.open_container(shell("sleep 0.8 & exit 3", linger=linger)) as container:
        start = time.monotonic()
        assert await container.wait() == 3
        assert least <= time.monotonic() - start < most


async def test_a_stopped_program_is_reported_and_goes_on_when_it_is_continued() -> None:
    async with igaki.open_container(shell("kill -STOP $$; exit 6")) as container, trio.open_nursery() as nursery:
        nursery.start_soon(container.wait)
        with trio.fail_after(5):
            while not container.session.stopped_by:
                await trio.sleep(0.001)
        assert container.session.stopped_by == signal.SIGSTOP
        assert container.returncode is None
        container.send_signal(signal.SIGCONT)
        assert await container.wait() == 6


# Threads.


def test_containers_start_from_any_thread_of_many() -> None:
    codes: list[int] = []
    release = threading.Event()

    async def main() -> None:
        codes.append((await igaki.run(shell("exit 4"), check=False)).returncode)

    idle = [threading.Thread(target=release.wait) for _ in range(50)]
    busy = [threading.Thread(target=trio.run, args=(main,)) for _ in range(4)]
    with nothing_left():
        for thread in (*idle, *busy):
            thread.start()
        for thread in busy:
            thread.join()
        release.set()
        for thread in idle:
            thread.join()
    assert codes == [4] * 4


def start_by_hand(seconds: str) -> int:
    """Start a container without trio's supervision, and leave it running. Returns its PID 1."""
    init = start_init([0, 1, 2])
    os.write(init.stream, encode_plan(plan("sleep", seconds)))
    os.close(init.stream)
    session = Session()
    while not session.ready:
        session.feed(os.read(init.status, 65536))
    os.waitpid(init.pid, 0)
    assert session.pid is not None
    return session.pid


def thread_host() -> None:
    """A process whose container was started by the thread that the command line names; prints PID 1 afterwards."""
    found: list[int] = []
    if sys.argv[1] == "main":
        other = threading.Thread(target=time.sleep, args=(0.05,))
        other.start()
        found.append(start_by_hand("99"))
    else:
        other = threading.Thread(target=lambda: found.append(start_by_hand("99")))
        other.start()
    other.join()
    wait_until(lambda: len(os.listdir("/proc/self/task")) == 1)
    print(found[0], flush=True)
    signal.pause()


@pytest.mark.parametrize("thread", ["main", "other"])
def test_the_end_of_a_thread_ends_no_container_and_that_of_the_process_does(
    thread: str, run_host: Callable[..., subprocess.Popen[bytes]]
) -> None:
    host = run_host("thread_host", thread)
    assert host.stdout is not None
    pid_one = int(host.stdout.readline())
    time.sleep(0.05)  # whatever the thread's end set off would have arrived
    assert b"sleep" in b"".join(Path(f"/proc/{pid}/cmdline").read_bytes() for pid in children_of(pid_one))
    host.kill()
    host.wait()
    assert wait_until(lambda: not is_alive(pid_one), 1)


@pytest.fixture
def run_host() -> Iterator[Callable[..., subprocess.Popen[bytes]]]:
    """Starts a function of this module in a process of its own."""
    with ExitStack() as hosts:

        def run(function: str, *arguments: str) -> subprocess.Popen[bytes]:
            code = f"from tests.host.test_container import {function}; {function}()"
            command = [sys.executable, "-c", code, *arguments]
            host = hosts.enter_context(subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE))
            hosts.callback(host.kill)
            return host

        yield run


async def test_a_block_can_be_left_while_somebody_outside_it_waits() -> None:
    codes: list[int | None] = []

    async def wait(container: igaki.Container) -> None:
        try:
            codes.append(await container.wait())
        except SetupError:
            codes.append(None)

    with nothing_left():
        for _ in range(10):
            async with trio.open_nursery() as nursery, igaki.open_container(shell("sleep 99")) as container:
                nursery.start_soon(wait, container)
                await trio.testing.wait_all_tasks_blocked()
    assert codes == [None] * 10


async def test_a_container_that_is_killed_meanwhile_is_one_error_of_run() -> None:
    async def kill_soon() -> None:
        while True:
            for pid in children_of(os.getpid()):
                # PID 1 of another namespace, whose program runs.
                if "\t1\n" in Path(f"/proc/{pid}/status").read_text().partition("NSpid")[2] and children_of(pid):
                    os.kill(pid, signal.SIGKILL)
                    return
            await trio.sleep(0.01)

    caught: list[SetupError] = []
    with nothing_left():
        async with trio.open_nursery() as nursery:
            nursery.start_soon(kill_soon)
            try:
                await igaki.run(shell("sleep 99"), capture_stdout=True)
            except SetupError as error:
                caught.append(error)
    assert len(caught) == 1


@pytest.mark.parametrize("number", [signal.SIGSTOP, signal.SIGALRM, signal.SIGCHLD])
async def test_a_signal_that_would_not_reach_the_program_is_refused(number: signal.Signals) -> None:
    async with igaki.open_container(shell("sleep 99")) as container:
        with pytest.raises(ValueError, match="not passed on"):
            container.send_signal(number)
