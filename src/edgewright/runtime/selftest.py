"""The golden sets of a bundle, run on the machine at hand.

A sample is answered alone, first dimension 1, in the order of the set: kernels
may round differently for another batch, and the answers of the build host were
made in the same way (``answers`` makes them, ``check`` compares with them). Both
sets share their inputs, so one run serves both comparisons.
"""

import struct
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from math import prod
from typing import Any

from edgewright.bundle import golden
from edgewright.bundle.golden import Comparison
from edgewright.bundle.manifest import Manifest, Tolerance
from edgewright.core.errors import BundleError, EngineError
from edgewright.core.tensors import ITEM_BYTES, TensorSpec
from edgewright.runtime.engines import Array, Engine, Session

# How ``struct`` and ``memoryview`` call each of our element types.
_CODES: dict[str, Any] = {
    "bool": "?", "uint8": "B", "int8": "b", "uint16": "H", "int16": "h", "float16": "e",
    "uint32": "I", "int32": "i", "float32": "f", "uint64": "Q", "int64": "q", "float64": "d",
}  # fmt: skip

Sample = Mapping[str, Array]


@dataclass(frozen=True, slots=True)
class GoldenResult:
    """How both golden sets of one variant came out on this machine."""

    reference: Comparison
    variant: Comparison

    @property
    def passed(self) -> bool:
        """Whether both did."""
        return self.reference.passed and self.variant.passed

    @property
    def finding(self) -> str:
        """What failed, in one sentence; empty if nothing did."""
        parts = [("golden.reference", self.reference), ("golden.variant", self.variant)]
        return "; ".join(f"{name}: {one.detail}" for name, one in parts if not one.passed)


def samples(
    specs: Sequence[TensorSpec], raw: Sequence[bytes], count: int, engine: Engine
) -> list[Sample]:
    """Return each of ``count`` samples as inputs by name, first dimension 1.

    Args:
        specs: The inputs; the first dimension is 1 or -1.
        raw: For each input the values of all samples, as a bundle holds them.
        count: How many samples ``raw`` holds.
        engine: Makes the arrays.

    Raises:
        BundleError: The bytes are not ``count`` samples of these inputs.
    """
    columns = []
    for spec, data in zip(specs, raw, strict=True):
        shape = _sample_shape(spec, len(data), count)
        size = len(data) // count
        rows = (data[start : start + size] for start in range(0, len(data), size))
        columns.append([engine.array(row, spec.dtype, shape) for row in rows])
    names = [spec.name for spec in specs]
    return [dict(zip(names, row, strict=True)) for row in zip(*columns, strict=True)]


def answers(session: Session, feeds: Iterable[Sample]) -> tuple[bytes, ...]:
    """Return, for each output, the raw answers to every sample, one after the other.

    Raises:
        EngineError: The engine cannot run one of them.
    """
    columns: list[list[bytes]] = [[] for _ in session.outputs]
    for feed in feeds:
        for column, array in zip(columns, session.run(feed), strict=True):
            column.append(array.tobytes())
    return tuple(b"".join(column) for column in columns)


def golden_samples(
    manifest: Manifest, read: Callable[[str], bytes], engine: Engine
) -> list[Sample]:
    """Return the golden inputs of a bundle; ``read`` gives an entry's verified bytes.

    Raises:
        BundleError: The entries do not hold what the manifest says.
    """
    reference = manifest.golden.reference
    raw = [read(path) for path in reference.inputs]
    if len(raw) != len(manifest.inputs) or reference.count < 1:
        raise BundleError(
            f"golden.reference has {len(raw)} inputs of {reference.count} samples, "
            f"the model takes {len(manifest.inputs)}"
        )
    return samples(manifest.inputs, raw, reference.count, engine)


