"""core.durable: whatever fails, stops or loses power, the old is there or the new."""

import errno
import os
import shutil
import subprocess
import sys
import textwrap
import zlib

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.sim import disk, power

from edgewright.core.durable import (
    Journal,
    open_database,
    remove,
    replace_file,
    replace_tree,
    sweep,
)
from edgewright.core.errors import BundleError, StorageError

OLD, NEW = b"old content", b"new content, and longer"
RECORDS = [{"n": 1, "what": "stage"}, {"n": 2, "what": "activate"}, {"n": 3}]


@pytest.fixture
def state(tmp_path):
    """A folder for state, with room beside it for what a test needs."""
    folder = tmp_path / "state"
    folder.mkdir()
    return folder


def _tree(folder, files):
    for name, content in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
    return folder


def _files(folder):
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file()
    }


def _journal_records(path):
    journal = Journal(path)
    journal.close()
    return journal.records


# --- replace_file


@pytest.mark.parametrize(
    "data", [NEW, b"", [NEW[:5], b"", NEW[5:]]], ids=["bytes", "empty", "blocks"]
)
def test_a_file_is_replaced_and_nothing_else_is_left(state, data):
    """The bytes are there, under the mode asked for, and no temporary file is."""
    path = state / "deep" / "er" / "pointer.json"
    replace_file(path, OLD)

    replace_file(path, data, mode=0o600)

    assert path.read_bytes() == b"".join([data] if isinstance(data, bytes) else data)
    assert path.stat().st_mode & 0o777 == 0o600
    assert [p.name for p in path.parent.iterdir()] == ["pointer.json"]


def test_the_mode_does_not_depend_on_the_umask(state):
    """A device whose services run with a strict umask gets the same files."""
    before = os.umask(0o077)
    try:
        replace_file(state / "f", NEW)
    finally:
        os.umask(before)

    assert (state / "f").stat().st_mode & 0o777 == 0o644


def test_a_secret_is_never_readable_by_others(state):
    """The file has its mode before its first byte, whatever an earlier write left."""
    seen = []
    (state / "a.key.new~").write_bytes(b"left by an interrupted write")
    (state / "a.key.new~").chmod(0o444)

    def before(_calls, name, arguments):
        if name == "write":
            seen.append(os.fstat(arguments[0]).st_mode & 0o777)

    with disk.watching(state, before):
        replace_file(state / "a.key", b"secret", mode=0o600)

    assert seen == [0o600]


def test_a_link_in_the_place_of_the_temporary_file_is_not_followed(state, tmp_path):
    """What lies elsewhere is not written to."""
    elsewhere = tmp_path / "elsewhere"
    elsewhere.write_bytes(OLD)
    (state / "a.new~").symlink_to(elsewhere)

    replace_file(state / "a", NEW)

    assert elsewhere.read_bytes() == OLD
    assert (state / "a").read_bytes() == NEW


@pytest.mark.parametrize("from_then_on", [False, True])
@pytest.mark.parametrize("error", [errno.ENOSPC, errno.EIO, errno.EROFS])
def test_whatever_call_fails_the_file_is_old_or_new(state, error, from_then_on):
    """For every call: StorageError, the old bytes (the new only after the rename)."""
    with disk.failing(state, 0) as calls:
        replace_file(state / "sub" / "f", NEW)
    shutil.rmtree(state / "sub")

    for at, name in enumerate(calls.names, 1):
        (state / "sub").mkdir()
        (state / "sub" / "f").write_bytes(OLD)
        failed = False
        with disk.failing(state, at, error=error, from_then_on=from_then_on) as tried:
            try:
                replace_file(state / "sub" / "f", NEW)
            except StorageError as refused:
                failed = True
                assert bool(refused.hint) == (error == errno.ENOSPC)  # noqa: PT017  the error of each turn
        renamed = "replace" in tried.names[: at - 1]
        assert (state / "sub" / "f").read_bytes() == (NEW if renamed or not failed else OLD), (
            name
        )
        sweep(state / "sub")
        assert _files(state) == {"sub/f": (state / "sub" / "f").read_bytes()}
        shutil.rmtree(state / "sub")


def test_what_stands_in_the_way_is_a_storage_error(state):
    """A file where a folder must be, and a folder where the file must be."""
    (state / "file").write_bytes(OLD)
    (state / "folder" / "full").mkdir(parents=True)

    with pytest.raises(StorageError, match="cannot write x"):
        replace_file(state / "file" / "x", NEW)
    with pytest.raises(StorageError, match="cannot write folder"):
        replace_file(state / "folder", NEW)

    assert _files(state) == {"file": OLD}


