"""trust under attack: every forgery is refused by its name, and nothing changes."""

import json

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tests.sim.signers import DAY, NOW, Mirror, born, flipped, refused, resigned

from edgewright.bundle import trust
from edgewright.core.errors import (
    EdgewrightError,
    ExpiredError,
    RollbackError,
    TransportError,
    TrustError,
)

ROLES = ("timestamp", "snapshot", "targets")
EXPIRES = "2026-03-02T00:00:00Z"

SHARED = settings(suppress_health_check=[HealthCheck.function_scoped_fixture])


class TestAttacks:
    """Each is refused by its name, and the device trusts what it trusted before."""

    @pytest.mark.parametrize("role", [*ROLES, "root"])
    def test_expired(self, device, signers, role):
        """A file that has expired stops the set, whichever of the four it is."""
        signers.release("digits/2.ewb", b"better")
        files = with_expiry(signers, role)

        refused(device, Mirror(files), ExpiredError, match="expired", now=NOW + 2 * DAY)

    @pytest.mark.parametrize("role", [*ROLES, "root"])
    def test_expired_while_held(self, device, ahead, role):
        """A set that was good when it came is not loaded once any of its files expired."""
        trust.refresh(device, Mirror(with_expiry(ahead, role)), now=NOW)

        assert trust.load(device, now=NOW).version >= 3
        with pytest.raises(ExpiredError, match="expired at 2026-03-02"):
            trust.load(device, now=NOW + 2 * DAY)

    def test_freeze(self, device, signers):
        """The same old set offered for ever is refused when it expires."""
        refused(
            device, Mirror(signers.files), ExpiredError, match="expired", now=NOW + 31 * DAY
        )

    def test_older_timestamp(self, device, signers):
        """An older timestamp, however well signed, is a rollback."""
        old = dict(signers.files)
        signers.release("digits/2.ewb", b"better")
        trust.refresh(device, Mirror(signers.files), now=NOW)

        refused(device, Mirror(old), RollbackError, match="timestamp.json goes back")

    def test_older_snapshot(self, device, signers):
        """A new timestamp may not name an older snapshot."""
        targets = signers.files["2.targets.json"]
        files = signers.around(targets, snapshot=1, timestamp=9)

        refused(device, Mirror(files), RollbackError, match="timestamp.json goes back")

    def test_older_targets(self, device, signers):
        """A new snapshot may not name older targets: a release cannot be taken back."""
        targets = signers.public()["1.targets.json"]
        files = signers.around(targets, snapshot=9, timestamp=9)

        refused(device, Mirror(files), RollbackError, match="snapshot.json goes back")

    @pytest.mark.parametrize("role", ["snapshot", "targets"])
    def test_mix_and_match(self, device, signers, role):
        """A genuine file of another set is refused: it is not the one that was named."""
        old = signers.newest(role)
        signers.release("digits/2.ewb", b"better")
        files = signers.files | {signers.name(role): old}

        refused(device, Mirror(files), TrustError, match=role)

    def test_a_snapshot_that_lists_another_version(self, device, signers):
        """A snapshot whose targets version is not that of its own file is refused."""
        listing = resigned(
            signers.files["2.targets.json"],
            lambda s: s.update(version=7),
            signers.key("releases"),
        )
        files = signers.around(listing, snapshot=9, timestamp=9)
        six = resigned(listing, lambda s: s.update(version=6), signers.key("releases"))
        wrong = signers.around(six, snapshot=9, timestamp=9) | {"6.targets.json": listing}

        refused(device, Mirror(wrong), TrustError, match="6.targets.json")
        assert trust.refresh(device, Mirror(files), now=NOW).version == 9

    def test_a_version_that_is_not_the_one_in_its_name(self, device, signers):
        """Even when digests are not named, a snapshot must be the version asked for."""
        key = signers.key("freshness")
        files = signers.around(signers.files["2.targets.json"], snapshot=9, timestamp=9)
        files["9.snapshot.json"] = resigned(
            files["9.snapshot.json"], lambda s: s.update(version=8), key
        )
        files["timestamp.json"] = resigned(
            files["timestamp.json"],
            lambda s: s["meta"].update({"snapshot.json": {"version": 9}}),
            key,
        )

        refused(device, Mirror(files), TrustError, match="9.snapshot.json does not belong")

    @pytest.mark.parametrize("role", ROLES)
    def test_wrong_key(self, device, signers, role):
        """A key of another role signs nothing, not even the online one."""
        key = {"timestamp": "releases", "snapshot": "assignments", "targets": "freshness"}[
            role
        ]
        files = signed_by(signers, role, key)

        refused(device, Mirror(files), TrustError, match="0/1 keys")

    def test_endless_data(self, device, signers):
        """A file of more than its limit is refused however much follows."""
        for role in ROLES:
            signers.release(f"digits/{role}.ewb", role.encode())
            name = signers.name(role)
            endless = signers.files[name] + b" " * trust.limit_bytes(name)

            refused(
                device, Mirror(signers.files | {name: endless}), TrustError, match="too long"
            )
        refused(
            device,
            Mirror(signers.files | {"2.root.json": b"{" * 512_001}),
            TrustError,
            match="2.root.json is too long: 512001 bytes, 512000 allowed",
        )

    @pytest.mark.parametrize("role", ROLES)
    def test_missing_file(self, device, signers, role):
        """A server that withholds a file may be asked again later."""
        signers.release("digits/2.ewb", b"better")
        name = signers.name(role)
        files = {n: data for n, data in signers.files.items() if n != name}

        refused(device, Mirror(files), TransportError, match=name)

    @pytest.mark.parametrize("role", [*ROLES, "root"])
    def test_a_network_that_fails_half_way(self, device, signers, role):
        """What ``fetch`` raises comes out as it is, whenever it is raised."""
        signers.release("digits/2.ewb", b"better")
        last = "2.root.json" if role == "root" else signers.name(role)

        def fetch(name):
            if name == last:
                raise TransportError("cut")
            return signers.files.get(name)

        refused(device, fetch, TransportError, match="^cut$")

    def test_the_other_repository(self, device, signers):
        """A set of the assignments is refused where artefacts are expected."""
        files = signers.assign({"rollouts/stable.json": b"{}"}, version=9)

        refused(device, Mirror(files), TrustError, match="'assignments', not 'artefacts'")

    def test_a_root_of_the_other_repository(self, own, tmp_path):
        """A new root of the assignments, signed by the same root keys, is no root here.

        Otherwise the online key, which is named in it for targets, could sign releases.
        """
        folder = born(tmp_path / "artefacts", own.files["1.root.json"])
        own.rotate("assignments")
        other = own.assign({"digits/9.ewb": b"evil"}, version=9)

        refused(folder, Mirror(other), TrustError, match=r"2.root.json is signed for .*assign")

    def test_a_root_of_another_layout(self, own, tmp_path):
        """A root without consistent snapshots would let files of two sets meet."""
        folder = born(tmp_path / "artefacts", own.files["1.root.json"])
        forged = resigned(
            own.files["1.root.json"],
            lambda s: s.update(version=2, consistent_snapshot=False),
            own.key("root-1"),
            own.key("root-2"),
        )
        files = own.files | {"2.root.json": forged}

        refused(folder, Mirror(files), TrustError, match="asks for snapshot.json")

    @pytest.mark.parametrize("path", ["../digits.ewb", "/etc/passwd", "a//b", "a\\b", ""])
    def test_a_target_that_leaves_its_folder(self, device, signers, path):
        """A name that is not a plain relative path is refused, whoever signed it."""
        targets = resigned(
            signers.files["2.targets.json"],
            lambda s: (
                s["targets"].update({path: s["targets"]["digits/1.ewb"]}),
                s.update(version=5),
            ),
            signers.key("releases"),
        )
        files = signers.around(targets, snapshot=9, timestamp=9)

        refused(device, Mirror(files), TrustError, match="plain relative path")

    @SHARED
    @given(role=st.sampled_from(ROLES), place=st.integers(0, 1 << 20))
    def test_one_flipped_bit(self, device, ahead, role, place):
        """A flipped bit in any file is refused, or changes nothing that is said.

        It can change nothing: the case of a hexadecimal digit in a signature.
        """
        intact = (device / "current.json").read_bytes()
        files = ahead.files | {ahead.name(role): flipped(ahead.newest(role), place)}

        try:
            trusted = trust.refresh(device, Mirror(files), now=NOW)
        except TrustError:
            assert (device / "current.json").read_bytes() == intact
        else:
            honest = trust.read(ahead.files["1.root.json"], ahead.files)
            assert trusted == honest
            (device / "current.json").write_bytes(intact)

    @SHARED
    @given(data=st.data())
    @pytest.mark.slow
    def test_no_foreign_error_before_a_signature(self, device, ahead, data):
        """Whatever the bytes are, what comes out is a set or an error of our tree."""
        intact = (device / "current.json").read_bytes()
        names = [*(ahead.name(role) for role in ROLES), "2.root.json"]
        files = dict(ahead.files)
        for name in data.draw(st.sets(st.sampled_from(names), min_size=1)):
            files[name] = data.draw(garbage(files.get(name, files["1.root.json"])))

        try:
            trust.refresh(device, Mirror(files), now=NOW)
        except EdgewrightError:
            assert (device / "current.json").read_bytes() == intact
        (device / "current.json").write_bytes(intact)

    @SHARED
    @given(data=st.data())
    @pytest.mark.slow
    def test_no_foreign_error_behind_a_signature(self, device, ahead, data):
        """A signer who writes nonsense is told so by our tree, whichever file it is in."""
        intact = (device / "current.json").read_bytes()
        role = data.draw(st.sampled_from([*ROLES, "root"]))
        file = ahead.files["1.root.json"] if role == "root" else ahead.newest(role)
        parts = json.loads(file)["signed"]
        field = data.draw(st.sampled_from(sorted(parts)))
        nonsense = {field: data.draw(grafted(parts[field]))}
        files = signed_nonsense(ahead, role, nonsense)

        try:
            trust.refresh(device, Mirror(files), now=NOW)
        except EdgewrightError:
            assert (device / "current.json").read_bytes() == intact
        (device / "current.json").write_bytes(intact)


