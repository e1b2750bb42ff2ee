"""records: every document of ours goes out as data, comes back, and fits its schema."""

import json
from dataclasses import dataclass, field, fields
from typing import Any

import jsonschema
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edgewright.bundle.manifest import Manifest, Policy
from edgewright.core import digest, records
from edgewright.core.contract import Contract
from edgewright.core.errors import BundleError, ConfigError, UsageError
from edgewright.core.evidence import METHODS, Evidence
from edgewright.core.profile import PLATFORMS, DeviceProfile
from edgewright.core.tensors import ITEM_BYTES, TensorSpec

WHOLE = st.integers(1, 2**53 - 1)
NAMES = st.from_regex(r"[a-z0-9][a-z0-9-]{0,20}", fullmatch=True)
DIGESTS = st.binary(max_size=8).map(digest.of_bytes)


@dataclass(frozen=True)
class Inner:
    """A record inside another."""

    count: int
    share: float = 0.5


@dataclass(frozen=True)
class Outer:
    """Every kind of field there is."""

    text: str
    inner: Inner
    flag: bool = False
    maybe: int | None = None
    many: tuple[Inner, ...] = ()
    table: dict[str, int] = field(default_factory=dict)
    free: dict[str, Any] = field(default_factory=dict)


@st.composite
def evidences(draw):
    """Draw evidence with and without bounds."""
    low, value, high = sorted(draw(st.tuples(WHOLE, WHOLE, WHOLE)))
    return Evidence(
        name=draw(NAMES),
        value=value,
        n=draw(WHOLE),
        machine=draw(st.text(max_size=9)),
        method=draw(st.sampled_from(METHODS)),
        low=draw(st.sampled_from([None, low])),
        high=draw(st.sampled_from([None, high])),
    )


def _record(kind):
    """Draw a record of ``kind``, each optional field there or not."""
    if kind is Evidence:
        return evidences()
    if kind is TensorSpec:
        shapes = st.lists(st.sampled_from([-1, 1, 2, 224]), max_size=4).map(tuple)
        return st.builds(
            TensorSpec, st.text(max_size=9), st.sampled_from(sorted(ITEM_BYTES)), shapes
        )
    if kind is DeviceProfile:
        return st.builds(DeviceProfile, platform=st.sampled_from(PLATFORMS))
    if kind is Contract:
        limits = {f.name: st.none() | WHOLE for f in fields(Contract) if f.default is None}
        return st.builds(Contract, **limits)
    if kind is Outer:
        inner = st.builds(
            Inner, st.integers(), st.floats(allow_nan=False, allow_infinity=False)
        )
        return st.builds(Outer, st.text(max_size=9), inner, many=st.lists(inner).map(tuple))
    return st.builds(kind)


VALIDATORS = {
    kind: jsonschema.Draft202012Validator(records.json_schema(kind, title=kind.__name__))
    for kind in (Contract, DeviceProfile, Evidence, Outer, Policy, TensorSpec)
}


@pytest.mark.parametrize("kind", VALIDATORS)
@settings(max_examples=50)
@given(data=st.data())
def test_a_record_comes_back_as_it_was(kind, data):
    """Through JSON, and what was written fits the schema of its kind."""
    record = data.draw(_record(kind))

    written = json.loads(json.dumps(records.encode(record)))

    assert records.decode(kind, written, error=ConfigError) == record
    VALIDATORS[kind].validate(written)


@given(
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.text(max_size=5) | st.floats(),
        lambda inner: (
            st.lists(inner, max_size=3)
            | st.dictionaries(st.sampled_from(["text", "inner", "count", "many", "x"]), inner)
        ),
        max_leaves=8,
    )
)
def test_any_data_is_read_or_refused(data):
    """Nothing but the error asked for leaves decode, and what is read encodes again."""
    try:
        record = records.decode(Outer, data, error=BundleError)
    except BundleError:
        return

    assert records.decode(Outer, records.encode(record), error=BundleError) == record


