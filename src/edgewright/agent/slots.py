"""Which slot is active, which is on trial, and everything that ever became of one.

``pointer.json`` is the truth, replaced whole; ``journal.log`` is its history and
the fleet's feedback is derived from it. A transition is written into the pointer
first, then appended to the journal, then told; whichever of the last two a crash
prevented is made up for at the next start, once.

A slot is ``staged`` until it is tried, ``on trial`` until that ends, then ``good``
or ``bad``. ``active`` is the last slot that proved good, also while another is on
trial: giving up a trial means forgetting it.
"""

import json
from collections.abc import Callable, Collection
from contextlib import closing
from enum import Enum
from pathlib import Path

import msgspec

from edgewright.agent import Home
from edgewright.bundle.manifest import Policy
from edgewright.core import digest, durable
from edgewright.core import records as documents
from edgewright.core.clock import Clock, show
from edgewright.core.errors import BundleError, StorageError
from edgewright.wire.checkin import SlotState
from edgewright.wire.feedback import (
    ACTIVATED,
    CONFIRMED,
    REFUSED,
    RETURNED,
    REVERTED,
    STAGED,
    Feedback,
)

MAX_ATTEMPTS = 3

# A device changes its slot a few times a month; a longer history is set aside.
_JOURNAL_BYTES = 256 << 10
_OLDER = ".1"
_GOOD_BEFORE = "it was good before"

Tell = Callable[[Feedback], object]


class Trial(msgspec.Struct, frozen=True, kw_only=True):
    """A slot that has been activated and not yet judged.

    Attributes:
        attempts: Starts of its worker, persisted before each.
        previous_p95_us: Of the slot it replaces, measured before; None if unknown.
        told: Whether the fleet knows that it serves.
        ending: ``reverted`` or ``returned`` once its end is decided, until the
            slot that takes over serves.
        reason: Why it ends.
    """

    digest: str
    release: str
    rollout: str = ""
    attempts: int = 0
    previous_p95_us: int | None = None
    told: bool = False
    ending: str = ""
    reason: str = ""


class Pointer(msgspec.Struct, frozen=True, kw_only=True):
    """``pointer.json``.

    Attributes:
        active: Digest of the last slot that proved good.
        previous: Of the one before, kept for going back.
        golden: Of the first that ever proved good here, kept for the worst case.
        trial: What is being tried in place of ``active``.
        bad: Digests this device refused, and why; never tried again.
        transition: The last one, so that it can be told after a crash.
        owed: The one that follows it, decided in the same breath; None for none.
    """

    active: str | None = None
    previous: str | None = None
    golden: str | None = None
    trial: Trial | None = None
    bad: dict[str, str] = {}
    transition: Feedback | None = None
    owed: Feedback | None = None
    format: int = 1


class Step(Enum):
    """What brings a device nearer to what it was told to run."""

    NOTHING = "nothing"
    FETCH = "fetch"
    TRY = "try"
    RETURN = "return"


def next_step(pointer: Pointer, wanted: str | None, installed: Collection[str]) -> Step:
    """Return what to do about ``wanted``, the digest the fleet assigns, None for none."""
    trial = pointer.trial
    if wanted is None or wanted in pointer.bad or (trial and trial.ending):
        return Step.NOTHING
    current = trial.digest if trial else pointer.active
    if wanted == current:
        return Step.NOTHING
    if wanted not in installed:
        return Step.FETCH
    if wanted in {pointer.active, pointer.previous, pointer.golden}:
        return Step.RETURN
    # One trial at a time: what is on trial now is judged first.
    return Step.NOTHING if trial else Step.TRY


