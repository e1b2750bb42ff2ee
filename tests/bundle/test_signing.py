"""signing: equal inputs give equal bytes, and what is signed verifies like on a device."""

import json
import shutil
from contextlib import suppress
from pathlib import Path

import pytest
from tests.sim.disk import failing
from tests.sim.signers import DAY, NOW, Mirror, Signers, born, contents, resigned

from edgewright.bundle import metadata, signing, trust
from edgewright.bundle.keys import PrivateKey
from edgewright.core import clock, digest
from edgewright.core.errors import (
    ConflictError,
    ExpiredError,
    RollbackError,
    StorageError,
    TrustError,
    UsageError,
)

ONE = digest.of_bytes(b"one")
TWO = digest.of_bytes(b"two")


def expiry(data):
    """Return when a metadata file expires."""
    return clock.parse(json.loads(data)["signed"]["expires"])


def version(data):
    """Return the version of a metadata file."""
    return json.loads(data)["signed"]["version"]


class TestInit:
    """A folder of keys is made whole, or not at all."""

    def test_what_is_made(self, tmp_path):
        """Five root keys and three others, each 0600; both repositories, verified."""
        keys = tmp_path / "keys"

        signing.init(keys, now=NOW)

        private = sorted(path.name for path in (keys / "private").iterdir())
        roots = [f"root-{n}.key" for n in range(1, 6)]
        assert private == sorted(["assignments.key", "freshness.key", "releases.key", *roots])
        assert {p.stat().st_mode & 0o777 for p in (keys / "private").iterdir()} == {0o600}
        assert (keys / "private").stat().st_mode & 0o777 == 0o700
        files = signing.read_public(keys / "public" / "artefacts")
        first = files.pop("1.root.json")
        assert sorted(files) == ["1.snapshot.json", "1.targets.json", "timestamp.json"]
        assert signing.verify_set(files, first, now=NOW).targets == {}
        assert sorted(contents(keys / "public" / "assignments")) == ["1.root.json"]

    def test_who_signs_what_and_for_how_long(self, tmp_path):
        """The table of both repositories, read back from what was written."""
        keys = tmp_path / "keys"
        signing.init(keys, root_keys=4, root_threshold=2, now=NOW)

        states = {(s.repository, s.role): s for s in signing.describe(keys)}

        names = {place: sorted(state.keys) for place, state in states.items()}
        roots = ["root-1", "root-2", "root-3", "root-4"]
        assert names == {
            ("artefacts", "root"): roots,
            ("artefacts", "targets"): ["releases"],
            ("artefacts", "snapshot"): ["freshness"],
            ("artefacts", "timestamp"): ["freshness"],
            ("assignments", "root"): roots,
            ("assignments", "targets"): ["assignments"],
            ("assignments", "snapshot"): ["assignments"],
            ("assignments", "timestamp"): ["assignments"],
        }
        assert states["artefacts", "root"].threshold == 2
        lives = {r: s.expires - NOW for (p, r), s in states.items() if p == "artefacts"}
        assert lives == {
            "root": 365 * DAY,
            "targets": 90 * DAY,
            "snapshot": 30 * DAY,
            "timestamp": 30 * DAY,
        }
        assert states["assignments", "timestamp"].expires is None

    def test_four_different_keys_stand_in_a_demo(self, tmp_path):
        """With one root key there are still four files, none of them equal."""
        signing.init(tmp_path / "keys", root_keys=1, root_threshold=1, now=NOW)

        made = contents(tmp_path / "keys" / "private")

        assert len(set(made.values())) == len(made) == 4

    @pytest.mark.parametrize(
        ("count", "threshold"), [(3, 4), (3, 0), (0, 0), (33, 1), (-1, -2)]
    )
    def test_a_threshold_nobody_can_meet(self, tmp_path, count, threshold):
        """It is a usage error, and nothing is made."""
        with pytest.raises(UsageError, match="not a threshold"):
            signing.init(tmp_path / "keys", root_keys=count, root_threshold=threshold, now=NOW)
        assert contents(tmp_path) == {}

    def test_keys_are_never_overwritten(self, tmp_path):
        """A folder that holds anything, or a file in its place, is refused as it is."""
        folder, file = tmp_path / "keys", tmp_path / "file"
        signing.init(folder, now=NOW)
        file.write_text("mine")
        before = contents(tmp_path)

        for path in (folder, file):
            with pytest.raises(TrustError, match="is not empty"):
                signing.init(path, now=NOW)
        assert contents(tmp_path) == before

    def test_an_empty_folder_may_be_filled(self, tmp_path):
        """A folder someone made for it is used."""
        (tmp_path / "keys").mkdir()

        signing.init(tmp_path / "keys", now=NOW)

        assert len(signing.describe(tmp_path / "keys")) == 8

    def test_the_current_folder(self, tmp_path, monkeypatch):
        """``.`` names a folder like any other: a full one is refused as it is."""
        (tmp_path / "mine").write_text("mine")
        monkeypatch.chdir(tmp_path)

        with pytest.raises(TrustError, match="is not empty"):
            signing.init(Path(), now=NOW)
        assert contents(tmp_path) == {"mine": b"mine"}

    @pytest.mark.slow
    def test_a_full_disk_at_every_call(self, tmp_path, scale):
        """Whichever write fails, there are all keys or none, and it can be done again."""
        keys, at, step = tmp_path / "keys", 1, 1 if scale == "full" else 7
        while True:
            with failing(tmp_path, at) as calls, suppress(StorageError):
                signing.init(keys, root_keys=1, root_threshold=1, now=NOW)
            if len(calls.names) < at:
                break
            if keys.exists():
                assert len(signing.describe(keys)) == 8
                shutil.rmtree(keys)
            at += step
        assert at > 40


