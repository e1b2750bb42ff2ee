"""Loads a bundle and runs it: in process with ``load``, or as a worker process.

Importing this package is cheap; numpy and the engine come with the first model.
"""

from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from edgewright.runtime.model import Model

__all__ = ["load"]


def load(
    source: str | Path,
    *,
    variant: str | None = None,
    engine: str | None = None,
    threads: int = 1,
) -> "Model":
    """Return the model in ``source``, verified and ready to answer.

    Every byte is checked against its digest and both golden sets are run here
    before anything is returned. Of the variants that pass, the one with the lowest
    median on this machine is taken; among those within 5 % of it, the smallest. Where
    there are several, their times are kept in ``edgewright/variants.json`` of the
    user's cache folder (``XDG_CACHE_HOME``, or ``~/.cache``) and not measured again.

    Args:
        source: An ``.ewb``, or the folder of an installed slot.
        variant: Take this variant, or fail.
        engine: Consider only variants for this engine.
        threads: Threads one answer may use.

    Raises:
        BundleError: Not a bundle, damaged, or without such a variant.
        StorageError: The disk refused to read or to unpack it.
        GoldenError: No variant reproduces the golden answers on this machine.
        EngineError: No variant can be loaded here.
    """
    from edgewright.runtime import model, timings  # noqa: PLC0415  numpy only when needed

    return model.load(
        Path(source),
        variant=variant,
        engine=engine,
        threads=threads,
        timings=timings.user_file(),
    )
