"""Inputs to try a model on: rows of real samples, or made-up values of the right shape.

Made-up values only show that two models agree. They say nothing about accuracy, and
whoever uses them says so.
"""

import zlib
from collections.abc import Iterator, Mapping, Sequence

import numpy as np

from edgewright.core.errors import DataError
from edgewright.toolchain.ir.answers import Array
from edgewright.toolchain.ir.axes import Axes

# One row alone, and several: what was fixed at either shows with the other.
BATCHES = (1, 3)
MOST_ROWS = 64
# Sizes of other free axes in made-up inputs, one for each batch.
_OTHER_SIZES = (8, 11)


def made_up(
    inputs: Sequence[Axes],
    *,
    batch: int = 1,
    size: int = _OTHER_SIZES[0],
    within: Mapping[str, tuple[int, int]] | None = None,
) -> dict[str, Array]:
    """Return values for ``inputs``, the same each time.

    Floats are normal, bytes from 0 to 127, other whole numbers from the first to before
    the second of ``within`` for their input; 0 and 1 where it says nothing, since they
    may be places in a table.
    """
    found = {}
    for one in inputs:
        shape = [
            s if isinstance(s, int) else batch if axis == 0 else size
            for axis, s in enumerate(one.shape)
        ]
        draw = np.random.default_rng(zlib.crc32(f"{one.name} {shape}".encode()))
        dtype = np.dtype(one.dtype)
        if dtype.kind == "f":
            found[one.name] = draw.normal(size=shape).astype(dtype)
        elif one.dtype in {"uint8", "int8"}:
            found[one.name] = draw.integers(0, 128, size=shape).astype(dtype)
        else:
            low, end = (within or {}).get(one.name, (0, 2))
            found[one.name] = draw.integers(low, end, size=shape).astype(dtype)
    return found


def sets(
    inputs: Sequence[Axes],
    samples: Mapping[str, Array] | None,
    within: Mapping[str, tuple[int, int]] | None = None,
) -> list[dict[str, Array]]:
    """Return the sets of inputs a model is tried on, the first of them one row.

    Where the batch is free there is a set of one row and one of three, and with more
    samples one of the rest, ``MOST_ROWS`` in all. Where it is fixed, each set has its
    size. Rows are used again where there are too few.

    Args:
        inputs: What the model takes.
        samples: Real inputs by name, first axis the sample; None for made-up ones.
        within: As ``made_up`` takes it.

    Raises:
        DataError: Samples that do not fit.
    """
    free = any(one.batch for one in inputs)
    if samples is None:
        both = zip(BATCHES, _OTHER_SIZES, strict=True)
        if free or any(one.free for one in inputs):
            return [made_up(inputs, batch=b, size=s, within=within) for b, s in both]
        return [made_up(inputs, within=within)]
    held = matched(inputs, samples)
    count = max(min(len(a), MOST_ROWS) if a.ndim else 1 for a in held.values())
    size = next((one.shape[0] for one in inputs if one.shape and not one.batch), 1)
    chosen = list(_rows(count, 0 if free else int(size)))
    return [{one.name: _take(one, held[one.name], rows) for one in inputs} for rows in chosen]


def matched(inputs: Sequence[Axes], samples: Mapping[str, Array]) -> dict[str, Array]:
    """Return the array for each input; one array is that of an only input.

    Raises:
        DataError: An input without an array, or an array of another type or shape.
    """
    if len(inputs) == len(samples) == 1:
        samples = {inputs[0].name: next(iter(samples.values()))}
    for one in inputs:
        if one.name not in samples:
            raise DataError(
                f"no samples for input {one.name!r}; there are: {', '.join(sorted(samples))}",
                hint="Name each array like the input it is for.",
            )
        _check(one, samples[one.name])
    counts = {one.name: len(samples[one.name]) for one in inputs if one.shape}
    if len(set(counts.values())) > 1 and all(one.batch for one in inputs):
        told = ", ".join(f"{name} {count}" for name, count in counts.items())
        raise DataError(
            f"inputs have different numbers of samples: {told}",
            hint="Give every input an array of the same samples, in the same order.",
        )
    return {one.name: samples[one.name] for one in inputs}


def _check(one: Axes, array: Array) -> None:
    if str(array.dtype) != one.dtype or array.ndim != len(one.shape):
        raise DataError(
            f"the model takes {one}, the samples are {array.dtype} of shape "
            f"{list(array.shape)}",
            hint="Give the samples exactly as the model will be fed, first axis the sample.",
        )
    for axis, (want, got) in enumerate(zip(one.shape, array.shape, strict=True)):
        if not got or (axis and isinstance(want, int) and want != got):
            raise DataError(
                f"axis {axis} of the samples for {one.name!r} is {got}, the model takes {one}",
                hint="Give the samples exactly as the model will be fed.",
            )
    if array.dtype.kind == "f" and not np.isfinite(array).all():
        raise DataError(
            f"samples for {one.name!r} hold values that are not finite",
            hint="Leave out samples with NaN or infinities, or mend what prepares them.",
        )


def _rows(count: int, size: int) -> Iterator[list[int]]:
    """Yield the rows of each set; ``size`` is the fixed batch, 0 where it is free."""
    if size:
        for start in range(0, count, size):
            yield [row % count for row in range(start, start + size)]
        return
    start = 0
    for batch in BATCHES:
        yield [row % count for row in range(start, start + batch)]
        start += batch
    if count > start:
        yield list(range(start, count))


def _take(one: Axes, array: Array, rows: Sequence[int]) -> Array:
    if not one.shape:
        return array
    size = one.shape[0]
    if isinstance(size, int) and len(array) == size != len(rows):
        return array  # an input without a batch beside ones that have it
    wanted = rows if isinstance(size, str) else [rows[i % len(rows)] for i in range(size)]
    return np.ascontiguousarray(array[[row % len(array) for row in wanted]])
