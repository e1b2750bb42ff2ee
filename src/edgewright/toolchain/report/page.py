"""The report as one page of HTML: no scripts, nothing loaded from anywhere.

It shows what was asked, what ships and why, what was measured with its bounds, where
every byte went, and what was tried and dropped.
"""

from html import escape

from edgewright.core import digest
from edgewright.core.units import show_bytes
from edgewright.toolchain.planner.values import ACCURACY, CandidateReport, DoneStep, Report
from edgewright.toolchain.report import data, losses, markup, words
from edgewright.toolchain.report.layers import sensitivity
from edgewright.toolchain.report.pareto import number, pareto
from edgewright.toolchain.report.style import STYLE
from edgewright.toolchain.report.waterfall import waterfall

_OUTCOMES = {
    "pass": "meets the contract",
    "fail": "does not meet the contract",
    "inconclusive": "is not decided by the evidence",
}


def page(report: Report) -> str:
    """Return the whole page."""
    parts = (
        data.banner(report),
        _head(report),
        _cards(report),
        data.doubts(report),
        _findings(report),
        pareto(report),
        _shipped(report),
        sensitivity(report),
        _candidates(report),
        _classes(report),
        _steps(report),
        _origin(report),
    )
    body = "\n".join(part for part in parts if part)
    return (
        '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>{escape(report.recipe.model)}: {report.outcome}</title>\n"
        f"<style>{STYLE}</style>\n</head>\n<body>\n<main>\n{body}\n</main>\n</body>\n</html>\n"
    )


def _head(report: Report) -> str:
    on = report.device.title if report.device.name != "host" else report.host.title
    return (
        f'<header><p class="kicker">edgewright optimize</p>\n'
        f"<h1>{escape(report.recipe.model)} {markup.badge(report.outcome)}</h1>\n"
        f'<p class="lead">{escape(words.headline(report))}</p>\n'
        f'<p class="quiet">It {_OUTCOMES[report.outcome]} on {escape(on)} '
        f"({escape(report.device.resource_class)} resources), judged on "
        f"{report.samples['evaluate']} samples {_by(report)}.</p>\n"
        + markup.listed(map(escape, report.missed), "missed")
        + "</header>"
    )


def _by(report: Report) -> str:
    if report.recipe.synthetic:
        return "that were <b>made up</b>: nothing is known of accuracy on real ones"
    if words.likeness(report):
        return (
            "without labels: a loss is an answer unlike the reference's, and nothing is "
            "known of how many are right"
        )
    quality = words.quality(report)
    named = "" if quality == report.recipe.metric else f" ({escape(report.recipe.metric)})"
    return f"by {escape(quality)}{named}"


def _cards(report: Report) -> str:
    shipped, baseline = report.shipped, report.candidate(report.baseline)
    cards = [_card(report, "Size", "file_bytes"), _speed_card(report)]
    cards += [
        _card(report, title, name)
        for title, name in (
            ("p99 latency", "p99_us"),
            ("Peak memory", "peak_memory_bytes"),
            ("First answer", "first_answer_ms"),
            ("Energy of an answer", "energy_uj"),
        )
    ]
    counts = shipped.overall
    title, beside = words.quality(report), f"reference {counts.reference:.2%}"
    if report.recipe.metric == ACCURACY:
        title = "Right answers"
    if words.likeness(report):
        title, beside = report.recipe.metric, "answers like the reference's"
    title = title[:1].upper() + title[1:] if title.islower() else title
    cards.append(_box(escape(title), f"{counts.candidate:.2%}", beside))
    shown = [card for card in cards if card]
    label = f"{shipped.name} beside {baseline.name}"
    return f'<section class="cards" aria-label="{escape(label)}">{"".join(shown)}</section>'


def _card(report: Report, title: str, name: str) -> str:
    mine = report.shipped.figure(name)
    theirs = report.candidate(report.baseline).figure(name)
    if mine is None or theirs is None:
        return ""
    beside = f"{report.baseline} {words.show(theirs)}"
    if mine.upper not in {None, mine.value}:
        beside = f"\u2264 {words.show_value(name, mine.upper or 0)} (95 %)"
    if not mine.firm:
        beside = f"{mine.method}, not measured"
    return _box(title, words.show(mine), escape(beside))


def _speed_card(report: Report) -> str:
    ratio = words.ratio_of(report.shipped)
    if ratio is None:
        return ""
    bounds = words.speed_bounds(ratio)
    beside = f"{bounds} (95 %)" if bounds else f"of {report.baseline}'s, measured in turns"
    return _box("Speed", f"{words.times(ratio.value)}&times;", escape(beside))


def _box(title: str, value: str, beside: str) -> str:
    return f'<div class="card"><span>{title}</span><b>{value}</b><small>{beside}</small></div>'


def _findings(report: Report) -> str:
    shipped = report.shipped
    rows = [
        (
            markup.badge(f.outcome),
            escape(words.limit_title(report, f.limit)),
            escape(f.reason) + markup.small(f.remedy),
        )
        for f in shipped.findings
    ]
    for name in ("transport_bytes", "storage_bytes"):
        limit = getattr(report.recipe.contract, name)
        if limit is not None:
            said = f"at most {show_bytes(limit)} is asked; measured and judged by pack"
            rows.append((markup.badge("later"), words.limit_title(report, name), said))
    changed = markup.listed(map(escape, report.changed))
    after = f"<p>Changed by measuring again:</p>{changed}" if changed else ""
    return markup.section(
        f"The contract, and {escape(shipped.name)}",
        markup.table(("", "limit", "what the evidence says"), rows, kind="stack"),
        after,
    )


