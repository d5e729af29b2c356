"""What people and scripts ask of the ledger. The same functions serve the running service (through the
control socket) and the command line while the service is stopped."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from agent.ledger import EventRow, Ledger, SessionRow
from agent.session import Session, fold, listed
from agent.session.summary import summary
from agent.station import left_open, receivables
from agent.station.day_end import TASK, day_json
from agent.station.keeper import event_of, hold_of, readable, refold
from agent.trust import jws
from agent.trust.chain import iso_utc
from agent.values import Stamp

SESSIONS_LISTED_MAX = 1_000
RECORDS_PAGE = 500


def session_of(ledger: Ledger, session_id: str) -> tuple[Session, list[EventRow]] | None:
    rows = ledger.events(session_id)
    session = refold(session_id, rows) if rows else None
    return None if session is None else (session, rows)


def event_json(row: EventRow) -> dict[str, object]:
    return {
        "n": row.n,
        "name": row.name,
        "state": row.state,
        "table_version": row.table_version,
        "time": iso_utc(row.stamp.utc_ms),
        "stamp": row.stamp.to_json(),
        "data": dict(row.data),
    }


def event_row(session_id: str, data: Mapping[str, Any]) -> EventRow:
    """The inverse of `event_json`."""
    return EventRow(
        session_id,
        int(data["n"]),
        str(data["name"]),
        data["data"],
        str(data["state"]),
        int(data["table_version"]),
        Stamp.from_json(data["stamp"]),
    )


def sessions_list(ledger: Ledger, limit: int) -> list[dict[str, object]]:
    """Newest first."""
    found = []
    for row in ledger.sessions(limit=max(0, min(limit, SESSIONS_LISTED_MAX))):
        session, _, whole = as_stored(ledger, row)
        found.append(summary(session) | {"state": row.state, "readable": whole})
    return found


def as_stored(ledger: Ledger, row: SessionRow) -> tuple[Session, list[EventRow], bool]:
    """A session with its events, and whether this version can read it; else as much of it as can be read."""
    rows = ledger.events(row.id)
    session = refold(row.id, rows) if rows else None
    if session is not None and (session.state == row.state or not row.open):
        return session, rows, True
    session = readable(Session(row.id, evse=row.evse, terminal=row.terminal), rows)
    return replace(session, **hold_of(session, rows)), rows, False


def session_show(ledger: Ledger, session_id: str) -> dict[str, object] | None:
    """The summary, the facts behind it, every event with its stamp, and the records."""
    row = ledger.session(session_id)
    if row is None:
        return None
    session, rows, whole = as_stored(ledger, row)
    records = ledger.record_of(session_id)
    return summary(session) | {
        "state": row.state,
        "readable": whole,
        "hold": dict(session.hold),
        "card": dict(session.card),
        "result": dict(session.result),
        "refusal": dict(session.refusal),
        "why": session.why,
        "begin_wh": session.begin_wh,
        "end_wh": session.end_wh,
        "end_quality": session.end_quality,
        "meter_serial": session.meter_serial,
        "charging_ms": session.charging_ms,
        "idle_ms": session.idle_ms,
        "price": dict(session.price),
        "events": [event_json(row) for row in rows],
        "records": [{"seq": r.seq, "type": r.type, "hash": r.hash} for r in records],
        **signed_values([r.jws for r in records if r.type == "session"]),
    }


def signed_values(texts: Sequence[str]) -> dict[str, object]:
    """What the last of these session records carries of signed readings, or why it has none."""
    body = jws.parse(texts[-1], jws.RECORD_TYP).unchecked_body() if texts else {}
    return {
        "signed_values": body.get("signed_values", []),
        "signed_values_missing": body.get("signed_values_missing"),
        "meter_signing": body.get("meter_signing"),
    }


def open_money(ledger: Ledger, now: Stamp) -> dict[str, Any]:
    """Sessions whose hold is not ended yet, and how much that is: what `status` lists."""
    rows = [receivables.listed(s, now) for s in open_sessions(ledger)]
    return {"open": rows, "totals": receivables.totals(rows)}


def ends_of_day(ledger: Ledger) -> list[dict[str, Any]]:
    """The last end of day of each terminal."""
    return [day_json(order) for order in ledger.upkeep(TASK)]


def open_sessions(ledger: Ledger) -> list[Session]:
    """What a stopped station has not settled, as far as this version can read it."""
    rows = ledger.sessions(open_only=True, limit=SESSIONS_LISTED_MAX)
    return [known[0] for row in rows if (known := session_of(ledger, row.id)) is not None]


def sessions_with_holds(ledger: Ledger) -> list[Session]:
    """The same, and what was closed by hand with its hold open."""
    found = [session_of(ledger, name) for name in left_open.names(ledger)]
    return [*open_sessions(ledger), *(s for s, _ in filter(None, found) if listed.left_open(s))]


def outbox(ledger: Ledger) -> dict[str, object]:
    """What the back end has not acknowledged yet."""
    status = ledger.outbox_status()
    waiting = ledger.unacked(RECORDS_PAGE)
    return {
        "unacked": status.unacked,
        "acked_through": status.acked_through,
        "parked": status.parked,
        "forgotten": ledger.forgotten(),
        "oldest": None if status.oldest is None else iso_utc(status.oldest.utc_ms),
        "records": [
            {"chain": r.chain, "seq": r.seq, "type": r.type, "session_id": r.session_id}
            for r in waiting
        ],
    }


def records(ledger: Ledger) -> list[str]:
    """Every record that is kept, of all chains, as signed, oldest first."""
    texts: list[str] = []
    place = 0
    while True:
        page, place = ledger.every_record(place, RECORDS_PAGE)
        texts += [row.jws for row in page]
        if len(page) < RECORDS_PAGE:
            return texts


def events_json(ledger: Ledger, session_id: str) -> list[dict[str, object]]:
    return [event_json(row) for row in ledger.events(session_id)]


def session_from_json(session_id: str, events: list[dict[str, Any]]) -> Session:
    """A session from its events as the service prints them."""
    return fold(session_id, [event_of(event_row(session_id, e)) for e in events])
