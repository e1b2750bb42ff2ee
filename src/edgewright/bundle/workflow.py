"""The client workflow of TUF, by python-tuf's ``Updater`` on a copy.

The updater works on files of its own (``scratch``) and gets its bytes from a
function, so it neither opens a socket nor touches what is trusted. What it does
not look at is added here: the repository a file says it belongs to, one key
counted under two ids, and our limits on length.

Why ``Updater`` and not ``TrustedMetadataSet``, which it drives: both judge the
same rules, but only the first is an interface python-tuf promises to keep. Its
one gap is that it takes the time from the machine; see ``_set_clock``.
"""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from typing import Any

from tuf.api.exceptions import (
    BadVersionNumberError,
    DownloadError,
    DownloadHTTPError,
    DownloadLengthMismatchError,
    ExpiredMetadataError,
    RepositoryError,
)
from tuf.ngclient.fetcher import FetcherInterface
from tuf.ngclient.updater import Updater

from edgewright.bundle import trust
from edgewright.bundle.trust import Fetch
from edgewright.core import clock
from edgewright.core.errors import (
    ExpiredError,
    RollbackError,
    StorageError,
    TransportError,
    TrustError,
)

_BASE = "repository:/"
_NOT_FOUND = 404
_HISTORY = "root_history"


def verified(
    root: bytes, held: Mapping[str, bytes], fetch: Fetch, *, now: datetime, scratch: Path
) -> dict[str, bytes]:
    """Return the newest set that can be trusted, every file of it verified.

    Args:
        root: The root that is trusted without asking.
        held: The set trusted before, against which nothing may go back; may be empty.
        fetch: Returns a file by name, None where there is none.
        now: The time expiry is judged at.
        scratch: A folder that may be filled with anything; it need not exist.

    Returns:
        ``timestamp.json``, one snapshot, one targets, and every root after ``root``.

    Raises:
        ExpiredError, RollbackError, TrustError, TransportError, StorageError: As
            ``trust.refresh`` says.
    """
    source = _Source(fetch, trust.repository_of(root))
    _check_keys(trust.signed_part(root, "root.json"), "root.json")
    with _our_errors(source, scratch, now):
        _copy(held, scratch)
        updater = Updater(str(scratch), _BASE, fetcher=source, bootstrap=root)
        _set_clock(updater, trust.check_time(now))
        updater.refresh()
        return _collect(scratch, trust.signed_part(root, "root.json"))


class _Source(FetcherInterface):
    """Where the updater gets its bytes; remembers what it gave last.

    ``download_bytes`` is overridden whole: the base class wraps what our ``fetch``
    raises, and spools every file through one on the disk.
    """

    def __init__(self, fetch: Fetch, repository: str) -> None:
        self._fetch_file = fetch
        self._repository = repository
        self.name = "root.json"
        self.signed: dict[str, Any] = {}

    def download_bytes(self, url: str, max_length: int) -> bytes:
        """Return the file ``url`` names, once it is short enough and of this repository."""
        self.name = url.removeprefix(_BASE)
        if not trust.is_metadata(self.name):
            raise TrustError(
                f"the set asks for {self.name}: its root is not one of consistent snapshots"
            )
        limit = min(max_length, trust.limit_bytes(self.name))
        data = self._fetch_file(self.name)
        if data is None:
            raise DownloadHTTPError(f"no {self.name}", _NOT_FOUND)
        if len(data) > limit:
            raise DownloadLengthMismatchError(f"{len(data)} bytes, {limit} allowed")
        self.signed = trust.signed_part(data, self.name)
        found = self.signed.get(trust.REPOSITORY_FIELD)
        if found != self._repository:
            raise TrustError(
                f"{self.name} is signed for the repository {found!r}, not {self._repository!r}"
            )
        if self.name.endswith(".root.json"):
            _check_keys(self.signed, self.name)
        return data

    def _fetch(self, url: str) -> Iterator[bytes]:
        raise DownloadError(f"{url}: targets are downloaded by their digest, not here")


def _set_clock(updater: Updater, now: datetime) -> None:
    updater._trusted_set.reference_time = now  # noqa: SLF001  tuf reads the machine's clock and offers no other way; a test moves it


def _check_keys(signed: Mapping[str, Any], name: str) -> None:
    """Refuse a root in which one key has two ids, and so could sign twice."""
    try:
        values = [str(key["keyval"]["public"]).lower() for key in signed["keys"].values()]
    except (KeyError, TypeError, AttributeError) as error:
        raise TrustError(f"{name} lists no keys: {error!r}") from error
    if len(set(values)) != len(values):
        raise TrustError(f"{name} lists one key under two ids")


def _copy(held: Mapping[str, bytes], scratch: Path) -> None:
    """Lay out what is held the way the updater keeps it."""
    (scratch / _HISTORY).mkdir(parents=True, exist_ok=True)
    for name, data in held.items():
        _, role = trust.split_name(name)
        path = scratch / (f"{_HISTORY}/{name}" if role == "root" else f"{role}.json")
        with path.open("wb") as file:  # staging: a copy, thrown away after the refresh
            file.write(data)


def _collect(scratch: Path, bootstrap: Mapping[str, Any]) -> dict[str, bytes]:
    """Read back the files that are now verified, under the names a server gives them."""
    files = {
        path.name: path.read_bytes()
        for path in sorted((scratch / _HISTORY).iterdir())
        if (trust.split_name(path.name)[0] or 0) > bootstrap["version"]
    }
    files[trust.TIMESTAMP] = (scratch / trust.TIMESTAMP).read_bytes()
    for role in ("snapshot", "targets"):
        data = (scratch / f"{role}.json").read_bytes()
        files[f"{trust.signed_part(data, role)['version']}.{role}.json"] = data
    return files


@contextmanager
def _our_errors(source: _Source, scratch: Path, now: datetime) -> Iterator[None]:
    """Turn what python-tuf raises into our tree, with the file it was about."""
    try:
        yield
    except ExpiredMetadataError as error:
        raise ExpiredError(
            f"{error} at {clock.show(now)}",
            hint="The publisher must sign it again; check this machine's clock too.",
        ) from error
    except BadVersionNumberError as error:
        raise _wrong_version(source, error) from error
    except DownloadHTTPError as error:
        raise TransportError(f"the server has no {source.name}") from error
    except DownloadLengthMismatchError as error:
        raise TrustError(f"{source.name} is too long: {error}") from error
    except (RepositoryError, DownloadError) as error:
        raise TrustError(f"{source.name}: {error}") from error
    except OSError as error:
        raise StorageError(f"cannot work in {scratch}: {error}") from error


def _wrong_version(source: _Source, error: Exception) -> TrustError:
    """Return what a version number that does not fit means.

    A file whose own version is not the one in its name belongs to another set. If
    it is the right one, what it says is older than what was trusted before.
    """
    named, role = trust.split_name(source.name)
    if role == "timestamp" or (role == "snapshot" and source.signed.get("version") == named):
        return RollbackError(
            f"{source.name} goes back behind what was trusted before: {error}",
            hint="The server offers an old set; nothing was changed.",
        )
    return TrustError(f"{source.name} does not belong to this set: {error}")
