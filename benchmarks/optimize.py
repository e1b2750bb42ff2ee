"""Optimizing beside the peers: how small, how good, how fast, and how long it takes.

Every tool makes its variants of every model from the same calibration samples; what they
leave is judged on the same held-out samples and timed in turns on one core, floats as
float32. ``make bench-optimize`` runs all of it and writes the rows; by hand,
``python -m benchmarks.optimize --quick --tools edgewright,onnxruntime lenet`` prints some.
"""

import argparse
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path

import numpy as np
from benchmarks.peers import OURS, TOOLS, Variant, tables, whole_runs
from benchmarks.peers.engines import (
    Answers,
    Model,
    OnnxRuntime,
    OpenVinoWorker,
    RefusedError,
)
from benchmarks.peers.environments import UnavailableError, python_of
from benchmarks.peers.goals import goal_rows
from benchmarks.peers.judging import drop
from benchmarks.peers.making import Made, make, variants_of
from benchmarks.peers.results import Measured, Result, Row, detail, row
from benchmarks.peers.subjects import (
    MINILM,
    MINILM_PADDED,
    Subject,
    minilm,
    names,
    of_suite,
    suite_rows,
)
from benchmarks.peers.timing import faster, rounds_of

FLOATS = {engine: f"{engine} float" for engine in ("onnxruntime", "openvino")}
_ROUNDS, _QUICK_ROUNDS = 31, 9
_QUICK_MODELS = ("lenet", "mobilenet", "transformer")

Load = Callable[[Path, list[Answers]], Model]


def measure(*, quick: bool) -> list[Row]:
    """Return every row of this area; a sample of the models when ``quick``."""
    models = list(_QUICK_MODELS) if quick else names()
    tools = [tool.name for tool in TOOLS]
    measured, missing = compare(models, tools, quick=quick)
    rows = [*goal_rows(measured), *missing, *whole_runs.rows(quick=quick)]
    print(tables.of_goals(rows))
    return rows + [detail(m, result) for m in measured for result in m.results]


def compare(
    models: list[str], tools: list[str], *, quick: bool
) -> tuple[list[Measured], list[Row]]:
    """Return what was measured of each model, and a row for each that cannot be had."""
    measured, missing = [], []
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="peers-")))
        loads: dict[str, Load] = {"onnxruntime": OnnxRuntime}
        try:
            worker = OpenVinoWorker(python_of("nncf")) if "nncf" in tools else None
        except UnavailableError:
            worker = None  # its tool has a row with the reason for every variant
        if worker is not None:
            loads["openvino"] = stack.enter_context(worker).load
        made: dict[tuple[Variant, Path, str], Made] = {}
        for subject in _subjects(models, missing, quick=quick):
            one = _measured(subject, tools, folder, loads, made, quick=quick)
            print(f"\n{tables.of_model(one)}", flush=True)
            measured.append(one)
    print()
    return measured, missing


def _subjects(models: list[str], missing: list[Row], *, quick: bool) -> Iterator[Subject]:
    for held in suite_rows(models):
        yield of_suite(held, quick=quick)
    if wanted := [name for name in (MINILM, MINILM_PADDED) if name in models]:
        try:
            yield from (subject for subject in minilm() if subject.name in wanted)
        except (UnavailableError, subprocess.CalledProcessError) as error:
            missing.append(
                row("minilm: not on this machine", "none", "", goal="cosine >= 0.998",
                    met=False, spread=str(error), n=0)
            )  # fmt: skip


def _measured(
    subject: Subject,
    tools: list[str],
    folder: Path,
    loads: dict[str, Load],
    made: dict[tuple[Variant, Path, str], Made],
    *,
    quick: bool,
) -> Measured:
    """Make, judge and time everything of one model."""
    feeds = subject.timed()
    models: dict[str, Model] = {}
    notes = []
    for engine, load in loads.items():
        try:
            models[FLOATS[engine]] = load(subject.model, feeds)
        except RefusedError as error:
            notes.append(f"{FLOATS[engine]}: {error}")
    references = {
        name: model.answers(subject.evaluate, subject.evaluate_mask)
        for name, model in models.items()
    }
    reference = references[FLOATS["onnxruntime"]]
    float_bytes, results, versions = subject.model.stat().st_size, [], {}
    for variant in variants_of(tools, transformer=subject.transformer):
        key = (variant, subject.model, subject.calibration)
        if key not in made:
            made[key] = make(variant, subject, folder / subject.name)
        one = made[key]
        versions |= one.versions
        result = Result(variant, seconds=one.seconds, reason=one.reason)
        if not one.reason:
            saved = 100 * (1 - one.bytes / float_bytes)
            result = replace(result, bytes=one.bytes, saved=saved)
            try:
                model = loads[variant.engine](one.files[0], feeds)
                lost = drop(subject, reference, _answers(model, subject))
            except RefusedError as error:
                result = replace(result, reason=str(error))
            else:
                models[variant.title] = model
                result = replace(result, drop=lost)
        results.append(result)
    rounds = rounds_of(models, rounds=_QUICK_ROUNDS if quick else _ROUNDS)
    return Measured(
        name=subject.name,
        family=subject.family,
        metric=subject.metric,
        mflop=subject.mflop,
        in_suite=subject.in_suite,
        float_bytes=float_bytes,
        results=tuple(_timed(result, rounds) for result in results),
        rounds=rounds,
        versions=versions,
        notes=tuple(notes),
    )


def _answers(model: Model, subject: Subject) -> Answers:
    """Return what ``model`` answers to the held-out samples, all of it numbers."""
    answers = model.answers(subject.evaluate, subject.evaluate_mask)
    if not subject.evaluate_mask:
        for name, array in answers.items():
            if not np.isfinite(array).all():
                raise RefusedError(f"{name} is not finite for some samples")
    return answers


def _timed(result: Result, rounds: dict[str, list[float]]) -> Result:
    title, own = result.variant.title, FLOATS[result.variant.engine]
    if title not in rounds:
        return result
    return replace(
        result,
        speedup=faster(rounds, title, own) if own in rounds else None,
        absolute=faster(rounds, title, FLOATS["onnxruntime"]),
    )


def main() -> int:
    """Print the tables of what was named; nothing is written."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("models", nargs="*", help=", ".join(names()))
    parser.add_argument("--quick", action="store_true", help="fewer samples and rounds")
    known = [tool.name for tool in TOOLS]
    parser.add_argument("--tools", default=",".join(known), help="separated by commas")
    args = parser.parse_args()
    tools = args.tools.split(",")
    if unknown := {*args.models} - {*names()} | {*tools} - {*known}:
        parser.error(f"not known: {', '.join(sorted(unknown))}")
    measured, missing = compare(args.models or names(), tools, quick=args.quick)
    if OURS in tools:
        print(tables.of_goals([*goal_rows(measured), *missing]))
    return 0


if __name__ == "__main__":
    sys.exit(main())
