"""Init loads no code of the container's, whatever lies where its own library was (T9)."""

from __future__ import annotations

import os
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest

import igaki
from igaki.ops import (
    AnyOp,
    Bind,
    Chmod,
    Dev,
    Etc,
    Mkdir,
    Namespaces,
    Octets,
    Overlay,
    Place,
    Proc,
    Remount,
    Root,
    Symlink,
    Tmpfs,
)
from tests.harness import PYTHON_INSIDE, Sandbox

SEARCHED = {path for path in sys.path if os.path.isdir(path) and path != os.getcwd()} | {
    str(Path(module.__file__ or "").parent.parent) for module in (igaki, msgspec)
}
LIBRARIES = sorted(path for path in SEARCHED if not any(path.startswith(f"{other}/") for other in SEARCHED))
"""The directories from which init imports, and whatever else this interpreter searches."""

HOSTILE = """
import posix
posix.close(posix.open("/marker/" + __name__, posix.O_WRONLY | posix.O_CREAT, 0o666))
posix._exit(99)
"""

Hostile = list[AnyOp]


@pytest.fixture(scope="module")
def library() -> Iterator[Path]:
    """A directory that holds every module; whichever is imported leaves a mark and ends the process."""
    with tempfile.TemporaryDirectory(prefix="igaki-test-", dir="/var/tmp") as path:
        directory = Path(path)
        directory.chmod(0o755)
        module = directory / "hostile.py"
        module.write_text(HOSTILE)
        loaded = {name for name in sys.modules if name.startswith(("encodings.", "igaki.", "msgspec."))}
        for name in {*sys.stdlib_module_names, "igaki", "msgspec", "sitecustomize", "usercustomize", *loaded}:
            package = directory / name.replace(".", "/")
            package.mkdir(parents=True, exist_ok=True)
            os.link(module, package / "__init__.py")
        (directory / "lib-dynload").symlink_to(".")
        yield directory


@pytest.fixture
def hostile(sandbox: Sandbox, library: Path) -> Hostile:
    """Ops under which whatever module is imported writes a file below /marker and ends the process."""
    marker = sandbox.directory("marker", 0o777)
    return [
        *(Bind(path, source=str(library)) for path in LIBRARIES),
        Bind("/marker", source=str(marker), writable=True),
    ]


def marks(sandbox: Sandbox) -> list[str]:
    return os.listdir(sandbox.directory_root / "marker")


def test_the_trap_works(sandbox: Sandbox, hostile: Hostile) -> None:
    outcome = sandbox.run(hostile, [PYTHON_INSIDE, "-c", ""])
    assert outcome.returncode == 99
    assert marks(sandbox) == ["encodings"]


def test_no_op_imports_from_the_container(sandbox: Sandbox, hostile: Hostile) -> None:
    directory = sandbox.directory("tree")
    for name in ("lower", "upper", "work", "etc"):
        sandbox.directory(f"tree/{name}")
    sandbox.file(directory / "etc" / "passwd", "root:x:0:0::/:/bin/sh\n")
    (directory / "lower" / "link").symlink_to("/etc")
    lower = str(directory / "lower")
    ops: list[AnyOp] = [
        *hostile,
        Bind("/new/bind", source=lower),
        Bind("/new/ensured", source=f"{directory}/made", ensure=True),
        Bind("/new/optional", source="/nowhere/at/all", optional=True),
        Dev("/new/dev", mqueue=True),
        Etc("/new/etc", source=str(directory / "etc")),
        Mkdir("/new/directory", mode=0o700),
        Chmod("/new/directory", mode=0o750),
        Overlay("/new/scratch", lower=[lower], ephemeral=True),
        Overlay("/new/read-only", lower=[lower, f"{directory}/etc"]),
        Overlay("/new/writable", lower=[lower], upper=f"{directory}/upper", work=f"{directory}/work"),
        Place("/new/placed", data=b"data"),
        Place("/new/copied", data=b"data", copy=True),
        Proc("/new/proc"),
        Root("/new/root", source=str(directory)),
        Symlink("/new/link", to="/somewhere"),
        Symlink("/new/dereferenced", to=f"{lower}/link", dereference=True),
        Tmpfs("/new/tmpfs", size=65536),
        Remount("/new/tmpfs"),
        Remount("/"),
    ]
    assert {type(op) for op in ops} == set(AnyOp.__args__)
    outcome = sandbox.run(
        ops,
        ["sh", "-c", "(exit 1) & exit 7"],
        hostname="elsewhere",
        report_timing=True,
        report_settled=True,
        linger=1.0,
        namespaces=Namespaces(uid=5, gid=6),
    )
    assert outcome.failure is None, str(outcome.failure)
    assert outcome.returncode == 7
    assert marks(sandbox) == []


