"""trust: what a device believes, what it refuses, and that a refusal changes nothing."""

import json
import subprocess
import sys

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tests.sim.disk import failing, stopped
from tests.sim.signers import (
    DAY,
    NOW,
    Mirror,
    Signers,
    born,
    contents,
    flipped,
    refused,
    resigned,
)

from edgewright.bundle import trust
from edgewright.core import digest
from edgewright.core.errors import (
    ExpiredError,
    StorageError,
    TrustError,
)


class TestRefresh:
    """A set that verifies is trusted as a whole, and kept."""

    def test_the_targets_of_a_verified_set_are_returned(self, signers, tmp_path):
        """What was signed arrives with length, digest and custom, and stays for later."""
        folder = born(tmp_path / "artefacts", signers.files["1.root.json"])

        trusted = trust.refresh(folder, Mirror(signers.files), now=NOW)

        target = trust.TrustedTarget(
            "digits/1.ewb", len(b"bundle"), digest.of_bytes(b"bundle"), {"format": 1}
        )
        assert trusted.targets == {"digits/1.ewb": target}
        assert (trusted.repository, trusted.version) == ("artefacts", 2)
        assert trusted.expires == NOW + 30 * DAY
        assert trust.load(folder, now=NOW) == trusted
        assert sorted(contents(folder)) == ["current.json", "root.json"]

    def test_an_unchanged_timestamp_ends_it(self, device, signers):
        """When nothing changed one file is asked for and nothing is written."""
        mirror, before = Mirror(signers.files), contents(device)

        trusted = trust.refresh(device, mirror, now=NOW)

        assert mirror.asked == ["timestamp.json"]
        assert trusted.version == 2
        assert contents(device) == before

    def test_a_304_may_be_answered_with_what_is_held(self, device, signers):
        """``timestamp`` returns the bytes that are held, which counts as unchanged."""
        held = trust.timestamp(device)

        trusted = trust.refresh(device, {"timestamp.json": held}.get, now=NOW)

        assert held == signers.files["timestamp.json"]
        assert trusted.version == 2

    def test_a_new_set_replaces_the_old_one(self, device, signers):
        """After a second release both are trusted, and only the new set is held."""
        signers.release("digits/2.ewb", b"better")

        trusted = trust.refresh(device, Mirror(signers.files), now=NOW)

        assert sorted(trusted.targets) == ["digits/1.ewb", "digits/2.ewb"]
        held = json.loads((device / "current.json").read_bytes())["files"]
        assert sorted(held) == ["3.snapshot.json", "3.targets.json", "timestamp.json"]

    def test_a_newer_timestamp_fetches_only_what_it_changed(self, device, signers):
        """Targets that are held already are not fetched again."""
        signers.freshen()
        mirror = Mirror(signers.files)

        trust.refresh(device, mirror, now=NOW)

        assert mirror.asked == ["timestamp.json", "2.root.json", "3.snapshot.json"]

    def test_versions_may_jump_ahead(self, device, signers):
        """Fast-forward: a version far ahead is as good as the next one."""
        targets = signers.files["2.targets.json"]

        files = signers.around(targets, snapshot=900_000, timestamp=1_000_000)

        assert trust.refresh(device, Mirror(files), now=NOW).version == 1_000_000

    def test_what_a_kill_left_is_swept(self, device, signers):
        """Leftovers of an interrupted refresh are gone after the next one."""
        (device / "current.json.new~").write_bytes(b"half")
        (device / "staging").mkdir()
        (device / "staging" / "timestamp.json").write_bytes(b"half")

        trust.refresh(device, Mirror(signers.files), now=NOW)

        assert sorted(contents(device)) == ["current.json", "root.json"]

    def test_the_machines_clock_is_the_default(self, tmp_path):
        """Without ``now`` the set is judged at the time it really is."""
        fresh = Signers.make(tmp_path / "keys", root_keys=1, root_threshold=1)
        folder = born(tmp_path / "artefacts", fresh.files["1.root.json"])

        with pytest.raises(ExpiredError):
            trust.refresh(folder, Mirror(fresh.files))

    def test_a_time_without_zone_is_the_callers_mistake(self, device, signers):
        """Expiry cannot be judged at a time that may be anywhere."""
        with pytest.raises(ValueError, match="time zone"):
            trust.refresh(device, Mirror(signers.files), now=NOW.replace(tzinfo=None))

    def test_an_assignment_is_found_at_its_hashed_name(self, signers, tmp_path):
        """A target of the assignments is served where ``target_file`` says."""
        document = b'{"rollout":"rol_1"}'
        files = signers.assign({"rollouts/stable.json": document}, version=1)
        folder = born(tmp_path / "assignments", files["1.root.json"])

        trusted = trust.refresh(folder, Mirror(files), now=NOW)

        target = trusted.targets["rollouts/stable.json"]
        assert files[f"targets/{trust.target_file(target)}"] == document
        assert trusted.repository == "assignments"


