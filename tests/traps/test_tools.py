"""What is built upon: a few libraries that are kept up, none that fights over versions."""

import ast
import re
import sys
import tomllib
from importlib.metadata import requires
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
TOOLCHAIN = ROOT / "src" / "edgewright" / "toolchain"
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]

# What compressing needs; protobuf comes with onnx.
CORE = {"numpy", "onnx", "onnxruntime", "google"}
# Only there, each in a process of its own or where somebody asks for that form of data.
ASIDE = {
    "sources/torch": {"torch", "transformers", "safetensors"},
    "sources/tensorflow": {"tensorflow", "tf2onnx", "keras", "h5py"},
    "measure/forms/folder.py": {"PIL"},
    "measure/forms/table.py": {"pyarrow"},
}


def _imported(path):
    for node in ast.walk(ast.parse(path.read_text())):
        names = [a.name for a in node.names] if isinstance(node, ast.Import) else []
        if isinstance(node, ast.ImportFrom) and not node.level:
            names = [node.module]
        yield from (name.partition(".")[0] for name in names)


def test_compressing_needs_numpy_and_onnx_and_its_engine_only():
    """Every other library is imported in its own place, and those are few."""
    wrong = set()
    for path in TOOLCHAIN.rglob("*.py"):
        place = path.relative_to(TOOLCHAIN).as_posix()
        allowed = CORE.union(*(names for at, names in ASIDE.items() if place.startswith(at)))
        known = allowed | sys.stdlib_module_names | {"edgewright"}
        wrong |= {(place, name) for name in _imported(path) if name not in known}

    assert wrong == set()


def test_no_framework_is_needed_to_install():
    """Without an extra nothing is installed that pins the versions of half the world."""
    plain = {re.split(r"[<>=!~ \[]", line)[0].lower() for line in PROJECT["dependencies"]}
    extras = {
        re.split(r"[<>=!~ \[]", line)[0].lower()
        for name, lines in PROJECT["optional-dependencies"].items()
        if name != "dev"
        for line in lines
    }

    assert {"numpy", "onnx", "onnxruntime"} <= plain
    assert plain & extras == set()
    assert {"torch", "transformers"} <= extras
    for name in ("onnx", "onnxruntime"):
        below = {
            line.split()[0].lower() for line in requires(name) or [] if "extra" not in line
        }
        assert not {re.split(r"[<>=!~;\[]", one)[0] for one in below} & extras
