"""The names other code may rely on: what each package's front door offers, with signatures.

Two modules count as well, since a front door hands out what they define: what
``edgewright.optimize`` is, and what ``edgewright.runtime.load`` returns.

``tests/contracts/public_api.txt`` holds the list; a test compares it with the code, so
that a name which appears, goes or changes its signature is seen in review. After a change
that is meant, write the list anew with ``python tools/public_api.py --write``.
"""

import argparse
import ast
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
SOURCE = ROOT / "src"
ALSO = ("edgewright/toolchain/recipe.py", "edgewright/runtime/model.py")
STORED = ROOT / "tests" / "contracts" / "public_api.txt"


def public_api(source: Path) -> list[str]:
    """Return one line for each public name of each front door, sorted."""
    lines = []
    for path in [*source.rglob("__init__.py"), *(source / name for name in ALSO)]:
        module = ".".join(path.relative_to(source).with_suffix("").parts)
        door = module.removesuffix(".__init__")
        lines += [f"{door}.{name}" for name in _names(ast.parse(path.read_text()))]
    return sorted(lines)


def main() -> int:
    """Print the list, or write it where the test looks for it."""
    parser = argparse.ArgumentParser(description="List the public names of every package.")
    parser.add_argument("--write", action="store_true", help=f"write {STORED.name}")
    text = "\n".join(public_api(SOURCE)) + "\n"
    if parser.parse_args().write:
        STORED.write_text(text)
    else:
        sys.stdout.write(text)
    return 0


def _names(module: ast.Module) -> list[str]:
    """Return what ``__all__`` lists, or all that is defined and not private."""
    defined: dict[str, list[str]] = {}
    listed: list[str] | None = None
    for node in module.body:
        if isinstance(node, ast.ClassDef):
            members = [shown for part in node.body for _, shown in _defined(part)]
            defined[node.name] = [node.name, *(f"{node.name}.{m}" for m in members)]
        for name, shown in _defined(node):
            defined[name] = [shown]
            if name == "__all__" and isinstance(node, ast.Assign):
                listed = list(ast.literal_eval(node.value))
    chosen = listed if listed is not None else [n for n in defined if not n.startswith("_")]
    return [shown for name in chosen for shown in defined.get(name, [name])]


def _defined(node: ast.stmt) -> list[tuple[str, str]]:
    """Return (name, how it is shown) of what one statement defines publicly."""
    if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
        pairs = [(node.name, f"{node.name}({ast.unparse(node.args)})")]
    elif isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name):
        pairs = [(node.target.id, f"{node.target.id}: {ast.unparse(node.annotation)}")]
    elif isinstance(node, ast.Assign):
        pairs = [(t.id, t.id) for t in node.targets if isinstance(t, ast.Name)]
    else:
        return []
    return [pair for pair in pairs if not pair[0].startswith("_") or pair[0] == "__all__"]


if __name__ == "__main__":
    sys.exit(main())
