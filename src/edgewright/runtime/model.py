"""A model that answers: chosen among the variants of a bundle, verified, watched.

A variant is dropped when its engine or a CPU feature it needs is absent, when the
engine cannot load it, or when it does not reproduce the golden answers here. Of
those left, the lowest median on the golden inputs wins, measured in turns or known
from an earlier start; among the ones within 5 % of it, the fewest bytes.
"""

import re
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from time import monotonic
from types import TracebackType
from typing import Any, Self

from edgewright.bundle.archive import Archive, check_entries, slot_digest, verify_slot
from edgewright.bundle.manifest import Manifest, Variant
from edgewright.core.digest import PREFIX
from edgewright.core.errors import (
    BundleError,
    DeadlineError,
    EngineError,
    GoldenError,
    InputError,
    StorageError,
)
from edgewright.core.units import show_us
from edgewright.monitor.latency import Monitor
from edgewright.runtime import selftest
from edgewright.runtime.deadline import Deadline
from edgewright.runtime.engines import Array, Engine, Session, load_engine
from edgewright.runtime.selftest import GoldenResult, Sample
from edgewright.runtime.timings import Timings

MEASURE_S = 2.0

_HEX = re.compile(r"[0-9a-f]{64}")
_ROUNDS = 50
_TIE = 1.05
# Input shapes remembered as fitting; a model with free dimensions sees many.
_REMEMBERED = 64


@dataclass(frozen=True, slots=True)
class Candidate:
    """A variant loaded and tried on this machine; ``session`` belongs to the caller.

    Attributes:
        p50_us: Median of one golden input; 0 when there was nothing to choose.
    """

    variant: Variant
    engine: Engine
    session: Session
    feeds: Sequence[Sample]
    result: GoldenResult
    p50_us: float = 0.0


class Model:
    """A loaded variant; any number of threads may ask it."""

    def __init__(
        self,
        manifest: Manifest,
        digest: str,
        candidate: Candidate,
        *,
        choice: tuple[str, ...],
        close: Callable[[], None],
    ) -> None:
        self.manifest = manifest
        self.digest = digest
        self.variant = candidate.variant.name
        self.choice = choice
        self.engine = candidate.engine
        self.inputs = candidate.session.inputs
        self.outputs = candidate.session.outputs
        self.monitor = Monitor()
        self._session = candidate.session
        self._close: Callable[[], None] | None = close
        self._single_input = self.inputs[0].name if len(self.inputs) == 1 else None
        self._single_output = len(self.outputs) == 1
        self._float_inputs = {s.name for s in self.inputs if s.dtype.startswith("float")}
        self._float_outputs = [
            i for i, s in enumerate(self.outputs) if s.dtype.startswith("float")
        ]
        self._fitting: set[tuple[str, Any, tuple[int, ...]]] = set()

    def predict(self, x: Any, *, deadline_s: float | None = None) -> Any:
        """Return the answer to one input.

        Args:
            x: An array where the model has one input, else arrays by input name.
            deadline_s: Seconds from now after which the run is stopped and refused.

        Returns:
            An array where the model has one output, else arrays by output name.

        Raises:
            InputError: A wrong name, dtype or shape, or a float that is not finite.
            DeadlineError: No answer in time.
            EngineError: The engine failed, the answer holds a NaN, or the model is
                closed.
        """
        start = monotonic()
        deadline = None if deadline_s is None else Deadline(deadline_s)
        if self._single_input is not None and not isinstance(x, Mapping):
            x = {self._single_input: x}
        try:
            answers = self.run(x, deadline=deadline)
        except InputError:
            self.monitor.refused()
            raise
        except DeadlineError:
            self.monitor.late()
            raise
        except EngineError:
            self.monitor.failed()
            raise
        self.monitor.answered(start, monotonic())
        if self._single_output:
            return answers[0]
        return {s.name: a for s, a in zip(self.outputs, answers, strict=True)}

    def run(
        self, feeds: Mapping[str, Array], *, deadline: Deadline | None = None
    ) -> list[Array]:
        """Return all outputs in order; as ``predict``, but counted by the caller."""
        for name, array in feeds.items():
            try:
                fits = (name, array.dtype, array.shape) in self._fitting
            except AttributeError:
                kind = type(array).__name__
                raise TypeError(f"input {name!r} must be an array, got {kind}") from None
            if not fits:
                self._check(name, array)
            if name in self._float_inputs and not self.engine.finite(array):
                raise InputError(f"input {name!r} holds a NaN or an infinity")
        if len(feeds) != len(self.inputs):
            missing = [spec.name for spec in self.inputs if spec.name not in feeds]
            raise InputError(f"input {missing[0]!r} is missing")
        answers = self._session.run(feeds, deadline=deadline)
        for index in self._float_outputs:
            if self.engine.has_nan(answers[index]):
                raise EngineError(f"output {self.outputs[index].name!r} holds a NaN")
        return answers

    def close(self) -> None:
        """Give back the session and what was unpacked; twice is fine."""
        if self._close is not None:
            self._close()
            self._close = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def _check(self, name: str, array: Array) -> None:
        spec = next((spec for spec in self.inputs if spec.name == name), None)
        if spec is None:
            known = ", ".join(repr(spec.name) for spec in self.inputs)
            raise InputError(f"the model has no input {name!r}", hint=f"It takes {known}.")
        if misfit := spec.misfit(str(array.dtype), tuple(array.shape)):
            raise InputError(misfit)
        if len(self._fitting) >= _REMEMBERED:
            self._fitting.clear()
        self._fitting.add((name, array.dtype, array.shape))


