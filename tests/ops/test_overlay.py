"""Overlay on the real kernel."""

import errno
import os
import re
import stat
from collections.abc import Iterator
from pathlib import Path

import pytest

from igaki.ops import AnyOp, Mkdir, Overlay, Place, Symlink
from igaki.ops.overlay import LOWER_MAX
from tests.harness import Sandbox, mount_at, system

ODD_NAMES = ["a b", "a\nb", "a,b", "a:b", "a\\b", "a\\,b\\:c\\\\", ",upperdir=", "a:", "'\"", "é"]


@pytest.fixture(autouse=True)
def _removable(scratch: Path) -> Iterator[None]:
    """The kernel leaves a directory without any permission in `work`; give it back some, so that it can be removed."""
    yield
    for left in scratch.rglob("work/work"):
        left.chmod(0o700)


def layers(sandbox: Sandbox, *names: str) -> list[str]:
    """Directories of these names that hold a file "same" with the name in it, and a file of the name."""
    paths: list[str] = []
    for name in names:
        directory = sandbox.directory(name)
        sandbox.file(directory / "same", name)
        sandbox.file(directory / directory.name, name)
        paths.append(str(directory))
    return paths


def kinds(sandbox: Sandbox, *, mode: int = 0o755) -> dict[str, Overlay]:
    lower = layers(sandbox, "top", "bottom")
    upper, work = sandbox.directory("upper", mode), sandbox.directory("work")
    return {
        "writable": Overlay("/merged", lower=lower, upper=str(upper), work=str(work)),
        "ephemeral": Overlay("/merged", lower=lower, ephemeral=True),
        "read-only": Overlay("/merged", lower=lower),
    }


KINDS = ["writable", "ephemeral", "read-only"]


@pytest.mark.parametrize("kind", KINDS)
def test_an_overlay_merges_its_layers_the_first_on_top(sandbox: Sandbox, kind: str) -> None:
    paths = ["/merged", "/merged/same", "/merged/bottom"]
    report = sandbox.probe([kinds(sandbox)[kind]], *paths)
    merged, same, bottom = (report["paths"][path] for path in paths)
    assert merged["names"] == ["bottom", "same", "top"]
    assert (same["content"], bottom["content"]) == ("top", "bottom")
    assert merged["create"] == ("EROFS" if kind == "read-only" else True)
    assert same["write"] == ("EROFS" if kind == "read-only" else True)
    mount = mount_at(report, "/merged")
    assert mount["kind"] == "overlay"
    assert set(mount["flags"]) >= {"ro" if kind == "read-only" else "rw", "nosuid", "nodev"}
    assert "userxattr" in mount["options"]


def test_changes_of_a_writable_overlay_land_in_upper_on_the_host(sandbox: Sandbox) -> None:
    overlay = kinds(sandbox)["writable"]
    lower, upper = Path(overlay.lower[0]), Path(overlay.upper)
    outcome = sandbox.run([overlay], ["sh", "-ec", "cd /merged; echo -n changed > same; mkdir new; echo -n x > new/x"])
    assert (outcome.returncode, outcome.stderr) == (0, "")
    assert {str(path.relative_to(upper)) for path in upper.rglob("*")} == {"same", "new", "new/x"}
    assert (upper / "same").read_text() == "changed"
    assert (upper / "same").stat().st_uid == sandbox.uid
    assert (lower / "same").read_text() == "top"
    assert sandbox.run([overlay], ["cat", "/merged/same", "/merged/new/x"]).stdout == "changedx"


def test_what_is_deleted_in_a_writable_overlay_stays_deleted_and_the_lower_layer_has_it(sandbox: Sandbox) -> None:
    overlay = kinds(sandbox)["writable"]
    lower, upper = Path(overlay.lower[0]), Path(overlay.upper)
    sandbox.file(sandbox.directory("top/directory") / "old")
    script = "cd /merged; rm same bottom; rm -r directory; mkdir directory; touch directory/new"
    outcome = sandbox.run([overlay], ["sh", "-ec", script])
    assert (outcome.returncode, outcome.stderr) == (0, "")
    report = sandbox.probe([overlay], "/merged", "/merged/directory")
    assert report["paths"]["/merged"]["names"] == ["directory", "top"]
    assert report["paths"]["/merged/directory"]["names"] == ["new"]
    assert sorted(path.name for path in lower.iterdir()) == ["directory", "same", "top"]
    assert (lower / "directory" / "old").exists()
    for name in ("same", "bottom"):
        whiteout = (upper / name).lstat()
        assert stat.S_ISCHR(whiteout.st_mode)
        assert whiteout.st_rdev == 0
    # In the user's own attributes: a user namespace may not write the trusted ones.
    assert os.getxattr(upper / "directory", "user.overlay.opaque") == b"y"


