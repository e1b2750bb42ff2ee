"""Pieces of the page: tables, badges, and bars that are as wide as the page lets them be.

Bars are boxes in per cent of their track, so that their words keep their size on a phone.
"""

import re
from collections.abc import Iterable, Sequence
from html import escape

_TIGHT = 32  # characters: figures and names, not sentences
_MARKUP = re.compile(r"<[^>]*>")


def section(title: str, *parts: str, kind: str = "") -> str:
    """Return a section; empty where no part says anything."""
    inside = "\n".join(part for part in parts if part)
    if not inside:
        return ""
    named = f' class="{kind}"' if kind else ""
    return f"<section{named}><h2>{title}</h2>\n{inside}</section>"


def figure(caption: str, *parts: str) -> str:
    """Return a figure below its caption."""
    return f"<figure><figcaption>{caption}</figcaption>{''.join(parts)}</figure>"


def badge(word: str, kind: str = "") -> str:
    """Return a word in a coloured box; its colour repeats what it says."""
    return f'<span class="badge {kind or word}">{escape(word)}</span>'


def small(text: str) -> str:
    """Return a second line of a cell."""
    return f"<br><small>{escape(text)}</small>" if text else ""


def listed(lines: Iterable[str], kind: str = "") -> str:
    """Return lines of markup as a list; empty where there are none."""
    items = "".join(f"<li>{line}</li>" for line in lines)
    named = f' class="{kind}"' if kind else ""
    return f"<ul{named}>{items}</ul>" if items else ""


def table(head: Sequence[str], rows: Iterable[Sequence[str]], *, kind: str = "") -> str:
    """Return a table in which figures and names keep to one line.

    Args:
        head: Text.
        rows: Markup.
        kind: ``stack`` puts the last cell below the others where there is little room.
    """
    named = f' class="{kind}"' if kind else ""
    top = "".join(f"<th>{escape(cell)}</th>" for cell in head)
    body = "".join(
        f"<tr>{''.join(map(_cell, row[:-1]))}<td>{row[-1]}</td></tr>" for row in rows
    )
    return (
        f'<div class="scroll"><table{named}><thead><tr>{top}</tr></thead>'
        f"<tbody>{body}</tbody></table></div>"
    )


def folded(summary: str, inside: str) -> str:
    """Return what a reader opens by hand."""
    return f"<details><summary>{escape(summary)}</summary>{inside}</details>"


def bars(label: str, rows: Iterable[str], *, axis: str = "") -> str:
    """Return rows of bars below one another, with one name for who cannot see them."""
    inside = "".join(rows) + axis
    return f'<div class="bars" role="group" aria-label="{escape(label)}">{inside}</div>'


def row(label: str, parts: Iterable[str], value: str, *, kind: str = "") -> str:
    """Return one row: its name, a track with ``parts`` on it, and what it comes to.

    Args:
        label: Text.
        parts: From ``span``, ``pin`` and ``note``.
        value: Markup.
        kind: A class of the row.
    """
    named = f"row {kind}" if kind else "row"
    return (
        f'<div class="{named}"><span class="name">{escape(label)}</span>'
        f'<span class="track">{"".join(parts)}</span>'
        f'<span class="value">{value}</span></div>'
    )


def span(low: float, high: float, kind: str) -> str:
    """Return a bar from ``low`` to ``high``, shares of the track."""
    low, high = _inside(low), _inside(high)
    return (
        f'<i class="{kind}" style="left:{low * 100:.2f}%;width:{(high - low) * 100:.2f}%"></i>'
    )


def pin(at: float, kind: str) -> str:
    """Return a mark at ``at``, a share of the track."""
    return f'<i class="{kind}" style="left:{_inside(at) * 100:.2f}%"></i>'


def scale(marks: Iterable[tuple[float, str]], label: str) -> str:
    """Return the axis below rows: a word at each share of the track, and what it shows."""
    said = "".join(
        f'<em style="left:{_inside(at) * 100:.2f}%">{escape(text)}</em>' for at, text in marks
    )
    return (
        '<div class="row axis"><span class="name"></span>'
        f'<span class="track">{said}</span><span class="value"></span></div>'
        f'<p class="axis-label">{escape(label)}</p>'
    )


def _inside(share: float) -> float:
    return min(max(share, 0.0), 1.0)


def _cell(content: str) -> str:
    kind = ' class="tight"' if len(_MARKUP.sub("", content)) <= _TIGHT else ""
    return f"<td{kind}>{content}</td>"
