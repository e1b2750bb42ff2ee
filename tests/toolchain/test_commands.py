"""optimize, bench, report, pack and devices as they are typed."""

import json

import pytest
from tests.sim.models import write_data, write_model

from edgewright.cli import main
from edgewright.toolchain.pack import Wish, pack

pytestmark = pytest.mark.slow


@pytest.fixture
def run(capsys):
    """Return a function that runs one command: exit code, standard output, standard error."""

    def run(*argv):
        code = main.main([str(word) for word in argv])
        return code, *capsys.readouterr()

    return run


def test_devices_are_listed_with_their_class(run):
    """Every kind of device, as text and as one document."""
    code, text, _ = run("devices", "list")
    _, document, _ = run("devices", "list", "--json")

    kinds = json.loads(document)
    assert code == 0
    assert kinds["raspberry-pi-5"]["resource_class"] == "high"
    assert all(name in text for name in kinds)


def test_every_figure_of_a_device_has_its_source(run):
    """Shown below it."""
    _, text, _ = run("devices", "show", "jetson-orin-nano")
    _, document, _ = run("devices", "show", "jetson-orin-nano", "--json")

    sources = json.loads(document)["sources"]
    assert text.count(" from ") >= len(sources)
    assert json.loads(document)["tops_int8_milli"] == 40_000
    assert "40 TOPS int8" in text


def test_this_machine_can_be_probed(run):
    """``probe`` and ``show host`` are the same."""
    _, first, _ = run("devices", "probe", "--json")
    _, second, _ = run("devices", "show", "host", "--json")

    assert json.loads(first) == json.loads(second)
    assert json.loads(first)["cores"] >= 1


def test_an_unknown_device_is_a_usage_error(run):
    """Exit 2, and the nearest name."""
    code, _, said = run("devices", "show", "raspbery-pi-5")

    assert code == 2
    assert "raspberry-pi-5" in said


def test_a_dry_run_does_nothing(run, made, tmp_path):
    """The plan with its reasons; no folder."""
    order, _, _ = made
    out = tmp_path / "out"
    words = ("optimize", order.model, "--data", order.data, "-o", out, "--dry-run")

    code, text, _ = run(*words)
    _, document, _ = run(*words, "--json")

    plan = json.loads(document)["plan"]
    assert code == 0
    assert "nothing was done" in text
    assert plan["candidates"][0]["name"] == "float"
    assert "which ships: the one with the least bytes times latency" in text
    assert not out.exists()


@pytest.mark.parametrize(
    ("asked", "rule"),
    [
        (
            ("--accuracy-drop", "1"),
            "nothing limits bytes or speed, so candidates are asked in",
        ),
        (("--max-size", "1MB"), "the first candidate that holds the contract ships"),
        (("--accuracy-drop", "1", "--goal", "size"), "the smallest that holds"),
    ],
)
def test_a_dry_run_says_what_would_ship(run, made, tmp_path, asked, rule):
    """By what is asked: answers alone, a quantity, a goal."""
    order, _, _ = made
    words = ("optimize", order.model, "--data", order.data, "-o", tmp_path / "out", *asked)

    _, text, _ = run(*words, "--dry-run")

    assert f"which ships: {rule}" in text


def test_optimize_prints_a_summary_or_one_document(run, made, folder):
    """People get a table and the reasons, programs the whole report."""
    order, report, _ = made
    words = (
        "optimize", order.model, "--data", order.data, "-o", folder, "--allow-slower",
        "--accuracy-drop", "2", "--worst-class-drop", "6", "--max-size", "60KB",
        "--max-latency", "200ms", "--goal", "size",
    )  # fmt: skip

    code, text, said = run(*words)
    _, document, silent = run(*words, "--json")

    assert code == 0
    assert f"*  {report.chosen}" in text
    assert "measure: latency of int8-per-tensor, from stored evidence" in said
    assert json.loads(document)["chosen"] == report.chosen
    assert json.loads(document)["recipe"]["contract"] == {
        "accuracy_drop_bp": 200, "worst_class_drop_bp": 600, "min_retention_bp": 9500,
        "file_bytes": 60_000, "p99_us": 200_000,
    }  # fmt: skip
    assert silent == ""


