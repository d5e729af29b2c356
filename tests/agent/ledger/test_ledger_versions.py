"""A file that a newer version has migrated is still good for the one before: updates are rolled back."""

from __future__ import annotations

from pathlib import Path

import apsw
import pytest
from support.ledger_rows import STATION, event, fill, first_version, record

from agent.ledger import Ledger, LedgerForeign, schema
from agent.ledger import open as opening


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "ledger.db"


def numbers(path: Path) -> tuple[int, str | None]:
    """user_version and meta.schema as any SQLite sees them."""
    db = apsw.Connection(str(path))
    found = db.pragma("user_version"), db.execute("SELECT value FROM meta WHERE key='schema'").get
    db.close()
    return found


def test_the_first_versions_file_is_migrated_and_stays_readable_by_it(path: Path) -> None:
    first_version(path)
    ledger = Ledger.open(path, STATION)
    fill(ledger, 2)
    assert ledger.head().chain == "c" * 32
    ledger.close()
    assert numbers(path) == (1, str(len(schema.MIGRATIONS)))


def test_a_file_in_between_says_its_schema_by_its_version_alone(path: Path) -> None:
    first_version(path)
    db = apsw.Connection(str(path))
    db.execute(schema._UPKEEP)
    db.pragma("user_version", 2)
    db.close()
    Ledger.open(path, STATION).close()
    assert numbers(path) == (2, str(len(schema.MIGRATIONS)))


def test_every_statement_of_the_first_version_works_on_the_newest_file(path: Path) -> None:
    """As that version wrote them (2026-11, schema 1)."""
    ledger = Ledger.open(path, STATION)
    ledger.append(event("s1", 1), evse=None, terminal="t1", open=True)
    row = record(ledger, "s1")
    ledger.close()
    db = apsw.Connection(str(path))
    db.pragma("foreign_keys", 1)
    stamp = (1, 2, 1, "trusted")
    with db:
        db.execute(
            "INSERT INTO session(id, evse, terminal, state, open, last_n, started_utc_ms,"
            " started_boot_ms, started_boot, started_quality, updated_utc_ms, updated_boot_ms,"
            " updated_boot, updated_quality) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
            ("s2", "E1", "t1", "holding", 1, 1, *stamp, *stamp),
        )
        number = db.last_insert_rowid()
        key = 1 * schema.RECORDS_PER_CHAIN + 1
        db.execute(
            "INSERT INTO record(id, type, session, utc_ms, boot_ms, boot, quality, hash, jws)"
            " VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)",
            (key, "session", number, *stamp, bytes.fromhex(row.hash), row.jws),
        )
        db.execute(
            "INSERT INTO event(id, name, data, state, table_version, utc_ms, boot_ms, boot, quality,"
            " record) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
            (number * schema.EVENTS_PER_SESSION + 1, "tap", "{}", "holding", 1, *stamp, key),
        )
        db.execute(
            "UPDATE session SET evse = ?, state = ?, open = ?, last_n = ?, updated_utc_ms = ?,"
            " updated_boot_ms = ?, updated_boot = ?, updated_quality = ? WHERE n = ?",
            ("E1", "closed", 0, 2, *stamp, number),
        )
        db.execute("UPDATE chain SET acked_through = ? WHERE n = ?", (1, 1))
        db.execute(
            "INSERT INTO outstanding(record, asked_ms, code) VALUES (?, ?, ?) ON CONFLICT(record)"
            " DO UPDATE SET asked_ms = excluded.asked_ms, code = excluded.code",
            (key, 5, None),
        )
        db.execute("INSERT INTO card(session, mac) VALUES (?, ?)", (number, b"m"))
        db.execute("INSERT INTO chain(id) VALUES (?)", ("d" * 32,))
        db.execute("INSERT INTO boot(id) VALUES (?)", ("boot-9",))
    db.close()
    again = Ledger.open(path, STATION)
    assert [s.id for s in again.sessions(open_only=True)] == ["s1"]
    again.close()


def test_a_file_that_needs_more_than_this_version_knows_is_refused_and_left(path: Path) -> None:
    Ledger.open(path, STATION).close()
    newer = apsw.Connection(str(path))
    newer.pragma("user_version", len(schema.MIGRATIONS) + 1)
    newer.close()
    before = path.read_bytes()
    with pytest.raises(LedgerForeign, match=r"LED-005.*newer voltill"):
        Ledger.open(path, STATION)
    assert path.read_bytes() == before
    assert sorted(p.name for p in path.parent.iterdir()) in (
        ["ledger.db"],
        ["ledger.db", "ledger.db-wal"],
    )


def test_a_newer_file_that_says_it_is_readable_is_used_and_keeps_its_number(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """This version as the one before the next: the next only added a column and a table."""
    following = (*schema.MIGRATIONS, "ALTER TABLE session ADD COLUMN mood TEXT;")
    with monkeypatch.context() as later:
        later.setattr(opening, "MIGRATIONS", following)
        ledger = Ledger.open(path, STATION)
        ledger.append(event("s1", 1), evse=None, terminal="t1", open=True)
        ledger.close()
    rolled_back = Ledger.open(path, STATION)
    rolled_back.append(event("s1", 2), evse="E1", terminal="t1", open=True)
    rolled_back.append(
        event("s1", 3, state="closed"),
        evse="E1",
        terminal="t1",
        open=False,
        record=record(rolled_back, "s1"),
    )
    rolled_back.close()
    assert numbers(path) == (1, str(len(following)))
    with monkeypatch.context() as later:
        later.setattr(opening, "MIGRATIONS", following)
        again = Ledger.open(path, STATION)
        assert [row.n for row in again.events("s1")] == [1, 2, 3]
        again.close()


def test_columns_that_were_added_have_a_default() -> None:
    """Code that does not know them inserts rows without them."""
    for script in schema.MIGRATIONS[1:]:
        for line in script.splitlines():
            if "ADD COLUMN" in line and "NOT NULL" in line:
                assert "DEFAULT" in line, line
