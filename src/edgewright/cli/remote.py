"""Which control plane a command talks to: said, set for this person, or an error.

In this order: ``--server`` and ``--token-file``, the environment variables
``EDGEWRIGHT_SERVER`` and ``EDGEWRIGHT_TOKEN_FILE``, the keys ``server`` and
``token_file`` of ``~/.config/edgewright/config.toml``.
"""

import argparse
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlencode

from edgewright.core import config
from edgewright.core.errors import ConfigError, UsageError

if TYPE_CHECKING:
    from edgewright.wire.http import Client

SERVER_VARIABLE = "EDGEWRIGHT_SERVER"
TOKEN_VARIABLE = "EDGEWRIGHT_TOKEN_FILE"  # noqa: S105  the name of a variable


@dataclass(frozen=True, slots=True)
class Person:
    """``~/.config/edgewright/config.toml``.

    Attributes:
        server: URL of the control plane.
        token_file: File with a token of scope ``operate``; ``~`` is the home folder.
    """

    server: str = ""
    token_file: str = ""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add ``--server`` and ``--token-file`` to a command or verb."""
    parser.add_argument("--server", metavar="URL", help="the control plane")
    parser.add_argument(
        "--token-file",
        metavar="FILE",
        help="file that holds a token of scope operate",
    )


@contextmanager
def connected(args: argparse.Namespace) -> "Iterator[Client]":
    """Give a client of the control plane that ``args`` and the settings name.

    Raises:
        UsageError: Nothing names one.
        ConfigError: The settings or the token cannot be read.
    """
    from edgewright.wire.http import Client

    person = _person()
    server = args.server or os.environ.get(SERVER_VARIABLE) or person.server
    token_file = args.token_file or os.environ.get(TOKEN_VARIABLE) or person.token_file
    for value, option, variable in (
        (server, "--server", SERVER_VARIABLE),
        (token_file, "--token-file", TOKEN_VARIABLE),
    ):
        if not value:
            raise UsageError(
                f"no {option} was given",
                hint=f"Give it, set {variable}, or write it to {_person_path()}.",
            )
    client = Client(server, token=_token(Path(token_file).expanduser()))
    try:
        yield client
    finally:
        client.close()


def pages(client: "Client", path: str, key: str) -> Iterator[dict[str, Any]]:
    """Return every row of a listing, page after page."""
    after: Any = ""
    while after is not None:
        answer = client.call("GET", f"{path}?{urlencode({'after': after})}")
        yield from answer[key]
        after = answer["next"]


def run_verb(
    args: argparse.Namespace, verbs: "dict[str, Callable[[argparse.Namespace, Client], int]]"
) -> int:
    """Run the verb that was chosen against the control plane."""
    with connected(args) as client:
        return verbs[args.verb](args, client)


def _token(path: Path) -> str:
    try:
        return path.read_text().strip()
    except (OSError, UnicodeDecodeError) as error:
        why = error.strerror if isinstance(error, OSError) else "it is not text"
        raise ConfigError(
            f"cannot read a token from {path}: {why}",
            hint="A control plane writes one to tokens/operate.token when it first starts.",
        ) from error


def _person_path() -> Path:
    return Path.home() / ".config" / "edgewright" / "config.toml"


def _person() -> Person:
    path = _person_path()
    return config.load(Person, path) if path.exists() else Person()
