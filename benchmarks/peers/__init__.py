"""The tools edgewright is measured beside, as a table that loads nothing.

Each makes its variants in a process of its own, with its own Python; what they leave is
files, and those are measured by one hand (``optimize.py`` above). A tool that cannot be
installed or refuses a model is written down with its reason.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

HERE = Path(__file__).parent
MAKERS = HERE / "makers"
REQUIREMENTS = HERE / "requirements"

Form = Literal["fp16", "int8", "int8-weights", "int4-weights"]

OURS = "edgewright"


@dataclass(frozen=True, slots=True)
class Variant:
    """One way a tool makes a model smaller.

    Attributes:
        tool: Whose it is.
        name: As the maker's table calls it.
        form: What it asks for, so that like is compared with like: ``int8`` computes
            in 8 bits, ``-weights`` only store fewer.
        engine: What runs its files: ``onnxruntime`` or ``openvino``.
        transformers_only: Whether it means nothing for other models.
    """

    tool: str
    name: str
    form: Form
    engine: str = "onnxruntime"
    transformers_only: bool = False

    @property
    def title(self) -> str:
        """How it is called in tables."""
        return f"{self.tool} {self.name}"


@dataclass(frozen=True, slots=True)
class Tool:
    """One tool.

    Attributes:
        name: As it is called in tables.
        maker: The script below ``makers/`` that carries its library.
        environment: The file below ``requirements/``; empty for the one we run in.
        variants: What it can make.
    """

    name: str
    maker: str
    environment: str
    variants: tuple[Variant, ...]


def _tool(name: str, maker: str, environment: str, *variants: Variant) -> Tool:
    return Tool(name, maker, environment, variants)


TOOLS = (
    _tool(
        OURS, "by_edgewright.py", "",
        Variant(OURS, "int8", "int8"),
        Variant(OURS, "int8-smooth", "int8", transformers_only=True),
        Variant(OURS, "fp16", "fp16"),
        Variant(OURS, "int8-weights", "int8-weights"),
        Variant(OURS, "int8-codes", "int8-weights", transformers_only=True),
        Variant(OURS, "int4-weights", "int4-weights"),
    ),
    _tool(
        "onnxruntime", "by_onnxruntime.py", "onnxruntime",
        Variant("onnxruntime", "static", "int8"),
        Variant("onnxruntime", "static-default", "int8"),
        Variant("onnxruntime", "dynamic", "int8"),
        Variant("onnxruntime", "dynamic-fused", "int8", transformers_only=True),
    ),
    _tool(
        "nncf", "by_nncf.py", "nncf",
        Variant("nncf", "int8", "int8", engine="openvino"),
        Variant("nncf", "onnx-int8", "int8"),
        Variant("nncf", "fp16", "fp16", engine="openvino"),
        Variant("nncf", "int8-weights", "int8-weights", engine="openvino"),
        Variant("nncf", "int4-weights", "int4-weights", engine="openvino"),
    ),
    _tool(
        "olive", "by_olive.py", "olive",
        Variant("olive", "static", "int8"),
        Variant("olive", "dynamic", "int8"),
    ),
    _tool(
        "inc", "by_inc.py", "inc",
        Variant("inc", "static", "int8"),
        Variant("inc", "dynamic", "int8"),
        Variant("inc", "smooth", "int8", transformers_only=True),
    ),
)  # fmt: skip
