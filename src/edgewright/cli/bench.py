"""``edgewright bench``: latency, memory and first answer of models, side by side."""

import argparse
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edgewright.cli import output
from edgewright.core.errors import UsageError
from edgewright.core.units import show_bytes, show_us

if TYPE_CHECKING:
    from collections.abc import Callable

    import numpy as np

    from edgewright.core.evidence import Evidence
    from edgewright.core.tensors import TensorSpec
    from edgewright.toolchain.ir.samples import Samples

NAME = "bench"
HELP = "measure latency, memory and first answer here, against another model if given"

_ENGINE = "onnxruntime"
_SEED = 7
_SAMPLES = 64


def add_parser(parser: argparse.ArgumentParser) -> None:
    """Add the arguments."""
    parser.add_argument(
        "subject", type=Path, metavar="MODEL|BUNDLE|DIR",
        help="an ONNX model, a bundle, a slot, or a folder made by optimize",
    )  # fmt: skip
    parser.add_argument(
        "--against", type=Path, metavar="MODEL|BUNDLE|DIR",
        help="what to compare with; the float candidate for a folder made by optimize",
    )  # fmt: skip
    parser.add_argument(
        "--seconds", type=float, default=4.0, help="for latency, all models together"
    )


@dataclass(frozen=True, slots=True)
class _Subject:
    """A model to measure; ``folder`` holds nothing but its files, or is None."""

    name: str
    model: Path
    folder: Path | None


def run(args: argparse.Namespace) -> int:
    """Measure and print."""
    from edgewright.core import probe
    from edgewright.runtime.engines import load_engine
    from edgewright.toolchain.measure import footprint, latency

    if args.seconds <= 0:
        raise UsageError(f"--seconds must be more than 0, got {args.seconds}")
    machine = probe.probe()
    engine = load_engine(_ENGINE)
    with ExitStack() as stack, output.status(args, "measuring"):
        subjects = _subjects(args, stack)
        sessions = {}
        for one in subjects:
            sessions[one.name] = engine.load(one.model)
            stack.callback(sessions[one.name].close)
        specs = {name: session.inputs for name, session in sessions.items()}
        budget = latency.Budget(seconds=args.seconds)
        figures = latency.measure(
            sessions,
            _samples(specs),
            baseline=subjects[-1].name,
            machine=machine.fingerprint,
            budget=budget,
        )
        models = {one.name: one.model for one in subjects}
        weights = footprint.measure(models, engine=_ENGINE, machine=machine.fingerprint)
        sizes = {one.name: _file_bytes(one) for one in subjects}
    found = {name: (*figures[name], *weights[name]) for name in models}
    return _print(args, machine.title, machine.fingerprint, found, sizes)


def _print(
    args: argparse.Namespace,
    title: str,
    fingerprint: str,
    found: "dict[str, tuple[Evidence, ...]]",
    sizes: dict[str, int],
) -> int:
    from edgewright.core import records

    rows = []
    for name, evidence in found.items():
        by_name = {e.name: e for e in evidence}
        ratio = by_name["latency_ratio_bp"]
        rows.append(
            (
                name,
                show_bytes(sizes[name]),
                *(_bounded(by_name[key], show_us) for key in ("p50_us", "p95_us", "p99_us")),
                _bounded(ratio, _times) if len(found) > 1 else "",
                show_bytes(by_name["peak_memory_bytes"].value),
                f"{by_name['first_answer_ms'].value} ms",
            )
        )  # fmt: skip
    count = next(iter(found.values()))[0].n
    head = (
        "model",
        "size",
        "p50",
        "p95",
        "p99",
        "time over the last",
        "memory",
        "first answer",
    )
    text = (
        f"{title} ({fingerprint}), one thread, batch 1, {count} calls of each, 95 % bounds\n"
        f"{output.table(head, rows)}"
    )
    document: dict[str, Any] = {
        "machine": {"title": title, "fingerprint": fingerprint},
        "models": [
            {"name": name, "file_bytes": sizes[name], "evidence": records.encode(evidence)}
            for name, evidence in found.items()
        ],
    }
    output.emit(args, document, text)
    return 0