def test_blocks_that_end_in_an_error_change_nothing(state):
    """An error of ours among the blocks passes through; the old bytes stay, alone."""
    replace_file(state / "f", OLD)

    def blocks():
        yield NEW
        raise BundleError("damaged")

    with pytest.raises(BundleError, match="damaged"):
        replace_file(state / "f", blocks())

    assert _files(state) == {"f": OLD}


@pytest.mark.slow
def test_a_process_killed_at_any_call_leaves_old_or_new(state, tmp_path):
    """For every n: kill at call n, restart, sweep; one whole file and nothing else."""
    program = [
        "-c",
        _program("replace_file(Path(sys.argv[1]), b'new content, and longer')"),
        str(state / "f"),
    ]
    seen = set()

    for at in range(1, 20):
        (state / "f").write_bytes(OLD)
        ended = disk.stopped(program, state, at, trace=tmp_path / "trace")
        assert ended.killed or ended.returncode == 0, ended.output
        sweep(state)
        files = _files(state)
        assert files in ({"f": OLD}, {"f": NEW})
        seen.add(files["f"])
        if not ended.killed:
            break

    assert not ended.killed
    assert seen == {OLD, NEW}


def test_a_power_cut_at_any_call_leaves_old_or_new(state):
    """For every call and every state of the disk after it; once it returns, only the new."""
    (state / "f").write_bytes(OLD)
    found = []

    with power.recording(state, lambda d: found.extend(d.states())) as recorded:
        replace_file(state / "f", NEW)

    assert {one["f"] for one in found} == {OLD, NEW}
    assert recorded.states() == [{"f": NEW}]


def test_folders_made_on_the_way_are_durable_too(state):
    """A file in folders that did not exist is there after a power cut."""
    with power.recording(state, lambda _: None) as recorded:
        replace_file(state / "a" / "b" / "f", NEW)

    assert recorded.states() == [{"a": None, "a/b": None, "a/b/f": NEW}]


@pytest.mark.parametrize("forgotten", ["file", "folder"])
def test_the_power_model_sees_a_missing_sync(state, forgotten):
    """The model refuses the two mistakes it is there for (a check of the check)."""
    (state / "f").write_bytes(OLD)

    with power.recording(state, lambda _: None) as recorded:
        descriptor = os.open(state / "t", os.O_WRONLY | os.O_CREAT)
        os.write(descriptor, NEW)
        if forgotten != "file":
            os.fsync(descriptor)
        os.close(descriptor)
        (state / "t").replace(state / "f")
        if forgotten != "folder":
            folder = os.open(state, os.O_RDONLY)
            os.fsync(folder)
            os.close(folder)

    contents = [one["f"] for one in recorded.states()]
    if forgotten == "folder":
        assert OLD in contents
    else:
        assert b"" in contents


def test_a_full_disk_is_said_with_what_to_do(state):
    """The kernel's own refusal half way (a file size limit) leaves the old bytes."""
    (state / "f").write_bytes(OLD)
    code = _program(
        """
        resource.setrlimit(resource.RLIMIT_FSIZE, (10_000, 10_000))
        try:
            replace_file(Path(sys.argv[1]), bytes(30_000))
        except StorageError as error:
            print(error.hint)
        """
    )

    ran = subprocess.run(
        [sys.executable, "-c", code, str(state / "f")],
        capture_output=True,
        text=True,
        check=True,
    )

    assert ran.stdout.strip() == "Free some space and try again."
    assert _files(state) == {"f": OLD}


# --- replace_tree, remove, sweep


def test_a_tree_moves_whole_and_keeps_its_modes(state):
    """Also one that is read-only, which is what a slot is."""
    source = _tree(state / "staging" / "s", {"manifest.json": OLD, "variants/a/model": NEW})
    (source / "variants" / "a").chmod(0o555)
    source.chmod(0o555)

    replace_tree(source, state / "slots" / "abc")

    assert _files(state / "slots" / "abc") == {"manifest.json": OLD, "variants/a/model": NEW}
    assert (state / "slots" / "abc").stat().st_mode & 0o777 == 0o555
    assert not source.exists()


