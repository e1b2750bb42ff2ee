"""What a linter of imports cannot see: core stands alone, and state has three doors.

``core`` imports the standard library only. On the device floors nothing writes, renames
or removes files but ``core.durable``; a line that fills ``staging/``, whose bytes are
hashed before they are used, or that handles what is not state (a socket) says so in a
comment that begins with ``staging:`` or ``not state:``.
"""

import ast
import sys
from pathlib import Path

import pytest

SOURCE = Path(__file__).resolve().parents[2] / "src" / "edgewright"
FLOORS = ("core", "bundle", "wire", "monitor", "runtime", "agent")
DOOR = SOURCE / "core" / "durable.py"

_ALLOWED = ("# staging:", "# not state:")
# Methods of a path, and functions of os and shutil, that change what is stored.
_METHODS = {
    "write_text", "write_bytes", "rename", "unlink", "rmdir", "touch", "symlink_to",
    "hardlink_to",
}  # fmt: skip
_FUNCTIONS = {
    "os": {
        "rename", "renames", "replace", "remove", "unlink", "rmdir", "removedirs", "truncate",
        "link", "symlink", "mknod", "mkfifo",
    },
    "shutil": {
        "copy", "copy2", "copyfile", "copyfileobj", "copytree", "move", "rmtree",
        "make_archive", "unpack_archive",
    },
    "sqlite3": {"connect"},
    "tempfile": {
        "TemporaryFile", "NamedTemporaryFile", "TemporaryDirectory", "mkstemp", "mkdtemp",
        "SpooledTemporaryFile",
    },
}  # fmt: skip
_WRITE_FLAGS = {"O_WRONLY", "O_RDWR", "O_CREAT", "O_TRUNC", "O_APPEND"}


def _modules(*floors):
    return sorted(path for floor in floors for path in (SOURCE / floor).rglob("*.py"))


def foreign_imports(text):
    """Return the modules ``text`` imports that are neither standard nor edgewright."""
    names = set()
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            names.add("." * node.level + (node.module or ""))
    known = {*sys.stdlib_module_names, "edgewright"}
    return sorted(name for name in names if name.partition(".")[0] not in known)


def writes(text):
    """Return ``line: what`` for each call in ``text`` that changes files by itself."""
    lines = text.splitlines()
    found = []
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.Call) and (what := _writing(node)):
            last = node.end_lineno or node.lineno
            spoken = "\n".join(lines[node.lineno - 1 : last])
            if not any(word in spoken for word in _ALLOWED):
                found.append(f"{node.lineno}: {what}")
    return found


def _writing(call):
    """Return what a call does to files, empty if nothing."""
    if isinstance(call.func, ast.Name):
        return "open for writing" if call.func.id == "open" and _mode(call, 1) else ""
    if not isinstance(call.func, ast.Attribute):
        return ""
    name, owner = call.func.attr, ast.unparse(call.func.value)
    if name in {"open", "fdopen"}:
        writing = (
            _flags(call) if (owner, name) == ("os", "open") else _mode(call, _place(owner))
        )
    elif name == "replace" and owner != "os":
        # str.replace takes two, datetime.replace takes keywords: only a path takes one.
        writing = len(call.args) == 1 and not call.keywords
    else:
        writing = name in _FUNCTIONS.get(owner, _METHODS)
    return f"{owner}.{name}" if writing else ""


def _place(owner):
    """Return where the mode stands among the arguments: a path's open has it first."""
    return 1 if owner in {"io", "os", "gzip"} else 0


def _flags(call):
    """Return whether os.open is given a flag for writing."""
    return any(isinstance(n, ast.Attribute) and n.attr in _WRITE_FLAGS for n in ast.walk(call))


def _mode(call, place):
    """Return whether the mode of an open() may be one for writing."""
    modes = [keyword.value for keyword in call.keywords if keyword.arg == "mode"]
    modes += call.args[place : place + 1]
    return any(
        not isinstance(mode, ast.Constant) or bool(set(str(mode.value)) & set("wax+"))
        for mode in modes
    )


@pytest.mark.parametrize("path", _modules("core"), ids=lambda path: path.name)
def test_core_imports_the_standard_library_only(path):
    """So that the resident process of a device can stand on it."""
    assert foreign_imports(path.read_text()) == []


@pytest.mark.parametrize(
    "path", _modules(*FLOORS), ids=lambda path: str(path.relative_to(SOURCE))
)
def test_state_is_written_through_the_doors_only(path):
    """Nothing beside core.durable writes, renames or removes files by itself."""
    if path != DOOR:
        assert writes(path.read_text()) == []


def test_the_floors_are_not_empty():
    """The checks above looked at something."""
    assert all(_modules(floor) for floor in FLOORS)
    assert writes(DOOR.read_text())


@pytest.mark.parametrize(
    "line",
    [
        "import numpy",
        "from msgspec import json",
        "def f():\n    import tuf.api",
        "from . import x",
    ],
)
def test_a_foreign_import_is_refused(line):
    """Also inside a function, also of a part; relative imports are not how we write."""
    assert foreign_imports(line)


@pytest.mark.parametrize(
    "line",
    [
        "open(path, 'w')",
        "open(path, mode='ab')",
        "open(path, mode)",
        "io.open(path, 'r+')",
        "path.open('xb')",
        "path.open(mode='w')",
        "Path('x').write_text('y')",
        "path.write_bytes(b'')",
        "path.replace(other)",
        "path.rename(other)",
        "path.unlink()",
        "path.touch()",
        "os.rename(a, b)",
        "os.replace(a, b)",
        "os.remove(a)",
        "os.open(a, os.O_WRONLY | os.O_CREAT)",
        "os.fdopen(n, 'wb')",
        "shutil.rmtree(a)",
        "shutil.copyfile(a, b)",
        "sqlite3.connect(a)",
        "tempfile.mkdtemp()",
        "def f():\n    with path.open('wb') as file:\n        pass",
    ],
)
def test_a_write_past_the_doors_is_refused(line):
    """One of each kind, planted."""
    assert writes(line)


@pytest.mark.parametrize(
    "line",
    [
        "open(path)",
        "open(path, 'rb')",
        "path.open('rb')",
        "path.open()",
        "os.open(a, os.O_RDONLY | os.O_DIRECTORY)",
        "text.replace('a', 'b')",
        "moment.replace(tzinfo=UTC)",
        "replace(record, name='x')",
        "durable.replace_file(path, data)",
        "path.open('ab')  # staging: hashed again before use",
        "socket_path.unlink()  # not state: a socket of a process that is gone",
    ],
)
def test_what_is_no_write_past_the_doors_passes(line):
    """Reading, other things of the same name, the doors themselves, what says why."""
    assert writes(line) == []
