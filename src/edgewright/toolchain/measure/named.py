"""Functions of the user's, named ``module:callable``."""

import sys
from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from typing import Any

from edgewright.core.errors import UsageError


def function(name: str) -> Callable[..., Any]:
    """Return what ``module:callable`` names; the working folder is looked in too.

    Raises:
        UsageError: There is no such thing, or it cannot be called.
    """
    module, _, attribute = name.partition(":")
    here = str(Path.cwd())
    added = here not in sys.path
    if added:
        sys.path.insert(0, here)
    try:
        found = getattr(import_module(module), attribute)
    except (ImportError, AttributeError, ValueError) as error:
        raise UsageError(
            f"{name} cannot be found: {error}",
            hint="Write module:callable; the module must lie here or be installed.",
        ) from error
    finally:
        if added:
            sys.path.remove(here)
    if not callable(found):
        raise UsageError(
            f"{name} cannot be called, it is a {type(found).__name__}",
            hint="Name a function: module:function.",
        )
    made: Callable[..., Any] = found
    return made
