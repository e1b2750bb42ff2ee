"""publish: against a real control plane, honest and otherwise."""

import json
import shutil
import subprocess
import sys
import threading
from datetime import UTC, datetime, timedelta

import pytest
from tests.sim import bundles
from tests.sim.plane import hand_out, running
from tests.sim.signers import resigned

from edgewright.bundle import archive, signing, trust
from edgewright.core import digest
from edgewright.core.clock import SystemClock
from edgewright.core.errors import (
    AccessError,
    BundleError,
    ConflictError,
    ExpiredError,
    TransportError,
    TrustError,
)
from edgewright.toolchain import publish
from edgewright.wire.http import Client

pytestmark = pytest.mark.slow

DAY = timedelta(days=1)


class Later(SystemClock):
    """The server's clock, some day in the future."""

    def __init__(self, moment):
        self.moment = moment

    def now(self):
        """Return that day."""
        return self.moment


@pytest.fixture
def now():
    """Return the time the control plane lives in too."""
    return datetime.now(UTC).replace(microsecond=0)


@pytest.fixture
def plane(tmp_path):
    """Return a control plane on a port of its own."""
    with running(tmp_path) as made:
        yield made


@pytest.fixture
def bundle(tmp_path):
    """Return the file of ``digits@1``."""
    path = tmp_path / "digits-1.ewb"
    bundles.make_bundle(path)
    return path


def sent(plane, path, now):
    """Publish with the keys of the plane."""
    return publish.publish(path, keys_dir=plane.keys, client=plane.client(), now=now)


def device(plane, folder, now):
    """Return what a new device trusts that asks this plane."""
    folder.mkdir(parents=True)
    files = hand_out(plane)
    (folder / "root.json").write_bytes(files["1.root.json"])
    return trust.refresh(folder, files.get, now=now)


class TestPublish:
    """A release is there, signed, and stays what it is."""

    def test_a_device_can_install_what_was_published(self, plane, bundle, now, tmp_path):
        """Bytes and signature arrive; the header is authenticated by what was signed."""
        done = sent(plane, bundle, now)

        target = device(plane, tmp_path / "artefacts", now).targets["digits/1.ewb"]
        data = bundle.read_bytes()
        header = archive.read_header(data)
        assert (target.sha256, target.length) == (digest.of_bytes(data), len(data))
        assert target.custom == {
            "format": 1,
            "header_length": header.length,
            "header_sha256": digest.of_bytes(data[: header.length]),
            "release": "digits@1",
        }
        blob = plane.client("").request("GET", f"/v1/blobs/{digest.hex_of(target.sha256)}")
        assert blob.body == data
        assert (str(done.release), done.version, done.already) == ("digits@1", 2, False)
        assert done.expires == now + 30 * DAY

    def test_the_same_bytes_again_change_nothing(self, plane, bundle, now):
        """A second call succeeds, says so, and signs nothing."""
        sent(plane, bundle, now)
        before = hand_out(plane)

        again = sent(plane, bundle, now + DAY)

        assert again.already
        assert again.version == 2
        assert hand_out(plane) == before

    def test_other_bytes_under_a_published_number(self, plane, bundle, now, tmp_path):
        """They are refused before anything is uploaded."""
        sent(plane, bundle, now)
        before = hand_out(plane)
        other = tmp_path / "other.ewb"
        found = bundles.make_bundle(other, seed=8)

        with pytest.raises(ConflictError, match=r"digits/1\.ewb is published as") as caught:
            sent(plane, other, now)

        assert "higher version" in caught.value.hint
        assert hand_out(plane) == before
        blob = plane.client("").request("HEAD", f"/v1/blobs/{digest.hex_of(found)}")
        assert blob.status == 404

    def test_the_public_folder_follows(self, plane, bundle, now):
        """After publishing, ``public`` holds the set the server hands out."""
        sent(plane, bundle, now)

        mine = signing.read_public(plane.keys / "public" / "artefacts")

        given = hand_out(plane)
        assert {name: given[name] for name in mine} == mine
        assert sorted(mine) == [
            "1.root.json",
            "2.snapshot.json",
            "2.targets.json",
            "timestamp.json",
        ]

    def test_two_at_once(self, plane, now, tmp_path):
        """Whoever is second signs again on top of the first; neither release is lost."""
        names, problems = ("digits", "faces"), []
        for name in names:
            bundles.make_bundle(tmp_path / f"{name}.ewb", name=name)
            shutil.copytree(plane.keys, tmp_path / f"keys-{name}")
        clients = {name: plane.client() for name in names}

        def work(name):
            path, keys = tmp_path / f"{name}.ewb", tmp_path / f"keys-{name}"
            try:
                publish.publish(path, keys_dir=keys, client=clients[name], now=now)
            except ConflictError as error:
                problems.append(error)

        threads = [threading.Thread(target=work, args=(name,)) for name in names]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()

        assert problems == []
        trusted = device(plane, tmp_path / "artefacts", now)
        assert sorted(trusted.targets) == ["digits/1.ewb", "faces/1.ewb"]
        assert trusted.version == 3

    def test_a_damaged_archive_goes_nowhere(self, plane, bundle, now):
        """One flipped byte is found before the server is asked anything."""
        data = bytearray(bundle.read_bytes())
        data[-1] ^= 1
        bundle.write_bytes(data)

        with pytest.raises(BundleError):
            sent(plane, bundle, now)
        assert plane.client().call("GET", "/v1/releases")["releases"] == []

    def test_without_the_right_to(self, plane, bundle, now):
        """A token of another scope is refused, and nothing is published."""
        client = plane.client("enrol")

        with pytest.raises(AccessError):
            publish.publish(bundle, keys_dir=plane.keys, client=client, now=now)
        assert plane.client().call("GET", "/v1/releases")["releases"] == []

    def test_with_other_keys(self, plane, bundle, now, tmp_path):
        """Keys of another repository do not verify what this server hands out."""
        signing.init(tmp_path / "others", root_keys=1, root_threshold=1, now=now)

        with pytest.raises(TrustError):
            publish.publish(
                bundle, keys_dir=tmp_path / "others", client=plane.client(), now=now
            )

    def test_with_a_key_others_may_read(self, plane, bundle, now):
        """The publisher refuses to use it, and the hint mends it."""
        key = plane.keys / "private" / "releases.key"
        key.chmod(0o644)

        with pytest.raises(TrustError, match="0644") as caught:
            sent(plane, bundle, now)
        assert caught.value.hint == f"chmod 600 {key}"

    def test_a_server_that_lies(self, plane, bundle, now):
        """Metadata the server made up is not added to, whatever it says."""
        folder = plane.plane.trust_folder / "artefacts"
        forged = resigned(
            (folder / "timestamp.json").read_bytes(),
            lambda signed: signed.update(version=7),
            signing.load_key(plane.keys, "assignments"),
        )
        (folder / "timestamp.json").write_bytes(forged)

        with pytest.raises(TrustError, match="0/1 keys"):
            sent(plane, bundle, now)

    def test_a_server_that_is_not_there(self, plane, bundle, now):
        """The error may be retried, and nothing local changed."""
        client = Client("http://127.0.0.1:9")
        before = signing.read_public(plane.keys / "public" / "artefacts")

        with pytest.raises(TransportError):
            publish.publish(bundle, keys_dir=plane.keys, client=client, now=now)
        assert signing.read_public(plane.keys / "public" / "artefacts") == before


