"""The folder of a run: whole or as it was, and other people's files left alone."""

import os
import signal
from dataclasses import replace

import pytest
from tests.sim.disk import failing

from edgewright.bundle.manifest import Policy
from edgewright.core.contract import Contract
from edgewright.core.errors import StorageError, UsageError
from edgewright.toolchain.planner import workspace
from edgewright.toolchain.planner.values import Recipe, to_bytes

SHA = "sha256:" + "0" * 64
RECIPE = Recipe(
    format=1, model="m", device="host",
    model_sha256=SHA, reference_sha256=SHA, data_sha256=SHA,
    contract=Contract(), policy=Policy(), classes=("a", "b"), tools={},
)  # fmt: skip


NAMED = {
    f"{folder}/file" for folder in (workspace.EVIDENCE, workspace.CANDIDATES, workspace.GOLDEN)
}


def _fill(work, text):
    for name in (workspace.EVIDENCE, workspace.CANDIDATES, workspace.GOLDEN):
        (work / name).mkdir(exist_ok=True)
        (work / name / "file").write_text(text)


def _documents(text):
    names = (workspace.PLAN, workspace.REPORT, workspace.PAGE)
    return {name: text.encode() for name in names} | {workspace.RECIPE: to_bytes(RECIPE)}


def _state(folder):
    return {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file()
    }


def _run(folder, text):
    with workspace.workspace(folder) as work:
        _fill(work, text)
        workspace.commit(work, folder, _documents(text), NAMED)


def test_a_second_run_replaces_the_first(tmp_path):
    """Everything is the second run's, and nothing is left of the work."""
    folder = tmp_path / "out"
    _run(folder, "one")
    (folder / workspace.EVIDENCE / "old").write_text("old")

    _run(folder, "two")

    assert _state(folder)[workspace.REPORT] == b"two"
    assert sorted(path.name for path in folder.iterdir()) == sorted(
        [
            *(workspace.EVIDENCE, workspace.CANDIDATES, workspace.GOLDEN),
            *(workspace.RECIPE, workspace.PLAN, workspace.REPORT, workspace.PAGE),
        ]
    )
    assert not (folder / workspace.EVIDENCE / "old").exists()


def test_what_fails_leaves_everything_as_it_was(tmp_path):
    """Also an interrupt, which is no exception like others."""
    folder = tmp_path / "out"
    _run(folder, "one")
    before = _state(folder)
    for error in (ValueError, KeyboardInterrupt):
        with pytest.raises(error):
            _fail(folder, error)

        assert _state(folder) == before


def test_a_first_run_that_fails_leaves_no_folder(tmp_path):
    """Nothing was there, nothing is."""
    with pytest.raises(KeyboardInterrupt):
        _fail(tmp_path / "out", KeyboardInterrupt)

    assert list(tmp_path.iterdir()) == []


def test_files_of_others_stay(tmp_path):
    """A bundle that was packed into the folder survives the next run."""
    folder = tmp_path / "out"
    _run(folder, "one")
    (folder / "digits-1.ewb").write_text("bundle")

    _run(folder, "two")

    assert (folder / "digits-1.ewb").read_text() == "bundle"


def test_what_a_killed_run_left_is_swept(tmp_path):
    """Its work is removed by the next, which begins with an empty one."""
    folder = tmp_path / "out"
    (folder / ".work" / "candidates").mkdir(parents=True)

    _run(folder, "one")

    assert not (folder / ".work").exists()


def test_an_interrupt_waits_until_the_folder_is_whole(tmp_path):
    """Ctrl-C while files are moved: they are all moved, then it is heard."""
    folder = tmp_path / "out"

    def interrupted():
        with workspace.workspace(folder) as work:
            _fill(work, "one")
            with workspace._uninterrupted():
                os.kill(os.getpid(), signal.SIGINT)
                workspace.commit(work, folder, _documents("one"), NAMED)

    with pytest.raises(KeyboardInterrupt):
        interrupted()

    assert _state(folder)[workspace.REPORT] == b"one"
    assert not (folder / ".work").exists()


@pytest.mark.parametrize(
    "change",
    ["model_sha256", "reference_sha256", "data_sha256", "device"],
)
def test_other_inputs_need_force(tmp_path, change):
    """The input that differs is named; with force it is overwritten."""
    folder = tmp_path / "out"
    _run(folder, "one")
    other = {"device": "raspberry-pi-5"}.get(change, "sha256:" + "1" * 64)
    asked = _with(RECIPE, **{change: other})

    with pytest.raises(UsageError, match=change.removesuffix("_sha256")) as caught:
        workspace.check_free(folder, asked, force=False)

    assert "--force" in caught.value.hint
    workspace.check_free(folder, asked, force=True)


