"""The `igaki` command as a shell sees it: exit codes, one line for what goes wrong, descriptors, signals."""

import errno
import os
import re
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

import igaki
from igaki.host.options import GROUPS, OPTIONS
from tests.harness import ENV, IGAKI, NOBODY, PYTHON_INSIDE, Sandbox

HOST = ["--ro-bind", "/", "/", "--proc", "/proc", "--dev", "/dev", "--tmpfs", "/tmp"]
"""Options that show the whole host, unlike the default plan."""


def run(sandbox: Sandbox, *words: str | Path, **options: object) -> tuple[int, str, str]:
    """Exit code, output and errors of `igaki run WORDS`."""
    done = sandbox.command("igaki", "run", *words, **options)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    return done.returncode, done.stdout, done.stderr


def shell(script: str) -> list[str]:
    return ["--", "sh", "-c", script]


@pytest.mark.parametrize(
    ("script", "code"),
    [("exit 0", 0), ("exit 7", 7), ("exit 255", 255)]
    + [(f"kill -{number} $$", 128 + number) for number in (signal.SIGTERM, signal.SIGKILL, signal.SIGSEGV)],
    ids=str,
)
def test_the_exit_code_is_the_programs(sandbox: Sandbox, script: str, code: int) -> None:
    assert run(sandbox, *shell(script)) == (code, "", "")


def test_input_and_output_are_the_programs(sandbox: Sandbox) -> None:
    done = run(sandbox, *shell("cat; echo err >&2"), input="in\n")
    assert done == (0, "in\n", "err\n")


def test_megabytes_go_in_and_out_whole(user_sandbox: Sandbox) -> None:
    text = "0123456789abcde\n" * (1 << 17)
    assert run(user_sandbox, "--", "cat", input=text) == (0, text, "")


FAILURES: dict[str, tuple[list[str], int, str]] = {
    "a missing source": (["--ro-bind", "/nonexistent", "/srv", "true"], 125, r"/nonexistent.*/srv.*No such file"),
    "a target below a file": ([*HOST, "--dir", "/etc/passwd/x", "true"], 125, r"op 4: .*/etc/passwd/x"),
    "a missing mount point below what is read-only": (
        [*HOST, "--tmpfs", "/usr/none", "true"],
        125,
        r"op 4: .*/usr/none.*Read-only file system since op 0: bind / on /",
    ),
    "a missing layer": ([*HOST, "--overlay-src", "/none", "--tmp-overlay", "/srv", "true"], 125, r"/none"),
    "a program that is not found": (["--", "no-such-program"], 127, r"'no-such-program'"),
    "a missing program": (["--", "/no/such/program"], 127, r"'/no/such/program'"),
    "a program below a file": (["--", "/etc/passwd/x"], 127, r"'/etc/passwd/x'"),
    "a program that is not executable": (["--", "/etc/passwd"], 126, r"Permission denied: '/etc/passwd'"),
    "a directory": (["--", "/usr"], 126, r"Permission denied: '/usr'"),
    "a working directory that is missing": (["--chdir", "/none", "true"], 125, r"working directory.*'/none'"),
    "an unknown option": (["--ro-bnd", "/", "/", "true"], 2, r"--ro-bnd; did you mean --ro-bind\?"),
    "a missing operand": (["--bind", "/"], 2, r"--bind needs SRC DST"),
    "no command": (["--share-net"], 2, r"no command"),
    "a long hostname": (["--hostname", "x" * 65, "true"], 2, r"hostname"),
    "a newline in an option": (["--new\nline", "true"], 2, r"--new\\nline"),
    "a newline in a source": (["--ro-bind", "/new\nline", "/x", "true"], 125, r"/new\\nline"),
    "what a terminal obeys": (["--ro-bind", "/a\x1b[2J\rb", "/x", "true"], 125, r"cannot bind /a[^\x1b\r]*b on /x"),
    "bytes that are no text": (["--", "/\udcff\udcfe"], 127, r"xff"),
}


