"""What may be forgotten, and when (design §2 rule 9): a session whose end is settled, all of whose records a
signed ack has covered for longer than the retention time.

The time runs on the back end's clock, which its signed acks carry: that of the station may never have been
set. A mark a day and chain says through which record the back end had everything, and when. The station's own
clock must agree before anything is deleted, so that neither clock alone can cost a record.

Freed pages are used again, so the file grows no further than what is kept. SQL only: the caller holds the
transaction."""

from __future__ import annotations

from dataclasses import dataclass

import apsw

from agent.ledger.outbox import Chain, chain_of
from agent.ledger.schema import EVENTS_PER_SESSION, RECORDS_PER_CHAIN

DAY_MS = 86_400_000
# One transaction deletes at most this many sessions: some 300 KiB of log, far below a money commit's bound.
BATCH = 10
# Records looked at for one transaction: those of sessions that stay (still open, refused) are passed over.
LOOK = 100


def note_ack(
    db: apsw.Connection, chain: Chain, through_seq: int, time_ms: int, latest_ms: int | None = None
) -> None:
    """The back end has said at `time_ms` that it has everything through `through_seq`. What lies behind
    `latest_ms` was told by a clock that is wrong: such an ack marks nothing, and such a mark does not keep
    later ones away. It comes true, if ever, after them."""
    if latest_ms is not None and time_ms > latest_ms:
        return
    last = db.execute(
        "SELECT through, time_ms FROM ack_mark WHERE chain = ? AND (? IS NULL OR time_ms <= ?)"
        " ORDER BY n DESC LIMIT 1",
        (chain.n, latest_ms, latest_ms),
    ).fetchone()
    if last is None or (through_seq > last[0] and time_ms - last[1] >= DAY_MS):
        db.execute(
            "INSERT INTO ack_mark(chain, through, time_ms) VALUES (?, ?, ?)",
            (chain.n, through_seq, time_ms),
        )


def limits(db: apsw.Connection, before_ms: int) -> dict[int, int]:
    """By chain number: the highest record that was acked before `before_ms`."""
    found = db.execute(
        "SELECT chain, max(through) FROM ack_mark WHERE time_ms <= ? GROUP BY chain", (before_ms,)
    )
    return {chain: through for chain, through in found if through > 0}


@dataclass(frozen=True, slots=True)
class Forgotten:
    """`at`: the record to go on behind; None when there is nothing more for now."""

    sessions: int
    at: int | None


def forget(db: apsw.Connection, allowed: dict[int, int], after: int) -> Forgotten:
    """Delete a batch of what `allowed` (see `limits`) lets go, behind record `after`. Foreign keys must be
    off: to prove that no event refers to a record SQLite would read them all."""
    current = chain_of(db)
    assert current is not None
    head = current.base + current.head_seq
    gone, at = 0, after
    looked = 0
    for number in sorted(allowed):
        first = max(after, number * RECORDS_PER_CHAIN)
        last = number * RECORDS_PER_CHAIN + allowed[number]
        found: list[tuple[int, int | None]] = db.execute(
            "SELECT id, session FROM record WHERE id > ? AND id <= ? ORDER BY id LIMIT ?",
            (first, last, LOOK - looked),
        ).fetchall()  # type: ignore[assignment]  # the columns' types
        for key, session in found:
            at, looked = key, looked + 1
            gone += _session_goes(db, allowed, head, key, session)
            if gone == BATCH:
                return Forgotten(gone, at)
        if looked == LOOK:
            return Forgotten(gone, at)
    for number, through in allowed.items():
        db.execute("DELETE FROM ack_mark WHERE chain = ? AND through < ?", (number, through))
    return Forgotten(gone, None)


def _session_goes(
    db: apsw.Connection, allowed: dict[int, int], head: int, key: int, session: int | None
) -> bool:
    """Delete the session of record `key` with all of its records, if every one of them may go."""
    if db.execute("SELECT 1 FROM record WHERE id = ?", (key,)).get is None:
        return False  # went with another record of its session
    records = [key]
    if session is not None:
        if db.execute("SELECT open FROM session WHERE n = ?", (session,)).get:
            return False
        base = session * EVENTS_PER_SESSION
        span = (base, base + EVENTS_PER_SESSION - 1)
        records += [
            owned
            for (owned,) in db.execute(
                "SELECT record FROM event WHERE id BETWEEN ? AND ? AND record IS NOT NULL", span
            )
        ]
    if not all(_may_go(db, allowed, head, record) for record in records):
        return False
    for record in set(records):
        number, seq = divmod(record, RECORDS_PER_CHAIN)
        db.execute("DELETE FROM record WHERE id = ?", (record,))
        db.execute(
            "UPDATE chain SET pruned_through = max(pruned_through, ?) WHERE n = ?", (seq, number)
        )
    if session is not None:
        db.execute("DELETE FROM event WHERE id BETWEEN ? AND ?", span)
        db.execute("DELETE FROM card WHERE session = ?", (session,))
        db.execute("DELETE FROM session WHERE n = ?", (session,))
    return True


def _may_go(db: apsw.Connection, allowed: dict[int, int], head: int, record: int) -> bool:
    """The newest record stays: the next one needs its hash. One that is asked for again or refused, too."""
    number, seq = divmod(record, RECORDS_PER_CHAIN)
    if record == head or seq > allowed.get(number, 0):
        return False
    return db.execute("SELECT 1 FROM outstanding WHERE record = ?", (record,)).fetchone() is None
