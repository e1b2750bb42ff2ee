"""The nodes that give a weight back as floats, from how it is stored.

Halves and integers are cast. Of codes with three values or two, several share a byte: as
digits of a number in base 3, five a byte, or in base 2, eight. Division and remainder by
constants take them apart, in operators of every opset since 13::

    code = (byte / base**place) mod base        real = (code - middle) * scale

An engine computes all of this once, when it loads the model.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt
from onnx import NodeProto, TensorProto, helper, numpy_helper

from edgewright.toolchain.ir.codes import Codes

# Base and digits a byte.
_DIGITS = {"ternary": (3, 5), "binary": (2, 8)}


@dataclass(slots=True)
class Stored:
    """A weight as it is stored, and what unfolds it.

    Attributes:
        tensors: Of its own.
        shared: That are the same for all weights of the form.
        nodes: The last one writes the weight.
    """

    tensors: list[TensorProto] = field(default_factory=list)
    shared: list[TensorProto] = field(default_factory=list)
    nodes: list[NodeProto] = field(default_factory=list)

    @property
    def nbytes(self) -> int:
        """Bytes of what is its own."""
        return sum(len(tensor.raw_data) for tensor in self.tensors)

    def keep(self, name: str, array: npt.NDArray[np.generic]) -> str:
        """Hold ``array`` under ``name``, which is returned."""
        self.tensors.append(numpy_helper.from_array(array, name))
        return name

    def share(self, name: str, array: npt.NDArray[np.generic]) -> str:
        """Hold ``array`` for all weights."""
        self.shared.append(numpy_helper.from_array(array, name))
        return name

    def node(self, kind: str, inputs: Sequence[str], output: str, to: int = 0) -> str:
        """Add a node, and return what it writes."""
        made = helper.make_node(kind, list(inputs), [output], name=f"{output}:{kind}")
        if to:
            made.attribute.append(helper.make_attribute("to", to))
        self.nodes.append(made)
        return output


def half(name: str, weight: npt.NDArray[np.float32]) -> Stored:
    """Return ``weight`` in half the bytes."""
    stored = Stored()
    held = stored.keep(f"{name}/half", weight.astype(np.float16))
    stored.node("Cast", [held], name, to=TensorProto.FLOAT)
    return stored


def coded(name: str, codes: Codes, form: str) -> Stored:
    """Return a weight as its codes and scales."""
    stored = Stored()
    if form in _DIGITS:
        wide = _digits(stored, name, codes, form)
        # Two codes are 0 and 1 in a byte, but -1 and 1 of a scale.
        scale = codes.scale * np.float32(1 if form == "ternary" else 2)
    else:
        stored.tensors.append(_integers(f"{name}/codes", codes.values, form))
        held = stored.tensors[0].name
        wide = stored.node("Cast", [held], f"{name}/wide", to=TensorProto.FLOAT)
        scale = codes.scale
    factor = stored.keep(f"{name}/scale", scale)
    if codes.values.shape == codes.shape:
        stored.node("Mul", [wide, factor], name)
        return stored
    real = stored.node("Mul", [wide, factor], f"{name}/real")
    shape = stored.keep(f"{name}/shape", np.array(codes.shape, np.int64))
    stored.node("Reshape", [real, shape], name)
    return stored


def in_place(name: str, codes: Codes, form: str, *, transposed: bool) -> Stored:
    """Return a matrix as ``codes.by_input_block`` left it, unfolded where it is used.

    An engine that has a product with such codes never makes floats of them.

    Args:
        name: Of the weight, which is (inputs, outputs) afterwards.
        codes: Of it.
        form: ``int8`` or ``int4``.
        transposed: Whether a row of ``codes`` is an output.
    """
    stored = Stored()
    values, scale = (
        codes.values.reshape(codes.shape),
        codes.scale.squeeze(2 if transposed else 1),
    )
    if transposed:
        values, scale = np.ascontiguousarray(values.T), np.ascontiguousarray(scale.T)
    stored.tensors.append(_integers(f"{name}/codes", values, form))
    held = stored.tensors[0].name
    factor = stored.keep(f"{name}/scale", scale)
    stored.node("DequantizeLinear", [held, factor], name)
    size = values.shape[0] // scale.shape[0]
    options = {"axis": 0, "block_size": size}
    stored.nodes[-1].attribute.extend(
        helper.make_attribute(key, value) for key, value in options.items()
    )
    return stored


def _digits(stored: Stored, name: str, codes: Codes, form: str) -> str:
    """Hold ``codes`` as digits; return the floats, of the shape of the codes' values."""
    base, count = _DIGITS[form]
    held = stored.keep(f"{name}/digits", folded(codes.values, form))
    powers = stored.share(f"{form}/powers", base ** np.arange(count, dtype=np.int32))
    radix = stored.share(f"{form}/base", np.array(base, np.int32))
    middle = stored.share(f"{form}/middle", np.array((base - 1) / 2, np.float32))
    number = stored.node("Cast", [held], f"{name}/number", to=TensorProto.INT32)
    shifted = stored.node("Div", [number, powers], f"{name}/shifted")
    digit = stored.node("Mod", [shifted, radix], f"{name}/digit")
    real = stored.node("Cast", [digit], f"{name}/float", to=TensorProto.FLOAT)
    flat = stored.node("Sub", [real, middle], f"{name}/flat")
    if over := -codes.values.size % count:
        one = stored.share("one line", np.array([-1], np.int64))
        line = stored.node("Reshape", [flat, one], f"{name}/line")
        start = stored.share("the start", np.array([0], np.int64))
        end = stored.keep(f"{name}/end", np.array([-over], np.int64))
        flat = stored.node("Slice", [line, start, end], f"{name}/used")
    shape = stored.keep(f"{name}/rows", np.array(codes.values.shape, np.int64))
    return stored.node("Reshape", [flat, shape], f"{name}/wide")


def folded(values: npt.NDArray[np.int8], form: str) -> npt.NDArray[np.uint8]:
    """Return codes as digits of bytes, shape (bytes, 1), the first digit the lowest."""
    base, count = _DIGITS[form]
    digits = values.ravel().astype(np.int64)
    digits = digits + 1 if base == 3 else (digits + 1) // 2
    rows = np.pad(digits, (0, -digits.size % count)).reshape(-1, count)
    numbers: npt.NDArray[np.int64] = rows @ base ** np.arange(count)
    return numbers.astype(np.uint8)[:, None]


def _integers(name: str, values: npt.NDArray[np.int8], form: str) -> TensorProto:
    if form == "int8":
        return numpy_helper.from_array(values, name)
    return TensorProto(
        name=name, data_type=TensorProto.INT4, dims=values.shape, raw_data=packed(values)
    )


def packed(values: npt.NDArray[np.int8]) -> bytes:
    """Return two codes a byte, the first one low, as ONNX packs int4."""
    nibbles = (values.ravel() & 0xF).astype(np.uint8)
    if nibbles.size % 2:
        nibbles = np.append(nibbles, np.uint8(0))
    return bytes((nibbles[::2] | nibbles[1::2] << 4).astype(np.uint8).tobytes())
