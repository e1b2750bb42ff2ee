"""``edgewright-agent``: run a device, and ask it what it is doing and why.

``run`` is the resident process; the others read what it wrote and may be called at
any time, also while it runs. What they need is imported when they run, so that the
resident process carries none of it.
"""

import argparse
import fcntl
import json
import os
import signal
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from edgewright import __version__
from edgewright.agent import DEFAULT_CONFIG, Home, load_config
from edgewright.core import config
from edgewright.core.commandline import Parser
from edgewright.core.errors import EdgewrightError, UsageError

EXIT_CODES = "exit codes: 0 done, 1 failed, 2 usage, 130 interrupted"
_INTERRUPTED = 130

_WORDS = {
    "staged": "{release} ({digest}) was installed",
    "refused": "{release} ({digest}) was refused",
    "activated": "{release} ({digest}) began to serve, on trial",
    "confirmed": "{release} ({digest}) passed its trial and was kept",
    "reverted": "{release} ({digest}) failed its trial; {serving} serves again",
    "returned": "{release} ({digest}) was left because the fleet said so; {serving} serves",
}


def main(argv: Sequence[str] | None = None) -> int:
    """Run one verb; return its exit code."""
    args = _parser().parse_args(argv)
    try:
        return int(args.verb(args))
    except EdgewrightError as error:
        if getattr(args, "json", False):
            body = {"code": error.code, "message": str(error), "hint": error.hint}
            print(json.dumps({"error": body}))
        else:
            sys.stderr.write(f"edgewright-agent: {error}\n")
            if error.hint:
                sys.stderr.write(f"  hint: {error.hint}\n")
        return error.exit_code
    except KeyboardInterrupt:
        return _INTERRUPTED


def _run(args: argparse.Namespace) -> int:
    from edgewright.agent.supervisor import Supervisor
    from edgewright.core.clock import SystemClock

    stopping: list[int] = []
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda got, _frame: stopping.append(got))
    home = Home(args.home.absolute())
    path = args.config.absolute()
    supervisor = Supervisor(home, load_config(path), path, SystemClock())
    try:
        supervisor.run(lambda: bool(stopping))
    finally:
        supervisor.close()
    return 0


def _status(args: argparse.Namespace) -> int:
    found = _last_status(args.home)
    found["running"] = _running(args.home)
    serving = found.get("serving") if found["running"] else None
    trial = found.get("trial") or {}
    spool = found.get("spool") or {}
    lines = [
        f"device   {found.get('device') or 'not enrolled'} ({found.get('name')})",
        f"agent    {'running' if found['running'] else 'stopped'}, as of {found.get('at')}",
        f"serving  {_slot_line(serving or {})} on port {found.get('port')}",
    ]
    if trial:
        lines.append(f"trial    {trial['release']}, start {trial['attempts']}")
    wanted = (found.get("wanted") or {}).get("release", "nothing known")
    lines.append(f"wanted   {wanted}, last contact {found.get('last_contact') or 'never'}")
    told = f"{spool.get('queued', 0)} events queued, {spool.get('lost', 0)} lost"
    lines.append(f"to tell  {told}")
    lines += [f"problem  {one['at']} {one['message']}" for one in found.get("problems", [])]
    _emit(args, found, "\n".join(lines))
    return 0


def _why(args: argparse.Namespace) -> int:
    path = Home(args.home).journal
    if not path.exists():
        raise UsageError(f"nothing ever happened in {args.home}", hint=_HOME_HINT)
    # Not through ``Journal``, which would cut a line the agent is just writing.
    lines = path.read_bytes().split(b"\n")[:-1]
    records = [json.loads(line.partition(b" ")[2]) for line in lines][-args.last :]
    names = {one["digest"]: one["release"] for one in records}
    _emit(args, {"transitions": records}, "\n".join(_sentence(one, names) for one in records))
    return 0


def _models(args: argparse.Namespace) -> int:
    found = _last_status(args.home)
    named = ("active", "previous", "golden")
    rows = []
    for slot in found.get("slots", []):
        roles = [name for name in named if found.get(name) == slot["digest"]]
        rows.append({**slot, "roles": roles})
    text = [
        f"{row['release']:<24} {row['digest'][7:19]}  {row['state']:<9} "
        + " ".join(row["roles"])
        for row in rows
    ]
    _emit(args, {"slots": rows}, "\n".join(line.rstrip() for line in text) or "no models")
    return 0


