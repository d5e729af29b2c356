"""The ledger as its callers see it."""

from __future__ import annotations

import dataclasses
import multiprocessing
import sqlite3
from pathlib import Path

import apsw
import pytest
from support.ledger_rows import STATION, event, fill, record, stamp

from agent.ledger import (
    AckOutcome,
    Append,
    Ledger,
    LedgerBusy,
    LedgerDamaged,
    LedgerError,
    LedgerForeign,
    LedgerMissing,
)
from agent.ledger.open import WAL_PAGES
from agent.trust.chain import GENESIS


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "ledger.db"


@pytest.fixture
def ledger(path: Path):
    opened = Ledger.open(path, STATION)
    yield opened
    opened.close()


def test_what_was_appended_is_there_after_reopening(path: Path) -> None:
    first = Ledger.open(path, STATION)
    head = first.head()
    assert (head.seq, head.hash, len(head.chain)) == (0, GENESIS, 32)
    data = {"amount_minor": 5000, "hold": {"receipt": 231, "trace": None}, "tags": ["a", True]}
    rows = [event("s1", 1, **data), event("s1", 2, "stop", "capturing")]
    first.append(rows[0], evse=None, terminal="t1", open=True, card_mac=b"mac")
    signed = record(first, "s1", cost_minor=612)
    first.append(rows[1], evse="E1", terminal="t1", open=True, record=signed)
    first.close()

    again = Ledger.open(path, STATION, create=False)
    assert again.events("s1") == rows
    assert again.events("nobody") == []
    session = again.session("s1")
    assert session is not None
    assert (session.evse, session.state, session.open) == ("E1", "capturing", True)
    assert (session.started, session.updated) == (rows[0].stamp, rows[1].stamp)
    assert again.head() == dataclasses.replace(head, seq=1, hash=signed.hash)
    assert again.records(1, 10) == [signed] == again.record_of("s1") == again.unacked(10)
    assert again.card_mac("s1") == b"mac"
    again.forget_card("s1")
    assert again.card_mac("s1") is None
    again.meta_set("k", "v")
    assert (again.meta_get("k"), again.meta_get("station")) == ("v", None)
    again.close()
    again.close()


def test_with_the_end_of_a_session_its_card_is_forgotten(path: Path) -> None:
    ledger = Ledger.open(path, STATION)
    for name in ("s1", "s2"):
        ledger.append(event(name, 1), evse=None, terminal="t1", open=True, card_mac=b"mac")
    ledger.append(event("s1", 2, "stop"), evse=None, terminal="t1", open=False)
    assert (ledger.card_mac("s1"), ledger.card_mac("s2")) == (None, b"mac")
    assert ledger.session("s1") is not None
    ledger.close()


def test_names_of_an_event_are_short_ascii(ledger: Ledger) -> None:
    for wrong in (event("", 1), event("s", 1, "ü"), event("s", 1, "tap", "x" * 101)):
        with pytest.raises(LedgerError, match="LED-010"):
            ledger.append(wrong, evse=None, terminal="t", open=True)


def test_records_of_an_unknown_session_or_chain_are_none(ledger: Ledger) -> None:
    fill(ledger, 1)
    assert ledger.record_of("nobody") == []
    assert ledger.records(1, 10, "f" * 32) == []
    assert ledger.records(0, 10, ledger.head().chain) == ledger.records(1, 10)


def test_sessions_come_newest_first_and_open_ones_alone(ledger: Ledger) -> None:
    for number in range(1, 6):
        ledger.append(event(f"s{number}", 1), evse="E1", terminal="t1", open=number % 2 == 1)
    assert [row.id for row in ledger.sessions()] == ["s5", "s4", "s3", "s2", "s1"]
    assert [row.id for row in ledger.sessions(open_only=True, limit=2)] == ["s5", "s3"]


