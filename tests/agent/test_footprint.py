"""What the resident process really loads, and what it weighs while a worker serves."""

import json
import subprocess
import sys
import textwrap

import pytest
from tests.sim.control_plane import device_toml

# The budget of the one process that never ends.
MAX_RESIDENT_BYTES = 25 << 20

PROGRAM = textwrap.dedent(
    """
    import json, sys, time
    from pathlib import Path
    from edgewright.agent import Home, load_config
    from edgewright.agent import main
    from edgewright.agent.supervisor import Supervisor
    from edgewright.core import process
    from edgewright.core.clock import SystemClock

    home, config = Home(Path(sys.argv[1])), Path(sys.argv[2])
    supervisor = Supervisor(home, load_config(config), config, SystemClock())
    end = time.monotonic() + 60
    settled = []

    def over():
        status = json.loads(home.status.read_text()) if home.status.exists() else {}
        if status.get("active") or status.get("bad"):
            settled.append(1)
        return len(settled) > 10 or time.monotonic() > end

    supervisor.run(over)
    status = json.loads(home.status.read_text())
    print(json.dumps({
        "modules": sorted(sys.modules),
        "resident": process.resident_bytes(),
        "active": status["active"],
        "peak": process.peak_bytes(),
    }))
    supervisor.close()
    """
)


@pytest.mark.slow
def test_the_supervisor_is_small_and_knows_no_network(plane, bundles, tmp_path):
    """Through a whole update: no network, no cryptography, no numpy; at most 25 MiB."""
    target = plane.publish(bundles["silent"])
    plane.roll_out(target)
    config = device_toml(plane, tmp_path / "device.toml")

    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, tmp_path / "home", config],
        capture_output=True,
        text=True,
        check=True,
    )

    found = json.loads(done.stdout)
    forbidden = {
        "ssl", "http", "hashlib", "numpy", "cryptography", "tuf", "zstandard", "onnxruntime",
        "edgewright.runtime", "edgewright.monitor", "edgewright.wire.http",
        "edgewright.bundle.trust", "edgewright.bundle.install", "edgewright.bundle.archive",
    }  # fmt: skip
    assert not forbidden & set(found["modules"])
    assert plane.device.feedback()[-1] == ("reverted", target.release)
    assert found["resident"] <= MAX_RESIDENT_BYTES
    assert found["peak"] <= MAX_RESIDENT_BYTES
