"""The parser of `igaki run`'s command line.

No argparse: it costs more time than the container, and can't keep options of different names in the order given.
"""

from __future__ import annotations

import os

from igaki.host.request import Request, UsageError
from igaki.host.verbs import GROUPS, OPTIONS, read_descriptor
from igaki.ops import Origin

TYPE_CHECKING = False
if TYPE_CHECKING:
    from igaki.host.verbs import Option

__all__ = ["GROUPS", "OPTIONS", "Request", "UsageError", "parse"]

ARGS_MAX = 16 * 1024 * 1024
"""Most bytes that --args reads."""


class HelpWanted(Exception):
    """The command line asks for help."""


def parse(arguments: list[str]) -> Request:
    """Read the command line after `igaki run`. Raises UsageError and HelpWanted."""
    request = Request()
    rest = arguments[::-1]
    while rest and rest[-1].startswith("-"):
        word = rest.pop()
        if word == "--":
            break
        if word in ("--help", "-h"):
            raise HelpWanted
        name, option, operands = _take_operands(word, rest)
        if name == "--args":
            rest += _read_arguments(operands[0])[::-1]
        else:
            _act(request, name, option, operands)
    request.argv = rest[::-1]
    if not request.argv or not request.argv[0]:
        raise UsageError("no command to run")
    return request


def _take_operands(word: str, rest: list[str]) -> tuple[str, Option, list[str]]:
    """The option that `word` names, and its operands, taken from the end of `rest`. Raises UsageError."""
    name, equals, value = word.partition("=")
    option = OPTIONS.get(name)
    if option is None:
        raise UsageError(f"unknown option {name}{_similar(name)}")
    if equals:
        if len(option.operands) != 1:
            raise UsageError(f"{name} takes {_operands(option) or 'no value'}, not one after '='")
        rest.append(value)
    elif option.operands == ["[SRC]"] and not (rest and os.path.isdir(rest[-1]) and rest[-1].startswith("/")):
        rest.append("")  # left out: what follows is no directory, so it is the next option or the command
    if len(rest) < len(option.operands):
        raise UsageError(f"{name} needs {_operands(option)}")
    return name, option, [rest.pop() for _ in option.operands]


def _act(request: Request, name: str, option: Option, operands: list[str]) -> None:
    before = len(request.ops)
    request.origin = Origin(name)
    try:
        option.act(request, *operands)
    except (ValueError, OSError) as error:
        reason = error.strerror if isinstance(error, OSError) else error
        raise UsageError(f"{' '.join([name, *operands])}: {reason}") from error
    if len(request.ops) > before:
        request.nothing_pending(name)


def _operands(option: Option) -> str:
    return " ".join(option.operands)


def _similar(name: str) -> str:
    import difflib

    names = difflib.get_close_matches(name, OPTIONS, 1)
    return f"; did you mean {names[0]}?" if names else ""


def _read_arguments(descriptor: str) -> list[str]:
    try:
        data = read_descriptor(descriptor, ARGS_MAX)
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else error
        raise UsageError(f"--args {descriptor}: {reason}") from error
    return [os.fsdecode(argument) for argument in data.removesuffix(b"\0").split(b"\0")] if data else []
