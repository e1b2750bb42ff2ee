"""The goals, each with what was measured, whether it is met and who does better.

A goal that no figure decides, since a model was refused, is not met and says so. Two
latencies are equal when the bound of their ratio, taken round by round, holds 1.
"""

from collections.abc import Callable, Iterable, Sequence
from statistics import median

from benchmarks.peers import OURS
from benchmarks.peers.results import EQUAL_POINTS, Measured, Result, Row, row
from benchmarks.peers.subjects import MINILM, MINILM_PADDED

SIZES = {"fp16": 48.0, "int8": 70.0, "int4-weights": 78.0}
LARGE_BYTES, LARGE_MFLOP = 100_000, 10.0
MEDIAN_DROP, WORST_DROP = 0.3, 1.0
DENSE_SPEEDUP, DEPTHWISE_SPEEDUP = 2.3, 1.8
COSINE, COSINE_SPEEDUP, COSINE_MB = 0.998, 2.4, 24.0


def goal_rows(models: Sequence[Measured]) -> list[Row]:
    """Return a row for every goal that concerns one of ``models``."""
    suite = [m for m in models if m.in_suite]
    rows = []
    if suite:
        large = [m for m in suite if m.float_bytes > LARGE_BYTES]
        rows += [_size(form, least, large) for form, least in SIZES.items()]
        rows += _drops(suite)
        rows += _speeds([m for m in suite if m.mflop > LARGE_MFLOP])
    for one in models:
        if one.name in {MINILM, MINILM_PADDED}:
            rows += _minilm(one)
    return rows


def _size(form: str, least: float, models: Sequence[Measured]) -> Row:
    """Return the row of the least that is saved on any of ``models``."""
    found = {m.name: held.saved for m in models if (held := m.ours(form))}
    name = f"{form}: least saved over models of 100 kB"
    goal = f">= {least:g}"
    if not found:
        return row(name, "none", "%", goal=goal, met=False, n=0)
    value, worst = min((saved, name) for name, saved in found.items())
    refused = _refused(models, form)
    return row(
        f"{name}, {worst}",
        value,
        "%",
        goal=goal,
        met=value >= least and not refused,
        peers=_least(models, form),
        spread=refused,
        n=len(found),
    )


def _drops(models: Sequence[Measured]) -> list[Row]:
    """Return the rows of what int8 loses."""
    found = {m.name: (m, held) for m in models if (held := m.ours("int8"))}
    drops = {name: held.drop.points for name, (_, held) in found.items() if held.drop}
    rows = []
    if drops:
        refused = _refused(models, "int8")
        middle = median(drops.values())
        peers = _of_peers(models, median)
        rows.append(
            row(
                "int8: median points lost", middle, "points", goal=f"<= {MEDIAN_DROP}",
                met=middle <= MEDIAN_DROP and not refused, peers=peers, spread=refused,
                n=len(drops),
            )
        )  # fmt: skip
    for detector, what in ((False, "worst points lost"), (True, "mAP lost")):
        some = [m for m in models if (m.metric == "average_precision") is detector]
        these = {m.name: drops[m.name] for m in some if m.name in drops}
        if not these:
            continue
        value, worst = max((points, name) for name, points in these.items())
        refused, held = _refused(some, "int8"), found[worst][1].drop
        bound = f"bound {held.high:.2f}" if held else ""
        rows.append(
            row(
                f"int8: {what}, {worst}", value, "points", goal=f"<= {WORST_DROP:g}",
                met=value <= WORST_DROP and not refused, peers=_of_peers(some, max),
                spread="; ".join(filter(None, (bound, refused))), n=len(these),
            )
        )  # fmt: skip
    return rows


def _speeds(models: Sequence[Measured]) -> list[Row]:
    """Return the rows of how much faster int8 answers, models over 10 MFLOP."""
    rows = []
    for families, least in (
        (("dense", "transformer"), DENSE_SPEEDUP),
        (("depthwise",), DEPTHWISE_SPEEDUP),
    ):
        some = [m for m in models if m.family in families]
        found = [held.speedup.value for m in some if (held := m.ours("int8")) and held.speedup]
        if not found:
            continue
        refused = _refused(some, "int8")
        value = median(found)
        rows.append(
            row(
                f"int8: median speed-up, {' and '.join(families)} over 10 MFLOP",
                value, "x", goal=f">= {least}", met=value >= least and not refused,
                peers=_speedups_of_peers(some),
                spread="; ".join(
                    filter(None, (f"{min(found):.2f} to {max(found):.2f}", refused))
                ),
                n=len(found),
            )
        )  # fmt: skip
    return rows + [found for m in models if (found := _against_best(m))]


