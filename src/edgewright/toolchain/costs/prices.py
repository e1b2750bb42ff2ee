"""What a kind of work costs: products a cycle by instruction set, and how many are wasted.

``LANES`` is arithmetic from the instruction sets: how many products a core of the kind can
begin in a cycle (two multiply-add units on x86 and on large Arm cores). ``PRICES`` says how
many times as long it takes in a real engine; they are fitted by ``benchmarks/costs.py``.
"""

from collections.abc import Mapping, Sequence

# First that fits decides: (instruction set, float32 lanes, 8-bit lanes).
LANES = (
    ("amx-int8", 32, 256),
    ("avx512", 32, 64),
    ("avx2", 16, 32),
    ("sse4.2", 8, 16),
    ("i8mm", 8, 64),
    ("dotprod", 8, 32),
    ("neon", 8, 16),
    ("pie", 1, 16),
    ("dsp", 1, 2),
)
_ONE = (1, 1)
_WIDE_DOT = {"avx512": 128, "avx2": 64}

# Cycles over what the lanes alone would take; bytes, calls and runs in cycles each.
PRICES: Mapping[str, float] = {
    "conv_float": 1.0,
    "conv_int8": 3.4,
    "depthwise": 3.9,
    "matrix_float": 2.1,
    "matrix_int8": 17.0,
    "step_float": 1000.0,
    "elements": 1.0,
    "bytes": 0.044,
    "calls": 490.0,
    "runs": 16_700.0,
}


def lanes_of(isa: Sequence[str]) -> Mapping[str, int]:
    """Return the products, or elements, of each kind that a core begins in a cycle."""
    known = set(isa)
    name, floats, bytes_ = next((row for row in LANES if row[0] in known), ("", *_ONE))
    if "vnni" in known:
        bytes_ = _WIDE_DOT.get(name, bytes_)
    return {
        **dict.fromkeys(("conv_float", "matrix_float", "depthwise", "elements"), floats),
        **dict.fromkeys(("conv_int8", "matrix_int8"), bytes_),
        **dict.fromkeys(("step_float", "bytes", "calls", "runs"), 1),
    }
