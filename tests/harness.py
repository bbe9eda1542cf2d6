"""What a test needs to build a container and look at it from inside and outside, as root and as an ordinary user."""

from __future__ import annotations

import json
import os
import pwd
import shlex
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import msgspec

from igaki.host import launch
from igaki.ops import AnyOp, Bind, Dev, Failure, Namespaces, Octets, Place, Plan, Proc, Setup, Symlink, encode_plan
from igaki.ops.setup import NOBODY
from tests.worker import Outcome, Request, Worker

ROOT = Path(__file__).resolve().parent.parent
IGAKI = Path(sys.executable).parent / "igaki"
USER = "igaki-test"
PROBE = Path(__file__).with_name("probe.py")
PYTHON_INSIDE = "/usr/bin/python3"
ENV = {"PATH": "/usr/bin:/bin", "LC_ALL": "C.UTF-8"}


def system() -> list[AnyOp]:
    """Enough of the host to run programs: /usr and the links to it, a proc, devices, the probe at /probe.py."""
    ops: list[AnyOp] = [Bind("/usr", source="/usr")]
    for name in ("bin", "lib", "lib32", "lib64", "libx32", "sbin"):
        if os.path.islink(f"/{name}"):
            ops.append(Symlink(f"/{name}", to=os.readlink(f"/{name}")))
        elif os.path.isdir(f"/{name}"):
            ops.append(Bind(f"/{name}", source=f"/{name}"))
    alternatives = "/etc/alternatives"
    ops.append(Bind(alternatives, source=alternatives, optional=True))
    return [*ops, Proc("/proc"), Dev("/dev"), Place("/probe.py", data=PROBE.read_bytes(), mode=0o444)]


def system_options() -> list[str]:
    """What `system()` binds and links, as options of `igaki run`, without the probe."""
    words: list[str] = []
    for op in system():
        if isinstance(op, Bind):
            words += ["--ro-bind-try", op.source, op.target]
        elif isinstance(op, Symlink):
            words += ["--symlink", op.to, op.target]
    return [*words, "--proc", "/proc", "--dev", "/dev"]


