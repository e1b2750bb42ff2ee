"""log: one line of JSON an event, on standard error only."""

import json
from pathlib import Path

from edgewright.core import clock, log


def test_an_event_is_one_line(capsys):
    """When, which process, what, and its fields; a path or an error as text."""
    log.event("agent", "installed", slot=Path("/s"), bytes=12, why=ValueError("line\nbreak"))

    captured = capsys.readouterr()
    line = json.loads(captured.err)
    assert captured.out == ""
    assert captured.err.count("\n") == 1
    assert clock.parse(line.pop("at"))
    assert line == {
        "process": "agent",
        "event": "installed",
        "slot": "/s",
        "bytes": 12,
        "why": "line\nbreak",
    }