@pytest.mark.parametrize("owner", ["this user", "nobody"])
def test_a_read_only_tree_moves_and_goes_for_any_owner(state, owner):
    """Root may do what others may not, so the test also runs as someone else."""
    if owner == "nobody" and os.geteuid() != 0:
        owner = "this user"  # which is then not root, and so says the same
    state.chmod(0o777)
    code = _program(
        """
        if sys.argv[1] == "nobody":
            os.setuid(65534)
        source = Path("staging/s/deep")
        source.mkdir(parents=True)
        (source / "f").write_bytes(b"x")
        source.chmod(0o555)
        source.parent.chmod(0o555)
        replace_tree(Path("staging/s"), Path("slots/abc"))
        print(sorted(str(p) for p in Path().rglob("f")))
        remove(Path("slots/abc"))
        print(sorted(str(p) for p in Path("slots").iterdir()))
        """
    )

    ran = subprocess.run(
        [sys.executable, "-c", code, owner],
        cwd=state,
        capture_output=True,
        text=True,
        check=False,
    )

    assert (ran.stdout, ran.stderr) == ("['slots/abc/deep/f']\n[]\n", "")


def test_a_tree_is_never_replaced(state):
    """A target that exists is refused and stays."""
    _tree(state / "new", {"f": NEW})
    _tree(state / "there", {"f": OLD})

    with pytest.raises(StorageError, match="there exists already"):
        replace_tree(state / "new", state / "there")

    assert _files(state) == {"new/f": NEW, "there/f": OLD}


def test_a_tree_that_is_not_there_is_refused(state):
    """Nothing appears under the target's name."""
    with pytest.raises(StorageError):
        replace_tree(state / "nothing", state / "slots" / "abc")

    assert not (state / "slots" / "abc").exists()


def test_whatever_call_fails_a_tree_is_whole_in_one_place(state):
    """For every call: StorageError or done, and all files under one of the two names."""
    files = {"manifest.json": OLD, "variants/a/model": NEW}
    source = _tree(state / "staging" / "s", files)
    with disk.failing(state, 0) as calls:
        replace_tree(source, state / "slots" / "abc")
    shutil.rmtree(state / "slots")

    for at in range(1, len(calls.names) + 1):
        _tree(source, files)
        with disk.failing(state, at, error=errno.EIO), pytest.raises(StorageError):
            replace_tree(source, state / "slots" / "abc")
        places = [p for p in (source, state / "slots" / "abc") if p.exists()]
        assert [_files(place) for place in places] == [files]
        shutil.rmtree(state / "staging")
        shutil.rmtree(state / "slots", ignore_errors=True)


def test_a_power_cut_never_shows_half_a_tree(state):
    """For every call: under the target's name all files, synced, or nothing."""
    files = {"manifest.json": OLD, "variants/a/model": NEW}
    (state / "staging").mkdir()
    (state / "slots").mkdir()
    found = []

    with power.recording(state, lambda d: found.extend(d.states())) as recorded:
        (state / "staging" / "s" / "variants" / "a").mkdir(parents=True)
        for name, content in files.items():
            descriptor = os.open(state / "staging" / "s" / name, os.O_WRONLY | os.O_CREAT)
            os.write(descriptor, content)
            os.close(descriptor)
        found.clear()  # how staging came about is not what is promised
        replace_tree(state / "staging" / "s", state / "slots" / "abc")

    whole = {f"slots/abc/{name}": content for name, content in files.items()}
    for one in found:
        moved = {k: v for k, v in one.items() if k.startswith("slots/abc") and v is not None}
        assert moved == whole or "slots/abc" not in one
    assert len(recorded.states()) == 1
    assert whole.items() <= recorded.states()[0].items()


@pytest.mark.parametrize("kind", ["file", "link", "folder", "nothing"])
def test_what_is_removed_is_gone(state, tmp_path, kind):
    """A file, a link (not what it names), a read-only tree; nothing is fine too."""
    kept = _tree(tmp_path / "kept", {"f": OLD})
    path = state / "it"
    if kind == "file":
        path.write_bytes(OLD)
    elif kind == "link":
        path.symlink_to(kept)
    elif kind == "folder":
        _tree(path, {"a/b": OLD})
        (path / "a").chmod(0o555)
        path.chmod(0o555)

    remove(path)

    assert list(state.iterdir()) == []
    assert _files(kept) == {"f": OLD}


def test_a_folder_is_removed_over_what_an_earlier_removal_left(state):
    """A removal interrupted before, its rest read-only, does not stop the next."""
    _tree(state / "slot", {"f": NEW})
    left = _tree(state / "slot.new~", {"a/f": OLD})
    (left / "a").chmod(0o555)
    left.chmod(0o555)

    remove(state / "slot")

    assert list(state.iterdir()) == []


