"""A session as scripts and people see it (design §3, `sessions list|show`)."""

from __future__ import annotations

from agent.session.limits import binding
from agent.session.records import iso_utc
from agent.session.session import Session
from agent.session.states import S

# States in which it is not known, or not settled, how the hold ends.
_PAYMENT_WORD: dict[S, str] = {
    S.AUTHORIZING: "authorizing",
    S.APPROVED: "authorizing",
    S.HOLD_UNCLEAR: "unknown",
    S.CAPTURE_UNCLEAR: "unknown",
    S.RELEASE_UNCLEAR: "unknown",
    S.RAISE_OPEN: "raising",
    S.CAPTURING: "capturing",
    S.CAPTURE_DUE: "capture_due",
    S.RELEASING: "releasing",
    S.RELEASE_DUE: "release_due",
}


def summary(s: Session) -> dict[str, object]:
    """Money in minor units, energy in Wh, times as ISO 8601 UTC."""
    return {
        "id": s.id,
        "evse": s.evse,
        "terminal": s.terminal,
        "state": str(s.state),
        "started": None if s.started is None else iso_utc(s.started),
        "ended": None if s.ended_at is None else iso_utc(s.ended_at),
        "energy_wh": s.energy_wh,
        "currency": s.currency,
        "held_minor": s.held_minor or 0,
        "cost_minor": s.cost_minor,
        "captured_minor": s.captured_minor,
        "released_minor": s.released_minor,
        "shortfall_minor": s.shortfall_minor,
        "owed_minor": s.owed_minor,
        "waived_minor": s.waived_minor,
        "closed_minor": s.closed_minor,
        "closed_by": s.closed_by,
        "aside": s.aside,
        "approval_code": s.approval_code,
        "increments": s.raises,
        "payment": s.payment or _PAYMENT_WORD.get(s.state, "held"),
        "limits": binding(s),
        "stop_reason": s.stop_reason,
        "tariff_id": s.tariff_id,
        "record_seq": s.record_seq,
        "settlement_seq": s.settlement_seq,
    }
