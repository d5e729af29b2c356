"""Rows of `session`, `event` and `boot`. SQL only: the caller holds the transaction."""

from __future__ import annotations

from typing import TypeAlias

import apsw

from agent.ledger.rows import Append, EventRow, SessionRow
from agent.ledger.schema import EVENTS_PER_SESSION
from agent.trust import plain
from agent.values import Quality, Stamp

# utc_ms, boot_ms, number of the boot, quality: as the tables hold a stamp.
StampColumns: TypeAlias = tuple[int, int, int, str]

_SELECT = """
SELECT s.id, s.evse, s.terminal, s.state, s.open,
  s.started_utc_ms, s.started_boot_ms, b.id, s.started_quality,
  s.updated_utc_ms, s.updated_boot_ms, u.id, s.updated_quality, s.salvaged, s.last_n
FROM session s JOIN boot b ON b.n = s.started_boot JOIN boot u ON u.n = s.updated_boot
"""


def find(db: apsw.Connection, session_id: str) -> tuple[int | None, int, str | None]:
    """Number of the session, of its last event, and its terminal; (None, 0, None) when unknown."""
    row = db.execute(
        "SELECT n, last_n, terminal FROM session WHERE id = ?", (session_id,)
    ).fetchone()
    return (None, 0, None) if row is None else (row[0], row[1], row[2])


def rows(db: apsw.Connection, where: str, values: tuple[object, ...]) -> list[SessionRow]:
    """Sessions by a condition on `s`."""
    return [
        SessionRow(
            id=row[0],
            evse=row[1],
            terminal=row[2],
            state=row[3],
            open=bool(row[4]),
            started=Stamp(row[5], row[6], row[7], Quality(row[8])),
            updated=Stamp(row[9], row[10], row[11], Quality(row[12])),
            salvaged=bool(row[13]),
            last_n=row[14],
        )
        for row in db.execute(_SELECT + where, values)
    ]


def events(db: apsw.Connection, session_id: str) -> list[EventRow]:
    """All events of a session in order; empty when it is unknown."""
    number, last_n, _ = find(db, session_id)
    if number is None:
        return []
    base = number * EVENTS_PER_SESSION
    found = db.execute(
        "SELECT e.id - ?, e.name, e.data, e.state, e.table_version, e.utc_ms, e.boot_ms,"
        " b.id, e.quality FROM event e JOIN boot b ON b.n = e.boot"
        " WHERE e.id BETWEEN ? AND ? ORDER BY e.id",
        (base, base + 1, base + last_n),
    )
    return [
        EventRow(
            session_id,
            n,
            name,
            plain.loads_object(data),
            state,
            version,
            Stamp(utc, boot, boot_id, Quality(quality)),
        )
        for n, name, data, state, version, utc, boot, boot_id, quality in found
    ]


def put(db: apsw.Connection, step: Append, number: int | None, stamp: StampColumns) -> int:
    """Where the session stands after `step`; its number. A new one is made when `number` is None."""
    event = step.event
    if number is None:
        db.execute(
            "INSERT INTO session(id, evse, terminal, state, open, last_n, started_utc_ms,"
            " started_boot_ms, started_boot, started_quality, updated_utc_ms, updated_boot_ms,"
            " updated_boot, updated_quality) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
            (
                event.session_id,
                step.evse,
                step.terminal,
                event.state,
                int(step.open),
                event.n,
                *stamp,
                *stamp,
            ),
        )
        return db.last_insert_rowid()
    db.execute(
        "UPDATE session SET evse = ?, state = ?, last_n = ?, updated_utc_ms = ?,"
        " updated_boot_ms = ?, updated_boot = ?, updated_quality = ? WHERE n = ?",
        (step.evse, event.state, event.n, *stamp, number),
    )
    # By itself: naming `open` has the index of open sessions written, also when it stays what it is.
    db.execute(
        "UPDATE session SET open = ? WHERE n = ? AND open <> ?",
        (int(step.open), number, int(step.open)),
    )
    return number


def put_event(
    db: apsw.Connection,
    event: EventRow,
    data: str,
    number: int,
    stamp: StampColumns,
    record: int | None,
) -> None:
    """`record`: the key of the record that was made with this event."""
    db.execute(
        "INSERT INTO event(id, name, data, state, table_version, utc_ms, boot_ms, boot, quality,"
        " record) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
        (
            number * EVENTS_PER_SESSION + event.n,
            event.name,
            data,
            event.state,
            event.table_version,
            *stamp,
            record,
        ),
    )


def stamp_columns(db: apsw.Connection, stamp: Stamp) -> StampColumns:
    """The stamp as the tables hold it; its boot gets a number when it is new."""
    number = db.execute("SELECT n FROM boot WHERE id = ?", (stamp.boot_id,)).get
    if number is None:
        db.execute("INSERT INTO boot(id) VALUES (?)", (stamp.boot_id,))
        number = db.last_insert_rowid()
    return stamp.utc_ms, stamp.boot_ms, number, str(stamp.quality)
