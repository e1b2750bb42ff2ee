"""ONNX Runtime's Python tools, kept quiet: their warnings are not for our users.

They warn through C++ and through the root logger, to which they even add a printing
channel of its own. What they raise still reaches the caller, as errors of ours.
"""

import logging
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import onnxruntime
from onnxruntime.capi import onnxruntime_pybind11_state as state

from edgewright.core.errors import EdgewrightError, StorageError

_ERRORS_ONLY, _WARNINGS = 3, 2

# Its exceptions have no common root below Exception.
REFUSALS: tuple[type[Exception], ...] = (
    state.Fail,
    state.InvalidArgument,
    state.InvalidGraph,
    state.InvalidProtobuf,
    state.NotImplemented,
    state.RuntimeException,
    AttributeError,
    IndexError,
    KeyError,
    RuntimeError,
    TypeError,
    ValueError,
)


@contextmanager
def quiet(what: str, error: type[EdgewrightError]) -> Iterator[Path]:
    """Yield a temporary folder for a tool of ONNX Runtime's, and bear its manners.

    Args:
        what: What is being done, for the message of ``error``.
        error: Raised in place of whatever the tool raises.

    Raises:
        StorageError: The disk of the temporary folder refused.
    """
    root = logging.getLogger()
    silent = logging.NullHandler()
    before = logging.root.manager.disable
    # A root logger without a channel is given one that prints, by its first warning.
    root.addHandler(silent)
    logging.disable(logging.WARNING)
    onnxruntime.set_default_logger_severity(_ERRORS_ONLY)
    try:
        with tempfile.TemporaryDirectory(prefix="edgewright-") as folder:
            yield Path(folder)
    except EdgewrightError:
        raise
    except OSError as wrong:
        raise StorageError(
            f"cannot {what}: {wrong.strerror or wrong}",
            hint="Free some space in the temporary folder (TMPDIR) and try again.",
        ) from wrong
    except REFUSALS as wrong:
        first = (str(wrong).strip().splitlines() or [type(wrong).__name__])[0]
        raise error(
            f"cannot {what}: {first}",
            hint="Try the model with --graph-level none, or export it in another opset.",
        ) from wrong
    finally:
        onnxruntime.set_default_logger_severity(_WARNINGS)
        logging.disable(before)
        root.removeHandler(silent)
