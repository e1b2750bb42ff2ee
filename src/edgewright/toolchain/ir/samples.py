"""Inputs of many samples: an array for each input of a model, the sample first."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from edgewright.core import digest
from edgewright.core.errors import DataError
from edgewright.core.tensors import TensorSpec


@dataclass(frozen=True, slots=True, eq=False)
class Samples:
    """Samples that belong together, input by input.

    Attributes:
        arrays: By the input's name; all have the same first dimension, the sample.
    """

    arrays: Mapping[str, npt.NDArray[Any]]

    def __post_init__(self) -> None:
        """Refuse arrays that do not hold the same samples."""
        lengths = {name: array.shape[:1] for name, array in self.arrays.items()}
        if not lengths or () in lengths.values() or len(set(lengths.values())) > 1:
            raise ValueError(f"arrays must share their first dimension, got {lengths}")

    def __len__(self) -> int:
        """Return how many samples there are."""
        return len(next(iter(self.arrays.values())))

    def __getitem__(self, index: slice | npt.NDArray[np.int64]) -> "Samples":
        """Return some of the samples."""
        return Samples({name: array[index] for name, array in self.arrays.items()})

    @property
    def nbytes(self) -> int:
        """Bytes of all samples."""
        return sum(array.nbytes for array in self.arrays.values())

    @property
    def digest(self) -> str:
        """One digest for all arrays, their types and shapes."""
        parts = (
            f"{name} {array.dtype} {array.shape} {digest.of_bytes(array.tobytes())}"
            for name, array in sorted(self.arrays.items())
        )
        return digest.of_bytes("\n".join(parts).encode())

    def batches(self, size: int, *, whole: bool = False) -> Iterator[dict[str, Any]]:
        """Yield feeds of ``size`` samples; the last may be smaller unless ``whole``."""
        for start in range(0, len(self), size):
            if whole and start + size > len(self):
                return
            yield {name: a[start : start + size] for name, a in self.arrays.items()}


def check_fit(samples: Samples, inputs: tuple[TensorSpec, ...], what: str) -> None:
    """Refuse samples that cannot be fed to ``inputs``.

    Args:
        samples: What is to be fed.
        inputs: What a model takes.
        what: How messages call the samples.

    Raises:
        DataError: An input without its array or an array without its input, another
            type or shape, or values that are not finite.
    """
    wanted = {spec.name for spec in inputs}
    if missing := sorted(wanted - set(samples.arrays)):
        raise DataError(
            f"{what} lack the model's input {missing[0]!r}",
            hint="Name each array like the input it is for.",
        )
    if extra := sorted(set(samples.arrays) - wanted):
        raise DataError(
            f"{what} hold {extra[0]!r}, which is no input of the model",
            hint="Leave that array out, or name it like the input it is for.",
        )
    for spec in inputs:
        array = samples.arrays[spec.name]
        # How many there are is not the model's business, where it takes one at a time.
        count = max(len(samples), 1) if spec.shape[:1] == (-1,) else spec.shape[0]
        if wrong := spec.misfit(str(array.dtype), (count, *array.shape[1:])):
            raise DataError(
                f"{what} do not fit the model's input {spec.name!r}: {wrong}",
                hint="Give the samples exactly as a device will feed them.",
            )
        if array.dtype.kind == "f" and not np.isfinite(array).all():
            raise DataError(
                f"{what} hold values that are not finite for {spec.name!r}",
                hint="Leave out samples with NaN or infinities, or mend what prepares them.",
            )