class Slots:
    """The slots of one device.

    Args:
        home: Where they are.
        clock: For the time of a transition.
        tell: Puts feedback where it will reach the fleet; a transition told twice
            must count once.
        told: Returns the number of the last transition ``tell`` was told of.

    Attributes:
        serving: Digest that serves, as its worker said; empty if none. Whoever
            watches the worker sets it, and every transition names it.
        problems: What was wrong at the start, in sentences.

    A disk that refuses does not keep the slots from being read: what serves must
    serve on a full or a read-only one too. Every method that changes something
    raises ``StorageError`` then.
    """

    def __init__(
        self, home: Home, clock: Clock, tell: Tell, *, told: Callable[[], int] = lambda: 0
    ) -> None:
        self._home, self._clock, self._tell, self._told = home, clock, tell, told
        self.serving = ""
        self.problems: list[str] = []
        self._journal: durable.Journal | None = None
        self._pointer = self._read()
        self._installed = _scan(home.slots)
        for repair in (self._sweep, self._settle, self._forget_missing):
            try:
                repair()
            except StorageError as error:
                self.problems.append(str(error))

    @property
    def pointer(self) -> Pointer:
        """What ``pointer.json`` holds."""
        return self._pointer

    @property
    def installed(self) -> dict[str, str]:
        """Digest and release of every slot that is there."""
        return dict(self._installed)

    def states(self) -> tuple[SlotState, ...]:
        """Return every slot with its state, as the fleet wants to hear it."""
        return tuple(
            SlotState(digest=one, release=release, state=self._state(one))
            for one, release in sorted(self._installed.items(), key=lambda item: item[1])
        )

    def policy(self, of: str) -> Policy:
        """Return the limits of a trial that the bundle's signed manifest sets.

        Raises:
            BundleError: The manifest cannot be read.
        """
        manifest = _manifest(self._home.slot(of))
        return documents.decode(Policy, manifest.get("policy"), error=BundleError)

    def stage(self, of: str, rollout: str) -> None:
        """Take note of a slot the installer has made."""
        self._installed = _scan(self._home.slots)
        self._move(STAGED, of, rollout=rollout)

    def refuse(self, of: str, release: str, *, rollout: str, reason: str, bad: bool) -> None:
        """Give up a bundle that was never activated; ``bad`` forbids another attempt."""
        refused = {**self._pointer.bad, of: reason} if bad else self._pointer.bad
        self._move(REFUSED, of, release, rollout=rollout, reason=reason, bad=refused)

    def begin(self, of: str, *, rollout: str, previous_p95_us: int | None) -> None:
        """Put a slot on trial; its worker may be started from now on."""
        trial = Trial(
            digest=of,
            release=self._release(of),
            rollout=rollout,
            previous_p95_us=previous_p95_us,
        )
        self._write(trial=trial)

    def attempt(self, count: int = 1) -> bool:
        """Count one more start of the slot on trial, before it is made; -1 takes it back.

        Returns:
            Whether it may be made; a slot that needs more starts than that would
            keep a device starting for ever.
        """
        trial = self._trial()
        if trial.attempts + count > MAX_ATTEMPTS:
            return False
        self._write(trial=msgspec.structs.replace(trial, attempts=trial.attempts + count))
        return True

    def activated(self) -> None:
        """Tell, once, that the slot on trial serves."""
        trial = self._trial()
        if not trial.told:
            told = msgspec.structs.replace(trial, told=True)
            release, rollout = trial.release, trial.rollout
            self._move(ACTIVATED, trial.digest, release, rollout=rollout, trial=told)

    def confirm(self, reason: str) -> None:
        """Keep the slot on trial: it is active now."""
        trial, pointer = self._trial(), self._pointer
        self._move(
            CONFIRMED,
            trial.digest,
            trial.release,
            rollout=trial.rollout,
            reason=reason,
            trial=None,
            active=trial.digest,
            previous=pointer.active,
            golden=pointer.golden or trial.digest,
        )

    def end_trial(self, how: str, reason: str) -> None:
        """Decide that the trial ends in ``reverted`` or ``returned``.

        The decision outlives a crash; ``ended`` tells it once the other slot serves.
        """
        trial = msgspec.structs.replace(self._trial(), ending=how, reason=reason)
        # Remembered before it is written: on a full disk too a bad slot must go.
        self._pointer = msgspec.structs.replace(self._pointer, trial=trial)
        self._write()

    def ended(self) -> None:
        """Forget the trial whose end was decided: what takes over serves."""
        trial, bad = self._trial(), self._pointer.bad
        if trial.ending == REVERTED:
            bad = {**bad, trial.digest: trial.reason}
        self._move(
            trial.ending,
            trial.digest,
            trial.release,
            rollout=trial.rollout,
            reason=trial.reason,
            trial=None,
            bad=bad,
        )

    def returned(self, to: str, *, rollout: str, reason: str) -> None:
        """Make ``to``, a slot that proved good before and serves now, active again.

        Two transitions: the one slot is left, the other is what this device runs.
        """
        self._settle()
        left = self._pointer.active or to
        owed = self._transition(2, CONFIRMED, to, rollout=rollout, reason=_GOOD_BEFORE)
        goes = {"rollout": rollout, "reason": reason}
        self._move(RETURNED, left, **goes, active=to, previous=left, owed=owed)

    def step_back(self, of: str, *, damaged: bool) -> None:
        """Let the next best slot be active instead of ``of``, and forget a trial of it.

        A damaged slot is removed, to be fetched anew. One whose worker only ends
        again and again stays, to be tried again.
        """
        pointer = self._pointer
        heirs = (pointer.active, pointer.previous, pointer.golden)
        left = [heir for heir in heirs if heir in self._installed and heir != of]
        active = left[0] if left else None
        # Remembered before it is written: the slot is of no use, whatever the disk says.
        self._pointer = msgspec.structs.replace(
            pointer,
            active=active,
            previous=pointer.previous if pointer.previous in {*left} - {active} else None,
            golden=pointer.golden if pointer.golden in left else None,
            trial=pointer.trial if pointer.trial and pointer.trial.digest != of else None,
        )
        if damaged:
            self._installed.pop(of, None)
        self._write()
        if damaged:
            durable.remove(self._home.slot(of))

    def collect(self, keep: Collection[str | None]) -> list[str]:
        """Remove every slot nothing refers to, ``keep`` aside; return their digests."""
        pointer = self._pointer
        needed = {pointer.active, pointer.previous, pointer.golden, *keep}
        if pointer.trial:
            needed.add(pointer.trial.digest)
        doomed = [one for one in self._installed if one not in needed]
        for one in doomed:
            durable.remove(self._home.slot(one))
            del self._installed[one]
        return doomed

    def close(self) -> None:
        """Close the journal."""
        if self._journal is not None:
            self._journal.close()

    def _trial(self) -> Trial:
        if self._pointer.trial is None:
            raise ValueError("nothing is on trial")
        return self._pointer.trial

    def _state(self, of: str) -> str:
        pointer = self._pointer
        if pointer.trial and pointer.trial.digest == of:
            return "on trial"
        if of in pointer.bad:
            return "bad"
        good = of in {pointer.active, pointer.previous, pointer.golden}
        return "good" if good else "staged"

    def _release(self, of: str) -> str:
        return self._installed.get(of, "")

    def _move(
        self,
        what: str,
        of: str,
        release: str = "",
        *,
        rollout: str = "",
        reason: str = "",
        **changes: object,
    ) -> None:
        """Make one transition: pointer, journal, fleet, in this order."""
        self._settle()
        next_ = self._transition(1, what, of, release, rollout=rollout, reason=reason)
        self._write(transition=next_, **changes)
        self._settle()

    def _transition(
        self, ahead: int, what: str, of: str, release: str = "", *, rollout: str, reason: str
    ) -> Feedback:
        """Return the transition that is ``ahead`` of the last one."""
        return Feedback(
            transition=self._last_number() + ahead,
            at=show(self._clock.now()),
            what=what,
            release=release or self._release(of),
            digest=of,
            rollout=rollout,
            serving=self.serving,
            reason=reason,
        )

    def _write(self, **changes: object) -> None:
        pointer = msgspec.structs.replace(self._pointer, **changes)
        durable.replace_file(self._home.pointer, msgspec.json.encode(pointer))
        self._pointer = pointer

    def _settle(self) -> None:
        """Journal and tell the last transition, as far as still to be done; then the owed."""
        last = self._pointer.transition
        if last is None:
            return
        if self._journalled() < last.transition:
            self._history().append(msgspec.to_builtins(last))
        self._tell(last)
        if (owed := self._pointer.owed) is not None:
            self._write(transition=owed, owed=None)
            self._settle()

    def _last_number(self) -> int:
        last = self._pointer.transition
        return max(last.transition if last else 0, self._journalled(), self._told())

    def _journalled(self) -> int:
        kept = self._history().records
        return int(kept[-1]["transition"]) if kept else 0

    def _history(self, *, whole: bool = False) -> durable.Journal:
        """Return the journal, opened when it is first needed; a long one begins anew."""
        if self._journal is None:
            path = self._home.journal
            if not whole and path.exists() and path.stat().st_size > _JOURNAL_BYTES:
                _set_aside(path, _OLDER)
            self._journal = self._open_journal(path)
        return self._journal

    def _open_journal(self, path: Path) -> durable.Journal:
        try:
            return durable.Journal(path)
        except StorageError as error:
            if isinstance(error.__cause__, OSError):
                raise
            self.problems.append(f"the journal was damaged and set aside: {error}")
            _set_aside(path, ".damaged")
            return durable.Journal(path)

    def _read(self) -> Pointer:
        """Return the pointer, rebuilt from the journal when it is damaged or gone."""
        path, journal = self._home.pointer, self._home.journal
        older = journal.with_name(journal.name + _OLDER)
        # The journal is opened before the first transition, and filled after it.
        told = any(one.exists() and one.stat().st_size for one in (journal, older))
        if not path.exists() and not told:
            return Pointer()
        try:
            return msgspec.json.decode(path.read_bytes(), type=Pointer)
        except (OSError, msgspec.DecodeError, UnicodeDecodeError) as error:
            self.problems.append(f"the pointer was damaged and made anew: {error}")
        records = []
        try:
            if older.exists():
                with closing(self._open_journal(older)) as before:
                    records = before.records
            records += self._history(whole=True).records
            if path.exists():
                _set_aside(path, ".damaged")
        except StorageError as error:
            self.problems.append(str(error))
        return _rebuilt([msgspec.convert(one, Feedback) for one in records])

    def _sweep(self) -> None:
        """Remove what an interrupted write left."""
        for folder in (self._home.root, self._home.slots):
            durable.sweep(folder)

    def _forget_missing(self) -> None:
        """Let go of slots the pointer names and the disk does not have."""
        pointer = self._pointer
        named = {pointer.active, pointer.previous, pointer.golden}
        if pointer.trial:
            named.add(pointer.trial.digest)
        for one in sorted(name for name in named if name and name not in self._installed):
            self.problems.append(f"slot {digest.short(one)} is gone")
            self.step_back(one, damaged=True)


