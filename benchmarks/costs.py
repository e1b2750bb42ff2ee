"""Fit the prices of the cost model on this machine, and find out how wrong it is.

``python -m benchmarks.costs`` measures the suite's models as floats and in 8 bits, prices
each model by a fit to all others, and writes how far off it was. ``--fit`` prints prices
fitted to all, to be carried into ``toolchain/costs/prices.py``.
"""

import argparse
import json
import subprocess
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory

import numpy as np
import numpy.typing as npt
from benchmarks.suite import ROWS

from edgewright.core import probe
from edgewright.core.errors import QuantizeError
from edgewright.core.profile import DeviceProfile
from edgewright.runtime.engines import load_engine
from edgewright.toolchain.costs import KINDS, Work, cycles, priced, work_of
from edgewright.toolchain.costs.prices import lanes_of
from edgewright.toolchain.ir.load import load
from edgewright.toolchain.ir.samples import Samples
from edgewright.toolchain.measure import latency
from edgewright.toolchain.targets import load_target
from edgewright.toolchain.techniques import load_technique

RESULTS = Path(__file__).parent / "results" / "costs.json"
_WAYS = {"float": (), "static": ("quantize",), "dynamic": ("dynamic",)}

Measured = list[tuple[str, Work, float]]


def main() -> int:
    """Measure, fit, tell."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--fit", action="store_true", help="print prices fitted to all")
    parser.add_argument("--quick", action="store_true", help="measure shorter")
    args = parser.parse_args()
    machine = probe.probe()
    measured = _measure(1.0 if args.quick else 4.0)
    if args.fit:
        prices = _fit(measured, machine)
        print(json.dumps(dict(zip(KINDS, prices.tolist(), strict=True)), indent=2))
    # A kind of work that only one model has cannot be priced by the others.
    names = sorted({name for name, work, _ in measured if not work.counts.get("step_float")})
    apart = []
    for name in names:
        prices = _fit([one for one in measured if one[0] != name], machine)
        for _, work, took in (one for one in measured if one[0] == name):
            guess = float(_features(work, machine) @ prices)
            apart.append(guess / took)
            print(
                f"{name:20} measured {took:9.0f} cycles, by others' prices {guess / took:.2f}"
            )
    shipped = [cycles(work, machine) / took for _, work, took in measured]
    _write(apart, shipped, machine)
    return 0


def _measure(seconds: float) -> Measured:
    """Return the work and the cycles of every model of the suite in every form."""
    machine, engine = probe.probe(), load_engine("onnxruntime")
    found: Measured = []
    for row in ROWS:
        some = Samples({k: v[:64] for k, v in row.samples("calibrate").inputs.items()})
        graph = load_technique("fuse").apply(load(row.model), {}).graph
        forms = {}
        for way, techniques in _WAYS.items():
            try:
                forms[way] = graph
                for technique in techniques:
                    forms[way] = load_technique(technique).apply(graph, {}, some).graph
            except QuantizeError:
                del forms[way]
        with TemporaryDirectory() as folder:
            sessions = {}
            for way, form in forms.items():
                place = Path(folder) / way
                place.mkdir()
                for name, data in load_target("onnxruntime").lower(form).items():
                    (place / name).write_bytes(data)
                sessions[way] = engine.load(place / "model.onnx")
            figures = latency.measure(
                sessions, some, baseline="float", machine="here",
                budget=latency.Budget(seconds),
            )  # fmt: skip
            for way, session in sessions.items():
                p50 = next(e.value for e in figures[way] if e.name == "p50_us")
                work = work_of(forms[way], some)
                found.append((row.name, work, p50 * (machine.clock_mhz or 1000)))
                session.close()
    return found


def _features(work: Work, machine: DeviceProfile) -> npt.NDArray[np.float64]:
    lanes = lanes_of(machine.isa)
    counts = priced(work)
    return np.array([counts[kind] / lanes[kind] for kind in KINDS])


def _fit(measured: Measured, machine: DeviceProfile) -> npt.NDArray[np.float64]:
    """Return prices, none below zero, whose errors are smallest as shares."""
    rows = np.array([_features(work, machine) / took for _, work, took in measured])
    scale = np.maximum(np.abs(rows).max(axis=0), 1e-12)
    rows = rows / scale
    prices = np.full(len(KINDS), 0.1)
    step = 1 / np.linalg.norm(rows, 2) ** 2
    for _ in range(20_000):
        # The small term keeps a kind that hardly any model has from running away.
        slope = rows.T @ (rows @ prices - 1) + 1e-4 * prices
        prices = np.maximum(prices - step * slope, 0)
    found: npt.NDArray[np.float64] = prices / scale
    return found


def _write(apart: list[float], shipped: list[float], machine: DeviceProfile) -> None:
    commit = subprocess.run(
        ["git", "rev-parse", "--short", "HEAD"], capture_output=True, text=True, check=False
    ).stdout.strip()
    rows = []
    for name, ratios in (("by others' prices", apart), ("by the prices that ship", shipped)):
        factors = sorted(max(ratio, 1 / ratio) for ratio in ratios)
        for share, place in (("median", median(factors)), ("ninth of ten", _ninth(factors))):
            rows.append(
                {
                    "name": f"cost model, {name}, {share}", "value": round(place, 2),
                    "unit": "times off", "goal": "<= 2.0", "met": place <= 2.0, "peers": {},
                    "spread": [round(factors[0], 2), round(factors[-1], 2)],
                    "n": len(factors), "machine": machine.fingerprint, "commit": commit,
                }
            )  # fmt: skip
            print(f"{rows[-1]['name']}: {rows[-1]['value']} times off")
    RESULTS.write_text(json.dumps(rows, indent=2) + "\n")


def _ninth(factors: list[float]) -> float:
    return factors[min(int(0.9 * len(factors)), len(factors) - 1)]


if __name__ == "__main__":
    raise SystemExit(main())