def test_changes_of_an_ephemeral_overlay_leave_no_trace(sandbox: Sandbox) -> None:
    overlay = kinds(sandbox)["ephemeral"]
    before = {path: path.read_text() for path in sandbox.directory_root.rglob("*") if path.is_file()}
    script = "cd /merged; echo -n changed > same; rm bottom; touch new; ls; cat same"
    assert sandbox.run([overlay], ["sh", "-ec", script]).stdout == "new\nsame\ntop\nchanged"
    assert sandbox.run([overlay], ["sh", "-ec", "cd /merged; ls; cat same"]).stdout == "bottom\nsame\ntop\ntop"
    after = {path: path.read_text() for path in sandbox.directory_root.rglob("*") if path.is_file()}
    assert after == before


def test_several_ephemeral_overlays_do_not_share_their_changes(sandbox: Sandbox) -> None:
    lower = layers(sandbox, "lower")
    ops = [Overlay(target, lower=lower, ephemeral=True) for target in ("/one", "/two")]
    outcome = sandbox.run(ops, ["sh", "-ec", "touch /one/new; rm /two/same; ls /one; ls /two"])
    assert outcome.stdout.split() == ["lower", "new", "same", "lower"]


@pytest.mark.parametrize("mode", [0o700, 0o750, 0o1777])
@pytest.mark.parametrize("kind", KINDS)
def test_the_merged_directory_has_the_mode_of_its_topmost_layer(sandbox: Sandbox, kind: str, mode: int) -> None:
    overlay = kinds(sandbox, mode=mode)[kind]
    Path(overlay.lower[0]).chmod(0o711 if kind == "writable" else mode)
    report = sandbox.probe([overlay], "/merged")
    assert report["paths"]["/merged"]["mode"] == mode


@pytest.mark.parametrize("name", ODD_NAMES)
def test_a_name_is_never_taken_for_an_option(sandbox: Sandbox, name: str) -> None:
    lower = layers(sandbox, f"top/{name}", f"bottom/{name}")
    upper, work = sandbox.directory(f"upper/{name}"), sandbox.directory(f"work/{name}/work")
    ops = [
        Overlay(f"/writable/{name}", lower=lower, upper=str(upper), work=str(work)),
        Overlay(f"/ephemeral/{name}", lower=lower, ephemeral=True),
        Overlay(f"/read-only/{name}", lower=lower),
    ]
    script = 'touch "$1/new"; for target; do cat "$target/same"; done'
    outcome = sandbox.run(ops, ["sh", "-ec", script, "sh", *(op.target for op in ops)])
    assert (outcome.stdout, outcome.stderr) == (f"top/{name}" * 3, "")
    assert [path.name for path in upper.iterdir()] == ["new"]
    assert not any((Path(path) / "new").exists() for path in lower)


@pytest.mark.parametrize("kind", KINDS)
def test_as_many_layers_as_are_allowed_can_be_mounted_whatever_their_names(sandbox: Sandbox, kind: str) -> None:
    long = "/".join(["x" * 200] * 4)
    lower: list[str] = []
    for number in range(LOWER_MAX):
        directory = sandbox.directory(f"{long}/{number}")
        (directory / f"file{number}").touch()
        (directory / "same").write_text(str(number))
        lower.append(str(directory))
    upper = work = ""
    if kind == "writable":
        upper, work = str(sandbox.directory(f"{long}/upper")), str(sandbox.directory(f"{long}/work"))
    overlay = Overlay("/merged", lower=lower, upper=upper, work=work, ephemeral=kind == "ephemeral")
    report = sandbox.probe([overlay], "/merged", "/merged/same")
    assert report["paths"]["/merged"]["names"] == sorted([*(f"file{n}" for n in range(LOWER_MAX)), "same"])
    assert report["paths"]["/merged/same"]["content"] == "0"


def test_layers_are_resolved_on_the_host(sandbox: Sandbox) -> None:
    real, other = layers(sandbox, "real", "other")
    link = sandbox.directory_root / "link"
    link.symlink_to(real)
    decoy = Place(f"{real}/same", data=b"what this path means in the container")
    ops: list[AnyOp] = [decoy, Overlay("/merged", lower=[str(link), other])]
    outcome = sandbox.run(ops, ["cat", "/merged/same"], report_settled=True)
    assert outcome.stdout == "real"
    settled = outcome.settled[len(system()) + 1]
    assert isinstance(settled, Overlay)
    assert settled.lower == [str(link), other]
    assert [(source.path, source.inode) for source in settled.found] == [
        (path, os.stat(path).st_ino) for path in (real, other)
    ]


