"""The house rules a program can check: lengths, names, words, change fragments, commands."""

import re
import shutil
import subprocess
import tomllib
from pathlib import Path

import pytest
from tools import changes, size

import edgewright

ROOT = Path(__file__).resolve().parents[2]
SOURCE = ROOT / "src"
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())

# The brackets keep these patterns from finding themselves.
_FORBIDDEN = re.compile(
    r"(^|[^a-zA-Z0-9_.{}$-])/(wor[k]|far[m]|roo[t]|hom[e]|User[s])/[a-z]"
    r"|subagen[t]|coding sessio[n]|this sessio[n]|(^|[\s/`\"'])\.librar[y]\b"
    r"|extra-index-ur[l]|index-ur[l]",
    re.IGNORECASE,
)
_STAND_IN = re.compile(
    r"\bTOD[O]\b|FIXM[E]|\bXX[X]\b|NotImplementedErro[r]|not implemente[d]|placeholde[r]"
    r"|hard-?code[d]|simplified versio[n]"
)
_SKIPPING = re.compile(r"pytest\.ski[p]\(|mark\.ski[p]|mark\.xfai[l]|importorski[p]")
_NAMELESS = {"util", "utils", "common", "helper", "helpers", "misc", "manager", "handler"}
_SWALLOWED = {"build", "dist", "env", "site", "lib"}


