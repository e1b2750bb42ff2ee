"""The process with torch in it: ``python -m edgewright.toolchain.sources.torch.child``.

It reads one request a line, first what to convert, then what to answer, and ends when the
other side does. What user code and libraries print goes to standard error.
"""

import json
import os
import sys
from pathlib import Path
from typing import Any, TextIO

import numpy as np

from edgewright.core.errors import EdgewrightError, ModelError
from edgewright.toolchain.sources.torch import exporting, loading


def main() -> int:
    """Serve until the pipe closes."""
    # The pipe is ours alone; the number it had is the log's from here on.
    with os.fdopen(os.dup(1), "w", encoding="utf-8") as channel:
        os.dup2(2, 1)
        served = Served()
        for line in sys.stdin:
            _say(channel, served.serve(json.loads(line)))
    return 0


class Served:
    """What is kept between requests: the model that was loaded."""

    def __init__(self) -> None:
        self._loaded: loading.Loaded | None = None

    def serve(self, request: dict[str, Any]) -> dict[str, Any]:
        """Return what came of ``request``, an error included."""
        try:
            if request["do"] == "convert":
                return self._convert(request)
            return self._answer(request)
        except EdgewrightError as error:
            wrong = error
        except Exception as error:  # noqa: BLE001  code of others runs here: the outermost loop
            first = (str(error).strip().splitlines() or ["nothing was said"])[0]
            wrong = ModelError(
                f"{type(error).__name__}: {first}",
                hint="Load and run the model with torch alone; what fails there fails here.",
            )
        return {"error": {"code": wrong.code, "message": str(wrong), "hint": wrong.hint}}

    def _convert(self, request: dict[str, Any]) -> dict[str, Any]:
        loaded = self._loaded = loading.load(request)
        out = Path(request["folder"], "exported.onnx")
        exporter, notes = exporting.export(loaded, out, request["opset"])
        return {
            "model": str(out),
            "code": loaded.code,
            "exporter": exporter,
            "notes": [*loaded.notes, *notes],
            "frozen": sorted(loaded.frozen),
            "within": dict(loaded.within),
        }

    def _answer(self, request: dict[str, Any]) -> dict[str, Any]:
        if self._loaded is None:
            raise ValueError("asked to answer before anything was converted")
        names, counts = request["names"], []
        told: dict[str, Any] = {}
        with np.load(request["feeds"], allow_pickle=False) as held:
            for s in range(request["sets"]):
                feeds = {name: held[f"{s}.{i}"] for i, name in enumerate(names)}
                outputs = self._loaded.answer(feeds)
                told |= {f"{s}.{i}": array for i, array in enumerate(outputs)}
                counts.append(len(outputs))
        path = Path(request["feeds"]).with_name("answers.npz")
        np.savez(path, **told)
        return {"answers": str(path), "counts": counts}


def _say(channel: TextIO, told: dict[str, Any]) -> None:
    channel.write(json.dumps(told) + "\n")
    channel.flush()


if __name__ == "__main__":
    sys.exit(main())