def with_expiry(signers, role):
    """Return files in which one role expires tomorrow, everything else as long as usual."""
    soon = {"expires": EXPIRES}
    freshness, files = signers.key("freshness"), dict(signers.files)
    if role == "root":
        roots = signers.key("root-1"), signers.key("root-2")
        forged = resigned(files["1.root.json"], lambda s: s.update(soon, version=2), *roots)
        return files | {"2.root.json": forged}
    if role == "targets":
        name = signers.name("targets")
        listing = resigned(
            files[name], lambda s: s.update(soon, version=9), signers.key("releases")
        )
        return signers.around(listing, snapshot=9, timestamp=9)
    files = signers.around(signers.newest("targets"), snapshot=9, timestamp=9)
    if role == "snapshot":
        changed = resigned(files["9.snapshot.json"], lambda s: s.update(soon), freshness)
        files["9.snapshot.json"] = changed
        meta = {"version": 9, "length": len(changed)}
        return files | {
            "timestamp.json": resigned(
                files["timestamp.json"],
                lambda s: s["meta"].update({"snapshot.json": meta}),
                freshness,
            )
        }
    changed = resigned(files["timestamp.json"], lambda s: s.update(soon), freshness)
    return files | {"timestamp.json": changed}


def signed_by(signers, role, key):
    """Return a new set in which the file of one role is signed by the wrong key."""
    wrong, files = signers.key(key), dict(signers.files)
    if role == "targets":
        name = signers.name("targets")
        forged = resigned(files[name], lambda s: s.update(version=9), wrong)
        return signers.around(forged, snapshot=9, timestamp=9)
    files = signers.around(signers.newest("targets"), snapshot=9, timestamp=9)
    if role == "timestamp":
        forged = resigned(files["timestamp.json"], lambda _: None, wrong)
        return files | {"timestamp.json": forged}
    forged = resigned(files["9.snapshot.json"], lambda _: None, wrong)
    named = {"snapshot.json": {"version": 9}}
    stamp = resigned(
        files["timestamp.json"], lambda s: s["meta"].update(named), signers.key("freshness")
    )
    return files | {"9.snapshot.json": forged, "timestamp.json": stamp}


