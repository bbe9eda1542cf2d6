"""What a program sees that is run without any option about files: much to read, nothing to keep, no secrets."""

import json
import os
import subprocess
from pathlib import Path
from typing import Any

import pytest

from igaki.host.default_plan import HostFacts, default_plan, opens_more
from igaki.ops import Bind, Tmpfs
from igaki.ops.base import is_below
from tests.harness import PYTHON_INSIDE, Sandbox

KEY = "id_ed25519"


def inside(sandbox: Sandbox, before: str, script: str, options: str = "") -> subprocess.CompletedProcess[str]:
    """Run `script` in a container of the default plan, on a host that the script `before` has prepared.

    The homes are mounted anew there, with a key in each, so that no real one is touched.
    """
    other = sandbox.directory_root / "home"
    other.mkdir(exist_ok=True)
    sandbox.own(other)
    prepare = f"""
        for home in '{sandbox.home}' '{other}'; do
            fresh "$home" mode=755
            echo secret > "$home/{KEY}"
        done
        other='{other}'
        {before}
    """
    # From its variable, so that the script needs no quotes of its own.
    command = f'exec "$IGAKI" run {options} -- sh -c \'eval "$SCRIPT"\''
    return sandbox.in_outer_namespace(f"{prepare}\nSCRIPT='{script}' {command}")


def lines(done: subprocess.CompletedProcess[str]) -> list[str]:
    assert done.stderr == ""
    assert done.returncode == 0
    return done.stdout.splitlines()


def test_a_key_at_home_cannot_be_read(sandbox: Sandbox) -> None:
    done = inside(sandbox, "cd /", f"cat ~/{KEY}")
    assert (done.returncode, done.stdout) == (1, "")
    assert "No such file or directory" in done.stderr


@pytest.mark.parametrize("home", ["$other", "$HOME", "$other/", "/nonexistent", "relative", ""])
def test_every_home_is_empty_whatever_the_environment_calls_home(sandbox: Sandbox, home: str) -> None:
    real = sandbox.home
    look = f'ls -A "{real}"; stat -c "%a %u" "{real}"; touch "{real}/new" && ls -A "{real}"'
    expected = [f"700 {sandbox.uid}", "new"]
    assert lines(inside(sandbox, f"cd /; export HOME={home}", look)) == expected
    if "other" in home:
        assert lines(inside(sandbox, f"cd /; umount -l $HOME; export HOME={home}", 'ls -A "$HOME"; echo ok')) == ["ok"]


def test_a_home_behind_a_symlink_is_empty_at_both_names(sandbox: Sandbox) -> None:
    link = sandbox.directory("links") / "home"
    link.symlink_to(sandbox.directory_root / "home")
    assert lines(inside(sandbox, f"export HOME={link}; cd /", f"ls -A {link}/ {link.readlink()}; echo ok"))[-1] == "ok"
    assert KEY not in inside(sandbox, f"export HOME={link}; cd /", f"ls -A {link}/ {link.readlink()}").stdout


def test_what_is_written_at_home_or_in_tmp_is_gone_afterwards(sandbox: Sandbox) -> None:
    before = """
        fresh /tmp mode=1777; fresh /run mode=1777; cd /
        "$IGAKI" run -- sh -c "for at in ~ /tmp /run; do echo > \\$at/new; ls \\$at; done"
    """
    assert lines(inside(sandbox, before, "ls -A ~ /tmp /run | grep -c new || true")) == ["new", "new", "new", "0"]
    assert lines(inside(sandbox, f"{before}\nls -A ~ /tmp /run | grep -c new || true; exit", ""))[-1] == "0"


def test_tmp_and_run_are_private_and_empty(sandbox: Sandbox) -> None:
    before = "for at in /tmp /run; do fresh $at mode=1777; echo secret > $at/socket; done; cd /"
    assert lines(inside(sandbox, before, "ls -A /tmp /run; stat -c %a /tmp /run")) == [
        "/run:",
        "",
        "/tmp:",
        "1777",
        "755",
    ]


RESOLV = """
    fresh /run mode=1777; mkdir /run/resolver; echo private > /run/secret
    mount --rbind /etc /mnt; mount -t tmpfs tmpfs /etc; ln -s /mnt/* /etc/
    ln -sf ../run/resolver/resolv.conf /etc/resolv.conf; cd /
"""