@pytest.mark.parametrize(("words", "code", "text"), FAILURES.values(), ids=FAILURES)
def test_what_goes_wrong_is_said_in_one_line_and_in_the_exit_code(
    user_sandbox: Sandbox, words: list[str], code: int, text: str
) -> None:
    returned, output, errors = run(user_sandbox, *words)
    assert (returned, output) == (code, "")
    assert re.fullmatch(r"igaki: [^\n]*\n", errors), errors
    assert re.search(text, errors), errors


@pytest.mark.parametrize(
    ("code", "words"), [(125, ["--ro-bind", "/no", "/x", "true"]), (126, ["/usr"]), (127, ["/no"])]
)
def test_failures_look_the_same_to_everybody(sandbox: Sandbox, code: int, words: list[str]) -> None:
    returned, output, errors = run(sandbox, *words)
    assert (returned, output, errors.count("\n")) == (code, "", 1)


@pytest.mark.parametrize("words", [[], ["bogus"], ["--bogus"], ["Run", "true"], ["--version", "x"]], ids=" ".join)
def test_wrong_usage_of_the_command_itself_is_code_2(user_sandbox: Sandbox, words: list[str]) -> None:
    done = user_sandbox.command("igaki", *words)
    assert (done.returncode, done.stdout) == (2, "")
    assert re.fullmatch(r"igaki: [^\n]*see igaki --help\)\n", done.stderr)


def test_the_version_is_the_packages(user_sandbox: Sandbox) -> None:
    done = user_sandbox.command("igaki", "--version")
    assert (done.returncode, done.stdout, done.stderr) == (0, f"igaki {igaki.__version__}\n", "")


@pytest.mark.parametrize("words", [["--help"], ["-h"], ["help"], ["run", "--help"], ["run", "-h"]], ids=" ".join)
def test_the_help_names_everything_and_fits_a_terminal(user_sandbox: Sandbox, words: list[str]) -> None:
    done = user_sandbox.command("igaki", *words)
    assert (done.returncode, done.stderr) == (0, "")
    lines = done.stdout.splitlines()
    assert max(map(len, lines)) <= 80
    assert [line for line in lines if line.endswith(" ")] == []
    assert {line.split()[0] for line in lines if line.startswith("  --")} == set(OPTIONS)
    assert all(f"{group}:" in lines for group in GROUPS)


def test_a_dry_run_says_each_op_and_starts_nothing(user_sandbox: Sandbox) -> None:
    work = user_sandbox.directory("work")
    words = ["--bind", str(work), "/w", "--dir", "/w/new", "--dir", "/w", "--tmpfs", "/w/a/b", "--dir", "/w/a/b/c"]
    # It could start nothing: the user has more processes than it may have.
    done = user_sandbox.command("prlimit", "--nproc=1", IGAKI, "run", "--dry-run", *words, "--", "touch", "/w/ran")
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.splitlines() == [
        f"  0  bind {work} on /w (writable)",
        f"  1  make directory /w/new (mode 0755) [creates {work}/new on the host]",
        "  2  make directory /w (mode 0755)",
        f"  3  mount tmpfs on /w/a/b (mode 0755) [creates {work}/a/b on the host]",
        "  4  make directory /w/a/b/c (mode 0755)",
    ]
    assert list(work.iterdir()) == []


def test_what_a_dry_run_says_is_created_is_created(user_sandbox: Sandbox) -> None:
    work = user_sandbox.directory("work")
    words = [*HOST, "--bind", str(work), "/mnt", "--dir", "/mnt/new", "--tmpfs", "/mnt/a/b", "--dir", "/mnt/a/b/c"]
    assert run(user_sandbox, *words, "--", "true") == (0, "", "")
    assert {str(path.relative_to(work)) for path in work.rglob("*")} == {"new", "a", "a/b"}


@pytest.mark.parametrize("place", ["after the command", "a value", "from a descriptor"])
def test_a_dry_run_is_what_the_option_asks_for_and_nothing_else(user_sandbox: Sandbox, place: str) -> None:
    words = {
        "after the command": ["echo", "--dry-run"],
        "a value": ["--setenv", "A", "--dry-run", "--", "printenv", "A"],
        "from a descriptor": ["--args", "0", "--", "echo", "ran"],
    }[place]
    returned, output, errors = run(user_sandbox, *words, input="--dry-run\0" if place == "from a descriptor" else "")
    assert (returned, errors) == (0, "")
    if place == "from a descriptor":
        assert output.startswith("  0  bind / on /\n")
    else:
        assert output == "--dry-run\n"


