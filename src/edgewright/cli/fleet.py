"""``edgewright fleet``: the enrolled devices, what is published, who did what, who may."""

import argparse
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from edgewright.cli import remote
from edgewright.cli.output import emit, table
from edgewright.cli.rollout import show_wave
from edgewright.core.errors import NotFoundError, StorageError, UsageError

if TYPE_CHECKING:
    from collections.abc import Callable

    from edgewright.wire.http import Client

NAME = "fleet"
HELP = "show enrolled devices, releases and the audit; create and revoke tokens"

# As ``fleet.access`` has them, which help need not import.
_SCOPES = ("operate", "enrol")


def add_parser(parser: argparse.ArgumentParser) -> None:
    """Add the verbs of this command."""
    verbs = parser.add_subparsers(dest="verb", metavar="VERB", required=True)
    remote.add_arguments(verbs.add_parser("list", help="list devices and what they serve"))
    show = verbs.add_parser("show", help="show everything known of one device")
    show.add_argument(
        "device", metavar="DEVICE", help="its id, or its name if only one has it"
    )
    remote.add_arguments(show)
    remote.add_arguments(verbs.add_parser("audit", help="list who did what, oldest first"))
    remote.add_arguments(verbs.add_parser("releases", help="list what is published"))
    _add_tokens(verbs.add_parser("tokens", help="list, create and revoke tokens"))


def _add_tokens(parser: argparse.ArgumentParser) -> None:
    verbs = parser.add_subparsers(dest="token_verb", metavar="VERB", required=True)
    remote.add_arguments(verbs.add_parser("list", help="list tokens, never their secrets"))
    create = verbs.add_parser("create", help="make a token; its secret is shown this once")
    create.add_argument(
        "--scope",
        choices=_SCOPES,
        required=True,
        help="operate: publish and roll out; enrol: introduce a device",
    )
    create.add_argument(
        "-o",
        "--out",
        metavar="FILE",
        type=Path,
        help="a new file for the secret, which is then not printed",
    )
    remote.add_arguments(create)
    revoke = verbs.add_parser("revoke", help="let nobody in with a token any more")
    revoke.add_argument("token", metavar="ID", help="as list shows it, tok_...")
    revoke.add_argument(
        "--force", action="store_true", help="even the last token that may operate"
    )
    remote.add_arguments(revoke)


def run(args: argparse.Namespace) -> int:
    """Run one verb."""
    verbs: dict[str, Callable[[argparse.Namespace, Client], int]] = {
        "list": _list,
        "show": _show,
        "audit": _audit,
        "releases": _releases,
        "tokens": _tokens,
    }
    return remote.run_verb(args, verbs)


def _list(args: argparse.Namespace, client: "Client") -> int:
    found = list(remote.pages(client, "/v1/devices", "devices"))
    rows = [
        (
            one["name"] or "-",
            one["device"],
            one["channel"],
            _labels(one),
            _serving(one),
            one["answered"],
            one["failed"] + one["late"],
            _us(one["p50_us"]),
            _us(one["p99_us"]),
            one["seen_at"] or "never",
        )
        for one in found
    ]
    head = (
        "name", "device", "channel", "labels", "serving", "answers", "errors", "p50", "p99",
        "last seen",
    )  # fmt: skip
    emit(args, {"devices": found}, table(head, rows) if rows else "no devices are enrolled")
    return 0


def _show(args: argparse.Namespace, client: "Client") -> int:
    document = client.call("GET", f"/v1/devices/{_device_id(args.device, client)}")
    emit(args, document, _in_full(document))
    return 0


def _audit(args: argparse.Namespace, client: "Client") -> int:
    found = list(remote.pages(client, "/v1/audit", "audit"))
    rows = [
        (
            one["seq"],
            one["at"],
            one["actor"],
            one["action"],
            one["object"],
            _about(one),
            one["detail"].get("reason", ""),
        )
        for one in found
    ]
    head = ("seq", "at", "actor", "action", "object", "about", "reason")
    emit(args, {"audit": found}, table(head, rows))
    return 0


def _releases(args: argparse.Namespace, client: "Client") -> int:
    from edgewright.core import digest, units

    found = list(remote.pages(client, "/v1/releases", "releases"))
    rows = [
        (
            one["release"],
            digest.short(one["digest"]),
            units.show_bytes(one["length"]),
            one["published_at"],
            one["published_by"],
        )
        for one in found
    ]
    head = ("release", "digest", "size", "published", "by")
    emit(args, {"releases": found}, table(head, rows) if rows else "nothing is published")
    return 0


def _tokens(args: argparse.Namespace, client: "Client") -> int:
    verbs = {"list": _list_tokens, "create": _create_token, "revoke": _revoke_token}
    return verbs[args.token_verb](args, client)


