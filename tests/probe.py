"""The program that looks around inside a container. Prints one JSON object; needs nothing but an interpreter.

probe.py [PATH…]    each PATH is described under "paths"
"""

import errno
import json
import os
import stat
import sys

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable


def main() -> None:
    umask = os.umask(0)
    os.umask(umask)
    report = {
        "argv": sys.argv,
        "cwd": os.getcwd(),
        "env": dict(os.environ),
        "fds": descriptors(),
        "gids": [*os.getresgid()],
        "groups": os.getgroups(),
        "hostname": os.uname().nodename,
        "interfaces": interfaces(),
        "mounts": mounts(),
        "namespaces": {name: os.readlink(f"/proc/self/ns/{name}") for name in os.listdir("/proc/self/ns")},
        "paths": {path: describe(path) for path in sys.argv[1:]},
        "pid": os.getpid(),
        "pids": [int(name) for name in os.listdir("/proc") if name.isdigit()],
        "status": status(),
        "uids": [*os.getresuid()],
        "umask": umask,
    }
    json.dump(report, sys.stdout)


def descriptors() -> dict[str, str]:
    result: dict[str, str] = {}
    for name in os.listdir("/proc/self/fd"):
        try:
            result[name] = os.readlink(f"/proc/self/fd/{name}")
        except FileNotFoundError:  # the descriptor of the listing itself
            pass
    return result


def describe(path: str) -> dict[str, object]:
    """What `path` is and what can be done to it, tried rather than asked."""
    try:
        info = os.lstat(path)
    except OSError as error:
        return {"exists": False, "error": name_of(error)}
    result: dict[str, object] = {
        "exists": True,
        "kind": stat.filemode(info.st_mode)[0],
        "mode": stat.S_IMODE(info.st_mode),
        "uid": info.st_uid,
        "gid": info.st_gid,
        "nlink": info.st_nlink,
        "dev": info.st_dev,
        "ino": info.st_ino,
    }
    if stat.S_ISLNK(info.st_mode):
        result["link"] = os.readlink(path)
    if stat.S_ISCHR(info.st_mode) or stat.S_ISBLK(info.st_mode):
        result["rdev"] = [os.major(info.st_rdev), os.minor(info.st_rdev)]
    if stat.S_ISDIR(info.st_mode):
        result["names"] = attempt(lambda: sorted(os.listdir(path)))
        result["create"] = attempt(lambda: create_in(path))
    elif stat.S_ISREG(info.st_mode):
        result["content"] = attempt(lambda: content(path))
        result["write"] = attempt(lambda: os.close(os.open(path, os.O_WRONLY)))
    elif stat.S_ISCHR(info.st_mode):
        result["write"] = attempt(lambda: os.close(os.open(path, os.O_WRONLY | os.O_NOCTTY | os.O_NONBLOCK)))
    return result


def create_in(directory: str) -> None:
    path = f"{directory}/.probe"
    os.close(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL))
    os.unlink(path)


def content(path: str) -> str:
    with open(path, errors="replace") as file:
        return file.read(4096)


def attempt(what: "Callable[[], object]") -> object:
    """The result of `what`, True for none, or the name of the error."""
    try:
        result = what()
    except OSError as error:
        return name_of(error)
    return True if result is None else result


def name_of(error: OSError) -> str:
    return errno.errorcode.get(error.errno or 0, str(error))


def mounts() -> list[dict[str, object]]:
    result: list[dict[str, object]] = []
    with open("/proc/self/mountinfo") as file:
        for line in file:
            before, _, after = line.partition(" - ")
            fields = before.split(" ")
            kind, source, options = after.rstrip("\n").split(" ", 2)
            result.append(
                {
                    "root": fields[3],
                    "point": fields[4].encode().decode("unicode_escape").encode("latin-1").decode(),
                    "flags": fields[5].split(","),
                    "optional": fields[6:],
                    "kind": kind,
                    "source": source,
                    "options": options.split(","),
                }
            )
    return result


def interfaces() -> dict[str, int]:
    """Flags of the network interfaces: 1 is up, 8 is loopback."""
    import fcntl
    import socket

    result: dict[str, int] = {}
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as control:
        for _, name in socket.if_nameindex():
            answer = fcntl.ioctl(control, 0x8913, name.encode().ljust(40, b"\0"))
            result[name] = int.from_bytes(answer[16:18], "little")
    return result


def status() -> dict[str, str]:
    with open("/proc/self/status") as file:
        return dict(line.rstrip("\n").split(":\t", 1) for line in file)


if __name__ == "__main__":
    main()