def test_whatever_call_fails_a_folder_is_there_whole_or_not_at_all(state):
    """For every call of a removal: whole under its name, or gone and swept up."""
    files = {"a": OLD, "b/c": NEW}
    _tree(state / "slot", files)
    with disk.failing(state, 0) as calls:
        remove(state / "slot")

    for at in range(1, len(calls.names) + 1):
        _tree(state / "slot", files)
        with disk.failing(state, at, error=errno.EIO), pytest.raises(StorageError):
            remove(state / "slot")
        if (state / "slot").exists():
            assert _files(state / "slot") == files
        sweep(state)
        assert {p.name for p in state.iterdir()} <= {"slot"}
        shutil.rmtree(state / "slot", ignore_errors=True)


def test_sweep_takes_only_what_was_left_behind(state):
    """Temporary files and folders go, named; all else stays."""
    _tree(state, {"kept": OLD, "a.new~": NEW, "b.new~/c": NEW, "d/e.new~": NEW})

    swept = sweep(state)

    assert swept == ["a.new~", "b.new~"]
    assert _files(state) == {"kept": OLD, "d/e.new~": NEW}
    assert sweep(state / "no such folder") == []


def test_a_sweep_the_disk_refuses_is_a_storage_error(state):
    """No foreign error leaves this module."""
    _tree(state, {"a.new~": NEW})

    with disk.failing(state, 1, error=errno.EROFS), pytest.raises(StorageError):
        sweep(state)


# --- Journal


def test_records_come_back_in_order_and_as_they_were_written(state):
    """What ``records`` says is what reading the file again says."""
    journal = Journal(state / "journal.log")
    for record in [*RECORDS, {"pair": (1, 2)}]:
        journal.append(record)
    journal.close()
    journal.close()

    assert journal.records == [*RECORDS, {"pair": [1, 2]}]
    assert _journal_records(state / "journal.log") == journal.records


def test_a_journal_torn_at_any_byte_keeps_every_whole_record(state):
    """Cut the file at each length: the records before the cut, and it can go on."""
    whole = _journal_of(state / "whole", RECORDS)
    ends = [i + 1 for i, byte in enumerate(whole) if byte == ord("\n")]

    for length in range(len(whole) + 1):
        path = state / "torn"
        path.write_bytes(whole[:length])
        count = sum(end <= length for end in ends)
        journal = Journal(path)
        assert journal.records == RECORDS[:count]
        journal.append({"n": 9})
        journal.close()
        assert _journal_records(path) == [*RECORDS[:count], {"n": 9}]
        path.unlink()


@given(data=st.data())
def test_damage_before_the_last_record_is_refused(tmp_path_factory, data):
    """One flipped bit anywhere before the last line is never read over."""
    state = tmp_path_factory.mktemp("journal")
    whole = bytearray(_journal_of(state / "journal.log", RECORDS))
    last = whole.rstrip(b"\n").rfind(b"\n") + 1
    at = data.draw(st.integers(0, last - 2), label="byte")
    whole[at] ^= 1 << data.draw(st.integers(0, 7), label="bit")
    (state / "journal.log").write_bytes(whole)

    with pytest.raises(StorageError, match="is damaged at byte") as refused:
        Journal(state / "journal.log")

    assert "Restore it" in refused.value.hint


@pytest.mark.parametrize("body", [b"not json", b"[1]", b"\xff"])
def test_a_line_with_a_right_checksum_and_no_record_is_damage(state, body):
    """The checksum does not make a record of what is none."""
    line = b"%08x %s\n" % (zlib.crc32(body), body)
    good = _journal_of(state / "good", RECORDS)
    (state / "journal.log").write_bytes(line + good)

    with pytest.raises(StorageError, match="damaged at byte 0"):
        Journal(state / "journal.log")


@pytest.mark.parametrize("error", [errno.ENOSPC, errno.EIO])
@pytest.mark.parametrize("from_then_on", [False, True])
def test_an_append_the_disk_refuses_leaves_no_trace(state, error, from_then_on):
    """For every call: StorageError, the records before; the next append succeeds."""
    path = state / "journal.log"
    for at in (1, 2, 3, 4):
        journal = Journal(path)
        journal.append(RECORDS[0])
        with disk.failing(state, at, error=error, from_then_on=from_then_on) as calls:
            try:
                journal.append(RECORDS[1])
                refused = False
            except StorageError:
                refused = True
        assert refused == (len(calls.names) >= at)
        assert journal.records == RECORDS[: 1 if refused else 2]
        if not from_then_on:
            assert _journal_records(path) == journal.records
        journal.append(RECORDS[2])
        journal.close()
        assert _journal_records(path) == journal.records
        path.unlink()


