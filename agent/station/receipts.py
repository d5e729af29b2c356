"""A receipt from a session as the ledger keeps it: nothing is computed again."""

from __future__ import annotations

from dataclasses import replace

from agent.driver_ui.receipt import ReceiptFacts, render
from agent.session import S, Session
from agent.settings.models import Settings
from agent.station.key_source import record_key
from agent.tariff import Bill
from agent.trust.keys import KeyRefused, PublicKey
from agent.values import Money, Stamp

FINGERPRINT_DIGITS = 16


def receipt_text(
    session: Session,
    settings: Settings,
    width: int,
    language: str | None,
    key: PublicKey | None = None,
) -> str:
    """The receipt in `width` columns; in the station's first language unless one is given. `key`: the one
    records are signed with, where that is known without its device."""
    return render(receipt_facts(session, settings, language, key), width)


def receipt_facts(
    session: Session, settings: Settings, language: str | None, key: PublicKey | None = None
) -> ReceiptFacts:
    station, operator = settings.station, settings.station.operator
    card, hold = session.card, session.hold
    return ReceiptFacts(
        language=language or session.language or station.languages[0],
        time_zone=station.time_zone,
        station=station.id,
        evse=session.evse or "-",
        receipt_no=session.id,
        operator_name="" if operator is None else operator.name,
        operator_address=() if operator is None else tuple(operator.address),
        vat_id="" if operator is None else operator.vat_id,
        helpline="" if operator is None else operator.helpline,
        receipt_url=_url(settings, session.id),
        started=session.started,
        ended=_told_at(session.ended_at, session),
        meter_serial=session.meter_serial or "",
        begin_wh=session.begin_wh,
        end_wh=session.end_wh,
        estimated_end=session.end_quality == "last_durable",
        bill=Bill.from_json(session.bill) if session.bill else None,
        tariff_id=session.tariff_id,
        card_brand=str(card.get("card_name", "")),
        card_last4=str(card.get("card_last4", "")),
        terminal_id=str(hold.get("terminal_id") or ""),
        trace=_number(hold.get("trace")),
        terminal_receipt=_number(hold.get("receipt")),
        approval_code=session.approval_code,
        aid=str(card.get("emv_aid") or ""),
        held=_money(session, session.held_minor or 0),
        charged=_money(session, session.captured_minor),
        released=_money(session, session.released_minor),
        shortfall=_money(session, session.shortfall_minor),
        owed=_money(session, session.owed_minor),
        pending=session.state not in (S.CLOSED, S.SETTLED),
        record_seq=session.record_seq,
        key_fingerprint=_fingerprint(settings, key),
    )


def _told_at(stamp: Stamp | None, session: Session) -> Stamp | None:
    """Time of day is the one at consent plus what has elapsed (design §2 rule 11): a clock that was
    set during the session does not move its end."""
    if stamp is None or session.started is None:
        return stamp
    elapsed_ms = stamp.since_ms(session.started)
    if elapsed_ms is None:
        return stamp
    return replace(stamp, utc_ms=session.started.utc_ms + elapsed_ms)


def _number(value: object) -> int | None:
    return value if isinstance(value, int) else None


def _money(session: Session, minor: int) -> Money | None:
    return Money(minor, session.currency) if session.currency else None


def _url(settings: Settings, session_id: str) -> str:
    operator = settings.station.operator
    if operator is None or operator.receipt_url is None:
        return ""
    return f"{operator.receipt_url.rstrip('/')}/{session_id}"


def _fingerprint(settings: Settings, key: PublicKey | None) -> str:
    try:
        return (key or record_key(settings).public()).kid[:FINGERPRINT_DIGITS]
    except KeyRefused:
        return ""  # printed by somebody who may not read the key