GOOD = {"text": "t", "inner": {"count": 1}}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"inner": {"count": 1, "cuont": 2}}, "unknown key 'cuont' in inner"),
        ({"txt": 1}, "unknown key 'txt'"),
        ({"inner": {}}, "inner.count is missing"),
        ({"inner": [1]}, "inner must be a table, got list"),
        ({"inner": {"count": "1"}}, "inner.count must be integer, got '1'"),
        ({"inner": {"count": True}}, "inner.count must be integer, got True"),
        ({"inner": {"count": 1.0}}, "inner.count must be integer, got 1.0"),
        ({"flag": 1}, "flag must be boolean, got 1"),
        ({"many": [{"count": 1}, {}]}, r"many\[1\].count is missing"),
        ({"many": {"count": 1}}, "many must be a list, got dict"),
        ({"table": [1]}, "table must be a table, got list"),
        ({"table": {"a": "1"}}, "table.a must be integer, got '1'"),
        ({"text": None}, "text must be string, got None"),
    ],
)
def test_what_does_not_fit_is_named_with_its_place(change, message):
    """The place in the document and what was there."""
    with pytest.raises(ConfigError, match=message):
        records.decode(Outer, {**GOOD, **change}, error=ConfigError)


def test_an_unknown_key_names_the_nearest_known_one():
    """Or all that are known, where none is near."""
    with pytest.raises(ConfigError) as near:
        records.decode(Inner, {"count": 1, "shar": 1}, error=ConfigError)
    with pytest.raises(ConfigError) as far:
        records.decode(Inner, {"count": 1, "zzz": 1}, error=ConfigError)

    assert near.value.hint == "Did you mean 'share'?"
    assert far.value.hint == "Known: count, share."


def test_on_the_wire_unknown_keys_are_let_through_at_every_depth():
    """A newer peer may say more."""
    data = {"text": "t", "inner": {"count": 1, "newer": 2}, "newest": 3}

    assert records.decode(Outer, data, error=ConfigError, ignore_unknown=True) == Outer(
        "t", Inner(1)
    )


def test_what_a_record_refuses_becomes_the_error_asked_for():
    """A ValueError and an error of ours from the record's own checks, hint kept."""
    manifest = {f.name: None for f in fields(Manifest)}

    with pytest.raises(BundleError, match="min_inferences"):
        records.decode(Policy, {"min_inferences": 0}, error=BundleError)
    with pytest.raises(BundleError):
        records.decode(Manifest, manifest, error=BundleError)


def test_an_error_of_ours_from_a_records_own_check_is_translated():
    """The reader of a bundle sees a bundle's error, with the original hint."""

    @dataclass(frozen=True)
    class Named:
        name: str

        def __post_init__(self) -> None:
            raise UsageError("no such name", hint="Use another.")

    with pytest.raises(BundleError, match="here: no such name") as refused:
        records.decode(Named, {"name": "x"}, error=BundleError, where="here")

    assert refused.value.hint == "Use another."


def test_a_schema_written_by_hand():
    """The schema of a small record, every kind of field, as JSON Schema says it."""
    schema = records.json_schema(Outer, title="Outer")

    assert schema["$ref"] == "#/$defs/Outer"
    assert schema["$defs"]["Inner"] == {
        "type": "object",
        "additionalProperties": False,
        "properties": {"count": {"type": "integer"}, "share": {"type": "number"}},
        "required": ["count"],
    }
    assert schema["$defs"]["Outer"]["required"] == ["text", "inner"]
    assert schema["$defs"]["Outer"]["properties"]["many"] == {
        "type": "array",
        "items": {"$ref": "#/$defs/Inner"},
    }
    jsonschema.Draft202012Validator.check_schema(schema)


@pytest.mark.parametrize(
    "wrong", [{}, {**GOOD, "x": 1}, {**GOOD, "flag": "no"}, {**GOOD, "many": [{}]}]
)
def test_the_schema_refuses_what_decode_refuses(wrong):
    """A missing field, an unknown key, a wrong type, a wrong item."""
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate(wrong, records.json_schema(Outer, title="Outer"))
    with pytest.raises(ConfigError):
        records.decode(Outer, wrong, error=ConfigError)
