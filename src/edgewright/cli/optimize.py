"""``edgewright optimize``: a model, real inputs and a contract; out comes what holds it."""

import argparse
from typing import TYPE_CHECKING

from edgewright.cli import output
from edgewright.cli.live import watcher
from edgewright.cli.order import add_order, add_workers, read_order
from edgewright.core.errors import ContractError, UsageError

if TYPE_CHECKING:
    from edgewright.toolchain.recipe import Order

NAME = "optimize"
HELP = "make a model smaller and faster under a contract, and prove it"

# What may be given beside --ask; the rest is asked.
_KEPT = ("dry_run", "force", "measure_again")


def add_parser(parser: argparse.ArgumentParser) -> None:
    """Add the arguments."""
    add_order(parser)
    parser.add_argument(
        "--ask",
        action="store_true",
        help="ask for what is needed, and print the plain command",
    )
    parser.add_argument("--dry-run", action="store_true", help="show the plan, do nothing")
    parser.add_argument("--force", action="store_true", help="overwrite other inputs' results")
    parser.add_argument(
        "--measure-again", action="store_true", help="do not reuse stored measurements"
    )
    add_workers(parser)
    parser.add_argument("--events", action="store_true", help="print JSON lines as it goes")


def run(args: argparse.Namespace) -> int:
    """Optimise, or show the plan."""
    from edgewright.cli.report import text
    from edgewright.core import records
    from edgewright.toolchain.planner.workspace import read_report
    from edgewright.toolchain.recipe import carry_out
    from edgewright.toolchain.report.summary import summary

    if args.ask:
        return _asked(args)
    if args.events and args.json:
        raise UsageError("--events and --json cannot be printed at once")
    order = read_order(args)
    if args.dry_run:
        return _show_plan(args, order)
    try:
        with watcher(args) as observe:
            report = carry_out(
                order,
                force=args.force,
                measure_again=args.measure_again,
                workers=args.workers,
                observe=observe,
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


def _asked(args: argparse.Namespace) -> int:
    """Ask, print the plain command, and run it if that is wanted."""
    from edgewright.cli.ask import ask
    from edgewright.cli.main import parser

    if args.json or args.events:
        raise UsageError("--ask is for people; leave out --json and --events")
    words, start = ask(args.model)
    kept = [f"--{name.replace('_', '-')}" for name in _KEPT if getattr(args, name)]
    kept += ["--workers", args.workers] if args.workers else []
    return run(parser().parse_args([*words, *kept])) if start else 0


def _show_plan(args: argparse.Namespace, order: "Order") -> int:
    from edgewright.core import records
    from edgewright.toolchain.planner import inputs
    from edgewright.toolchain.report.explain import what_ships

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
            f"which ships: {what_ships(given.recipe)}",
            *left_out,
        )
    )
    document = {"recipe": records.encode(given.recipe), "plan": records.encode(given.plan)}
    output.emit(args, {"folder": str(order.folder), **document}, text)
    return 0
