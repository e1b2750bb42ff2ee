"""A report for people: ``page`` is the whole HTML, ``headline`` its one sentence."""

from edgewright.toolchain.report.page import page
from edgewright.toolchain.report.words import headline, metric_title

__all__ = ["headline", "metric_title", "page"]