def load(
    source: Path,
    *,
    digest: str | None = None,
    variant: str | None = None,
    engine: str | None = None,
    threads: int = 1,
    timings: Path | None = None,
) -> Model:
    """Return the model in ``source``; see ``edgewright.runtime.load``.

    Args:
        source: An ``.ewb`` or a slot.
        digest: What it must be; a slot named by its digest is held to that anyway.
        variant: Take this variant, or fail.
        engine: Consider only variants for this engine.
        threads: Threads one answer may use.
        timings: File that keeps what the variants took; None to measure every time.
    """
    with ExitStack() as undo:
        folder, manifest, found = open_source(source, digest, undo)
        tried = try_variants(folder, manifest, variant=variant, engine=engine, threads=threads)
        known = Timings(timings, found, threads) if timings else None
        best, choice = choose(manifest, tried, timings=known)
        undo.callback(best.session.close)
        return Model(manifest, found, best, choice=choice, close=undo.pop_all().close)


def open_source(
    source: Path, digest: str | None, undo: ExitStack
) -> tuple[Path, Manifest, str]:
    """Return a slot with its manifest and digest, every byte verified.

    Args:
        source: A slot, or an ``.ewb``, which is unpacked.
        digest: What it must be; a slot named by its digest is held to that anyway.
        undo: Gets the removal of what was unpacked.

    Raises:
        BundleError: Not a bundle, damaged, or another one.
        StorageError: The disk refused to read or to unpack it.
    """
    if source.is_dir():
        name = source.resolve().name
        named = PREFIX + name if _HEX.fullmatch(name) else None
        expected = digest or named
        if expected is not None:
            return source, verify_slot(source, expected), expected
        manifest, found = slot_digest(source)
        check_entries(source, manifest)
        return source, manifest, found
    from tempfile import TemporaryDirectory  # noqa: PLC0415  workers run from slots

    with Archive(source) as archive:
        found = archive.digest()
        if digest not in {None, found}:
            raise BundleError(f"{source.name} is {found}, not {digest}")
        folder = Path(undo.enter_context(TemporaryDirectory(prefix="edgewright-"))) / "slot"
        archive.extract(folder)
    return folder, verify_slot(folder, found), found


def try_variants(
    folder: Path,
    manifest: Manifest,
    *,
    variant: str | None = None,
    engine: str | None = None,
    threads: int = 1,
) -> dict[str, Candidate | BundleError | EngineError]:
    """Load each variant of a verified slot and run both golden sets on it.

    Returns:
        By name, in the order of the manifest: the loaded variant, whether or not
        it reproduces the golden answers, or why it cannot run here.

    Raises:
        BundleError: There is no such ``variant``, or none for ``engine``.
        StorageError: The disk refused to read golden answers.
    """
    asked = [
        one
        for one in manifest.variants
        if variant in {None, one.name} and engine in {None, one.engine}
    ]
    if not asked:
        wanted = " for ".join(filter(None, (variant, engine)))
        known = ", ".join(f"{one.name} for {one.engine}" for one in manifest.variants)
        raise BundleError(
            f"{manifest.release} has no variant {wanted}", hint=f"It has {known}."
        )
    tried: dict[str, Candidate | BundleError | EngineError] = {}
    for one in asked:
        try:
            tried[one.name] = _try(folder, manifest, one, threads)
        except (BundleError, EngineError) as error:
            tried[one.name] = error
    return tried


