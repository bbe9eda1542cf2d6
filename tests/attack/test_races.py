"""Somebody who shares a writable directory, or an identity, with a container that is being set up."""

from __future__ import annotations

import errno
import os
import subprocess
import sys
from pathlib import Path

import pytest

from igaki.ops import AnyOp, Bind, Mkdir, Place, Proc, Symlink, Tmpfs
from igaki.ops.setup import NOBODY
from tests.harness import IGAKI, Sandbox

BOOT = Path(__file__).with_name("racing_boot.py")


def racing_entry(sandbox: Sandbox, *words: str) -> str:
    entry = sandbox.directory("init") / "entry"
    entry.write_text(f'#!/bin/sh\nexec "$1" -I -S {BOOT} "$@" -- {" ".join(words)}\n')
    entry.chmod(0o755)
    return str(entry)


@pytest.mark.parametrize(
    "op",
    [
        Mkdir("/w/x", mode=0o2777),
        Mkdir("/w/x/y/z", mode=0o6777),
        Tmpfs("/w/x", mode=0o6777),
        Proc("/w/x"),
        Place("/w/x/file", data=b"data"),
        Place("/w/x/file", data=b"data", copy=True),
        Symlink("/w/x/link", to="/"),
    ],
    ids=str,
)
def test_a_directory_swapped_for_a_link_while_it_is_made_leaves_the_host_alone(sandbox: Sandbox, op: AnyOp) -> None:
    writable, victim = sandbox.directory("writable"), sandbox.directory("victim", 0o700)
    before = victim.stat()
    ops = [Bind("/w", source=str(writable), writable=True), op]
    sandbox.run(ops, base=False, entry=racing_entry(sandbox, "swap", str(victim)))
    after = victim.stat()
    assert (after.st_mode, after.st_mtime_ns, after.st_ctime_ns) == (
        before.st_mode,
        before.st_mtime_ns,
        before.st_ctime_ns,
    )
    assert list(victim.iterdir()) == []
    assert (writable / "x.moved").is_dir()  # so the swap did take place


def test_a_mount_point_that_a_peer_makes_first_is_used(sandbox: Sandbox) -> None:
    writable = sandbox.directory("writable")
    ops: list[AnyOp] = [Bind("/w", source=str(writable), writable=True), Tmpfs("/w/a/b")]
    report = sandbox.probe(ops, "/w/a/b", entry=racing_entry(sandbox, "share"))
    assert report["paths"]["/w/a/b"]["create"] is True
    assert (writable / "a" / "b").is_dir()


SPY = """
import os, sys
print("watching", flush=True)
me = os.getpid()
while True:
    for name in os.listdir("/proc"):
        try:
            if not name.isdigit() or int(name) == me:
                continue
            with open(f"/proc/{name}/cmdline") as file:
                if sys.argv[1] not in file.read():
                    continue
            os.open(f"/proc/{name}/mem", os.O_RDWR)
            print(name, flush=True)
        except OSError:
            pass
"""


def test_a_container_that_root_starts_is_closed_to_others_who_are_nobody(root_sandbox: Sandbox) -> None:
    """At no moment of its life: the spy looks all the while, and each step takes its time."""
    marker = str(root_sandbox.directory_root)
    entry = racing_entry(root_sandbox, "slow", marker)
    words = [sys.executable, "-I", "-S", "-c", SPY, marker]
    with subprocess.Popen(words, user=NOBODY, group=NOBODY, extra_groups=[], stdout=subprocess.PIPE, text=True) as spy:
        assert spy.stdout is not None
        assert spy.stdout.readline() == "watching\n"
        outcome = root_sandbox.run([Place("/secret", data=b"secret")], entry=entry)
        own = subprocess.Popen(
            ["sh", "-c", "sleep 9", marker], user=NOBODY, group=NOBODY
        )  # what it could see, to be sure of it
        try:
            assert spy.stdout.readline() == f"{own.pid}\n"
        finally:
            own.kill()
            own.wait()
            spy.kill()
    assert outcome.returncode == 0


@pytest.mark.parametrize(("by", "number"), [("directory", errno.ESTALE), ("link", errno.ELOOP)])
@pytest.mark.parametrize("held", [True, False])
def test_a_source_replaced_between_the_phases_is_the_old_one_or_an_error(
    sandbox: Sandbox, by: str, number: int, held: bool
) -> None:
    """The old one while it is held open; where there are too many to hold, what is opened again has to be the same."""
    parent = sandbox.directory("parent")
    source, other = sandbox.directory("parent/source"), sandbox.directory("parent/directory")
    sandbox.file(source / "file", "asked for")
    sandbox.file(other / "file", "slipped in")
    (parent / "link").symlink_to("directory")
    entry = racing_entry(sandbox, "replace", str(source), str(parent / by), str(int(held)))
    outcome = sandbox.run([Bind("/data", source=str(source))], ["cat", "/data/file"], entry=entry)
    if held:
        assert outcome.stdout == "asked for"
    else:
        assert outcome.failure is not None
        assert (outcome.failure.phase, outcome.failure.errno, outcome.failure.path) == ("apply", number, str(source))


def test_few_descriptors_are_enough_for_many_sources(sandbox: Sandbox) -> None:
    sources = [sandbox.directory(f"sources/{number}") for number in range(100)]
    binds = " ".join(f"--ro-bind {source} /mnt/{source.name}" for source in sources)
    script = f"ulimit -n 70; exec $0 run --ro-bind / / --tmpfs /mnt {binds} -- sh -c 'ls /mnt | wc -l'"
    done = sandbox.command("sh", "-c", script, IGAKI)
    assert (done.stdout, done.stderr) == ("100\n", "")


def test_a_source_that_may_hold_no_link_is_refused_when_it_does(sandbox: Sandbox) -> None:
    real = sandbox.directory("real/sub").parent
    link = real.with_name("link")
    link.symlink_to("real")
    for source in (str(link), f"{link}/sub"):
        failure = sandbox.refusal([Bind("/data", source=source, nofollow=True)])
        assert (failure.phase, failure.errno, failure.path) == ("early", 40, source)
    assert sandbox.run([Bind("/data", source=f"{real}/sub", nofollow=True)]).returncode == 0


@pytest.mark.parametrize("mode", ["ro", "rw"])
def test_a_working_directory_that_was_swapped_for_a_link_is_not_shown(sandbox: Sandbox, mode: str) -> None:
    """The plan holds the name that the directory had; by the time init opens it, it is a link to another one."""
    work, other = sandbox.directory("parent/work"), sandbox.directory("other")
    recorded = sandbox.directory("recorded", 0o777) / "stream"
    words = ["igaki", "run", "--record", str(recorded), "--record-secrets", "--cwd", mode, "--", "true"]
    assert sandbox.command(*words, cwd=work).returncode == 0
    from igaki.ops import decode_plan

    plan = decode_plan(recorded.read_bytes())
    os.rmdir(work)
    work.symlink_to(other)
    failure = sandbox.refusal(plan.ops, base=False)
    assert (failure.errno, failure.path) == (40, str(work))
