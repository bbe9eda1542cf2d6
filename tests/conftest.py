"""Fixtures: the sandbox under each identity that this machine offers."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.harness import NOBODY, ROOT, Sandbox, ordinary_user
from tests.worker import Worker

IDENTITIES = ["user", "root"] if os.getuid() == 0 else ["user"]


@pytest.fixture(scope="session")
def workers() -> Iterator[Callable[[str], Worker]]:
    """One process per identity that runs the containers of this test process."""
    started: dict[str, Worker] = {}

    def worker(identity: str) -> Worker:
        if identity not in started:
            user = ordinary_user()
            uid, gid = (0, 0) if identity == "root" else (user.pw_uid, user.pw_gid)
            started[identity] = Worker(uid, gid, str(ROOT))
        return started[identity]

    yield worker
    for process in started.values():
        process.close()


@pytest.fixture
def scratch() -> Iterator[Path]:
    """A directory that every user can reach, unlike pytest's own."""
    path = Path(tempfile.mkdtemp(prefix="igaki-test-", dir="/var/tmp"))
    path.chmod(0o755)
    yield path
    for directory, names, _ in os.walk(path):
        for name in names:  # an overlay leaves a directory in its work directory that nobody may enter
            if not os.path.islink(f"{directory}/{name}"):
                os.chmod(f"{directory}/{name}", 0o700)
    shutil.rmtree(path)


@pytest.fixture(params=IDENTITIES)
def sandbox(request: pytest.FixtureRequest, workers: Callable[[str], Worker], scratch: Path) -> Sandbox:
    """A sandbox as an ordinary user, and as root where the tests run as root."""
    return make_sandbox(str(request.param), workers, scratch)


@pytest.fixture
def user_sandbox(workers: Callable[[str], Worker], scratch: Path) -> Sandbox:
    """A sandbox as an ordinary user, for what does not depend on who it is."""
    return make_sandbox("user", workers, scratch)


@pytest.fixture
def root_sandbox(workers: Callable[[str], Worker], scratch: Path) -> Sandbox:
    """A sandbox as root; such tests exist only where the tests run as root."""
    if os.getuid() != 0:
        pytest.skip("these tests run as root only when the suite does")
    return make_sandbox("root", workers, scratch)


def make_sandbox(identity: str, workers: Callable[[str], Worker], scratch: Path) -> Sandbox:
    user = ordinary_user()
    caller = 0 if identity == "root" else user.pw_uid
    return Sandbox(identity, caller, NOBODY if caller == 0 else caller, workers(identity), scratch)
