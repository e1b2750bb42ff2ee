"""Documentation that fails the build: what the code offers, the docs say, and no more."""

import ast
import json
import re
from pathlib import Path

import jsonschema
import pytest
from starlette.routing import Router
from tools import docs

from edgewright.core import names
from edgewright.fleet.api.server import application
from edgewright.runtime.engines import ENGINES
from edgewright.toolchain.sources import SOURCES
from edgewright.toolchain.targets import TARGETS
from edgewright.toolchain.techniques import TECHNIQUES

ROOT = Path(__file__).resolve().parents[2]
DOCS = ROOT / "docs"
README = (ROOT / "README.md").read_text()
PROTOCOL = (DOCS / "wire-protocol.md").read_text()
EVERY_PAGE = "\n".join(path.read_text() for path in sorted(DOCS.rglob("*.md"))) + README


def _parsers(parser, said="a program"):
    yield parser, said
    for verb, spoken in docs.verbs(parser).values():
        yield from _parsers(verb, spoken)


PARSERS = dict(pair for program in docs.programs() for pair in _parsers(program))


# --- pages made from the code


@pytest.mark.parametrize("name", docs.PAGES)
def test_a_made_page_is_what_the_code_says(name):
    """After a change of a command, a setting or the manifest: make docs."""
    assert (DOCS / name).read_text() == docs.PAGES[name]()


@pytest.mark.parametrize("parser", PARSERS, ids=lambda parser: parser.prog)
def test_every_command_and_argument_explains_itself(parser):
    """A description for each command and verb, a help for each argument."""
    silent = [names for names, said in docs.options(parser) if not said]

    assert PARSERS[parser]
    assert silent == []


def test_every_command_verb_and_option_is_in_the_docs():
    """Found by walking the parsers again, not by making the page again."""
    page = (DOCS / "cli.md").read_text()
    said = set(re.findall(r"`([^`]+)`", page))

    for parser in PARSERS:
        assert parser.prog in said
        for action in parser._actions:
            for option in action.option_strings:
                if option not in {"-h", "--help"}:
                    assert re.search(rf"`[^`]*{re.escape(option)}[ ,`]", page), option


def test_every_setting_has_a_meaning():
    """No row of the tables of settings ends empty."""
    rows = [line for line in docs.settings().splitlines() if line.startswith("| `")]

    assert rows
    assert [row for row in rows if re.search(r"\|\s*\|$", row)] == []


def test_the_schema_is_a_schema():
    """JSON Schema says so itself."""
    jsonschema.Draft202012Validator.check_schema(json.loads(docs.schema()))


# --- pages written by hand


def _routes():
    """Return every route of the control plane; none of them needs a plane to be listed."""
    guard = application(None)
    (router,) = (part for part in vars(guard).values() if isinstance(part, Router))
    return {
        f"{method} {_plain(route.path)}"
        for route in router.routes
        for method in route.methods - {"HEAD"}
    }


def _plain(path):
    """Return a route with its parameters as one word, whatever their name and type."""
    return re.sub(r"\{[^}]*\}", "{}", path)


def test_every_route_is_in_the_protocol_and_no_other():
    """The table of routes is what the control plane answers."""
    told = {
        f"{method} {_plain(path)}"
        for method, path in re.findall(r"`(GET|POST|PUT|DELETE) (/v1/[^` ]*)`", PROTOCOL)
    }

    assert told == _routes()


@pytest.mark.parametrize("name", [*SOURCES, *TECHNIQUES, *TARGETS, *ENGINES])
def test_every_source_technique_target_and_engine_is_in_the_docs(name):
    """By the name people write."""
    assert re.search(rf"`{re.escape(name)}`", EVERY_PAGE)