def _bounded(figure: "Evidence", show: "Callable[[int], str]") -> str:
    low, high = ("?" if b is None else show(b) for b in (figure.lower, figure.upper))
    return f"{show(figure.value)} [{low}, {high}]"


def _times(ratio_bp: int) -> str:
    return f"{ratio_bp / 10_000:.2f}"


def _subjects(args: argparse.Namespace, stack: ExitStack) -> list[_Subject]:
    """Return what is measured, what it is compared with last."""
    found = [_resolve(args.subject, stack)]
    if args.against is not None:
        found.append(_resolve(args.against, stack))
    elif (args.subject / "report.json").exists():
        found.append(_resolve(args.subject, stack, baseline=True))
    if len(found) == 2 and found[0].name == found[1].name:
        if found[0].model == found[1].model:
            return found[:1]
        names = [f"{one.name} ({n})" for n, one in enumerate(found, start=1)]
        found = [
            _Subject(name, one.model, one.folder)
            for name, one in zip(names, found, strict=True)
        ]
    return found


def _resolve(path: Path, stack: ExitStack, *, baseline: bool = False) -> _Subject:
    """Return the model behind a path."""
    if (path / "report.json").exists():
        from edgewright.toolchain.planner.workspace import CANDIDATES, read_report

        report = read_report(path)
        one = report.candidate(report.baseline) if baseline else report.shipped
        folder = path / CANDIDATES / one.name
        return _Subject(f"{report.recipe.model} {one.name}", folder / "model.onnx", folder)
    if path.suffix == ".ewb":
        return _in_bundle(path, stack)
    if (path / "manifest.json").exists():
        from edgewright.bundle.archive import slot_digest

        return _in_slot(path, slot_digest(path)[0])
    if not path.is_file():
        raise UsageError(
            f"{path} is no model, bundle, slot or optimised folder",
            hint="Give a .onnx, a .ewb, or a folder made by optimize.",
        )
    return _Subject(path.stem, path, None)


def _in_bundle(path: Path, stack: ExitStack) -> _Subject:
    from tempfile import TemporaryDirectory

    from edgewright.bundle.archive import Archive

    folder = Path(stack.enter_context(TemporaryDirectory(prefix="edgewright-"))) / "slot"
    with Archive(path) as archive:
        archive.extract(folder)
        return _in_slot(folder, archive.manifest)


def _in_slot(folder: Path, manifest: Any) -> _Subject:
    variant = manifest.variants[0]
    model = folder / variant.model
    return _Subject(f"{manifest.release} {variant.name}", model, model.parent)


def _file_bytes(subject: _Subject) -> int:
    """Return the bytes of the model's files; external data of a bare model is not known."""
    if subject.folder is None:
        return subject.model.stat().st_size
    return sum(path.stat().st_size for path in subject.folder.iterdir())


def _samples(specs: "dict[str, tuple[TensorSpec, ...]]") -> "Samples":
    """Return random inputs that fit all models, the same every time."""
    import numpy as np

    from edgewright.toolchain.ir.samples import Samples

    shapes = {
        tuple((spec.name, spec.dtype, spec.shape[1:]) for spec in one)
        for one in specs.values()
    }
    if len(shapes) != 1:
        listed = "; ".join(
            f"{name}: {', '.join(f'{s.name} {s.dtype} {list(s.shape)}' for s in one)}"
            for name, one in specs.items()
        )
        raise UsageError(f"models with the same inputs can be compared, got {listed}")
    draw = np.random.default_rng(_SEED)
    return Samples({name: _random(dtype, rest, draw) for name, dtype, rest in shapes.pop()})


def _random(dtype: str, rest: tuple[int, ...], draw: "np.random.Generator") -> Any:
    shape = (_SAMPLES, *(1 if size == -1 else size for size in rest))
    if dtype.startswith("float"):
        return draw.normal(size=shape).astype(dtype)
    if dtype.startswith("int"):
        # Numbers of words or marks of a mask: what every such input takes.
        return draw.integers(0, 2, size=shape).astype(dtype)
    return draw.integers(0, 17, size=shape).astype(dtype)
