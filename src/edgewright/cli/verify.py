"""``edgewright verify``: is this bundle whole, and does it answer rightly here?"""

import argparse
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from edgewright.cli.output import emit, status, table

NAME = "verify"
HELP = "check every byte of a bundle or a slot, and run its golden sets on this machine"

PASSED, FAILED, NOT_RUN = "passed", "failed", "not run"


def add_parser(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of this command."""
    parser.add_argument(
        "source", type=Path, metavar="FILE.ewb|SLOT", help="a bundle, or the folder of a slot"
    )


def run(args: argparse.Namespace) -> int:
    """Verify, print, and return 0 when all that can run here answers rightly."""
    from edgewright.bundle.archive import Archive
    from edgewright.core import records
    from edgewright.runtime import model as models

    with ExitStack() as undo, status(args, f"verifying {args.source}"):
        if args.source.is_file():
            with Archive(args.source) as archive:
                archive.verify()
        folder, manifest, digest = models.open_source(args.source, None, undo)
        tried = models.try_variants(folder, manifest)
        variants = [_variant(manifest, one, tried[one.name]) for one in manifest.variants]
    outcomes = {one["outcome"] for one in variants}
    document = {
        "source": str(args.source),
        "release": str(manifest.release),
        "label": manifest.label,
        "digest": digest,
        "verdict": manifest.verdict,
        "model_bytes": sum(one["bytes"] for one in variants),
        "entry_bytes": sum(entry.length for entry in manifest.entries),
        "variants": variants,
        "overrides": records.encode(manifest.overrides),
        "provenance": records.encode(manifest.provenance),
        "passed": PASSED in outcomes and FAILED not in outcomes,
    }
    emit(args, document, _text(document))
    return 0 if document["passed"] else 1


def _variant(manifest: Any, variant: Any, tried: Any) -> dict[str, Any]:
    """Return what became of one variant as plain data."""
    from edgewright.runtime.model import Candidate, model_bytes

    shown = {
        "name": variant.name,
        "engine": variant.engine,
        "precision": variant.precision,
        "isa": list(variant.isa),
        "bytes": model_bytes(manifest, variant),
    }
    if not isinstance(tried, Candidate):
        return {**shown, "outcome": NOT_RUN, "finding": str(tried)}
    tried.session.close()
    result = tried.result
    return {
        **shown,
        "outcome": PASSED if result.passed else FAILED,
        "finding": result.finding,
        "reference": _comparison(result.reference),
        "golden": _comparison(result.variant),
    }


def _comparison(one: Any) -> dict[str, Any]:
    return {"passed": one.passed, "count": one.count, "detail": one.detail}


def _text(document: dict[str, Any]) -> str:
    from edgewright.core.digest import short
    from edgewright.core.units import show_bytes

    head = ("variant", "engine", "precision", "size", "golden.reference", "golden.variant")
    rows = [
        (
            one["name"],
            one["engine"],
            one["precision"],
            show_bytes(one["bytes"]),
            *(_word(one, name) for name in ("reference", "golden")),
        )
        for one in document["variants"]
    ]
    provenance = document["provenance"]
    origin = (
        f"made from {short(provenance['source_sha256'])}, judged by "
        f"{short(provenance['reference_sha256'])}, data {short(provenance['data_sha256'])}"
    )
    lines = [
        f"{document['release']}  {short(document['digest'])}  verdict {document['verdict']}",
        f"every byte verified, {show_bytes(document['entry_bytes'])} of entries",
        "",
        table(head, rows),
        "",
        *(f"{v['name']}: {v['finding']}" for v in document["variants"] if v["finding"]),
        *(
            f"overridden: {o['refusal']} ({o['finding']}), reason given: {o['reason']}"
            for o in document["overrides"]
        ),
        origin,
        _conclusion(document),
    ]
    return "\n".join(lines)


def _conclusion(document: dict[str, Any]) -> str:
    if document["passed"]:
        return "PASSED"
    if all(variant["outcome"] == NOT_RUN for variant in document["variants"]):
        return "NOT PROVEN: no variant of this bundle can run on this machine"
    return "REFUSED: no device will activate what fails its golden set"


def _word(variant: dict[str, Any], name: str) -> str:
    if variant["outcome"] == NOT_RUN:
        return NOT_RUN
    return PASSED if variant[name]["passed"] else FAILED
