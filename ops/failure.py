"""Why a container could not be set up: the message that crosses the pipe and the exceptions raised on the host.

SetupError      the kernel or the file system said no
ProtocolError   the bytes are no plan, or host and init disagree
ValueError      the caller built a wrong plan
"""

from __future__ import annotations

from igaki.ops.base import Message

EXIT_SETUP = 125
EXIT_NOT_EXECUTABLE = 126
EXIT_NOT_FOUND = 127


class Failure(Message, frozen=True, kw_only=True):
    """What init could not do. `str()` of it is the one line that a user reads."""

    step: str
    """What was attempted, as the rest of a sentence that starts with "cannot"."""

    reason: str
    index: int | None = None
    """The op concerned, counted from 0 in the plan."""

    phase: str = ""
    """"early" or "apply", when an op is concerned."""

    errno: int = 0
    path: str = ""
    path2: str = ""
    hint: str = ""
    exit_code: int = EXIT_SETUP
    """What `igaki run` exits with."""

    def __str__(self) -> str:
        place = "" if self.index is None else f"op {self.index}: "
        paths = " -> ".join(repr(path) for path in (self.path, self.path2) if path)
        line = f"{place}cannot {self.step}: {self.reason}" + (f": {paths}" if paths else "")
        return f"{line} ({self.hint})" if self.hint else line


class SetupError(Exception):
    """A container could not be set up, or ended before it could say how its program ended."""

    def __init__(self, failure: Failure) -> None:
        super().__init__(failure)
        self.failure = failure


class ProtocolError(Exception):
    """Bytes that are not what this version of igaki writes."""