def test_the_same_inputs_under_another_contract_need_no_force(tmp_path):
    """Trying what a tighter limit does is the ordinary case."""
    folder = tmp_path / "out"
    _run(folder, "one")

    workspace.check_free(folder, _with(RECIPE, contract=Contract(file_bytes=7)), force=False)


def test_a_recipe_that_cannot_be_read_needs_force(tmp_path):
    """Whatever it was made from, it is not known to be the same."""
    folder = tmp_path / "out"
    _run(folder, "one")
    (folder / workspace.RECIPE).write_text("{")

    with pytest.raises(UsageError, match="other inputs"):
        workspace.check_free(folder, RECIPE, force=False)


@pytest.mark.parametrize("first", [None, "one", "two"], ids=["fresh", "other", "same"])
@pytest.mark.slow
def test_stopped_at_any_call_a_report_has_all_its_files(tmp_path, first):
    """For every n: what is there after call n fails is no report, or a whole one."""
    for at in range(1, 200):
        folder = tmp_path / str(at)
        if first is not None:
            _run(folder, first)
        work = tmp_path / f"{at}-work"
        work.mkdir()
        _fill(work, "two")
        try:
            with failing(folder, at, from_then_on=True) as calls:
                workspace.commit(work, folder, _documents("two"), NAMED)
        except StorageError:
            pass
        else:
            assert len(calls.names) < at
            break

        assert _whole(folder)
    assert at > 10


@pytest.mark.slow
def test_a_report_of_the_same_files_is_never_gone(tmp_path):
    """A better candidate beside the first: at no call is there a moment without a report."""
    for at in range(1, 200):
        folder = tmp_path / str(at)
        _run(folder, "one")
        work = tmp_path / f"{at}-work"
        work.mkdir()
        _fill(work, "one")
        more = f"{workspace.CANDIDATES}/more"
        (work / more).write_text("one")
        try:
            with failing(folder, at, from_then_on=True) as calls:
                workspace.commit(work, folder, _documents("one"), {*NAMED, more})
        except StorageError:
            assert (folder / workspace.REPORT).exists()
            assert _whole(folder)
        else:
            assert len(calls.names) < at
            break


@pytest.mark.parametrize("kind", [workspace.EVIDENCE, workspace.CANDIDATES])
def test_what_no_report_relies_on_is_not_taken_along(tmp_path, kind):
    """What a killed run measured of other inputs, or nobody asked, stays out of the folder."""
    folder = tmp_path / "out"
    with workspace.workspace(folder) as work:
        _fill(work, "one")
        (work / kind / "other").write_text("of other inputs")
        workspace.commit(work, folder, _documents("one"), NAMED)

    assert [path.name for path in (folder / kind).iterdir()] == ["file"]


@pytest.mark.parametrize(
    ("text", "finished"),
    [
        (None, False),
        ("{", False),
        ("[]", False),
        ("{}", False),
        ('{"stopped": ""}', False),
        ('{"stopped": "all were tried"}', True),
    ],
)
def test_a_search_that_goes_on_has_not_finished(tmp_path, text, finished):
    """Only a report that says why it stopped is kept until another run is done."""
    if text is not None:
        (tmp_path / workspace.REPORT).write_text(text)

    assert workspace.finished(tmp_path) is finished


def test_what_a_killed_run_measured_is_kept(tmp_path):
    """Its evidence is found by the next run, and nothing else of its work."""
    left = tmp_path / "out" / ".work"
    for name in (workspace.EVIDENCE, workspace.CANDIDATES):
        (left / name).mkdir(parents=True)
        (left / name / "file").write_text("before")

    with workspace.workspace(tmp_path / "out") as work:
        held = {path.relative_to(work).as_posix() for path in work.rglob("*")}

    assert held == {".keep", workspace.EVIDENCE, f"{workspace.EVIDENCE}/file"}


def test_a_file_is_no_folder(tmp_path):
    """Nothing is written over a file."""
    (tmp_path / "out").write_text("mine")

    with pytest.raises(UsageError, match="is a file"):
        workspace.check_free(tmp_path / "out", RECIPE, force=True)


@pytest.mark.parametrize("text", [None, "", "[]", "{}", '{"format": "x"}'])
def test_a_report_that_cannot_be_read_is_a_usage_error(tmp_path, text):
    """Missing, empty, or something else of the same name."""
    if text is not None:
        (tmp_path / workspace.REPORT).write_text(text)

    with pytest.raises(UsageError, match=r"report\.json"):
        workspace.read_report(tmp_path)


def _whole(folder):
    """Return whether every file is of the run that the report is of, or there is none."""
    state = _state(folder) if folder.exists() else {}
    said = state.get(workspace.REPORT)
    named = [f"{name}/file" for name in ("evidence", "candidates", "golden")]
    return said is None or all(state[name] == said for name in named)


def _fail(folder, error):
    with workspace.workspace(folder) as work:
        _fill(work, "half")
        raise error


def _with(recipe, **changes):
    return replace(recipe, **changes)
