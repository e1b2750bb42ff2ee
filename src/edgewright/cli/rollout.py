"""``edgewright rollout``: start a staged delivery, watch it, stop it."""

import argparse
import os
import sys
import time
from typing import TYPE_CHECKING, Any

from edgewright.cli import remote
from edgewright.cli.output import emit, table
from edgewright.core.errors import NotFoundError, TransportError, UsageError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from edgewright.wire.http import Client

NAME = "rollout"
HELP = "start, watch and stop staged deliveries of a release"

_POLL_S = 0.5
_PATIENCE_S = 60.0
_ENDED = {"done": 0, "halted": 1}


def add_parser(parser: argparse.ArgumentParser) -> None:
    """Add the verbs of this command."""
    verbs = parser.add_subparsers(dest="verb", metavar="VERB", required=True)

    start = verbs.add_parser("start", help="roll a release out, wave by wave")
    start.add_argument("release", metavar="RELEASE", help="what is published, like digits@2")
    add_plan(start)
    start.add_argument("--wait", action="store_true", help="watch it to its end")
    remote.add_arguments(start)

    remote.add_arguments(verbs.add_parser("list", help="list all rollouts"))
    for name, text in (
        ("show", "show one rollout with its waves and devices"),
        ("watch", "follow one to its end; exit 0 when done, 1 when halted"),
        ("pause", "open no more waves until resumed"),
        ("resume", "go on with a paused one"),
        ("abort", "send every device back to the base"),
    ):
        verb = verbs.add_parser(name, help=text)
        verb.add_argument(
            "rollout", metavar="ROLLOUT", nargs="?", help="its id; the newest if left out"
        )
        remote.add_arguments(verb)


_WAVES = ("wave", "devices with", "share", "state", "devices", "confirmed", "failed")
_DEVICES = (
    "device", "wave", "assigned", "serving", "phase", "answers", "errors", "reason",
)  # fmt: skip
_HELP = (
    "share of a wave's devices that must confirm (%(default)s)",
    "answers a wave must attempt with the release (%(default)s)",
    "answers that may fail or come late (%(default)s)",
    "p99 over that of the base on the same devices (%(default)s)",
    "devices that may refuse or revert it (%(default)s)",
    "time that must pass after the last confirmation (%(default)s)",
    "time after which an undecided wave is given up (%(default)s)",
)


def add_plan(parser: argparse.ArgumentParser) -> None:
    """Add what ``plan`` reads: the channel, the waves, and the gate between them."""
    parser.add_argument("--channel", required=True, help="the line of devices that gets it")
    parser.add_argument(
        "--wave",
        metavar="SPEC",
        action="append",
        required=True,
        help="labels and share, canary=yes or site=lab,10%%; one for each wave, 100%% last",
    )
    parser.add_argument("--min-confirmed", metavar="SHARE", default="100%", help=_HELP[0])
    parser.add_argument("--min-inferences", metavar="N", type=int, default=50, help=_HELP[1])
    parser.add_argument("--max-error", metavar="SHARE", default="2%", help=_HELP[2])
    parser.add_argument("--max-slowdown", metavar="X", default="3", help=_HELP[3])
    parser.add_argument("--max-failed", metavar="N", type=int, default=0, help=_HELP[4])
    parser.add_argument("--soak", metavar="TIME", default="0s", help=_HELP[5])
    parser.add_argument("--deadline", metavar="TIME", default="1h", help=_HELP[6])


def run(args: argparse.Namespace) -> int:
    """Run one verb."""
    verbs: dict[str, Callable[[argparse.Namespace, Client], int]] = {
        "start": _start,
        "list": _list,
        "show": _show,
        "watch": _watch,
        "pause": _move,
        "resume": _move,
        "abort": _move,
    }
    return remote.run_verb(args, verbs)


