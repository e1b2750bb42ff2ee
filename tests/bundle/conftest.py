"""Keys, metadata and a device that trusts it, for the tests of trust."""

import pytest
from tests.sim.signers import NOW, Mirror, Signers, born

from edgewright.bundle import trust


@pytest.fixture(scope="session")
def shared_keys(tmp_path_factory):
    """Return the folder of one set of keys; tests that replace keys make their own."""
    folder = tmp_path_factory.mktemp("signers") / "keys"
    Signers.make(folder)
    return folder


@pytest.fixture
def signers(shared_keys):
    """Return those keys with metadata that names one release."""
    made = Signers(shared_keys)
    made.release()
    return made


@pytest.fixture
def own(tmp_path):
    """Return signers of this test alone, for rotations."""
    made = Signers.make(tmp_path / "keys")
    made.release()
    return made


@pytest.fixture
def device(signers, tmp_path):
    """Return a folder that trusts the first release of ``signers``."""
    folder = born(tmp_path / "trust" / "artefacts", signers.files["1.root.json"])
    trust.refresh(folder, Mirror(signers.files), now=NOW)
    return folder


@pytest.fixture
def ahead(device, signers):
    """Return signers that have signed one release more than ``device`` has seen."""
    assert trust.load(device, now=NOW).version == 2
    signers.release("digits/2.ewb", b"better")
    return signers
