"""Write the pages of docs/ that are made from the code; ``make docs`` runs this.

``docs/cli.md`` is made from the argument parsers, ``docs/settings.md`` from the
dataclasses that read TOML files, ``docs/choices.md`` from the tables of techniques,
targets, engines and devices, ``docs/bundle-manifest.schema.json`` from the manifest.
``--check`` writes nothing and fails when a page is not what the code says, which is
what ``tests/contracts/test_docs.py`` does too.
"""

import argparse
import json
import os
import re
import sys
import textwrap
from collections.abc import Callable, Iterator, Mapping
from dataclasses import MISSING, Field, fields, is_dataclass
from pathlib import Path
from typing import Any, get_type_hints

from edgewright.agent import DeviceConfig
from edgewright.agent import main as agent
from edgewright.bundle.manifest import Manifest
from edgewright.cli import main as cli
from edgewright.cli.remote import SERVER_VARIABLE, TOKEN_VARIABLE, Person
from edgewright.core import records
from edgewright.core.contract import _WRITTEN, QUANTITIES, Contract
from edgewright.core.profile import catalogue
from edgewright.runtime.engines import ENGINES
from edgewright.toolchain.measure.doubts import KINDS as DOUBTS
from edgewright.toolchain.measure.metrics import METRICS, OWN
from edgewright.toolchain.recipe import Project
from edgewright.toolchain.sources import SOURCES
from edgewright.toolchain.sources.tensorflow import VARIABLE as TF_VARIABLE
from edgewright.toolchain.targets import TARGETS
from edgewright.toolchain.techniques import TECHNIQUES

DOCS = Path(__file__).resolve().parents[1] / "docs"
_MADE = "<!-- made by `make docs` from the code: change it there -->"
_WORDS = {int: "integer", float: "number", str: "text", bool: "true or false"}


def commands() -> str:
    """Return ``docs/cli.md``."""
    os.environ.pop("EDGEWRIGHT_HOME", None)  # it would show as a default
    lines = [_MADE, "", "# Commands", "", f"{_sentence(cli.EXIT_CODES)}", ""]
    for parser in programs():
        lines += _command(parser, "", 2)
    return "\n".join(lines).rstrip() + "\n"


def settings() -> str:
    """Return ``docs/settings.md``."""
    lines = [
        _MADE,
        "",
        "# Settings",
        "",
        "Files are TOML. An unknown key is refused, and the nearest known one named.",
        "",
        "## The device: `/etc/edgewright/device.toml`",
        "",
        "Relative paths are relative to the file.",
        "",
        *_table(DeviceConfig, ""),
        "## A project: `edgewright.toml`",
        "",
        "Relative paths are relative to the file.",
        "",
        *_table(Project, ""),
        "## A person: `~/.config/edgewright/config.toml`",
        "",
        *_table(Person, ""),
        "## The environment",
        "",
        "| variable | meaning |",
        "|---|---|",
        "| `EDGEWRIGHT_HOME` | folder a device keeps its state in |",
        "| `XDG_CACHE_HOME` | below it an application keeps what variants took; `~/.cache` |",
        f"| `{SERVER_VARIABLE}` | the `server` of a person's file |",
        f"| `{TOKEN_VARIABLE}` | the `token_file` of a person's file |",
        f"| `{TF_VARIABLE}` | an interpreter with tensorflow and tf2onnx, for `import` |",
        "| `RAY_USAGE_STATS_ENABLED`, `RAY_...` | Ray reads them itself, for `--workers` |",
        "",
        "Nothing else is read from the environment.",
    ]
    return "\n".join(lines) + "\n"


