"""What every message and every op is: a frozen, strictly decoded struct, checked once, when it is made."""

from __future__ import annotations

from msgspec import Struct

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Self

    from igaki.ops.phases import HostRoot, NewRoot

PATH_MAX = 4095
"""Longest path in bytes, without the final NUL (PATH_MAX in limits.h counts it)."""

SIZE_MAX = 2**63 - 1
"""Largest size in bytes that a file system can be given."""


class Message(
    Struct,
    frozen=True,
    forbid_unknown_fields=True,
    omit_defaults=True,
    tag_field="is",
    tag=str.lower,
):
    """Whatever crosses a pipe. Unknown fields are refused: an init that ignored a restriction would be a hole."""


class Origin(Message, frozen=True):
    """Where an op came from: an option, a line of a profile, or the code that generated it."""

    by: str
    file: str = ""
    line: int = 0

    def __str__(self) -> str:
        return f"{self.file}:{self.line}: {self.by}" if self.file else self.by


class Redacted(Message, frozen=True):
    """Stands for a secret in a recorded stream: its length in bytes and its SHA-256, in hexadecimal digits."""

    length: int
    digest: str


class Octets(Message, frozen=True):
    """An argument or a value that is not UTF-8, which a plain `str` on the wire can't be."""

    data: bytes

    @staticmethod
    def if_needed(value: str | bytes) -> str | Octets:
        """`value` as the stream takes it; a str may hold undecodable bytes the way `os.fsdecode` leaves them."""
        data = value.encode("utf-8", "surrogateescape") if isinstance(value, str) else value
        try:
            return data.decode()
        except UnicodeDecodeError:
            return Octets(data)


class Source(Message, frozen=True):
    """A path of the host as `early` found it: resolved, with the identity that `apply` holds it to."""

    path: str
    device: int
    inode: int
    kind: str
    """One of "directory", "file", "symlink", "socket", "fifo", "block device", "character device"."""

    @property
    def is_directory(self) -> bool:
        return self.kind == "directory"


class Traced(Message, frozen=True, kw_only=True):
    """What an op has besides its meaning."""

    origin: Origin | None = None


class Op(Traced, frozen=True):
    """One step of building the container's file system, applied in two phases.

    `early` runs in the host's root and changes no mount; it answers what only the host can answer.
    `apply` runs in the intermediate root and changes the container's tree.
    """

    target: str
    """Absolute, normalised path in the container; of all the fields the one that is given by position."""

    def __post_init__(self) -> None:
        check_path("target", self.target)

    def early(self, root: HostRoot) -> Self | None:  # noqa: ARG002  there is nothing to ask for most ops
        """The op with what only the host root can answer filled in, or None to leave it out."""
        return self

    def apply(self, root: NewRoot) -> None:
        """Change the container's tree."""
        raise NotImplementedError


def check_path(what: str, path: str) -> None:
    """Accept an absolute path in UTF-8 with nothing to normalise.

    Raises ValueError. `..` is refused because it can't be removed without knowing the symlinks before it.
    """
    check_source(what, path)
    if not is_normal(path):
        raise ValueError(f"{what} {path!r} is not normalised: it has an empty, '.' or '..' component")


def is_normal(path: str) -> bool:
    """Whether an absolute path has no empty, '.' or '..' component."""
    if "//" in path or (path[-1] == "/" and path != "/"):
        return False
    return "/." not in path or ("/./" not in f"{path}/" and "/../" not in f"{path}/")


def is_below(path: str, directory: str) -> bool:
    """Whether an absolute `path` is `directory` or something below it, by components."""
    return f"{path}/".startswith(f"{directory.rstrip('/')}/")


def check_source(what: str, path: str) -> None:
    """Accept an absolute path of the host in UTF-8. Raises ValueError."""
    if not path.startswith("/"):
        raise ValueError(f"{what} {path!r} is not absolute")
    check_text(what, path)
    if len(path) > PATH_MAX or len(path.encode()) > PATH_MAX:
        raise ValueError(f"{what} {path[:40]!r}… is longer than {PATH_MAX} bytes")


def check_text(what: str, text: str) -> None:
    """Accept text that a C string and UTF-8 can hold. Raises ValueError."""
    if "\0" in text:
        raise ValueError(f"{what} {text!r} contains a NUL byte")
    if not text.isascii():
        try:
            text.encode()
        except UnicodeEncodeError:
            raise ValueError(f"{what} {text!r} is not valid UTF-8, which a stream of ops requires") from None


def check_mode(mode: int) -> None:
    """Accept permission bits. Raises ValueError."""
    if not 0 <= mode <= 0o7777:
        raise ValueError(f"mode {mode:#o} is outside 0-07777")


def parent_mode(mode: int) -> int:
    """The mode of directories made on the way to something of `mode`: 0755, less what `mode` grants nothing of."""
    parent = 0o755
    if not mode & 0o070:
        parent &= ~0o050
    if not mode & 0o007:
        parent &= ~0o005
    return parent
