"""Containers from a trio program, after trio's own `run_process` and `open_process`."""

from __future__ import annotations

import os
import signal
import subprocess
from collections.abc import AsyncGenerator, Mapping
from contextlib import ExitStack, asynccontextmanager, suppress
from typing import Protocol

import msgspec
import trio

from igaki.host.launch import Init, start_init
from igaki.host.session import SETUP_TIMEOUT, Session
from igaki.ops import Failure, Plan, SetupError
from igaki.ops.wire import encode_plan
from igaki.signals import FORWARDED

PIPE = subprocess.PIPE
DEVNULL = subprocess.DEVNULL
ABORT_TIMEOUT = 5.0
"""Seconds that the first stage of init gets to notice that it isn't wanted any more."""


class HasFileno(Protocol):
    def fileno(self) -> int: ...


Stdio = int | HasFileno | None
"""None: the caller's own; PIPE; DEVNULL; a descriptor; something that has one."""


class Container:
    """A running container. Made by `open_container`."""

    def __init__(self, plan: Plan, init: Init) -> None:
        self.plan = plan
        self.stdin: trio.lowlevel.FdStream | None = None
        """Writes to the program's standard input, where that is a PIPE."""
        self.stdout: trio.lowlevel.FdStream | None = None
        self.stderr: trio.lowlevel.FdStream | None = None
        self.session = Session()
        self._init = init
        self._stage_one = _pidfd(init.pid)
        self._pid_one: int | None = None
        self._status = trio.lowlevel.FdStream(init.status)
        self._lock = trio.Lock()

    @property
    def pid(self) -> int:
        """PID 1 of the container, numbered on the host; a child of this process until the container is closed."""
        assert self.session.pid is not None, "a container that is handed out has started"
        return self.session.pid

    @property
    def returncode(self) -> int | None:
        """The program's exit status, or minus the signal that killed it; None while it runs."""
        exited = self.session.exited
        if exited is None:
            return None
        return -exited.signal if exited.signal else exited.code

    async def wait(self) -> int:
        """Wait for the program, then for what lingers, then for the container to be gone. Returns `returncode`.

        Raises SetupError when the container was killed before the program ended.
        """
        async with self._lock:
            while self.session.exited is None:
                await self._receive()
            if self.plan.setup.linger != 0:
                while await self._status.receive_some():
                    pass
            await self._reap()
        assert self.returncode is not None
        return self.returncode

    def send_signal(self, number: int) -> None:
        """Send the program one of the signals that are passed on (`igaki.signals.FORWARDED`). SIGKILL ends everything.

        Raises ValueError for any other: PID 1 would get it, and keep it.
        """
        if number not in (*FORWARDED, signal.SIGKILL):
            raise ValueError(f"signal {number} is not passed on to the program")
        if self._pid_one is not None:
            with suppress(ProcessLookupError):
                signal.pidfd_send_signal(self._pid_one, number)

    def kill(self) -> None:
        """End everything in the container at once."""
        self.send_signal(signal.SIGKILL)

    async def _set_up(self, stream_of_plan: bytes | bytearray) -> None:
        with suppress(trio.BrokenResourceError):  # init gave up reading: the status says why
            async with trio.lowlevel.FdStream(self._init.stream) as stream:
                await stream.send_all(stream_of_plan)
        while not self.session.ready:
            await self._receive()

    async def _receive(self) -> None:
        try:
            self.session.feed(await self._status.receive_some())
        except trio.BrokenResourceError:
            self.session.feed(b"")
        finally:
            if self._pid_one is None and self.session.pid is not None:
                self._pid_one = _pidfd(self.session.pid)

    async def _close(self) -> None:
        """Leave nothing behind, wherever the container is in its life."""
        with trio.CancelScope(shield=True):
            for stream in (self.stdin, self.stdout, self.stderr):
                if stream is not None:
                    await stream.aclose()
            try:
                if self.session.pid is None:
                    await self._abort()
                self.kill()
                async with self._lock:  # somebody may be waiting for its end
                    await self._reap()
            finally:
                await self._status.aclose()

    async def _abort(self) -> None:
        """End stage one, learning the pid of a PID 1 that it may just be starting, so that it can be reaped."""
        with trio.move_on_after(ABORT_TIMEOUT), suppress(SetupError):
            while self.session.pid is None:
                await self._receive()
        if self._stage_one is not None:
            with suppress(ProcessLookupError):
                signal.pidfd_send_signal(self._stage_one, signal.SIGKILL)

    async def _reap(self) -> None:
        if self._stage_one is not None:
            await _collect(self._stage_one)
            self._stage_one = None
        if self._pid_one is not None:
            await _collect(self._pid_one)
            self._pid_one = None