def check(
    manifest: Manifest,
    variant: str,
    session: Session,
    feeds: Sequence[Sample],
    read: Callable[[str], bytes],
) -> GoldenResult:
    """Return how ``variant``, loaded as ``session``, answers the golden inputs.

    Raises:
        BundleError: It has no golden answers, or other inputs and outputs than
            the manifest says.
        EngineError: The engine cannot run it.
    """
    check_tensors(manifest, session)
    own = next((v for v in manifest.golden.variants if v.variant == variant), None)
    if own is None:
        raise BundleError(f"variant {variant!r} has no golden answers")
    got = answers(session, feeds)
    reference = manifest.golden.reference
    return GoldenResult(
        reference=_compare(manifest, reference.tolerance, reference.outputs, got, read),
        variant=_compare(manifest, own.tolerance, own.outputs, got, read),
    )


def check_tensors(manifest: Manifest, session: Session) -> None:
    """Refuse a session whose inputs or outputs are not those of the manifest.

    Raises:
        BundleError: Naming the first that differs.
    """
    for kind, said, found in (
        ("input", manifest.inputs, session.inputs),
        ("output", manifest.outputs, session.outputs),
    ):
        alike = len(said) == len(found) and all(map(_alike, said, found))
        if not alike:
            raise BundleError(
                f"the model's {kind}s are {_show(found)}, its manifest says {_show(said)}"
            )


def rows(data: bytes, dtype: str, count: int) -> list[Sequence[float]]:
    """Return raw values as ``count`` flat rows, without a copy where Python allows it.

    Raises:
        BundleError: ``data`` cannot be cut into ``count`` rows.
    """
    size, rest = divmod(len(data), count)
    if rest or size % ITEM_BYTES[dtype]:
        raise BundleError(f"{len(data)} bytes are not {count} rows of {dtype}")
    starts = range(0, len(data), size) if size else ()
    if dtype == "float16":
        form = f"<{size // 2}e"
        return [struct.unpack_from(form, data, start) for start in starts]
    view = memoryview(data)
    return [view[start : start + size].cast(_CODES[dtype]) for start in starts]


def _compare(
    manifest: Manifest,
    tolerance: Tolerance,
    paths: Sequence[str],
    got: Sequence[bytes],
    read: Callable[[str], bytes],
) -> Comparison:
    """Compare every output; return the first that fails, else the one furthest off."""
    count = manifest.golden.reference.count
    if len(paths) != len(got):
        raise BundleError(f"{len(paths)} golden outputs are named, the model has {len(got)}")
    results = []
    for spec, path, data in zip(manifest.outputs, paths, got, strict=True):
        expected = rows(read(path), spec.dtype, count)
        results.append(golden.compare(tolerance, expected, rows(data, spec.dtype, count)))
    failed = [result for result in results if not result.passed]
    return failed[0] if failed else max(results, key=lambda result: result.worst_micro)


def _sample_shape(spec: TensorSpec, length: int, count: int) -> tuple[int, ...]:
    """Return the shape of one sample; one dimension may be told by the bytes."""
    if not spec.shape or spec.shape[0] not in {1, -1}:
        raise EngineError(
            f"input {spec.name!r} of shape {list(spec.shape)} cannot take one sample",
            hint="Export the model with a first dimension of 1, or a free one.",
        )
    rest = spec.shape[1:]
    known = prod(size for size in rest if size != -1) * ITEM_BYTES[spec.dtype] * count
    free = rest.count(-1)
    if (
        count < 1
        or length == 0
        or length % known
        or free > 1
        or (free == 0 and length != known)
    ):
        raise BundleError(
            f"{length} bytes are not {count} samples of input {spec.name!r}, "
            f"{spec.dtype} {list(spec.shape)}"
        )
    return (1, *(length // known if size == -1 else size for size in rest))


def _alike(said: TensorSpec, found: TensorSpec) -> bool:
    """Whether two specs can mean one tensor; a free dimension goes with any size."""
    same = said.name == found.name and said.dtype == found.dtype
    return (
        same
        and len(said.shape) == len(found.shape)
        and all(a == b or -1 in {a, b} for a, b in zip(said.shape, found.shape, strict=True))
    )


def _show(specs: Iterable[TensorSpec]) -> str:
    return ", ".join(f"{s.name} {s.dtype} {list(s.shape)}" for s in specs) or "none"