class TestArtefacts:
    """Releases are added, never changed."""

    def test_equal_inputs_give_equal_bytes(self, signers):
        """The same keys, files and time sign the same set, byte for byte."""
        made = []
        for _ in range(2):
            repository = signing.ArtefactRepository.load(signers.files)
            repository.add_target("a/1.ewb", 3, ONE, {"format": 1, "release": "a@1"})
            made.append(
                repository.sign(signers.key("releases"), signers.key("freshness"), NOW)
            )

        assert made[0] == made[1]

    def test_versions_grow_and_lives_begin_anew(self, signers):
        """Each signing counts every version up by one and dates it from its own time."""
        repository = signing.ArtefactRepository.load(signers.files)

        made = repository.sign(
            signers.key("releases"), signers.key("freshness"), NOW + 10 * DAY
        )

        assert sorted(made) == ["3.snapshot.json", "3.targets.json", "timestamp.json"]
        assert repository.version == version(made["timestamp.json"]) == 3
        assert expiry(made["3.targets.json"]) == NOW + 100 * DAY
        assert expiry(made["3.snapshot.json"]) == NOW + 40 * DAY
        assert expiry(made["timestamp.json"]) == NOW + 40 * DAY

    def test_freshness_leaves_the_targets_as_they_are(self, signers):
        """The online side of the publisher signs two files and copies the third."""
        repository = signing.ArtefactRepository.load(signers.files)

        made = repository.refresh_freshness(signers.key("freshness"), NOW + 10 * DAY)

        assert sorted(made) == ["2.targets.json", "3.snapshot.json", "timestamp.json"]
        assert made["2.targets.json"] == signers.files["2.targets.json"]
        assert expiry(made["timestamp.json"]) == NOW + 40 * DAY
        root = signers.files["1.root.json"]
        assert signing.verify_set(made, root, now=NOW).expires == NOW + 40 * DAY

    def test_the_same_release_twice(self, signers):
        """Adding the same bytes again is no change; other bytes are a conflict."""
        repository = signing.ArtefactRepository.load(signers.files)

        assert repository.add_target("a/1.ewb", 3, ONE, {})
        assert not repository.add_target("a/1.ewb", 3, ONE, {})
        for length, sha256 in ((3, TWO), (4, ONE)):
            with pytest.raises(ConflictError, match=r"a/1\.ewb is published"):
                repository.add_target("a/1.ewb", length, sha256, {})

    @pytest.mark.parametrize("value", [0.5, True, None, [1], {"a": 1}])
    def test_custom_holds_integers_and_strings(self, signers, value):
        """Anything else has no canonical form, and is the caller's mistake."""
        repository = signing.ArtefactRepository.load(signers.files)

        with pytest.raises(TypeError, match="integer or a string"):
            repository.add_target("a/1.ewb", 3, ONE, {"accuracy": value})

    def test_other_keys_sign_nothing(self, signers):
        """A key that the root does not name for a role is refused before it signs."""
        repository = signing.ArtefactRepository.load(signers.files)
        releases, freshness = signers.key("releases"), signers.key("freshness")

        with pytest.raises(TrustError, match="may not sign targets"):
            repository.sign(freshness, freshness, NOW)
        with pytest.raises(TrustError, match="may not sign timestamp"):
            repository.sign(releases, releases, NOW)
        with pytest.raises(TrustError, match="may not sign timestamp"):
            repository.refresh_freshness(releases, NOW)
        assert version(repository.sign(releases, freshness, NOW)["timestamp.json"]) == 3

    @pytest.mark.parametrize("name", ["1.root.json", "timestamp.json", "2.snapshot.json"])
    def test_a_set_that_is_not_whole(self, signers, name):
        """Loading names the file that is missing or is something else."""
        lacking = {n: d for n, d in signers.files.items() if n != name}
        strange = signers.files | {name: signers.files["2.targets.json"]}

        for files in (lacking, strange):
            with pytest.raises(TrustError, match=name.split(".", 1)[-1]):
                signing.ArtefactRepository.load(files)


