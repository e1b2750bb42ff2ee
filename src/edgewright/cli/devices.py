"""``edgewright devices``: the kinds of device we know, and the machine at hand."""

import argparse
import textwrap
from typing import TYPE_CHECKING

from edgewright.cli import output
from edgewright.core.units import show_bytes

if TYPE_CHECKING:
    from edgewright.core.profile import DeviceProfile

NAME = "devices"
HELP = "the catalogue of devices, and a probe of this machine"

_WIDTH = 100
_INDENT = " " * 23


def add_parser(parser: argparse.ArgumentParser) -> None:
    """Add the verbs."""
    verbs = parser.add_subparsers(dest="verb", metavar="VERB", required=True)
    for name, what in (
        ("list", "every kind of device, by resource class"),
        ("show", "one kind of device, each figure with its source"),
        ("probe", "the machine this runs on"),
    ):
        verb = verbs.add_parser(name, help=what, description=what)
        if name == "show":
            verb.add_argument("name", metavar="NAME", help="as list prints it, or host")


def run(args: argparse.Namespace) -> int:
    """List, show or probe."""
    from edgewright.core import probe, profile

    if args.verb == "list":
        return _list(args, profile.catalogue())
    if args.verb == "probe" or args.name == "host":
        return _show(args, "host", probe.probe())
    return _show(args, args.name, profile.find(args.name))


def _list(args: argparse.Namespace, kinds: "dict[str, DeviceProfile]") -> int:
    rows = [
        (
            name,
            kind.resource_class,
            show_bytes(kind.memory_bytes) if kind.memory_bytes else "?",
            f"{kind.clock_mhz} MHz" if kind.clock_mhz else "?",
            f"{kind.tops_int8_milli / 1000:g}" if kind.tops_int8_milli else "",
            ", ".join(kind.engines),
            kind.title,
        )
        for name, kind in kinds.items()
    ]
    head = ("name", "class", "memory", "clock", "TOPS", "engines", "what it is")
    output.emit(
        args, {name: _document(kind) for name, kind in kinds.items()}, output.table(head, rows)
    )
    return 0


def _show(args: argparse.Namespace, name: str, kind: "DeviceProfile") -> int:
    document = _document(kind)
    lines = [f"{name}: {kind.title}"]
    for key, value in document.items():
        if key in {"title", "sources"} or value is None or value == "":
            continue
        lines.append(f"  {key:21}{_text(key, value)}")
        if key in kind.sources:
            lines += textwrap.wrap(
                kind.sources[key],
                _WIDTH,
                initial_indent=f"{_INDENT}from ",
                subsequent_indent=_INDENT,
            )
    output.emit(args, {"name": name, **document}, "\n".join(lines))
    return 0


def _document(kind: "DeviceProfile") -> dict[str, object]:
    from edgewright.core import records

    encoded = {**records.encode(kind), "resource_class": kind.resource_class}
    return {**encoded, "fingerprint": kind.fingerprint}


def _text(key: str, value: object) -> str:
    if isinstance(value, list):
        return ", ".join(map(str, value))
    if key.endswith("_bytes") and isinstance(value, int):
        return show_bytes(value)
    if key == "tops_int8_milli" and isinstance(value, int):
        return f"{value / 1000:g} TOPS int8"
    return str(value)
