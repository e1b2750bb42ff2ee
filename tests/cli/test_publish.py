"""``edgewright publish``: what a person and a script are told."""

import json

import pytest
from tests.sim import bundles
from tests.sim.plane import running

from edgewright.cli.main import main

pytestmark = pytest.mark.slow


def test_publish_twice(tmp_path, capsys):
    """The first call publishes, the second says that it is there; other bytes fail."""
    bundle, other = tmp_path / "digits-1.ewb", tmp_path / "other.ewb"
    found = bundles.make_bundle(bundle)
    bundles.make_bundle(other, seed=8)
    with running(tmp_path) as plane:
        token = plane.plane.settings.state / "tokens" / "operate.token"
        rest = ["--server", plane.url, "--keys", str(plane.keys), "--token-file", str(token)]

        assert main(["publish", str(bundle), *rest, "--json"]) == 0
        first = json.loads(capsys.readouterr().out)
        assert main(["publish", str(bundle), *rest]) == 0
        second = capsys.readouterr().out
        assert main(["publish", str(other), *rest, "--json"]) == 1
        refused = json.loads(capsys.readouterr().out)

    assert first["release"] == "digits@1"
    assert first["digest"] == found
    assert first["path"] == "digits/1.ewb"
    assert first["length"] == bundle.stat().st_size
    assert (first["metadata_version"], first["already_published"]) == (2, False)
    assert second.startswith("digits@1 was published before")
    assert refused["error"]["code"] == "conflict_error"


def test_a_bundle_that_is_not_there(tmp_path, capsys):
    """A wrong path is a message, not a traceback."""
    with running(tmp_path) as plane:
        token = plane.plane.settings.state / "tokens" / "operate.token"
        rest = ["--server", plane.url, "--keys", str(plane.keys), "--token-file", str(token)]

        assert main(["publish", str(tmp_path / "none.ewb"), *rest]) == 1

    assert "none.ewb" in capsys.readouterr().err
