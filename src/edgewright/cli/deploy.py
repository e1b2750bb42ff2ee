"""``edgewright deploy``: from a model to devices in one call.

It is ``optimize``, ``pack``, ``publish`` and ``rollout start --wait`` in that order; the
first that refuses ends it, with the list of what was missed. What it did is kept in
``deployment.json`` beside the report.
"""

import argparse
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edgewright.cli import remote, rollout
from edgewright.cli.order import add_order, add_workers, read_order
from edgewright.cli.output import emit, status

if TYPE_CHECKING:
    from edgewright.wire.http import Client

NAME = "deploy"
HELP = "optimize, pack, publish and roll out in one call"

_EXIT = {"done": 0}


def add_parser(parser: argparse.ArgumentParser) -> None:
    """Add the arguments: those of the four steps."""
    add_order(parser)
    parser.add_argument("--force", action="store_true", help="overwrite other inputs' results")
    add_workers(parser)
    parser.add_argument("--name", required=True, help="of the release, like digits")
    parser.add_argument("--label", default="", help="free text for people")
    parser.add_argument(
        "--keys", metavar="DIR", type=Path, required=True, help="what keys init made"
    )
    rollout.add_plan(parser)
    remote.add_arguments(parser)


def run(args: argparse.Namespace) -> int:
    """Take a model all the way; exit 0 only when every device confirmed it."""
    from edgewright.core import durable, names, records
    from edgewright.toolchain.recipe import carry_out

    names.check_name(args.name, "release")
    rollout.plan(args, f"{args.name}@1")  # a bad wave is refused before the long work
    order = read_order(args)
    with remote.connected(args) as client:
        with status(args, f"optimizing {Path(args.model).name}"):
            report = carry_out(order, force=args.force, workers=args.workers)
        document: dict[str, Any] = {
            "deployment": names.new_id("dpl"),
            **_ship(args, client, order.folder),
            "verdict": report.outcome,
        }
    kept = json.dumps(records.encode(document), indent=1, sort_keys=True).encode()
    durable.replace_file(order.folder / "deployment.json", kept + b"\n")
    text = (
        f"{document['deployment']}: {document['release']} is {document['state']} in "
        f"{args.channel}: {document['reason']}"
    )
    emit(args, document, text)
    return _EXIT.get(document["state"], 1)


def _ship(args: argparse.Namespace, client: "Client", folder: Path) -> dict[str, Any]:
    """Pack, publish and roll out what ``folder`` holds; return how it ended."""
    from edgewright.core.clock import SystemClock
    from edgewright.toolchain.pack import Wish, pack
    from edgewright.toolchain.publish import publish

    number = next_number(client, args.name)
    bundle = folder / f"{args.name}-{number}.ewb"
    packed = pack(folder, bundle, Wish(args.name, number, args.label))
    published = publish(bundle, keys_dir=args.keys, client=client, now=SystemClock().now())
    with status(args, f"rolling out {published.release}"):
        made = rollout.begin(client, rollout.plan(args, str(published.release)))
        ended = rollout.end(client, made["rollout"])
    return {
        "release": str(published.release),
        "digest": packed.digest,
        "bundle": str(bundle),
        "rollout": made["rollout"],
        "state": ended["state"],
        "reason": ended["reason"],
        "transport_bytes": packed.transport_bytes,
    }


def next_number(client: "Client", name: str) -> int:
    """Return the number after the highest published under ``name``."""
    from edgewright.core.names import parse_release

    known = (
        parse_release(one["release"])
        for one in remote.pages(client, "/v1/releases", "releases")
    )
    return 1 + max((one.version for one in known if one.name == name), default=0)
