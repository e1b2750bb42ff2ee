"""The same inputs give the same bytes: whatever the threads, the seeds and the batches."""

import json
import os
import subprocess
import sys

import pytest

ASKED = """
import json, sys
import numpy as np
import onnxruntime
from edgewright.toolchain.ir.load import load
from edgewright.toolchain.ir.samples import Samples
from edgewright.toolchain.techniques import load_technique

threads, path = int(sys.argv[1]), sys.argv[2]
options = onnxruntime.SessionOptions

class Threaded(options):
    def __init__(self):
        super().__init__()
        self.intra_op_num_threads = threads

onnxruntime.SessionOptions = Threaded
np.random.seed(threads)
from benchmarks.suite import ROWS

row = next(row for row in ROWS if row.name == path)
samples = Samples(dict(row.samples("calibrate").inputs))[:70]
graph = load_technique("fuse").apply(load(row.model), {}).graph
found = {}
for name, settings in (
    ("quantize", {"ranges": "mse", "rounding": "learned", "bias": "correct"}),
    ("dynamic", {"rounding": "learned"}),
    ("smooth", {}),
    ("equalise", {}),
    ("weights", {"form": "int4", "rounding": "learned"}),
):
    found[name] = load_technique(name).apply(graph, settings, samples).graph.digest
print(json.dumps(found))
"""


@pytest.mark.slow
@pytest.mark.parametrize("model", ["mlp", "lenet", "transformer"])
def test_threads_decide_no_byte(model):
    """One thread or several, in the engine and in numpy, with another seed of numpy's."""
    told = [_digests(threads, model) for threads in (1, 3)]

    assert len(told[0]) == 5
    assert told[0] == told[1]


def _digests(threads, model):
    counts = {f"{name}_NUM_THREADS": str(threads) for name in ("OPENBLAS", "OMP", "MKL")}
    done = subprocess.run(
        [sys.executable, "-c", ASKED, str(threads), model],
        capture_output=True,
        text=True,
        check=True,
        env={**os.environ, **counts, "PYTHONHASHSEED": str(threads)},
    )
    return json.loads(done.stdout.splitlines()[-1])