def signed_nonsense(signers, role, nonsense):
    """Return files in which one role says nonsense under the right signatures."""

    def change(signed):
        signed.update(version=9)
        signed.update(nonsense)

    if role == "root":
        roots = signers.key("root-1"), signers.key("root-2")
        first = {"version": 2, **nonsense}
        forged = resigned(signers.files["1.root.json"], lambda s: s.update(first), *roots)
        return signers.files | {"2.root.json": forged}
    freshness = signers.key("freshness")
    if role == "targets":
        forged = resigned(signers.newest(role), change, signers.key("releases"))
        files = signers.around(signers.newest(role), snapshot=9, timestamp=9)
        named = {"targets.json": {"version": 9}}
        files["9.snapshot.json"] = resigned(
            files["9.snapshot.json"], lambda s: s["meta"].update(named), freshness
        )
        files["9.targets.json"] = forged
    else:
        files = signers.around(signers.newest("targets"), snapshot=9, timestamp=9)
        name = "9.snapshot.json" if role == "snapshot" else "timestamp.json"
        files[name] = resigned(files[name], change, freshness)
    if role != "timestamp":
        named_snapshot = {"snapshot.json": {"version": 9}}
        files["timestamp.json"] = resigned(
            files["timestamp.json"], lambda s: s["meta"].update(named_snapshot), freshness
        )
    return files


def grafted(value):
    """Return a strategy: something else in the place of ``value``, or of a part of it."""
    leaves = st.none() | st.booleans() | st.integers() | st.text(max_size=5)
    shapes = st.recursive(
        leaves,
        lambda inner: (
            st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3)
        ),
        max_leaves=5,
    )
    if not isinstance(value, dict) or not value:
        return shapes
    inside = st.sampled_from(sorted(value)).flatmap(
        lambda key: grafted(value[key]).map(lambda new: {**value, key: new})
    )
    return shapes | inside


def garbage(data):
    """Return a strategy: a file with bytes replaced, JSON of another shape, or anything."""
    parts = json.loads(data)
    changes = st.lists(
        st.tuples(st.integers(0, len(data) - 1), st.integers(0, 255)), min_size=1, max_size=30
    )

    def replaced(places):
        changed = bytearray(data)
        for place, value in places:
            changed[place] = value
        return bytes(changed)

    return st.one_of(
        changes.map(replaced),
        grafted(parts).map(lambda value: json.dumps(value).encode()),
        st.binary(max_size=200),
        st.just(b"[" * 100_000),
    )
