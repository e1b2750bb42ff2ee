"""TOML files as frozen dataclasses; an unknown key is refused, a typo named."""

import os
import tomllib
from pathlib import Path
from typing import TypeVar

from edgewright.core import records
from edgewright.core.errors import ConfigError

T = TypeVar("T")

DEFAULT_HOME = Path("/var/lib/edgewright")


def load(kind: type[T], path: Path) -> T:
    """Return the file at ``path`` as a ``kind``.

    Raises:
        ConfigError: No such file, not TOML, an unknown key, or a wrong value.
    """
    try:
        data = tomllib.loads(path.read_text())
    except FileNotFoundError as error:
        raise ConfigError(f"no configuration file {path}") from error
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise ConfigError(f"{path}: {error}") from error
    try:
        return records.decode(kind, data, error=ConfigError)
    except ConfigError as error:
        raise ConfigError(f"{path}: {error}", hint=error.hint) from error


def home() -> Path:
    """Return the state folder of this machine: ``EDGEWRIGHT_HOME`` or the default."""
    return Path(os.environ.get("EDGEWRIGHT_HOME") or DEFAULT_HOME)