class TestAssignments:
    """Signed online, with a key that signs nothing else."""

    def test_a_set_and_its_documents(self, signers, tmp_path):
        """Everything a device asks for is there, and lives one day."""
        documents = {"rollouts/stable.json": b"{}", "rollouts/beta.json": b"[]"}

        files = signers.assign(documents, version=4)

        folder = born(tmp_path / "assignments", files["1.root.json"])
        trusted = trust.refresh(folder, Mirror(files), now=NOW)
        assert {p: t.sha256 for p, t in trusted.targets.items()} == {
            path: digest.of_bytes(data) for path, data in documents.items()
        }
        for path, target in trusted.targets.items():
            assert files[f"targets/{trust.target_file(target)}"] == documents[path]
        assert (trusted.version, trusted.expires) == (4, NOW + DAY)
        assert (
            expiry(files["4.snapshot.json"])
            == expiry(files["4.targets.json"])
            == NOW + 7 * DAY
        )

    def test_equal_inputs_give_equal_bytes(self, signers):
        """A restart signs the same set again, byte for byte."""
        assert signers.assign({"a.json": b"1"}, version=2) == signers.assign(
            {"a.json": b"1"}, version=2
        )

    def test_the_online_key_cannot_sign_artefacts(self, signers):
        """Neither does the assignments key sign artefacts nor the other way round."""
        artefacts = signing.ArtefactRepository.load(signers.files)
        online = signers.key("assignments")
        root = signers.public(trust.ASSIGNMENTS)["1.root.json"]

        with pytest.raises(TrustError, match="may not sign"):
            artefacts.sign(online, online, NOW)
        with pytest.raises(TrustError, match="may not sign"):
            signing.AssignmentRepository(root, signers.key("releases")).sign(
                {}, version=1, now=NOW
            )