def test_missing_parents_are_created_for_all_to_pass(sandbox: Sandbox) -> None:
    report = sandbox.probe([Overlay("/a/b/c", lower=layers(sandbox, "lower"), ephemeral=True)], "/a", "/a/b")
    assert [seen["mode"] for seen in report["paths"].values()] == [0o755, 0o755]


def test_an_overlay_is_mounted_through_a_symlink(sandbox: Sandbox) -> None:
    overlay = Overlay("/link/new", lower=layers(sandbox, "lower"), ephemeral=True)
    report = sandbox.probe([Mkdir("/real"), Symlink("/link", to="/real"), overlay], "/real/new/same")
    assert report["paths"]["/real/new/same"]["content"] == "lower"


@pytest.mark.parametrize("missing", ["lower", "upper", "work"])
def test_a_missing_layer_is_an_error_with_its_path(sandbox: Sandbox, missing: str) -> None:
    root = sandbox.directory_root
    for name in {"lower", "upper", "work"} - {missing}:
        sandbox.directory(name)
    overlay = Overlay("/o", lower=[f"{root}/lower"], upper=f"{root}/upper", work=f"{root}/work")
    failure = sandbox.refusal([overlay], base=False)
    assert (failure.index, failure.phase, failure.errno) == (0, "early", errno.ENOENT)
    assert str(failure) == f"op 0: cannot {overlay}: No such file or directory: '{root}/{missing}'"


def test_a_layer_that_is_a_file_is_an_error_with_its_path(sandbox: Sandbox) -> None:
    (directory,) = layers(sandbox, "lower")
    overlay = Overlay("/o", lower=[directory, f"{directory}/same"])
    failure = sandbox.refusal([overlay], base=False)
    assert (failure.index, failure.errno) == (0, errno.ENOTDIR)
    assert str(failure) == f"op 0: cannot {overlay}: Not a directory: '{directory}/same'"


def test_what_the_kernel_refuses_names_no_path_of_ours(sandbox: Sandbox) -> None:
    overlay = Overlay("/o", lower=layers(sandbox, "lower") * 2)
    failure = sandbox.refusal([overlay], base=False)
    assert (failure.index, failure.phase, failure.errno) == (0, "apply", errno.ELOOP)
    assert str(failure).startswith(f"op 0: cannot {overlay}: Too many levels of symbolic links: '/o'")
    assert "/proc/self/fd" not in str(failure)


def test_an_overlay_on_a_file_is_an_error_with_its_path(sandbox: Sandbox) -> None:
    overlay = Overlay("/file", lower=layers(sandbox, "lower"), ephemeral=True)
    failure = sandbox.refusal([Place("/file", data=b""), overlay], base=False)
    assert str(failure) == f"op 1: cannot {overlay}: Not a directory: '/file'"


@pytest.mark.parametrize(
    ("fields", "reason"),
    [
        ({"target": "o"}, "target 'o' is not absolute"),
        ({"lower": []}, "a read-only overlay needs at least 2 lower directories"),
        ({"lower": ["/a"]}, "a read-only overlay needs at least 2 lower directories"),
        ({"lower": [], "ephemeral": True}, "an overlay needs at least 1 lower directory"),
        ({"lower": [], "upper": "/u", "work": "/w"}, "an overlay needs at least 1 lower directory"),
        ({"upper": "/u"}, "an overlay's upper and work directories go together"),
        ({"work": "/w"}, "an overlay's upper and work directories go together"),
        ({"upper": "/u", "work": "/w", "ephemeral": True}, "an ephemeral overlay has no upper directory"),
        ({"lower": ["/a"] * 129}, "129 lower directories are more than the 128 an overlay may have"),
        ({"lower": ["/a", "b"]}, "overlay directory 'b' is not absolute"),
        ({"upper": "u", "work": "/w"}, "overlay directory 'u' is not absolute"),
        ({"upper": "/u", "work": "/w\0"}, "overlay directory '/w\\x00' contains a NUL byte"),
    ],
)
def test_what_no_overlay_can_be_is_refused(fields: dict[str, object], reason: str) -> None:
    with pytest.raises(ValueError, match=f"^{re.escape(reason)}$"):
        Overlay(**{"target": "/o", "lower": ["/a", "/b"], **fields})  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("op", "sentence"),
    [
        (Overlay("/o", lower=["/a", "/b"]), "overlay /a over /b on /o (read-only)"),
        (Overlay("/o", lower=["/a"], ephemeral=True), "overlay /a on /o (changes in memory)"),
        (Overlay("/o", lower=["/a"], upper="/u", work="/w"), "overlay /a on /o (changes to /u)"),
    ],
)
def test_an_overlay_says_what_it_does(op: Overlay, sentence: str) -> None:
    assert str(op) == sentence