def choose(
    manifest: Manifest,
    tried: Mapping[str, Candidate | BundleError | EngineError],
    *,
    timings: Timings | None = None,
) -> tuple[Candidate, tuple[str, ...]]:
    """Return the variant to run and one line on each; sessions of the others are closed.

    Args:
        manifest: Of the bundle.
        tried: What became of each variant.
        timings: What sound variants took before; where it does not know them all,
            they are measured, and it is told.

    Raises:
        GoldenError: Some could be loaded, none reproduces the golden answers.
        EngineError: None could be loaded.
    """
    lines = {name: str(one) for name, one in tried.items() if isinstance(one, Exception)}
    loaded = [one for one in tried.values() if isinstance(one, Candidate)]
    sound = []
    for one in loaded:
        if one.result.passed:
            sound.append(one)
        else:
            one.session.close()
            lines[one.variant.name] = one.result.finding
    if not sound:
        reasons = "; ".join(f"{name}: {line}" for name, line in lines.items())
        kind = GoldenError if loaded else EngineError
        raise kind(f"no variant of {manifest.release} can run here: {reasons}")
    best = sound[0]
    if len(sound) == 1:
        lines[best.variant.name] = "taken: the only variant that can run here"
    else:
        best = _fastest(manifest, sound, lines, timings)
    return best, tuple(f"{name}: {lines[name]}" for name in tried)


def model_bytes(manifest: Manifest, variant: Variant) -> int:
    """Return the bytes of a variant: its graph and what lies beside it."""
    folder = variant.model.rpartition("/")[0] + "/"
    return sum(entry.length for entry in manifest.entries if entry.path.startswith(folder))


def _try(folder: Path, manifest: Manifest, variant: Variant, threads: int) -> Candidate:
    if absent := _absent(variant):
        raise EngineError(f"this CPU has no {', '.join(absent)}")
    engine = load_engine(variant.engine)
    session = engine.load(folder / variant.model, threads=threads)
    with ExitStack() as undo:
        undo.callback(session.close)

        def read(path: str) -> bytes:
            try:
                return (folder / path).read_bytes()
            except OSError as error:  # it could be a moment ago, when it was verified
                raise StorageError(f"cannot read {path!r}: {error.strerror}") from error

        feeds = selftest.golden_samples(manifest, read, engine)
        result = selftest.check(manifest, variant.name, session, feeds, read)
        undo.pop_all()
    return Candidate(variant, engine, session, feeds, result)


def _absent(variant: Variant) -> list[str]:
    if not variant.isa:
        return []
    from edgewright.core.probe import probe  # noqa: PLC0415  reads and loads what few need

    return sorted(set(variant.isa) - set(probe().isa))


def _fastest(
    manifest: Manifest,
    sound: Sequence[Candidate],
    lines: dict[str, str],
    timings: Timings | None,
) -> Candidate:
    times, before = _times(sound, timings)
    least = min(times)
    tied = [i for i, time in enumerate(times) if time <= least * _TIE]
    best = min(tied, key=lambda i: model_bytes(manifest, sound[i].variant))
    for index, one in enumerate(sound):
        shown = f"median {show_us(times[index])}{before}"
        size = model_bytes(manifest, one.variant)
        if index == best:
            why = "the fastest" if len(tied) == 1 else "the smallest of the fastest"
            lines[one.variant.name] = f"taken: {shown}, {size} bytes, {why}"
            continue
        one.session.close()
        lines[one.variant.name] = (
            f"{shown}, {size} bytes: larger, and no faster beyond 5 %"
            if index in tied
            else f"{shown}, {times[index] / least:.2f} times that of the fastest"
        )
    return sound[best]


def _times(sound: Sequence[Candidate], timings: Timings | None) -> tuple[list[float], str]:
    """Return the median of each in us, and words for where they are from."""
    if timings is None:
        return _measure(sound), ""
    engines = {one.variant.name: f"{one.engine.name} {one.engine.version}" for one in sound}
    if (known := timings.recall(engines)) is not None:
        return known, " (measured before)"
    times = _measure(sound)
    timings.keep(engines, times)
    return times, ""


def _measure(sound: Sequence[Candidate]) -> list[float]:
    """Return the median of one golden input for each, in us, measured in turns.

    The golden sets were run just before, so nothing is cold.
    """
    end = monotonic() + MEASURE_S
    times: list[list[float]] = [[] for _ in sound]
    for turn in range(_ROUNDS):
        for one, taken in zip(sound, times, strict=True):
            feed = one.feeds[turn % len(one.feeds)]
            start = monotonic()
            one.session.run(feed)
            taken.append((monotonic() - start) * 1e6)
        if monotonic() > end:
            break
    return [median(taken) for taken in times]
