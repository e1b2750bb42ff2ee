"""How long the code is: lines per module, the ten longest functions, and the limits.

Fails when a module of ``src`` has more than 500 lines or a function more than 50, its
docstring counted: what is longer is two things under one name.
"""

import argparse
import ast
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
MODULE_LINES = 500
FUNCTION_LINES = 50
_LONGEST = 10


@dataclass(frozen=True, slots=True, order=True)
class Piece:
    """A module or a function and how many lines it has."""

    lines: int
    name: str


def modules(source: Path) -> list[Piece]:
    """Return every module below ``source``, longest first."""
    found = [
        Piece(len(path.read_text().splitlines()), str(path.relative_to(source)))
        for path in source.rglob("*.py")
    ]
    return sorted(found, key=lambda piece: (-piece.lines, piece.name))


def functions(source: Path) -> list[Piece]:
    """Return every function below ``source``, nested ones and methods too, longest first."""
    found = [piece for path in source.rglob("*.py") for piece in _functions_of(path, source)]
    return sorted(found, key=lambda piece: (-piece.lines, piece.name))


def too_long(source: Path) -> list[str]:
    """Return one sentence for each module and function over its limit."""
    return [
        f"{piece.name} has {piece.lines} lines, at most {limit} are allowed"
        for pieces, limit in (
            (modules(source), MODULE_LINES),
            (functions(source), FUNCTION_LINES),
        )
        for piece in pieces
        if piece.lines > limit
    ]


def main() -> int:
    """Print the table and what is too long; return 1 if anything is."""
    parser = argparse.ArgumentParser(description="Count the lines of src.")
    parser.add_argument("--quiet", action="store_true", help="print only what is too long")
    args = parser.parse_args()
    source = ROOT / "src"
    if not args.quiet:
        every = modules(source)
        for piece in every:
            print(f"{piece.lines:6} {piece.name}")
        print(f"{sum(piece.lines for piece in every):6} in {len(every)} modules\n")
        for piece in functions(source)[:_LONGEST]:
            print(f"{piece.lines:6} {piece.name}")
    wrong = too_long(source)
    for sentence in wrong:
        print(sentence, file=sys.stderr)
    return 1 if wrong else 0


def _functions_of(path: Path, source: Path) -> Iterator[Piece]:
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            end = node.end_lineno or node.lineno
            name = f"{path.relative_to(source)}:{node.lineno} {node.name}"
            yield Piece(end - node.lineno + 1, name)


if __name__ == "__main__":
    sys.exit(main())
