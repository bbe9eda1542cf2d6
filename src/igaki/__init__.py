"""igaki: a Linux container described as a list of typed ops that one can read before it runs.

    import igaki

    plan = igaki.Plan(
        igaki.Setup(argv=["sh", "-c", "id; ls /"]),
        [igaki.Bind("/usr", source="/usr"), igaki.Symlink("/bin", to="usr/bin"), igaki.Proc("/proc")],
    )
    completed = await igaki.run(plan, capture_stdout=True)

Names are loaded when they are first used: init imports ``igaki.init`` and must not pay for, or hold, the host's half.
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from igaki.host import (
        DEVNULL,
        PIPE,
        Container,
        open_container,
        run,
    )
    from igaki.ops import (
        AnyOp,
        Bind,
        Chmod,
        Dev,
        Etc,
        Failure,
        Mkdir,
        Namespaces,
        Octets,
        Origin,
        Overlay,
        Place,
        Plan,
        Proc,
        ProtocolError,
        Redacted,
        Remount,
        Root,
        Setup,
        SetupError,
        Symlink,
        Tmpfs,
    )

__version__ = "0.1.0"

__all__ = [
    "DEVNULL",
    "PIPE",
    "AnyOp",
    "Bind",
    "Chmod",
    "Container",
    "Dev",
    "Etc",
    "Failure",
    "Mkdir",
    "Namespaces",
    "Octets",
    "Origin",
    "Overlay",
    "Place",
    "Plan",
    "Proc",
    "ProtocolError",
    "Redacted",
    "Remount",
    "Root",
    "Setup",
    "SetupError",
    "Symlink",
    "Tmpfs",
    "__version__",
    "open_container",
    "run",
]


def __getattr__(name: str) -> object:
    if name not in __all__:
        raise AttributeError(f"module 'igaki' has no attribute {name!r}")
    from igaki import ops

    if hasattr(ops, name):
        return getattr(ops, name)
    from igaki import host

    return getattr(host, name)


def __dir__() -> list[str]:
    return __all__