@pytest.fixture
def data(tmp_path: Path) -> Iterator[int]:
    """A descriptor that holds some bytes."""
    path = tmp_path / "data"
    path.write_bytes(b"some data\n")
    with open(path, "rb") as file:
        yield file.fileno()


@pytest.mark.parametrize(
    ("option", "mode", "writes"),
    [("--file", "644", True), ("--bind-data", "600", True), ("--ro-bind-data", "600", False)],
)
def test_a_file_holds_what_its_descriptor_held(
    sandbox: Sandbox, data: int, option: str, mode: str, writes: bool
) -> None:
    script = "cat /tmp/f; stat -c '%a %u' /tmp/f; id -u; if (echo x > /tmp/f) 2>/dev/null; then cat /tmp/f; fi"
    words = ["--perms", "644", option] if option == "--file" else [option]
    returned, output, errors = run(sandbox, *HOST, *words, str(data), "/tmp/f", *shell(script), pass_fds=[data])
    uid = str(sandbox.uid)
    expected = ["some data", f"{mode} {uid}", uid, *(["x"] if writes else [])]
    assert (returned, output.splitlines(), errors) == (0, expected, "")


def test_options_come_from_a_descriptor(sandbox: Sandbox) -> None:
    words = [*HOST, "--dir", "/tmp/a", "--args", "0", "--dir", "/tmp/a/b/c", *shell("cd /tmp; find . | sort; cat")]
    done = run(sandbox, *words, input="--dir\0/tmp/a/b\0--symlink\0two\nlines\0/tmp/a/l")
    assert done == (0, ".\n./a\n./a/b\n./a/b/c\n./a/l\n", "")


@pytest.mark.parametrize("source", [[], ["/usr/share"]], ids=["/etc", "/usr/share"])
def test_etc_is_a_mirror_with_room_for_users(sandbox: Sandbox, source: list[str]) -> None:
    words = ["--root", "/", "--etc", *source, "--ro-bind-data", "0", "/etc/passwd"]
    script = "ls /etc; cat /etc/passwd; test -e /etc/group && echo group"
    _, output, errors = run(sandbox, *words, *shell(script), input="me:x:1:1::/:/bin/sh\n")
    *names, last = output.splitlines()
    mirrored = os.listdir(source[0] if source else "/etc")
    assert (last, errors) == ("me:x:1:1::/:/bin/sh", "")
    assert set(names) == {name for name in mirrored if not name.startswith(".")} - {"group"} | {"passwd"}


def variables(output: str) -> set[str]:
    """The output of `env -0`, but for what the shell that launches the command adds."""
    added = ("PWD=", "OLDPWD=", "SHLVL=", "_=")
    return {variable for variable in output.split("\0") if variable and not variable.startswith(added)}


def test_the_environment_is_the_callers_as_options_change_it(user_sandbox: Sandbox) -> None:
    env = {"PATH": ENV["PATH"], "KEPT": "a\nb", "GONE": "1", "LC_ALL": "C.UTF-8"}
    words = ["--unsetenv", "GONE", "--unsetenv", "NEVER", "--setenv", "NEW", "ä", "--", "env", "-0"]
    _, output, _ = run(user_sandbox, *words, env=env)
    assert variables(output) == {"PATH=" + ENV["PATH"], "KEPT=a\nb", "NEW=ä", "LC_ALL=C.UTF-8"}


def test_an_environment_without_a_locale_gets_none(user_sandbox: Sandbox) -> None:
    _, output, _ = run(user_sandbox, "--", "env", "-0", env={"PATH": "/usr/bin"})
    assert variables(output) == {"PATH=/usr/bin"}


def test_a_cleared_environment_is_empty(user_sandbox: Sandbox) -> None:
    assert run(user_sandbox, "--clearenv", "--", "/usr/bin/env") == (0, "", "")
    assert run(user_sandbox, "--clearenv", "--setenv", "A", "", "--", "/usr/bin/env") == (0, "A=\n", "")


