"""``make demo``: it runs, a second time too, and leaves no secret lying about."""

import base64
import os
import subprocess
import sys
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    load_pem_private_key,
)

DEMO = Path("examples/digits/demo.py")


@pytest.mark.slow
def test_the_demo_runs_and_keeps_its_secrets(tmp_path):
    """Every step succeeds, and each private key is in its own file and nowhere else."""
    folder = tmp_path / "demo"

    done = _demo(folder)

    assert done.returncode == 0, done.stdout + done.stderr
    for words in ("pack refused it", "kitchen refused it: golden", "kitchen reverted it: p95"):
        assert words in done.stdout
    private = [*folder.glob("keys/private/*.key"), *folder.glob("devices/*/identity/*.key")]
    assert len(private) == 4 + 3
    assert [path for path in private if path.stat().st_mode & 0o077] == []
    for secret in private:
        assert _holders(folder, secret) == [secret]


def _demo(folder: Path) -> subprocess.CompletedProcess[str]:
    env = {**os.environ, "DEMO_DIR": str(folder), "KEEP": ""}
    return subprocess.run(
        [sys.executable, str(DEMO)], env=env, capture_output=True, text=True, check=False
    )


def _holders(folder: Path, secret: Path) -> list[Path]:
    """Return every file below ``folder`` that holds a key, in any form it is written in."""
    key = load_pem_private_key(secret.read_bytes(), password=None)
    raw = key.private_bytes(Encoding.Raw, PrivateFormat.Raw, NoEncryption())
    der = key.private_bytes(Encoding.DER, PrivateFormat.PKCS8, NoEncryption())
    forms = [raw, raw.hex().encode(), base64.b64encode(raw)[:-1], base64.b64encode(der)[:-1]]
    files = [path for path in folder.rglob("*") if path.is_file()]
    return [p for p in files if any(form in p.read_bytes() for form in forms)]
