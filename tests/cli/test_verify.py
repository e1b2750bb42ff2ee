"""``edgewright verify``: what it checks, what it says, how it exits."""

import argparse
import json

import pytest
from tests.sim.bundles import make_bundle, make_slot

from edgewright.cli import verify
from edgewright.core.errors import BundleError


def run(capsys, source, *, as_json=True):
    """Run the command; return its exit code and what it printed."""
    parser = argparse.ArgumentParser()
    verify.add_parser(parser)
    args = parser.parse_args([str(source)])
    args.json = as_json
    code = verify.run(args)
    printed = capsys.readouterr().out
    return code, json.loads(printed) if as_json else printed


def test_a_good_bundle(tmp_path, capsys):
    """Release, digest, sizes, provenance, and both golden sets of every variant."""
    digest = make_bundle(tmp_path / "a.ewb", variants=("int8", "float32"))

    code, document = run(capsys, tmp_path / "a.ewb")

    assert code == 0
    assert document["passed"] is True
    assert (document["release"], document["digest"]) == ("digits@1", digest)
    assert document["overrides"] == []
    assert document["provenance"]["source_sha256"].startswith("sha256:")
    assert [v["name"] for v in document["variants"]] == ["int8", "float32"]
    for variant in document["variants"]:
        assert variant["outcome"] == "passed"
        assert variant["finding"] == ""
        assert variant["bytes"] > 2600
        assert variant["reference"] == {
            "passed": True,
            "count": 16,
            "detail": "16 of 16 answers agree, at least 95.00 % must",
        }


def test_a_slot(tmp_path, capsys):
    """A slot is verified as the bundle it came from."""
    slot, digest = make_slot(tmp_path)

    code, document = run(capsys, slot)

    assert (code, document["digest"]) == (0, digest)


@pytest.mark.parametrize(
    ("option", "failed", "finding"),
    [
        ({"invert": True, "override": "field test"}, "reference", "0 of 16 answers agree"),
        ({"wrong_variant": True}, "golden", "largest difference 1.0"),
    ],
)
def test_a_failed_golden_set_is_exit_1_with_the_finding(
    tmp_path, capsys, option, failed, finding
):
    """An override is shown, and changes nothing."""
    make_bundle(tmp_path / "a.ewb", **option)

    code, document = run(capsys, tmp_path / "a.ewb")
    text_code, text = run(capsys, tmp_path / "a.ewb", as_json=False)

    (variant,) = document["variants"]
    assert code == text_code == 1
    assert document["passed"] is False
    assert variant["outcome"] == "failed"
    assert variant[failed]["passed"] is False
    assert finding in variant["finding"]
    assert finding in text
    assert "REFUSED" in text
    assert ("field test" in text) is ("override" in option)


def test_what_cannot_run_here_is_not_passed(tmp_path, capsys):
    """A bundle for another machine is whole, and not proven."""
    make_bundle(tmp_path / "a.ewb", isa=("avx1024",))

    code, document = run(capsys, tmp_path / "a.ewb")
    _, text = run(capsys, tmp_path / "a.ewb", as_json=False)

    (variant,) = document["variants"]
    assert code == 1
    assert variant["outcome"] == "not run"
    assert variant["finding"] == "this CPU has no avx1024"
    assert "NOT PROVEN" in text


def test_people_see_one_screen(tmp_path, capsys):
    """A table of variants and one word at the end."""
    make_bundle(tmp_path / "a.ewb")

    code, text = run(capsys, tmp_path / "a.ewb", as_json=False)

    assert code == 0
    assert text.startswith("digits@1  ")
    assert text.rstrip().endswith("PASSED")
    assert max(map(len, text.splitlines())) < 100


def test_a_damaged_bundle_is_an_error(tmp_path, capsys):
    """One flipped bit, even in the padding, is told before anything is run."""
    make_bundle(tmp_path / "a.ewb")
    data = bytearray((tmp_path / "a.ewb").read_bytes())
    data[4095] ^= 1
    (tmp_path / "a.ewb").write_bytes(data)

    with pytest.raises(BundleError, match="padding after the manifest"):
        run(capsys, tmp_path / "a.ewb")
    with pytest.raises(BundleError, match="cannot read"):
        run(capsys, tmp_path / "none.ewb")