class TestVerifySet:
    """What a server takes is what a device would."""

    def upload(self, signers):
        """Return the next set of ``signers`` and the root it stands on."""
        return signers.release("digits/2.ewb", b"better"), signers.files["1.root.json"]

    def test_a_good_set(self, signers):
        """It is returned as a device would see it."""
        files, root = self.upload(signers)

        trusted = signing.verify_set(files, root, now=NOW, previous_version=2)

        assert trusted.version == 3
        assert sorted(trusted.targets) == ["digits/1.ewb", "digits/2.ewb"]

    def test_someone_else_was_faster(self, signers):
        """The version that is handed out already is a conflict, an older one a rollback."""
        files, root = self.upload(signers)

        with pytest.raises(ConflictError, match="timestamp 3"):
            signing.verify_set(files, root, now=NOW, previous_version=3)
        with pytest.raises(RollbackError, match="timestamp 3 is older than 4"):
            signing.verify_set(files, root, now=NOW, previous_version=4)

    def test_nothing_goes_back(self, signers):
        """With the held set given, older targets under a newer timestamp are refused."""
        held = {n: d for n, d in signers.files.items() if not n.endswith("root.json")}
        _, root = self.upload(signers)
        older = signers.public()["1.targets.json"]
        files = signers.around(older, snapshot=9, timestamp=9)
        offered = {
            n: files[n] for n in ("1.targets.json", "9.snapshot.json", "timestamp.json")
        }

        assert signing.verify_set(offered, root, now=NOW).version == 9
        with pytest.raises(RollbackError):
            signing.verify_set(offered, root, now=NOW, held=held)

    def test_what_is_refused(self, signers):
        """A missing file, one too many, another root, a set that has expired."""
        files, root = self.upload(signers)
        other = signers.public(trust.ASSIGNMENTS)["1.root.json"]
        extra = {"2.targets.json": signers.files["2.targets.json"]}

        with pytest.raises(TrustError, match=r"no timestamp\.json"):
            signing.verify_set({"3.targets.json": b"{}"}, root, now=NOW)
        with pytest.raises(TrustError, match=r"2\.targets\.json does not belong"):
            signing.verify_set(files | extra, root, now=NOW)
        with pytest.raises(TrustError, match="is signed for the repository"):
            signing.verify_set(files, other, now=NOW)
        with pytest.raises(ExpiredError):
            signing.verify_set(files, root, now=NOW + 30 * DAY)

    def test_new_roots_come_with_the_set(self, own):
        """A set signed under a new root verifies from the old one."""
        first = own.files["1.root.json"]
        own.rotate("releases")
        names = ("2.root.json", own.name("snapshot"), own.name("targets"), "timestamp.json")

        trusted = signing.verify_set({n: own.files[n] for n in names}, first, now=NOW)

        assert list(trusted.targets) == ["digits/1.ewb"]
        without = {n: own.files[n] for n in names[1:]}
        with pytest.raises(TrustError, match="0/1 keys"):
            signing.verify_set(without, first, now=NOW)


