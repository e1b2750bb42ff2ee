"""The report as one page of HTML: no scripts, nothing loaded from anywhere.

It shows what was asked, what ships and why, what was measured with its bounds, and
where every byte came from.
"""

import re
from collections.abc import Iterable, Sequence
from html import escape

from edgewright.core import digest
from edgewright.core.contract import Contract
from edgewright.core.evidence import Evidence, Paired, PairedScores
from edgewright.core.units import show_bytes, show_us
from edgewright.toolchain import svg
from edgewright.toolchain.measure import metrics
from edgewright.toolchain.planner.values import (
    ACCURACY,
    COSINE,
    FIDELITY,
    CandidateReport,
    Report,
)
from edgewright.toolchain.report.style import STYLE

_BP = 10_000
_TIGHT = 32  # characters: figures and names, not sentences
_MARKUP = re.compile(r"<[^>]*>")
_RATIO = "latency_ratio_bp"
_LIMITS = {
    "file_bytes": "file size",
    "transport_bytes": "download",
    "storage_bytes": "installed size",
    "peak_memory_bytes": "peak memory",
    "p99_us": "p99 latency",
    "rate_hz": "sustained rate",
    "burst_hz": "burst rate",
    "power_mw": "power",
    "first_answer_ms": "first answer",
    "accuracy_drop": "accuracy lost",
    "worst_class_drop": "lost in the worst class",
    "retention": "accuracy kept",
}
_OUTCOMES = {
    "pass": "meets the contract",
    "fail": "does not meet the contract",
    "inconclusive": "is not decided by the evidence",
}


