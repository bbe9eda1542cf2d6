"""How long a container takes to start, beside bubblewrap: `python -m tests.bench [--runs N]`.

Every command is timed in turn, round after round, so that a noisy machine disturbs all of them alike; quote ratios.
"""

from __future__ import annotations

import argparse
import os
import shutil
import statistics
import sys
import tempfile
import time
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path

IGAKI = Path(sys.executable).parent / "igaki"
MANY = 1000


def commands(directory: Path) -> dict[str, list[list[str]]]:
    """By question, the commands that answer it: ours first, bubblewrap's second."""
    bwrap = shutil.which("bwrap") or ""
    binds = [word for i in range(MANY) for word in ("--ro-bind", str(directory / f"s{i}"), f"/b/{i}")]
    small = ["--ro-bind", "/usr", "/usr", "--symlink", "usr/lib", "/lib", "--symlink", "usr/lib64", "/lib64"]
    tree = ["--ro-bind", "/", "/", "--proc", "/proc", "--dev", "/dev", "--tmpfs", "/tmp"]
    return {
        "default plan": [
            [str(IGAKI), "run", "--", "true"],
            [bwrap, "--unshare-all", *tree, "true"],
        ],
        "the same tree": [
            [str(IGAKI), "run", *tree, "--", "true"],
            [bwrap, "--unshare-all", *tree, "true"],
        ],
        f"{MANY} binds": [
            [str(IGAKI), "run", *small, *binds, "--", "/usr/bin/true"],
            [bwrap, "--unshare-all", *small, *binds, "/usr/bin/true"],
        ],
    }


@contextmanager
def sources() -> Generator[Path]:
    """A directory with small directories to bind."""
    directory = Path(tempfile.mkdtemp(prefix="igaki-bench-", dir="/var/tmp"))
    try:
        for i in range(MANY):
            (directory / f"s{i}").mkdir()
        yield directory
    finally:
        shutil.rmtree(directory)


def once(command: list[str]) -> float:
    """Seconds from spawn to exit."""
    start = time.perf_counter()
    pid = os.posix_spawn(command[0], command, os.environ)
    status = os.waitpid(pid, 0)[1]
    seconds = time.perf_counter() - start
    if status != 0:
        sys.exit(f"{' '.join(command[:6])} … ended with status {status}")
    return seconds


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.bench")
    parser.add_argument("--runs", type=int, default=40)
    runs = parser.parse_args().runs
    if shutil.which("bwrap") is None:
        sys.exit("bwrap is not installed: there is nothing to compare with")
    print(f"{'median (fastest), ms':<16} {'igaki':>18} {'bwrap':>18} {'ratio':>8}")
    with sources() as directory:
        for question, contestants in commands(directory).items():
            rounds = max(3, runs // 10) if str(MANY) in question else runs
            times: list[list[float]] = [[] for _ in contestants]
            for number in range(rounds + 2):
                for taken, command in zip(times, contestants, strict=True):
                    seconds = once(command)
                    if number >= 2:  # the first ones warm the caches
                        taken.append(seconds * 1000)
            medians = [statistics.median(taken) for taken in times]
            cells = [f"{median:.1f} ({min(taken):.1f})" for median, taken in zip(medians, times, strict=True)]
            print(f"{question:<20} {cells[0]:>18} {cells[1]:>18} {medians[0] / medians[1]:>7.2f}x", flush=True)


if __name__ == "__main__":
    main()