class TestLoad:
    """The last good set serves without network."""

    @pytest.mark.parametrize(("days", "role"), [(30, "timestamp"), (29, None)])
    def test_expiry_is_judged(self, device, days, role):
        """A set serves until the moment its first file expires, and not beyond."""
        if role:
            with pytest.raises(ExpiredError, match="2026-03-31"):
                trust.load(device, now=NOW + days * DAY)
        else:
            assert trust.load(device, now=NOW + days * DAY).version == 2

    def test_nothing_trusted_yet(self, signers, tmp_path):
        """Before the first refresh there is nothing to load."""
        folder = born(tmp_path / "artefacts", signers.files["1.root.json"])

        with pytest.raises(TrustError, match="nothing was trusted"):
            trust.load(folder, now=NOW)
        assert trust.timestamp(folder) is None

    @given(place=st.integers(0, 1 << 20))
    @settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
    def test_a_damaged_set_is_never_believed(self, device, place):
        """Any flipped bit of ``current.json`` is noticed, or changes nothing that is said."""
        good, path = trust.load(device, now=NOW), device / "current.json"
        intact = path.read_bytes()
        path.write_bytes(flipped(intact, place))

        try:
            assert trust.load(device, now=NOW) == good
        except TrustError:
            pass
        finally:
            path.write_bytes(intact)

    def test_a_damaged_set_is_fetched_anew(self, device, signers, capfd):
        """A device heals from bit rot at the next refresh, and says so."""
        (device / "current.json").write_bytes(b'{"files": {}')

        trusted = trust.refresh(device, Mirror(signers.files), now=NOW)

        assert trust.load(device, now=NOW) == trusted
        assert "damaged set dropped" in capfd.readouterr().err

    def test_a_device_without_a_root_trusts_nothing(self, tmp_path, signers):
        """There is no trust on first use."""
        for call in (
            lambda: trust.refresh(tmp_path, Mirror(signers.files), now=NOW),
            lambda: trust.load(tmp_path, now=NOW),
        ):
            with pytest.raises(TrustError, match="no root") as caught:
                call()
            assert "Enrol" in caught.value.hint