def test_arguments_and_values_that_are_no_text_arrive_as_they_are(user_sandbox: Sandbox) -> None:
    env = {**ENV, "BYTES": "v\udcfe"}
    words = [str(IGAKI), "run", *shell('printf "%s" "$0$BYTES" | od -An -tx1'), "a\udcff"]
    assert user_sandbox.command(*words, env=env).stdout.split() == ["61", "ff", "76", "fe"]


def test_the_program_starts_in_the_directory_asked_for(sandbox: Sandbox) -> None:
    assert run(sandbox, "--chdir", "/usr//share/", *shell("pwd -P; echo $PWD"))[:2] == (0, "/usr/share\n/usr/share\n")


def test_the_hostname_is_the_one_asked_for_or_the_hosts(sandbox: Sandbox) -> None:
    assert run(sandbox, "--hostname", "box", "--", "uname", "-n")[1] == "box\n"
    assert run(sandbox, "--", "uname", "-n")[1] == os.uname().nodename + "\n"


@pytest.mark.parametrize(
    ("uid", "gid"), [(None, None), ("0", "0"), ("1234", None), (None, "4321"), ("4294967294", "7")]
)
def test_the_user_inside_is_the_one_asked_for(sandbox: Sandbox, uid: str | None, gid: str | None) -> None:
    words = (["--uid", uid] if uid else []) + (["--gid", gid] if gid else [])
    expected = f"{uid or sandbox.uid} {gid or sandbox.uid}\n"
    assert run(sandbox, *words, *shell("echo $(id -u) $(id -g)"))[:2] == (0, expected)


def test_user_0_inside_may_not_more_than_the_user_outside(sandbox: Sandbox) -> None:
    script = "grep -h ^Cap /proc/self/status; cat /etc/shadow 2>/dev/null; touch /usr/x"
    returned, output, errors = run(sandbox, "--uid", "0", "--gid", "0", *shell(script))
    assert returned != 0
    assert {line.split()[1] for line in output.splitlines()} == {"0" * 16}
    assert "Read-only file system" in errors


def test_root_is_nobody_on_the_host_unless_asked(root_sandbox: Sandbox) -> None:
    work = root_sandbox.directory("work", 0o777)
    words = [*HOST, "--bind", str(work), str(work)]
    assert run(root_sandbox, *words, "--", "touch", work / "nobody")[0] == 0
    assert run(root_sandbox, *words, "--host-root", "--", "touch", work / "root")[0] == 0
    assert ((work / "nobody").stat().st_uid, (work / "root").stat().st_uid) == (NOBODY, 0)


INTERFACES = "readlink /proc/self/ns/net; tail -n +3 /proc/net/dev | cut -d: -f1"


def test_the_network_is_the_hosts_only_when_shared(sandbox: Sandbox) -> None:
    here = os.readlink("/proc/self/ns/net")
    shared = run(sandbox, "--share-net", *shell(INTERFACES))[1].split()
    assert shared[0] == here
    assert set(shared[1:]) == set(os.listdir("/sys/class/net"))
    own = run(sandbox, *shell(INTERFACES))[1].split()
    assert own[0] != here
    assert own[1:] == ["lo"]


def test_the_loopback_of_a_new_network_is_up(sandbox: Sandbox) -> None:
    code = """import socket
server = socket.create_server(("127.0.0.1", 0))
client = socket.create_connection(server.getsockname(), 5)
try:
    socket.create_connection(("192.0.2.1", 80), 5)
except OSError as error:
    print(error.strerror)
"""
    assert run(sandbox, "--", PYTHON_INSIDE, "-I", "-c", code) == (0, "Network is unreachable\n", "")


def test_the_working_directory_is_shown_beside_other_files_when_asked(sandbox: Sandbox) -> None:
    work = sandbox.directory("work")
    files = [*HOST, "--tmpfs", str(work.parent)]
    script = "cat file 2>/dev/null; touch new 2>/dev/null || echo refused"
    sandbox.file(work / "file", "text\n")
    assert run(sandbox, *files, "--cwd", "ro", *shell(script), cwd=work)[1] == "text\nrefused\n"
    elsewhere = "/" if sandbox.is_root else sandbox.home  # nobody can't enter root's home
    assert run(sandbox, *files, "--cwd", "none", *shell("pwd"), cwd=work)[1] == f"{elsewhere}\n"
    assert not (work / "new").exists()
    assert run(sandbox, *files, "--cwd", "rw", *shell(script), cwd=work)[1] == "text\n"
    assert (work / "new").stat().st_uid == sandbox.uid


