"""What a written model answers, and how far that is from what it was made from.

Both sides answer the same inputs. Floats may differ by rounding only, measured against
the largest answer; whole numbers and truth values not at all. Infinities and NaN must
stand in the same places: a difference with NaN in it is no number, and would pass.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from edgewright.core.errors import ParityError
from edgewright.runtime.engines import load_engine

Array = npt.NDArray[Any]
Feeds = Mapping[str, Array]

# Of the largest answer, by the type that is answered: rounding of sums in another order
# stays well below, a wrong axis, a lost bias or a wrong layout is far above.
TOLERANCE = {"float64": 1e-4, "float32": 1e-4, "float16": 1e-2}
_ENGINE = "onnxruntime"


def answers(model: Path, sets: Sequence[Feeds]) -> list[list[Array]]:
    """Return the outputs of the ONNX file ``model``, in graph order, for each set.

    Raises:
        EngineError: It cannot be loaded, or cannot answer one of the sets.
    """
    session = load_engine(_ENGINE).load(model)
    try:
        return [[np.asarray(one) for one in session.run(feeds)] for feeds in sets]
    finally:
        session.close()


def apart(source: Sequence[Array], written: Sequence[Array], names: Sequence[str]) -> float:
    """Return the largest difference, as a share of the largest answer of its output.

    Args:
        source: What the source answers, an array an output.
        written: What the written model answers to the same.
        names: Of the outputs, for messages.

    Raises:
        ParityError: It is over ``TOLERANCE``, or the answers have another form.
    """
    if len(source) != len(written):
        raise ParityError(
            f"the written model has {len(written)} outputs ({', '.join(names)}), its source "
            f"answers {len(source)} tensors",
            hint="Let the source return the outputs that are wanted, each a tensor.",
        )
    return max(map(_one_apart, source, written, names), default=0.0)


def _one_apart(source: Array, written: Array, name: str) -> float:
    if source.shape != written.shape:
        raise ParityError(
            f"output {name!r} answers shape {list(written.shape)}, its source "
            f"{list(source.shape)}",
            hint="Export it again; the conversion lost or added a dimension.",
        )
    if written.dtype.kind != "f":
        other = int(np.count_nonzero(source != written))
        if other:
            raise ParityError(
                f"{other} of {source.size} values of output {name!r} are not its source's",
                hint="Export it again from the source it is compared with.",
            )
        return 0.0
    mine, theirs = (a.astype(np.float64) for a in (written, source))
    finite = np.isfinite(theirs)
    same = np.array_equal(finite, np.isfinite(mine)) and np.array_equal(
        theirs[~finite], mine[~finite], equal_nan=True
    )
    if not same:
        raise ParityError(
            f"output {name!r} has {int((~np.isfinite(mine)).sum())} values that are not "
            f"finite, its source {int((~finite).sum())}, or in other places",
            hint="Export with float32 weights, and check the source on the same inputs.",
        )
    largest = float(np.abs(theirs[finite]).max(initial=0.0))
    difference = float(np.abs(theirs[finite] - mine[finite]).max(initial=0.0))
    share = difference / (largest or 1.0)
    limit = TOLERANCE[str(written.dtype)]
    if share > limit:
        raise ParityError(
            f"output {name!r} is {share:.2e} of the largest answer away from its source, at "
            f"most {limit:.0e} may be",
            hint="The conversion changed what the model computes; try another --opset, or "
            "export to ONNX with the framework's own tools and import that.",
        )
    return share
