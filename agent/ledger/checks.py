"""What an append must fulfil before a byte of it is written. Pure."""

from __future__ import annotations

import base64
import json
import re
from collections.abc import Mapping

from agent.ledger.errors import LedgerError
from agent.ledger.rows import EventRow, Head, RecordRow, UpkeepRow
from agent.ledger.schema import EVENTS_PER_SESSION
from agent.trust import card_like, plain
from agent.trust.chain import record_hash

# An event tells one step; 16 KiB is ten times the largest, a receipt's facts.
MAX_EVENT_BYTES = 16 * 1024
MAX_NAME = 100
_NAME = re.compile(r"[!-~]{1,100}\Z")


def event_text(event: EventRow) -> str:
    """The event's data as it is stored. Raises LedgerError."""
    for what, name in (
        ("session id", event.session_id),
        ("name", event.name),
        ("state", event.state),
    ):
        if not _NAME.match(name):
            raise LedgerError(
                "LED-010", f"event {event.n}: its {what} is not 1 to {MAX_NAME} ASCII characters"
            )
    return data_text(f"event {event.n} ({event.name}) of session {event.session_id}", event.data)


def upkeep_text(row: UpkeepRow) -> str:
    """The data of a step of upkeep as it is stored. Raises LedgerError."""
    where = f"{row.task} of terminal {row.terminal}: {row.step}"
    if not all(_NAME.match(name) for name in (row.terminal, row.task, row.step)):
        raise LedgerError("LED-010", f"{where}: a name is not 1 to {MAX_NAME} ASCII characters")
    return data_text(where, row.data)


def data_text(where: str, data: Mapping[str, plain.JSON]) -> str:
    """Plain data without anything like a card number. Raises LedgerError."""
    if (place := card_like.find(data)) is not None:
        raise LedgerError(
            "LED-012", f"{where}: {place} looks like a card number; it is not stored; report this"
        )
    try:
        text = plain.dumps(data)
    except plain.NotPlain as error:
        raise LedgerError("LED-014", f"{where} cannot be stored exactly: {error}") from None
    if len(text) > MAX_EVENT_BYTES:
        raise LedgerError("LED-014", f"{where} has {len(text)} bytes; at most {MAX_EVENT_BYTES}")
    return text


def follows(event: EventRow, last_n: int, known_terminal: str | None, terminal: str) -> None:
    """The event is the next of its session, at the same terminal. Raises LedgerError."""
    if event.n != last_n + 1 or event.n >= EVENTS_PER_SESSION:
        raise LedgerError(
            "LED-010",
            f"session {event.session_id}: event {event.n} cannot follow event {last_n}; "
            f"expected {last_n + 1}",
        )
    if known_terminal is not None and known_terminal != terminal:
        raise LedgerError(
            "LED-010",
            f"session {event.session_id} is at terminal {known_terminal}, not at {terminal}",
        )


def record_follows(record: RecordRow, head: Head, station: str, session_id: str) -> None:
    """The record continues the chain, and its row says what its signed text says. Raises
    LedgerError. The signature itself was made a moment ago by our own key."""
    where = f"record {record.seq} of chain {record.chain}"
    if record.chain != head.chain or record.seq != head.seq + 1:
        raise LedgerError(
            "LED-011", f"{where} cannot follow record {head.seq} of chain {head.chain}"
        )
    if record.session_id not in (None, session_id):
        raise LedgerError("LED-011", f"{where} is of another session than its event")
    body = _frame_of(record.jws)
    if body is None:
        raise LedgerError("LED-011", f"{where} is no signed record")
    if record_hash(record.jws) != record.hash:
        raise LedgerError("LED-011", f"{where}: its hash is not that of its text")
    expected = {
        "chain": record.chain,
        "seq": record.seq,
        "prev": head.hash,
        "type": record.type,
        "station": station,
    }
    if wrong := [name for name, value in expected.items() if body.get(name) != value]:
        raise LedgerError("LED-011", f"{where}: its signed {', '.join(wrong)} is not as expected")


def _frame_of(text: str) -> dict[str, object] | None:
    """What a record says, read as any JSON: that it is plain was seen to when it was signed a moment ago,
    and a strict reading costs as much as the flush."""
    parts = text.split(".")
    if len(parts) != 3:
        return None
    try:
        body = json.loads(base64.urlsafe_b64decode(parts[1] + "=" * (-len(parts[1]) % 4)))
    except ValueError:
        return None
    return body if isinstance(body, dict) else None