def choices() -> str:
    """Return ``docs/choices.md``."""
    techniques = [
        (
            f"`{t.name}`",
            t.summary,
            "; ".join((*_options(t.settings), *(f"`{k}`: {v}" for k, v in t.free.items()))),
            "yes" if t.calibrates else "",
        )
        for t in TECHNIQUES.values()
    ]
    targets = [
        (f"`{t.name}`", f"`{t.engine}`", f"`{t.entry}`", _list(t.dtypes))
        for t in TARGETS.values()
    ]
    engines = [
        (f"`{e.name}`", f"`{e.library}`", f"`{e.suffix}`", _list(e.dtypes))
        for e in ENGINES.values()
    ]
    devices = [
        (f"`{name}`", d.title, d.platform, d.resource_class, d.use)
        for name, d in catalogue().items()
    ]
    sources = [
        (f"`{s.name}`", f"`{s.given}`", s.summary, s.needs, "yes" if s.runs_code else "")
        for s in SOURCES.values()
    ]
    lines = [_MADE, "", "# What there is to choose from", ""]
    lines += [
        "## Sources",
        "",
        "What `edgewright import` takes: [import.md](import.md).",
        "",
        *_rows("source|given as|what it is|needs|runs its code", sources),
    ]
    lines += [
        "## Techniques",
        "",
        *_rows("technique|what it does|settings|calibrates", techniques),
    ]
    metrics = [(f"`{m.name}`", m.summary, m.needs) for m in METRICS.values() if m.name != OWN]
    lines += [
        "## Metrics",
        "",
        "What answers are judged by (`--metric`), or `module:callable`: [data.md](data.md).",
        "",
        *_rows("metric|what it is|needs", metrics),
    ]
    doubts = [(f"`{name}`", what) for name, what in DOUBTS.items()]
    lines += [
        "## Doubts about data",
        "",
        "What stops `optimize` before anything is measured; `--trust NAME` accepts one.",
        "",
        *_rows("doubt|what it is", doubts),
    ]
    lines += ["## Targets", "", *_rows("target|its engine|entry file|computes in", targets)]
    lines += ["## Engines", "", *_rows("engine|library|loads|takes and answers", engines)]
    lines += [
        "## Devices",
        "",
        "Each figure has its source: `edgewright devices show NAME`.",
        "",
    ]
    lines += _rows("name|device|platform|class|use", devices)
    return "\n".join(lines).rstrip() + "\n"


def schema() -> str:
    """Return ``docs/bundle-manifest.schema.json``."""
    written = records.json_schema(Manifest, title="The manifest of an edgewright bundle")
    return json.dumps(written, indent=2) + "\n"


PAGES: dict[str, Callable[[], str]] = {
    "cli.md": commands,
    "settings.md": settings,
    "choices.md": choices,
    "bundle-manifest.schema.json": schema,
}


def main() -> int:
    """Write every page, or say which one is not what the code says."""
    parser = argparse.ArgumentParser(description="Write the pages made from the code.")
    parser.add_argument(
        "--check", action="store_true", help="write nothing; fail on a difference"
    )
    args = parser.parse_args()
    stale = []
    for name, make in PAGES.items():
        path, text = DOCS / name, make()
        if not path.exists() or path.read_text() != text:
            stale.append(name)
            if not args.check:
                path.write_text(text)
                print(f"wrote docs/{name}")
    if stale and args.check:
        print(f"stale: {', '.join(stale)}; run make docs", file=sys.stderr)
    return 1 if stale and args.check else 0


def programs() -> tuple[argparse.ArgumentParser, ...]:
    """Return the parsers of the two programs people type."""
    return cli.parser(), agent._parser()  # noqa: SLF001  the program's own parser, only read


def options(parser: argparse.ArgumentParser) -> Iterator[tuple[str, str]]:
    """Yield how each argument of ``parser`` itself is written, and its help."""
    formatter = parser._get_formatter()  # noqa: SLF001  argparse offers no other way
    for action in parser._actions:  # noqa: SLF001
        if isinstance(action, argparse._SubParsersAction | argparse._HelpAction):  # noqa: SLF001
            continue
        value = formatter._format_args(action, _metavar(action))  # noqa: SLF001
        names = " ".join([", ".join(action.option_strings), value]).strip()
        said = formatter._expand_help(action) if action.help else ""  # noqa: SLF001
        yield names, said + _default(action)


def verbs(
    parser: argparse.ArgumentParser,
) -> dict[str, tuple[argparse.ArgumentParser, str]]:
    """Return the parsers below ``parser`` by name, each with what the help says of it."""
    for action in parser._actions:  # noqa: SLF001
        if isinstance(action, argparse._SubParsersAction):  # noqa: SLF001
            said = {one.dest: one.help or "" for one in action._choices_actions}  # noqa: SLF001
            return {name: (one, said.get(name, "")) for name, one in action.choices.items()}
    return {}


