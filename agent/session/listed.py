"""What the rows of a session do that is listed for a person: holds of nobody here, holds freed by order,
and a person's word that takes it off the list. Pure: (session, event) -> session."""

from __future__ import annotations

from dataclasses import replace

from agent.session.acts import evidence, outcome_of
from agent.session.events import Event
from agent.session.session import Session

# The hold may still be open: nothing that is known says how it ended.
MAYBE_OPEN = ("", "refused", "failed", "unknown", "away", "foreign")


def may_be_open(s: Session) -> bool:
    """Whether the terminal may list the hold of a session that is listed."""
    return bool(s.hold) and not s.freed and s.outcome in MAYBE_OPEN


def left_open(s: Session) -> bool:
    """A person took it off the list, and its hold may still be open."""
    return bool(s.closed_as) and (may_be_open(s) or bool(s.aside and s.hold))


def foreign(s: Session, e: Event) -> Session:
    terminal_id = e.data.get("terminal_id")
    return replace(
        s,
        started=e.stamp,
        terminal=e.text("terminal"),
        terminal_id=None if terminal_id is None else str(terminal_id),
        currency=e.text("currency"),
        hold=e.mapping("hold"),
        held_minor=e.optional_int("held_minor"),
        outcome="foreign",
        why=e.text("why", "no session of this station explains this hold"),
    )


def foreign_gone(s: Session, e: Event) -> Session:
    return replace(outcome_of(s, "gone", {}), why=e.text("why"))


def closed_by_hand(s: Session, e: Event) -> Session:
    """What the terminal said stays said; what stood open is collected in another way, or never."""
    closed_minor = s.owed_minor or (s.to_capture_minor if s.outcome == "unknown" else 0)
    return replace(
        s,
        closed_as=e.text("how"),
        closed_minor=closed_minor,
        closed_by=e.text("by"),
        why=e.text("note"),
        settlement_seq=None,
    )


def closed_unread(s: Session, e: Event) -> Session:
    """Whatever of it can be read: the event itself says what is known of the hold. Nothing was sent, and
    nothing will be, so what it cost, as far as it was priced, is what stood open."""
    ended = s.outcome in ("captured", "released", "cancelled", "not_held", "gone")
    s = replace(s, hold=e.mapping("hold"), held_minor=e.optional_int("held_minor"), raising="")
    return replace(
        s,
        currency=e.text("currency"),
        closed_as=e.text("how"),
        closed_minor=0 if ended else s.to_capture_minor,
        closed_by=e.text("by"),
        aside=e.text("aside"),
        why=e.text("note"),
        settlement_seq=e.integer("seq"),
    )


def free(s: Session, _: Event) -> Session:
    return replace(s, freeing=s.freeing or s.outcome, outcome="", result={}, booked_minor=None)


def not_freed(s: Session, e: Event) -> Session:
    """A definite no: it stays listed as it was."""
    return replace(
        outcome_of(s, s.freeing, s.refusal), why=e.text("text") or e.text("why"), result={}
    )


def freed(s: Session, e: Event) -> Session:
    s = evidence(s, e) if "result" in e.data else s
    s = replace(s, freed=True, booked_minor=None)
    return replace(
        outcome_of(s, s.freeing, s.refusal), why="the hold was freed by a technician's order"
    )
