"""What travels to a worker and back: bytes, and nothing that can run.

A parcel is the digest of all that follows it, a line of JSON, then bytes. One that is not
whole, or not what it says, is refused where it is opened.
"""

import json
from collections.abc import Mapping, Sequence
from math import prod
from typing import Any

import numpy as np
import numpy.typing as npt

from edgewright.core import digest
from edgewright.core.errors import WireError
from edgewright.core.tensors import ITEM_BYTES
from edgewright.toolchain.ir.samples import Samples

# What is wrong with a worker's part is no reason to stop.
REMEDY = "It is done here instead; look at that machine if it goes on."
_DIGEST = len(digest.of_bytes(b""))

Array = npt.NDArray[Any]


def parcel(head: Mapping[str, Any], body: bytes = b"") -> bytes:
    """Return ``head``, which JSON can say, and ``body`` as one."""
    rest = b" " + json.dumps(head, sort_keys=True).encode() + b"\n" + body
    return digest.of_bytes(rest).encode() + rest


def opened(data: bytes) -> tuple[dict[str, Any], bytes]:
    """Return the head and the body of a parcel.

    Raises:
        WireError: It is none.
    """
    if not isinstance(data, bytes):
        raise WireError(f"a parcel is bytes, got {type(data).__name__}", hint=REMEDY)
    if data[:_DIGEST] != digest.of_bytes(memoryview(data)[_DIGEST:]).encode():
        raise WireError(f"a parcel of {len(data)} bytes is damaged", hint=REMEDY)
    line, _, body = data[_DIGEST:].partition(b"\n")
    try:
        head = json.loads(line)
    except ValueError as error:
        raise WireError(f"a parcel has no head: {error}", hint=REMEDY) from error
    if not isinstance(head, dict):
        raise WireError("a parcel has no head", hint=REMEDY)
    return head, body


def array_parcel(head: Mapping[str, Any], arrays: Sequence[tuple[str, Array]]) -> bytes:
    """Return named arrays as a parcel."""
    listed, parts = [], []
    for name, array in arrays:
        listed.append([name, str(array.dtype), list(array.shape)])
        parts.append(np.ascontiguousarray(array, array.dtype.newbyteorder("<")).tobytes())
    return parcel({**head, "arrays": listed}, b"".join(parts))


def arrays_of(head: Mapping[str, Any], body: bytes) -> dict[str, Array]:
    """Return the arrays of an opened parcel by name; they cannot be written to.

    Raises:
        WireError: A type that is no tensor's, or bytes that are too many or too few.
    """
    found, at = {}, 0
    try:
        for name, dtype, shape in head["arrays"]:
            size = ITEM_BYTES[dtype] * prod(shape)
            wanted = np.dtype(dtype).newbyteorder("<")
            part = memoryview(body)[at : at + size]
            array = np.frombuffer(part, wanted).reshape(shape)
            found[str(name)] = array.astype(np.dtype(dtype), copy=False)
            at += size
    except (KeyError, ValueError, TypeError) as error:
        raise WireError(
            f"arrays are not what their parcel says: {error}", hint=REMEDY
        ) from error
    if at != len(body):
        raise WireError(f"arrays take {at} bytes, their parcel holds {len(body)}", hint=REMEDY)
    return found


def samples_parcel(samples: Samples) -> bytes:
    """Return samples as a parcel."""
    return array_parcel({}, sorted(samples.arrays.items()))


def samples_of(data: bytes) -> Samples:
    """Return the samples of a parcel.

    Raises:
        WireError: It holds none.
    """
    try:
        return Samples(arrays_of(*opened(data)))
    except ValueError as error:
        raise WireError(f"a parcel holds no samples: {error}", hint=REMEDY) from error
