"""The installer: a whole slot, or nothing; whatever the archive, the disk or the power do."""

import errno
import json
import os
import stat
import subprocess
import sys
from contextlib import suppress
from pathlib import Path

import pytest
from tests.sim import disk
from tests.sim.bundles import make_bare

from edgewright.bundle.archive import Archive, read_header, verify_slot
from edgewright.bundle.install import install
from edgewright.core import digest
from edgewright.core.errors import BundleError, EdgewrightError, StorageError
from edgewright.wire import local, version

WEIGHTS = bytes(range(256)) * 1024  # 256 KiB: more than the limits below allow


class Place:
    """A device's folders with one archive that has arrived."""

    def __init__(self, folder: Path) -> None:
        self.slots = folder / "slots"
        self.staging = folder / "staging"
        self.staging.mkdir(parents=True)
        self.archive = self.staging / "digits.part"
        self.digest = make_bare(
            self.archive, {"variants/v/weights.bin": WEIGHTS, "extra/notes.txt": b"hello"}
        )
        self.slot = self.slots / digest.hex_of(self.digest)

    def install(self) -> None:
        """Install in this process."""
        install(self.archive, expected=self.digest, slots=self.slots, staging=self.staging)

    def command(self, *more: str) -> list[str]:
        """Return the command that installs."""
        places = ["--slots", str(self.slots), "--staging", str(self.staging)]
        module = ["-m", "edgewright.bundle.install", str(self.archive)]
        return [sys.executable, *module, "--digest", self.digest, *places, *more]

    def left(self) -> list[str]:
        """Return everything there is, but for the archive and the sound slot."""
        found = [*self.slots.glob("*"), *self.staging.glob("*")]
        return sorted(p.name for p in found if p not in {self.archive, self.slot})


@pytest.fixture
def place(tmp_path):
    """Return a device's folders with one archive that has arrived."""
    return Place(tmp_path)


def test_a_slot_is_the_archive(place):
    """What was in the archive lies in the slot, read-only, and nothing else remains."""
    place.install()

    assert verify_slot(place.slot, place.digest).name == "bare"
    assert (place.slot / "variants/v/weights.bin").read_bytes() == WEIGHTS
    assert place.left() == []
    for folder, _, names in os.walk(place.slot):
        assert stat.S_IMODE(Path(folder).stat().st_mode) == 0o555
        assert {stat.S_IMODE(Path(folder, n).stat().st_mode) for n in names} <= {0o444}


def test_a_slot_that_is_there_is_left_alone(place):
    """Installing again needs no archive and touches no file of a sound slot."""
    place.install()
    before = {p: p.stat().st_mtime_ns for p in place.slot.rglob("*")}
    place.archive.unlink()

    place.install()

    assert {p: p.stat().st_mtime_ns for p in place.slot.rglob("*")} == before


@pytest.mark.parametrize("name", ["golden/out.bin", "manifest.json", "variants/v/weights.bin"])
def test_a_damaged_slot_is_installed_anew(place, name, capfd):
    """One flipped bit in a slot of the same digest is found and mended."""
    place.install()
    file = place.slot / name
    file.chmod(0o644)
    file.write_bytes(bytes([file.read_bytes()[0] ^ 1]) + file.read_bytes()[1:])

    place.install()

    verify_slot(place.slot, place.digest)
    assert place.left() == []
    assert "slot is damaged" in capfd.readouterr().err


def test_a_damaged_slot_stays_while_there_is_nothing_better(place):
    """A slot is removed only once what replaces it is verified."""
    place.install()
    (place.slot / "extra/notes.txt").chmod(0o644)
    (place.slot / "extra/notes.txt").write_bytes(b"hullo")
    place.archive.write_bytes(b"EWBUNDLE")

    with pytest.raises(BundleError):
        place.install()

    assert place.slot.is_dir()
    assert place.left() == []


