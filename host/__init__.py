"""The process outside: starts init, serves it the plan, learns how the program ended.

The names of the library are loaded when they are used; `igaki run` gets by without trio.
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from igaki.host.container import DEVNULL, PIPE, Container, open_container, run

__all__ = ["DEVNULL", "PIPE", "Container", "open_container", "run"]


def __getattr__(name: str) -> object:
    if name not in __all__:
        raise AttributeError(f"module 'igaki.host' has no attribute {name!r}")
    from igaki.host import container

    return getattr(container, name)
