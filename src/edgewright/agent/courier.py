"""The courier: goes to the fleet, tells, asks, fetches, and is gone.

``python -m edgewright.agent.courier run`` reads a ``CourierJob`` on standard input
and prints a ``CourierReport``; ``enrol`` makes the device's key and enrols. In one
contact it tells what happened first, because telemetry must flow also when trust
has expired; then it brings both sides of trust up to date, works out what this
device should run by both of them, and downloads what of it is missing. Nothing it
does can hurt what serves: it writes only ``identity``, ``trust`` and ``staging``.
"""

import argparse
import base64
import json
import os
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import msgspec

from edgewright.agent import DeviceConfig, Home, load_config
from edgewright.bundle import keys, trust
from edgewright.bundle.trust import ARTEFACTS, ASSIGNMENTS, TIMESTAMP, Trusted, TrustedTarget
from edgewright.core import clock, digest, durable, log, names, process, records
from edgewright.core.errors import (
    AccessError,
    ConfigError,
    EdgewrightError,
    NotFoundError,
    TransportError,
    TrustError,
)
from edgewright.wire import assignment, version
from edgewright.wire.assignment import Target
from edgewright.wire.checkin import (
    DEVICE_HEADER,
    SIGNATURE_HEADER,
    CheckIn,
    CheckInReply,
    Enrol,
    Enrolled,
    ErrorBody,
)
from edgewright.wire.http import Client
from edgewright.wire.local import CourierJob, CourierReport

_DOCUMENT_BYTES = 1 << 20
# The part of a contact that downloads may fill; the rest is for reporting back.
_DOWNLOAD_SHARE = 0.8