def test_events_are_json_lines(run, made, folder):
    """One object a line, the last one says how it ended."""
    order, report, _ = made

    code, text, _ = run(
        "optimize", order.model, "--data", order.data, "-o", folder, "--allow-slower",
        "--accuracy-drop", "2", "--worst-class-drop", "6", "--goal", "size", "--events",
    )  # fmt: skip

    lines = [json.loads(line) for line in text.splitlines()]
    assert code == 0
    assert lines[-1] == {
        "event": "done", "outcome": "pass", "chosen": report.chosen, "folder": str(folder),
    }  # fmt: skip
    assert {line["event"] for line in lines} <= {"stage", "candidate", "left_out", "done"}


def test_events_say_how_far_it_is(made):
    """A candidate is told when it is judged and again at the end; stages know their place."""
    _, report, events = made
    told = [event.fields for event in events if event.kind == "candidate"]
    first = next(n for n, event in enumerate(events) if event.kind == "candidate")
    stages = [event.fields for event in events if event.kind == "stage"]
    placed = [fields for fields in stages if "index" in fields]
    names = [one.name for one in report.candidates]

    assert [one["name"] for one in told if one["provisional"]] == names
    assert [one["name"] for one in told if not one["provisional"]] == names
    assert any(event.kind == "stage" for event in events[first:])
    assert told[-1]["best"] == report.chosen
    assert sorted(one["elapsed_ms"] for one in stages) == [one["elapsed_ms"] for one in stages]
    assert [one["index"] for one in placed] == sorted(one["index"] for one in placed)
    assert placed[0]["index"] == 1
    assert placed[-1]["index"] == placed[-1]["count"]
    assert "eta_ms" not in placed[0]
    assert placed[-1]["eta_ms"] >= 0


def test_a_contract_that_is_missed_still_shows_the_table(run, made, folder):
    """Exit 3, the table on standard output, the reason and the remedy on standard error."""
    order, _, _ = made
    words = (
        "optimize", order.model, "--data", order.data, "-o", folder, "--allow-slower",
        "--accuracy-drop", "2", "--worst-class-drop", "6", "--max-size", "1KB",
    )  # fmt: skip

    code, text, said = run(*words)
    again, document, _ = run(*words, "--json")

    assert code == again == 3
    assert "No candidate ships" in text
    assert "no candidate meets the contract" in said
    assert "would meet file_bytes = " in said
    assert json.loads(document)["error"]["code"] == "contract_error"


def test_the_project_file_gives_what_flags_do_not(run, made, tmp_path, monkeypatch):
    """Paths beside it, its contract, its wish; a flag overrides one limit of it."""
    order, _, _ = made
    (tmp_path / "edgewright.toml").write_text(
        f'[data]\npath = "{order.data}"\n[contract]\naccuracy_drop_points = 2.0\n'
        'worst_class_drop_points = 6.0\nfile_bytes = 10\n[recipe]\nquantization = "none"\n'
    )
    monkeypatch.chdir(tmp_path)

    _, document, _ = run("optimize", order.model, "--max-size", "1MB", "--dry-run", "--json")

    recipe = json.loads(document)["recipe"]
    assert recipe["contract"]["file_bytes"] == 10**6
    assert recipe["contract"]["accuracy_drop_bp"] == 200
    assert recipe["quantization"] == "none"
    assert json.loads(document)["folder"] == "out/quarters"


@pytest.mark.parametrize(
    ("words", "match"),
    [
        ((), "no data"),
        (("--events", "--json"), "cannot be printed at once"),
        (("--data", "d.npz", "--max-size", "ten"), "is not bytes"),
        (("--data", "d.npz", "--accuracy-drop", "101"), "must be 0 to 10000"),
        (("--data", "d.npz", "--device", "toaster"), "no device 'toaster'"),
        (("--project", "gone.toml"), "no configuration file"),
    ],
)
def test_what_means_nothing_is_a_usage_error(  # noqa: PLR0917  fixtures and a table
    run, made, tmp_path, monkeypatch, words, match
):
    """Exit 2 before anything is read or made."""
    order, _, _ = made
    monkeypatch.chdir(tmp_path)

    code, out, said = run("optimize", order.model, *words)

    assert code == 2
    assert match in said + out
    assert list(tmp_path.iterdir()) == []