def _shipped(report: Report) -> str:
    inside = waterfall(report) + losses.losses(report)
    return markup.section(
        f"What became of the model: {escape(report.shipped.name)}",
        f'<div class="plots">{inside}</div>',
    )


def _candidates(report: Report) -> str:
    rows = [_candidate(report, one) for one in report.candidates]
    head = (
        "", "candidate", "", "size", "smaller", "speed", "p99", "memory",
        words.metric_title(report), "points lost", "decision",
    )  # fmt: skip
    left_out = markup.listed(
        f"<b>{escape(name)}</b>: {escape(why)}"
        for name, why in sorted(report.left_out.items())
    )
    stopped = report.stopped or "not yet; this is the best so far"
    after = f'<p class="quiet">The search stopped: {escape(stopped)}.</p>'
    after += f"<p>Left out:</p>{left_out}" if left_out else ""
    if report.device.fingerprint != report.host.fingerprint:
        after += (
            f"<p>Latency and memory are those of {escape(report.host.title)}, "
            f"not of {escape(report.device.title)}.</p>"
        )
    said = (
        f"<p class=\"quiet\">Speed is {escape(report.baseline)}'s time over the candidate's, "
        "measured in turns.</p>"
    )
    return markup.section(
        "What was tried, and why it was dropped", markup.table(head, rows), said, after
    )


def _candidate(report: Report, one: CandidateReport) -> tuple[str, ...]:
    baseline = report.candidate(report.baseline).file_bytes
    loss = one.overall.loss()
    low, high = words.points(loss.low), words.points(loss.high)
    ships = ' <span class="ships">\u2713 ships</span>' if one.chosen else ""
    return (
        str(number(report, one)),
        f"<b>{escape(one.name)}</b>{ships}",
        markup.badge(one.outcome),
        show_bytes(one.file_bytes),
        f"{baseline / max(one.file_bytes, 1):.2f}&times;",
        _speed(one),
        _figure(one, "p99_us"),
        _figure(one, "peak_memory_bytes"),
        f"{one.overall.candidate:.2%}",
        words.points(loss.estimate) + markup.small(f"{low} to {high}"),
        escape(one.reason),
    )


def _classes(report: Report) -> str:
    return markup.section(
        f"Class by class: {escape(report.shipped.name)}",
        losses.classes(report),
        data.coverage(report),
    )


def _steps(report: Report) -> str:
    rows = []
    for one in report.candidates:
        for step in one.steps:
            settings = ", ".join(f"{k} = {v}" for k, v in sorted(step.settings.items()))
            rows.append(
                (
                    escape(one.name),
                    f"<b>{escape(step.technique)}</b>{markup.small(settings)}",
                    _became(step),
                    escape(step.reason),
                    escape("; ".join(step.notes)),
                )
            )
    if not rows:
        return ""
    head = ("candidate", "technique", "files after it", "why", "what it did")
    return markup.section("Techniques", markup.table(head, rows))


def _became(step: DoneStep) -> str:
    if not step.applied:
        return "nothing to do"
    return show_bytes(step.bytes_after) if step.bytes_after else "applied"


def _origin(report: Report) -> str:
    recipe = report.recipe
    rows = [
        ("model", recipe.model_sha256),
        ("reference", recipe.reference_sha256),
        ("samples", recipe.data_sha256),
        ("recipe", report.recipe_sha256),
        ("plan", report.plan_sha256),
    ]
    rows += [
        (kind, f"sha256:{name[:-5]}") for kind, name in sorted(report.evidence_files.items())
    ]
    listed = [(escape(name), f"<code>{digest.short(value)}</code>") for name, value in rows]
    tools = ", ".join(f"{name} {version}" for name, version in sorted(recipe.tools.items()))
    how = sorted({e.how for one in report.candidates for e in one.evidence if e.n > 1})
    return markup.section(
        "Where it comes from",
        f"<p>Measured on {escape(report.host.title)} "
        f"(<code>{escape(report.host.fingerprint)}</code>), engine {escape(report.engine)}. "
        "Figures belong to that machine.</p>",
        markup.listed(escape(f"brought in: {line}") for line in report.brought),
        markup.listed(map(escape, how)),
        markup.folded("Digests", markup.table(("", "sha256"), listed)),
        f'<p class="quiet">{escape(tools)}</p>',
    )


def _speed(candidate: CandidateReport) -> str:
    ratio = words.ratio_of(candidate)
    if ratio is None:
        return ""
    return f"{words.times(ratio.value)}&times;" + markup.small(words.speed_bounds(ratio))


def _figure(candidate: CandidateReport, name: str) -> str:
    figure = candidate.figure(name)
    if figure is None:
        return ""
    bound = "" if figure.upper is None else f"\u2264 {words.show_value(name, figure.upper)}"
    return words.show(figure) + markup.small("" if figure.upper == figure.value else bound)