class TestRotation:
    """Keys are replaced in the field, and the old ones count no longer."""

    def test_a_device_follows_the_chain_of_roots(self, own, tmp_path):
        """From root 1 to 3 in one go, and again from what is held, without asking twice."""
        folder = born(tmp_path / "artefacts", own.files["1.root.json"])
        own.rotate("releases")
        own.rotate("root-1")
        mirror = Mirror(own.files)

        first = trust.refresh(folder, mirror, now=NOW)
        own.freshen()
        again = Mirror(own.files)
        trust.refresh(folder, again, now=NOW)

        assert list(first.targets) == ["digits/1.ewb"]
        assert mirror.asked[:4] == [
            "timestamp.json",
            "2.root.json",
            "3.root.json",
            "4.root.json",
        ]
        assert again.asked[:2] == ["timestamp.json", "4.root.json"]
        assert (folder / "root.json").read_bytes() == own.files["1.root.json"]

    @pytest.mark.parametrize(
        ("name", "role"), [("releases", "targets"), ("freshness", "timestamp")]
    )
    def test_a_replaced_key_counts_no_longer(self, own, tmp_path, name, role):
        """What the old key signs after its replacement is refused."""
        folder = born(tmp_path / "artefacts", own.files["1.root.json"])
        old = own.key(name)
        own.rotate(name)
        trust.refresh(folder, Mirror(own.files), now=NOW)
        if role == "timestamp":
            forged = resigned(own.files["timestamp.json"], lambda s: s.update(version=99), old)
            files = own.files | {"timestamp.json": forged}
        else:
            targets = own.newest("targets")
            forged = resigned(targets, lambda s: s.update(version=99), old)
            files = own.around(forged, snapshot=99, timestamp=99)

        refused(folder, Mirror(files), TrustError, match="0/1 keys")

    def test_fast_forward_is_healed_by_a_new_key(self, own, tmp_path):
        """After a thief wrote version 1000000, a new key may start again from a low one."""
        folder = born(tmp_path / "artefacts", own.files["1.root.json"])
        targets = own.newest("targets")
        thief = own.around(targets, snapshot=1_000_000, timestamp=1_000_000)
        assert trust.refresh(folder, Mirror(thief), now=NOW).version == 1_000_000

        own.rotate("freshness")

        assert trust.refresh(folder, Mirror(own.files), now=NOW).version == 3

    @pytest.mark.parametrize(
        ("signing", "count"),
        [
            (("root-2",), "1/2"),
            (("releases", "freshness"), "0/2"),
            (("root-2", "releases"), "1/2"),
        ],
        ids=["one of two", "other keys", "one and another"],
    )
    def test_a_root_below_the_threshold(self, own, tmp_path, signing, count):
        """Fewer root keys than the threshold replace nothing."""
        folder = born(tmp_path / "artefacts", own.files["1.root.json"])
        forged = resigned(
            own.files["1.root.json"], lambda s: s.update(version=2), *map(own.key, signing)
        )

        refused(folder, Mirror(own.files | {"2.root.json": forged}), TrustError, match=count)

    def test_a_root_that_does_not_sign_itself(self, own, tmp_path):
        """A root that asks for more keys than have signed it is refused."""
        folder = born(tmp_path / "artefacts", own.files["1.root.json"])
        forged = resigned(
            own.files["1.root.json"],
            lambda s: (s.update(version=2), s["roles"]["root"].update(threshold=3)),
            own.key("root-1"),
            own.key("root-2"),
        )

        refused(folder, Mirror(own.files | {"2.root.json": forged}), TrustError, match="2/3")

    def test_one_key_under_two_ids(self, own, tmp_path):
        """A root that lists one key twice is refused: it could meet a threshold alone."""
        folder = born(tmp_path / "artefacts", own.files["1.root.json"])
        forged = resigned(
            own.files["1.root.json"],
            lambda s: (
                s.update(version=2),
                s["keys"].update(twin=next(iter(s["keys"].values()))),
            ),
            own.key("root-1"),
            own.key("root-2"),
        )

        refused(
            folder, Mirror(own.files | {"2.root.json": forged}), TrustError, match="two ids"
        )

    @pytest.mark.parametrize("version", [1, 3])
    def test_a_root_out_of_order(self, own, tmp_path, version):
        """A root is followed only by the next one."""
        folder = born(tmp_path / "artefacts", own.files["1.root.json"])
        forged = resigned(
            own.files["1.root.json"],
            lambda s: s.update(version=version),
            own.key("root-1"),
            own.key("root-2"),
        )

        refused(
            folder,
            Mirror(own.files | {"2.root.json": forged}),
            TrustError,
            match="does not belong",
        )


