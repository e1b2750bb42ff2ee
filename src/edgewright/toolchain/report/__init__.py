"""A report for people: ``page`` is the whole HTML, ``headline`` its one sentence."""

from edgewright.toolchain.report.page import headline, metric_title, page

__all__ = ["headline", "metric_title", "page"]