def sample_positions(archive):
    """Return (name, byte) in the header, the manifest, the padding and every entry."""
    data = archive.read_bytes()
    header = read_header(data)
    yield "magic", 3
    yield "format", 8
    yield "reserved", 10
    yield "header length", 12
    yield "first of the manifest", 16
    yield "middle of the manifest", header.length // 2
    yield "last of the manifest", header.length - 1
    yield "first of the padding", header.length
    yield "last of the padding", header.body_offset - 1
    end = 0
    for entry in header.manifest.entries:
        if entry.offset > end:
            yield f"before {entry.path}", header.body_offset + entry.offset - 1
        for what, at in (("first", 0), ("middle", entry.length // 2), ("last", -1)):
            yield (
                f"{what} of {entry.path}",
                header.body_offset + entry.offset + at % entry.length,
            )
        end = entry.offset + entry.length


def test_one_flipped_bit_anywhere_is_refused(place):
    """Header, manifest, padding, each entry: nothing is installed and nothing is left."""
    sound = place.archive.read_bytes()
    seen = 0

    for what, position in sample_positions(place.archive):
        for bit in (0, 7):
            flipped = bytearray(sound)
            flipped[position] ^= 1 << bit
            place.archive.write_bytes(flipped)
            with pytest.raises(BundleError):
                place.install()
            assert not place.slot.exists(), what
            assert place.left() == [], what
            seen += 1

    assert seen >= 40


def test_another_bundle_is_refused(place, tmp_path):
    """A sound archive that is not the one asked for is refused by its digest."""
    other = make_bare(tmp_path / "other.ewb", {"extra/x": b""})

    with pytest.raises(BundleError, match=f"is {digest.short(place.digest)}, not"):
        install(place.archive, expected=other, slots=place.slots, staging=place.staging)

    assert place.left() == []


def test_what_an_earlier_attempt_left_is_removed(place):
    """A staging folder of the same digest, read-only or not, is no obstacle."""
    stale = place.staging / f"{digest.hex_of(place.digest)}.slot" / "variants"
    stale.mkdir(parents=True)
    (stale / "v").write_text("half")
    stale.chmod(0o555)

    place.install()

    assert place.left() == []


def test_no_call_that_fails_leaves_anything(place, scale):
    """Whichever call the disk refuses, there is a sound slot or none, and no rest."""
    with disk.watching(place.staging.parent, lambda *_: None) as calls:
        place.install()
    count = len(calls.names)

    for at in range(1, count + 1, 1 if scale == "full" else 3):
        fresh = Place(place.staging.parent / f"at-{at}")
        with disk.failing(fresh.staging.parent, at), suppress(EdgewrightError):
            fresh.install()
        if fresh.slot.exists():
            verify_slot(fresh.slot, fresh.digest)
        # A disk that refuses even the removal leaves what the next attempt removes.
        fresh.install()
        verify_slot(fresh.slot, fresh.digest)
        assert fresh.left() == []


@pytest.mark.slow
def test_power_cut_at_any_call(place, tmp_path, scale):
    """Killed at its n-th write, the installer leaves a whole slot or none, and goes on."""
    with disk.watching(place.staging.parent, lambda *_: None) as calls:
        place.install()
    count = len(calls.names)

    for at in range(1, count + 1, 1 if scale == "full" else max(1, count // 8)):
        fresh = Place(tmp_path / f"at-{at}")
        ended = disk.stopped(
            fresh.command()[1:], fresh.staging.parent, at, trace=tmp_path / "trace"
        )
        assert ended.killed, ended.output
        if fresh.slot.exists():
            verify_slot(fresh.slot, fresh.digest)
        fresh.install()
        verify_slot(fresh.slot, fresh.digest)


def run(command, *, file_blocks=None):
    """Run the installer; return its exit code and its report as the agent reads it."""
    if file_blocks is not None:
        command = ["sh", "-c", f'ulimit -f {file_blocks}; exec "$@"', "sh", *command]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
    (line,) = done.stdout.splitlines()
    for logged in done.stderr.splitlines():
        assert json.loads(logged)["process"] == "installer"
    return done.returncode, version.decode(local.InstallReport, line)


@pytest.mark.slow
def test_the_process_installs_and_says_so(place):
    """The line on standard output is an InstallReport; a second run is as good."""
    for _ in range(2):
        code, report = run(place.command())

        assert code == 0
        assert report.error is None
        assert report.release == "bare@1"
        assert Path(report.slot) == place.slot
        assert 5 << 20 < report.peak_bytes < 60 << 20
    verify_slot(place.slot, place.digest)


@pytest.mark.slow
def test_the_process_refuses_and_says_why(place):
    """A damaged archive is exit 1 with the error, and nothing is left."""
    data = bytearray(place.archive.read_bytes())
    data[-1] ^= 1
    place.archive.write_bytes(data)

    code, report = run(place.command())

    assert code == 1
    assert report.error.code == "bundle_error"
    assert report.slot == ""
    assert place.left() == []


@pytest.mark.slow
def test_a_file_that_may_not_grow_is_refused(place):
    """RLIMIT_FSIZE stands for a full disk: an error of ours, and nothing left."""
    code, report = run(place.command(), file_blocks=64)

    assert code == 1
    assert report.error.code == "storage_error"
    assert "Free some space" in report.error.hint
    assert not place.slot.exists()
    assert place.left() == []


@pytest.mark.slow
def test_a_memory_cap_that_is_too_small_is_an_error_of_ours(place):
    """A cap under what the interpreter needs is told, not a traceback."""
    code, report = run(place.command("--memory-mb", "1"))

    assert code == 1
    assert report.error.code == "storage_error"
    assert "more than 1 MiB" in report.error.message
    assert place.left() == []


@pytest.mark.slow
@pytest.mark.needs("mount")
def test_a_full_disk_is_refused(tmp_path):
    """On a file system with no room left nothing is installed and nothing remains."""
    folder = tmp_path / "small"
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", str(folder)]
    subprocess.run(mount, check=True)
    try:
        place = Place(folder)
        filling = 700 * 1024 - place.archive.stat().st_size
        (folder / "ballast").write_bytes(bytes(max(filling, 0)))
        free = os.statvfs(folder)
        (folder / "more").write_bytes(bytes(free.f_bavail * free.f_frsize - 100 * 1024))

        code, report = run(place.command())

        assert code == 1
        assert report.error.code == "storage_error"
        assert "No space left" in report.error.message
        assert place.left() == []
        (folder / "ballast").unlink()
        (folder / "more").unlink()
        assert run(place.command())[0] == 0
    finally:
        subprocess.run(["umount", str(folder)], check=True)


def test_an_archive_that_is_gone_is_our_error(place):
    """The courier may have cleaned up in the meantime."""
    place.archive.unlink()

    with pytest.raises(BundleError, match="cannot read"):
        place.install()

    assert place.left() == []


def test_staging_that_cannot_be_written_is_a_storage_error(place):
    """A file where the staging folder should be is told as the disk's refusal."""
    moved = place.staging.parent / "a.ewb"
    place.archive.rename(moved)
    place.staging.rmdir()
    place.staging.write_text("")

    with pytest.raises(StorageError, match="cannot unpack"):
        install(moved, expected=place.digest, slots=place.slots, staging=place.staging)

    with Archive(moved) as opened:
        opened.verify()


UNREADABLE = """
import errno, os, sys
from edgewright.bundle import install

def refuse(*_):
    raise OSError({number}, os.strerror({number}))

os.pread = refuse
sys.exit(install.main({argv!r}))
"""


@pytest.mark.parametrize(("number", "lost"), [(errno.EIO, True), (errno.EACCES, False)])
def test_an_archive_the_disk_will_not_give_is_told_as_such(place, number, lost):
    """No word against the bundle; only what the disk has lost is of no use any more."""
    program = UNREADABLE.format(number=number, argv=place.command()[3:])

    code, report = run([sys.executable, "-c", program])

    assert code == 1
    assert report.error.code == "storage_error"
    assert report.unreadable is lost
    assert place.left() == []


def test_a_slot_that_cannot_be_read_again_is_installed_anew(place, monkeypatch, capfd):
    """What the disk will not give back is of no more use than what it gives back wrong."""
    place.install()
    real, weights = Path.open, place.slot / "variants/v/weights.bin"
    before = weights.stat().st_ino

    def refuse(path, *args, **kwargs):
        if path == weights and weights.stat().st_ino == before:
            raise OSError(errno.EIO, os.strerror(errno.EIO))
        return real(path, *args, **kwargs)

    monkeypatch.setattr(Path, "open", refuse)

    place.install()

    assert verify_slot(place.slot, place.digest).name == "bare"
    assert "slot is damaged" in capfd.readouterr().err
    assert place.left() == []
