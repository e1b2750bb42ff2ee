"""``edgewright optimize``: a model, real inputs and a contract; out comes what holds it."""

import argparse
import json
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edgewright.cli import output
from edgewright.core.errors import ContractError, UsageError
from edgewright.core.units import parse_bytes, parse_duration_us, show_bytes, show_us

if TYPE_CHECKING:
    from edgewright.toolchain.recipe import Event, Observer, Order

NAME = "optimize"
HELP = "make a model smaller and faster under a contract, and prove it"

PROJECT = Path("edgewright.toml")

# Flag, key of the contract, how it is read, what it is.
_LIMITS = (
    ("--max-size", "file_bytes", parse_bytes, "the model's files, like 350KB"),
    ("--max-latency", "p99_us", parse_duration_us, "99th percentile of an answer, like 20ms"),
    ("--max-memory", "peak_memory_bytes", parse_bytes, "of the process that answers"),
    ("--max-transport", "transport_bytes", parse_bytes, "what a device downloads"),
    ("--max-storage", "storage_bytes", parse_bytes, "what an installed slot takes"),
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


def add_parser(parser: argparse.ArgumentParser) -> None:
    """Add the arguments."""
    add_order(parser)
    parser.add_argument("--dry-run", action="store_true", help="show the plan, do nothing")
    parser.add_argument("--force", action="store_true", help="overwrite other inputs' results")
    parser.add_argument(
        "--measure-again", action="store_true", help="do not reuse stored measurements"
    )
    parser.add_argument("--events", action="store_true", help="print JSON lines as it goes")


def add_order(parser: argparse.ArgumentParser) -> None:
    """Add the arguments that ``read_order`` reads."""
    parser.add_argument("model", type=Path, metavar="MODEL", help="an ONNX model")
    parser.add_argument(
        "--data", type=Path, metavar="FILE.npz", help="real inputs with labels"
    )
    parser.add_argument(
        "--device", default="host", metavar="NAME", help="host, or a name in the catalogue"
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
    parser.add_argument(
        "--quantization",
        choices=("auto", "int8", "int4", "fp16", "none"),
        help="int8, int4, fp16: that or an error; auto: all of them and floats",
    )
    parser.add_argument(
        "--goal",
        choices=("auto", "balanced", "size", "speed"),
        help="what is best among all that hold the contract; auto: the first that holds "
        "it, or balanced where nothing is limited",
    )
    parser.add_argument(
        "--budget", metavar="TIME", help="begin nothing else after this, like 10m"
    )
    parser.add_argument(
        "--allow-slower", action="store_true", help="ship what is slower than the original"
    )
    parser.add_argument(
        "--accept-estimates", action="store_true", help="let unmeasured figures decide"
    )
    limits = parser.add_argument_group("contract", "these override the project's [contract]")
    for flag, _, _, what in _LIMITS:
        limits.add_argument(flag, metavar="LIMIT", help=what)
    for flag, _, what in _SHARES:
        limits.add_argument(flag, type=float, metavar="N", help=what)


def run(args: argparse.Namespace) -> int:
    """Optimise, or show the plan."""
    from edgewright.cli.report import text
    from edgewright.core import records
    from edgewright.toolchain.planner.workspace import read_report
    from edgewright.toolchain.recipe import carry_out
    from edgewright.toolchain.report.summary import summary

    if args.events and args.json:
        raise UsageError("--events and --json cannot be printed at once")
    order = read_order(args)
    if args.dry_run:
        return _show_plan(args, order)
    try:
        with _watcher(args) as observe:
            report = carry_out(
                order, force=args.force, measure_again=args.measure_again, observe=observe
            )
    except ContractError:
        if not args.json and not args.events:
            print(text(read_report(order.folder), order.folder), flush=True)
        raise
    if not args.events:
        document = {
            "folder": str(order.folder),
            "summary": summary(report),
            **records.encode(report),
        }
        output.emit(args, document, text(report, order.folder))
    return 0


def read_order(args: argparse.Namespace) -> "Order":
    """Return the order that flags and the project file give together; flags win.

    Raises:
        UsageError: No data, or a flag that cannot mean anything.
        ConfigError: The project file is wrong.
    """
    from edgewright.core.contract import from_table
    from edgewright.toolchain.recipe import Order, Project, load_project

    path = args.project or (PROJECT if PROJECT.exists() else None)
    project = load_project(path) if path else Project()
    base = path.parent if path else Path()
    data = args.data or _beside(base, project.data.path)
    if data is None:
        raise UsageError(
            "no data: real inputs are needed to calibrate and to judge",
            hint="Give --data FILE.npz, or [data] path in the project file.",
        )
    return Order(
        model=args.model,
        data=data,
        device=args.device,
        reference=args.reference or _beside(base, project.model.reference),
        contract=from_table({**project.contract, **_asked(args)}),
        out=args.out,
        quantization=args.quantization or project.recipe.quantization,
        goal=args.goal or project.recipe.goal,
        budget_s=_seconds(args.budget or project.recipe.budget),
        policy=project.policy,
        keys=project.data.keys,
        classes=project.data.classes,
        allow_slower=args.allow_slower or project.recipe.allow_slower,
        accept_estimates=args.accept_estimates or project.recipe.accept_estimates,
    )


def _seconds(budget: str) -> int:
    """Return whole seconds, rounded up: a budget of 500ms is one."""
    return -(-parse_duration_us(budget) // 1_000_000) if budget else 0


def _asked(args: argparse.Namespace) -> dict[str, Any]:
    """Return the limits given as flags, by the contract's keys."""
    asked: dict[str, Any] = {}
    for flag, key, read, _ in _LIMITS:
        value = getattr(args, flag[2:].replace("-", "_"))
        if value is not None:
            asked[key] = read(value)
    for flag, key, _ in _SHARES:
        value = getattr(args, flag[2:].replace("-", "_"))
        if value is not None:
            asked[key] = value
    return asked


def _beside(base: Path, path: str) -> Path | None:
    return base / path if path else None


def _show_plan(args: argparse.Namespace, order: "Order") -> int:
    from edgewright.core import records
    from edgewright.toolchain.planner import inputs

    given = inputs.read(order)
    rows = []
    for candidate in given.plan.candidates:
        steps = [
            f"{step.technique} {' '.join(step.settings.values())}" for step in candidate.steps
        ]
        why = candidate.steps[-1].reason if candidate.steps else "what the others are held to"
        rows.append((candidate.name, " > ".join(steps) or "as given", why))
    left_out = [f"left out: {name}: {why}" for name, why in given.plan.left_out.items()]
    text = "\n".join(
        (
            f"{order.model} for {order.device}, written to {order.folder}; nothing was done",
            output.table(("candidate", "steps", "why"), rows),
            *left_out,
        )
    )
    document = {"recipe": records.encode(given.recipe), "plan": records.encode(given.plan)}
    output.emit(args, {"folder": str(order.folder), **document}, text)
    return 0


@contextmanager
def _watcher(args: argparse.Namespace) -> Iterator["Observer"]:
    """Yield what shows progress: JSON lines, a live line on a terminal, or plain lines."""
    if args.events:
        yield _print_event
    elif args.json:
        yield _ignore
    elif sys.stderr.isatty():
        from rich.console import Console

        console = Console(stderr=True, highlight=False)
        with console.status("starting") as status:

            def show(event: "Event") -> None:
                if event.kind == "candidate":
                    console.print(_line(event))
                elif event.kind == "stage":
                    status.update(_line(event))

            yield show
    else:
        yield _print_line


def _print_event(event: "Event") -> None:
    print(json.dumps({"event": event.kind, **event.fields}, sort_keys=True), flush=True)


def _ignore(_event: "Event") -> None:
    """Show nothing."""


def _print_line(event: "Event") -> None:
    if event.kind != "done":
        sys.stderr.write(f"{_line(event)}\n")


def _line(event: "Event") -> str:
    """Return one line for people on what happened."""
    fields = event.fields
    if event.kind == "stage":
        return f"{fields['stage']}: {fields['what']}"
    latency = f", p50 {show_us(fields['p50_us'])}" if fields["p50_us"] is not None else ""
    size = show_bytes(fields["file_bytes"])
    return f"  {fields['name']}: {size}{latency}, {fields['outcome']}: {fields['reason']}"
