"""Real inputs from an npz file, an array for each input of a model."""

import zlib
from io import BytesIO
from pathlib import Path
from zipfile import BadZipFile

import numpy as np

from edgewright.core.errors import DataError
from edgewright.toolchain.ir.answers import Array


def load_samples(path: Path) -> dict[str, Array]:
    """Return every array in ``path`` by name; nothing in it is unpickled.

    Raises:
        DataError: It cannot be read, or holds something else than plain arrays.
    """
    try:
        data = path.read_bytes()
    except OSError as error:
        raise DataError(
            f"cannot read {path.name}: {error.strerror}",
            hint="Give the path of an npz file that may be read.",
        ) from error
    if not data.startswith(b"PK"):
        raise DataError(
            f"{path.name} is not an npz file: it begins with {data[:8]!r}",
            hint="Write it with numpy.savez, an array for each input.",
        )
    try:
        with np.load(BytesIO(data), allow_pickle=False) as archive:
            found = {name: np.asarray(archive[name]) for name in archive}
    except (ValueError, EOFError, OSError, BadZipFile, zlib.error) as error:
        raise DataError(
            f"{path.name} is not a file of plain arrays: {error}",
            hint="Write it with numpy.savez; arrays of objects are not read.",
        ) from error
    if not found:
        raise DataError(
            f"{path.name} holds no array",
            hint="Write it with numpy.savez, an array for each input.",
        )
    return found
