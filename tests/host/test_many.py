"""Many containers at once from one trio program, some of them cancelled: each is accounted for, nothing is left."""

from __future__ import annotations

import json
import os
import random
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import trio

import igaki
from igaki.ops import Plan, Setup
from tests.harness import ENV, ROOT, Sandbox, children_of, marked_environment, processes_of, system

CONTAINERS = 200
LONGEST = 1.5
"""Seconds after which the last of the cancellations comes; on two cores half of the containers have ended by then."""


def remains() -> dict[str, Any]:
    """What this process holds and has started."""
    return {
        "children": sorted(children_of(os.getpid())),
        "descriptors": sorted(os.listdir("/proc/self/fd")),
        "threads": len(os.listdir("/proc/self/task")),
        "mounts": Path("/proc/self/mountinfo").read_text(),
    }


async def start_many(seed: int) -> list[str]:
    """Every second container is cancelled at some moment. Returns how each one ended."""
    chance = random.Random(seed)
    ends: list[str] = []

    async def one(number: int, patience: float) -> None:
        code = number % 100
        setup = Setup(argv=["sh", "-c", f"echo {number}; exit {code}"], env=dict(ENV))
        end = "cancelled"
        with trio.move_on_after(patience):
            completed = await igaki.run(Plan(setup, system()), capture_stdout=True, check=False)
            end = "right" if (completed.returncode, completed.stdout) == (code, b"%d\n" % number) else repr(completed)
        ends.append(end)

    async with trio.open_nursery() as nursery:
        for number in range(CONTAINERS):
            nursery.start_soon(one, number, chance.uniform(0, LONGEST) if number % 2 else 3600.0)
    return ends


def main() -> None:
    """What runs in a process of its own. Prints what there was before and after, and how the containers ended."""
    trio.run(trio.sleep, 0)  # trio's own descriptors and threads
    before = remains()
    ends = trio.run(start_many, int(sys.argv[1]))
    json.dump({"before": before, "after": remains(), "ends": Counter(ends)}, sys.stdout)


def test_200_containers_at_once_some_cancelled_leave_nothing(sandbox: Sandbox) -> None:
    temporary = sandbox.directory("temporary")
    env = {**marked_environment(sandbox.directory_root), "TMPDIR": str(temporary), "HOME": str(temporary)}
    mounts = Path("/proc/self/mountinfo").read_text()
    code = "from tests.host.test_many import main; main()"
    result = sandbox.command(sys.executable, "-c", code, str(len(sandbox.name)), cwd=ROOT, env=env)
    assert result.returncode == 0, result.stderr
    report = json.loads(result.stdout)
    assert report["after"] == report["before"]
    assert Counter(report["ends"]).total() == CONTAINERS
    assert set(report["ends"]) == {"right", "cancelled"}
    assert report["ends"]["right"] >= CONTAINERS / 2
    assert report["ends"]["cancelled"] >= CONTAINERS / 20, "too few were cancelled for the test to say anything"
    assert os.listdir(temporary) == []
    assert processes_of(sandbox.directory_root) == []
    assert Path("/proc/self/mountinfo").read_text() == mounts