def tracked():
    """Return the text files git knows or would add, as (path, text)."""
    listed = subprocess.run(
        ["git", "ls-files", "-co", "--exclude-standard", "-z"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    )
    for name in filter(None, listed.stdout.split("\0")):
        path = ROOT / name
        if path.is_file() and b"\0" not in (data := path.read_bytes())[:8000]:
            yield path.relative_to(ROOT), data.decode(errors="replace")


def found(pattern, text):
    """Return the lines of ``text`` in which ``pattern`` is found, numbered."""
    lines = enumerate(text.splitlines(), 1)
    return [f"{number}: {line.strip()[:80]}" for number, line in lines if pattern.search(line)]


# --- length


def test_nothing_is_too_long():
    """At most 500 lines a module and 50 a function."""
    assert size.too_long(SOURCE) == []


def test_what_is_too_long_is_caught(tmp_path):
    """A module of 501 lines and a method of 51, planted; at the limit both pass."""
    (tmp_path / "long.py").write_text("x = 1\n" * 501)
    (tmp_path / "deep.py").write_text("class A:\n    def f(self):\n" + "        1\n" * 50)
    (tmp_path / "fits.py").write_text("def g():\n" + "    1\n" * 49 + "x = 1\n" * 450)

    assert size.too_long(tmp_path) == [
        "long.py has 501 lines, at most 500 are allowed",
        "deep.py:2 f has 51 lines, at most 50 are allowed",
    ]


# --- names and words


@pytest.mark.needs("git")
def test_no_name_says_nothing():
    """No utils, no helpers; no folder that tools swallow."""
    named = [
        str(path)
        for path, _ in tracked()
        if path.suffix == ".py"
        and ({path.stem, *path.parts[:-1]} & _NAMELESS or set(path.parts[:-1]) & _SWALLOWED)
    ]

    assert named == []


@pytest.mark.needs("git")
def test_no_file_names_a_machine_or_how_it_was_written():
    """Absolute paths of a machine, package indexes, words that are not about the project."""
    wrong = {
        str(path): lines for path, text in tracked() if (lines := found(_FORBIDDEN, text))
    }

    assert wrong == {}


@pytest.mark.parametrize(
    "line",
    [
        "see /w~ork/main",
        "cd /r~oot/x",
        "--extra-index~-url https://x",
        "A sub~agent did",
        "in .lib~rary/x",
    ],
)
def test_such_a_line_is_caught(line):
    """One of each kind, planted."""
    assert found(_FORBIDDEN, line.replace("~", ""))


@pytest.mark.parametrize(
    "line",
    ["`/v1/trust`", "{home}/r~oot/x", "/var/lib/edgewright", "net~work/x", "self.lib~rary"],
)
def test_other_paths_are_not(line):
    """Routes, folders of a device, parts of words."""
    assert not found(_FORBIDDEN, line.replace("~", ""))


def test_nothing_in_the_source_stands_in_for_something_else():
    """What is not there is not pretended."""
    wrong = {
        str(path.relative_to(SOURCE)): lines
        for path in SOURCE.rglob("*.py")
        if (lines := found(_STAND_IN, path.read_text()))
    }

    assert wrong == {}


def test_no_test_is_switched_off():
    """Only a need that is not met skips, in one place, and CI turns that into a failure."""
    wrong = {
        str(path.relative_to(ROOT)): lines
        for path in (ROOT / "tests").rglob("*.py")
        if path.name != "conftest.py" and (lines := found(_SKIPPING, path.read_text()))
    }

    assert wrong == {}


def test_the_folders_of_tests_are_no_packages():
    """Pytest imports by path here; an __init__.py would give a test two names."""
    assert list((ROOT / "tests").rglob("__init__.py")) == []


# --- change fragments


def test_the_changelog_has_room_for_what_is_coming():
    """An Unreleased section, and fragments that are named as agreed."""
    assert changes.UNRELEASED in (ROOT / "CHANGELOG.md").read_text().splitlines()
    assert changes.wrong(ROOT / "changes") == []


def test_a_release_moves_the_fragments(tmp_path):
    """In the order of the kinds, above the versions before; the fragments are gone."""
    (tmp_path / "changes").mkdir()
    (tmp_path / "changes" / "b.fixed.md").write_text("Mended\nthis.\n")
    (tmp_path / "changes" / "a.added.md").write_text("New.\n")
    (tmp_path / "CHANGELOG.md").write_text(
        "# C\n\n## Unreleased\n\nNote.\n\n## 0.1.0\n\nOld.\n"
    )

    changes.release(tmp_path, "0.2.0")

    assert (tmp_path / "CHANGELOG.md").read_text() == (
        "# C\n\n## Unreleased\n\nNote.\n\n## 0.2.0\n\n### Added\n\n- New.\n\n"
        "### Fixed\n\n- Mended this.\n\n## 0.1.0\n\nOld.\n"
    )
    assert list((tmp_path / "changes").iterdir()) == []


def test_a_fragment_of_no_kind_is_caught(tmp_path):
    """A wrong kind, no kind, nothing said."""
    for name, text in (("a.new.md", "x"), ("b.md", "x"), ("c.fixed.md", " \n")):
        (tmp_path / name).write_text(text)

    assert len(changes.wrong(tmp_path)) == 3


# --- commands and versions


def test_the_version_is_said_once():
    """pyproject, the package and the device wheel agree."""
    device = tomllib.loads((ROOT / "packaging" / "device" / "pyproject.toml").read_text())

    assert PROJECT["project"]["version"] == edgewright.__version__
    assert device["project"]["dynamic"] == ["version"]
    assert device["project"]["requires-python"] == PROJECT["project"]["requires-python"]


def test_both_wheels_ask_for_the_same_libraries():
    """A library of the device wheel has the bounds it has in the full one."""
    device = tomllib.loads((ROOT / "packaging" / "device" / "pyproject.toml").read_text())
    full = PROJECT["project"]["dependencies"]

    assert set(device["project"]["dependencies"]) <= set(full)


def test_the_commands_are_there():
    """Every command of the Makefile is explained; CI runs the two that people run."""
    makefile = (ROOT / "Makefile").read_text()
    explained = set(re.findall(r"^([a-z-]+):.*## .+", makefile, re.MULTILINE))
    phony = set(re.search(r"^\.PHONY: (.*)", makefile, re.MULTILINE)[1].split())
    ci = ROOT / ".ci" / "run"

    assert phony == explained
    assert explained >= {"demo", "test", "check", "bench", "soak", "docs", "wheels", "clean"}
    assert ci.stat().st_mode & 0o111
    assert {"make check", "make test"} <= set(re.findall(r"make \w+", ci.read_text()))


@pytest.mark.parametrize("script", [".ci/run", "tools/venv.sh"])
def test_the_scripts_are_well_formed(script):
    """The shell reads them without running them."""
    shell = shutil.which("bash")

    subprocess.run([shell, "-n", ROOT / script], check=True)