def _against_best(measured: Measured) -> Row | None:
    """Return how fast ours is beside the fastest peer that loses no more."""
    ours = measured.ours("int8")
    name = f"int8: speed over the best peer, {measured.name}"
    goal = ">= 1"
    if ours is None or ours.drop is None:
        others = {
            p.variant.title: p.absolute.value for p in measured.peers("int8") if p.absolute
        }
        return row(
            name, "none", "x", goal=goal, met=False, peers=others, spread="ours refused it",
            n=0,
        )  # fmt: skip
    rivals = [
        peer
        for peer in measured.peers("int8")
        if peer.drop and peer.drop.points <= max(ours.drop.points, EQUAL_POINTS)
    ]
    if not rivals:
        return None
    best = max(rivals, key=lambda peer: peer.absolute.value if peer.absolute else 0.0)
    ratio = measured.faster(ours, best)
    said = f"{ratio.low:.2f} to {ratio.high:.2f}, beside {best.variant.title}"
    told = {
        peer.variant.title: peer.absolute.value
        for peer in (ours, *rivals)
        if peer.absolute is not None
    }
    return row(
        name, ratio.value, "x", goal=goal, met=ratio.high >= 1, peers=told, spread=said,
        n=len(measured.rounds[ours.variant.title]),
    )  # fmt: skip


def _minilm(measured: Measured) -> list[Row]:
    """Return the three goals for the sentence encoder, for the variant that comes nearest."""
    candidates = [r for r in measured.results if r.variant.engine == "onnxruntime" and r.drop]
    ours = [r for r in candidates if r.variant.tool == OURS]
    name = f"{measured.name}: "
    if not ours:
        return [row(f"{name}goals met at once of 3", "none", "", goal="3", met=False, n=0)]
    best = max(ours, key=lambda r: (sum(_three(r)), -r.bytes))
    peers = {
        r.variant.title: float(sum(_three(r))) for r in candidates if r.variant.tool != OURS
    }
    cosine = _cosine(best)
    speed, size = best.speedup.value if best.speedup else 0.0, best.bytes / 1e6
    title = best.variant.title
    met = _three(best)
    return [
        row(f"{name}goals met at once of 3, {title}", float(sum(met)), "", goal="3",
            met=all(met), peers=peers),
        row(f"{name}held-out cosine", cosine, "", goal=f">= {COSINE}", met=met[0],
            peers={r.variant.title: _cosine(r) for r in candidates}),
        row(f"{name}speed-up", speed, "x", goal=f">= {COSINE_SPEEDUP}", met=met[1],
            peers={r.variant.title: r.speedup.value for r in candidates if r.speedup}),
        row(f"{name}file", size, "MB", goal=f"<= {COSINE_MB:g}", met=met[2],
            peers={r.variant.title: r.bytes / 1e6 for r in candidates}),
    ]  # fmt: skip


def _three(result: Result) -> tuple[bool, bool, bool]:
    speed = result.speedup.value if result.speedup else 0.0
    small = result.bytes / 1e6 <= COSINE_MB
    return _cosine(result) >= COSINE, speed >= COSINE_SPEEDUP, small


def _cosine(result: Result) -> float:
    return 1 - result.drop.points / 100 if result.drop else 0.0


def _refused(models: Iterable[Measured], form: str) -> str:
    """Return which models ours gave no figures for, in words; empty if it did for all."""
    names = [m.name for m in models if m.ours(form) is None]
    return f"refused: {', '.join(names)}" if names else ""


def _titles(models: Iterable[Measured], form: str) -> list[str]:
    """Return the variants of others that have figures for every one of ``models``."""
    sets = [{peer.variant.title for peer in m.peers(form)} for m in models]
    return sorted(set.intersection(*sets)) if sets else []


def _values(models: Iterable[Measured], form: str, title: str) -> list[Result]:
    return [p for m in models for p in m.peers(form) if p.variant.title == title]


def _least(models: Sequence[Measured], form: str) -> dict[str, float]:
    return {
        title: min(p.saved for p in _values(models, form, title))
        for title in _titles(models, form)
    }


def _of_peers(
    models: Sequence[Measured], how: Callable[[list[float]], float]
) -> dict[str, float]:
    """Return what variants that took every model lose, by ``how``: a median or the most."""
    return {
        title: how([p.drop.points for p in _values(models, "int8", title) if p.drop])
        for title in _titles(models, "int8")
    }


def _speedups_of_peers(models: Sequence[Measured]) -> dict[str, float]:
    found = {
        title: [p.speedup.value for p in _values(models, "int8", title) if p.speedup]
        for title in _titles(models, "int8")
    }
    return {title: median(values) for title, values in found.items() if values}
