"""Every kernel call of every op is made to fail in turn: nothing is swallowed, no mount is left behind."""

from __future__ import annotations

from errno import EIO
from pathlib import Path

import pytest

from igaki.ops import (
    AnyOp,
    Bind,
    Chmod,
    Dev,
    Etc,
    Failure,
    Mkdir,
    Overlay,
    Place,
    Proc,
    Remount,
    Root,
    Symlink,
    Tmpfs,
)
from tests.harness import Sandbox

BOOT = Path(__file__).with_name("faulty_boot.py")
MOST_CALLS = 400


def faulty_entry(directory: Path, where: str, number: int) -> str:
    """An init whose call `number` fails."""
    entry = directory / "entry"
    entry.write_text(f'#!/bin/sh\nexec "$1" -I -S {BOOT} "$@" {where} {number}\n')
    entry.chmod(0o755)
    return str(entry)


def every_op(directory: Path) -> dict[str, AnyOp]:
    lower, upper, work = (str(directory / name) for name in ("lower", "upper", "work"))
    return {
        "bind": Bind("/new/bind", source=lower),
        "bind of a file": Bind("/new/file", source=f"{lower}/file"),
        "optional bind": Bind("/new/optional", source=lower, optional=True),
        "ensured bind": Bind("/new/ensured", source=f"{lower}/not/yet", ensure=True),
        "bind that follows nothing": Bind("/new/nofollow", source=lower, nofollow=True),
        "recursive remount": Remount("/", recursive=True),
        "writable place": Place("/new/writable", data=b"data", writable=True),
        "chmod": Chmod("/", mode=0o700),
        "dev": Dev("/new/dev", mqueue=True),
        "etc": Etc("/new/etc", source=lower),
        "mkdir": Mkdir("/new/directory", mode=0o2750),
        "ephemeral overlay": Overlay("/new/overlay", lower=[lower], ephemeral=True),
        "read-only overlay": Overlay("/new/overlay", lower=[lower, upper]),
        "writable overlay": Overlay("/new/overlay", lower=[lower], upper=upper, work=work),
        "place": Place("/new/placed", data=b"data"),
        "copy": Place("/new/copied", data=b"data", copy=True),
        "proc": Proc("/new/proc"),
        "remount": Remount("/"),
        "root": Root("/new/root", source=lower),
        "symlink": Symlink("/new/link", to="/made"),
        "dereferenced symlink": Symlink("/new/link", to=f"{lower}/link", dereference=True),
        "tmpfs": Tmpfs("/new/tmpfs", size=65536),
    }


def prepare(sandbox: Sandbox) -> Path:
    directory = sandbox.directory("tree")
    for name in ("lower", "upper", "work"):
        sandbox.directory(f"tree/{name}")
    sandbox.file(directory / "lower" / "file", "content")
    (directory / "lower" / "link").symlink_to("file")
    return directory


def test_every_op_is_swept() -> None:
    assert {type(op) for op in every_op(Path("/")).values()} == set(AnyOp.__args__)


@pytest.mark.parametrize("name", every_op(Path("/")))
def test_no_op_swallows_a_failing_call(user_sandbox: Sandbox, name: str) -> None:
    directory = prepare(user_sandbox)
    op = every_op(directory)[name]
    mounts = Path("/proc/self/mountinfo").read_text()
    failures: list[Failure] = []
    while len(failures) < MOST_CALLS:
        # There is nothing to execute in the container: a failure to do so means that the op itself went through.
        failure = user_sandbox.refusal([op], base=False, entry=faulty_entry(directory, "ops", len(failures) + 1))
        if failure.step == "execute":
            break
        failures.append(failure)
    assert failures, "no call was made to fail"
    assert Path("/proc/self/mountinfo").read_text() == mounts
    assert {failure.errno for failure in failures} == {EIO}
    assert {failure.index for failure in failures} == {0}
    assert {failure.step for failure in failures} == {str(op)}
    assert {failure.phase for failure in failures} <= {"early", "apply"}


def test_no_step_of_init_swallows_a_failing_call(sandbox: Sandbox) -> None:
    """From the maps of the first stage to the dropped privileges: a failed step and no program."""
    directory = prepare(sandbox)
    steps: list[str] = []
    while len(steps) < MOST_CALLS:
        entry = faulty_entry(directory, "anywhere", len(steps) + 1)
        failure = sandbox.refusal([Mkdir("/made")], ["/made"], base=False, entry=entry)
        if failure.step == "execute":
            break
        assert failure.errno == EIO, str(failure)
        steps.append(failure.step)
    assert {
        "create the namespaces",
        "map the user into its namespace",
        # Where root starts it, the process that maps the ids counts on as well, and fails before this one.
        "die with the parent" if sandbox.is_root else "start PID 1",
        "die with the parent",
        "switch the loopback interface on",
        "prepare the set-up",
        "make the intermediate root",
        "leave the host's root behind",
        "drop the privileges",
    } <= set(steps)
