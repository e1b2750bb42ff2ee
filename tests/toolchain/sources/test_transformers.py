"""A folder of transformers': text arrives with batch and sequence free; no code of its own."""

import json
import subprocess
import sys

import numpy as np
import pytest

from edgewright.core.errors import ModelError
from edgewright.toolchain.ir.axes import inputs_of
from edgewright.toolchain.ir.load import load
from edgewright.toolchain.sources import Wish, bring

pytestmark = [pytest.mark.slow, pytest.mark.needs("transformers")]

_WRITE = """
from transformers import BertConfig, BertForSequenceClassification
config = BertConfig(
    vocab_size=50, hidden_size=16, num_hidden_layers=1, num_attention_heads=2,
    intermediate_size=32, max_position_embeddings=64, num_labels=3)
BertForSequenceClassification(config).save_pretrained("bert")
"""


@pytest.fixture(scope="module")
def bert(tmp_path_factory):
    """Return a folder with a tiny classifier of random weights."""
    place = tmp_path_factory.mktemp("transformers")
    subprocess.run(
        [sys.executable, "-W", "ignore", "-c", _WRITE],
        cwd=place,
        check=True,
        capture_output=True,
    )
    return place / "bert"


def test_text_arrives_with_batch_and_sequence_free(bert, tmp_path):
    """The head the config names, its inputs by name, real ones with padding."""
    draw = np.random.default_rng(0)
    ids = draw.integers(0, 50, size=(6, 9))
    mask = np.ones_like(ids)
    mask[2:, 6:] = 0
    kinds = np.zeros_like(ids)

    brought = bring(
        str(bert),
        Wish(samples={"token_type_ids": kinds, "attention_mask": mask, "input_ids": ids}),
        tmp_path,
    )

    graph = load(brought.path)
    assert [one.name for one in inputs_of(graph)] == [
        "input_ids", "attention_mask", "token_type_ids",
    ]  # fmt: skip
    assert {one.shape for one in inputs_of(graph)} == {("batch", "sequence")}
    assert [spec.name for spec in graph.outputs] == ["logits"]
    assert brought.parity < 1e-5
    assert brought.real


def test_batch_and_sequence_are_frozen_on_request(bert, tmp_path):
    """As a device with one size would want it."""
    brought = bring(str(bert), Wish(freeze={"batch": 1, "sequence": 16}), tmp_path)

    assert {one.shape for one in inputs_of(load(brought.path))} == {(1, 16)}


def test_code_of_its_own_is_never_run(bert, tmp_path):
    """A config that names some is refused, and the way to name it oneself is told."""
    folder = tmp_path / "bert"
    folder.mkdir()
    for path in bert.iterdir():
        (folder / path.name).write_bytes(path.read_bytes())
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(
        json.dumps({**config, "auto_map": {"AutoModel": "evil.Model"}})
    )
    (folder / "evil.py").write_text("open('RAN', 'w')")

    with pytest.raises(ModelError, match="brings code of its own") as caught:
        bring(str(folder), Wish(), tmp_path)

    assert "package.module:callable" in caught.value.hint
    assert not (folder / "RAN").exists()


def test_weights_in_a_pickle_are_not_read(bert, tmp_path):
    """A folder without safetensors is refused, whatever else it holds."""
    folder = tmp_path / "bert"
    folder.mkdir()
    (folder / "config.json").write_bytes((bert / "config.json").read_bytes())
    (folder / "pytorch_model.bin").write_bytes(b"\x80\x02.")

    with pytest.raises(ModelError, match=r"no \.safetensors weights"):
        bring(str(folder), Wish(), tmp_path)
