"""The text of `igaki --help`, from the table of options."""

from __future__ import annotations

from igaki.host.options import GROUPS

HEAD = """\
usage: igaki run [OPTION…] [--] COMMAND [ARGUMENT…]
       igaki --help | --version

Run COMMAND in a container of its own. Without an option about files it sees the
host read-only, an empty home, its own /proc, /dev, /tmp and /run, the working
directory read-only, and no network. With one it sees what the options say, in
the order in which they stand, and nothing else.
"""

TAIL = """
Exit status: the command's, or 128 + the signal that killed it; 125 when the
container can't be set up, 126 or 127 when the command can't be executed or is
not found, 2 for wrong usage. More: man igaki
"""


def text() -> str:
    """The whole help, for a terminal 80 columns wide."""
    lines = [HEAD]
    for title, options in GROUPS.items():
        lines.append(f"{title}:")
        for name, option in options.items():
            usage = " ".join([name, *option.operands])
            lines.append(f"  {usage:<27} {option.help}".rstrip())
        lines.append("")
    return "\n".join(lines).rstrip("\n") + "\n" + TAIL
