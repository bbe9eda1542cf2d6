"""What is mounted on one side stays there, whatever the host's mounts do with each other (mount_namespaces(7))."""

from __future__ import annotations

import pytest

from tests.harness import Sandbox

SCRIPT = """
mount --make-r{kind} /
cd {directory}
mkdir -p source/sub out
mkfifo go
chmod 777 out
cat /proc/self/mountinfo > before
$IGAKI run --ro-bind / / --proc /proc --dev /dev --tmpfs /tmp --dir /tmp/source --dir /tmp/out \
    --bind {directory}/source /tmp/source --bind {directory}/out /tmp/out -- sh -c '
        touch /tmp/out/ready
        read line
        ls -A /tmp/source/sub
        grep -c -E "shared:|master:" /proc/self/mountinfo || true' < go > seen &
exec 9> go
while ! test -e out/ready; do :; done
mount -t tmpfs tmpfs source/sub
touch source/sub/later
echo >&9
wait $!
umount source/sub
cat /proc/self/mountinfo > after
cmp before after
cat seen
"""


@pytest.mark.parametrize("kind", ["shared", "private", "slave"])
def test_no_mount_travels_in_or_out(sandbox: Sandbox, kind: str) -> None:
    """A later mount of the host's would be writable below a read-only bind; one of ours would stay on the host."""
    directory = sandbox.directory("here", 0o777)
    done = sandbox.in_outer_namespace(SCRIPT.format(kind=kind, directory=directory))
    assert (done.returncode, done.stdout, done.stderr) == (0, "0\n", "")