def test_the_file_has_the_pragmas_that_survive_a_cut(ledger: Ledger, path: Path) -> None:
    db = ledger._db
    got = {
        name: db.pragma(name)
        for name in (
            "page_size",
            "locking_mode",
            "synchronous",
            "journal_mode",
            "foreign_keys",
            "wal_autocheckpoint",
        )
    }
    assert got == {
        "page_size": 1024,
        "locking_mode": "exclusive",
        "synchronous": 3,
        "journal_mode": "wal",
        "foreign_keys": 1,
        "wal_autocheckpoint": WAL_PAGES,
    }
    assert path.stat().st_mode & 0o777 == 0o600
    assert Path(f"{path}-wal").stat().st_mode & 0o777 == 0o600
    assert not Path(f"{path}-shm").exists()


def test_a_disk_without_a_write_ahead_log_is_refused(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """SQLite says nothing when it cannot do WAL; :memory: is such a place."""
    with pytest.raises(LedgerError) as caught:
        Ledger.open(Path(":memory:"), STATION)
    assert caught.value.code == "LED-006"
    assert "journal_mode=wal" in caught.value.text


@pytest.mark.parametrize("n", [0, 2, 3])
def test_event_numbers_are_gap_free(ledger: Ledger, n: int) -> None:
    with pytest.raises(LedgerError, match="LED-010"):
        ledger.append(event("s1", n), evse=None, terminal="t1", open=True)
    assert ledger.sessions() == []
    ledger.append(event("s1", 1), evse=None, terminal="t1", open=True)
    with pytest.raises(LedgerError, match="expected 2"):
        ledger.append(event("s1", 1), evse=None, terminal="t1", open=True)
    with pytest.raises(LedgerError, match="is at terminal t1"):
        ledger.append(event("s1", 2), evse=None, terminal="t2", open=True)


@pytest.mark.parametrize(
    ("data", "code"),
    [
        ({"price": 0.49}, "LED-014"),
        ({"deep": [{"kwh": 1.0}]}, "LED-014"),
        ({"count": 2**53}, "LED-014"),
        ({"prix": b"x"}, "LED-014"),
        ({"größe": 1}, "LED-014"),
        ({"text": "x" * 20_000}, "LED-014"),
        ({"text": "card 4111 1111 1111 1111"}, "LED-012"),
        ({"text": ["a", {"b": "5500005555555559"}]}, "LED-012"),
        ({"number": 378282246310005}, "LED-012"),
    ],
)
def test_what_must_not_be_stored_is_refused(ledger: Ledger, data: dict, code: str) -> None:
    with pytest.raises(LedgerError) as caught:
        ledger.append(event("s1", 1, **data), evse=None, terminal="t1", open=True)
    assert caught.value.code == code
    assert "4111" not in str(caught.value)
    assert ledger.events("s1") == []


def test_a_record_must_continue_the_chain(ledger: Ledger) -> None:
    fill(ledger, 2)
    good = record(ledger, "s9")
    wrong = [
        dataclasses.replace(good, seq=good.seq + 1),
        dataclasses.replace(good, chain="0" * 32),
        dataclasses.replace(good, hash="0" * 64),
        dataclasses.replace(good, type="settlement"),
        dataclasses.replace(good, session_id="s1"),
        dataclasses.replace(good, jws=good.jws + "A"),
        dataclasses.replace(good, jws="garbage"),
        ledger.records(1, 1)[0],
    ]
    for row in wrong:
        with pytest.raises(LedgerError, match="LED-011"):
            ledger.append(event("s9", 1), evse=None, terminal="t1", open=True, record=row)
    assert (ledger.head().seq, ledger.events("s9")) == (2, [])
    ledger.append(event("s9", 1), evse=None, terminal="t1", open=True, record=good)
    assert ledger.head().hash == good.hash


def test_a_refused_step_of_a_group_does_not_stop_the_others(ledger: Ledger) -> None:
    steps = [
        Append(event("a", 1), None, "t1", True),
        Append(event("a", 3), None, "t1", True),
        Append(event("a", 2), None, "t1", True),
    ]
    outcomes = ledger.append_many(steps)
    assert [getattr(outcome, "code", None) for outcome in outcomes] == [None, "LED-010", None]
    assert [row.n for row in ledger.events("a")] == [1, 2]


def test_acks_mark_what_they_cover_and_nothing_else(ledger: Ledger) -> None:
    fill(ledger, 6)
    chain, hashes = ledger.head().chain, [row.hash for row in ledger.records(1, 10)]

    def waiting() -> list[int]:
        return [row.seq for row in ledger.unacked(10)]

    status = ledger.outbox_status()
    assert (status.unacked, status.acked_through, status.oldest) == (6, 0, stamp(1))
    done = ledger.apply_ack(chain, 4, hashes[3], [2], [(3, "schema")], asked_ms=10)
    assert (done.outcome, done.newly_acked, done.holes, done.parked) == (
        AckOutcome.APPLIED,
        2,
        (2,),
        ((3, "schema"),),
    )
    assert waiting() == [2, 5, 6]
    assert [row.seq for row in ledger.unacked(2)] == [2, 5]
    assert [row.seq for row in ledger.unacked(10, after_seq=2)] == [5, 6]
    status = ledger.outbox_status()
    assert (status.unacked, status.acked_through, status.parked) == (3, 4, 1)
    # An older ack that arrives late does not cancel the request for 2 nor un-mark anything.
    ledger.apply_ack(chain, 4, hashes[3], asked_ms=9)
    assert waiting() == [2, 5, 6]
    ledger.apply_ack(chain, 1, hashes[0], asked_ms=11)
    assert waiting() == [2, 5, 6]
    done = ledger.apply_ack(chain, 6, hashes[5], asked_ms=12)
    assert (done.newly_acked, waiting(), ledger.outbox_status().parked) == (3, [], 1)
    # The back end lost its disk: it may ask again for anything, also for what it once refused.
    done = ledger.apply_ack(chain, 0, GENESIS, [1, 3, 5, 99], asked_ms=13)
    assert (done.holes, waiting(), ledger.outbox_status().parked) == ((1, 3, 5), [1, 3, 5], 0)
    assert len(ledger.records(1, 10)) == 6


def test_an_ack_with_another_history_is_a_fork_and_marks_nothing(ledger: Ledger) -> None:
    fill(ledger, 3)
    chain = ledger.head().chain
    for through, digest in ((2, "ab" * 32), (4, ledger.head().hash), (0, "ab" * 32)):
        done = ledger.apply_ack(chain, through, digest, [], [(1, "x")], asked_ms=5)
        assert done.outcome is AckOutcome.FORK
    assert len(ledger.unacked(10)) == 3
    ledger.apply_ack(chain, 2, "ab" * 32, asked_ms=6)
    kept = ledger._db.execute("SELECT seq, theirs FROM fork ORDER BY id").fetchall()
    assert [seq for seq, _ in kept] == [2, 4, 0]
    unknown = ledger.apply_ack("f" * 32, 1, "ab" * 32)
    assert unknown.outcome is AckOutcome.UNKNOWN_CHAIN


def _hold(path: str, ready: object, leave: object) -> None:
    ledger = Ledger.open(path, STATION)
    ready.set()  # type: ignore[attr-defined]
    leave.wait(20)  # type: ignore[attr-defined]
    ledger.close()


def test_a_second_process_is_told_that_the_service_holds_it(path: Path) -> None:
    context = multiprocessing.get_context("spawn")
    ready, leave = context.Event(), context.Event()
    holder = context.Process(target=_hold, args=(str(path), ready, leave))
    holder.start()
    try:
        assert ready.wait(20)
        with pytest.raises(LedgerBusy, match=r"LED-001.*the service holds it"):
            Ledger.open(path, STATION, create=False)
    finally:
        leave.set()
        holder.join()
        holder.close()
    Ledger.open(path, STATION, create=False).close()


def test_missing_and_foreign_files_are_refused(path: Path, tmp_path: Path) -> None:
    with pytest.raises(LedgerMissing, match="LED-002"):
        Ledger.open(path, STATION, create=False)
    assert not path.exists()
    with pytest.raises(LedgerMissing, match="LED-002"):
        Ledger.open(tmp_path / "no" / "ledger.db", STATION)
    Ledger.open(path, STATION).close()
    with pytest.raises(LedgerForeign, match=r"LED-009.*DE\*ABC\*S1"):
        Ledger.open(path, "DE*ABC*S2")
    other = tmp_path / "other.db"
    with sqlite3.connect(other) as db:
        db.execute("CREATE TABLE t(a)")
    db.close()
    before = other.read_bytes()
    with pytest.raises(LedgerForeign, match="LED-004"):
        Ledger.open(other, STATION)
    assert other.read_bytes() == before
    whoever = Ledger.open(path, None, create=False)
    assert whoever.station == STATION
    whoever.close()
    with pytest.raises(LedgerMissing, match=r"LED-002.*holds nothing yet"):
        Ledger.open(tmp_path / "fresh.db", None)
    newer = apsw.Connection(str(path))
    newer.pragma("user_version", 99)
    newer.close()
    with pytest.raises(LedgerForeign, match="LED-005"):
        Ledger.open(path, STATION)


@pytest.mark.parametrize("with_log", [False, True], ids=["file", "file and log"])
def test_a_damaged_file_is_refused_and_not_touched(path: Path, with_log: bool) -> None:
    ledger = Ledger.open(path, STATION)
    fill(ledger, 40)
    if with_log:  # as after a kill: the log holds commits that the file does not
        ledger.checkpoint()
        fill(ledger, 3)
        log = Path(f"{path}-wal").read_bytes()
        content = bytearray(path.read_bytes())
        ledger.close()
    else:
        ledger.close()
        content = bytearray(path.read_bytes())
    for page in range(6, len(content) // 1024, 3):
        content[page * 1024 : page * 1024 + 300] = b"\xa5" * 300
    path.write_bytes(content)
    files = [path]
    if with_log:
        Path(f"{path}-wal").write_bytes(log)
        files.append(Path(f"{path}-wal"))
    before = [file.read_bytes() for file in files]
    with pytest.raises(LedgerDamaged, match=r"LED-003.*nothing was written"):
        Ledger.open(path, STATION)
    assert [file.read_bytes() for file in files] == before


def test_damage_that_nobody_would_touch_on_opening_is_found(path: Path) -> None:
    """One page of old events: the head and the sessions can be read all the same."""
    ledger = Ledger.open(path, STATION)
    fill(ledger, 200)
    ledger.checkpoint()
    pages = ledger._db.execute(
        "SELECT pageno FROM dbstat WHERE name = 'event' AND pagetype = 'leaf' ORDER BY pageno"
    ).fetchall()
    ledger.close()
    content = bytearray(path.read_bytes())
    (page,) = pages[3]
    content[(page - 1) * 1024 : page * 1024] = b"\xa5" * 1024
    path.write_bytes(content)
    with pytest.raises(LedgerDamaged, match="LED-003"):
        Ledger.open(path, STATION)
    assert path.read_bytes() == content


def test_a_newest_record_that_was_changed_is_seen_on_opening(path: Path) -> None:
    ledger = Ledger.open(path, STATION)
    fill(ledger, 3)
    ledger.close()
    db = apsw.Connection(str(path))
    db.execute("UPDATE record SET jws = replace(jws, 'e', 'f') WHERE id % 2 = 1")
    db.close()
    with pytest.raises(LedgerDamaged, match="record 3 is not what was stored"):
        Ledger.open(path, STATION)


def test_calls_after_close_say_so(path: Path) -> None:
    ledger = Ledger.open(path, STATION)
    ledger.close()
    with pytest.raises(LedgerError, match="LED-015"):
        ledger.head()


def test_checkpoint_empties_the_log(ledger: Ledger) -> None:
    fill(ledger, 20)
    assert ledger.checkpoint() == 0
