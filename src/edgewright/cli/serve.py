"""``edgewright serve``: the control plane, in one process, on one state folder."""

import argparse
import json
from pathlib import Path

NAME = "serve"
HELP = "run the control plane: registry, rollouts, devices, audit"

_DEFAULT_PORT = 8600
_LARGEST = "4GiB"


_TOKENS = {"operate": "operators", "enrol": "devices that enrol"}


def add_parser(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of this command."""
    parser.add_argument(
        "--state", metavar="DIR", type=Path, required=True, help="what must not be lost"
    )
    parser.add_argument(
        "--trust", metavar="DIR", type=Path, required=True, help="KEYS/public of keys init"
    )
    parser.add_argument(
        "--assignments-key",
        metavar="FILE",
        type=Path,
        required=True,
        help="KEYS/private/assignments.key, which signs what devices should run",
    )
    parser.add_argument(
        "--host", default="127.0.0.1", help="address to listen on (%(default)s)"
    )
    parser.add_argument(
        "--port",
        type=int,
        default=_DEFAULT_PORT,
        help="port to listen on, 0 for a free one (%(default)s)",
    )
    parser.add_argument(
        "--interval",
        metavar="TIME",
        default="30s",
        help="what devices are told to wait between check-ins, a running rollout "
        "apart (%(default)s)",
    )
    parser.add_argument(
        "--max-bundle",
        metavar="BYTES",
        default=_LARGEST,
        help="largest bundle that is taken (%(default)s)",
    )
    parser.add_argument(
        "--log-requests",
        action="store_true",
        help="one line of JSON per request on standard error",
    )


def run(args: argparse.Namespace) -> int:
    """Serve until stopped; the first line printed is the address."""
    from edgewright.core import units
    from edgewright.core.errors import UsageError
    from edgewright.fleet.api.plane import Settings
    from edgewright.fleet.api.server import serve

    if not 0 <= args.port <= 65535:
        raise UsageError(f"--port must be 0 to 65535, got {args.port}")
    interval_us = units.parse_duration_us(args.interval)
    if not interval_us:
        raise UsageError("--interval must be more than 0", hint="Write it like 30s.")
    settings = Settings(
        state=args.state,
        trust=args.trust,
        assignments_key=args.assignments_key,
        interval_s=interval_us / 10**6,
        max_blob_bytes=units.parse_bytes(args.max_bundle),
    )

    def announce(url: str) -> None:
        tokens = {name: str(args.state / "tokens" / f"{name}.token") for name in _TOKENS}
        if args.json:
            text = json.dumps({"url": url, "state": str(args.state), "tokens": tokens})
        else:
            who = ", ".join(f"{what}: {tokens[name]}" for name, what in _TOKENS.items())
            text = f"{url}\ntokens for {who}"
        print(text, flush=True)

    serve(
        settings,
        host=args.host,
        port=args.port,
        announce=announce,
        log_requests=args.log_requests,
    )
    return 0
