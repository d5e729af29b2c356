"""A large ledger looked through while the station runs, a slice at a time: what the check at the start
leaves out.

Every row is read, so a page that SQLite cannot follow is met; every record is hashed again; the index of the
sessions is compared with its table. SQL only: what SQLite raises is the caller's to judge."""

from __future__ import annotations

from collections.abc import Iterator

import apsw

from agent.ledger.schema import RECORDS_PER_CHAIN
from agent.trust.chain import record_hash

# Rows of one slice: some milliseconds, so that a money commit hardly waits.
EVENTS, SESSIONS, RECORDS = 2_000, 1_000, 100


def slices(db: apsw.Connection) -> Iterator[str]:
    """Yields "" after each slice, or what is wrong; ends when everything was seen. Rows that are added
    meanwhile need not be looked at: they were written a moment ago."""
    yield from _read(db, "event", "sum(length(name) + length(data) + length(state))", EVENTS)
    yield from _records(db)
    yield from _read(db, "session", "sum(length(id) + length(state) + last_n)", SESSIONS, key="n")
    yield from _index(db)


def _read(db: apsw.Connection, table: str, what: str, count: int, key: str = "id") -> Iterator[str]:
    last = db.execute(f"SELECT max({key}) FROM {table}").get or 0
    at = 0
    while at < last:
        at, _ = db.execute(
            f"SELECT max({key}), {what} FROM (SELECT * FROM {table} WHERE {key} > ? ORDER BY {key} LIMIT ?)",
            (at, count),
        ).get
        if at is None:
            return
        yield ""


def _records(db: apsw.Connection) -> Iterator[str]:
    last = db.execute("SELECT max(id) FROM record").get or 0
    at = 0
    while at < last:
        found: list[tuple[int, bytes, str]] = db.execute(
            "SELECT id, hash, jws FROM record WHERE id > ? ORDER BY id LIMIT ?", (at, RECORDS)
        ).fetchall()  # type: ignore[assignment]  # the columns' types
        if not found:
            return
        for key, digest, text in found:
            if record_hash(text) != digest.hex():
                yield f"record {key % RECORDS_PER_CHAIN} is not what was stored"
            at = key
        yield ""


def _index(db: apsw.Connection) -> Iterator[str]:
    """Every session that the index by id names is there, and is the one that it names."""
    at = ""
    while True:
        named: list[tuple[str, int]] = db.execute(
            "SELECT id, n FROM session WHERE id > ? ORDER BY id LIMIT ?", (at, SESSIONS)
        ).fetchall()  # type: ignore[assignment]  # the columns' types
        if not named:
            return
        for name, number in named:
            if db.execute("SELECT id FROM session WHERE n = ?", (number,)).get != name:
                yield f"the index names session {name}, the table does not"
        at = named[-1][0]
        yield ""
