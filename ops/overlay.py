"""Overlay: directories of the host, merged."""

from __future__ import annotations

from msgspec.structs import replace

from igaki.ops.base import Op, Source, check_source

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Self

    from igaki.ops.phases import HostRoot, NewRoot

LOWER_MAX = 128
"""Most lower directories: their names must fit the one page of options that mount(2) takes."""


class Overlay(Op, frozen=True, kw_only=True):
    """Mount the merged `lower` directories on `target`: read-only, or with changes going to `upper`, or into memory."""

    lower: list[str]
    """Absolute paths on the host, topmost first."""

    upper: str = ""
    """Where changes are kept on the host; goes with `work`, an empty directory on the same file system."""

    work: str = ""
    ephemeral: bool = False
    """Keep changes in memory until the container ends."""

    found: list[Source] = []
    """`lower`, then `upper` and `work` where given; filled in by `early`."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if bool(self.upper) != bool(self.work):
            raise ValueError("an overlay's upper and work directories go together")
        if self.upper and self.ephemeral:
            raise ValueError("an ephemeral overlay has no upper directory")
        least = 1 if self.upper or self.ephemeral else 2
        if len(self.lower) < least:
            kind = "an overlay" if least == 1 else "a read-only overlay"
            raise ValueError(f"{kind} needs at least {least} lower director{'y' if least == 1 else 'ies'}")
        if len(self.lower) > LOWER_MAX:
            raise ValueError(f"{len(self.lower)} lower directories are more than the {LOWER_MAX} an overlay may have")
        for path in self._paths():
            check_source("overlay directory", path)

    def __str__(self) -> str:
        layers = " over ".join(self.lower)
        if self.upper:
            return f"overlay {layers} on {self.target} (changes to {self.upper})"
        return f"overlay {layers} on {self.target} ({'changes in memory' if self.ephemeral else 'read-only'})"

    def early(self, root: HostRoot) -> Self | None:
        return replace(self, found=[root.find(path) for path in self._paths()])

    def apply(self, root: NewRoot) -> None:
        lower = self.found[: len(self.lower)]
        if self.ephemeral:
            root.scratch(self.target, lower)
        elif self.upper:
            root.overlay(self.target, lower, *self.found[-2:])
        else:
            root.overlay(self.target, lower, None, None)

    def _paths(self) -> list[str]:
        return [*self.lower, self.upper, self.work] if self.upper else self.lower
