"""Nothing we run tells anybody but the user's own fleet about itself."""

import os
import subprocess
import sys

import pytest
from tests.sim.models import write_model

# Whatever imports the engine's library, in the way its processes begin.
IMPORTS = [
    "edgewright.runtime.engines.onnxruntime",
    "edgewright.runtime.worker",
    "edgewright.toolchain.ir.ort",
    "edgewright.toolchain.measure.process",
    "edgewright.toolchain.recipe",
    "edgewright.toolchain.sources",
]


@pytest.mark.parametrize("module", IMPORTS)
def test_an_import_writes_nothing_into_the_home(module, tmp_path):
    """No device id and no database of events, which is where telemetry would begin."""
    _python(f"import {module}, edgewright.runtime.engines.onnxruntime", tmp_path)

    assert list(tmp_path.rglob("*")) == []


def test_an_answer_writes_nothing_into_the_home(tmp_path):
    """Loading and running a model neither."""
    home = tmp_path / "home"
    home.mkdir()
    model = write_model(tmp_path / "m.onnx")

    _python(
        "from pathlib import Path\n"
        "from edgewright.runtime.engines import load_engine\n"
        "engine = load_engine('onnxruntime')\n"
        f"session = engine.load(Path({str(model)!r}))\n"
        "image = engine.array(bytes(64), 'uint8', (1, 1, 8, 8))\n"
        "session.run({'image': image})",
        home,
    )

    assert list(home.rglob("*")) == []


def test_who_wants_telemetry_says_so(tmp_path):
    """A variable that is set already is left as it is."""
    said = _python(
        "import edgewright, os; print(os.environ['ORT_DISABLE_TELEMETRY'])",
        tmp_path,
        ORT_DISABLE_TELEMETRY="0",
    )

    assert said.strip() == "0"


def _python(code, home, **more):
    env = {k: v for k, v in os.environ.items() if k != "ORT_DISABLE_TELEMETRY"}
    places = {"HOME": str(home), "XDG_CACHE_HOME": str(home), "XDG_DATA_HOME": str(home)}
    done = subprocess.run(
        [sys.executable, "-c", code],
        env={**env, **places, **more},
        capture_output=True,
        text=True,
        check=True,
    )
    return done.stdout