class TestRotate:
    """One key is replaced by another, everywhere it was known."""

    @pytest.mark.parametrize(
        ("name", "roots"),
        [
            ("releases", {"artefacts": 2}),
            ("freshness", {"artefacts": 2}),
            ("assignments", {"assignments": 2}),
            ("root-2", {"artefacts": 2, "assignments": 2}),
        ],
    )
    def test_each_key(self, own, name, roots):
        """The roots that knew it know the new one, and the local set is signed anew."""
        before = {s.repository: s for s in signing.describe(own.folder)}
        old = own.key(name)

        done = signing.rotate(own.folder, name, now=NOW + DAY)

        assert done.roots == roots
        assert own.key(name).public != old.public
        assert metadata.public_key(own.key(name).public, "").keyid == done.key_id
        for state in signing.describe(own.folder):
            if state.role == "root":
                assert state.version == roots.get(state.repository, 1)
            if name in state.keys:
                assert state.keys[name] == done.key_id
                assert before[state.repository].threshold >= 1
        files = own.public()
        first = files.pop("1.root.json")
        assert signing.verify_set(files, first, now=NOW + DAY).targets == {}
        assert not list((own.folder / "private").glob("*.next.key"))

    def test_a_lost_key_can_be_replaced(self, own):
        """The old key is not needed, whether it is a root key or another."""
        for name in ("root-3", "releases"):
            (own.folder / "private" / f"{name}.key").unlink()

            signing.rotate(own.folder, name, now=NOW)

            own.key(name)

    def test_every_root_key_in_turn(self, own, tmp_path):
        """After all of them were replaced a device with the first root still follows."""
        folder = born(tmp_path / "artefacts", own.files["1.root.json"])
        old = [own.key(f"root-{n}").public for n in (1, 2, 3)]

        for number in (1, 2, 3):
            own.rotate(f"root-{number}")

        assert trust.refresh(folder, Mirror(own.files), now=NOW).version > 1
        root = trust.newest_root(own.files)
        assert root[0] == 4
        assert not any(public.hex().encode() in root[1] for public in old)

    def test_too_few_root_keys(self, own):
        """Below the threshold nothing is changed, and the message counts."""
        for name in ("root-1", "root-3"):
            (own.folder / "private" / f"{name}.key").unlink()
        before = contents(own.folder)

        with pytest.raises(TrustError, match="1 of 2 root keys that root 1 asks for"):
            signing.rotate(own.folder, "releases", now=NOW)
        assert contents(own.folder) == before

    def test_a_missing_freshness_key(self, own):
        """Without the key that signs the artefacts anew nothing is changed."""
        (own.folder / "private" / "freshness.key").unlink()
        before = contents(own.folder)

        with pytest.raises(TrustError, match=r"freshness\.key"):
            signing.rotate(own.folder, "releases", now=NOW)
        assert contents(own.folder) == before

    def test_an_unknown_name(self, own):
        """The hint lists the names there are."""
        with pytest.raises(UsageError, match="no key is called 'targets'") as caught:
            signing.rotate(own.folder, "targets", now=NOW)
        assert "assignments, freshness, releases, root-1, root-2, root-3" in caught.value.hint

    def test_one_rotation_at_a_time(self, own):
        """Another key waits until the interrupted rotation is finished."""
        PrivateKey.create(own.folder / "private" / "releases.next.key")

        with pytest.raises(TrustError, match="rotation of releases") as caught:
            signing.rotate(own.folder, "freshness", now=NOW)
        assert "keys rotate DIR releases" in caught.value.hint
        signing.rotate(own.folder, "releases", now=NOW)
        signing.rotate(own.folder, "freshness", now=NOW)

    @pytest.mark.slow
    @pytest.mark.parametrize("name", ["releases", "root-1"])
    def test_a_full_disk_at_every_call(self, tmp_path, name, scale):
        """Interrupted anywhere, the same call finishes it, with one new root and no more."""
        made = Signers.make(tmp_path / "made")
        at, step = 1, 1 if scale == "full" else 5
        while True:
            keys = tmp_path / f"keys-{at}"
            shutil.copytree(made.folder, keys)
            with failing(keys, at) as calls:
                try:
                    signing.rotate(keys, name, now=NOW)
                except StorageError:
                    interrupted = True
                else:
                    interrupted = False
            if interrupted:
                signing.rotate(keys, name, now=NOW)
            files = signing.read_public(keys / "public" / "artefacts")
            first = files.pop("1.root.json")
            assert signing.verify_set(files, first, now=NOW).targets == {}
            assert trust.newest_root(files)[0] in {2, 3}
            state = next(s for s in signing.describe(keys) if name in s.keys)
            key_id = metadata.public_key(signing.load_key(keys, name).public, "").keyid
            assert state.keys[name] == key_id
            if len(calls.names) < at:
                break
            at += step
        assert at > 20


def test_a_file_of_another_kind_is_no_metadata(signers):
    """``parse`` says what was found in the place of what was expected."""
    with pytest.raises(TrustError, match="x is targets metadata, not root"):
        metadata.parse(metadata.Root, signers.files["2.targets.json"], "x")
    with pytest.raises(TrustError, match="x is not metadata"):
        metadata.parse(metadata.Root, b"{}", "x")
    nameless = resigned(
        signers.files["2.targets.json"], lambda s: s.pop(trust.REPOSITORY_FIELD)
    )
    with pytest.raises(TrustError, match="names no repository"):
        metadata.repository_of(metadata.parse(metadata.Targets, nameless, "x").signed)
