"""What commands print: one JSON document, or a few lines and a table for people."""

import argparse
import json
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any


def emit(args: argparse.Namespace, document: Any, text: str) -> None:
    """Print ``document`` as JSON when ``--json`` was given, else ``text``."""
    if args.json:
        print(json.dumps(document, indent=2, sort_keys=True, default=str))
    else:
        print(text)


def table(head: Sequence[str], rows: Sequence[Sequence[object]]) -> str:
    """Return rows as aligned columns; numbers to the right, everything else to the left."""
    cells = [[str(cell) for cell in row] for row in rows]
    widths = [max(map(len, column)) for column in zip(head, *cells, strict=True)]
    right = [
        bool(rows) and all(isinstance(row[i], int | float) for row in rows)
        for i in range(len(head))
    ]
    lines = []
    for row in (list(head), *cells):
        padded = [
            cell.rjust(width) if to_right else cell.ljust(width)
            for cell, width, to_right in zip(row, widths, right, strict=True)
        ]
        lines.append("  ".join(padded).rstrip())
    return "\n".join(lines)


@contextmanager
def status(args: argparse.Namespace, what: str) -> Iterator[None]:
    """Show that something is going on, on a terminal that is watched; else say nothing."""
    if args.json or not sys.stderr.isatty():
        yield
        return
    from rich.console import Console

    with Console(stderr=True).status(what):
        yield
