"""``edgewright``: one verb for each step of a model's road, one noun for each kept thing.

Each command is a sibling module with ``NAME``, ``HELP``, ``add_parser`` and
``run``; what is heavy is imported inside ``run``, so that help is instant.
"""

import argparse
import json
import os
import signal
import sys
from collections.abc import Sequence
from importlib import import_module
from types import ModuleType
from typing import NoReturn, cast

from edgewright import __version__
from edgewright.core.commandline import Parser
from edgewright.core.errors import EdgewrightError

# In the order of a model's road, which is the order of the help.
COMMANDS = (
    "devices",
    "importing",
    "optimize",
    "bench",
    "report",
    "explain",
    "compare",
    "pack",
    "verify",
    "keys",
    "publish",
    "deploy",
    "serve",
    "rollout",
    "fleet",
    "doctor",
)

EXIT_CODES = (
    "exit codes: 0 done, 1 failed, 2 usage, 3 contract not met, "
    "4 inconclusive, 130 interrupted"
)
_INTERRUPTED, _UNREAD = 130, 141


def command(name: str) -> ModuleType:
    """Import the module of one command."""
    return import_module(f"edgewright.cli.{name}")


def parser() -> argparse.ArgumentParser:
    """Return the parser of the whole command line."""
    top = Parser(
        prog="edgewright",
        description="Take a trained model to edge devices and keep it working there.",
        epilog=EXIT_CODES,
    )
    top.add_argument("--version", action="version", version=f"edgewright {__version__}")
    commands = top.add_subparsers(dest="command", metavar="COMMAND", required=True)
    for name in COMMANDS:
        module = command(name)
        one = commands.add_parser(
            module.NAME, help=module.HELP, description=module.HELP, epilog=EXIT_CODES
        )
        module.add_parser(one)
        add_json(one)
        one.set_defaults(module=name)
    return top


def add_json(parser: argparse.ArgumentParser) -> None:
    """Add ``--json`` to a command and to every verb below it."""
    verbs = [a for a in parser._actions if isinstance(a, argparse._SubParsersAction)]  # noqa: SLF001  argparse offers no other way to walk its verbs
    for action in verbs:
        for verb in {id(p): p for p in action.choices.values()}.values():
            add_json(verb)
    if not verbs:
        parser.add_argument("--json", action="store_true", help="print one JSON document")


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command; return its exit code."""
    signal.signal(signal.SIGTERM, _interrupt)
    args = parser().parse_args(argv)
    try:
        return cast("int", command(args.module).run(args))
    except EdgewrightError as error:
        _say(error, as_json=bool(getattr(args, "json", False)))
        return error.exit_code
    except KeyboardInterrupt:
        sys.stderr.write("interrupted\n")
        return _INTERRUPTED
    except BrokenPipeError:
        # Whoever read has seen enough, like head; what Python would still flush goes nowhere.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return _UNREAD


def _say(error: EdgewrightError, *, as_json: bool) -> None:
    if as_json:
        body = {"code": error.code, "message": str(error), "hint": error.hint}
        print(json.dumps({"error": body}))
        return
    sys.stderr.write(f"edgewright: {error}\n")
    if error.hint:
        sys.stderr.write(f"  hint: {error.hint}\n")


def _interrupt(_signal: int, _frame: object) -> NoReturn:
    raise KeyboardInterrupt


if __name__ == "__main__":
    sys.exit(main())
