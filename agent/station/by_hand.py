"""A person takes a session off the list of what stands open: an event, and a settlement record of its own.
Through the service, or on the ledger itself while none runs."""

from __future__ import annotations

from agent.ledger import EventRow, Ledger, RecordRow
from agent.session import FINAL, TABLE_VERSION, E, Event, S, Session, listed, step
from agent.session.records import settlement_record
from agent.station import aside, left_open
from agent.station.queries import session_of
from agent.trust import card_like
from agent.trust.chain import seal
from agent.trust.keys import Signer
from agent.values import Stamp

WORDS = ("paid", "written_off")
NOTE_MOST = 200
BY_MOST = 64


class NotClosed(Exception):
    """Nothing was changed. The text has its id."""


def data(how: str, note: str, by: str = "") -> dict[str, object]:
    """The data of the event; `by`: the user that gave the command. Raises NotClosed."""
    if how not in WORDS:
        raise NotClosed(f"STA-044: {how!r}; expected one of {', '.join(WORDS)}")
    if not note.strip() or len(note) > NOTE_MOST or not note.isprintable():
        raise NotClosed(f"STA-044: the note must be one line of 1 to {NOTE_MOST} characters")
    if card_like.in_text(note):
        raise NotClosed(
            "STA-044: the note has digits like a card number; it would be kept for years"
        )
    if len(by) > BY_MOST or not by.isprintable() or card_like.in_text(by):
        raise NotClosed(f"STA-044: {by!r} is no user's name")
    return {"how": how, "note": note.strip(), "by": by}


def may_close(session: Session) -> None:
    """Raises NotClosed."""
    if session.state is S.UNRESOLVED and session.settlement_seq is not None:
        return
    seen = f"session {session.id} is {session.state}"
    if session.state in FINAL:
        raise NotClosed(f"STA-044: {seen}; nothing stands open")
    raise NotClosed(
        f"STA-044: {seen}; the station still works on it: expected one that is listed as unresolved"
        " (`voltill status`)"
    )


def must_be_taken(taken: bool, session: Session) -> None:
    """It moved meanwhile. Raises NotClosed."""
    if not taken:
        raise NotClosed(f"STA-044: session {session.id} is {session.state} by now; look again")


def close(
    ledger: Ledger, key: Signer, session_id: str, event_data: dict[str, object], now: Stamp
) -> Session:
    """On the ledger of a stopped station. Raises NotClosed and LedgerError."""
    alone = aside.close(ledger, key, session_id, event_data, now)
    if alone is not None:
        return alone
    known = session_of(ledger, session_id)
    if known is None:
        raise NotClosed(
            f"STA-012: no session {session_id} in the ledger; see `voltill sessions list`"
        )
    session, rows = known
    may_close(session)
    if listed.may_be_open(session):
        left_open.note(ledger, session_id)
    session = _append(ledger, session, len(rows), Event(E.CLOSED_BY_HAND, now, event_data), None)
    head = ledger.head()
    sealed = seal(
        key,
        chain=head.chain,
        seq=head.seq + 1,
        prev=head.hash,
        type="settlement",
        station=ledger.station,
        stamp=now,
        body=settlement_record(session),
    )
    recorded = Event(E.RECORDED, now, {"seq": sealed.seq})
    return _append(ledger, session, len(rows) + 1, recorded, RecordRow.of(sealed, session_id))


def _append(
    ledger: Ledger, before: Session, count: int, event: Event, record: RecordRow | None
) -> Session:
    after = step(before, event).session
    row = EventRow(
        before.id,
        count + 1,
        str(event.name),
        event.data,  # type: ignore[arg-type]  # plain by construction
        str(after.state),
        TABLE_VERSION,
        event.stamp,
    )
    ledger.append(
        row, evse=after.evse, terminal=after.terminal, open=after.state not in FINAL, record=record
    )
    return after