@asynccontextmanager
async def open_container(
    plan: Plan,
    *,
    stdin: Stdio = None,
    stdout: Stdio = None,
    stderr: Stdio = None,
    fds: Mapping[int, int] | None = None,
    setup_timeout: float = SETUP_TIMEOUT,
) -> AsyncGenerator[Container]:
    """Start a container and hand it out once its program runs. When the block ends, so does everything in it.

    `fds` are further descriptors for the program: number inside to descriptor here; they take the place of the plan's
    `Setup.fds`. `setup_timeout` is in seconds.

    Raises SetupError when the container can't be set up, ValueError when the plan is wrong.
    """
    numbers = dict(fds or {})
    plan = msgspec.structs.replace(plan, setup=msgspec.structs.replace(plan.setup, fds=list(numbers)))
    stream_of_plan = encode_plan(plan)  # a wrong plan raises before anything is started
    with ExitStack() as ends:
        theirs: list[int] = []
        ours: list[trio.lowlevel.FdStream | None] = []
        for number, wanted in enumerate((stdin, stdout, stderr)):
            end, stream = _stdio(number, wanted, ends)
            theirs.append(end)
            ours.append(stream)
        try:
            container = Container(plan, start_init(theirs, list(numbers.values())))
        except OSError as error:
            for stream in filter(None, ours):
                await stream.aclose()
            raise SetupError(_not_started(error)) from error
    container.stdin, container.stdout, container.stderr = ours
    try:
        with trio.move_on_after(setup_timeout) as deadline:
            await container._set_up(stream_of_plan)
        if deadline.cancelled_caught:
            reason = f"it took longer than {setup_timeout:g} seconds"
            raise SetupError(Failure(step="set the container up", reason=reason))
        yield container
    finally:
        await container._close()


async def run(
    plan: Plan,
    *,
    stdin: bytes | Stdio = b"",
    stdout: Stdio = None,
    stderr: Stdio = None,
    capture_stdout: bool = False,
    capture_stderr: bool = False,
    check: bool = True,
    fds: Mapping[int, int] | None = None,
    setup_timeout: float = SETUP_TIMEOUT,
) -> subprocess.CompletedProcess[bytes]:
    """Run a program in a container of its own and wait for both to end.

    `stdin` may be the bytes to feed it. Nothing of the container is left when this returns, raises or is cancelled.

    Raises SetupError, ValueError, and subprocess.CalledProcessError when `check` and the program's status isn't 0.
    """
    output: dict[str, bytes] = {}
    killed: SetupError | None = None

    async def feed(stream: trio.lowlevel.FdStream, data: bytes) -> None:
        with suppress(trio.BrokenResourceError):  # the program may end without having read everything
            async with stream:
                await stream.send_all(data)

    async def collect(name: str, stream: trio.lowlevel.FdStream) -> None:
        output[name] = b"".join([piece async for piece in stream])

    async with (
        open_container(
            plan,
            stdin=PIPE if isinstance(stdin, bytes) else stdin,
            stdout=PIPE if capture_stdout else stdout,
            stderr=PIPE if capture_stderr else stderr,
            fds=fds,
            setup_timeout=setup_timeout,
        ) as container,
        trio.open_nursery() as nursery,
    ):
        if isinstance(stdin, bytes) and container.stdin is not None:
            nursery.start_soon(feed, container.stdin, stdin)
        for name, stream in (("stdout", container.stdout), ("stderr", container.stderr)):
            if stream is not None:
                nursery.start_soon(collect, name, stream)
        try:
            await container.wait()
        except SetupError as error:
            killed = error  # to be raised by itself rather than in the nursery's group
            nursery.cancel_scope.cancel()
    if killed is not None:
        raise killed
    assert container.returncode is not None
    argv = [str(argument) for argument in plan.setup.argv]
    if check and container.returncode != 0:
        raise subprocess.CalledProcessError(container.returncode, argv, output.get("stdout"), output.get("stderr"))
    return subprocess.CompletedProcess(argv, container.returncode, output.get("stdout"), output.get("stderr"))


def _pidfd(pid: int) -> int | None:
    """A descriptor of a child; None where the caller ignores SIGCHLD and it is gone already."""
    with suppress(ProcessLookupError):
        return os.pidfd_open(pid)
    return None


async def _collect(pidfd: int) -> None:
    """Wait for a process to end, reap it and close its descriptor; cancelled, it has done none of these."""
    await trio.lowlevel.wait_readable(pidfd)
    with suppress(ChildProcessError):  # reaped by the caller, or by the kernel where SIGCHLD is ignored
        os.waitid(os.P_PIDFD, pidfd, os.WEXITED)
    os.close(pidfd)


def _stdio(number: int, wanted: Stdio, ends: ExitStack) -> tuple[int, trio.lowlevel.FdStream | None]:
    """The program's end of descriptor `number`, closed with `ends` where it is ours, and our end of a pipe."""
    if wanted is None:
        return number, None
    if wanted == DEVNULL:
        fd = os.open(os.devnull, os.O_RDWR | os.O_CLOEXEC)
        ends.callback(os.close, fd)
        return fd, None
    if wanted == PIPE:
        read, write = os.pipe2(os.O_CLOEXEC)
        theirs, ours = (read, write) if number == 0 else (write, read)
        ends.callback(os.close, theirs)
        return theirs, trio.lowlevel.FdStream(ours)
    return wanted if isinstance(wanted, int) else wanted.fileno(), None


def _not_started(error: OSError) -> Failure:
    path = error.filename if isinstance(error.filename, str) else ""
    return Failure(step="start init", reason=error.strerror or str(error), errno=error.errno or 0, path=path)
