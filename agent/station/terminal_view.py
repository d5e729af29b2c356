"""A terminal as technicians and scripts see it. The same shapes through the running service and while it
is stopped. Nothing of a card but its kind leaves here, its token only as a short HMAC."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from agent.ports import Card, Need, OpenHolds, TerminalIdentity
from agent.session import S, Session
from agent.station.till import MAYBE_OPEN

# Enough to tell two cards apart at a bench, too little to look one up.
MAC_SHOWN_BYTES = 4

# What a terminal needs, and what the person in front of it can do about it.
NEXT: dict[str, str] = {
    Need.END_OF_DAY: "close the batch: `voltill terminal end-of-day`",
    Need.INITIALISATION: "initialise it: in the terminal's menu, or by its operator",
    Need.DIAGNOSIS: "run a diagnosis: in the terminal's menu, or by its operator",
    Need.CLOCK: "set its date and time: in the terminal's menu, or by its operator",
    Need.ACTIVATION: "have its operator activate this terminal id",
    Need.MAINTENANCE: "wait: it is at work on itself (an update, or a dialogue with its host)",
    Need.OPERATOR: "look at the terminal, then call its operator with the code",
}

_NO_HOLD_YET = frozenset({S.AUTHORIZING, S.HOLD_UNCLEAR})


def identity_json(identity: TerminalIdentity) -> dict[str, Any]:
    return {
        "tid": identity.terminal_id,
        "model": identity.model,
        "serial": identity.device_serial,
        "software": identity.software,
        "ready": identity.ready,
        "status_code": identity.status_code,
        "status_text": identity.status_text,
        "needs": [str(need) for need in identity.needs],
        "next": [NEXT[need] for need in identity.needs if need in NEXT],
        "trouble": "",
    }


def unreachable_json(trouble: str, known: TerminalIdentity | None = None) -> dict[str, Any]:
    """The same keys for a terminal that does not answer; `known` is what it last said it is."""
    return {
        "tid": None if known is None else known.terminal_id,
        "model": None if known is None else known.model,
        "serial": None if known is None else known.device_serial,
        "software": None if known is None else known.software,
        "ready": False,
        "status_code": None,
        "status_text": "no answer",
        "needs": [],
        "next": [],
        "trouble": trouble,
    }


def card_json(card: Card | None, mac: bytes | None = None) -> dict[str, Any]:
    """`token`: whether the terminal gave one to know the card again by. `hmac`: its first digits under
    the station's key, None where there is no token or no key."""
    if card is None:
        keys = ("kind", "brand", "last4", "token", "hmac", "max_hold_minor")
        return {"card": False} | dict.fromkeys(keys)
    return {
        "card": True,
        "kind": str(card.kind),
        "brand": card.details.get("card_name"),
        "last4": card.details.get("card_last4"),
        "token": card.token is not None,
        "hmac": None if mac is None else mac[:MAC_SHOWN_BYTES].hex(),
        "max_hold_minor": None if card.max_hold is None else card.max_hold.amount_minor,
    }


def holds_json(
    terminal_id: str | None, holds: OpenHolds, sessions: Iterable[Session] | None
) -> dict[str, Any]:
    """Every open receipt and the session that explains it. `sessions`: the open ones of this ledger and those
    that were closed by hand with their hold open, None without a ledger. A hold is known by terminal id and
    receipt (design §2 rule 3)."""
    here = [s for s in sessions or () if _at(s, terminal_id)]
    here.sort(key=lambda s: s.state is not S.CLOSED)  # of two with one receipt the open one has it
    ours = {r: s for s in here if (r := _receipt(s)) is not None and s.outcome in MAYBE_OPEN}
    pending = [s.id for s in here if s.state in _NO_HOLD_YET and not s.hold]
    listed = set(holds.receipts)
    return {
        "tid": terminal_id,
        "ledger": sessions is not None,
        "complete": holds.complete,
        "holds": [_hold(receipt, ours.get(receipt), pending) for receipt in holds.receipts],
        "unexplained": [r for r in holds.receipts if r not in ours],
        "missing": [
            {"session": s.id, "receipt": receipt}
            for receipt, s in ours.items()
            if holds.complete and receipt not in listed and s.state is not S.CLOSED
        ],
    }


def _hold(receipt: int, session: Session | None, pending: Sequence[str]) -> dict[str, Any]:
    """`maybe`: sessions whose hold is not known yet and could be this one."""
    return {
        "receipt": receipt,
        "session": None if session is None else session.id,
        "state": None if session is None else str(session.state),
        "held_minor": None if session is None else session.held_minor,
        "currency": None if session is None else session.currency,
        "maybe": list(pending) if session is None else [],
    }


def _at(session: Session, terminal_id: str | None) -> bool:
    made_at = session.hold.get("terminal_id") or session.terminal_id
    return not made_at or not terminal_id or made_at == terminal_id


def _receipt(session: Session) -> int | None:
    receipt: object = session.hold.get("receipt")
    return receipt if isinstance(receipt, int) else None


def attention(found: Mapping[str, Any]) -> bool:
    """Whether open holds need a person."""
    return bool(found["unexplained"] or found["missing"] or not found["complete"])
