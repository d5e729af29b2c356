"""Sessions that are listed and left alone: salvaged from a damaged ledger, so that their last steps may be
lost; stored in a state that this version's table does not lead to; or without the prices they began by.
Nothing is charged, released or sent for them. A person looks at the hold and takes the session off the list;
an event and a signed record say who, and what was known of the hold."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from agent.ledger import EventRow, Head, Ledger, RecordRow, SessionRow
from agent.session import FINAL, TABLE_VERSION, E, Event, S, Session, step
from agent.session.records import iso_utc, settlement_record
from agent.station import left_open
from agent.station.keeper import hold_of, readable, refold
from agent.station.tariffs import KEY, can_be_priced, kept_names
from agent.trust.chain import Sealed, seal
from agent.trust.keys import Signer
from agent.values import Stamp

SALVAGED, NOT_REPRODUCED, NO_TARIFF = "salvaged", "not_reproduced", "no_tariff"
LISTED_MAX = 1_000  # as many as a station loads


def why(ledger: Ledger, row: SessionRow, events: Sequence[EventRow]) -> str:
    """SALVAGED, NOT_REPRODUCED, NO_TARIFF, or empty where the station goes on with it by itself, or it has
    ended."""
    if not row.open:
        return ""
    if row.salvaged:
        return SALVAGED
    session = refold(row.id, events)
    if session is None or session.state != row.state:
        return NOT_REPRODUCED
    return "" if can_be_priced(session, kept_names(ledger.meta_get(KEY))) else NO_TARIFF


def _folded(row: SessionRow, events: Sequence[EventRow]) -> Session:
    return readable(Session(row.id, evse=row.evse, terminal=row.terminal), events)


def listed(ledger: Ledger) -> list[dict[str, Any]]:
    """Every session that is left alone, with what is known of its hold."""
    found = []
    for row in ledger.sessions(open_only=True, limit=LISTED_MAX):
        events = ledger.events(row.id)
        reason = why(ledger, row, events)
        if reason:
            session = _folded(row, events)
            found.append(
                {
                    "id": row.id,
                    "aside": reason,
                    "state": row.state,
                    "evse": row.evse,
                    "terminal": row.terminal,
                    "started": iso_utc(row.started),
                    "updated": iso_utc(row.updated),
                    **hold_of(session, events),
                }
            )
    return found


@dataclass(frozen=True, slots=True)
class Draft:
    """What takes a session off the list, before it is signed."""

    row: SessionRow
    event: Event
    after: Session
    station: str
    head: Head

    def seal(self, key: Signer) -> Sealed:
        return seal(
            key,
            chain=self.head.chain,
            seq=self.head.seq + 1,
            prev=self.head.hash,
            type="settlement",
            station=self.station,
            stamp=self.event.stamp,
            body=settlement_record(self.after),
        )


def draft(ledger: Ledger, session_id: str, word: Mapping[str, Any], now: Stamp) -> Draft | None:
    """Take it off the list; `word` is by_hand.data's. None when it is not one of these. Raises LedgerError.
    Nobody else may seal a record before this one is stored."""
    row = ledger.session(session_id)
    events = [] if row is None else ledger.events(session_id)
    reason = "" if row is None else why(ledger, row, events)
    if row is None or not reason:
        return None
    before = _folded(row, events)
    head = ledger.head()
    data = {
        **word,
        "aside": reason,
        "stored": row.state,
        **hold_of(before, events),
        "seq": head.seq + 1,
    }
    event = Event(E.CLOSED_UNREAD, now, data)
    after = step(before, event).session
    assert after.state in FINAL and after.state is S.CLOSED
    return Draft(row, event, after, ledger.station, head)


def store(ledger: Ledger, made: Draft, sealed: Sealed) -> Session:
    """Event and record in one commit. Raises LedgerError."""
    row, event, after = made.row, made.event, made.after
    left_open.note(ledger, row.id)
    ledger.append(
        EventRow(
            row.id,
            row.last_n + 1,
            str(event.name),
            event.data,  # type: ignore[arg-type]  # plain by construction
            str(after.state),
            TABLE_VERSION,
            event.stamp,
        ),
        evse=row.evse,
        terminal=row.terminal,
        open=False,
        record=RecordRow.of(sealed, row.id),
    )
    return after


def close(
    ledger: Ledger, key: Signer, session_id: str, word: Mapping[str, Any], now: Stamp
) -> Session | None:
    """All of it on the ledger of a stopped station."""
    made = draft(ledger, session_id, word, now)
    return None if made is None else store(ledger, made, made.seal(key))
