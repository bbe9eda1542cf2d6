"""Bind on the real kernel."""

from igaki.ops import Bind

from tests.harness import Sandbox, mount_at


def test_a_bind_is_read_only_nosuid_and_nodev_by_default(sandbox: Sandbox) -> None:
    source = sandbox.directory("source")
    sandbox.file(source / "file", "content")
    report = sandbox.probe([Bind("/data", source=str(source))], "/data", "/data/file")
    assert {"ro", "nosuid", "nodev"} <= set(mount_at(report, "/data")["flags"])
    assert report["paths"]["/data"]["create"] == "EROFS"
    assert report["paths"]["/data/file"]["content"] == "content"
    assert report["paths"]["/data/file"]["write"] == "EROFS"
