"""Place: a file whose content comes with the stream."""

from __future__ import annotations

from igaki.ops.base import Op, Redacted, check_mode

TYPE_CHECKING = False
if TYPE_CHECKING:
    from igaki.ops.phases import NewRoot

PLACE_MAX = 16 * 1024 * 1024
"""Most bytes that one Place may hold."""


class Place(Op, frozen=True, kw_only=True):
    """Put `data` at `target`: as a file mounted there, read-only unless `writable`, or copied into the tree.

    A mounted file is in memory and ends with the container.
    """

    data: bytes | Redacted
    mode: int = 0o600
    writable: bool = False
    copy: bool = False
    """Create the file in the tree itself, which must be writable there and must not hold `target` yet."""

    def __post_init__(self) -> None:
        super().__post_init__()
        check_mode(self.mode)
        if self.copy and self.target == "/":
            raise ValueError("the target of a copied file can't be /")
        if isinstance(self.data, bytes) and len(self.data) > PLACE_MAX:
            raise ValueError(f"{len(self.data)} bytes for {self.target} are more than the {PLACE_MAX} a Place may hold")
        if self.copy and self.writable:
            raise ValueError("a copied file is writable where its tree is; `writable` is for a mounted one")

    def __str__(self) -> str:
        size = self.data.length if isinstance(self.data, Redacted) else len(self.data)
        how = "copy" if self.copy else "place"
        return f"{how} {size} bytes at {self.target} (mode {self.mode:04o}{', writable' if self.writable else ''})"

    def apply(self, root: NewRoot) -> None:
        if isinstance(self.data, Redacted):
            raise ValueError("the content was left out of the recording")  # noqa: TRY004  the plan is wrong, not the code
        if self.copy:
            root.write(self.target, self.data, self.mode)
        else:
            root.place(self.target, self.data, self.mode, writable=self.writable)
