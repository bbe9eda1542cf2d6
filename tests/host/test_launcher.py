"""How the command is started: from anywhere, under any name, and with nothing of the caller's in its interpreter."""

import os
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import msgspec
import pytest

import igaki
from tests.harness import ENV, ROOT, Sandbox

PYTHON = f"python{sys.version_info.major}.{sys.version_info.minor}"
VERSION = f"igaki {igaki.__version__}\n"
POISON = "import os\nos.write(2, b'poisoned\\n')\nos._exit(66)\n"


class Installation:
    """A prefix that holds the command, an interpreter and the package, the way pip leaves them."""

    def __init__(self, prefix: Path, *, editable: bool = False) -> None:
        self.prefix = prefix
        self.igaki = prefix / "bin/igaki"
        packages = prefix / "lib" / PYTHON / "site-packages"
        packages.mkdir(parents=True)
        self.igaki.parent.mkdir()
        shutil.copy(ROOT / "host/igaki", self.igaki)
        python = Path(os.path.realpath(sys.executable))
        (prefix / "bin/python3").symlink_to(python)
        (prefix / "pyvenv.cfg").write_text(f"home = {python.parent}\n")
        (packages / "msgspec").symlink_to(Path(msgspec.__file__).parent)
        if editable:
            (packages / "igaki.pth").write_text(f"{ROOT / 'src'}\n")
        else:
            (packages / "igaki").symlink_to(ROOT / "src/igaki")


@pytest.fixture(params=["plain", "with spaces and ünïcode"])
def installation(request: pytest.FixtureRequest, scratch: Path) -> Installation:
    return Installation(scratch / str(request.param))


@pytest.fixture
def editable(scratch: Path) -> Installation:
    return Installation(scratch / "editable", editable=True)


@pytest.fixture
def poison(scratch: Path) -> Path:
    """A directory with hostile files under every name that an interpreter or a shell might look for."""
    directory = scratch / "poison"
    directory.mkdir()
    for name in ("igaki", "msgspec", "sitecustomize", "usercustomize", "posix", "os", "gc", "difflib", "encodings"):
        (directory / f"{name}.py").write_text(POISON)
    for package in ("igaki", "msgspec", "encodings"):
        (directory / package).mkdir()
        (directory / package / "__init__.py").write_text(POISON)
    (directory / "shell").write_text("echo poisoned >&2; exit 66\n")
    return directory


def poisoned(poison: Path) -> dict[str, str]:
    return {
        **ENV,
        "HOME": str(poison),
        "PYTHONPATH": str(poison),
        "PYTHONHOME": str(poison),
        "PYTHONSTARTUP": str(poison / "os.py"),
        "PYTHONUSERBASE": str(poison),
        "PYTHONBREAKPOINT": "igaki.breakpoint",
        "BASH_ENV": str(poison / "shell"),
        "ENV": str(poison / "shell"),
        "CDPATH": str(poison),
        "IFS": "/",
    }


RUN = ["run", "--", "sh", "-c", "exit 7"]


def answer(done: subprocess.CompletedProcess[str]) -> tuple[int, str, str]:
    return done.returncode, done.stdout, done.stderr


def test_the_installed_command_runs_a_program(sandbox: Sandbox, installation: Installation) -> None:
    assert answer(sandbox.command(installation.igaki, *RUN)) == (7, "", "")


def test_the_command_works_through_symlinks(user_sandbox: Sandbox, installation: Installation, scratch: Path) -> None:
    links = scratch / "some links"
    links.mkdir()
    (links / "sandbox").symlink_to(os.path.relpath(installation.igaki, links))
    (links / "again").symlink_to("sandbox")
    assert answer(user_sandbox.command(links / "again", *RUN)) == (7, "", "")