class Courier:
    """One contact with the fleet."""

    def __init__(
        self, home: Home, config: DeviceConfig, server: str, *, until_s: float
    ) -> None:
        self._home, self._config, self._until_s = home, config, until_s
        self._server = server
        self._client = Client(server)
        self._problems: list[ErrorBody] = []
        self._key = self._identity()
        self._device = names.device_id(self._key.public)

    def close(self) -> None:
        """Close the connection."""
        self._client.close()

    def enrol(self) -> CourierReport:
        """Make the fleet know this device, unless it does."""
        with self._noted():
            self._enrol_once()
        return self._report(CourierReport())

    def run(self, job: CourierJob) -> CourierReport:
        """Go through one contact; whatever goes wrong is in the report."""
        report = CourierReport()
        with self._noted():
            self._enrol_once()
        with self._noted():
            reply = self._check_in(job.checkin)
            report = msgspec.structs.replace(
                report,
                ack=reply.ack,
                interval_s=reply.interval_s,
                least_s=reply.least_s,
            )
        trusted = {name: self._refresh(name) for name in trust.REPOSITORIES}
        versions = {name: one.version for name, one in trusted.items() if one}
        report = msgspec.structs.replace(report, trust=versions)
        artefacts, assignments = trusted[ARTEFACTS], trusted[ASSIGNMENTS]
        if artefacts is not None and assignments is not None:
            with self._noted():
                report = self._assigned(report, job, artefacts, assignments)
        return self._report(report)

    def _assigned(
        self, report: CourierReport, job: CourierJob, artefacts: Trusted, assignments: Trusted
    ) -> CourierReport:
        """Add what this device should run, and fetch it."""
        document = self._document(assignments)
        if document is None:
            return report
        report = msgspec.structs.replace(
            report, rollout=document.rollout, running=document.state == assignment.RUNNING
        )
        wanted = assignment.assigned(document, self._device, job.checkin.labels)
        if wanted is None:
            return report
        signed = _intersect(wanted, artefacts)
        report = msgspec.structs.replace(report, wanted=wanted)
        file = self._home.download(wanted.digest)
        self._tidy(file)
        if not job.update or wanted.digest in {*job.have, *job.bad}:
            return report
        # Only a download needs the archive's format, and most contacts bring none.
        from edgewright.agent.fetch import Download  # noqa: PLC0415

        download = Download(self._client, signed, file, check_time=self._check_time)
        with self._noted():
            download.run()
            report = msgspec.structs.replace(report, archive=str(file))
        return msgspec.structs.replace(report, downloaded_bytes=download.wire_bytes)

    def _report(self, report: CourierReport) -> CourierReport:
        return msgspec.structs.replace(
            report, peak_bytes=process.peak_bytes(), problems=tuple(self._problems)
        )

    def _identity(self) -> keys.PrivateKey:
        """Return this device's key, made at its first start."""
        path = self._home.identity / "device.key"
        key = keys.PrivateKey.load(path) if path.exists() else keys.PrivateKey.create(path)
        known = self._home.identity / "device.json"
        if not known.exists():
            document = {"device": names.device_id(key.public)}
            durable.replace_file(known, json.dumps(document).encode())
        return key

    def _enrol_once(self, *, again: bool = False) -> None:
        """Enrol, unless this server knows the device."""
        mark = self._home.identity / "enrolled.json"
        if not again and _text(mark, "server") == self._server:
            return
        from edgewright.core import probe  # noqa: PLC0415  once in a device's life

        token = _read_token(Path(self._config.enrol_token_file))
        body = version.encode(
            Enrol(
                public_key=base64.b64encode(self._key.public).decode(),
                name=self._config.name,
                channel=self._config.channel,
                labels=self._config.labels,
                profile=records.encode(probe.probe()),
            )
        )
        reply = self._signed("/v1/device/enrol", body, {"Authorization": f"Bearer {token}"})
        if version.decode(Enrolled, reply).device != self._device:
            raise TrustError("the fleet enrolled another device than this one")
        document = {"server": self._server, "at": clock.show(clock.SystemClock().now())}
        durable.replace_file(mark, json.dumps(document).encode())

    def _check_in(self, checkin: CheckIn) -> CheckInReply:
        """Tell the fleet; a fleet that has forgotten this device is told who it is."""
        body = version.encode(checkin)
        try:
            reply = self._signed("/v1/device/checkin", body)
        except (AccessError, NotFoundError):
            self._enrol_once(again=True)
            reply = self._signed("/v1/device/checkin", body)
        return version.decode(CheckInReply, reply)

    def _signed(self, path: str, body: bytes, headers: dict[str, str] | None = None) -> bytes:
        """Post a body under the device's own signature; return the answer's body."""
        signature = base64.b64encode(self._key.sign(body)).decode()
        response = self._client.request(
            "POST",
            path,
            body=body,
            headers={
                "Content-Type": "application/json",
                DEVICE_HEADER: self._device,
                SIGNATURE_HEADER: signature,
                **(headers or {}),
            },
            limit_bytes=_DOCUMENT_BYTES,
        )
        self._client.refuse_failure(response)
        return response.body

    def _refresh(self, repository: str) -> Trusted | None:
        """Bring one side of trust up to date; None when it cannot be trusted now."""
        with self._noted():
            metadata = Metadata(self._client, self._home.trust / repository, repository)
            metadata.plant(Path(getattr(self._config, f"{repository}_root")))
            return metadata.refresh()
        return None

    def _document(self, assignments: Trusted) -> assignment.RolloutDocument | None:
        """Return the rollout document of our channel; None when there is none."""
        target = assignments.targets.get(f"rollouts/{self._config.channel}.json")
        if target is None:
            return None
        kept = self._home.trust / ASSIGNMENTS / "rollout.json"
        data = kept.read_bytes() if kept.exists() else b""
        if digest.of_bytes(data) != target.sha256:
            path = f"/v1/trust/{ASSIGNMENTS}/targets/{trust.target_file(target)}"
            limit = min(target.length, _DOCUMENT_BYTES)
            response = self._client.request("GET", path, limit_bytes=limit)
            self._client.refuse_failure(response)
            data = response.body
            if digest.of_bytes(data) != target.sha256:
                raise TrustError(f"{target.path} is not the document that is signed")
            durable.replace_file(kept, data)
        document = assignment.decode(data)
        if document.channel != self._config.channel:
            raise TrustError(f"{target.path} is for the channel {document.channel!r}")
        return document

    def _tidy(self, wanted: Path) -> None:
        """Drop downloads of what is not wanted any more."""
        if wanted.parent.is_dir():
            for path in wanted.parent.glob("*.part"):
                if path != wanted:
                    durable.remove(path)

    def _check_time(self) -> None:
        if time.monotonic() > self._until_s:
            raise TransportError("the time of this contact was up; the next one goes on")

    @contextmanager
    def _noted(self) -> Iterator[None]:
        """Put an error of ours into the report and go on with the next step."""
        try:
            yield
        except EdgewrightError as error:
            body = ErrorBody(code=error.code, message=str(error), hint=error.hint)
            if body not in self._problems:
                self._problems.append(body)
            log.event("courier", "problem", code=body.code, message=body.message)