def parse_wave(text: str) -> dict[str, Any]:
    """Return ``site=lab,10%`` as ``{"labels": {"site": "lab"}, "bp": 1000}``.

    Raises:
        UsageError: It has another form.
    """
    labels, shares = {}, []
    for part in text.split(","):
        key, equals, value = part.strip().partition("=")
        if equals and key and value:
            labels[key] = value
        elif not equals:
            shares.append(parse_share_bp(part))
        else:
            raise UsageError(f"{text!r} is not a wave", hint="Write it like site=lab,10%.")
    if len(shares) > 1:
        raise UsageError(f"wave {text!r} has {len(shares)} shares")
    return {"labels": labels, "bp": shares[0] if shares else 10_000}


def show_wave(wave: dict[str, Any]) -> str:
    """Return a wave as ``parse_wave`` reads it: ``site=lab,10%``."""
    share = f"{wave['bp'] / 100:g}%"
    return ",".join(
        [*(f"{key}={value}" for key, value in sorted(wave["labels"].items())), share]
    )


def parse_share_bp(text: str) -> int:
    """Return ``2%`` or ``0.5%`` in basis points.

    Raises:
        UsageError: It has another form, is over 100 %, or finer than 0.01 %.
    """
    from decimal import Decimal, InvalidOperation

    try:
        value = Decimal(text.strip().removesuffix("%").strip()) * 100
    except InvalidOperation:
        value = Decimal(-1)
    possible = value.is_finite() and 0 <= value <= 10_000 and value == int(value)
    if not text.strip().endswith("%") or not possible:
        raise UsageError(
            f"{text!r} is not a share", hint="Write it like 10% or 0.5%, up to 100%."
        )
    return int(value)


def _gate(args: argparse.Namespace) -> dict[str, int]:
    from decimal import Decimal, InvalidOperation

    from edgewright.core import units

    try:
        slowdown = int(Decimal(args.max_slowdown) * 10_000)
    except (InvalidOperation, ValueError, OverflowError) as error:
        raise UsageError(f"--max-slowdown {args.max_slowdown!r} is not a number") from error
    seconds = {}
    for name in ("soak", "deadline"):
        us = units.parse_duration_us(getattr(args, name))
        if us % 10**6:
            raise UsageError(f"--{name} is counted in whole seconds")
        seconds[name] = us // 10**6
    return {
        "min_confirmed_bp": parse_share_bp(args.min_confirmed),
        "min_inferences": args.min_inferences,
        "max_error_bp": parse_share_bp(args.max_error),
        "max_slowdown_bp": slowdown,
        "max_failed": args.max_failed,
        "soak_s": seconds["soak"],
        "deadline_s": seconds["deadline"],
    }


def plan(args: argparse.Namespace, release: str) -> dict[str, Any]:
    """Return what is asked of the control plane: ``release`` by waves, under a gate.

    Raises:
        UsageError: A wave, a share or a time has another form.
    """
    return {
        "channel": args.channel,
        "release": release,
        "waves": [parse_wave(text) for text in args.wave],
        "gate": _gate(args),
    }


def begin(client: "Client", asked: dict[str, Any]) -> dict[str, Any]:
    """Start a rollout; asked again after a cut, it is still the same one."""
    key = {"Idempotency-Key": os.urandom(16).hex()}
    made: dict[str, Any] = client.call("POST", "/v1/rollouts", asked, headers=key)
    for warning in made["warnings"]:
        sys.stderr.write(f"warning: {warning}\n")
    return made


def _start(args: argparse.Namespace, client: "Client") -> int:
    made = begin(client, plan(args, args.release))
    if args.wait:
        return follow(args, client, made["rollout"])
    base = made["base"] or "nothing"
    emit(args, made, f"{made['rollout']}: {made['release']} over {base} in {made['channel']}")
    return 0


def _list(args: argparse.Namespace, client: "Client") -> int:
    found = list(remote.pages(client, "/v1/rollouts", "rollouts"))
    rows = [
        (
            one["rollout"],
            one["channel"],
            one["release"],
            one["base"] or "-",
            one["state"],
            f"{one['open_waves']}/{len(one['waves'])}",
            one["created_at"],
            one["reason"],
        )
        for one in found
    ]
    head = ("rollout", "channel", "release", "base", "state", "waves", "started", "reason")
    emit(args, {"rollouts": found}, table(head, rows) if rows else "no rollouts yet")
    return 0


