"""The page: everything that matters is on it, and nothing is loaded from anywhere."""

import re
from dataclasses import replace
from html.parser import HTMLParser

import pytest

from edgewright.core.contract import Contract
from edgewright.toolchain.planner.values import Nearest
from edgewright.toolchain.report import headline, page
from edgewright.toolchain.report.summary import summary

pytestmark = pytest.mark.slow

_VOID = {"meta", "br", "line", "circle", "path", "rect"}


class _Outline(HTMLParser):
    """Checks that tags nest, and collects the text and the attributes."""

    def __init__(self):
        super().__init__()
        self.open, self.text, self.attributes = [], [], []

    def handle_starttag(self, tag, attrs):
        """Remember what is open."""
        self.attributes += attrs
        if tag not in _VOID:
            self.open.append(tag)

    def handle_endtag(self, tag):
        """Close what was opened last."""
        if tag not in _VOID:
            assert self.open.pop() == tag

    def handle_data(self, data):
        """Collect text outside the style sheet."""
        if "style" not in self.open:
            self.text.append(data)


def _read(report):
    outline = _Outline()
    outline.feed(page(report))
    assert outline.open == []
    return outline


def test_the_page_says_what_was_found(made):
    """Outcome, every candidate, every limit, every class, every technique, every digest."""
    _, report, _ = made

    text = " ".join(_read(report).text)

    for one in report.candidates:
        assert one.name in text
        assert one.reason in text
    for finding in report.shipped.findings:
        assert finding.reason in text
    for counts in report.shipped.counts:
        assert counts.label in text
    for wanted in ("fuse", "quantize", report.host.title, report.recipe_sha256[7:19]):
        assert wanted in text
    assert headline(report) in text


def test_it_is_one_file_without_scripts(made):
    """Nothing to fetch, nothing to run: it can be read where there is no network."""
    _, report, _ = made

    text = page(report)
    outline = _read(report)

    assert "<script" not in text
    assert not re.search(r"https?:|url\(|@import", text)
    assert not {"src", "href", "onload", "onclick"} & {name for name, _ in outline.attributes}


def test_the_plots_are_there(made):
    """Candidates against each other, bytes step by step, losses and samples by class."""
    _, report, _ = made

    labels = [value for name, value in _read(report).attributes if name == "aria-label"]

    assert labels[1:] == [
        "Size against latency of each candidate",
        "Size against accuracy of each candidate",
        "Latency against accuracy of each candidate",
        "Bytes after each step",
        "Points of accuracy lost, overall and by class",
        "Samples of each class to calibrate on and to judge by",
    ]


def test_bytes_fall_to_what_ships(made):
    """Each step of a run knows the bytes it left; the last one is the file that ships."""
    _, report, _ = made
    steps = [step for step in report.shipped.steps if step.applied]

    assert steps[-1].bytes_after == report.shipped.file_bytes
    assert all(step.bytes_after > 0 for step in steps)


def test_the_same_report_is_the_same_page(made):
    """There are no times in it."""
    _, report, _ = made

    assert page(report) == page(report)


def test_markup_in_a_name_stays_text(made):
    """A class called like a tag is shown, not obeyed."""
    _, report, _ = made
    counts = tuple(
        replace(c, label="<b>&" if c.label == "0" else c.label) for c in report.shipped.counts
    )
    shipped = replace(report.shipped, counts=counts)
    others = [one for one in report.candidates if one.name != shipped.name]

    text = _read(replace(report, candidates=(*others, shipped))).text

    assert "<b>&" in text


def test_a_report_without_a_choice_says_so(made):
    """What is missed stands at the top, and the nearest candidate is shown."""
    _, report, _ = made
    failed = replace(
        report,
        outcome="fail",
        chosen="",
        missed=("file_bytes (fail): too many",),
        nearest=Nearest("float", Contract(), ("file_bytes",)),
    )

    text = " ".join(_read(failed).text)

    assert headline(failed) == "No candidate ships; float comes nearest."
    assert "file_bytes (fail): too many" in text


def test_limits_left_to_pack_are_listed(made):
    """A reader sees that they were asked and are not forgotten."""
    _, report, _ = made
    contract = replace(report.recipe.contract, transport_bytes=90_000)

    text = " ".join(
        _read(replace(report, recipe=replace(report.recipe, contract=contract))).text
    )

    assert "measured and judged by pack" in text


def test_figures_of_another_machine_are_called_so(made):
    """A page for a Raspberry Pi does not pass off the host's latency as its own."""
    _, report, _ = made
    device = replace(report.device, name="pi", title="Pi", fingerprint="pi-00000000")

    text = " ".join(_read(replace(report, device=device)).text)

    assert f"Latency and memory are those of {report.host.title}, not of Pi." in text


@pytest.mark.parametrize(
    ("chosen", "match"),
    [("float", "ships: the model as it was given"), ("int4-weights", "times smaller")],
)
def test_the_headline_fits_what_ships(made, chosen, match):
    """Also where it is not int8."""
    _, report, _ = made

    assert match in headline(replace(report, chosen=chosen))


def test_the_summary_is_worked_out_of_the_report(made):
    """Ratios over the float baseline, shares in basis points, every figure by name."""
    _, report, _ = made
    shipped, baseline = report.shipped, report.candidate("float")

    found = summary(report)

    assert found["candidate"] == report.chosen
    assert found["size_reduction"] == round(baseline.file_bytes / shipped.file_bytes, 3)
    # Of latencies that took turns; two medians of different minutes may say anything.
    ratio = shipped.figure("latency_ratio_bp").value
    assert found["speedup"] == round(10_000 / ratio, 3)
    assert found["accuracy_delta"]["n"] == 400
    assert found["accuracy"]["candidate_bp"] == shipped.overall.candidate_right * 25
    assert found["figures"]["file_bytes"] == shipped.file_bytes
