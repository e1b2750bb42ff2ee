"""``edgewright pack``: from an optimised folder to the bundle that ships."""

import argparse
from pathlib import Path

from edgewright.cli import output
from edgewright.core.units import show_bytes

NAME = "pack"
HELP = "make a bundle (.ewb) of what optimize chose"


def add_parser(parser: argparse.ArgumentParser) -> None:
    """Add the arguments."""
    parser.add_argument("folder", type=Path, metavar="DIR", help="made by optimize")
    parser.add_argument("--name", required=True, help="of the release, like digits")
    parser.add_argument(
        "--version", type=int, required=True, metavar="N", help="of the release, from 1"
    )
    parser.add_argument(
        "-o", "--out", type=Path, metavar="FILE", help="default <name>-<version>.ewb"
    )
    parser.add_argument("--label", default="", help="free text for people")
    parser.add_argument(
        "--with-float", action="store_true", help="carry the float candidate as well"
    )
    parser.add_argument(
        "--override", default="", metavar="REASON",
        help="pack what is refused; the reason is signed, and devices still refuse it",
    )  # fmt: skip


def run(args: argparse.Namespace) -> int:
    """Pack, and say what came of it."""
    from edgewright.toolchain.pack import Wish, pack

    wish = Wish(args.name, args.version, args.label, args.with_float, args.override)
    out = args.out or Path(f"{args.name}-{args.version}.ewb")
    packed = pack(args.folder, out, wish)
    manifest = packed.manifest
    variants = [variant.name for variant in manifest.variants]
    document = {
        "path": str(packed.path),
        "release": str(manifest.release),
        "digest": packed.digest,
        "transport_bytes": packed.transport_bytes,
        "storage_bytes": packed.storage_bytes,
        "variants": variants,
        "verdict": manifest.verdict,
        "overrides": [
            {"refusal": o.refusal, "reason": o.reason, "finding": o.finding}
            for o in manifest.overrides
        ],
    }
    lines = [
        f"{manifest.release} with {', '.join(variants)} is {packed.path}",
        f"  {packed.digest}",
        (
            f"  {show_bytes(packed.transport_bytes)} to download, "
            f"{show_bytes(packed.storage_bytes)} installed, "
            f"{manifest.golden.reference.count} golden inputs, verdict {manifest.verdict}"
        ),
        *(f"  overruled {o.refusal}: {o.finding}" for o in manifest.overrides),
    ]
    output.emit(args, document, "\n".join(lines))
    return 0