class TestInterruption:
    """A disk or a process that gives up leaves the old set or the new one."""

    def test_a_full_disk_at_every_call(self, device, signers):
        """Whichever write fails, one whole set is held and the next refresh succeeds."""
        old = trust.load(device, now=NOW)
        held = (device / "current.json").read_bytes()
        signers.release("digits/2.ewb", b"better")
        seen, at = set(), 0
        while True:
            at += 1
            (device / "current.json").write_bytes(held)
            with failing(device, at) as calls:
                try:
                    trust.refresh(device, Mirror(signers.files), now=NOW)
                except StorageError:
                    seen.add("refused")
            left = trust.load(device, now=NOW)
            assert left.version in {old.version, old.version + 1}
            assert trust.refresh(device, Mirror(signers.files), now=NOW).version == 3
            if len(calls.names) < at:
                break
        assert at > 10
        assert seen == {"refused"}

    @pytest.mark.slow
    def test_a_kill_at_every_call(self, device, signers, tmp_path, scale):
        """Killed anywhere, the next start finds one whole set and can go on."""
        held = (device / "current.json").read_bytes()
        signers.release("digits/2.ewb", b"better")
        mirror = tmp_path / "mirror"
        mirror.mkdir()
        for name, data in signers.files.items():
            (mirror / name).write_bytes(data)
        program = (
            "import datetime, pathlib\n"
            "from edgewright.bundle import trust\n"
            f"mirror = pathlib.Path({str(mirror)!r})\n"
            "fetch = lambda n: (mirror / n).read_bytes() if (mirror / n).exists() else None\n"
            f"now = datetime.datetime.fromisoformat({NOW.isoformat()!r})\n"
            f"trust.refresh(pathlib.Path({str(device)!r}), fetch, now=now)\n"
        )
        step, at, killed = (1 if scale == "full" else 4), 1, 0
        while True:
            (device / "current.json").write_bytes(held)
            ended = stopped(["-c", program], device, at, trace=tmp_path / "trace")
            assert ended.killed or ended.returncode == 0, ended.output
            assert trust.load(device, now=NOW).version in {2, 3}
            assert trust.refresh(device, Mirror(signers.files), now=NOW).version == 3
            assert sorted(contents(device)) == ["current.json", "root.json"]
            if not ended.killed:
                break
            killed, at = killed + 1, at + step
        assert killed > 3


@pytest.mark.slow
@pytest.mark.parametrize("call", ["load(folder, now=now)", "refresh(folder, fetch, now=now)"])
def test_the_common_case_imports_no_tuf(device, call):
    """Loading, and a refresh when nothing changed, cost neither tuf nor cryptography."""
    program = (
        "import sys, datetime, pathlib\n"
        "from edgewright.bundle import trust\n"
        f"folder = pathlib.Path({str(device)!r})\n"
        "fetch = lambda name: trust.timestamp(folder)\n"
        f"now = datetime.datetime.fromisoformat({NOW.isoformat()!r})\n"
        f"print(trust.{call}.version)\n"
        "heavy = {'tuf', 'cryptography', 'securesystemslib', 'urllib3'} & set(sys.modules)\n"
        "print(sorted(heavy))\n"
    )

    ran = subprocess.run(
        [sys.executable, "-c", program],
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )

    assert ran.stdout.split("\n")[:2] == ["2", "[]"], ran.stderr


@pytest.mark.parametrize(
    "name",
    [
        "timestamp",
        "1.timestamp.json",
        "root.json",
        "01.root.json",
        "x.json",
        "../1.root.json",
        "",
    ],
)
def test_other_names_are_not_metadata(name):
    """Only the names a server uses have a limit; anything else is the caller's mistake."""
    with pytest.raises(ValueError, match="not the name"):
        trust.limit_bytes(name)