def test_the_cohorts_printed_in_the_protocol_are_true():
    """Another implementation checks itself against these rows."""
    rows = re.findall(r"^\| `([^`]*)` \| `(dev-[^`]*)` \| (\d+) \|$", PROTOCOL, re.MULTILINE)
    blank = re.findall(r"^\| `` \| `(dev-[^`]*)` \| (\d+) \|$", PROTOCOL, re.MULTILINE)
    rows += [("", device, place) for device, place in blank]

    assert len(rows) >= 3
    assert [names.cohort(salt, device) for salt, device, _ in rows] == [
        int(r[2]) for r in rows
    ]


def _shell_lines(text):
    for block in re.findall(r"```sh\n(.*?)```", text, re.DOTALL):
        for line in block.splitlines():
            if command := line.partition("#")[0].split():
                yield command


@pytest.mark.parametrize(
    "page",
    [README, *(p.read_text() for p in sorted(DOCS.rglob("*.md")))],
    ids=lambda _: "page",
)
def test_the_commands_a_page_shows_exist(page):
    """Make targets, commands, verbs and options: each is one the programs have."""
    by_name = {parser.prog: parser for parser in PARSERS}
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))

    for program, *words in _shell_lines(page):
        if program == "make":
            assert words[0] in targets
        if program in by_name:
            known = by_name[program]
            while words and f"{known.prog} {words[0]}" in by_name:
                known = by_name[f"{known.prog} {words.pop(0)}"]
            assert not docs.verbs(known), f"{known.prog} needs a verb, got {words[:1]}"
            options = {option for action in known._actions for option in action.option_strings}
            assert {word for word in words if word.startswith("-")} <= options, known.prog


@pytest.mark.parametrize(
    "page",
    sorted([ROOT / "README.md", ROOT / "CONTRIBUTING.md", *DOCS.rglob("*.md")]),
    ids=lambda page: page.name,
)
def test_links_between_pages_lead_somewhere(page):
    """Every relative link names a file that is there."""
    links = re.findall(r"\]\((?!https?://|#)([^)#\s]+)", page.read_text())

    assert [link for link in links if not (page.parent / link).exists()] == []


# --- traps, and the tests that hold them


TRAPS = [
    line
    for line in (DOCS / "traps.md").read_text().splitlines()
    if line.startswith("| ") and not line.startswith("| what goes wrong |")
]


def unheld(row):
    """Return what is wrong with a row of the page: no test, or one that is not there."""
    named = re.findall(r"`(tests/[^`]*)`", row.rpartition("|")[0].rpartition("|")[2])
    gone = [test for test in named if test.partition("::")[2] not in _tests(test)]
    return gone if named else ["no test"]


def _tests(test):
    path = ROOT / test.partition("::")[0]
    if not path.is_file():
        return set()
    return {
        node.name
        for node in ast.parse(path.read_text()).body
        if isinstance(node, ast.FunctionDef) and node.name.startswith("test_")
    }


@pytest.mark.parametrize("row", TRAPS, ids=lambda row: row.split("|")[1].strip()[:40])
def test_every_trap_is_held_by_tests_that_exist(row):
    """Each row of the page names one or more, by file and name."""
    assert unheld(row) == []


def test_the_page_of_traps_has_rows():
    """Three cells each: what goes wrong, what stops it, and the tests."""
    assert len(TRAPS) > 30
    assert {row.count(" | ") for row in TRAPS} == {2}


@pytest.mark.parametrize(
    "row",
    [
        "| it breaks | we mend it | |",
        "| it breaks | `tests/traps/test_axes.py::test_x` holds it | by hand |",
        "| it breaks | we mend it | `tests/traps/test_axes.py::test_nothing_of_the_kind` |",
        "| it breaks | we mend it | `tests/traps/test_gone.py::test_x` |",
    ],
)
def test_a_trap_without_a_test_is_seen(row):
    """No test, one in another cell, one that was renamed, a file that was moved."""
    assert unheld(row)


def test_every_test_of_traps_is_on_the_page():
    """What holds a trap is told where people look for it, at least by one of its file."""
    page = (DOCS / "traps.md").read_text()

    for path in sorted((ROOT / "tests" / "traps").glob("test_*.py")):
        assert path.relative_to(ROOT).as_posix() in page
