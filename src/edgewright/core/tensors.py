"""What a tensor looks like, without holding one: name, element type, shape."""

from dataclasses import dataclass
from math import prod

ITEM_BYTES = {
    "bool": 1, "uint8": 1, "int8": 1, "uint16": 2, "int16": 2, "float16": 2,
    "uint32": 4, "int32": 4, "float32": 4, "uint64": 8, "int64": 8, "float64": 8,
}  # fmt: skip

# The Open Inference Protocol's name for each of our element types.
OIP_NAMES = {
    "bool": "BOOL", "uint8": "UINT8", "int8": "INT8", "uint16": "UINT16", "int16": "INT16",
    "float16": "FP16", "uint32": "UINT32", "int32": "INT32", "float32": "FP32",
    "uint64": "UINT64", "int64": "INT64", "float64": "FP64",
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class TensorSpec:
    """One input or output of a model.

    Attributes:
        name: As the graph calls it.
        dtype: A key of ``ITEM_BYTES``.
        shape: One integer a dimension; -1 where any size is accepted.
    """

    name: str
    dtype: str
    shape: tuple[int, ...]

    def __post_init__(self) -> None:
        """Refuse a type we cannot name and a dimension that means nothing."""
        if self.dtype not in ITEM_BYTES:
            raise ValueError(f"tensor {self.name!r} has unknown dtype {self.dtype!r}")
        if any(size < -1 or size == 0 for size in self.shape):
            raise ValueError(f"tensor {self.name!r} has impossible shape {list(self.shape)}")

    def misfit(self, dtype: str, shape: tuple[int, ...]) -> str:
        """Return why a tensor of ``dtype`` and ``shape`` does not fit; empty if it does."""
        if dtype != self.dtype:
            return f"input {self.name!r} must be {self.dtype}, got {dtype}"
        fits = len(shape) == len(self.shape) and all(
            want in {-1, got} and got > 0 for want, got in zip(self.shape, shape, strict=True)
        )
        if fits:
            return ""
        wanted = "x".join("N" if size == -1 else str(size) for size in self.shape)
        given = "x".join(map(str, shape)) or "a scalar"
        return f"input {self.name!r} must have shape {wanted}, got {given}"

    def nbytes(self, shape: tuple[int, ...]) -> int:
        """Return the bytes of a tensor of this type with ``shape``."""
        return prod(shape) * ITEM_BYTES[self.dtype]
