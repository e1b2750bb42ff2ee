"""``edgewright keys``: make, show, replace and refresh what releases are signed with.

Private keys are never printed; what is shown of them is the id of the public one.
"""

import argparse
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edgewright.cli import remote
from edgewright.cli.output import emit, table

if TYPE_CHECKING:
    from datetime import datetime

    from edgewright.bundle.signing import RoleState

NAME = "keys"
HELP = "make, show, replace and refresh the keys that releases are signed with"

_SOON_DAYS = 14


def add_parser(parser: argparse.ArgumentParser) -> None:
    """Add the verbs of this command and their arguments."""
    verbs = parser.add_subparsers(dest="verb", metavar="VERB", required=True)

    make = verbs.add_parser("init", help="make all keys and both repositories in a new folder")
    make.add_argument("dir", metavar="DIR", type=Path, help="folder that is made")
    make.add_argument(
        "--root-keys", metavar="N", type=int, default=5, help="how many root keys there are"
    )
    make.add_argument(
        "--root-threshold",
        metavar="M",
        type=int,
        default=3,
        help="how many of them must sign a new root",
    )

    show = verbs.add_parser("show", help="show roles, thresholds, key ids and days left")
    rotate = verbs.add_parser("rotate", help="replace one key, in a new root")
    refresh = verbs.add_parser(
        "refresh", help="sign the artefacts' snapshot and timestamp anew, and upload them"
    )
    for verb in (show, rotate, refresh):
        verb.add_argument("dir", metavar="DIR", type=Path, help="what keys init made")
    rotate.add_argument(
        "role",
        metavar="ROLE",
        help="name of the key: root-1, root-2, ..., releases, freshness or assignments",
    )
    remote.add_arguments(refresh)
    refresh.add_argument(
        "--targets", action="store_true", help="the targets too, with the releases key"
    )


def run(args: argparse.Namespace) -> int:
    """Run one verb, after removing what an interrupted one left."""
    from edgewright.bundle import signing

    signing.tidy(args.dir)
    verbs = {"init": _init, "show": _show, "rotate": _rotate, "refresh": _refresh}
    return verbs[args.verb](args)


def _init(args: argparse.Namespace) -> int:
    from edgewright.bundle import signing

    signing.init(
        args.dir, root_keys=args.root_keys, root_threshold=args.root_threshold, now=_now()
    )
    private = sorted(path.name for path in (args.dir / "private").iterdir())
    document = {
        "dir": str(args.dir),
        "private": private,
        "root_keys": args.root_keys,
        "root_threshold": args.root_threshold,
    }
    text = (
        f"{len(private)} keys in {args.dir / 'private'}: {', '.join(private)}\n"
        f"{args.root_threshold} of {args.root_keys} root keys replace any other key; "
        "keep them apart and offline.\n"
        f"A control plane needs {args.dir / 'public'} and "
        f"{args.dir / 'private' / 'assignments.key'}, and no other private key."
    )
    emit(args, document, text)
    return 0


def _show(args: argparse.Namespace) -> int:
    from edgewright.bundle import signing

    now = _now()
    states = signing.describe(args.dir)
    rows = [
        (
            state.repository,
            state.role,
            f"{state.threshold} of {len(state.keys)}",
            " ".join(f"{name}:{key_id[:12]}" for name, key_id in sorted(state.keys.items())),
            state.version or "online",
            _days(state, now),
        )
        for state in states
    ]
    head = ("repository", "role", "signs", "keys", "version", "days left")
    emit(args, {"roles": [_document(state, now) for state in states]}, table(head, rows))
    return 0


def _rotate(args: argparse.Namespace) -> int:
    from edgewright.bundle import signing

    done = signing.rotate(args.dir, args.role, now=_now())
    document = {"role": done.name, "key_id": done.key_id, "roots": done.roots}
    roots = " and ".join(f"root {version} of {name}" for name, version in done.roots.items())
    lines = [f"{done.name} is now {done.key_id[:12]}, by {roots}"]
    if "artefacts" in done.roots:
        lines.append("Hand the artefacts on with: edgewright keys refresh")
    if "assignments" in done.roots:
        lines.append("Restart the control plane with the new public folder.")
    emit(args, document, "\n".join(lines))
    return 0


def _refresh(args: argparse.Namespace) -> int:
    from edgewright.core import clock
    from edgewright.toolchain import publish

    with remote.connected(args) as client:
        done = publish.refresh(args.dir, client, targets=args.targets, now=_now())
    document = {
        "metadata_version": done.version,
        "expires": clock.show(done.expires),
        "targets_signed": done.targets,
        "new_roots": list(done.roots),
    }
    signed = "targets, snapshot and timestamp" if done.targets else "snapshot and timestamp"
    roots = "".join(f", new root {version}" for version in done.roots)
    text = f"signed {signed} anew: metadata {done.version}{roots}, good until "
    emit(args, document, text + clock.show(done.expires))
    return 0


def _now() -> "datetime":
    from edgewright.core.clock import SystemClock

    return SystemClock().now()


def _days(state: "RoleState", now: "datetime") -> str:
    if state.expires is None:
        return "-"
    days = (state.expires - now).days
    if days < 0:
        return f"{days} EXPIRED"
    return f"{days} SOON" if days < _SOON_DAYS else str(days)


def _document(state: "RoleState", now: "datetime") -> dict[str, Any]:
    from edgewright.core import clock

    expires = state.expires
    return {
        "repository": state.repository,
        "role": state.role,
        "threshold": state.threshold,
        "keys": state.keys,
        "version": state.version or None,
        "expires": clock.show(expires) if expires else None,
        "days_left": (expires - now).days if expires else None,
    }
