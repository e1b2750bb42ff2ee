"""A function of the user's, ``module:callable``, that yields samples.

It is called with ``"calibrate"`` and with ``"evaluate"`` and returns, each time, an iterable
of ``inputs`` or of ``(inputs, right)``: an array, or a mapping by input's name; and the
class as a whole number, or an array of right numbers.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from edgewright.core.errors import DataError
from edgewright.core.tensors import TensorSpec
from edgewright.toolchain.measure.data import Given
from edgewright.toolchain.measure.forms import Form, only_input
from edgewright.toolchain.measure.named import function

_Part = tuple[dict[str, npt.NDArray[Any]], list[Any]]


def read(path: Path, inputs: Sequence[TensorSpec], form: Form) -> Given:
    """Return what the function yields.

    Raises:
        DataError: It yields nothing, raises, or yields what does not belong together.
        UsageError: There is no such function.
    """
    del form
    name = str(path)
    call = function(name)
    calibrate, known = _part(call, "calibrate", name, inputs)
    evaluate, right = _part(call, "evaluate", name, inputs)
    if not evaluate:
        raise DataError(
            f"{name} yields no sample for evaluation",
            hint="Let it yield samples when it is called with 'evaluate'.",
        )
    labels, targets = _truth(right, name)
    marks, _ = _truth(known, name)
    return Given(
        where=name,
        evaluate=evaluate,
        calibrate=calibrate,
        labels=labels,
        calibrate_labels=marks,
        targets=targets,
    )


def _part(
    call: Callable[..., Iterable[Any]], part: str, name: str, inputs: Sequence[TensorSpec]
) -> _Part:
    rows: list[Mapping[str, Any]] = []
    right: list[Any] = []
    for sample in call(part):
        given, known = sample if isinstance(sample, tuple) else (sample, None)
        if not isinstance(given, Mapping):
            given = {only_input(inputs, "an array a sample").name: given}
        rows.append(given)
        right.append(known)
    if not rows:
        return {}, []
    if any(one is None for one in right) and any(one is not None for one in right):
        raise DataError(
            f"{name} says for some samples of {part} what is right, not for all",
            hint="Yield (inputs, right) for every sample of a part, or inputs alone.",
        )
    try:
        arrays = {key: np.stack([np.asarray(row[key]) for row in rows]) for key in rows[0]}
    except (KeyError, ValueError) as error:
        raise DataError(
            f"{name}: samples of {part} are not alike: {error}",
            hint="Yield arrays of one type and shape for each input.",
        ) from error
    return arrays, [] if right[0] is None else right


def _truth(
    right: list[Any], name: str
) -> tuple[npt.NDArray[Any] | None, npt.NDArray[Any] | None]:
    """Return labels or targets, as whole numbers or others were yielded."""
    if not right:
        return None, None
    try:
        found = np.stack([np.asarray(one) for one in right])
    except ValueError as error:
        raise DataError(
            f"{name}: what is right is not alike: {error}",
            hint="Yield what is right in one form: a class, numbers or boxes.",
        ) from error
    if found.dtype.kind in "iu" and found.ndim == 1:
        return found, None
    return None, found.astype(np.float64)