def _list_tokens(args: argparse.Namespace, client: "Client") -> int:
    found = list(remote.pages(client, "/v1/tokens", "tokens"))
    rows = [
        (
            one["token"],
            one["scope"],
            one["created_at"],
            one["revoked_at"] or "-",
            "yours" if one["yours"] else "",
        )
        for one in found
    ]
    head = ("token", "scope", "created", "revoked", "")
    emit(args, {"tokens": found}, table(head, rows))
    return 0


def _create_token(args: argparse.Namespace, client: "Client") -> int:
    from edgewright.core import durable

    if args.out is not None and args.out.exists():
        raise UsageError(
            f"{args.out} exists already",
            hint="A token is never overwritten; name another file.",
        )
    made = client.call("POST", "/v1/tokens", {"scope": args.scope})
    if args.out is None:
        sys.stderr.write(f"{made['token']} may {made['scope']}; this is shown once:\n")
        emit(args, made, made["secret"])
        return 0
    secret = made.pop("secret")
    try:
        durable.replace_file(args.out, secret.encode() + b"\n", mode=0o600)
    except StorageError:
        # Nobody has its secret, and nobody will.
        client.call("POST", f"/v1/tokens/{made['token']}/revoke")
        raise
    text = f"{made['token']} may {made['scope']}; its secret is in {args.out}"
    emit(args, {**made, "file": str(args.out)}, text)
    return 0


def _revoke_token(args: argparse.Namespace, client: "Client") -> int:
    place = f"/v1/tokens/{quote(args.token, safe='')}/revoke"
    done = client.call("POST", place, {"force": args.force})
    emit(args, done, f"{done['token']} lets nobody in since {done['revoked_at']}")
    return 0


def _about(row: dict[str, Any]) -> str:
    """Return which release a rollout's row tells of, in which channel, by which waves."""
    detail = row["detail"]
    if not row["action"].startswith("rollout.") or "waves" not in detail:
        return ""
    waves = " then ".join(map(show_wave, detail["waves"]))
    at = f", wave {detail['wave']} of {len(detail['waves'])}" if "wave" in detail else ""
    return f"{detail['release']} in {detail['channel']}: {waves}{at}"


def _device_id(text: str, client: "Client") -> str:
    """Return the id of the device that has this id or, alone, this name.

    Raises:
        NotFoundError: No device is called so.
        UsageError: Several are.
    """
    if text.startswith("dev-"):
        return quote(text, safe="")
    rows = remote.pages(client, "/v1/devices", "devices")
    found = [one["device"] for one in rows if one["name"] == text]
    if not found:
        raise NotFoundError(f"no device is called {text!r}", hint="edgewright fleet list")
    if len(found) > 1:
        raise UsageError(
            f"{len(found)} devices are called {text!r}", hint=f"Use an id: {', '.join(found)}."
        )
    return str(found[0])


def _in_full(one: dict[str, Any]) -> str:
    serving = one["serving"]
    seen = f"{one['seen_at'] or 'never'}, check-in {one['sequence']}"
    runs = f"{serving['release']}, variant {serving['variant']}" if serving else "nothing"
    lines = [
        f"{one['name'] or one['device']} ({one['device']}), channel {one['channel']}"
        + (f", {_labels(one)}" if one["labels"] else ""),
        f"serves {runs}; assigned {one['assigned'] or 'nothing'}",
        f"last seen {seen}, agent {one['agent_version'] or 'unknown'}",
    ]
    bundles = [
        (
            b["release"],
            b["answered"],
            b["failed"],
            b["late"],
            b["refused"],
            _us(b["p50_us"]),
            _us(b["p99_us"]),
        )
        for b in one["bundles"]
    ]
    queues = [(q["queue_id"], q["high"], q["applied"], q["lost"]) for q in one["queues"]]
    told = [(f["at"], f["what"], f["release"], f["reason"]) for f in one["feedback"]]
    problems = [(p["code"], p["count"], p["at"], p["message"]) for p in one["problems"]]
    for head, rows in (
        (("release", "answered", "failed", "late", "refused", "p50", "p99"), bundles),
        (("at", "what", "release", "reason"), told),
        (("problem", "times", "last at", "message"), problems),
        (("queue", "durable up to", "events", "lost"), queues),
    ):
        if rows:
            lines += ["", table(head, rows)]
    return "\n".join(lines)


def _labels(one: dict[str, Any]) -> str:
    return ",".join(f"{key}={value}" for key, value in sorted(one["labels"].items())) or "-"


def _serving(one: dict[str, Any]) -> str:
    return str(one["serving"]["release"]) if one["serving"] else "-"


def _us(count: int | None) -> str:
    from edgewright.core import units

    return "-" if count is None else units.show_us(count)
