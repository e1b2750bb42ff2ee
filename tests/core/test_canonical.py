"""canonical: one text for one value, and no other text is read."""

import json

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from edgewright.core import canonical
from edgewright.core.errors import BundleError

LIMIT = 2**53 - 1
TEXT = st.text(st.characters(min_codepoint=0x20, exclude_categories=("Cs",)), max_size=20)
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(-LIMIT, LIMIT) | TEXT,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(TEXT, inner, max_size=4),
    max_leaves=20,
)


@given(VALUES)
def test_what_is_encoded_decodes_to_itself(value):
    """Round trip, and the text is one that any JSON reader understands."""
    data = canonical.encode(value)

    assert canonical.decode(data) == value
    assert json.loads(data) == value


@given(st.dictionaries(TEXT, st.integers(0, 9), max_size=8), st.randoms())
def test_the_order_of_keys_does_not_matter(value, random):
    """Two dicts that are equal have one text."""
    keys = list(value)
    random.shuffle(keys)

    assert canonical.encode({key: value[key] for key in keys}) == canonical.encode(value)


@given(VALUES, st.integers(1, 3), st.booleans())
def test_any_other_spelling_is_refused(value, indent, ascii_only):
    """Indented, escaped or loosely separated JSON of the same value is not canonical."""
    canon = canonical.encode(value)
    for other in (
        json.dumps(value, indent=indent).encode(),
        json.dumps(value, ensure_ascii=ascii_only, sort_keys=True).encode(),
        canon + b"\n",
        b" " + canon,
        b"\xef\xbb\xbf" + canon,
    ):
        if other != canon:
            with pytest.raises(BundleError):
                canonical.decode(other)


@given(st.binary(max_size=60))
def test_any_bytes_are_read_or_refused(data):
    """Nothing but BundleError leaves decode, and what is read is the one spelling."""
    try:
        value = canonical.decode(data)
    except BundleError:
        return

    assert canonical.encode(value) == data


def test_known_text():
    """Worked by hand: sorted keys, no spaces, no escapes but those JSON demands."""
    value = {"b": [1, True, None], "a": 'é"\\', "A": {}}

    assert canonical.encode(value) == '{"A":{},"a":"é\\"\\\\","b":[1,true,null]}'.encode()


@pytest.mark.parametrize(
    "text",
    [
        '{"a":1,"a":1}',
        '{"b":1,"a":1}',
        '{"a":1.0}',
        '{"a":1e2}',
        "-0",
        "01",
        "NaN",
        "Infinity",
        '"\\u0041"',
        '"\\/"',
        '"\\n"',
        "9007199254740992",
        "1" * 5000,
        "[" * 100_000,
        '"\\ud800"',
        "",
        "[1,]",
        "\x00",
        "\ufeff1",
    ],
)
def test_spellings_and_values_that_are_refused(text):
    """Duplicates, floats, escapes, leading zeros, too big, too deep, not text."""
    with pytest.raises(BundleError):
        canonical.decode(text.encode("utf-8", "surrogatepass"))


@pytest.mark.parametrize("value", [1.5, {1: 2}, {"a": b"x"}, {"a": {1, 2}}, float("nan")])
def test_what_json_does_not_have_is_the_callers_mistake(value):
    """TypeError, naming the place."""
    with pytest.raises(TypeError, match=r"^\$"):
        canonical.encode(value)


@pytest.mark.parametrize(
    "value", [LIMIT + 1, -LIMIT - 1, "a\nb", "\x1f", {"\x01": 1}, ["\ud800"]]
)
def test_what_readers_would_read_differently_is_refused(value):
    """Integers beyond 2**53 - 1, control characters, half characters."""
    with pytest.raises(ValueError, match=r"^(\$|'utf-8')"):
        canonical.encode(value)


@given(VALUES, VALUES)
def test_different_values_have_different_texts(one, other):
    """One value for one text; JSON's true is not 1."""
    assume(json.dumps(one, sort_keys=True) != json.dumps(other, sort_keys=True))

    assert canonical.encode(one) != canonical.encode(other)