def _command(parser: argparse.ArgumentParser, said: str, level: int) -> list[str]:
    rows = [f"| `{_cell(names)}` | {_cell(meaning)} |" for names, meaning in options(parser)]
    lines = [f"{'#' * level} `{parser.prog}`", "", _sentence(parser.description or said), ""]
    if rows:
        lines += ["| argument | meaning |", "|---|---|", *rows, ""]
    for verb, spoken in verbs(parser).values():
        lines += _command(verb, spoken, min(level + 1, 4))
    return lines


def _metavar(action: argparse.Action) -> str:
    return action.dest.upper() if action.option_strings else action.dest


def _default(action: argparse.Action) -> str:
    silent = action.required or not action.default or action.default == argparse.SUPPRESS
    said = "%(default)" in (action.help or "") or "default" in (action.help or "")
    if silent or said or not action.option_strings:
        return ""
    return f" (default: `{action.default}`)"


def _table(kind: type, name: str) -> list[str]:
    """Return a dataclass as a table of its keys, and the tables below it."""
    said, hints = _attributes(kind), get_type_hints(kind)
    rows, below = [], []
    for field in fields(kind):
        full = f"{name}.{field.name}" if name else field.name
        if kind is Project and field.name == "contract":
            below += ["### `[contract]`", "", *_contract()]
        elif is_dataclass(hints[field.name]):
            below += [f"### `[{full}]`", "", *_table(hints[field.name], full)]
        else:
            words = (_kind(hints[field.name]), _initial(field), said.get(field.name, ""))
            rows.append(f"| `{field.name}` | {' | '.join(_cell(word) for word in words)} |")
    head = ["| key | kind | default | meaning |", "|---|---|---|---|"]
    return ([*head, *rows, ""] if rows else []) + below


def _contract() -> list[str]:
    said = _attributes(Contract)
    rows = []
    for key in (*_WRITTEN, *QUANTITIES):
        name, factor = _WRITTEN.get(key, (key, 1))
        default = getattr(Contract(), name)
        shown = "not asked" if default is None else f"`{default / factor:g}`"
        meaning = said[name]
        if key in _WRITTEN:
            unit = "Points. " if key.endswith("_points") else "A share, 0 to 1. "
            meaning = unit + meaning.partition(";")[0].rstrip(".") + "."
        kind = "number" if key in _WRITTEN else "integer"
        rows.append(f"| `{key}` | {kind} | {shown} | {_cell(meaning)} |")
    return ["| key | kind | default | meaning |", "|---|---|---|---|", *rows, ""]


def _attributes(kind: type) -> dict[str, str]:
    """Return what the ``Attributes`` of a class's docstring say of each."""
    text = textwrap.dedent((kind.__doc__ or "").partition("Attributes:\n")[2])
    found: dict[str, str] = {}
    name = ""
    for line in text.splitlines():
        if match := re.match(r"(\w+): (.*)", line):
            name = match[1]
            found[name] = match[2]
        elif name and line.strip():
            found[name] += " " + line.strip()
        else:
            name = ""
    return {name: said.replace("``", "`") for name, said in found.items()}


def _kind(hint: Any) -> str:
    text = str(hint)
    if text.startswith("tuple["):
        return "list"
    if text.startswith("dict["):
        return "table"
    known = [
        word for plain, word in _WORDS.items() if plain.__name__ in re.findall(r"\w+", text)
    ]
    return known[0] if hint not in _WORDS else _WORDS[hint]


def _initial(field: "Field[Any]") -> str:
    if field.default is not MISSING:
        return "none" if field.default is None else f"`{json.dumps(field.default)}`"
    return "required" if field.default_factory is MISSING else "empty"


def _rows(head: str, rows: list[tuple[str, ...]]) -> list[str]:
    names = head.split("|")
    lines = [f"| {' | '.join(names)} |", "|" + "---|" * len(names)]
    return [*lines, *(f"| {' | '.join(map(_cell, row))} |" for row in rows), ""]


def _options(settings: Mapping[str, tuple[str, ...]]) -> list[str]:
    return [f"`{name}`: {', '.join(values)}" for name, values in settings.items()]


def _list(words: frozenset[str]) -> str:
    return ", ".join(sorted(words))


def _cell(text: str) -> str:
    return " ".join(text.split()).replace("|", "\\|")


def _sentence(text: str) -> str:
    text = " ".join(text.split())
    return text[:1].upper() + text[1:] + ("" if not text or text[-1] in ".!?" else ".")


if __name__ == "__main__":
    sys.exit(main())
