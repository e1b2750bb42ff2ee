"""Kept times: they spare the measuring, and never decide what is sound."""

import json
import subprocess
import sys
from dataclasses import dataclass, field, replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.runtime.test_model import merged_slot
from tests.sim.bundles import bare_manifest, make_bundle, make_slot
from tests.sim.disk import failing

from edgewright.bundle.golden import Comparison
from edgewright.bundle.manifest import Variant
from edgewright.core import digest
from edgewright.core.errors import BundleError, EngineError, GoldenError
from edgewright.runtime import load
from edgewright.runtime import model as models
from edgewright.runtime import timings as kept_times
from edgewright.runtime.model import Candidate
from edgewright.runtime.selftest import GoldenResult
from edgewright.runtime.timings import Timings, user_file

BUNDLE = digest.of_bytes(b"a bundle")
NAMES = ("a", "b", "c", "d")
SOUND, UNSOUND, ABSENT, UNLOADABLE = "sound", "unsound", "absent", "unloadable"
MANIFEST = bare_manifest({})


@dataclass(frozen=True)
class Counted:
    """An engine that computes nothing, and a session of it that counts its runs."""

    name: str = "counted"
    version: str = "1"
    runs: list[object] = field(default_factory=list)

    def run(self, feeds, *, deadline=None):
        """Count."""
        self.runs.append((feeds, deadline))
        return []

    def close(self):
        """Hold nothing."""


def candidate(name, outcome):
    """Return what trying a variant came to; None for one that was not there to try."""
    if outcome in {ABSENT, UNLOADABLE}:
        return None if outcome == ABSENT else EngineError("no such engine")
    engine = Counted()
    good = Comparison(passed=True, count=1, worst_micro=0, detail="")
    own = replace(good, passed=outcome == SOUND, detail="1 of 1 answers differ")
    variant = Variant(name, engine.name, "float32", f"variants/{name}/model.onnx")
    return Candidate(variant, engine, engine, [{}], GoldenResult(good, own))


def refuse_to_measure(sound):
    """Stand where the measuring is, for a start that should not need it."""
    raise AssertionError(f"{len(sound)} variants were measured again")


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """Return a file that is written anew in every example."""
    return tmp_path_factory.mktemp("kept") / "variants.json"


@given(
    outcomes=st.fixed_dictionaries(
        {name: st.sampled_from([SOUND, UNSOUND, ABSENT, UNLOADABLE]) for name in NAMES}
    ),
    times=st.dictionaries(st.sampled_from(NAMES), st.floats(1e-3, 1e9), min_size=1),
    version=st.sampled_from(["1", "2"]),
)
def test_what_is_kept_names_no_variant_that_is_not_sound(place, outcomes, times, version):
    """Whatever is kept, only what answered the golden inputs just now can be taken."""
    tried = {n: c for n, o in outcomes.items() if (c := candidate(n, o)) is not None}
    sound = [name for name, outcome in outcomes.items() if outcome == SOUND]
    place.unlink(missing_ok=True)
    timings = Timings(place, BUNDLE, 1)
    timings.keep(dict.fromkeys(times, f"counted {version}"), list(times.values()))

    if not sound:
        with pytest.raises((GoldenError, EngineError)):
            models.choose(MANIFEST, tried, timings=timings)
        return
    best, lines = models.choose(MANIFEST, tried, timings=timings)

    assert best.variant.name in sound
    known = set(sound) <= set(times) and version == "1"
    measured = any(tried[name].session.runs for name in sound)
    assert measured == (len(sound) > 1 and not known)
    assert any("measured before" in line for line in lines) == (len(sound) > 1 and known)
    if len(sound) > 1 and known:
        least = min(times[name] for name in sound)
        assert times[best.variant.name] <= least * 1.05 + 0.001


@given(at=st.integers(0), bit=st.integers(0, 7), cut=st.booleans())
def test_a_damaged_file_is_as_good_as_none(place, at, bit, cut):
    """No bit of it can flip, and no end be lost, so that another time is believed."""
    place.unlink(missing_ok=True)
    timings = Timings(place, BUNDLE, 1)
    timings.keep({"a": "counted 1", "b": "counted 1"}, [10.0, 20.0])
    data = bytearray(place.read_bytes())
    at %= len(data)
    data[at] ^= 1 << bit
    place.write_bytes(data[:at] if cut else data)

    assert timings.recall({"a": "counted 1", "b": "counted 1"}) is None


@pytest.mark.parametrize(
    "content",
    [b"", b"\0" * 100, b"[]", b"{}", b'{"format":1}', b"[" * 100_000, b"\xff", b"1" * 5000],
)
def test_a_foreign_file_is_written_anew(tmp_path, content):
    """What something else wrote says nothing, and does not stay."""
    path = tmp_path / "variants.json"
    path.write_bytes(content)
    timings = Timings(path, BUNDLE, 1)

    before = timings.recall({"a": "e 1"})
    timings.keep({"a": "e 1"}, [12.5])

    assert before is None
    assert timings.recall({"a": "e 1"}) == [12.5]


@pytest.mark.parametrize(
    ("change", "engines"),
    [
        ({"bundle": digest.of_bytes(b"another")}, {"a": "e 1"}),
        ({"threads": 2}, {"a": "e 1"}),
        ({}, {"a": "e 2"}),
        ({}, {"a": "e 1", "b": "e 1"}),
    ],
    ids=["bundle", "threads", "engine", "one more"],
)
def test_a_time_belongs_to_what_it_was_measured_with(tmp_path, change, engines):
    """Of another bundle, engine or number of threads it says nothing."""
    timings = Timings(tmp_path / "variants.json", BUNDLE, 1)
    timings.keep({"a": "e 1"}, [10.0])

    assert replace(timings, **change).recall(engines) is None


