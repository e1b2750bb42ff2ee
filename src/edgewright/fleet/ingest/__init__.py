"""What devices tell: applied once, however often it is sent."""

from edgewright.fleet.ingest.apply import apply
from edgewright.fleet.ingest.batch import Fresh, fresh

__all__ = ["Fresh", "apply", "fresh"]
