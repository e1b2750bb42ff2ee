"""keys: signatures are RFC 8032's, and a key file nobody else may read."""

from contextlib import suppress

import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    NoEncryption,
    PrivateFormat,
)
from hypothesis import given
from hypothesis import strategies as st
from tests.sim.disk import failing

from edgewright.bundle.keys import PrivateKey, verify
from edgewright.core.errors import StorageError, TrustError

SEEDS = st.binary(min_size=32, max_size=32)


def from_seed(seed):
    """Return the key whose private half is ``seed``."""
    return PrivateKey(Ed25519PrivateKey.from_private_bytes(seed))


@given(seed=SEEDS, data=st.binary())
def test_what_is_signed_verifies(seed, data):
    """A signature verifies under its own public key, and is the same every time."""
    key = from_seed(seed)

    signature = key.sign(data)

    verify(key.public, signature, data)
    assert key.sign(data) == signature


@given(seed=SEEDS, data=st.binary(min_size=1), place=st.integers(0, 1 << 16))
def test_one_bit_is_enough_to_refuse(seed, data, place):
    """A flipped bit in the data, the signature or the public key is noticed."""
    key = from_seed(seed)
    good = [key.public, key.sign(data), data]

    for part in range(3):
        bad = list(good)
        changed = bytearray(good[part])
        changed[place // 8 % len(changed)] ^= 1 << place % 8
        bad[part] = bytes(changed)
        with pytest.raises(TrustError):
            verify(*bad)


def test_known_answer():
    """The first two test vectors of RFC 8032, section 7.1."""
    empty = from_seed(
        bytes.fromhex("9d61b19deffd5a60ba844af492ec2cc44449c5697b326919703bac031cae7f60")
    )
    one = from_seed(
        bytes.fromhex("4ccd089b28ff96da9db6c346ec114e0f5b8a319f35aba624da8cf6ed4fb8a6fb")
    )

    assert empty.public.hex() == (
        "d75a980182b10ab7d54bfed3c964073a0ee172f3daa62325af021a68f707511a"
    )
    assert empty.sign(b"").hex() == (
        "e5564300c360ac729086e2cc806e828a84877f1eb8e5d974d873e06522490155"
        "5fb8821590a33bacc61e39701cf9b46bd25bf5f0595bbe24655141438e7a100b"
    )
    assert one.sign(b"\x72").hex() == (
        "92a009a9f0d4cab8720e820b5f642540a2b27b5416503f8fb3762223ebdb69da"
        "085ac1e43e15996e458f3613d0f11d8c387b2eaeb4302aeeb00d291612bb0c00"
    )


@pytest.mark.parametrize("length", [0, 31, 33, 64])
def test_a_public_key_has_32_bytes(length):
    """Anything else is refused, with its length."""
    with pytest.raises(TrustError, match=f"{length} bytes are not"):
        verify(bytes(length), bytes(64), b"data")


@pytest.mark.parametrize("length", [0, 63, 65])
def test_a_signature_has_64_bytes(length):
    """Anything else does not verify."""
    with pytest.raises(TrustError, match="does not verify"):
        verify(from_seed(bytes(32)).public, bytes(length), b"data")


def test_a_key_is_stored_for_its_owner_alone(tmp_path):
    """File 0600 in a folder 0700, and what is loaded is the same key."""
    path = tmp_path / "identity" / "device.key"

    made = PrivateKey.create(path)

    assert path.stat().st_mode & 0o777 == 0o600
    assert path.parent.stat().st_mode & 0o777 == 0o700
    assert PrivateKey.load(path).public == made.public
    assert PrivateKey.load(path).sign(b"x") == made.sign(b"x")


def test_a_key_is_never_overwritten(tmp_path):
    """Creating a key where something lies already is refused and changes nothing."""
    path = tmp_path / "device.key"
    PrivateKey.create(path)
    before = path.read_bytes()

    with pytest.raises(TrustError, match="exists already"):
        PrivateKey.create(path)
    assert path.read_bytes() == before


def test_a_full_disk_leaves_no_half_key(tmp_path):
    """Whichever call fails, there is a whole key or none."""
    at = 0
    while True:
        at += 1
        path = tmp_path / str(at) / "device.key"
        with failing(tmp_path / str(at), at) as calls, suppress(StorageError):
            PrivateKey.create(path)
        if path.exists():
            PrivateKey.load(path)
        if len(calls.names) < at:
            break
    assert at > 4


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o660, 0o644, 0o601])
def test_a_key_others_may_use_is_refused(tmp_path, mode):
    """Any right for group or others is refused, and the hint mends it."""
    path = tmp_path / "releases.key"
    PrivateKey.create(path)
    path.chmod(mode)

    with pytest.raises(TrustError, match=f"{mode:04o}") as caught:
        PrivateKey.load(path)

    assert caught.value.hint == f"chmod 600 {path}"


def test_what_is_not_such_a_key_is_refused(tmp_path):
    """No file, a folder, other text, an encrypted key, another kind of key."""
    own = Ed25519PrivateKey.generate()
    locked = BestAvailableEncryption(b"word")
    curve = ec.generate_private_key(ec.SECP256R1())
    written = {
        "text.key": b"hello",
        "empty.key": b"",
        "locked.key": own.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, locked),
        "curve.key": curve.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()),
    }
    for name, data in written.items():
        (tmp_path / name).write_bytes(data)
        (tmp_path / name).chmod(0o600)
    (tmp_path / "folder.key").mkdir(mode=0o700)

    for name in (*written, "folder.key", "missing.key"):
        with pytest.raises(TrustError, match=name):
            PrivateKey.load(tmp_path / name)


def test_a_key_does_not_show_itself(tmp_path):
    """What is printed of a key is its public half."""
    path = tmp_path / "device.key"
    key = PrivateKey.create(path)
    secret = path.read_text().splitlines()[1]

    assert repr(key) == f"PrivateKey(public={key.public.hex()})"
    assert secret not in repr(key)