@pytest.mark.parametrize(
    ("ops", "argv", "code"),
    [
        ([Bind("/new", source="/nowhere/at/all")], ["true"], 125),
        ([Symlink("/new", to="/nowhere/at/all", dereference=True)], ["true"], 125),
        ([Symlink("/bin/sh/new", to="x")], ["true"], 125),
        ([Mkdir("/usr/new")], ["true"], 125),
        ([Remount("/marker/nothing")], ["true"], 125),
        ([Bind("/proc", source="/usr/bin/env")], ["true"], 125),
        ([Overlay("/new", lower=["/usr/bin/env"], ephemeral=True)], ["true"], 125),
        ([Chmod("/nothing", mode=0)], ["true"], 125),
        ([Symlink("/loop", to="/loop"), Mkdir("/loop/new")], ["true"], 125),
        ([Mkdir(f"/ümlaut/{'x' * 300}")], ["true"], 125),
        ([], ["missing"], 127),
        ([], ["/missing"], 127),
        ([], [Octets(b"/missing\xff")], 127),
        ([], ["/usr"], 126),
        ([], ["/probe.py"], 126),
        ([Place("/script", data=b"#!/missing\n", mode=0o755)], ["/script"], 127),
        ([Place("/script", data=b"no program", mode=0o755)], ["/script"], 126),
        ([], ["true", *["x" * 100_000] * 30], 126),
    ],
    ids=lambda value: str(value)[:60],
)
def test_no_refusal_imports_from_the_container(
    sandbox: Sandbox, hostile: Hostile, ops: list[AnyOp], argv: list[str | Octets], code: int
) -> None:
    failure = sandbox.refusal([*hostile, *ops], argv)
    assert (failure.exit_code, bool(failure.errno)) == (code, True), str(failure)
    assert marks(sandbox) == []


def test_a_missing_working_directory_imports_nothing_from_the_container(sandbox: Sandbox, hostile: Hostile) -> None:
    failure = sandbox.refusal(hostile, cwd="/nowhere", cwd_else=["/else"])
    assert failure.step == "enter the working directory"
    assert marks(sandbox) == []


IMPORTING_BOOT = """
import sys
sys.path += sys.argv[4:]
from igaki.lite import load_msgspec
load_msgspec()
from igaki.init import new_root, stages

def import_now(root, target, mode=0o755):
    try:
        import antigravity
    except ImportError as error:
        raise ValueError(f"{sys.path} {sys.meta_path} {sys.path_hooks} {type(error).__name__}") from error

new_root.NewRoot.directory = import_now
stages.main(int(sys.argv[2]), die_with_thread=sys.argv[3] == "1")
"""


def test_an_import_after_the_pivot_fails_before_it_looks_anywhere(sandbox: Sandbox, hostile: Hostile) -> None:
    """Every module that isn't loaded by then is in the trap; that it doesn't spring is not left to chance."""
    boot = sandbox.file(sandbox.directory("init") / "boot.py", IMPORTING_BOOT)
    entry = sandbox.file(boot.with_name("entry"), f'#!/bin/sh\nexec "$1" -I -S {boot} "$@"\n', 0o755)
    failure = sandbox.refusal([*hostile, Mkdir("/new")], entry=str(entry))
    assert (failure.step, failure.reason) == ("make directory /new (mode 0755)", "[] [] [] ModuleNotFoundError")
    assert marks(sandbox) == []
