"""What stands open with money: holds, outcomes that nobody knows, and what is owed. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from agent.session import S, Session
from agent.session.deadlines import age_ms, retry_after_ms, waited_ms
from agent.session.records import iso_utc
from agent.session.summary import summary
from agent.values import Stamp

HOLD, UNKNOWN, RECEIVABLE = "hold", "unknown", "receivable"
_ASKING = (S.HOLD_UNCLEAR, S.CAPTURE_UNCLEAR, S.RELEASE_UNCLEAR)
# The keys of the totals, by kind.
_AMOUNT = {HOLD: "held_minor", UNKNOWN: "unknown_minor", RECEIVABLE: "owed_minor"}
_COUNT = {HOLD: "holds", UNKNOWN: "unknowns", RECEIVABLE: "receivables"}


def kind(s: Session) -> str:
    """An open hold with nothing owed on it stays a hold, also where the terminal refuses to free it."""
    if s.state in _ASKING or (s.state is S.UNRESOLVED and s.outcome in ("unknown", "foreign")):
        return UNKNOWN
    return RECEIVABLE if s.state is S.UNRESOLVED and s.owed_minor else HOLD


def amount_minor(s: Session) -> int:
    """What is at stake; 0 where the terminal never said how much a hold is."""
    if kind(s) == RECEIVABLE:
        return s.owed_minor
    held = s.requested_minor if s.held_minor is None else s.held_minor
    return s.to_capture_minor or held if kind(s) == UNKNOWN else held


def listed(s: Session, now: Stamp) -> dict[str, Any]:
    """The summary of an open session, with what it is, since when, for how long, and how much. A hold is
    as old as its session, everything else as its state."""
    since = s.started if kind(s) == HOLD else s.entered
    return summary(s) | {
        "kind": kind(s),
        "amount_minor": amount_minor(s),
        "why": s.why,
        "since": None if since is None else iso_utc(since),
        "age_s": None if since is None else age_ms(since, now) // 1000,
        "next_try_s": next_try_s(s, now),
    }


def next_try_s(s: Session, now: Stamp) -> int | None:
    """How long until what was not executed is sent again; None where no try is planned."""
    if s.state not in (S.CAPTURE_DUE, S.RELEASE_DUE) or s.entered is None:
        return None
    pause_ms = retry_after_ms(s.attempts)
    return None if pause_ms is None else max(0, pause_ms - waited_ms(s.entered, now)) // 1000


def totals(rows: Iterable[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Sums and counts of each kind, by currency in the order of their names. `without_amount`: how many of
    them are in no sum, since nobody told their amount."""
    found: dict[str, dict[str, Any]] = {}
    for row in rows:
        currency = row["currency"]
        keys = [*_AMOUNT.values(), *_COUNT.values(), "without_amount"]
        empty = {"currency": currency} | dict.fromkeys(keys, 0)
        total = found.setdefault(currency, empty)
        total[_AMOUNT[row["kind"]]] += row["amount_minor"]
        total[_COUNT[row["kind"]]] += 1
        total["without_amount"] += not row["amount_known"]
    return [found[currency] for currency in sorted(found)]