class Metadata:
    """One side of trust, and the conditional requests that keep it cheap."""

    def __init__(self, client: Client, folder: Path, repository: str) -> None:
        self._client, self._folder, self._repository = client, folder, repository
        self._tag: dict[str, str] = {}

    def plant(self, root: Path) -> None:
        """Store the root this device is born with, unless there is one.

        Raises:
            ConfigError: There is no such file.
        """
        mine = self._folder / "root.json"
        if mine.exists():
            return
        try:
            data = root.read_bytes()
        except OSError as error:
            raise ConfigError(f"cannot read {root}: {error.strerror}") from error
        if trust.repository_of(data) != self._repository:
            raise ConfigError(f"{root} is not the root of the {self._repository}")
        durable.replace_file(mine, data)

    def refresh(self) -> Trusted:
        """Return what may be trusted now; raises as ``bundle.trust.refresh``."""
        trusted = trust.refresh(self._folder, self._fetch)
        if self._tag:
            durable.replace_file(self._folder / "etag.json", json.dumps(self._tag).encode())
        return trusted

    def _fetch(self, name: str) -> bytes | None:
        path = f"/v1/trust/{self._repository}/{name}"
        held = trust.timestamp(self._folder) if name == TIMESTAMP else None
        headers = {}
        if held is not None and self._known("sha256") == digest.of_bytes(held):
            headers["If-None-Match"] = self._known("etag")
        limit = trust.limit_bytes(name)
        response = self._client.request("GET", path, headers=headers, limit_bytes=limit)
        if response.status == 304:
            return held
        if response.status == 404:
            return None
        self._client.refuse_failure(response)
        if name == TIMESTAMP and "etag" in response.headers:
            sha256 = digest.of_bytes(response.body)
            self._tag = {"etag": response.headers["etag"], "sha256": sha256}
        return response.body

    def _known(self, key: str) -> str:
        return _text(self._folder / "etag.json", key)


def main(argv: Sequence[str] | None = None) -> int:
    """Run one contact; return 0 when a report was printed, whatever it says."""
    args = _parser().parse_args(argv)
    job = b"" if args.verb == "enrol" else sys.stdin.buffer.readline()
    if args.lifeline:
        threading.Thread(target=_end_with_parent, daemon=True).start()
    try:
        report = _contact(args, job)
    except EdgewrightError as error:
        body = ErrorBody(code=error.code, message=str(error), hint=error.hint)
        report = CourierReport(problems=(body,), peak_bytes=process.peak_bytes())
        log.event("courier", "cannot go", code=error.code, message=str(error))
    sys.stdout.buffer.write(version.encode(report) + b"\n")
    sys.stdout.buffer.flush()
    return 0


def _contact(args: argparse.Namespace, line: bytes) -> CourierReport:
    config = load_config(args.config)
    job = version.decode(CourierJob, line) if args.verb == "run" else None
    until_s = time.monotonic() + _DOWNLOAD_SHARE * args.window_s
    server = job.server if job else config.server
    courier = Courier(Home(args.home), config, server, until_s=until_s)
    try:
        return courier.run(job) if job else courier.enrol()
    finally:
        courier.close()


def _end_with_parent() -> None:
    """End this process when the supervisor does: nobody would hear the report."""
    while os.read(sys.stdin.fileno(), 4096):
        pass
    os._exit(3)


def _intersect(wanted: Target, artefacts: Trusted) -> TrustedTarget:
    """Return what both sides of trust agree on.

    Raises:
        TrustError: The assignment names what no release key has signed.
    """
    signed = artefacts.targets.get(wanted.path)
    if signed is None:
        raise TrustError(
            f"{wanted.release} is assigned, but {wanted.path} is not signed as a release",
            hint="Publish it with the releases key.",
        )
    agreed = (signed.sha256, signed.length, signed.custom.get("release", wanted.release))
    if agreed != (wanted.digest, wanted.length, wanted.release):
        raise TrustError(
            f"{wanted.release} is assigned as {digest.short(wanted.digest)}, "
            f"{wanted.length} bytes; signed is {digest.short(signed.sha256)}, "
            f"{signed.length} bytes"
        )
    return signed


def _read_token(path: Path) -> str:
    try:
        return path.read_text().strip()
    except OSError as error:
        raise ConfigError(
            f"cannot read the enrolment token {path}: {error.strerror}",
            hint="Ask the fleet's operator for one.",
        ) from error


def _text(path: Path, key: str) -> str:
    """Return a text field of a small JSON file of ours; empty when it has none."""
    try:
        return str(json.loads(path.read_bytes()).get(key, ""))
    except (OSError, ValueError, AttributeError):
        return ""


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="edgewright.agent.courier", description=__doc__)
    parser.add_argument("verb", choices=("run", "enrol"))
    parser.add_argument("--config", required=True, type=Path)
    parser.add_argument("--home", required=True, type=Path)
    parser.add_argument("--window-s", type=float, default=600.0, help="longest contact")
    parser.add_argument("--lifeline", action="store_true", help="end when standard input does")
    return parser


if __name__ == "__main__":
    sys.exit(main())
