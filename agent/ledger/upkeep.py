"""Rows of `upkeep`. SQL only: the caller holds the transaction."""

from __future__ import annotations

from itertools import groupby

import apsw

from agent.ledger.rows import UpkeepOrder, UpkeepRow
from agent.ledger.sessions import StampColumns
from agent.trust import plain
from agent.values import Quality, Stamp


def put(
    db: apsw.Connection, row: UpkeepRow, data: str, intent: int | None, stamp: StampColumns
) -> int:
    """Add a step; the number of its order. `intent`: the order it belongs to, None for a new one."""
    db.execute(
        "INSERT INTO upkeep(intent, terminal, task, step, data, utc_ms, boot_ms, boot, quality)"
        " VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)",
        (intent, row.terminal, row.task, row.step, data, *stamp),
    )
    return db.last_insert_rowid() if intent is None else intent


def is_order(db: apsw.Connection, number: int, row: UpkeepRow) -> bool:
    """Whether `number` is the intent of an order of the same task at the same terminal."""
    found = db.execute(
        "SELECT 1 FROM upkeep WHERE n = ? AND intent IS NULL AND terminal = ? AND task = ?",
        (number, row.terminal, row.task),
    )
    return found.fetchone() is not None


def latest(db: apsw.Connection, task: str) -> list[UpkeepOrder]:
    """The newest order of `task` of each terminal, by terminal."""
    found = db.execute(
        "SELECT coalesce(s.intent, s.n), s.terminal, s.step, s.data, s.utc_ms, s.boot_ms, b.id,"
        " s.quality FROM upkeep s JOIN boot b ON b.n = s.boot"
        " WHERE coalesce(s.intent, s.n) IN"
        " (SELECT max(n) FROM upkeep WHERE intent IS NULL AND task = ? GROUP BY terminal)"
        " ORDER BY s.terminal, s.n",
        (task,),
    )
    rows = [
        (
            number,
            UpkeepRow(
                terminal,
                task,
                step,
                plain.loads_object(data),
                Stamp(utc, boot, boot_id, Quality(quality)),
            ),
        )
        for number, terminal, step, data, utc, boot, boot_id, quality in found
    ]
    return [
        UpkeepOrder(number, tuple(row for _, row in steps))
        for number, steps in groupby(rows, key=lambda pair: pair[0])
    ]