@pytest.mark.parametrize(
    ("words", "output"),
    [
        ([], ""),
        (["--linger", "0"], ""),
        (["--linger", "0.05"], ""),
        (["--linger", "30"], "late\n"),
        (["--linger", "forever"], "late\n"),
    ],
    ids=" ".join,
)
def test_what_the_program_left_running_lives_as_long_as_it_may(
    user_sandbox: Sandbox, words: list[str], output: str
) -> None:
    program = shell("{ sleep 0.3; echo late; } & exit 7")
    assert run(user_sandbox, *words, *program, timeout=20) == (7, output, "")


def test_no_other_descriptor_reaches_the_program(sandbox: Sandbox, data: int) -> None:
    _, output, _ = run(sandbox, *shell("ls /proc/self/fd"), pass_fds=[data])
    assert output.split() == ["0", "1", "2", "3"]  # 3 is the directory that ls reads


@pytest.mark.parametrize("closed", ["<&-", ">&-", "2>&-", "<&- >&-", "<&- >&- 2>&-"])
def test_descriptors_that_are_closed_lead_nowhere_and_harm_nothing(user_sandbox: Sandbox, closed: str) -> None:
    work = user_sandbox.directory("work", 0o777)
    script = "for fd in 0 1 2; do readlink /proc/$$/fd/$fd; done > out; exit 7"
    words = f"'{IGAKI}' run --cwd rw -- sh -c '{script}' {closed}"
    done = user_sandbox.command("sh", "-c", words, cwd=work)
    assert (done.returncode, done.stdout, done.stderr) == (7, "", "")
    lines = (work / "out").read_text().splitlines()
    numbers = {"<&-": 0, ">&-": 1, "2>&-": 2}
    # The script's own output goes to its file, whatever descriptor 1 was.
    assert all(lines[numbers[each]] == "/dev/null" for each in closed.split() if each != ">&-")


QUIET_COMMANDS = [("--version", 0), ("--help", 0), ("run --dry-run true", 0), ("bogus", 2), ("run -- /no/such", 127)]


@pytest.mark.parametrize(("words", "code"), QUIET_COMMANDS)
def test_closed_output_changes_no_exit_code_and_gives_no_traceback(
    user_sandbox: Sandbox, words: str, code: int
) -> None:
    for closed in (">&-", "2>&-", ">&- 2>&-"):
        done = user_sandbox.command("sh", "-c", f"'{IGAKI}' {words} {closed}")
        assert (closed, done.returncode) == (closed, code)
        assert "Traceback" not in done.stderr


@pytest.mark.parametrize(
    ("words", "code"), [("bogus", 2), ("run -- /no/such", 127), ("run --ro-bind /no /x true", 125)]
)
def test_nobody_listening_to_errors_changes_no_exit_code(user_sandbox: Sandbox, words: str, code: int) -> None:
    read, write = os.pipe()
    os.close(read)
    with open(write, "wb") as errors:
        process = subprocess.Popen([IGAKI, *words.split()], env=ENV, stderr=errors, **user_sandbox.identity())
    assert process.wait(60) == code


@pytest.mark.parametrize("words", ["--version", "--help", "run --dry-run true"])
def test_output_that_cannot_be_written_is_one_line_and_no_success(user_sandbox: Sandbox, words: str) -> None:
    done = user_sandbox.command("sh", "-c", f"'{IGAKI}' {words} > /dev/full")
    assert done.returncode not in (0, 120)
    assert re.fullmatch(r"igaki: [^\n]*No space left on device[^\n]*\n", done.stderr), done.stderr


