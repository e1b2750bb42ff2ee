"""One line of JSON an event on standard error, for processes that run unattended."""

import json
import sys
from typing import Any

from edgewright.core.clock import SystemClock, show


def event(process: str, what: str, **fields: Any) -> None:
    """Write one event: when, which process, what happened, and its numbers."""
    line = {"at": show(SystemClock().now()), "process": process, "event": what, **fields}
    sys.stderr.write(json.dumps(line, default=str) + "\n")
    sys.stderr.flush()
