"""Bytes that are no plan, given to the real init: one clear refusal, at once, and nothing is left."""

import os
import select
import signal
import time
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from igaki.host.launch import start_init
from igaki.ops import Exited, Failure, Plan, Setup, Started, Status, Tmpfs, encode_plan
from igaki.ops.wire import StatusReader
from tests.harness import system
from tests.ops.test_wire import SMALL, START, WRONG, message

PATIENCE = 10.0
"""Seconds after which init hangs, as far as these tests are concerned."""


@dataclass
class End:
    """How an init ended that was given some bytes."""

    statuses: list[Status] = field(default_factory=list[Status])
    stderr: bytes = b""
    pids: list[int] = field(default_factory=list[int])
    codes: list[int] = field(default_factory=list[int])


class Patience:
    """What is left of the time that init may take."""

    def __init__(self, seconds: float) -> None:
        self._end = time.monotonic() + seconds

    def wait(self, fd: int, what: int) -> None:
        poll = select.poll()
        poll.register(fd, what)
        assert poll.poll(max(0.0, self._end - time.monotonic()) * 1000), f"init took more than {PATIENCE:g} seconds"

    def read(self, fd: int) -> bytes:
        data = b""
        while True:
            self.wait(fd, select.POLLIN)
            try:
                piece = os.read(fd, 1 << 16)
            except ConnectionResetError:  # it ended without having read everything
                return data
            if not piece:
                return data
            data += piece

    def write(self, fd: int, data: bytes) -> None:
        os.set_blocking(fd, False)
        rest = memoryview(data)
        while rest:
            self.wait(fd, select.POLLOUT)
            try:
                rest = rest[os.write(fd, rest) :]
            except BrokenPipeError:
                return


def feed(data: bytes) -> End:
    """Start init, give it `data` as its stream, and wait for its end."""
    patience = Patience(PATIENCE)
    end = End()
    errors, theirs = os.pipe2(os.O_CLOEXEC)
    null = os.open(os.devnull, os.O_RDWR | os.O_CLOEXEC)
    init = start_init((null, theirs, theirs))
    os.close(null)
    os.close(theirs)
    end.pids.append(init.pid)
    try:
        patience.write(init.stream, data)
        os.close(init.stream)
        end.statuses += StatusReader().feed(patience.read(init.status))
        end.pids += [status.pid for status in end.statuses if isinstance(status, Started)]
        end.stderr = patience.read(errors)
    except AssertionError:
        os.kill(init.pid, signal.SIGKILL)
        raise
    finally:
        os.close(init.status)  # the lifeline: whatever hangs, it ends now
        os.close(errors)
        end.codes += [os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) for pid in end.pids]
    return end


def refusal(end: End) -> Failure:
    """The one failure of an `end`, which comes last, with nothing on standard error and nobody left."""
    assert end.stderr == b""
    failures = [status for status in end.statuses if isinstance(status, Failure)]
    assert len(failures) == 1
    assert end.statuses[-1] == failures[0]
    assert 1 in end.codes
    assert all(not Path(f"/proc/{pid}").exists() for pid in end.pids)
    return failures[0]


@pytest.mark.parametrize(("data", "mentioned"), WRONG.values(), ids=WRONG)
def test_a_wrong_stream_gets_one_failure_that_says_why(data: bytes, mentioned: str) -> None:
    failure = refusal(feed(data))
    assert failure.step == "read the plan"
    assert mentioned in failure.reason
    assert failure.exit_code == 125


@pytest.mark.parametrize("length", [*range(0, 40, 3), *range(40, len(SMALL), 6), len(SMALL) - 1])
def test_a_plan_that_is_cut_starts_nothing(length: int) -> None:
    assert refusal(feed(SMALL[:length])).step == "read the plan"


@settings(max_examples=30, deadline=None, database=None)
@given(st.binary(max_size=300), st.sampled_from([b"", SMALL[:8], START]))
def test_any_bytes_get_one_failure(data: bytes, before: bytes) -> None:
    refusal(feed(before + data))


@settings(max_examples=30, deadline=None, database=None)
@given(st.integers(0, len(SMALL) - 1), st.integers(0, 255))
def test_a_plan_with_another_byte_gets_one_failure(position: int, byte: int) -> None:
    # At most one file system is mounted before its program, which is nowhere in its tree, can't be executed.
    refusal(feed(SMALL[:position] + bytes([byte]) + SMALL[position + 1 :]))


def test_megabytes_of_garbage_are_refused_without_being_taken_in() -> None:
    failure = refusal(feed(b"\x89igaki" + bytes(32 * 1024 * 1024)))
    assert "version 0" in failure.reason


def test_descriptors_that_did_not_come_with_the_plan_are_refused() -> None:
    plan = Plan(Setup(argv=["true"], fds=[3, 4]), [Tmpfs("/tmp")])
    assert "2 descriptors" in refusal(feed(bytes(encode_plan(plan)))).reason


def test_the_failure_of_an_op_names_it_whatever_its_text_contains() -> None:
    data = START + message(is_="bind", target="/x\n\x1b[2J", source="/nonexistent\n") + message(is_="end", ops=1)
    failure = refusal(feed(data))
    assert (failure.index, failure.phase, failure.path) == (0, "early", "/nonexistent\n")


def test_a_plan_in_order_ends_cleanly_and_leaves_nobody() -> None:
    plan = Plan(Setup(argv=["/usr/bin/true"]), system())
    end = feed(bytes(encode_plan(plan)))
    assert end.stderr == b""
    assert end.statuses[-1] == Exited(0)
    assert end.codes == [0, 0]
