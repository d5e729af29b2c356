"""Raising a hold while energy flows (incremental authorization). Pure.

It runs beside the session's state: energy goes on under the old limit while the terminal is asked. Where it
stands is `Session.raising`; what is owed for it is `owed_besides`. The hold counts as raised only when the
terminal has completed the command, and nothing is charged while its amount is in doubt: a partial reversal
names the part to release, so a wrong total would be charged wrongly."""

from __future__ import annotations

from dataclasses import replace
from enum import StrEnum

from agent.session.events import Event
from agent.session.session import Session
from agent.session.states import Effect


class R(StrEnum):
    """Where raising the hold stands; empty text when nothing is under way."""

    ORDERED = "ordered"  # the intent is durable; the terminal is being asked
    APPROVED = "approved"  # the evidence is durable and answered; its completion is outstanding
    UNCLEAR = "unclear"  # the dialogue broke; the terminal is asked
    LOST = "lost"  # nobody could tell in time; the hold's amount is not known


UNDER_WAY = (R.ORDERED, R.APPROVED, R.UNCLEAR)


def owed_besides(before: Session, after: Session) -> Effect | None:
    """What raising the hold owes after a step, beside what the state owes."""
    return owed_now(after) if after.raising != before.raising else None


def owed_now(s: Session) -> Effect | None:
    """The same, whatever was before: after a restart, and after a failed try."""
    if s.raising == R.ORDERED:
        return Effect.RAISE
    return Effect.ASK_RAISE if s.raising in (R.UNCLEAR, R.LOST) else None


# --- guards ---------------------------------------------------------------------------------------


def may_raise(s: Session, e: Event) -> bool:
    """Nothing is under way, the terminal has not refused for good, and there is something to add."""
    return not s.raising and not s.raise_over and e.integer("add_minor") > 0


def is_ordered(s: Session, _: Event) -> bool:
    """The terminal is being asked to raise the hold."""
    return s.raising == R.ORDERED


def is_approved(s: Session, _: Event) -> bool:
    """The raise is approved, its completion outstanding."""
    return s.raising == R.APPROVED


def completed_blindly(s: Session, _: Event) -> bool:
    """A terminal that does not say how far the hold was raised leaves its amount in doubt."""
    return s.raising == R.APPROVED and s.raised_to_minor is None


def is_unclear(s: Session, _: Event) -> bool:
    """The terminal is asked whether the hold was raised."""
    return s.raising == R.UNCLEAR


def is_doubted(s: Session, _: Event) -> bool:
    """How it ended is asked, or was given up."""
    return s.raising in (R.UNCLEAR, R.LOST)


def is_under_way(s: Session, _: Event) -> bool:
    """How raising the hold ends is still to be told."""
    return s.raising in UNDER_WAY


def lost_and_costs(s: Session, _: Event) -> bool:
    """Something is to be charged, from a hold whose amount is not known."""
    return s.raising == R.LOST and s.to_capture_minor >= max(1, s.least_capture_minor)


# --- acts -----------------------------------------------------------------------------------------


def ordered(s: Session, e: Event) -> Session:
    s = replace(s, raise_minor=e.integer("add_minor"), raise_result={}, raise_before=_before(e))
    return replace(s, raising=R.ORDERED, raising_since=e.stamp)


def _before(e: Event) -> tuple[tuple[int, int | None], ...]:
    named = e.data.get("before")
    return tuple((r, t) for r, t in named) if isinstance(named, list) else ()


def approved(s: Session, e: Event) -> Session:
    return replace(
        s,
        raising=R.APPROVED,
        raised_to_minor=e.optional_int("total_minor"),
        raise_result=e.mapping("result"),
    )


def done(s: Session, _: Event) -> Session:
    return _raised(s, s.raised_to_minor or 0)


def found(s: Session, e: Event) -> Session:
    s = replace(s, raise_result=e.mapping("result") or s.raise_result)
    return _raised(s, e.integer("total_minor"))


def _ref(s: Session) -> tuple[int, int | None]:
    receipt, trace = s.raise_result.get("receipt"), s.raise_result.get("trace")
    return receipt if isinstance(receipt, int) else -1, trace if isinstance(trace, int) else None


def _raised(s: Session, total_minor: int) -> Session:
    """Less than was asked for is what was approved; less than was held cannot be."""
    return replace(
        s,
        raising="",
        raises=s.raises + 1,
        raise_refs=(*s.raise_refs, _ref(s)),
        held_minor=max(total_minor, s.held_minor or 0),
        raised_to_minor=None,
        raise_over=s.raise_over or total_minor < (s.held_minor or 0) + s.raise_minor,
    )


def failed(s: Session, e: Event) -> Session:
    """Not raised. `again`: nothing was wrong but the moment."""
    over = e.data.get("again") is not True
    return replace(s, raising="", raise_over=s.raise_over or over, why=e.text("why"))


def absent(s: Session, _: Event) -> Session:
    return replace(s, raising="", raised_to_minor=None, raise_over=True)


def doubted(s: Session, e: Event) -> Session:
    """What the terminal was told no to (`rejected`) is no evidence, although it was stored in the end."""
    result = {} if e.data.get("rejected") is True else s.raise_result
    return replace(s, raising=R.UNCLEAR, raising_since=e.stamp, raise_result=result)


def lost(s: Session, e: Event) -> Session:
    return replace(s, raising=R.LOST, why=e.text("why"))


def after_restart(s: Session, e: Event) -> Session:
    """The dialogue died with the process; what was in doubt has its time anew, to be told in."""
    return doubted(s, e) if s.raising in UNDER_WAY else s


def record_with_unknown_hold(s: Session, e: Event) -> Session:
    """The session is recorded; its capture waits for a word on the hold's amount."""
    return replace(s, record_seq=e.integer("seq"), attempts=0, outcome="unknown")


def _capture_now(s: Session) -> Session:
    return replace(s, outcome="", why="", attempts=0, settlement_seq=None)


def found_late(s: Session, e: Event) -> Session:
    return _capture_now(found(s, e))


def absent_late(s: Session, e: Event) -> Session:
    return _capture_now(absent(s, e))
