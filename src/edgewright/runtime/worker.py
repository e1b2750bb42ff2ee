"""The worker: the process that loads a slot and answers.

``selftest SLOT`` runs both golden sets, measures, prints one ``wire.local.SelfTest``.
``serve SLOT`` verifies the slot, listens, prints ``ready``, and then answers ``stats``
on its standard input until it is told to stop, the input ends or SIGTERM comes; it
finishes what is under way, prints its last ``stats`` and exits 0. What it cannot load
is one line ``{"error": ...}`` and exit 1. Logs are JSON lines on standard error.
"""

import argparse
import os
import signal
import socket
import sys
import threading
from collections.abc import Sequence
from contextlib import ExitStack, suppress
from pathlib import Path
from time import monotonic

from edgewright.bundle.golden import Comparison
from edgewright.core import log, process
from edgewright.core.errors import EdgewrightError, EngineError, WireError
from edgewright.runtime import model as models
from edgewright.runtime.model import Candidate, Model
from edgewright.runtime.requests import Limits
from edgewright.runtime.server import Server
from edgewright.runtime.service import Service
from edgewright.runtime.timings import Timings
from edgewright.wire.checkin import ErrorBody, ErrorReply, Serving
from edgewright.wire.local import Ask, GoldenCheck, SelfTest, WorkerMessage, WorkerStats
from edgewright.wire.version import decode, encode

_LOOPBACK = "127.0.0.1"
_BACKLOG = 128
_TIMED_RUNS = 200
_TIMED_S = 1.0
_LINE_BYTES = 64 << 10
_PRINTING = threading.Lock()


def main(argv: Sequence[str] | None = None) -> int:
    """Run the worker; return its exit code."""
    # Before numpy is imported: its idle threads would cost memory and nothing else.
    for library in ("OMP", "OPENBLAS", "MKL"):
        os.environ[f"{library}_NUM_THREADS"] = "1"
    args = _parser().parse_args(argv)
    return _selftest(args) if args.command == "selftest" else _serve(args)


def _selftest(args: argparse.Namespace) -> int:
    with ExitStack() as undo:
        try:
            result = _tested(args, undo)
        except EdgewrightError as error:
            result = SelfTest(digest=args.digest or "", error=_body(error))
    _print(result)
    return 1 if result.error else 0


