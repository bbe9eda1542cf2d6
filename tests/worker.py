"""Runs plans for the tests under another identity: pickled requests on standard input, pickled outcomes on output."""

from __future__ import annotations

import os
import pickle
import subprocess
import sys
import time
from dataclasses import dataclass, field
from typing import BinaryIO

import trio

import igaki
from igaki.host import launch
from igaki.ops import AnyOp, Failure, Timing, decode_plan


@dataclass
class Request:
    stream: bytes
    stdin: bytes = b""
    setup_timeout: float = 30.0
    entry: str = launch.ENTRY
    """The script that is executed as init."""


@dataclass
class Outcome:
    """How a plan went."""

    returncode: int | None = None
    stdout: str = ""
    stderr: str = ""
    failure: Failure | None = None
    warnings: list[str] = field(default_factory=list[str])
    settled: dict[int, AnyOp | None] = field(default_factory=dict[int, AnyOp | None])
    timing: Timing | None = None
    seconds: float = 0.0


async def perform(request: Request) -> Outcome:
    plan = decode_plan(request.stream)
    launch.ENTRY = request.entry
    outcome = Outcome()
    output: dict[str, bytes] = {"stdout": b"", "stderr": b""}
    start = time.monotonic()

    async def collect(name: str, stream: trio.lowlevel.FdStream) -> None:
        async for piece in stream:
            output[name] += piece

    try:
        async with igaki.open_container(
            plan, stdin=igaki.PIPE, stdout=igaki.PIPE, stderr=igaki.PIPE, setup_timeout=request.setup_timeout
        ) as container:
            assert container.stdin is not None
            assert container.stdout is not None
            assert container.stderr is not None
            async with trio.open_nursery() as nursery:
                nursery.start_soon(collect, "stdout", container.stdout)
                nursery.start_soon(collect, "stderr", container.stderr)
                try:
                    await container.stdin.send_all(request.stdin)
                except trio.BrokenResourceError:
                    pass  # the program may not read
                await container.stdin.aclose()
                outcome.returncode = await container.wait()
            outcome.warnings = container.session.warnings
            outcome.settled = container.session.settled
            outcome.timing = container.session.timing
    except igaki.SetupError as error:
        outcome.failure = error.failure
    outcome.stdout = output["stdout"].decode(errors="surrogateescape")
    outcome.stderr = output["stderr"].decode(errors="surrogateescape")
    outcome.seconds = time.monotonic() - start
    return outcome


class Worker:
    """The other end: a worker process under the identity of `uid`."""

    def __init__(self, uid: int, gid: int, directory: str) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tests.worker"],
            cwd=directory,
            user=uid,
            group=gid,
            extra_groups=[] if os.getuid() == 0 else None,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
        )

    def __call__(self, request: Request) -> Outcome:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        pickle.dump(request, self._process.stdin)
        self._process.stdin.flush()
        outcome = pickle.load(self._process.stdout)
        if isinstance(outcome, BaseException):
            raise outcome
        assert isinstance(outcome, Outcome)
        return outcome

    def close(self) -> None:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.close()
        self._process.wait()
        self._process.stdout.close()


def serve(requests: BinaryIO, outcomes: BinaryIO) -> None:
    while True:
        try:
            request = pickle.load(requests)
        except EOFError:
            return
        outcome: Outcome | BaseException
        try:
            outcome = trio.run(perform, request)
        except Exception as error:
            error.add_note("raised in the worker")
            outcome = RuntimeError(f"{type(error).__name__}: {error}")
        pickle.dump(outcome, outcomes)
        outcomes.flush()


def main() -> None:
    # Nothing else may write to where the outcomes go.
    outcomes = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)
    serve(sys.stdin.buffer, outcomes)


if __name__ == "__main__":
    # Under its importable name, so that pickles made here are known there.
    from tests.worker import main as importable_main

    importable_main()