def test_a_time_belongs_to_its_machine(tmp_path, monkeypatch):
    """A disk that was put into another machine brings no times along, and loses none."""
    timings = Timings(tmp_path / "variants.json", BUNDLE, 1)
    timings.keep({"a": "e 1"}, [10.0])

    with monkeypatch.context() as patch:
        patch.setattr(kept_times, "_machine", lambda: "linux-00000000")
        elsewhere = timings.recall({"a": "e 1"})
        timings.keep({"a": "e 1"}, [99.0])

    assert elsewhere is None
    assert timings.recall({"a": "e 1"}) == [10.0]


@pytest.mark.slow
def test_only_so_many_bundles_are_remembered(tmp_path):
    """The oldest give way, so that the file cannot fill a disk."""
    path = tmp_path / "variants.json"
    bundles = [digest.of_bytes(bytes([number])) for number in range(70)]
    for bundle in bundles:
        Timings(path, bundle, 1).keep({"a": "e 1"}, [10.0])

    known = [bool(Timings(path, bundle, 1).recall({"a": "e 1"})) for bundle in bundles]

    assert known == [False] * 6 + [True] * 64


def test_the_second_load_does_not_measure(tmp_path, monkeypatch, cache):
    """It takes the same variant by the same times, and says that they were known."""
    slot = merged_slot(tmp_path, slow=3)
    # What a busy machine would measure is not what this is about.
    monkeypatch.setattr(models, "_measure", lambda sound: [100.0, 300.0][: len(sound)])
    with load(slot) as model:
        first = model.choice
    monkeypatch.setattr(models, "_measure", refuse_to_measure)

    with load(slot) as model:
        second = model.choice
        taken = model.variant
    with load(tmp_path / "slots" / "mixed.ewb") as model:
        third = model.choice

    assert taken == "float32"
    assert "(measured before)" not in " ".join(first)
    assert [line.replace(" (measured before)", "") for line in second] == list(first)
    assert all("(measured before)" in line for line in second)
    assert third == second
    assert (cache / "edgewright" / "variants.json").is_file()


def test_golden_answers_are_checked_all_the_same(tmp_path, monkeypatch):
    """A variant known as the fastest that answers wrongly today is not taken."""
    slot, _ = make_slot(tmp_path, variants=("float32", "other"))
    with load(slot) as model:
        taken = model.variant
    real = models.selftest.check

    def wrong(manifest, variant, *rest):
        result = real(manifest, variant, *rest)
        failed = replace(result.variant, passed=False, detail="16 of 16 answers differ")
        return replace(result, variant=failed) if variant == taken else result

    monkeypatch.setattr(models.selftest, "check", wrong)

    with load(slot) as model:
        assert model.variant != taken
        assert any("16 of 16 answers differ" in line for line in model.choice)


def test_one_variant_leaves_nothing_behind(tmp_path, cache):
    """Where there is nothing to choose, nothing is measured and nothing written."""
    make_bundle(tmp_path / "a.ewb")

    load(tmp_path / "a.ewb").close()

    assert not (cache / "edgewright").exists()


def test_a_disk_that_refuses_costs_time_only(tmp_path, cache):
    """The model answers; what was measured is measured again."""
    slot, _ = make_slot(tmp_path, variants=("float32", "other"))
    cache.mkdir()

    with failing(cache, 1, from_then_on=True), load(slot) as model:
        assert "(measured before)" not in " ".join(model.choice)

    assert list(cache.rglob("variants.json")) == []


def test_without_a_home_nothing_is_kept(tmp_path, monkeypatch):
    """XDG_CACHE_HOME if it is absolute, else ~/.cache; a user without either is served."""
    monkeypatch.setenv("XDG_CACHE_HOME", "not/absolute")
    monkeypatch.setenv("HOME", str(tmp_path))
    named = user_file()

    def nobody(_):
        raise RuntimeError("could not determine home directory")

    monkeypatch.setattr(Path, "home", classmethod(nobody))
    slot, _ = make_slot(tmp_path, variants=("float32", "other"))

    assert named == tmp_path / ".cache" / "edgewright" / "variants.json"
    assert user_file() is None
    load(slot).close()


def test_a_file_that_cannot_be_read_is_as_good_as_none(tmp_path):
    """A folder in its place neither stops a load nor goes away."""
    path = tmp_path / "variants.json"
    path.mkdir()
    timings = Timings(path, BUNDLE, 1)

    timings.keep({"a": "e 1"}, [10.0])

    assert timings.recall({"a": "e 1"}) is None
    assert path.is_dir()


def test_the_worker_keeps_times_where_it_is_told(tmp_path):
    """What a self-test measured is there, and a second one leaves it as it is."""
    slot, of = make_slot(tmp_path, variants=("float32", "other"))
    path = tmp_path / "home" / "variants.json"
    argv = [sys.executable, "-m", "edgewright.runtime.worker", "selftest", str(slot)]

    contents = []
    for _ in range(2):
        subprocess.run([*argv, "--timings", str(path)], check=True, capture_output=True)
        contents.append(path.read_bytes())

    assert contents[0] == contents[1]
    (one,) = json.loads(contents[0])["measured"]
    assert one["bundle"] == of
    assert set(one["variants"]) == {"float32", "other"}


@pytest.mark.parametrize("time", [0, -1, True, "10"])
def test_a_time_that_nothing_takes_is_refused(time):
    """Such a file is damaged, whatever its digest says."""
    value = {"engine": "e 1", "p50_ns": time}

    with pytest.raises(BundleError):
        kept_times.records.decode(kept_times.Timed, value, error=BundleError)
