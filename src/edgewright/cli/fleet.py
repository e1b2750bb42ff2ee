"""``edgewright fleet``: the enrolled devices, what is published, who did what."""

import argparse
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from edgewright.cli import remote
from edgewright.cli.output import emit, table
from edgewright.cli.rollout import show_wave
from edgewright.core.errors import NotFoundError, UsageError

if TYPE_CHECKING:
    from collections.abc import Callable

    from edgewright.wire.http import Client

NAME = "fleet"
HELP = "show enrolled devices, releases and the audit"


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


def run(args: argparse.Namespace) -> int:
    """Run one verb."""
    verbs: dict[str, Callable[[argparse.Namespace, Client], int]] = {
        "list": _list,
        "show": _show,
        "audit": _audit,
        "releases": _releases,
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