@pytest.mark.parametrize(("options", "expected"), [("", ["missing"]), ("--share-net", ["nameserver 192.0.2.53"])])
def test_name_servers_are_known_where_the_network_is_shared(
    sandbox: Sandbox, options: str, expected: list[str]
) -> None:
    before = RESOLV + "echo nameserver 192.0.2.53 > /run/resolver/resolv.conf"
    look = "cat /etc/resolv.conf 2>/dev/null || echo missing; find /run -type f"
    found = lines(inside(sandbox, before, look, options))
    assert found == [*expected, *(["/run/resolver/resolv.conf"] if options else [])]


def test_a_missing_resolver_is_no_reason_not_to_run(user_sandbox: Sandbox) -> None:
    assert lines(inside(user_sandbox, RESOLV, "ls -A /run; echo ok", "--share-net")) == ["ok"]


WALK = """
import errno, json, os, stat
from collections import Counter
created, opened = [], []
def attempt(path, flags):
    try:
        os.close(os.open(path, os.O_WRONLY | os.O_NONBLOCK | os.O_NOCTTY | os.O_NOFOLLOW | flags, 0o600))
    except OSError:
        return False
    return True
def walk(path, depth):
    if attempt(path.rstrip("/") + "/igaki-walk", os.O_CREAT | os.O_EXCL):
        created.append(path)
    try:
        entries = sorted(os.scandir(path), key=lambda entry: entry.name)
    except OSError:
        return
    for entry in entries:
        if entry.path == "/proc" or entry.name == "igaki-walk":
            continue
        if entry.is_dir(follow_symlinks=False):
            if depth:
                walk(entry.path, depth - 1)
        elif stat.S_ISREG(os.lstat(entry.path).st_mode) and attempt(entry.path, 0):
            opened.append(entry.path)
walk("/", 3)
mounts = [line.split(" - ") for line in open("/proc/self/mountinfo")]
for before, after in mounts:
    point = before.split()[4]
    if os.path.isdir(point) and not point.startswith("/proc"):
        walk(point, 1)
writable = {before.split()[4]: after.split()[0] for before, after in mounts if "rw" in before.split()[5].split(",")}
settings = [path for path in ("/proc/sysrq-trigger", "/proc/sys/kernel/core_pattern", "/proc/sys/kernel/hostname")
            if attempt(path, 0)]
print(json.dumps({"created": sorted(set(created)), "opened": sorted(set(opened)), "writable": writable,
                  "settings": settings}))
"""


def test_nothing_is_writable_that_lasts(sandbox: Sandbox) -> None:
    before = set(os.listdir("/"))
    done = sandbox.command("igaki", "run", "--", PYTHON_INSIDE, "-I", "-S", "-c", WALK)
    assert done.returncode == 0, done.stderr
    report: dict[str, Any] = json.loads(done.stdout)
    home = os.path.realpath(sandbox.home)
    private = {"/tmp", "/run", "/dev/shm", home}
    assert set(report["created"]) == private
    assert report["opened"] == []
    assert report["settings"] == []
    assert set(report["writable"]) == {"/proc", "/dev/pts", *private}
    assert {report["writable"][point] for point in private} == {"tmpfs"}
    assert set(os.listdir("/")) == before
    assert not any(Path(point, "igaki-walk").exists() for point in ["/", *private])


@pytest.mark.parametrize(
    ("options", "seen", "written"),
    [("", ["project"], False), ("--cwd ro", ["project"], False), ("--cwd rw", ["project"], True)],
)
def test_a_working_directory_at_home_is_shown_alone(
    sandbox: Sandbox, options: str, seen: list[str], written: bool
) -> None:
    before = f"""
        mkdir "$HOME/project" "$HOME/other"; echo code > "$HOME/project/file"
        chown {sandbox.uid if sandbox.is_root else "$(id -u)"} "$HOME/project"; cd "$HOME/project"
    """
    look = "ls -A ~; cat file; pwd; (echo new > new) 2>/dev/null && echo written"
    where = f"{sandbox.home}/project"
    assert lines_of(inside(sandbox, before, look, options)) == [*seen, "code", where, *(["written"] if written else [])]
    after = f'{before}\n"$IGAKI" run {options} -- sh -c "echo new > new" 2>/dev/null || true; ls; exit'
    assert lines(inside(sandbox, after, "")) == ["file", *(["new"] if written else [])]


def lines_of(done: subprocess.CompletedProcess[str]) -> list[str]:
    assert done.stderr == ""
    return done.stdout.splitlines()


def test_a_working_directory_at_home_is_hidden_when_asked(sandbox: Sandbox) -> None:
    before = 'mkdir "$HOME/project"; echo code > "$HOME/project/file"; cd "$HOME/project"'
    assert lines(inside(sandbox, before, "ls -A ~; pwd -P", "--cwd none")) == [sandbox.home]