def _show(args: argparse.Namespace, client: "Client") -> int:
    document = client.call("GET", f"/v1/rollouts/{_named(args, client)}")
    emit(args, document, _in_full(document))
    return 0


def _move(args: argparse.Namespace, client: "Client") -> int:
    rollout = _named(args, client)
    document = client.call("POST", f"/v1/rollouts/{rollout}/{args.verb}")
    emit(args, document, _headline(document))
    return 0


def _watch(args: argparse.Namespace, client: "Client") -> int:
    return follow(args, client, _named(args, client))


def follow(args: argparse.Namespace, client: "Client", rollout: str) -> int:
    """Show a rollout until it has ended; live on a terminal, a line per change elsewhere."""
    states = _states(client, rollout)
    if args.json:
        last = _last(states)
        emit(args, last, "")
    elif sys.stdout.isatty():
        last = _live(states)
    else:
        last, said = {}, ""
        for last in states:
            if (line := _headline(last)) != said:
                print(line, flush=True)
            said = line
    return _ENDED[last["state"]]


def _states(client: "Client", rollout: str) -> "Iterator[dict[str, Any]]":
    """Return the rollout again and again until it has ended; a short outage is sat out."""
    heard = time.monotonic()
    while True:
        try:
            document = client.call("GET", f"/v1/rollouts/{rollout}")
        except TransportError:
            if time.monotonic() - heard > _PATIENCE_S:
                raise
        else:
            heard = time.monotonic()
            yield document
            if document["state"] in _ENDED:
                return
        time.sleep(_POLL_S)


def end(client: "Client", rollout: str) -> dict[str, Any]:
    """Return the rollout once it has ended."""
    return _last(_states(client, rollout))


def _last(states: "Iterator[dict[str, Any]]") -> dict[str, Any]:
    *_, last = states
    return last


def _live(states: "Iterator[dict[str, Any]]") -> dict[str, Any]:
    from rich.live import Live
    from rich.text import Text

    last: dict[str, Any] = {}
    with Live(refresh_per_second=4) as view:
        for last in states:
            view.update(Text(_in_full(last)))
    return last


def _named(args: argparse.Namespace, client: "Client") -> str:
    """Return the rollout that was named, or the newest.

    Raises:
        NotFoundError: None was named and there is none.
    """
    if args.rollout:
        return str(args.rollout)
    known = list(remote.pages(client, "/v1/rollouts", "rollouts"))
    if not known:
        raise NotFoundError("there is no rollout yet", hint="edgewright rollout start ...")
    return str(known[-1]["rollout"])


def _headline(document: dict[str, Any]) -> str:
    """Return one line: what, how far, and why it stands there."""
    waves = document["waves"]
    number = document["open_waves"]
    why = document["reason"]
    if document["now"]:
        why = f"wave {number} of {len(waves)}: {document['now']['reason']}"
    return f"{document['rollout']} {document['release']} {document['state']}: {why}"


def _in_full(document: dict[str, Any]) -> str:
    waves = [
        (
            number,
            ",".join(f"{k}={v}" for k, v in sorted(wave["labels"].items())) or "all",
            f"{wave['bp'] / 100:g}%",
            wave["state"],
            wave["devices"],
            wave["confirmed"],
            wave["failed"],
        )
        for number, wave in enumerate(document["waves"], start=1)
    ]
    devices = [
        (
            one["name"] or one["device"],
            one["wave"] or "-",
            one["assigned"] or "-",
            one["serving"] or "-",
            one["phase"],
            one["attempted"],
            one["errors"],
            one["reason"],
        )
        for one in document["devices"]
    ]
    lines = [_headline(document), "", table(_WAVES, waves), ""]
    now = document["now"] or {}
    unjudged = now.get("unjudged", "")
    if unjudged and unjudged not in now["reason"]:  # a decision to go on says it itself
        lines.insert(1, f"wave {document['open_waves']}: {unjudged}")
    if devices:
        lines += [table(_DEVICES, devices), ""]
    lines += [
        f"{one['at']}  wave {one['wave']}  {one['decision']}: {one['reason']}"
        for one in document["decisions"]
    ]
    return "\n".join(lines).rstrip()
