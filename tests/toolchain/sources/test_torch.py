"""Models of torch: each form arrives and answers alike; what is wrong is named, never run."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import onnx
import pytest

from edgewright.core import digest
from edgewright.core.errors import DataError, ModelError, UsageError
from edgewright.toolchain.ir.answers import answers
from edgewright.toolchain.ir.axes import Axes, inputs_of
from edgewright.toolchain.ir.load import load
from edgewright.toolchain.sources import Wish, bring, parse_input

pytestmark = [pytest.mark.slow, pytest.mark.needs("torch")]

IMAGE = (parse_input("image:float32:-1x1x8x8"),)
IMAGES = np.random.default_rng(3).normal(size=(9, 1, 8, 8)).astype(np.float32)
_MADE_UP = "Parity was checked on made-up inputs"


def test_a_program_arrives_with_a_free_batch(here):
    """Real inputs, one row and several; the same answers as torch gives."""
    brought = bring("net.pt2", Wish(samples={"any": IMAGES}), here / "out")

    graph = load(brought.path)
    assert brought.kind == "torch-export"
    assert inputs_of(graph)[0].shape == ("batch", 1, 8, 8)
    assert brought.parity < 1e-5
    assert (brought.rows, brought.real) == (9, True)
    assert not [note for note in brought.notes if _MADE_UP in note]


def test_a_program_with_a_fixed_batch_stays_so(here):
    """It is said, with what would free it."""
    brought = bring("one.pt2", Wish(), here / "out")

    assert inputs_of(load(brought.path))[0].shape == (1, 1, 8, 8)
    assert any("fixed in the program" in note for note in brought.notes)
    assert any(_MADE_UP in note for note in brought.notes)


def test_a_program_for_a_few_rows_is_frozen_or_refused(here):
    """At most two are in its own bounds; the remedy of the refusal works."""
    with pytest.raises(ModelError, match=r"cannot answer image \[3, 1, 8, 8\]") as caught:
        bring("few.pt2", Wish(), here / "out")
    brought = bring("few.pt2", Wish(freeze={"batch": 1}), here / "out")

    assert "--freeze batch=1" in caught.value.hint
    assert inputs_of(load(brought.path))[0].shape == (1, 1, 8, 8)


@pytest.mark.parametrize("weights", ["net.safetensors", "checkpoint.pt"])
def test_a_factory_with_its_weights(here, weights):
    """It answers with the weights of the file, and both make the digest of the source."""
    images, told = np.load("images.npy"), np.load("told.npy")

    brought = bring(
        "nets:Net", Wish(weights=Path(weights), samples={"image": images}), here / "out"
    )

    parts = "\n".join(f"{name} {digest.of_file(here / name)}" for name in ("nets.py", weights))
    assert inputs_of(load(brought.path)) == (Axes("image", "float32", ("batch", 1, 8, 8)),)
    np.testing.assert_allclose(
        answers(brought.path, [{"image": images}])[0][0], told, atol=1e-5
    )
    assert brought.sha256 == digest.of_bytes(parts.encode())


@pytest.mark.parametrize(
    ("weights", "match"),
    [
        ("narrow.safetensors", "'conv.weight' is 2x1x3x3 in narrow.safetensors and 4x1x3x3"),
        ("less.safetensors", "has no weight 'head.bias' of the model"),
        ("more.safetensors", "holds weight 'extra', which the model has not"),
    ],
)
def test_weights_that_do_not_fit_are_refused(here, weights, match):
    """The tensor is named, with both shapes where they differ."""
    with pytest.raises(ModelError, match=match):
        bring("nets:Net", Wish(weights=Path(weights), inputs=IMAGE), here / "out")


def test_torchscript_arrives_and_its_end_is_said(here):
    """One exporter still takes it; the note says what to do instead."""
    brought = bring("script.pt", Wish(samples={"image": IMAGES}), here / "out")

    assert brought.kind == "torchscript"
    assert brought.parity < 1e-5
    assert any("TorchScript is deprecated" in note for note in brought.notes)
    assert inputs_of(load(brought.path))[0].shape == ("batch", 1, 8, 8)


# --- pickles


@pytest.mark.parametrize(
    ("model", "wish"),
    [
        ("evil.pt2", Wish()),
        ("nets:Net", Wish(weights=Path("evil.pt"), inputs=IMAGE)),
        ("evil.pt", Wish(inputs=IMAGE)),
    ],
    ids=["program", "weights", "module"],
)
def test_a_planted_command_is_named_and_does_not_run(here, model, wish):
    """By reading the file: no process with torch in it is even started."""
    with pytest.raises(ModelError, match=r"would run what it names: .*system") as caught:
        bring(model, wish, here / "out")

    assert "--trust-pickle" in caught.value.hint
    assert not (here / "RAN").exists()


def test_a_planted_command_runs_when_trusted(here):
    """The refusals above refuse something real."""
    wish = Wish(weights=Path("evil.pt"), inputs=IMAGE, trust_pickle=True)

    with pytest.raises(ModelError, match="no table of tensors"):
        bring("nets:Net", wish, here / "out")

    assert (here / "RAN").exists()


@pytest.mark.parametrize("told", [{}, {"TORCH_FORCE_WEIGHTS_ONLY_LOAD": "1"}], ids=str)
@pytest.mark.parametrize("kind", ["torch-export", "torch-pickle"])
def test_the_process_itself_runs_no_pickle(here, kind, told):
    """Where the look at the file missed something, loading it still imports nothing.

    Also where torch was not told: it unpickles in places whatever it is asked for.
    """
    model = {"torch-export": "evil.pt2", "torch-pickle": "evil.pt"}[kind]
    request = {
        "do": "convert", "kind": kind, "model": model, "weights": None, "freeze": {},
        "inputs": [["image", "float32", ["batch", 1, 8, 8]]], "opset": None,
        "trust_pickle": False, "samples": None, "sample_names": [], "folder": str(here),
    }  # fmt: skip

    done = subprocess.run(
        [sys.executable, "-P", "-m", "edgewright.toolchain.sources.torch.child"],
        input=json.dumps(request) + "\n",
        env={**os.environ, **told},
        capture_output=True,
        text=True,
        check=True,
    )

    assert "error" in json.loads(done.stdout)
    assert not (here / "RAN").exists()


def test_a_whole_module_is_loaded_only_when_trusted(here):
    """Without it the classes it would import are named; with it there is a note.

    The opset is the one that was asked for.
    """
    with pytest.raises(ModelError, match=r"would run what it names: nets\.Net"):
        bring("whole.pt", Wish(inputs=IMAGE), here / "out")
    brought = bring("whole.pt", Wish(inputs=IMAGE, trust_pickle=True, opset=18), here / "out")

    assert load(brought.path).opset == 18
    assert any("unpickled, as asked" in note for note in brought.notes)


def test_weights_alone_are_no_model(here):
    """The remedy names the file."""
    with pytest.raises(ModelError, match="weights without the model") as caught:
        bring("net.pt", Wish(inputs=IMAGE), here / "out")

    assert "--weights net.pt" in caught.value.hint


# --- axes and answers


def test_a_batch_that_was_fixed_without_a_word_is_caught(here):
    """The axis is named, what each exporter did, and the remedy, which works."""
    with pytest.raises(
        ModelError, match=r"fixed axis 0 \('batch'\) of input 'image'"
    ) as error:
        bring("nets:Special", Wish(inputs=IMAGE), here / "out")

    brought = bring("nets:Special", Wish(inputs=IMAGE, freeze={"batch": 1}), here / "out")
    assert "--freeze batch=1" in error.value.hint
    assert "TorchScript" in str(error.value)
    assert inputs_of(load(brought.path))[0].shape == (1, 1, 8, 8)


def test_an_answer_that_hangs_on_the_batch_is_caught(here):
    """Alike for one row and not for three is not alike."""
    with pytest.raises(ModelError, match="of the largest answer away from its source"):
        bring("nets:Branch", Wish(inputs=IMAGE), here / "out")


def test_a_model_that_takes_one_row_says_so_itself(here):
    """No exporter is blamed for what the module cannot do."""
    with pytest.raises(ModelError, match=r"cannot answer image \[3, 1, 8, 8\]") as caught:
        bring("nets:Fixed", Wish(inputs=IMAGE), here / "out")

    assert "--freeze batch=1" in caught.value.hint


def test_the_next_exporter_is_tried_and_it_is_said_why(here):
    """Which one won, and what was wrong with the one before."""
    brought = bring("nets:Asks", Wish(inputs=IMAGE), here / "out")

    assert "TorchScript" in brought.exporter
    assert any("(torch.export) was tried first: " in note for note in brought.notes)


def test_an_output_called_like_what_is_inside_is_told(here):
    """An exporter gives two tensors one name then; both are told, and another is tried."""
    words = (parse_input("words:int64:-1x6"),)

    brought = bring("nets:Namesake", Wish(inputs=words), here / "out")

    (note,) = (note for note in brought.notes if "was tried first" in note)
    assert "'embedding' is the name of what Gather" in note
    assert [spec.name for spec in load(brought.path).outputs] == ["embedding"]


def test_axes_with_one_name_have_one_size(here):
    """Two inputs, a free axis in common, frozen by its name; outputs keep their names."""
    inputs = tuple(map(parse_input, ("left:float32:batchxseq", "right:float32:batchxseq")))

    kept = bring("nets:Pair", Wish(inputs=inputs, keep_dynamic=True), here / "kept")
    fixed = bring("nets:Pair", Wish(inputs=inputs, freeze={"seq": 6}), here / "fixed")

    assert [one.shape for one in inputs_of(load(kept.path))] == [("batch", "seq")] * 2
    assert [one.shape for one in inputs_of(load(fixed.path))] == [("batch", 6)] * 2
    assert [spec.name for spec in load(fixed.path).outputs] == ["sum", "mean"]


def test_no_trace_of_this_machine_is_in_the_file(here):
    """Torch writes stack traces with paths of the code; what user code prints is a log."""
    brought = bring("nets:wordy", Wish(inputs=IMAGE), here / "out")

    data = brought.path.read_bytes()
    assert str(here).encode() not in data
    assert b"nets.py" not in data
    assert b"site-packages" not in data
    assert not onnx.load(brought.path).metadata_props


# --- the process


@pytest.mark.parametrize(
    ("model", "match"),
    [
        ("nets:crash", "process ended .exit 3"),
        ("nets:nobody", "nets:nobody makes no module: AttributeError"),
        ("nowhere.at.all:make", "No module named 'nowhere'"),
        ("nets:wants", "makes no module: TypeError"),
        ("nets:text", "gives a str, not a torch.nn.Module"),
    ],
)
def test_a_factory_that_fails_is_an_error_of_ours(here, model, match):
    """With what it said, also where it took the process with it."""
    with pytest.raises(ModelError, match=match):
        bring(model, Wish(inputs=IMAGE), here / "out")


def test_samples_of_another_shape_are_refused(here):
    """Both shapes are named."""
    with pytest.raises(DataError, match="axis 3 of the samples for 'image' is 7"):
        bring("nets:Net", Wish(inputs=IMAGE, samples={"image": IMAGES[..., :7]}), here / "out")


def test_a_process_that_takes_too_long_is_ended(here):
    """With the time it had; nothing of it is left."""
    with pytest.raises(ModelError, match="was ended after 12 s"):
        bring("nets:sleep", Wish(inputs=IMAGE, timeout_s=12), here / "out")

    assert not _lives(int((here / "asleep").read_text()))


def test_an_interrupt_ends_the_process_too(here):
    """Exit code 130, and nobody goes on in the background."""
    words = ("import", "nets:sleep", "--input", "image:float32:-1x1x8x8")
    running = subprocess.Popen(
        [sys.executable, "-m", "edgewright.cli.main", *words], stderr=subprocess.PIPE
    )
    asleep = here / "asleep"
    deadline = time.monotonic() + 60
    while not (asleep.exists() and asleep.read_text()) and time.monotonic() < deadline:
        time.sleep(0.1)

    running.send_signal(signal.SIGINT)
    _, said = running.communicate(timeout=30)

    assert running.returncode == 130
    assert b"interrupted" in said
    assert not _lives(int(asleep.read_text()))


def test_inputs_have_to_be_known(here):
    """Neither --input nor samples: nothing is guessed."""
    with pytest.raises(UsageError, match="does not say what it is fed"):
        bring("nets:Net", Wish(), here / "out")


def _lives(pid):
    deadline = time.monotonic() + 5
    while Path(f"/proc/{pid}").exists() and time.monotonic() < deadline:
        time.sleep(0.05)
    return Path(f"/proc/{pid}").exists()
