"""The parser of both programs: argparse that names the word a mistyped one was meant to be.

What is not known is refused by the command it was given to, with exit code 2 as
argparse has it, and told before what is missing: a mistyped required option is both.
"""

import argparse
import sys
from collections.abc import Iterator, Sequence
from itertools import takewhile
from typing import Any, NoReturn

from edgewright.core.records import nearest


class Parser(argparse.ArgumentParser):
    """A command line; its commands and verbs are parsers of this kind too."""

    _given: Sequence[str] = ()

    def parse_known_args(  # type: ignore[override]  # argparse overloads it by the namespace's type
        self, args: Sequence[str] | None = None, namespace: Any = None
    ) -> tuple[argparse.Namespace, list[str]]:
        """Return what was given; nothing unknown is left over, but refused."""
        self._given = sys.argv[1:] if args is None else args
        found, unknown = super().parse_known_args(self._given, namespace)
        if unknown:
            self.error(f"unrecognized arguments: {' '.join(unknown)}")
        return found, unknown

    def error(self, message: str) -> NoReturn:
        """Print usage, ``message`` and what mistyped options were meant to be; exit with 2."""
        known = [*self._option_string_actions]
        hints = [f"{name}: {nearest(name, known)}" for name in self._mistyped(known)]
        super().error("\n  hint: ".join([message, *hints]))

    def _check_value(self, action: argparse.Action, value: Any) -> None:
        if action.choices is not None and value not in action.choices:
            hint = nearest(str(value), [str(one) for one in action.choices])
            raise argparse.ArgumentError(action, f"invalid choice: {value!r}\n  hint: {hint}")

    def _mistyped(self, known: Sequence[str]) -> Iterator[str]:
        """Yield the options that were given to this parser and are none of its own."""
        words = takewhile(lambda word: word != "--", self._given)
        if self._subparsers is not None:  # what follows the verb is the verb's
            words = takewhile(lambda word: word.startswith("-"), words)
        for word in words:
            name = word.partition("=")[0]
            if not name.startswith("-") or self._negative_number_matcher.match(name):
                continue
            if name != "-" and not any(one.startswith(name) for one in known):
                attached = not name.startswith("--") and name[:2] in known
                if not attached:
                    yield name
