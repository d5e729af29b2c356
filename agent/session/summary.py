"""A session as scripts and people see it (design §3, `sessions list|show`)."""

from __future__ import annotations

from agent.session.limits import binding
from agent.session.listed import left_open
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
        "hold_left_open": left_open(s),
    } | references(s)


def references(s: Session) -> dict[str, object]:
    """What the terminal's and the acquirer's hotlines ask for; None where it was never told. `amount_known`:
    False for a hold of which the terminal named only the receipt. `reason`: of a refusal."""
    return {
        "tid": s.hold.get("terminal_id") or s.terminal_id,
        "receipt": s.hold.get("receipt"),
        "trace": s.hold.get("trace"),
        "turnover": s.hold.get("turnover"),
        "card_name": s.card.get("card_name"),
        "card_last4": s.card.get("card_last4"),
        "amount_known": s.held_minor is not None or s.requested_minor > 0,
        "to_capture_minor": s.to_capture_minor,
        "reason": refused_because(s),
        "attempts": s.attempts,
    }


def refused_because(s: Session) -> str:
    """ "declined, code 05: declined by the issuer"; empty where nothing was refused."""
    reason, code, text = (str(s.refusal.get(key) or "") for key in ("reason", "code", "text"))
    said = ", ".join([reason.replace("_", " ")] * bool(reason) + [f"code {code}"] * bool(code))
    return f"{said}: {text}" if said and text else said or text
