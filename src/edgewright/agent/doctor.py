"""What would keep this device from working, checked one thing at a time."""

import os
from collections.abc import Callable
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from importlib import metadata, util
from pathlib import Path
from typing import Any

from edgewright.agent import DeviceConfig, Home, load_config
from edgewright.bundle import trust
from edgewright.core import probe
from edgewright.core.errors import EdgewrightError
from edgewright.core.units import show_bytes
from edgewright.wire.http import Client

_FREE_BYTES = 64 << 20
_MAX_SKEW_S = 300.0
_WHEELS = ("edgewright", "edgewright-device")


@dataclass(frozen=True, slots=True)
class Check:
    """One thing that was looked at.

    Attributes:
        found: What there is, in a few words.
        hint: What to do when it did not pass.
    """

    name: str
    passed: bool
    found: str
    hint: str = ""

    def as_json(self) -> dict[str, Any]:
        """Return it as plain data."""
        return asdict(self)


def examine(home: Home, config_path: Path) -> list[Check]:
    """Return every check, in the order in which one would repair them."""
    checks = [_wheels(), _engine(), _state_folder(home), _disk(home)]
    try:
        config = load_config(config_path)
    except EdgewrightError as error:
        return [*checks, Check("settings", passed=False, found=str(error), hint=error.hint)]
    checks.append(Check("settings", passed=True, found=str(config_path)))
    checks += [_root(config, name) for name in trust.REPOSITORIES]
    return [*checks, _enrolment(home, config), *_server(config)]


def _wheels() -> Check:
    found = []
    for name in _WHEELS:
        try:
            found.append(f"{name} {metadata.version(name)}")
        except metadata.PackageNotFoundError:
            continue
    return Check(
        "package",
        passed=len(found) < len(_WHEELS),
        found=" and ".join(found) or "not installed as a package",
        hint="The two hold the same files; uninstall both, then install one.",
    )


def _engine() -> Check:
    there = util.find_spec("onnxruntime") is not None
    return Check(
        "engine",
        passed=there,
        found="onnxruntime" if there else "onnxruntime is not installed",
        hint="Install onnxruntime; the worker needs it.",
    )


def _state_folder(home: Home) -> Check:
    folder = home.root
    while not folder.exists():
        folder = folder.parent
    writable = os.access(folder, os.W_OK | os.X_OK)
    return Check(
        "state folder",
        passed=writable,
        found=str(home.root) if writable else f"{folder} cannot be written",
        hint="Give the agent's user the right to write there, or name another with --home.",
    )


def _disk(home: Home) -> Check:
    folder = home.root
    while not folder.exists():
        folder = folder.parent
    free = probe.conditions(folder).storage_free_bytes or 0
    return Check(
        "disk",
        passed=free >= _FREE_BYTES,
        found=f"{show_bytes(free)} free",
        hint=f"Leave at least {show_bytes(_FREE_BYTES)}: an update needs room for two models.",
    )


def _root(config: DeviceConfig, repository: str) -> Check:
    path = Path(getattr(config, f"{repository}_root"))
    hint = f"Copy the {repository} root.json from whoever publishes, and check its digest."
    try:
        named = trust.repository_of(path.read_bytes())
    except OSError as error:
        return Check(f"{repository} root", passed=False, found=f"{path}: {error}", hint=hint)
    except EdgewrightError as error:
        return Check(f"{repository} root", passed=False, found=str(error), hint=hint)
    right = named == repository
    found = str(path) if right else f"{path} is the root of the {named}"
    return Check(f"{repository} root", passed=right, found=found, hint=hint)


def _enrolment(home: Home, config: DeviceConfig) -> Check:
    if (home.identity / "enrolled.json").exists():
        return Check("enrolment", passed=True, found="enrolled")
    token = Path(config.enrol_token_file)
    there = token.is_file() and os.access(token, os.R_OK)
    return Check(
        "enrolment",
        passed=there,
        found="not enrolled yet, the token is there" if there else f"cannot read {token}",
        hint="Ask the fleet's operator for an enrolment token.",
    )


def _server(config: DeviceConfig) -> list[Check]:
    try:
        client = Client(config.server)
        try:
            response = client.request("GET", "/v1/health")
        finally:
            client.close()
        client.refuse_failure(response)
    except EdgewrightError as error:
        found = Check("server", passed=False, found=str(error), hint=error.hint)
        return [found]
    reached = Check("server", passed=True, found=config.server)
    return [reached, _clock(response.headers.get("date", ""), lambda: datetime.now(UTC))]


def _clock(said: str, now: Callable[[], datetime]) -> Check:
    """Compare this machine's clock with the server's; metadata expires by it."""
    try:
        skew_s = (now() - parsedate_to_datetime(said)).total_seconds()
    except (ValueError, TypeError):
        return Check("clock", passed=True, found="the server did not say the time")
    return Check(
        "clock",
        passed=abs(skew_s) <= _MAX_SKEW_S,
        found=f"{skew_s:+.0f} s against the server",
        hint="Set the clock, or let the network do it; signed metadata expires by it.",
    )
