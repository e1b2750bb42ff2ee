"""The error tree: drawn as it is, each error with a docstring, and none outside it."""

import ast
import inspect
import re
from pathlib import Path

import pytest

from edgewright.core import errors

SOURCE = Path(__file__).resolve().parents[2] / "src" / "edgewright"
EVERY = [
    kind
    for _, kind in inspect.getmembers(errors, inspect.isclass)
    if issubclass(kind, errors.EdgewrightError)
]


def drawn(text):
    """Return child -> parent and child -> words of the tree in a docstring."""
    parents, words, above = {}, {}, {}
    for line in text.splitlines():
        match = re.match(r"([│├└─\s]*)(\w+Error)\s*(.*)", line)
        if match is None:
            continue
        depth = len(match[1]) // 4
        above[depth] = match[2]
        words[match[2]] = match[3]
        if depth:
            parents[match[2]] = above[depth - 1]
    return parents, words


PARENTS, WORDS = drawn(errors.__doc__ or "")


@pytest.mark.parametrize("kind", EVERY, ids=lambda kind: kind.__name__)
def test_every_error_is_in_the_drawn_tree_at_its_place(kind):
    """One can see the tree at the top of the file, and it is the real one."""
    parent = None if kind is errors.EdgewrightError else kind.__base__.__name__

    assert PARENTS.get(kind.__name__) == parent
    assert kind is errors.EdgewrightError or WORDS[kind.__name__]


def test_nothing_is_drawn_that_is_not_there():
    """A tree of errors, not of wishes."""
    assert set(WORDS) == {kind.__name__ for kind in EVERY}


@pytest.mark.parametrize("kind", EVERY, ids=lambda kind: kind.__name__)
def test_every_error_says_what_it_means_and_how_a_command_ends(kind):
    """A docstring of its own; one of the exit codes commands are documented with."""
    assert "__doc__" in vars(kind)
    assert len(kind.__doc__) > 20
    assert kind.exit_code in {1, 2, 3, 4}
    assert isinstance(kind.retry, bool)


def test_every_error_has_a_name_of_its_own_on_the_wire():
    """The code is unique and spelt in one way."""
    codes = [kind("x").code for kind in EVERY]

    assert len(set(codes)) == len(codes)
    assert all(re.fullmatch(r"[a-z]+(_[a-z]+)*_error", code) for code in codes)


def strays(text):
    """Return the public classes in ``text`` that derive from an exception."""
    return [
        node.name
        for node in ast.walk(ast.parse(text))
        if isinstance(node, ast.ClassDef)
        and not node.name.startswith("_")
        and any(re.search(r"(Error|Exception)$", ast.unparse(base)) for base in node.bases)
    ]


def test_no_error_is_defined_outside_the_tree():
    """What others may catch is in one file; a private signal within a module is not."""
    found = {
        str(path.relative_to(SOURCE)): names
        for path in SOURCE.rglob("*.py")
        if path != SOURCE / "core" / "errors.py" and (names := strays(path.read_text()))
    }

    assert found == {}


@pytest.mark.parametrize(
    "text",
    [
        "class AError(Exception): pass",
        "class B(errors.ModelError): pass",
        "def f():\n  class C(ValueError): pass",
    ],
)
def test_an_error_outside_the_tree_is_refused(text):
    """One of each kind, planted."""
    assert strays(text)


NAMES = {kind.__name__ for kind in EVERY}
# Where a kind of error is handed in, it is raised under these names.
HANDED = {"error", "kind"}


def without_remedy(text):
    """Return the lines of ``text`` that make an error of ours and say nothing to do."""
    tree = ast.parse(text)
    raised = [
        node.exc
        for node in ast.walk(tree)
        if isinstance(node, ast.Raise) and isinstance(node.exc, ast.Call)
    ]
    made = [
        call
        for call in ast.walk(tree)
        if isinstance(call, ast.Call)
        and (_called(call) in NAMES or (call in raised and _called(call) in HANDED))
    ]
    return [call.lineno for call in made if not _has_remedy(call)]


def _called(call):
    return getattr(call.func, "id", getattr(call.func, "attr", ""))


def _has_remedy(call):
    hints = [keyword.value for keyword in call.keywords if keyword.arg == "hint"]
    empty = [
        part
        for hint in hints
        for part in ast.walk(hint)
        if isinstance(part, ast.Constant) and part.value == ""
    ]
    return bool(hints) and not empty


@pytest.mark.parametrize(
    "path", sorted((SOURCE / "toolchain").rglob("*.py")), ids=lambda path: path.stem
)
def test_every_error_of_the_toolchain_has_a_remedy(path):
    """Whoever reads one is told what to do, wherever it is raised."""
    assert without_remedy(path.read_text()) == []


@pytest.mark.parametrize(
    "text",
    [
        "raise ModelError('no')",
        "raise errors.ModelError('no')",
        "raise ModelError('no', hint='')",
        "raise ModelError('no', hint='do' if it else '')",
        "raise error('no') from wrong",
        "def made():\n  return ModelError('no')",
    ],
)
def test_an_error_without_a_remedy_is_seen(text):
    """One of each kind, planted; with a remedy none is."""
    assert without_remedy(text)
    assert not without_remedy(re.sub(r"\('no'.*\)", "('no', hint='do')", text))


def test_a_tree_drawn_wrongly_is_seen():
    """The reader of the drawing tells parent from child."""
    text = "EdgewrightError\n├── AError  a\n│   └── BError  b\n└── CError  c"

    assert drawn(text)[0] == {
        "AError": "EdgewrightError",
        "BError": "AError",
        "CError": "EdgewrightError",
    }