class Sandbox:
    """Runs plans under one identity; `uid` is who the containers are on the host."""

    def __init__(self, name: str, caller: int, uid: int, worker: Worker, directory: Path) -> None:
        self.name = name
        self.caller = caller
        """User id of the process that starts the containers."""
        self.uid = uid
        """User id of the containers, on the host."""
        self.directory_root = directory
        self._worker = worker

    @property
    def is_root(self) -> bool:
        return self.caller == 0

    def directory(self, name: str, mode: int = 0o755) -> Path:
        """A new directory of the host that belongs to the containers' user."""
        path = self.directory_root / name
        path.mkdir(parents=True)
        self.own(path)
        path.chmod(mode)
        return path

    def file(self, path: Path, content: str = "", mode: int = 0o644) -> Path:
        """A new file of the host that belongs to the containers' user."""
        path.write_text(content)
        self.own(path)
        path.chmod(mode)
        return path

    def own(self, path: Path) -> None:
        if os.getuid() == 0:
            os.chown(path, self.uid, self.uid, follow_symlinks=False)

    def run(
        self,
        ops: Sequence[AnyOp],
        argv: Sequence[str | Octets] = ("true",),
        *,
        env: Mapping[str, str | Octets] = ENV,
        stdin: bytes = b"",
        namespaces: Namespaces = Namespaces(),  # noqa: B008  frozen
        base: bool = True,
        setup_timeout: float = 30.0,
        entry: str = launch.ENTRY,
        **setup: Any,
    ) -> Outcome:
        """Run `argv` in a container of `ops`, on top of `system()` unless `base` is False. Setup's fields by name."""
        everything = [*(system() if base else ()), *ops]
        plan = Plan(Setup(argv=list(argv), env=dict(env), **setup), everything, namespaces)
        return self._worker(Request(bytes(encode_plan(plan)), stdin, setup_timeout, entry))

    def probe(self, ops: Sequence[AnyOp], *paths: str, **options: Any) -> dict[str, Any]:
        """What the probe sees in a container of `ops`; fails the test when there is no container."""
        outcome = self.run(ops, [PYTHON_INSIDE, "-I", "-S", "/probe.py", *paths], **options)
        assert outcome.failure is None, str(outcome.failure)
        assert outcome.returncode == 0, outcome.stderr
        report: dict[str, Any] = json.loads(outcome.stdout)
        return report

    def refusal(self, ops: Sequence[AnyOp], argv: Sequence[str | Octets] = ("true",), **options: Any) -> Failure:
        """The failure of a plan that must not become a container."""
        outcome = self.run(ops, argv, **options)
        assert outcome.failure is not None, f"a container came up, and its program returned {outcome.returncode}"
        return outcome.failure

    def command(
        self,
        *arguments: str | Path,
        cwd: str | Path = "/",
        env: Mapping[str, str] | None = None,
        timeout: float = 60,
        **options: Any,
    ) -> subprocess.CompletedProcess[str]:
        """Run a command of the host as the caller. `igaki` is the one under test."""
        words = [str(IGAKI) if word == "igaki" else str(word) for word in arguments]
        return subprocess.run(
            words,
            **self.identity(),
            cwd=cwd,
            env={**ENV, "HOME": self.home} if env is None else dict(env),
            capture_output=True,
            text=True,
            timeout=timeout,
            check=False,
            **options,
        )

    def in_outer_namespace(self, script: str, **options: Any) -> subprocess.CompletedProcess[str]:
        """Run a shell script as the caller in a mount namespace where it may mount.

        `$IGAKI` is the command; `fresh DIRECTORY OPTIONS` mounts an empty tmpfs, without hiding igaki itself.
        """
        ids = [] if self.is_root else ["--user", "--map-current-user", "--keep-caps"]
        kept = self.directory_root / "kept"
        kept.mkdir(exist_ok=True)
        script = f"""
            mount --bind '{ROOT}' '{kept}'
            fresh() {{
                mount -t tmpfs -o "$2" tmpfs "$1"
                case '{ROOT}/' in "${{1%/}}"/*) mkdir -p '{ROOT}'; mount --bind '{kept}' '{ROOT}' ;; esac
            }}
            {script}
        """
        env = {**ENV, "PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "HOME": self.home, "IGAKI": str(IGAKI)}
        return self.command("unshare", *ids, "--mount", "sh", "-euc", script, env=env, **options)

    def probe_in_outer_namespace(self, prepare: str, options: Sequence[str | Path], *paths: str) -> dict[str, Any]:
        """What the probe sees in a container that `igaki run` starts where the shell script `prepare` has mounted."""
        words = [*system_options(), *options, "--", PYTHON_INSIDE, "-I", "-S", "-", *paths]
        script = f"{prepare}\nexec $IGAKI run {shlex.join(map(str, words))}"
        result = self.in_outer_namespace(script, input=PROBE.read_text())
        assert result.returncode == 0, result.stderr
        report: dict[str, Any] = json.loads(result.stdout)
        return report

    def identity(self) -> dict[str, Any]:
        """Arguments for subprocess that make it run as the caller."""
        if os.getuid() == self.caller:
            return {}
        entry = pwd.getpwuid(self.caller)
        return {"user": entry.pw_uid, "group": entry.pw_gid, "extra_groups": []}

    @property
    def home(self) -> str:
        return pwd.getpwuid(self.caller).pw_dir


def mount_at(report: Mapping[str, Any], point: str) -> dict[str, Any]:
    """The topmost mount at `point` in the probe's report."""
    found: list[dict[str, Any]] = [mount for mount in report["mounts"] if mount["point"] == point]
    assert found, f"nothing is mounted at {point}"
    return found[-1]


def processes_of(marker: str | Path) -> list[int]:
    """Processes of the host, but for this one, whose arguments or environment hold `marker`."""
    found: list[int] = []
    for pid in map(int, filter(str.isdigit, os.listdir("/proc"))):
        with suppress(OSError):  # it has just ended, or is somebody else's
            arguments = Path(f"/proc/{pid}/cmdline").read_bytes()
            if pid != os.getpid() and os.fsencode(marker) in arguments + Path(f"/proc/{pid}/environ").read_bytes():
                found.append(pid)
    return found


def marked_environment(directory: Path) -> dict[str, str]:
    """An environment under which a process, and every init that it starts, is found by `processes_of(directory)`."""
    packages = directory / "packages"
    if not packages.is_symlink():
        packages.symlink_to(Path(msgspec.__file__).parent.parent)
    return {**os.environ, "PYTHONPATH": os.pathsep.join([str(packages), os.environ.get("PYTHONPATH", "")]).rstrip(":")}


def is_alive(pid: int) -> bool:
    """Whether a process of the host exists and is no zombie."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False


def children_of(pid: int) -> set[int]:
    """Children of a process of the host, zombies among them."""
    found: set[int] = set()
    for name in filter(str.isdigit, os.listdir("/proc")):
        with suppress(OSError):
            if int(Path(f"/proc/{name}/stat").read_text().rpartition(")")[2].split()[1]) == pid:
                found.add(int(name))
    return found


def wait_until(holds: Callable[[], object], seconds: float = 5.0) -> bool:
    """Whether `holds` does so within `seconds`."""
    deadline = time.monotonic() + seconds
    while not holds():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.002)
    return True


def ordinary_user() -> pwd.struct_passwd:
    """The ordinary user of the tests: whoever runs them, or one made for that where root does."""
    if os.getuid() != 0:
        return pwd.getpwuid(os.getuid())
    try:
        return pwd.getpwnam(USER)
    except KeyError:
        useradd = shutil.which("useradd", path="/usr/sbin:/sbin:/usr/bin")
        assert useradd is not None, "the tests run as root and need useradd(8) to make an ordinary user"
        subprocess.run([useradd, "--create-home", "--shell", "/bin/sh", USER], check=False)
        return pwd.getpwnam(USER)


__all__ = [
    "ENV",
    "IGAKI",
    "NOBODY",
    "PROBE",
    "PYTHON_INSIDE",
    "ROOT",
    "Outcome",
    "Sandbox",
    "children_of",
    "is_alive",
    "marked_environment",
    "mount_at",
    "processes_of",
    "system",
    "wait_until",
]