def test_the_report_is_written_anew(run, folder):
    """From ``report.json``: the page that was lost is the same again."""
    page = (folder / "report.html").read_bytes()
    (folder / "report.html").unlink()

    code, text, _ = run("report", folder)
    _, document, _ = run("report", folder, "--json")

    assert code == 0
    assert (folder / "report.html").read_bytes() == page
    assert "the contract, and " in text
    assert json.loads(document) == json.loads((folder / "report.json").read_text())


def test_pack_prints_what_it_made(run, folder, tmp_path):
    """The digest and the sizes, and where it is."""
    words = ("pack", folder, "--name", "quarters", "--version", "2", "-o", tmp_path / "q.ewb")

    code, text, _ = run(*words)
    _, document, _ = run(*words, "--json")

    found = json.loads(document)
    assert code == 0
    assert found["release"] == "quarters@2"
    assert found["digest"] in text
    assert found["transport_bytes"] == (tmp_path / "q.ewb").stat().st_size
    assert found["overrides"] == []


def test_bench_measures_a_folder_against_its_float(run, made, folder, tmp_path):
    """A folder, a bundle and a bare model, with bounds and the ratio."""
    order, report, _ = made
    bundle = pack(folder, tmp_path / "q.ewb", Wish("quarters", 1)).path

    code, text, _ = run("bench", folder, "--seconds", "0.2")
    _, document, _ = run(
        "bench", bundle, "--against", order.model, "--seconds", "0.2", "--json"
    )

    found = json.loads(document)
    names = [one["name"] for one in found["models"]]
    figures = {e["name"] for e in found["models"][0]["evidence"]}
    assert code == 0
    assert f"quarters {report.chosen}" in text
    assert "quarters float" in text
    assert names == [f"quarters@1 {report.chosen}", "quarters"]
    assert {"p50_us", "p95_us", "p99_us", "peak_memory_bytes", "first_answer_ms"} <= figures
    assert found["models"][0]["file_bytes"] == report.shipped.file_bytes


def test_bench_of_one_model_twice_names_both(run, made):
    """The same file against itself is measured once; two of one name are numbered."""
    order, _, _ = made

    _, document, _ = run(
        "bench", order.model, "--against", order.model, "--seconds", "0.1", "--json"
    )

    assert [one["name"] for one in json.loads(document)["models"]] == ["quarters"]


@pytest.mark.parametrize(
    ("words", "match"),
    [
        (("gone.onnx",), "is no model, bundle, slot or optimised folder"),
        (("{model}", "--seconds", "0"), "must be more than 0"),
    ],
)
def test_bench_refuses_what_it_cannot_measure(run, made, words, match):
    """Exit 2."""
    order, _, _ = made

    code, _, said = run("bench", *(word.format(model=order.model) for word in words))

    assert code == 2
    assert match in said


@pytest.mark.parametrize("flags", [["--batch-size", "1"], ["--freeze", "batch=1"]])
def test_a_batch_of_one_is_frozen_and_proven(run, tmp_path, flags):
    """The model is brought in with its batch fixed; the report says how it compares."""
    model, data = write_model(tmp_path / "m.onnx"), write_data(tmp_path / "d.npz")

    code, text, _ = run(
        "optimize", model, "--data", data, *flags, "--quantization", "fp16", "--json",
        "-o", tmp_path / "out", "--allow-slower", "--accuracy-drop", "2",
        "--worst-class-drop", "6",
    )  # fmt: skip

    report = json.loads(text)
    assert code == 0
    assert report["inputs"][0]["shape"][0] == 1
    assert "within 0.0e+00 of its source" in report["brought"][0]


def test_a_larger_batch_is_refused(run, tmp_path):
    """A device answers one sample at a time."""
    code, _, said = run(
        "optimize", write_model(tmp_path / "m.onnx"), "--data", "d.npz", "--batch-size", "8"
    )

    assert code == 2
    assert "a batch of 8 cannot be proven" in said
