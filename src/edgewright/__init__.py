"""edgewright takes a trained model to edge devices and keeps it working there.

The two names an application needs are loaded on first use, so that importing
the package costs nothing on a device.

ONNX Runtime from 1.32 on writes a device id and a database of events into the user's
cache folder when it is imported, and sends them to its maker. Nobody who runs a model
here has agreed to that, so it is off before anything can import it; whoever wants it
sets the variable to 0.
"""

import os
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from edgewright.toolchain.recipe import optimize

os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")

__version__ = "0.1.0"
__all__ = ["__version__", "optimize"]


def __getattr__(name: str) -> Any:
    """Load ``optimize`` when it is first asked for; the device wheel has no toolchain."""
    if name == "optimize":
        from edgewright.toolchain.recipe import optimize  # noqa: PLC0415  lazy on purpose

        return optimize
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