def _rebuilt(history: list[Feedback]) -> Pointer:
    """Return the pointer a history leads to: what proved good last, and what was refused.

    What only served, on a trial nobody has judged, is not good yet.
    """
    confirmed = [one.digest for one in history if one.what == CONFIRMED]
    good = [
        one.digest if one.what == CONFIRMED else one.serving
        for one in history
        if one.what == CONFIRMED
        or (one.what in {REVERTED, RETURNED} and one.serving not in {"", one.digest})
    ]
    return Pointer(
        active=good[-1] if good else None,
        golden=confirmed[0] if confirmed else None,
        bad={one.digest: one.reason for one in history if one.what == REVERTED},
        transition=history[-1] if history else None,
    )


def _scan(slots: Path) -> dict[str, str]:
    """Return digest and release of every finished slot in a folder."""
    found = {}
    if slots.is_dir():
        for folder in slots.iterdir():
            if len(folder.name) == 64:
                try:
                    manifest = _manifest(folder)
                    found[digest.check(digest.PREFIX + folder.name)] = (
                        f"{manifest.get('name')}@{manifest.get('version')}"
                    )
                except BundleError:
                    # Damaged, but there: the worker that verifies it says what is wrong.
                    found[digest.PREFIX + folder.name] = ""
    return found


def _manifest(slot: Path) -> dict[str, object]:
    """Return the manifest of a slot as plain data; the worker verifies it, not we."""
    try:
        found = json.loads((slot / "manifest.json").read_bytes())
    except (OSError, ValueError) as error:
        raise BundleError(f"slot {slot.name[:12]} has no readable manifest") from error
    if not isinstance(found, dict):
        raise BundleError(f"slot {slot.name[:12]} has no readable manifest")
    return found


def _set_aside(path: Path, suffix: str) -> None:
    """Keep a file under another name and let a new one take its place."""
    try:
        data = path.read_bytes()
    except OSError as error:
        raise StorageError(f"cannot read {path.name}: {error.strerror}") from error
    durable.replace_file(path.with_name(path.name + suffix), data)
    durable.remove(path)