@pytest.mark.parametrize("where", ["$HOME", "$HOME/..", "/", "/tmp", "/run", "/proc", "/dev", "/proc/self"])
def test_a_working_directory_that_would_open_more_is_not_shown(sandbox: Sandbox, where: str) -> None:
    before = f'fresh /tmp mode=1777; echo secret > /tmp/secret; cd "{where}"'
    look = (
        f"cat ~/{KEY} /tmp/secret 2>/dev/null; ls -d /dev/kmsg 2>/dev/null; ls -d /proc/1 /proc/4 2>/dev/null; echo ok"
    )
    assert lines(inside(sandbox, before, look)) == ["/proc/1", "ok"]
    refused = inside(sandbox, before, look, "--cwd rw")
    assert (refused.returncode, refused.stdout) == (2, "")
    assert refused.stderr.startswith("igaki: --cwd: ")
    assert refused.stderr.count("\n") == 1


def test_a_working_directory_below_tmp_is_shown(sandbox: Sandbox) -> None:
    before = "fresh /tmp mode=1777; mkdir /tmp/a /tmp/b; echo code > /tmp/a/file; cd /tmp/a"
    assert lines(inside(sandbox, before, "ls -A /tmp; cat file")) == ["a", "code"]


def test_a_working_directory_that_is_gone_is_no_reason_not_to_run(sandbox: Sandbox) -> None:
    before = 'mkdir "$other/gone"; cd "$other/gone"; rmdir "$other/gone"'
    done = inside(sandbox, before, "pwd -P")
    assert (done.returncode, done.stdout) == (0, f"{sandbox.home}\n")


def test_root_shows_nobody_no_directory_that_is_closed_to_others(root_sandbox: Sandbox) -> None:
    before = 'mkdir -m 700 "$other/closed"; echo secret > "$other/closed/file"; cd "$other/closed"'
    assert lines(inside(root_sandbox, before, "cat file 2>/dev/null; pwd -P")) == [root_sandbox.home]


def test_the_default_plan_shows_a_container(sandbox: Sandbox) -> None:
    done = sandbox.command("igaki", "run", "--", "sh", "-c", "id -u; ls /; cat /proc/mounts; touch /usr/x")
    assert done.returncode == 1
    assert done.stderr.endswith("Read-only file system\n")
    uid, *rest = done.stdout.splitlines()
    assert uid == str(sandbox.uid)
    assert {"usr", "etc", "proc", "dev"} <= set(rest)


def facts(homes: list[str], cwd: str | None = None, resolv_conf: str = "/etc/resolv.conf") -> HostFacts:
    return HostFacts(homes=homes, cwd=cwd, resolv_conf=resolv_conf)


@pytest.mark.parametrize(
    ("cwd", "homes", "more"),
    [
        ("/", [], True),
        ("/home", ["/home/u"], True),
        ("/home/u", ["/home/u"], True),
        ("/home/u/p", ["/home/u"], False),
        ("/home/u2", ["/home/u"], False),
        ("/srv", ["/home/u"], False),
        ("/tmp", [], True),
        ("/tmp/x", [], False),
        ("/run", [], True),
        ("/run/user", [], True),
        ("/proc/1", [], True),
        ("/sys/fs", [], True),
        ("/dev/shm", [], True),
        ("/device", [], False),
    ],
)
def test_which_working_directories_would_show_more(cwd: str, homes: list[str], more: bool) -> None:
    assert opens_more(cwd, homes) is more
    ops = default_plan(facts(homes, cwd), cwd_mode="ro", share_net=False)
    assert [op.target for op in ops[1:] if isinstance(op, Bind)] == ([] if more else [cwd])


@pytest.mark.parametrize(
    ("path", "directory", "below"),
    [("/a", "/a", True), ("/a/b", "/a", True), ("/ab", "/a", False), ("/a", "/", True), ("/", "/a", False)],
)
def test_below_goes_by_component(path: str, directory: str, below: bool) -> None:
    assert is_below(path, directory) is below


def test_a_home_inside_another_home_is_covered_last() -> None:
    ops = default_plan(facts(["/h", "/h/u"], "/h/u/p"), cwd_mode="rw", share_net=False)
    assert [op.target for op in ops[-3:]] == ["/h", "/h/u", "/h/u/p"]
    assert [type(op) for op in ops[-3:]] == [Tmpfs, Tmpfs, Bind]
