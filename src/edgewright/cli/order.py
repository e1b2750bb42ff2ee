"""What ``optimize`` and ``deploy`` are asked for: the arguments, and the order they make."""

import argparse
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edgewright.cli.importing import add_wish, read_wish
from edgewright.core.errors import UsageError
from edgewright.core.units import parse_bytes, parse_duration_us, parse_power_mw

if TYPE_CHECKING:
    from edgewright.toolchain.recipe import Order
    from edgewright.toolchain.sources import Wish

PROJECT = Path("edgewright.toml")

# Flag, key of the contract, how it is read, what it is.
_LIMITS = (
    ("--max-size", "file_bytes", parse_bytes, "the model's files, like 350KB"),
    ("--max-latency", "p99_us", parse_duration_us, "99th percentile of an answer, like 20ms"),
    ("--max-memory", "peak_memory_bytes", parse_bytes, "of the process that answers"),
    ("--max-transport", "transport_bytes", parse_bytes, "what a device downloads"),
    ("--max-storage", "storage_bytes", parse_bytes, "what an installed slot takes"),
    ("--rate", "rate_hz", int, "answers a second it must sustain on one core"),
    ("--max-power", "power_mw", parse_power_mw, "while answering at that rate, like 2.5W"),
)
_SHARES = (
    ("--accuracy-drop", "accuracy_drop_points", "points that may be lost overall"),
    ("--worst-class-drop", "worst_class_drop_points", "points any class may lose"),
    (
        "--accuracy-retention",
        "min_retention",
        "share of the accuracy to keep, 0.95 for instance",
    ),
)


def add_order(parser: argparse.ArgumentParser) -> None:
    """Add the arguments that ``read_order`` reads."""
    parser.add_argument(
        "model",
        metavar="MODEL",
        nargs="?",
        default="",
        help="an ONNX model, or anything that import makes ONNX of",
    )
    parser.add_argument(
        "--device", default="host", metavar="NAME", help="host, or a name in the catalogue"
    )
    parser.add_argument(
        "--target", metavar="NAME", help="what to compile for; default the first it runs"
    )
    parser.add_argument(
        "--batch-size",
        type=int,
        metavar="N",
        help="fix the batch: a device answers one by one, so 1 is all there is",
    )
    parser.add_argument(
        "--reference", type=Path, metavar="MODEL", help="whose answers count; default MODEL"
    )
    parser.add_argument(
        "--project", type=Path, metavar="FILE", help=f"default ./{PROJECT} where there is one"
    )
    parser.add_argument(
        "-o", "--out", type=Path, metavar="DIR", help="default out/<stem of MODEL>"
    )
    _add_data(parser.add_argument_group("data"))
    _add_search(parser.add_argument_group("search"))
    add_wish(parser.add_argument_group("import", "as edgewright import takes them"))
    limits = parser.add_argument_group("contract", "these override the project's [contract]")
    for flag, _, _, what in _LIMITS:
        limits.add_argument(flag, metavar="LIMIT", help=what)
    for flag, _, what in _SHARES:
        limits.add_argument(flag, type=float, metavar="N", help=what)


def _add_data(group: argparse._ArgumentGroup) -> None:
    group.add_argument(
        "--data",
        metavar="DATA",
        help="real inputs: an npz file, a folder of pictures by class, a csv, tsv or parquet "
        "table, or module:callable",
    )
    group.add_argument(
        "--metric",
        metavar="NAME",
        help="accuracy, top-K, f1, auc, mae, iou, map, cosine, fidelity or module:callable; "
        "default what the data call for",
    )
    group.add_argument(
        "--trust",
        action="append",
        default=[],
        metavar="DOUBT",
        help="accept a doubt about the data, by its name; stays on the record",
    )
    group.add_argument(
        "--allow-synthetic",
        action="store_true",
        help="make inputs up where there are none; stays on the record",
    )


def _add_search(group: argparse._ArgumentGroup) -> None:
    group.add_argument(
        "--quantization",
        choices=("auto", "int8", "int4", "fp16", "none"),
        help="int8, int4, fp16: that or an error; auto: all of them and floats",
    )
    group.add_argument(
        "--graph-level",
        choices=("aggressive", "balanced", "fast", "none"),
        help="how far nodes are fused; default aggressive",
    )
    group.add_argument(
        "--precision",
        action="append",
        default=[],
        metavar="LAYER=FORM",
        help="pin a layer, by its node's name or a pattern, to float, fp16, int8-weights, "
        "int4-weights or int8",
    )
    group.add_argument(
        "--goal",
        choices=("auto", "balanced", "battery", "size", "speed"),
        help="what is best among all that hold the contract; auto: the first that holds "
        "it, where it limits answers only the cheapest, or balanced where nothing is asked",
    )
    group.add_argument(
        "--budget", metavar="TIME", help="begin nothing else after this, like 10m"
    )
    group.add_argument(
        "--allow-slower", action="store_true", help="ship what is slower than the original"
    )
    group.add_argument(
        "--accept-estimates", action="store_true", help="let unmeasured figures decide"
    )