def test_a_journal_on_a_full_disk_goes_on_when_there_is_room_again(state):
    """The kernel takes part of a line; nothing of it is left, then or at exit."""
    code = _program(
        """
        path = Path(sys.argv[1])
        journal = Journal(path)
        journal.append({"n": 1})
        limit = path.stat().st_size + 20
        resource.setrlimit(resource.RLIMIT_FSIZE, (limit, resource.RLIM_INFINITY))
        try:
            journal.append({"n": 2, "long": "x" * 1000})
        except StorageError:
            print("refused")
        resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY,) * 2)
        journal.append({"n": 3})
        """
    )

    ran = subprocess.run(
        [sys.executable, "-c", code, str(state / "j")],
        capture_output=True,
        text=True,
        check=True,
    )

    assert ran.stdout == "refused\n"
    assert _journal_records(state / "j") == [{"n": 1}, {"n": 3}]


def test_a_power_cut_never_loses_an_appended_record(state, tmp_path):
    """For every call: the durable records, in order, and perhaps the one being written."""
    path = state / "journal.log"
    appended, found = [], []

    def look(recorded):
        found.extend((len(appended), one) for one in recorded.states())

    with power.recording(state, look):
        journal = Journal(path)
        for record in RECORDS:
            journal.append(record)
            appended.append(record)
        journal.close()

    for number, (count, one) in enumerate(found):
        power.lay_out(one, tmp_path / str(number))
        records = _journal_records(tmp_path / str(number) / "journal.log")
        assert records in (RECORDS[:count], RECORDS[: count + 1])


@pytest.mark.slow
def test_a_process_killed_while_it_appends_keeps_what_was_appended(state, tmp_path):
    """For every n: kill at call n; a prefix of the records is there, none torn."""
    code = _program(
        """
        journal = Journal(Path(sys.argv[1]))
        for n in range(3):
            journal.append({"n": n})
            print(n, flush=True)
        """
    )

    for at in range(1, 30):
        ended = disk.stopped(["-c", code, str(state / "j")], state, at, trace=tmp_path / "t")
        assert ended.killed or ended.returncode == 0, ended.output
        told = len(ended.output.split())
        if (state / "j").exists():
            records = _journal_records(state / "j")
            assert [r["n"] for r in records] in (list(range(told)), list(range(told + 1)))
            (state / "j").unlink()
        else:
            assert told == 0
        if not ended.killed:
            break

    assert not ended.killed


def test_a_journal_that_cannot_be_opened_is_a_storage_error(state):
    """A folder in its place."""
    (state / "journal.log").mkdir()

    with pytest.raises(StorageError):
        Journal(state / "journal.log")


# --- open_database


def test_a_database_is_opened_to_be_durable(state):
    """WAL, FULL and foreign keys are really set, and a commit is there afterwards."""
    database = open_database(state / "new" / "spool.db")
    pragmas = {
        name: database.execute(f"PRAGMA {name}").fetchone()[0]
        for name in ("journal_mode", "synchronous", "foreign_keys")
    }
    database.execute("CREATE TABLE t (n)")
    database.execute("BEGIN IMMEDIATE")
    database.execute("INSERT INTO t VALUES (7)")
    database.execute("COMMIT")
    database.close()

    again = open_database(state / "new" / "spool.db")
    rows = again.execute("SELECT n FROM t").fetchall()
    again.close()

    assert pragmas == {"journal_mode": "wal", "synchronous": 2, "foreign_keys": 1}
    assert rows == [(7,)]


@pytest.mark.parametrize("kind", ["folder", "not a database", "below a file"])
def test_what_is_no_database_is_refused(state, kind):
    """As a StorageError, without a connection left open."""
    path = state / "spool.db"
    if kind == "folder":
        path.mkdir()
    else:
        path.write_bytes(b"this is not a database, and long enough to say so" * 20)
    if kind == "below a file":
        path /= "spool.db"

    with pytest.raises(StorageError, match=r"cannot write spool\.db"):
        open_database(path)


def test_sqlite_is_not_loaded_by_those_who_open_no_database():
    """It costs memory in every process that only reads."""
    code = "import sys, edgewright.core.durable; print('sqlite3' in sys.modules)"

    ran = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    )

    assert ran.stdout.strip() == "False"


def _program(body):
    head = (
        "import os, resource, sys\n"
        "from pathlib import Path\n"
        "from edgewright.core.durable import Journal, remove, replace_file, replace_tree\n"
        "from edgewright.core.errors import StorageError\n"
    )
    return head + textwrap.dedent(body)


def _journal_of(path, records):
    journal = Journal(path)
    for record in records:
        journal.append(record)
    journal.close()
    return path.read_bytes()
