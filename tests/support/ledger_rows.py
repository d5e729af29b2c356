"""Rows for ledger tests, made with the real signer."""

from __future__ import annotations

from pathlib import Path

import apsw

from agent.ledger import EventRow, Ledger, RecordRow, schema
from agent.trust.chain import seal
from agent.trust.keys import RecordKey
from agent.values import Quality, Stamp

STATION = "DE*ABC*S1"
KEY = RecordKey.generate()


def stamp(ms: int = 0, boot: str = "boot-1") -> Stamp:
    return Stamp(1_790_000_000_000 + ms, 5000 + ms, boot, Quality.TRUSTED)


def event(
    session: str, n: int, name: str = "tap", state: str = "holding", **data: object
) -> EventRow:
    return EventRow(session, n, name, data, state, 1, stamp(n))  # type: ignore[arg-type]


def record(ledger: Ledger, session: str, type: str = "session", **body: object) -> RecordRow:
    """The next record of the ledger's chain, signed."""
    head = ledger.head()
    sealed = seal(
        KEY,
        chain=head.chain,
        seq=head.seq + 1,
        prev=head.hash,
        type=type,
        station=STATION,
        stamp=stamp(head.seq),
        body={"session_id": session, **body},
    )
    return RecordRow.of(sealed, session)


def fill(ledger: Ledger, count: int) -> None:
    """`count` sessions of one event and one record each."""
    start = ledger.head().seq
    for number in range(start + 1, start + count + 1):
        name = f"s{number}"
        ledger.append(
            event(name, 1), evse="E1", terminal="t1", open=False, record=record(ledger, name)
        )


def first_version(path: Path) -> None:
    """A ledger as the first version made it: its schema and nothing else."""
    db = apsw.Connection(str(path))
    db.pragma("page_size", 1024)
    db.pragma("journal_mode", "wal")
    db.execute(schema._FIRST)
    db.pragma("application_id", schema.APPLICATION_ID)
    db.pragma("user_version", 1)
    db.execute("INSERT INTO meta VALUES ('station', ?)", (STATION,))
    db.execute("INSERT INTO chain(id) VALUES (?)", ("c" * 32,))
    db.close()
