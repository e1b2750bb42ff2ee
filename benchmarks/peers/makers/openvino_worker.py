"""OpenVINO behind a pipe: a line of JSON asks, a line of JSON answers.

Floats are computed as float32, which has to be said: left to itself OpenVINO takes
bfloat16 where the processor has it. One thread, one stream, the core it is told.
"""

import json
import os
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import openvino
from job import Feed, cut

_SETTINGS = {
    "INFERENCE_PRECISION_HINT": "f32",
    "INFERENCE_NUM_THREADS": 1,
    "NUM_STREAMS": 1,
    "PERFORMANCE_HINT": "LATENCY",
    "ENABLE_CPU_PINNING": False,
}


class Loaded:
    """One model and what it is timed with."""

    def __init__(self, core: openvino.Core, path: str, feeds: list[Feed]) -> None:
        self._request = core.compile_model(path, "CPU", _SETTINGS).create_infer_request()
        self._feeds = feeds
        self._next = 0
        self.run(feeds[0])

    def run(self, feed: Feed) -> Feed:
        """Return the answers to ``feed`` by output name."""
        found = self._request.infer(feed, share_inputs=True)
        return {port.any_name: np.array(found[port]) for port in found}

    def block(self, calls: int) -> list[int]:
        """Return nanoseconds of ``calls`` calls, after one that is not counted."""
        times = []
        for _ in range(calls + 1):
            feed = self._feeds[self._next % len(self._feeds)]
            self._next += 1
            before = time.perf_counter_ns()
            self._request.infer(feed, share_inputs=True)
            times.append(time.perf_counter_ns() - before)
        return times[1:]


def _feeds(path: str) -> list[Feed]:
    with np.load(path) as held:
        found: dict[int, Feed] = {}
        for key in held.files:
            index, _, name = key.partition(":")
            found.setdefault(int(index), {})[name] = held[key]
    return [found[index] for index in sorted(found)]


def _answer(model: Loaded, asked: dict[str, Any]) -> None:
    with np.load(asked["path"]) as held:
        arrays = {name: held[name] for name in held.files}
    count = len(next(iter(arrays.values())))
    size = 1 if asked["mask"] else asked["batch"]
    told = {}
    for place, start in enumerate(range(0, count, size)):
        feed = cut({k: v[start : start + size] for k, v in arrays.items()}, asked["mask"])
        told |= {f"{place}:{name}": array for name, array in model.run(feed).items()}
    np.savez(Path(asked["out"]), **told)


def main() -> int:
    """Do what each line says until there is none."""
    core, models = openvino.Core(), dict[str, Loaded]()
    # Its own libraries print too; the pipe is for answers alone.
    pipe = os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(2, 1)
    for line in sys.stdin:
        asked = json.loads(line)
        told: dict[str, Any] = {"done": True}
        try:
            if asked["do"] == "load":
                os.sched_setaffinity(0, {asked["core"]})
                models[asked["name"]] = Loaded(core, asked["path"], _feeds(asked["feeds"]))
            elif asked["do"] == "answer":
                _answer(models[asked["name"]], asked)
            else:
                told["done"] = models[asked["name"]].block(asked["calls"])
        except Exception as error:  # noqa: BLE001  the process's outermost line: it reports
            told = {"failed": f"{type(error).__name__}: {error}"}
        print(json.dumps(told), file=pipe)
    return 0


if __name__ == "__main__":
    sys.exit(main())