def _tested(args: argparse.Namespace, undo: ExitStack) -> SelfTest:
    """Return how the slot does here, whether or not its golden answers are right."""
    folder, manifest, digest = models.open_source(args.slot, args.digest, undo)
    tried = models.try_variants(folder, manifest, variant=args.variant, threads=args.threads)
    loaded = [one for one in tried.values() if isinstance(one, Candidate)]
    for one in loaded:
        undo.callback(one.session.close)
    if any(one.result.passed for one in loaded):
        timings = Timings(args.timings, digest, args.threads) if args.timings else None
        best, _ = models.choose(manifest, tried, timings=timings)
    elif loaded:
        best = loaded[0]
    else:
        reasons = "; ".join(f"{name}: {one}" for name, one in tried.items())
        raise EngineError(f"no variant of {manifest.release} can run here: {reasons}")
    load_us = round(process.age_s() * 1e6)
    times = _timed(best)
    return SelfTest(
        digest=digest,
        variant=best.variant.name,
        reference=_checked(best.result.reference),
        golden=_checked(best.result.variant),
        p50_us=times[len(times) // 2],
        p95_us=times[len(times) * 95 // 100],
        load_us=load_us,
        peak_bytes=process.peak_bytes(),
    )


def _timed(candidate: Candidate) -> list[int]:
    """Return how long golden inputs took, one at a time, in us, shortest first."""
    times: list[int] = []
    end = monotonic() + _TIMED_S
    while len(times) < _TIMED_RUNS and (not times or monotonic() < end):
        feed = candidate.feeds[len(times) % len(candidate.feeds)]
        start = monotonic()
        candidate.session.run(feed)
        times.append(round((monotonic() - start) * 1e6))
    return sorted(times)


def _serve(args: argparse.Namespace) -> int:
    try:
        model = models.load(
            args.slot,
            digest=args.digest,
            variant=args.variant,
            threads=args.threads,
            timings=args.timings,
        )
    except EdgewrightError as error:
        log.event("worker", "cannot load", message=str(error))
        _print(ErrorReply(error=_body(error)))
        return 1
    with model:
        service = Service(model, deadline_s=args.deadline_ms / 1000)
        limits = Limits(body_bytes=service.body_limit)
        server = Server(_listeners(args), service, limits=limits)
        signal.signal(signal.SIGTERM, lambda *_: server.stop())
        ready = Serving(
            digest=model.digest, release=str(model.manifest.release), variant=model.variant
        )
        _print(WorkerMessage(ready=ready))
        threading.Thread(target=_listen, args=(model, server), daemon=True).start()
        server.serve()
        # The last word, so that nothing answered since the last question is lost.
        with suppress(OSError):
            _print(WorkerMessage(stats=_stats(model)))
    return 0


def _listen(model: Model, server: Server) -> None:
    """Answer what the supervisor asks, whatever inference is doing, until it is gone.

    Reads the descriptor itself: a thread that waits in a buffered reader would hold
    its lock when the process ends.
    """
    buffer = b""
    try:
        while data := os.read(sys.stdin.fileno(), _LINE_BYTES):
            *lines, buffer = (buffer + data).split(b"\n")
            for line in lines:
                _obey(line, model, server)
    except OSError as error:
        log.event("worker", "the supervisor is gone", message=str(error))
    server.stop()


def _obey(line: bytes, model: Model, server: Server) -> None:
    try:
        ask = decode(Ask, line)
    except WireError as error:
        log.event("worker", "not understood", message=str(error))
        return
    if ask.op == "stop":
        server.stop()
    elif ask.op == "stats":
        _print(WorkerMessage(stats=_stats(model)))
    else:
        log.event("worker", "not understood", message=f"no operation {ask.op[:40]!r}")


def _stats(model: Model) -> WorkerStats:
    seen = model.monitor.snapshot()
    return WorkerStats(
        answered=seen.answered,
        failed=seen.failed,
        late=seen.late,
        impatient=seen.impatient,
        refused=seen.refused,
        latency=seen.latency.to_wire(),
        p50_us=seen.quantile_us(0.50),
        p95_us=seen.quantile_us(0.95),
        p99_us=seen.quantile_us(0.99),
        resident_bytes=process.resident_bytes(),
        completed_monotonic_s=seen.completed_monotonic_s,
    )


def _listeners(args: argparse.Namespace) -> list[socket.socket]:
    if args.listen_fd is not None:
        listeners = [socket.socket(fileno=args.listen_fd)]
    else:
        listeners = [socket.create_server((_LOOPBACK, args.port), backlog=_BACKLOG)]
        log.event("worker", "listening", port=listeners[0].getsockname()[1])
    if args.unix_fd is not None:
        listeners.append(socket.socket(fileno=args.unix_fd))
    return listeners


def _checked(one: Comparison) -> GoldenCheck:
    return GoldenCheck(passed=one.passed, count=one.count, detail=one.detail)


def _body(error: EdgewrightError) -> ErrorBody:
    return ErrorBody(code=error.code, message=str(error), hint=error.hint)


def _print(message: SelfTest | WorkerMessage | ErrorReply) -> None:
    """Write one whole line, past Python's buffer; lines of two threads never mix."""
    rest = memoryview(encode(message) + b"\n")
    with _PRINTING:
        while rest:
            rest = rest[os.write(sys.stdout.fileno(), rest) :]


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="edgewright.runtime.worker", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    selftest = commands.add_parser("selftest", help="run the golden sets and measure")
    serve = commands.add_parser("serve", help="answer requests")
    for one in (selftest, serve):
        one.add_argument("slot", type=Path, metavar="SLOT", help="folder of the slot")
        one.add_argument("--digest", help="what the slot must be")
        one.add_argument("--variant", help="run this variant, or fail")
        one.add_argument("--threads", type=int, default=1, help="threads one answer may use")
        one.add_argument("--timings", type=Path, help="file that keeps what variants took")
    place = serve.add_mutually_exclusive_group(required=True)
    place.add_argument("--listen-fd", type=int, help="an inherited listening socket")
    place.add_argument("--port", type=int, help="a port of its own on 127.0.0.1")
    serve.add_argument("--unix-fd", type=int, help="an inherited listening unix socket")
    serve.add_argument("--deadline-ms", type=float, default=1000.0, help="for one answer")
    return parser


if __name__ == "__main__":
    sys.exit(main())