def page(report: Report) -> str:
    """Return the whole page."""
    parts = (
        _head(report),
        _cards(report),
        _findings(report),
        _plots(report),
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


def headline(report: Report) -> str:
    """Return in one sentence what ships and what it gained, or that nothing does."""
    shipped, baseline = report.shipped, report.candidate(report.baseline)
    if not report.chosen:
        return f"No candidate ships; {shipped.name} comes nearest."
    if shipped is baseline:
        return f"{shipped.name} ships: the model as it was given."
    smaller = baseline.file_bytes / max(shipped.file_bytes, 1)
    parts = [f"{smaller:.2f} times smaller"]
    ratio = shipped.figure(_RATIO)
    if ratio is not None:
        faster = _BP / ratio.value
        parts.append(
            f"{faster:.2f} times as fast on {report.host.title}"
            if faster >= 1
            else f"at {faster:.2f} times the speed on {report.host.title}"
        )
    title = metric_title(report)
    parts.append(_judged(shipped.overall, fidelity=_fidelity(report), title=title))
    return f"{shipped.name} ships: {', '.join(parts)}."


def _fidelity(report: Report) -> bool:
    """Return whether nobody said what is right, so that likeness is all that is known."""
    return report.recipe.metric in {FIDELITY, COSINE}


def metric_title(report: Report) -> str:
    """Return what a share of the report's metric is called in tables."""
    return metrics.parse(report.recipe.metric)[0].title


def _judged(counts: Paired, *, fidelity: bool, title: str) -> str:
    """Return in a few words how the answers compare with the reference's."""
    if isinstance(counts, PairedScores):
        lost = counts.loss().estimate * 100
        word = "lost" if lost >= 0 else "gained"
        return f"{abs(lost):.2f} points of {title} {word}"
    if fidelity:
        return f"{counts.candidate_right} of {counts.n} answers like the reference's"
    net = counts.gained - counts.lost
    if net == 0:
        return f"as many right answers of {counts.n}"
    word = "answer" if abs(net) == 1 else "answers"
    return f"{abs(net)} {'more' if net > 0 else 'fewer'} right {word} of {counts.n}"


def _head(report: Report) -> str:
    on = report.device.title if report.device.name != "host" else report.host.title
    missed = "".join(f"<li>{escape(line)}</li>" for line in report.missed)
    return (
        f'<header><p class="kicker">edgewright optimize</p>\n'
        f"<h1>{escape(report.recipe.model)} "
        f'<span class="badge {report.outcome}">{report.outcome}</span></h1>\n'
        f'<p class="lead">{escape(headline(report))}</p>\n'
        f'<p class="quiet">It {_OUTCOMES[report.outcome]} on {escape(on)} '
        f"({escape(report.device.resource_class)} resources), judged on "
        f"{report.samples['evaluate']} samples {_by(report)}.</p>\n"
        + (f'<ul class="missed">{missed}</ul>\n' if missed else "")
        + "</header>"
    )


def _by(report: Report) -> str:
    if report.recipe.synthetic:
        return "that were <b>made up</b>: nothing is known of accuracy on real ones"
    if _fidelity(report):
        return (
            "without labels: a loss is an answer unlike the reference's, and nothing is "
            "known of how many are right"
        )
    return f"by {escape(report.recipe.metric)}"


def _cards(report: Report) -> str:
    shipped, baseline = report.shipped, report.candidate(report.baseline)
    cards = [_card("Size", "file_bytes", shipped, baseline)]
    cards += [
        _card(title, name, shipped, baseline)
        for title, name in (
            ("Median latency", "p50_us"),
            ("p99 latency", "p99_us"),
            ("Peak memory", "peak_memory_bytes"),
            ("First answer", "first_answer_ms"),
        )
    ]
    accuracy, reference = shipped.overall.candidate, shipped.overall.reference
    title = "Right answers" if report.recipe.metric == ACCURACY else report.recipe.metric
    title, beside = escape(title), f"reference {reference:.2%}"
    if _fidelity(report):
        title, beside = "Fidelity", "answers like the reference's"
    cards.append(
        f'<div class="card"><span>{title}</span><b>{accuracy:.2%}</b>'
        f"<small>{beside}</small></div>"
    )
    return f'<section class="cards">{"".join(cards)}</section>'


def _card(title: str, name: str, shipped: CandidateReport, baseline: CandidateReport) -> str:
    mine, theirs = shipped.figure(name), baseline.figure(name)
    if mine is None or theirs is None:
        return ""
    return (
        f'<div class="card"><span>{title}</span><b>{_show(mine)}</b>'
        f"<small>float {_show(theirs)}</small></div>"
    )


def _findings(report: Report) -> str:
    shipped = report.shipped
    rows = [
        (
            f'<span class="badge {f.outcome}">{f.outcome}</span>',
            _LIMITS.get(f.limit, f.limit),
            escape(f.reason) + _small(f.remedy),
        )
        for f in shipped.findings
    ]
    for name in ("transport_bytes", "storage_bytes"):
        limit = getattr(report.recipe.contract, name)
        if limit is not None:
            rows.append(
                (
                    '<span class="badge later">later</span>',
                    _LIMITS[name],
                    f"at most {show_bytes(limit)} is asked; measured and judged by pack",
                )
            )
    changed = "".join(f"<li>{escape(line)}</li>" for line in report.changed)
    after = f"<p>Changed by measuring again:</p><ul>{changed}</ul>" if changed else ""
    return (
        f"<section><h2>The contract, and {escape(shipped.name)}</h2>"
        f"{_table(('', 'limit', 'what the evidence says'), rows)}{after}</section>"
    )


def _plots(report: Report) -> str:
    contract = report.recipe.contract
    return (
        '<section class="plots">'
        f"<figure><figcaption>Size and latency of the candidates. "
        "The point is the median, the line rises to p99.</figcaption>"
        f"{_scatter(report)}</figure>"
        f"<figure><figcaption>Points of accuracy {escape(report.shipped.name)} lost against "
        f"the reference, with one-sided 95 % bounds.</figcaption>"
        f"{_losses(report.shipped, contract)}</figure></section>"
    )


def _scatter(report: Report) -> str:
    contract = report.recipe.contract
    marks = []
    for candidate in report.candidates:
        p50, p99 = candidate.figure("p50_us"), candidate.figure("p99_us")
        if p50 is not None and p99 is not None:
            chosen = candidate.chosen
            marks.append(
                svg.Mark(candidate.name, candidate.file_bytes, p50.value, p99.value, chosen)
            )
    on_host = report.device.fingerprint == report.host.fingerprint
    limit_us = contract.p99_us if on_host else None
    return svg.scatter(
        marks,
        svg.Axis(
            "bytes of the files",
            lambda value: show_bytes(round(value)),
            contract.file_bytes,
            f"limit {show_bytes(contract.file_bytes or 0)}",
        ),
        svg.Axis("latency", show_us, limit_us, f"p99 limit {show_us(limit_us or 0)}"),
        title="Size against latency of each candidate",
    )


def _losses(candidate: CandidateReport, contract: Contract) -> str:
    rows = []
    for counts in candidate.counts:
        overall = counts is candidate.counts[0]
        limit = contract.accuracy_drop_bp if overall else contract.worst_class_drop_bp
        loss = counts.loss()
        rows.append(
            svg.Row(
                counts.label,
                loss.low * 100,
                loss.estimate * 100,
                loss.high * 100,
                limit / 100,
                failed=loss.high * _BP > limit,
            )
        )
    axis = svg.Axis("points lost", lambda value: f"{value:g}", None, "limit")
    return svg.intervals(rows, axis, title="Accuracy lost, overall and by class")


def _candidates(report: Report) -> str:
    baseline = report.candidate(report.baseline).file_bytes
    rows = []
    for one in report.candidates:
        loss = one.overall
        rows.append(
            (
                f"<b>{escape(one.name)}</b>" + (" ✓" if one.chosen else ""),
                f'<span class="badge {one.outcome}">{one.outcome}</span>',
                show_bytes(one.file_bytes),
                f"{baseline / max(one.file_bytes, 1):.2f}&times;",
                _figure(one, "p50_us"),
                _figure(one, "p99_us"),
                _speed(one),
                _figure(one, "peak_memory_bytes"),
                f"{loss.candidate:.2%}",
                escape(loss.unlike),
                escape(one.reason),
            )
        )
    head = (
        "candidate", "", "size", "smaller", "p50", "p99", "speed", "memory",
        escape(metric_title(report)), "lost, gained", "decision",
    )  # fmt: skip
    left_out = "".join(
        f"<li><b>{escape(name)}</b>: {escape(why)}</li>"
        for name, why in sorted(report.left_out.items())
    )
    stopped = report.stopped or "not yet; this is the best so far"
    after = f'<p class="quiet">The search stopped: {escape(stopped)}.</p>'
    after += f'<p class="quiet">Not made:</p><ul>{left_out}</ul>' if left_out else ""
    if report.device.fingerprint != report.host.fingerprint:
        after += (
            f"<p>Latency and memory are those of {escape(report.host.title)}, "
            f"not of {escape(report.device.title)}.</p>"
        )
    return f"<section><h2>Candidates</h2>{_table(head, rows)}{after}</section>"


def _classes(report: Report) -> str:
    rows = []
    for counts in report.shipped.counts:
        loss = counts.loss()
        rows.append(
            (
                escape(counts.label),
                str(counts.n),
                f"{counts.reference:.2%}",
                f"{counts.candidate:.2%}",
                escape(counts.unlike),
                f"{loss.estimate * 100:.2f}",
                f"{loss.low * 100:.2f} to {loss.high * 100:.2f}",
            )
        )
    head = (
        "class", "samples", "reference", "candidate", "lost, gained", "points lost",
        "95 % bounds",
    )  # fmt: skip
    return (
        f"<section><h2>Class by class: {escape(report.shipped.name)}</h2>"
        f"{_table(head, rows)}</section>"
    )


def _steps(report: Report) -> str:
    rows = []
    for one in report.candidates:
        for step in one.steps:
            settings = ", ".join(f"{k} = {v}" for k, v in sorted(step.settings.items()))
            rows.append(
                (
                    escape(one.name),
                    f"<b>{escape(step.technique)}</b>{_small(settings)}",
                    "applied" if step.applied else "nothing to do",
                    escape(step.reason),
                    escape("; ".join(step.notes)),
                )
            )
    if not rows:
        return ""
    head = ("candidate", "technique", "", "why", "what it did")
    return f"<section><h2>Techniques</h2>{_table(head, rows)}</section>"


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
    tools = ", ".join(f"{name} {number}" for name, number in sorted(recipe.tools.items()))
    how = sorted({e.how for one in report.candidates for e in one.evidence if e.n > 1})
    return (
        f"<section><h2>Where it comes from</h2>{_table(('', 'sha256'), listed)}"
        f"<p>Measured on {escape(report.host.title)} "
        f"(<code>{escape(report.host.fingerprint)}</code>), engine {escape(report.engine)}. "
        f"Figures belong to that machine.</p><ul>"
        + "".join(f"<li>{escape(line)}</li>" for line in how)
        + f'</ul><p class="quiet">{escape(tools)}</p></section>'
    )


def _speed(candidate: CandidateReport) -> str:
    ratio = candidate.figure(_RATIO)
    return f"{_BP / ratio.value:.2f}&times;" if ratio else ""


def _figure(candidate: CandidateReport, name: str) -> str:
    figure = candidate.figure(name)
    if figure is None:
        return ""
    bound = "" if figure.upper is None else f"≤ {_show_value(name, figure.upper)}"
    return _show(figure) + _small("" if figure.upper == figure.value else bound)


def _show(figure: Evidence) -> str:
    return _show_value(figure.name, figure.value)


def _show_value(name: str, value: int) -> str:
    if name.endswith("_bytes"):
        return show_bytes(value)
    if name.endswith("_us"):
        return show_us(value)
    return f"{value} ms"


def _small(text: str) -> str:
    return f"<br><small>{escape(text)}</small>" if text else ""


def _table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Return a table in which figures and names keep to one line."""
    top = "".join(f"<th>{escape(cell)}</th>" for cell in head)
    body = "".join(
        f"<tr>{''.join(map(_cell, row[:-1]))}<td>{row[-1]}</td></tr>" for row in rows
    )
    return (
        f'<div class="scroll"><table><thead><tr>{top}</tr></thead>'
        f"<tbody>{body}</tbody></table></div>"
    )


def _cell(content: str) -> str:
    kind = ' class="tight"' if len(_MARKUP.sub("", content)) <= _TIGHT else ""
    return f"<td{kind}>{content}</td>"
