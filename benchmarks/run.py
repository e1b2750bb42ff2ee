"""Every figure the project quotes, measured on the machine at hand.

``python benchmarks/run.py [--quick] [AREA ...]`` prints a table for each area and
writes ``benchmarks/results/<area>.json``. Timings are interleaved with what they
are compared with; a row that misses its goal is written as it is.
"""

import argparse
import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from edgewright.cli.output import table
from edgewright.core.probe import probe

HERE = Path(__file__).parent

# Installs other tools and takes an hour, so it runs when it is named.
ON_REQUEST = frozenset({"optimize", "search", "limits", "memory"})
# What prints tables of its own while it measures.
OWN_TABLES = frozenset({"optimize"})
sys.path.insert(0, str(HERE.parent))

Row = dict[str, Any]


def areas() -> dict[str, Callable[..., list[Row]]]:
    """Return the areas there are; each measures and returns its rows."""
    # After the path is set.
    from benchmarks import (  # noqa: PLC0415
        calibration,
        limits,
        memory,
        optimize,
        search,
        whole_way,
    )

    return {
        "calibration": calibration.measure,
        "whole_way": whole_way.measure,
        "optimize": optimize.measure,
        "search": search.measure,
        "limits": limits.measure,
        "memory": memory.measure,
    }


def commit() -> str:
    """Return the commit that was measured, marked when the tree differs from it."""
    described = subprocess.run(
        ["git", "describe", "--always", "--dirty", "--abbrev=12", "--exclude", "*"],
        cwd=HERE,
        capture_output=True,
        text=True,
        check=False,
    )
    return described.stdout.strip() or "unknown"


def main() -> int:
    """Measure what was asked, all areas by default."""
    known = areas()
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("areas", nargs="*", default=[], help=", ".join(known))
    parser.add_argument("--quick", action="store_true", help="smaller n, under 5 minutes")
    args = parser.parse_args()
    machine = probe()
    for area in args.areas or [name for name in known if name not in ON_REQUEST]:
        rows = known[area](quick=args.quick)
        for row in rows:
            row |= {"machine": f"{machine.title}, {machine.fingerprint}", "commit": commit()}
        print(f"\n{area} on {machine.title} ({machine.fingerprint})")
        if area not in OWN_TABLES:
            print(_shown(rows))
        target = HERE / "results" / f"{area}.json"
        target.write_text(json.dumps(rows, indent=1, sort_keys=True) + "\n")
    return 0


def _shown(rows: list[Row]) -> str:
    cells = [
        (r["name"], r["value"], r["unit"], r["goal"] or "", _met(r), r["spread"], r["n"])
        for r in rows
    ]
    return table(("name", "value", "unit", "goal", "met", "spread", "n"), cells)


def _met(row: Row) -> str:
    return {True: "yes", False: "NO", None: ""}[row["met"]]


if __name__ == "__main__":
    sys.exit(main())
