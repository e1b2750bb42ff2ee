"""The manifest: one text for one value, and no value that does not hold together."""

import json
from dataclasses import replace

import jsonschema
import pytest
from tests.sim.bundles import bare_manifest

from edgewright.bundle import manifest as manifests
from edgewright.bundle.manifest import (
    Entry,
    Manifest,
    Override,
    Policy,
    Tolerance,
    Variant,
)
from edgewright.core import canonical, digest, records
from edgewright.core.errors import BundleError, UsageError
from edgewright.core.evidence import Evidence

NOTHING = digest.of_bytes(b"")


@pytest.fixture
def full():
    """Return a manifest in which every optional field is set."""
    evidence = Evidence(
        "p99_us", 60, 100, "linux-0", "measured on host", 50, 70, "interleaved"
    )
    made = bare_manifest({})
    variant = replace(made.variants[0], isa=("avx2",), evidence=(evidence,))
    return replace(
        made,
        variants=(variant,),
        label="spring",
        classes=("0", "1"),
        verdict="inconclusive",
        overrides=(Override("verdict", "field test", "n is 90"),),
    )


def test_it_reads_what_it_writes(full):
    """A manifest survives its own bytes, and the bytes are canonical."""
    data = full.to_bytes()

    assert manifests.from_bytes(data) == full
    assert canonical.encode(canonical.decode(data)) == data


def test_its_json_schema_takes_it(full):
    """The schema made from the dataclasses describes what is written."""
    schema = records.json_schema(Manifest, title="bundle manifest")

    jsonschema.validate(json.loads(full.to_bytes()), schema)
    with pytest.raises(jsonschema.ValidationError, match="'wight' was unexpected"):
        jsonschema.validate({**json.loads(full.to_bytes()), "wight": 1}, schema)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"format": 2}, "format 2 is newer than 1"),
        ({"nmae": "x"}, "unknown key 'nmae'"),
        ({"version": "1"}, "version must be integer"),
        ({"version": True}, "version must be integer"),
        ({"version": 0}, "version must be at least 1"),
        ({"variants": []}, "at least one variant"),
        ({"entries": []}, "no entry"),
        ({"name": None}, "name must be string"),
    ],
)
def test_a_manifest_that_does_not_hold_together_is_refused(full, change, message):
    """The message names the field."""
    value = {**json.loads(full.to_bytes()), **change}

    with pytest.raises(BundleError, match=message):
        manifests.from_bytes(canonical.encode(value))


def test_another_spelling_of_the_same_value_is_refused(full):
    """Two texts for one manifest would be two digests for one thing."""
    value = json.loads(full.to_bytes())

    for data in (
        json.dumps(value).encode(),
        full.to_bytes() + b"\n",
        full.to_bytes().replace(b'"version":1', b'"version":1,"version":1'),
        b"\xff",
        b"",
    ):
        with pytest.raises(BundleError, match="canonical"):
            manifests.from_bytes(data)


def test_two_entries_of_one_path_are_refused(full):
    """A path names one thing."""
    twice = (*full.entries, full.entries[0])

    with pytest.raises(ValueError, match="same path"):
        replace(full, entries=twice)


def test_a_missing_entry_is_named(full):
    """Asking for what is not there is the bundle's error."""
    with pytest.raises(BundleError, match="bare@1 has no entry 'x'"):
        full.entry("x")

    assert full.entry("golden/in.bin").length == len("golden/in.bin")


def test_a_variant_without_its_model_is_refused(full):
    """Whatever the manifest names must be among the entries."""
    with pytest.raises(ValueError, match=r"no entry 'variants/w/model\.onnx'"):
        replace(full, variants=(Variant("w", "onnxruntime", "int8", "variants/w/model.onnx"),))


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"path": "../x"}, "plain relative path"),
        ({"offset": -1}, "negative"),
        ({"length": 1}, "0 chunk digests"),
        ({"chunk_bytes": 0}, "negative offset or length"),
    ],
)
def test_an_entry_that_cannot_be_is_refused(fields, message):
    """Sizes must add up and a path must stay in its folder."""
    sound = {"path": "a", "offset": 0, "length": 0, "sha256": NOTHING, "chunk_bytes": 1}

    with pytest.raises(ValueError, match=message):
        Entry(**{**sound, "chunks": (), **fields})


def test_values_check_themselves():
    """A policy, a tolerance and a name that mean nothing are refused when made."""
    with pytest.raises(ValueError, match="at least 1"):
        Policy(min_inferences=0)
    with pytest.raises(ValueError, match="unknown tolerance 'near'"):
        Tolerance("near")
    with pytest.raises(UsageError, match="cannot name a bundle"):
        bare_manifest({}, name="No")