class TestRefresh:
    """What is handed out is signed anew before it expires, or after."""

    def test_snapshot_and_timestamp(self, plane, bundle, now):
        """They live 30 days from now; the targets are not touched."""
        sent(plane, bundle, now)
        targets = hand_out(plane)["2.targets.json"]

        done = publish.refresh(plane.keys, plane.client(), now=now)

        assert (done.version, done.targets, done.roots) == (3, False, ())
        assert done.expires == now + 30 * DAY
        assert hand_out(plane)["2.targets.json"] == targets
        assert json.loads(hand_out(plane)["timestamp.json"])["signed"]["version"] == 3

    def test_targets_when_asked(self, plane, bundle, now):
        """With ``targets`` all three files are signed."""
        sent(plane, bundle, now)

        done = publish.refresh(plane.keys, plane.client(), targets=True, now=now)

        assert done.targets
        assert "3.targets.json" in hand_out(plane)

    def test_what_has_expired_is_signed_anew(self, plane, bundle, now):
        """A publisher who was away comes back: age is no reason not to sign again."""
        sent(plane, bundle, now)
        later = now + 40 * DAY
        plane.plane.clock = Later(later)

        done = publish.refresh(plane.keys, plane.client(), now=later)

        assert done.expires == now + 70 * DAY

    def test_targets_that_have_expired(self, plane, bundle, now):
        """New timestamps do not mend them: nothing is sent, and the hint says what does."""
        sent(plane, bundle, now)
        later = now + 100 * DAY
        plane.plane.clock = Later(later)

        with pytest.raises(ExpiredError, match="targets") as caught:
            publish.refresh(plane.keys, plane.client(), now=later)
        done = publish.refresh(plane.keys, plane.client(), targets=True, now=later)

        assert "--targets" in caught.value.hint
        assert done.expires == now + 130 * DAY

    @pytest.mark.parametrize("name", ["releases", "freshness", "root-1"])
    def test_a_replaced_key_reaches_devices(self, plane, bundle, now, tmp_path, name):
        """After a rotation a refresh hands on the root, and a device follows it."""
        folder = tmp_path / "artefacts"
        sent(plane, bundle, now)
        device(plane, folder, now)

        signing.rotate(plane.keys, name, now=now)
        done = publish.refresh(plane.keys, plane.client(), now=now)

        assert done.roots == (2,)
        assert done.targets == (name == "releases")
        trusted = trust.refresh(folder, hand_out(plane).get, now=now)
        assert (trusted.version, list(trusted.targets)) == (done.version, ["digits/1.ewb"])

    def test_publishing_hands_on_a_root_too(self, plane, bundle, now, tmp_path):
        """The next release after a rotation needs no refresh in between."""
        signing.rotate(plane.keys, "releases", now=now)

        sent(plane, bundle, now)

        assert list(device(plane, tmp_path / "artefacts", now).targets) == ["digits/1.ewb"]
        assert "2.root.json" in hand_out(plane)

    def test_two_people_who_replaced_a_key(self, plane, bundle, now, tmp_path):
        """The second is told that the server has another root of that version."""
        shutil.copytree(plane.keys, tmp_path / "mine")
        signing.rotate(plane.keys, "releases", now=now)
        sent(plane, bundle, now)
        signing.rotate(tmp_path / "mine", "freshness", now=now)

        with pytest.raises(TrustError, match=r"server's 2\.root\.json is not the one"):
            publish.refresh(tmp_path / "mine", plane.client(), now=now)


def test_publishing_needs_no_framework():
    """The module is light: neither models nor numbers are imported."""
    program = (
        "import sys, edgewright.toolchain.publish\n"
        "heavy = {'torch', 'onnx', 'onnxruntime', 'numpy', 'starlette', 'sqlalchemy'}\n"
        "print(sorted(heavy & set(sys.modules)))\n"
    )

    ran = subprocess.run(
        [sys.executable, "-c", program],
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )

    assert ran.stdout == "[]\n", ran.stderr