def started(sandbox: Sandbox, *words: str, **options: object) -> subprocess.Popen[str]:
    """`igaki run WORDS` in the background."""
    env = {**ENV, "HOME": sandbox.home}
    pipes = {"stdin": subprocess.DEVNULL, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    return subprocess.Popen([IGAKI, "run", *words], cwd="/", env=env, **pipes, **sandbox.identity(), **options)  # type: ignore[call-overload,no-any-return]  # pyright: ignore[reportCallIssue,reportArgumentType,reportUnknownVariableType]


ENDING = [signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT]


def signalled(process: subprocess.Popen[str], number: signal.Signals) -> tuple[int, str, str]:
    """Exit code, further output and errors of a `process` that gets a signal now."""
    try:
        process.send_signal(number)
        output, errors = process.communicate(timeout=20)
    finally:
        process.kill()
    return process.returncode, output, errors


# The pause: the program runs a moment before the command knows it, and nobody can see from outside that it does.
@pytest.mark.parametrize("number", [*ENDING, signal.SIGUSR1])
def test_a_signal_reaches_the_program_and_shows_in_the_exit_code(sandbox: Sandbox, number: signal.Signals) -> None:
    with started(sandbox, *shell("sleep 0.1; echo ready; exec sleep 10")) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        assert signalled(process, number) == (128 + number, "", "")


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_program_may_have_the_last_word_about_a_signal(user_sandbox: Sandbox, number: signal.Signals) -> None:
    script = "trap 'echo caught; exit 3' INT TERM; sleep 0.1; echo ready; while :; do sleep 0.02; done"
    with started(user_sandbox, *shell(script)) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        assert signalled(process, number) == (3, "caught\n", "")


@pytest.mark.parametrize("number", [*ENDING, signal.SIGUSR1])
def test_a_signal_that_comes_before_the_program_runs_is_not_lost(user_sandbox: Sandbox, number: signal.Signals) -> None:
    with started(user_sandbox, "--", "sleep", "2") as process:
        status = Path(f"/proc/{process.pid}/status")
        while not int(re.findall(r"SigCgt:\s*(\w+)", status.read_text())[0], 16) >> (signal.SIGWINCH - 1) & 1:
            pass  # until it passes signals on; init has still work to do then
        assert signalled(process, number) == (128 + number, "", "")


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_signal_while_the_container_is_set_up_ends_it_silently(user_sandbox: Sandbox, number: signal.Signals) -> None:
    read, write = os.pipe()
    # It reads its options, which do not come: init is started by then and the program isn't.
    with started(user_sandbox, "--args", str(read), "--", "echo", "ran", pass_fds=[read]) as process:
        os.close(read)
        children = Path(f"/proc/{process.pid}/task/{process.pid}/children")
        while not children.read_text():
            pass
        code, output, errors = signalled(process, number)
    os.close(write)
    assert code in (128 + number, -number)
    assert (output, errors) == ("", "")


def test_a_signal_that_the_caller_ignores_stays_ignored(user_sandbox: Sandbox) -> None:
    script = f"trap '' INT HUP; exec '{IGAKI}' run -- sh -c 'echo ready; sleep 0.2; exit 7'"
    words = ["sh", "-c", script]
    with subprocess.Popen(words, env=ENV, stdout=subprocess.PIPE, **user_sandbox.identity()) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"ready\n"
        process.send_signal(signal.SIGINT)
        process.send_signal(signal.SIGHUP)
        assert process.wait(20) == 7


def test_a_dry_run_prints_nothing_that_a_terminal_obeys(user_sandbox: Sandbox) -> None:
    returned, output, _ = run(user_sandbox, "--dry-run", "--tmpfs", "/a\x1b[31m\n  1  bind", "--", "true")
    assert (returned, output) == (0, "  0  mount tmpfs on /a\\x1b[31m\\n  1  bind (mode 0755)\n")


@pytest.mark.parametrize("option", [("--file", "/tmp/x"), ("--ro-bind-data", "/tmp/x"), ("--args",)])
@pytest.mark.parametrize("fd", range(3, 12))
def test_a_descriptor_that_the_caller_did_not_pass_is_refused(
    user_sandbox: Sandbox, option: tuple[str, ...], fd: int
) -> None:
    """Those that igaki itself has open by then among them, from which there would be nothing to read for ever."""
    name, *target = option
    returned, _, errors = run(user_sandbox, name, str(fd), *target, "--", "true")
    assert (returned, errors.count("\n")) == (2, 1)


def test_a_recording_does_not_follow_a_link(user_sandbox: Sandbox) -> None:
    directory = user_sandbox.directory("records")
    victim = user_sandbox.file(directory / "victim", "precious")
    (directory / "stream").symlink_to("victim")
    returned, _, errors = run(user_sandbox, "--record", str(directory / "stream"), "--", "true")
    assert (returned, errors) == (125, f"igaki: cannot record to {directory}/stream: {os.strerror(errno.ELOOP)}\n")
    assert victim.read_text() == "precious"


def test_a_home_that_is_not_normal_is_no_place_to_start_in(user_sandbox: Sandbox) -> None:
    env = {**ENV, "HOME": "/usr/../usr"}
    done = user_sandbox.command("igaki", "run", "--tmpfs", "/x", "--ro-bind", "/", "/", "--", "true", env=env)
    assert (done.returncode, done.stderr) == (0, "")


def test_lingering_for_weeks_is_no_trouble(user_sandbox: Sandbox) -> None:
    assert run(user_sandbox, "--linger", "3000000", *shell("sleep 0.1 & exit 4")) == (4, "", "")


def test_without_a_terminal_a_program_that_stops_does_not_stop_igaki(user_sandbox: Sandbox) -> None:
    assert run(user_sandbox, *shell("(sleep 0.2; kill -CONT $$) & kill -STOP $$; exit 5")) == (5, "", "")


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_what_lingers_can_be_told_to_end(user_sandbox: Sandbox, number: signal.Signals) -> None:
    words = ["--linger", "forever", *shell("sleep 99 >/dev/null 2>&1 & echo ready; exit 3")]
    with started(user_sandbox, *words) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        # It is passed on while the program lives, ends what lingers afterwards: sooner or later either has happened.
        while process.poll() is None:
            process.send_signal(number)
    assert process.returncode in (3, 128 + number)


def test_the_op_that_covers_a_place_last_is_the_one_that_is_named(user_sandbox: Sandbox) -> None:
    _, _, errors = run(user_sandbox, "--ro-bind", "/usr", "/usr", "--ro-bind", "/", "/", "--dir", "/usr/zzz", "true")
    assert "since op 1: bind / on /" in errors


def test_a_dry_run_says_what_a_mirror_creates_on_the_host(user_sandbox: Sandbox) -> None:
    directory = user_sandbox.directory("empty")
    _, output, _ = run(user_sandbox, "--dry-run", "--bind", str(directory), "/", "--etc", "--root", "/", "--", "true")
    assert output.count("[creates what is missing in") == 2


def test_a_path_that_cannot_be_searched_hides_no_missing_program(sandbox: Sandbox) -> None:
    closed = sandbox.directory("closed", 0o000)
    env = {"PATH": f"{closed}:/usr/bin:/bin"}
    done = sandbox.command("igaki", "run", "--ro-bind", "/", "/", "--", "no-such-program", env=env)
    assert (done.returncode, done.stderr) == (127, "igaki: cannot execute: not found in PATH: 'no-such-program'\n")


def test_a_missing_interpreter_is_told_wherever_the_script_was_found(user_sandbox: Sandbox) -> None:
    directory = user_sandbox.directory("scripts")
    user_sandbox.file(directory / "script", "#!/nope\n", 0o755)
    for words, env in ((["script"], {"PATH": str(directory)}), (["./script"], ENV)):
        options = ["--ro-bind", "/", "/", "--chdir", str(directory)]
        done = user_sandbox.command("igaki", "run", *options, "--", *words, env=env)
        assert done.returncode == 127
        assert "the interpreter or loader that it names is not" in done.stderr


def test_another_name_of_the_machine_changes_nothing(user_sandbox: Sandbox) -> None:
    done = user_sandbox.command("setarch", "linux32", IGAKI, "run", "--", "true")
    assert (done.returncode, done.stderr) == (0, "")


def test_help_may_come_late(user_sandbox: Sandbox) -> None:
    assert run(user_sandbox, "--share-net", "--help")[:2] == (0, run(user_sandbox, "--help")[1])
