"""``edgewright publish``: sign a bundle and have a control plane take it."""

import argparse
from pathlib import Path

from edgewright.cli import remote
from edgewright.cli.output import emit, status

NAME = "publish"
HELP = "sign a bundle and hand it to a control plane"


def add_parser(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of this command."""
    parser.add_argument("bundle", metavar="BUNDLE.ewb", type=Path, help="what to publish")
    parser.add_argument(
        "--keys", metavar="DIR", type=Path, required=True, help="what keys init made"
    )
    remote.add_arguments(parser)


def run(args: argparse.Namespace) -> int:
    """Publish one bundle; publishing the same bytes again changes nothing."""
    from edgewright.core import clock, digest, units
    from edgewright.toolchain import publish

    with remote.connected(args) as client, status(args, f"publishing {args.bundle.name}"):
        done = publish.publish(
            args.bundle,
            keys_dir=args.keys,
            client=client,
            now=clock.SystemClock().now(),
        )
    document = {
        "release": str(done.release),
        "digest": done.digest,
        "length": done.length,
        "path": done.path,
        "metadata_version": done.version,
        "expires": clock.show(done.expires),
        "already_published": done.already,
    }
    what = "was published before" if done.already else "published"
    text = (
        f"{done.release} {what}: {digest.short(done.digest)}, "
        f"{units.show_bytes(done.length)}, metadata {done.version}, "
        f"good until {clock.show(done.expires)}"
    )
    emit(args, document, text)
    return 0