def add_workers(parser: argparse.ArgumentParser) -> None:
    """Add who does work ahead, which changes nothing about what comes out."""
    parser.add_argument(
        "--workers",
        default="",
        metavar="ADDRESS",
        help="who does steps and asks candidates ahead: ray://HOST:PORT, or ray for the "
        "cluster this machine is part of; what comes out is the same",
    )


def read_order(args: argparse.Namespace) -> "Order":
    """Return the order that flags and the project file give together; flags win.

    Raises:
        UsageError: No data, or a flag that cannot mean anything.
        ConfigError: The project file is wrong.
    """
    from edgewright.core.contract import from_table
    from edgewright.toolchain.recipe import Order, Project, load_project

    if not args.model:
        raise UsageError(
            "no model is named", hint="Give MODEL, or let edgewright optimize --ask ask."
        )
    path = args.project or (PROJECT if PROJECT.exists() else None)
    project = load_project(path) if path else Project()
    limits = {**project.contract, **_asked(args)}
    base = path.parent if path else Path()
    return Order(
        model=args.model,
        wish=_wish(args),
        graph_level=args.graph_level or project.recipe.graph_level,
        target=args.target or project.recipe.target,
        data=args.data or _data(base, project.data.path),
        device=args.device,
        reference=args.reference or _beside(base, project.model.reference),
        contract=from_table(limits) if limits else None,
        out=args.out,
        quantization=args.quantization or project.recipe.quantization,
        precision={**project.recipe.precision, **_pins(args.precision)},
        goal=args.goal or project.recipe.goal,
        budget_s=_seconds(args.budget or project.recipe.budget),
        policy=project.policy,
        keys=project.data.keys,
        pictures=project.data.pictures,
        classes=project.data.classes,
        metric=args.metric or project.data.metric,
        trust=(*project.data.trust, *args.trust),
        allow_synthetic=args.allow_synthetic or project.data.allow_synthetic,
        allow_slower=args.allow_slower or project.recipe.allow_slower,
        accept_estimates=args.accept_estimates or project.recipe.accept_estimates,
    )


def _wish(args: argparse.Namespace) -> "Wish":
    """Return how the model is brought in, its batch fixed where that is asked."""
    wish = read_wish(args, None)
    if args.batch_size is None:
        return wish
    if args.batch_size != 1:
        raise UsageError(
            f"a batch of {args.batch_size} cannot be proven: a device answers one sample at "
            "a time, and latency, golden answers and gates are about that",
            hint="Leave the batch free, or fix it with --batch-size 1.",
        )
    return replace(wish, freeze={**wish.freeze, "batch": 1})


def _pins(given: list[str]) -> dict[str, str]:
    pins = dict(one.rpartition("=")[::2] for one in given)
    if "" in pins:
        raise UsageError(
            f"--precision {given[list(pins).index('')]} names no layer",
            hint="Write LAYER=FORM, like --precision head*=float.",
        )
    return pins


def _seconds(budget: str) -> int:
    """Return whole seconds, rounded up: a budget of 500ms is one."""
    return -(-parse_duration_us(budget) // 1_000_000) if budget else 0


def _asked(args: argparse.Namespace) -> dict[str, Any]:
    """Return the limits given as flags, by the contract's keys."""
    asked: dict[str, Any] = {}
    for flag, key, read, _ in _LIMITS:
        value = getattr(args, flag[2:].replace("-", "_"))
        if value is not None:
            asked[key] = _read(flag, value, read)
    for flag, key, _ in _SHARES:
        value = getattr(args, flag[2:].replace("-", "_"))
        if value is not None:
            asked[key] = value
    return asked


def _beside(base: Path, path: str) -> Path | None:
    return base / path if path else None


def _read(flag: str, value: str, read: Callable[[str], int]) -> int:
    try:
        return read(value)
    except ValueError as error:
        raise UsageError(f"{flag} must be a whole number, got {value!r}") from error


def _data(base: Path, path: str) -> str | None:
    """Return where the project's data are; a function's name stays as it is."""
    if not path:
        return None
    beside = base / path
    return path if ":" in path and not beside.exists() else str(beside)
