"""The `igaki` command."""

from __future__ import annotations

import posix
import sys
from errno import EBADF, EPIPE

from igaki.host.launch import start_init
from igaki.signals import end_quietly

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import NoReturn

    from igaki.host.launch import Init
    from igaki.host.options import Request
    from igaki.ops import Plan

EXIT_USAGE = 2
EXIT_SETUP = 125


def main() -> NoReturn:
    """Run the command line of this process, and end it."""
    end_quietly()
    match sys.argv[1:]:
        case ["run", *arguments]:
            code = run(arguments)
        case ["--version"]:
            from igaki import __version__

            code = _print(f"igaki {__version__}\n")
        case ["--help" | "-h" | "help"]:
            code = _print(_help())
        case [word, *_]:
            code = _usage(f"unknown command {word}")
        case _:
            code = _usage("what should it do?")
    # Without the interpreter's farewell: the container and its exit code are all that anybody waits for.
    posix._exit(code)


def run(arguments: list[str]) -> int:
    """`igaki run`. Returns the exit code."""
    _open_missing_stdio()
    init = None
    # Before anything else, so that init's interpreter starts while ours goes on.
    if "--dry-run" not in arguments and (init := _start()) is None:
        return EXIT_SETUP
    from igaki.lite import load_msgspec

    load_msgspec()
    from igaki.host.options import HelpWanted, UsageError, parse

    try:
        request = parse(arguments)
        plan = request.plan()
    except HelpWanted:
        return _print(_help())
    except (UsageError, ValueError) as error:
        return _usage(str(error))
    for warning in request.warnings:
        _complain(f"warning: {warning}", 0)
    if request.dry_run:
        from igaki.host.dry_run import describe

        return _print(describe(plan))
    if init is None:  # an argument of the command is called --dry-run too
        _open_missing_stdio()  # an option may have read and closed one
        init = _start()
    return EXIT_SETUP if init is None else _run(request, plan, init)


def _start() -> Init | None:
    """Start init; None, and a word about it, when it can't be."""
    try:
        return start_init((0, 1, 2))
    except OSError as error:
        place = f": {error.filename!r}" if error.filename else ""
        _complain(f"cannot start init: {error.strerror}{place}", EXIT_SETUP)
        return None


def _run(request: Request, plan: Plan, init: Init) -> int:
    from igaki.host.foreground import Foreground, Interrupted
    from igaki.ops import ProtocolError, SetupError, encode_plan

    try:
        stream = encode_plan(plan)
    except ValueError as error:
        return _usage(str(error))
    if request.record is not None:
        from igaki.host.record import record

        try:
            record(plan, request.record, secrets=request.record_secrets)
        except OSError as error:
            return _complain(f"cannot record to {request.record}: {error.strerror}", EXIT_SETUP)
    foreground = Foreground(init, plan, stream)
    try:
        code = foreground.run()
    except SetupError as error:
        code = _complain(str(error), error.failure.exit_code)
    except ProtocolError as error:
        code = _complain(f"init and host disagree: {error}", EXIT_SETUP)
    except Interrupted as interrupted:
        code = 128 + interrupted.number
    for warning in foreground.warnings:
        _complain(f"warning: {warning}", 0)
    return code


def _open_missing_stdio() -> None:
    """Have something at descriptors 0 to 2, or other files would get these numbers and become the program's."""
    for fd in range(3):
        try:
            posix.fstat(fd)
        except OSError:
            posix.open("/dev/null", posix.O_RDWR)  # the lowest free number: this one


def _print(text: str) -> int:
    """Write to standard output, if there is one."""
    data = text.encode("utf-8", "backslashreplace")
    try:
        while data:
            data = data[posix.write(1, data) :]
    except OSError as error:
        if error.errno not in (EBADF, EPIPE):
            return _complain(f"cannot write: {error.strerror}", 1)
    return 0


def _complain(text: str, code: int) -> int:
    """One line on standard error, whatever the text contains."""
    from igaki.host.printable import printable

    try:
        posix.write(2, f"igaki: {printable(text)}\n".encode("utf-8", "backslashreplace"))
    except OSError:
        pass  # nobody is listening, and the exit code still says it
    return code


def _usage(text: str) -> int:
    return _complain(f"{text} (see igaki --help)", EXIT_USAGE)


def _help() -> str:
    from igaki.host.help import text

    return text()
