"""Keys of the kernel's that the caller holds: no namespace keeps them away."""

from __future__ import annotations

from tests.harness import IGAKI, PYTHON_INSIDE, Sandbox

SCRIPT = """
import ctypes, os, subprocess, sys
libc = ctypes.CDLL(None, use_errno=True)
libc.syscall.restype = ctypes.c_long
add_key, keyctl = (248, 250) if os.uname().machine == "x86_64" else (217, 219)
JOIN, READ, SEARCH = 1, 11, 10
SESSION = -3

def add(name, value):
    return libc.syscall(add_key, b"user", name, value, len(value), SESSION)

def read(name):
    key = libc.syscall(keyctl, SEARCH, SESSION, b"user", name, 0)
    if key < 0:
        return None
    buffer = ctypes.create_string_buffer(64)
    size = libc.syscall(keyctl, READ, key, buffer, 64)
    return buffer.raw[:size]

if sys.argv[1] == "outside":
    assert libc.syscall(keyctl, JOIN, None) > 0
    assert add(b"igaki-test-mine", b"secret") > 0
    inside = [sys.argv[2], "run", "--", sys.executable, "-I", "-c", sys.argv[3], "inside"]
    print(subprocess.run(inside, capture_output=True, text=True, check=True).stdout.strip())
    print(read(b"igaki-test-mine"), read(b"igaki-test-planted"))
else:
    print(read(b"igaki-test-mine"), add(b"igaki-test-planted", b"left") > 0)
"""


def test_the_callers_session_keyring_stays_outside(sandbox: Sandbox) -> None:
    done = sandbox.command(PYTHON_INSIDE, "-I", "-c", SCRIPT, "outside", str(IGAKI), SCRIPT)
    assert (done.stdout, done.stderr) == ("None True\nb'secret' None\n", "")