@pytest.mark.parametrize(
    ("directory", "words"),
    [("bin", ["./igaki"]), (".", ["bin/igaki"]), ("lib", ["../bin/igaki"]), ("bin", ["sh", "./igaki"])],
    ids=["./igaki", "bin/igaki", "../bin/igaki", "sh ./igaki"],
)
def test_the_command_works_by_a_relative_path(
    user_sandbox: Sandbox, installation: Installation, directory: str, words: Sequence[str]
) -> None:
    assert answer(user_sandbox.command(*words, *RUN, cwd=installation.prefix / directory)) == (7, "", "")


def test_the_command_works_from_the_path_and_from_a_directory_that_is_gone(
    user_sandbox: Sandbox, installation: Installation
) -> None:
    gone = user_sandbox.directory("gone")
    script = f"cd '{gone}'; rmdir '{gone}'; igaki run -- sh -c 'exit 7'"
    env = {**ENV, "PATH": f"{installation.igaki.parent}:{ENV['PATH']}"}
    assert user_sandbox.command("sh", "-c", script, env=env).returncode == 7


def test_arguments_arrive_as_they_are(user_sandbox: Sandbox, installation: Installation) -> None:
    words = ["", " a  b ", "*", "$HOME", "-x", "--", "ä\n'\""]
    done = user_sandbox.command(installation.igaki, "run", "--", "printf", "%s|", *words)
    assert answer(done) == (0, "|".join(words) + "|", "")


@pytest.mark.parametrize("words", [["--version"], RUN, ["run", "--unknwon", "true"]], ids=["version", "run", "usage"])
def test_nothing_of_the_callers_environment_is_executed(
    user_sandbox: Sandbox, installation: Installation, poison: Path, words: list[str]
) -> None:
    done = user_sandbox.command(installation.igaki, *words, cwd=poison, env=poisoned(poison))
    clean = user_sandbox.command(installation.igaki, *words)
    assert "poisoned" not in done.stderr
    assert answer(done) == answer(clean)


def test_a_command_outside_of_a_virtual_environment_finds_its_interpreter(
    user_sandbox: Sandbox, installation: Installation, scratch: Path
) -> None:
    (installation.prefix / "bin/python3").unlink()
    (scratch / PYTHON).symlink_to(os.path.realpath(sys.executable))
    env = {**ENV, "PATH": f"{scratch}:{ENV['PATH']}"}
    assert answer(user_sandbox.command(installation.igaki, *RUN, env=env)) == (7, "", "")


def test_an_editable_installation_runs_too(user_sandbox: Sandbox, editable: Installation) -> None:
    assert answer(user_sandbox.command(editable.igaki, "--version")) == (0, VERSION, "")
    assert answer(user_sandbox.command(editable.igaki, *RUN)) == (7, "", "")


@pytest.mark.parametrize("words", [["--version"], RUN, ["run", "--unknwon", "true"]], ids=["version", "run", "usage"])
def test_an_editable_installation_executes_nothing_of_the_callers_either(
    user_sandbox: Sandbox, editable: Installation, poison: Path, words: list[str]
) -> None:
    done = user_sandbox.command(editable.igaki, *words, cwd=poison, env=poisoned(poison))
    assert "poisoned" not in done.stderr
    assert answer(done) == answer(user_sandbox.command(editable.igaki, *words))


def test_the_package_runs_as_a_module(sandbox: Sandbox) -> None:
    python = sys.executable
    assert answer(sandbox.command(python, "-migaki", "--version")) == (0, VERSION, "")
    assert answer(sandbox.command(python, "-migaki", *RUN)) == (7, "", "")


def test_init_takes_nothing_from_the_callers_environment(user_sandbox: Sandbox, poison: Path) -> None:
    # As a module in isolated mode, so that what is poisoned reaches nothing before init.
    done = user_sandbox.command(sys.executable, "-I", "-migaki", *RUN, cwd=poison, env=poisoned(poison))
    assert answer(done) == (7, "", "")


def test_the_launcher_and_the_entry_are_executable_scripts() -> None:
    for script in (ROOT / "host/igaki", ROOT / "init/entry"):
        assert os.access(script, os.X_OK)
        assert script.read_text().startswith("#!/bin/sh\n")
