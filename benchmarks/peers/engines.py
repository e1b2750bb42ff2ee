"""The engines that answer and are timed: ONNX Runtime here, OpenVINO in its own Python.

Both compute in float32 where a model is float, on one thread of one core. They are timed
in blocks that take turns, so that what the machine does meanwhile happens to all; a
block begins with a call that is not counted.
"""

import json
import os
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Protocol, Self

import numpy as np
import numpy.typing as npt
import onnxruntime as ort
from benchmarks.peers import HERE
from benchmarks.peers.makers.job import cut
from benchmarks.suite.data import Samples

Array = npt.NDArray[Any]
Answers = dict[str, Array]

_BATCH = 100


class RefusedError(Exception):
    """An engine does not run a file; the message is the reason in words."""


class Model(Protocol):
    """A file that an engine has loaded."""

    def answers(self, samples: Samples, mask: str) -> Answers:
        """Return what it answers, by output name; one by one where ``mask`` cuts."""

    def block(self, calls: int) -> list[int]:
        """Return nanoseconds of ``calls`` calls of one sample, after one not counted."""


def first_line(error: Exception) -> str:
    """Return the first line of what ``error`` says."""
    return next(iter(str(error).strip().splitlines()), type(error).__name__)


@contextmanager
def one_core() -> Iterator[int]:
    """Keep this process on the last core it may use, and yield its number."""
    allowed = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {max(allowed)})
    try:
        yield max(allowed)
    finally:
        os.sched_setaffinity(0, allowed)


class OnnxRuntime:
    """A model in ONNX Runtime, in this process."""

    def __init__(self, path: Path, feeds: list[Answers]) -> None:
        options = ort.SessionOptions()
        options.intra_op_num_threads = options.inter_op_num_threads = 1
        options.log_severity_level = 3
        try:
            self._session = ort.InferenceSession(
                path, options, providers=["CPUExecutionProvider"]
            )
            self._names = [output.name for output in self._session.get_outputs()]
            self._run(feeds[0])
        except Exception as error:
            # What it raises has no common root below Exception.
            raise RefusedError(f"onnxruntime: {first_line(error)}") from error
        self._feeds = feeds
        self._next = 0

    def _run(self, feed: Answers) -> list[Array]:
        found: list[Array] = self._session.run(self._names, feed)
        return found

    def answers(self, samples: Samples, mask: str) -> Answers:
        """Return what it answers, by output name."""
        return joined([
            dict(zip(self._names, self._run(feed), strict=True))
            for feed in batches(samples, mask)
        ])  # fmt: skip

    def block(self, calls: int) -> list[int]:
        """Return nanoseconds of ``calls`` calls, after one that is not counted."""
        times = []
        for _ in range(calls + 1):
            feed = self._feeds[self._next % len(self._feeds)]
            self._next += 1
            before = time.perf_counter_ns()
            self._session.run(self._names, feed)
            times.append(time.perf_counter_ns() - before)
        return times[1:]


def batches(samples: Samples, mask: str) -> Iterator[Answers]:
    """Yield what is fed: batches, or cut samples one by one."""
    size = 1 if mask else _BATCH
    for start in range(0, len(samples), size):
        yield cut({k: v[start : start + size] for k, v in samples.inputs.items()}, mask)


def joined(parts: list[Answers]) -> Answers:
    """Return the answers of all batches as one; words a sample lacks are NaN."""
    whole = {}
    for name in parts[0]:
        arrays = [part[name] for part in parts]
        if len({array.shape[1:] for array in arrays}) > 1:
            longest = max(array.shape[1] for array in arrays)
            arrays = [_stretched(array, longest) for array in arrays]
        whole[name] = np.concatenate(arrays)
    return whole


def _stretched(array: Array, length: int) -> Array:
    missing = length - array.shape[1]
    widths = [(0, missing if axis == 1 else 0) for axis in range(array.ndim)]
    return np.pad(array, widths, constant_values=np.nan)


class OpenVinoWorker:
    """A process with OpenVINO that does as it is told, one line a command."""

    def __init__(self, python: Path) -> None:
        environment = os.environ | {"OMP_NUM_THREADS": "1"}
        self._process = subprocess.Popen(
            [python, HERE / "makers" / "openvino_worker.py"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
            env=environment,
        )
        self._folder = tempfile.TemporaryDirectory(prefix="edgewright-peers-")
        self._count = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_why: object) -> None:
        if self._process.stdin:
            self._process.stdin.close()
        self._process.wait()
        self._folder.cleanup()

    def ask(self, **command: Any) -> Any:
        """Return what the worker says to ``command``.

        Raises:
            RefusedError: It cannot do it.
        """
        if not (self._process.stdin and self._process.stdout):
            raise RefusedError("openvino: the worker has no pipes")
        try:
            self._process.stdin.write(json.dumps(command) + "\n")
            self._process.stdin.flush()
        except BrokenPipeError as error:
            raise RefusedError("openvino: the worker ended") from error
        line = self._process.stdout.readline()
        if not line:
            raise RefusedError("openvino: the worker ended")
        told = json.loads(line)
        if "failed" in told:
            raise RefusedError(f"openvino: {told['failed']}")
        return told["done"]

    def load(self, path: Path, feeds: list[Answers]) -> "OpenVino":
        """Return the model at ``path``, loaded and asked once."""
        self._count += 1
        name = f"model-{self._count}"
        held = Path(self._folder.name) / f"{name}.npz"
        arrays = {f"{i}:{k}": v for i, feed in enumerate(feeds) for k, v in feed.items()}
        np.savez(held, **arrays)
        core = max(os.sched_getaffinity(0))
        self.ask(do="load", name=name, path=str(path), feeds=str(held), core=core)
        return OpenVino(self, name, Path(self._folder.name))


class OpenVino:
    """A model in the worker."""

    def __init__(self, worker: OpenVinoWorker, name: str, folder: Path) -> None:
        self._worker = worker
        self._name = name
        self._folder = folder

    def answers(self, samples: Samples, mask: str) -> Answers:
        """Return what it answers, by output name."""
        asked, told = self._folder / "asked.npz", self._folder / "told.npz"
        np.savez(asked, **samples.inputs)
        where = {"path": str(asked), "out": str(told)}
        self._worker.ask(do="answer", name=self._name, mask=mask, batch=_BATCH, **where)
        with np.load(told) as held:
            count = 1 + max(int(key.partition(":")[0]) for key in held.files)
            parts: list[Answers] = [{} for _ in range(count)]
            for key in held.files:
                index, _, name = key.partition(":")
                parts[int(index)][name] = held[key]
        return joined(parts)

    def block(self, calls: int) -> list[int]:
        """Return nanoseconds of ``calls`` calls, after one that is not counted."""
        times: list[int] = self._worker.ask(do="block", name=self._name, calls=calls)
        return times
