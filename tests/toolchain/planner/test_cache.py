"""StepCache: what is found is what was put, or nothing."""

import os
import shutil
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.sim.disk import failing
from tests.sim.models import quarters, samples

from edgewright import toolchain
from edgewright.toolchain.ir.load import check
from edgewright.toolchain.ir.samples import Samples
from edgewright.toolchain.planner.cache import StepCache, code_of, packed
from edgewright.toolchain.planner.perform import Workshop
from edgewright.toolchain.planner.values import CandidatePlan, Plan, Step
from edgewright.toolchain.techniques import Applied

TOOLCHAIN = Path(toolchain.__file__).parent
TOOLS = {"onnx": "1"}
GRAPH = check(quarters(), "m")
OTHER = check(quarters(seed=4), "m")
STEP = Step("fuse", {"level": "aggressive"}, "because")
RESULT = Applied(OTHER, changed=True, notes=("it did", "this"))
IMAGES = Samples({"image": samples(40)[0]})


def test_what_was_put_is_found(tmp_path):
    """The graph to the byte, whether it changed, and the notes."""
    cache = StepCache(tmp_path / "steps", TOOLS)
    key = cache.key(GRAPH, STEP, "")

    assert cache.get(key) is None
    cache.put(key, RESULT)

    found = cache.get(key)
    assert found.graph.to_bytes() == OTHER.to_bytes()
    assert (found.changed, found.notes) == (True, ("it did", "this"))


def test_whatever_decides_the_bytes_decides_the_name(tmp_path):
    """Another graph, setting, sample or version is another step; another reason is not."""
    cache = StepCache(tmp_path, TOOLS)
    same = Step("fuse", {"level": "aggressive"}, "another reason")

    keys = [
        cache.key(GRAPH, STEP, ""),
        cache.key(OTHER, STEP, ""),
        cache.key(GRAPH, Step("fuse", {"level": "none"}, ""), ""),
        cache.key(GRAPH, STEP, "sha256:1"),
        StepCache(tmp_path, {"onnx": "2"}).key(GRAPH, STEP, ""),
    ]

    assert len(set(keys)) == len(keys)
    assert cache.key(GRAPH, same, "") == keys[0]


@pytest.mark.parametrize(
    ("mended", "which"),
    [
        ("techniques/fuse/scalars.py", {"fuse"}),
        ("techniques/quantize/static.py", {"quantize"}),
        ("techniques/__init__.py", {"fuse", "quantize"}),
        ("ir/codes.py", {"fuse", "quantize"}),
        ("planner/search.py", set()),
    ],
)
def test_a_technique_that_was_mended_is_another_step(tmp_path, mended, which):
    """Its own sources and those all of them use decide; what others consist of does not."""
    shutil.copytree(TOOLCHAIN, tmp_path / "toolchain")
    code_of.cache_clear()
    names = ("fuse", "quantize")
    before = {name: code_of(name, tmp_path / "toolchain") for name in names}
    with (tmp_path / "toolchain" / mended).open("a") as file:
        file.write("# mended\n")

    code_of.cache_clear()
    after = {name: code_of(name, tmp_path / "toolchain") for name in names}

    assert {name: code_of(name) for name in names} == before
    assert {name for name in names if after[name] != before[name]} == which


def test_what_older_code_did_is_not_served(tmp_path, monkeypatch):
    """The step of a technique that has changed since is done again."""
    folder = StepCache(tmp_path, TOOLS)
    folder.put(folder.key(GRAPH, STEP, ""), RESULT)

    assert folder.get(folder.key(GRAPH, STEP, "")) is not None
    monkeypatch.setattr(f"{StepCache.__module__}.code_of", lambda _technique: "sha256:mended")

    assert folder.get(folder.key(GRAPH, STEP, "")) is None


