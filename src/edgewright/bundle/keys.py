"""Ed25519 keys in files: one key, one file, readable by its owner alone.

A private key exists in its file (PKCS#8, PEM) and in the process that signs;
nothing here prints or returns it. Signatures are those of RFC 8032, so one
message under one key always has the same 64 bytes.
"""

from pathlib import Path

from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.ed25519 import (
    Ed25519PrivateKey,
    Ed25519PublicKey,
)
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
    load_pem_private_key,
)

from edgewright.core import durable
from edgewright.core.errors import StorageError, TrustError

_MODE = 0o600
_OTHERS = 0o077


class PrivateKey:
    """A key that signs.

    Attributes:
        public: The 32 raw bytes others verify with.
    """

    def __init__(self, key: Ed25519PrivateKey) -> None:
        self._key = key
        self.public = key.public_key().public_bytes(Encoding.Raw, PublicFormat.Raw)

    @classmethod
    def create(cls, path: Path) -> "PrivateKey":
        """Make a new key and store it at ``path`` with mode 0600, durably.

        A folder that has to be made for it is closed to others too.

        Raises:
            TrustError: There is something at ``path`` already.
            StorageError: The disk refused.
        """
        if path.exists():
            raise TrustError(
                f"{path} exists already", hint="A key is never overwritten; name another file."
            )
        key = Ed25519PrivateKey.generate()
        try:
            if not path.parent.is_dir():
                durable.make_folder(path.parent)
                path.parent.chmod(0o700)
        except OSError as error:
            raise StorageError(f"cannot make {path.parent}: {error.strerror}") from error
        pem = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
        durable.replace_file(path, pem, mode=_MODE)
        return cls(key)

    @classmethod
    def load(cls, path: Path) -> "PrivateKey":
        """Read the key stored at ``path``.

        Raises:
            TrustError: No such file, others may read it, or it holds no ed25519 key.
        """
        try:
            mode = path.stat().st_mode & 0o777
            if mode & _OTHERS:
                raise TrustError(
                    f"{path} has mode {mode:04o}, so others may use the key",
                    hint=f"chmod 600 {path}",
                )
            key = load_pem_private_key(path.read_bytes(), password=None)
        except FileNotFoundError as error:
            raise TrustError(f"there is no key {path}") from error
        except OSError as error:
            raise TrustError(f"cannot read the key {path}: {error.strerror}") from error
        except (ValueError, TypeError, UnsupportedAlgorithm) as error:
            raise TrustError(f"{path} holds no unencrypted private key") from error
        if not isinstance(key, Ed25519PrivateKey):
            raise TrustError(f"{path} holds another kind of key than ed25519")
        return cls(key)

    def sign(self, data: bytes) -> bytes:
        """Return the 64-byte signature of ``data``."""
        return self._key.sign(data)

    def __repr__(self) -> str:
        return f"PrivateKey(public={self.public.hex()})"


def verify(public: bytes, signature: bytes, data: bytes) -> None:
    """Return if ``signature`` is that of ``data`` under the raw key ``public``.

    Raises:
        TrustError: It is not, or ``public`` is not 32 bytes of an ed25519 key.
    """
    try:
        Ed25519PublicKey.from_public_bytes(public).verify(signature, data)
    except InvalidSignature as error:
        raise TrustError(f"the signature over {len(data)} bytes does not verify") from error
    except ValueError as error:
        raise TrustError(f"{len(public)} bytes are not an ed25519 public key") from error