def _probe(args: argparse.Namespace) -> int:
    from edgewright.core import probe, records

    found = {
        "profile": records.encode(probe.probe()),
        "conditions": records.encode(probe.conditions(args.home)),
    }
    sources = found["profile"]["sources"]
    lines = []
    for part in found.values():
        for key, value in part.items():
            if key != "sources":
                origin = f"  ({sources[key]})" if key in sources else ""
                lines.append(_figure(key, value) + origin)
    _emit(args, found, "\n".join(lines))
    return 0


def _doctor(args: argparse.Namespace) -> int:
    from edgewright.agent.doctor import examine

    checks = examine(Home(args.home), args.config)
    lines = [
        f"{'ok  ' if one.passed else 'FAIL'} {one.name}: {one.found}"
        + (f"\n       {one.hint}" if one.hint and not one.passed else "")
        for one in checks
    ]
    document = {"checks": [one.as_json() for one in checks]}
    _emit(args, document, "\n".join(lines))
    return 0 if all(one.passed for one in checks) else 1


def _figure(key: str, value: Any) -> str:
    """Return a value of a probe as people read it, by the unit its name ends in."""
    from edgewright.core.units import show_bytes

    if isinstance(value, list):
        shown = ", ".join(value) or "none known"
    elif key.endswith("_bytes"):
        key, shown = key.removesuffix("_bytes"), show_bytes(value)
    elif key.endswith("_mhz"):
        key, shown = key.removesuffix("_mhz"), f"{value} MHz"
    elif key.endswith("_milli_c"):
        key, shown = key.removesuffix("_milli_c"), f"{value / 1000:.1f} °C"
    elif key.endswith("_percent"):
        key, shown = key.removesuffix("_percent"), f"{value} %"
    else:
        shown = str(value)
    return f"{key.replace('_', ' '):<18} {shown}"


def _last_status(home: Path) -> dict[str, Any]:
    try:
        found: dict[str, Any] = json.loads(Home(home).status.read_bytes())
    except (OSError, ValueError) as error:
        raise UsageError(f"no agent has run in {home}", hint=_HOME_HINT) from error
    return found


def _running(home: Path) -> bool:
    """Whether an agent holds the lock on its folder."""
    descriptor = os.open(home, os.O_RDONLY | os.O_DIRECTORY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    finally:
        os.close(descriptor)
    return False


def _slot_line(serving: dict[str, Any]) -> str:
    if not serving:
        return "nothing"
    return f"{serving['release']} ({serving['digest'][7:19]}, {serving['variant']})"


def _sentence(record: dict[str, Any], names: dict[str, str]) -> str:
    """Return one transition in plain words."""
    serving = record.get("serving", "")
    known = names.get(serving) or serving[7:19]
    words = _WORDS[record["what"]].format(
        release=record["release"], digest=record["digest"][7:19], serving=known or "nothing"
    )
    reason = f": {record['reason']}" if record.get("reason") else ""
    asked = f" [{record['rollout']}]" if record.get("rollout") else ""
    return f"{record['at']}  {words}{reason}{asked}"


def _emit(args: argparse.Namespace, document: Any, text: str) -> None:
    print(json.dumps(document, indent=2, sort_keys=True) if args.json else text)


def _parser() -> argparse.ArgumentParser:
    parser = Parser(
        prog="edgewright-agent",
        description="Keep a verified model answering on this device.",
        epilog=EXIT_CODES,
    )
    parser.add_argument("--version", action="version", version=f"edgewright {__version__}")
    verbs = parser.add_subparsers(metavar="VERB", required=True)
    table = (
        ("run", _run, "run the agent until it is told to stop"),
        ("status", _status, "what it is doing"),
        ("why", _why, "what became of every release, and why"),
        ("models", _models, "what is installed"),
        ("probe", _probe, "what this machine is"),
        ("doctor", _doctor, "what would keep it from working"),
    )
    for name, verb, text in table:
        one = verbs.add_parser(name, help=text, description=text, epilog=EXIT_CODES)
        one.set_defaults(verb=verb)
        one.add_argument("--home", type=Path, default=config.home(), help="state folder")
        if name in {"run", "doctor"}:
            one.add_argument(
                "--config", type=Path, default=DEFAULT_CONFIG, help="settings of this device"
            )
        if name != "run":
            one.add_argument("--json", action="store_true", help="print one JSON document")
        if name == "why":
            one.add_argument("--last", type=int, default=20, metavar="N", help="transitions")
    return parser


_HOME_HINT = "Name the device's folder with --home or EDGEWRIGHT_HOME."


if __name__ == "__main__":
    sys.exit(main())