@given(place=st.floats(0, 1, exclude_max=True), bit=st.integers(0, 7))
@settings(max_examples=60)
def test_a_flipped_bit_is_never_believed(tmp_path_factory, place, bit):
    """Anywhere in the file: the step is done again instead."""
    cache = StepCache(tmp_path_factory.mktemp("steps"), TOOLS)
    key = cache.key(GRAPH, STEP, "")
    cache.put(key, RESULT)
    path = cache._folder / f"{key}.step"
    data = bytearray(path.read_bytes())
    data[int(place * len(data))] ^= 1 << bit
    path.write_bytes(data)

    assert cache.get(key) is None


def test_what_was_done_elsewhere_is_kept_if_it_is_whole(tmp_path):
    """Under its name only: no other place on the disk, no damaged bytes."""
    cache = StepCache(tmp_path / "steps", TOOLS)
    key = cache.key(GRAPH, STEP, "")

    assert cache.take(key, packed(key, RESULT))
    assert cache.get(key).graph.to_bytes() == OTHER.to_bytes()
    for name in ("../out", "", key[:-1], key.upper()):
        assert not cache.take(name, packed(name, RESULT))
    assert not cache.take(key, packed(key, RESULT)[:-1])
    assert not cache.take(cache.key(OTHER, STEP, ""), packed(key, RESULT))
    assert [path.name for path in tmp_path.rglob("*.step")] == [f"{key}.step"]


def test_a_step_under_the_name_of_another_is_not_believed(tmp_path):
    """A file that was copied or renamed says what it is."""
    cache = StepCache(tmp_path, TOOLS)
    key, other = cache.key(GRAPH, STEP, ""), cache.key(OTHER, STEP, "")
    cache.put(key, RESULT)
    (tmp_path / f"{key}.step").rename(tmp_path / f"{other}.step")

    assert cache.get(other) is None


def test_the_least_recently_used_goes_first(tmp_path):
    """Over the cap, the step nobody asked for is removed and the one just read stays."""
    size = len(OTHER.to_bytes()) + 400
    cache = StepCache(tmp_path, TOOLS, cap_bytes=2 * size)
    keys = [cache.key(GRAPH, STEP, f"sha256:{n}") for n in range(3)]
    for age, key in enumerate(keys[:2]):
        cache.put(key, RESULT)
        os.utime(tmp_path / f"{key}.step", (age, age))
    cache.get(keys[0])

    cache.put(keys[2], RESULT)

    assert [cache.get(key) is not None for key in keys] == [True, False, True]


@pytest.mark.parametrize("at", range(1, 8))
def test_a_disk_that_refuses_costs_nothing_but_time(tmp_path, at):
    """The step has been done: that it cannot be kept is no error, and nothing is torn."""
    cache = StepCache(tmp_path, TOOLS)
    key = cache.key(GRAPH, STEP, "")

    with failing(tmp_path, at, from_then_on=True):
        cache.put(key, RESULT)

    found = cache.get(key)
    assert found is None or found.graph.to_bytes() == OTHER.to_bytes()


def test_a_second_workshop_does_no_step_again(tmp_path, monkeypatch):
    """What another run did is taken from the cache, with the same files and notes."""
    int8 = Step("quantize", {"granularity": "channel", "bits": "7"}, "because")
    plan = Plan(
        1, "onnxruntime", "onnxruntime", "float",
        (CandidatePlan("int8", (STEP, int8), choosable=True),), {},
    )  # fmt: skip
    cache = StepCache(tmp_path / "steps", TOOLS)
    first = Workshop(plan, GRAPH, IMAGES, tmp_path / "one", cache=cache)
    made = first.make(plan.candidates[0])
    monkeypatch.setattr(
        "edgewright.toolchain.planner.steps.load_technique",
        lambda name: pytest.fail(f"{name} was done again"),
    )

    again = Workshop(plan, GRAPH, IMAGES, tmp_path / "two", cache=cache).make(
        plan.candidates[0]
    )

    assert again.files == made.files
    assert again.steps == made.steps
