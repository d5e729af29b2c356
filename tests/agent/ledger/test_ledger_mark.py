"""A ledger whose log is gone or damaged has lost commits that were answered, and says so."""

from __future__ import annotations

import random
import shutil
import struct
from pathlib import Path

import apsw
import pytest
from support.ledger_rows import STATION, event, fill

from agent.ledger import Ledger, LedgerDamaged, mark, wal


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "ledger.db"


def log_of(path: Path) -> Path:
    return Path(f"{path}-wal")


def crash(ledger: Ledger) -> None:
    """The process is gone: the files stay as they are."""
    ledger._db.close()


def test_a_ledger_in_use_whose_log_is_gone_is_refused(path: Path) -> None:
    ledger = Ledger.open(path, STATION)
    fill(ledger, 3)
    ledger.checkpoint()
    fill(ledger, 2)
    crash(ledger)
    shutil.copy(log_of(path), kept := path.with_name("kept"))
    log_of(path).unlink()
    with pytest.raises(LedgerDamaged, match=r"LED-016.*ledger.db-wal is gone"):
        Ledger.open(path, STATION)
    shutil.copy(kept, log_of(path))
    again = Ledger.open(path, STATION)
    assert again.head().seq == 5
    again.close()


def test_also_right_after_the_first_start(path: Path) -> None:
    ledger = Ledger.open(path, STATION)
    fill(ledger, 2)
    crash(ledger)
    log_of(path).unlink()
    with pytest.raises(LedgerDamaged, match="LED-016"):
        Ledger.open(path, STATION)


def test_after_an_orderly_end_the_file_is_whole_without_its_log(path: Path) -> None:
    ledger = Ledger.open(path, STATION)
    fill(ledger, 3)
    ledger.close()
    log_of(path).unlink()
    again = Ledger.open(path, STATION)
    assert again.head().seq == 3
    again.close()


def test_a_version_without_marks_may_have_closed_it(path: Path) -> None:
    """It leaves the mark as it was, but takes the log with it and stands further."""
    ledger = Ledger.open(path, STATION)
    fill(ledger, 3)
    crash(ledger)
    before = Ledger.open(path, None, create=False)  # sets no marks, like the version before
    before.append(event("s9", 1), evse=None, terminal="t", open=True)
    before._fold_log()
    crash(before)
    log_of(path).unlink()
    again = Ledger.open(path, STATION)
    assert len(again.events("s9")) == 1
    again.close()


def test_a_destroyed_header_hides_every_commit_of_the_log(path: Path) -> None:
    ledger = Ledger.open(path, STATION)
    fill(ledger, 3)
    crash(ledger)
    log = bytearray(log_of(path).read_bytes())
    log[0:32] = bytes(32)
    log_of(path).write_bytes(log)
    with pytest.raises(LedgerDamaged, match=r"LED-016.*destroyed"):
        Ledger.open(path, STATION)


def test_a_header_that_was_torn_when_the_log_began_anew_hides_nothing(path: Path) -> None:
    """Everything behind it is in the file: the checkpoint came first."""
    ledger = Ledger.open(path, STATION)
    fill(ledger, 5)
    ledger.checkpoint()
    crash(ledger)
    log = bytearray(log_of(path).read_bytes())
    log[16:32] = random.Random(1).randbytes(16)
    log_of(path).write_bytes(log)
    again = Ledger.open(path, STATION)
    assert again.head().seq == 5
    again.close()


def test_a_frame_that_is_damaged_hides_what_was_written_on_top_of_it(path: Path) -> None:
    """SQLite itself says nothing: it believes the log up to that frame."""
    seed = random.randrange(2**32)
    rng = random.Random(seed)
    ledger = Ledger.open(path, STATION)
    fill(ledger, 6)
    crash(ledger)
    whole = log_of(path).read_bytes()
    header = wal.header_of(whole)
    assert header is not None
    frames = (len(whole) - wal.HEADER) // header.frame_size
    commits = [
        number
        for number in range(1, frames + 1)
        if struct.unpack_from(">I", whole, header.offset(number) + 4)[0]
    ]
    told = silent = 0
    for number in sorted(rng.sample(range(1, frames + 1), min(30, frames))):
        log = bytearray(whole)
        log[header.offset(number) + 40] ^= 0x10
        log_of(path).write_bytes(log)
        # The last commit may as well be one that was never answered.
        if number <= commits[-3]:
            with pytest.raises(LedgerDamaged, match=r"LED-016.*behind frame \d+ of"):
                Ledger.open(path, STATION)
            told += 1
        elif number > commits[-2]:
            opened = Ledger.open(path, None, create=False)
            crash(opened)
            silent += 1
    print(f"seed {seed}: {told} told, {silent} in the last commit")
    assert told > 0


def test_a_log_that_begins_anew_after_a_checkpoint_is_whole(path: Path) -> None:
    ledger = Ledger.open(path, STATION)
    fill(ledger, 30)
    ledger.checkpoint()
    fill(ledger, 1)  # overwrites the first frames; stale ones stand behind
    crash(ledger)
    again = Ledger.open(path, STATION)
    assert again.head().seq == 31
    again.close()


def test_reading_offline_changes_no_mark(path: Path) -> None:
    ledger = Ledger.open(path, STATION)
    fill(ledger, 2)
    crash(ledger)
    before = path.read_bytes(), log_of(path).read_bytes()
    reader = Ledger.open(path, None, create=False)
    assert reader.head().seq == 2
    reader.close()
    assert (path.read_bytes(), log_of(path).read_bytes()) == before


def test_the_mark_is_in_the_file_and_not_in_the_log_alone(path: Path) -> None:
    ledger = Ledger.open(path, STATION)
    fill(ledger, 2)
    ledger.checkpoint()
    assert mark.up_to_date(ledger._db)
    fill(ledger, 1)
    crash(ledger)
    log_of(path).unlink()
    db = apsw.Connection(str(path), flags=apsw.SQLITE_OPEN_READONLY)
    assert mark.read(db) == mark.position(db) != "0:0"
    db.close()
