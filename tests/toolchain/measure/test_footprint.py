"""footprint: fresh processes, honest peaks, and an error that says what they said."""

import json
import subprocess
import sys
import time

import pytest
from tests.sim.models import quarters, write_model

from edgewright.core.errors import EngineError
from edgewright.toolchain.measure import footprint
from edgewright.toolchain.measure.sizes import file_bytes

pytestmark = pytest.mark.slow


def test_a_model_is_weighed_in_processes_of_its_own(tmp_path):
    """Tens of megabytes and some hundred milliseconds, with the spread as bounds."""
    path = write_model(tmp_path / "m.onnx")

    memory, first = footprint.measure(
        {"m": path}, engine="onnxruntime", machine="here", runs=2
    )["m"]

    assert (memory.name, first.name) == ("peak_memory_bytes", "first_answer_ms")
    assert 20e6 < memory.lower <= memory.value == memory.upper < 300e6
    assert 10 < first.lower <= first.value <= first.upper < 60_000
    assert memory.n == first.n == 2


def test_a_larger_model_weighs_more(tmp_path):
    """Thirty megabytes of weights are seen in the peak."""
    small = write_model(tmp_path / "small.onnx")
    large = write_model(tmp_path / "large.onnx", quarters(hidden=16_000))

    found = footprint.measure(
        {"small": small, "large": large}, engine="onnxruntime", machine="here", runs=1
    )

    assert found["large"][0].value - found["small"][0].value > 20e6


def test_what_the_process_said_is_in_the_error(tmp_path):
    """A file the engine refuses."""
    (tmp_path / "m.onnx").write_bytes(b"no model")

    with pytest.raises(EngineError, match=r"exit 1.*m\.onnx cannot be loaded"):
        footprint.measure(
            {"m": tmp_path / "m.onnx"}, engine="onnxruntime", machine="here", runs=1
        )


def test_the_process_carries_nothing_of_the_toolchain(tmp_path):
    """What it weighs is what a device would carry: no onnx, no quantizer, no pages."""
    path = write_model(tmp_path / "m.onnx")
    code = (
        "import sys, json; from edgewright.toolchain.measure import process\n"
        f"process.main({str(path)!r}, 'onnxruntime', '{time.monotonic_ns()}')\n"
        "print(json.dumps(sorted(sys.modules)))"
    )

    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    )

    result, loaded = map(json.loads, done.stdout.splitlines())
    heavy = {"onnx", "onnx_ir", "rich", "tuf", "cryptography", "sqlalchemy", "starlette"}
    assert result["first_answer_us"] > 0
    assert not heavy & set(loaded)


def test_the_size_is_that_of_all_files(tmp_path):
    """Exact, and the same on every machine."""
    (tmp_path / "model.onnx").write_bytes(bytes(100))
    (tmp_path / "weights.bin").write_bytes(bytes(2000))

    size = file_bytes(tmp_path, "here")

    assert (size.value, size.method, size.how) == (2100, "parsed", "model.onnx + weights.bin")
    assert size.lower == size.upper == 2100
