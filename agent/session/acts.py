"""What each row of the table does to a session. Pure: (session, event) -> session."""

from __future__ import annotations

from dataclasses import replace

from agent.session.ask import ref_key
from agent.session.events import Event
from agent.session.measured import LAST_DURABLE, last_durable, told_by_meter
from agent.session.raises import after_restart
from agent.session.session import Json, Session, accounted
from agent.session.states import S
from agent.values import Stamp


def nothing(s: Session, _: Event) -> Session:
    return s


# Not known, or never sent: it can still end at the terminal that has the hold.
OPEN_ENDED = ("unknown", "away")


def worth_asking(s: Session) -> bool:
    """It is listed, and the terminal may tell how it ended: not what a technician's order has freed, nor
    what it left as it was."""
    ordered = s.freed or (s.freeing and s.outcome != "unknown")
    return s.state is S.UNRESOLVED and s.outcome in OPEN_ENDED and not ordered


# --- guards ---------------------------------------------------------------------------------------


def is_plugged(s: Session, _: Event) -> bool:
    """The car is plugged in, the connector is known, and an amount was approved."""
    return s.plugged and s.evse is not None and bool(s.held_minor)


def has_no_amount(s: Session, _: Event) -> bool:
    """A terminal that does not say what it approved cannot be charged against: the part to release
    would be computed from a guess."""
    return not s.held_minor


def found_no_amount(_: Session, e: Event) -> bool:
    """The terminal lists the hold, but nothing it said tells the amount."""
    return not e.optional_int("approved_minor")


def is_bound(s: Session, _: Event) -> bool:
    """It is known which connector the session is for."""
    return s.evse is not None


def costs(s: Session, _: Event) -> bool:
    """There is something to charge that the acquirer takes, and a hold to charge it from."""
    return s.to_capture_minor >= max(1, s.least_capture_minor)


def too_little(s: Session, _: Event) -> bool:
    """Less was approved than asked for, and the operator wants none of that."""
    return not s.accept_partial and (s.held_minor or 0) < s.requested_minor


def found_too_little(s: Session, e: Event) -> bool:
    """The same of a hold that was found by asking."""
    return not s.accept_partial and (e.optional_int("approved_minor") or 0) < s.requested_minor


def may_resume(_: Session, e: Event) -> bool:
    """The station looked: same car, same meter, a short outage."""
    return e.data.get("resume") is True


def contradicted(s: Session, _: Event) -> bool:
    """Evidence of this very try is stored, and now the command is said not to have happened."""
    return bool(s.result)


def asks_first(s: Session, e: Event) -> bool:
    """A refusal that does not say how the hold stands. The terminal may not know the receipt because
    the command was executed before."""
    return contradicted(s, e) or e.text("reason") == "unknown_hold"


def booked_otherwise(s: Session, _: Event) -> bool:
    """The terminal says that it charged another amount than it was told to."""
    return s.booked_minor is not None and s.booked_minor != s.to_capture_minor


def first_try(s: Session, _: Event) -> bool:
    """Found open for the first time: sent again at once. Later only on the retry schedule, so that a
    terminal that breaks every dialogue is not hammered."""
    return s.attempts == 0


def unknown_capture(s: Session, _: Event) -> bool:
    """It is a capture whose outcome stayed unknown."""
    return (
        s.outcome in OPEN_ENDED and s.to_capture_minor > 0 and s.raising != "lost" and not s.freeing
    )


def unknown_release(s: Session, _: Event) -> bool:
    """It is a release whose outcome stayed unknown."""
    return s.outcome in OPEN_ENDED and s.to_capture_minor == 0


def unknown_freeing(s: Session, e: Event) -> bool:
    """A technician ordered the hold to be freed, and how that ended stayed unknown."""
    return s.outcome == "unknown" and freed_and_owed(s, e)


def doubted_hold(s: Session, _: Event) -> bool:
    """It is a hold that was asked for, and whether it was made stayed unknown."""
    return s.outcome in OPEN_ENDED and s.hold_doubted


def is_foreign(s: Session, _: Event) -> bool:
    """No session of ours made this hold."""
    return s.outcome == "foreign"


def foreign_and_recorded(s: Session, e: Event) -> bool:
    """The same, and the record that lists it is made."""
    return is_foreign(s, e) and is_recorded(s, e)


def may_free(s: Session, e: Event) -> bool:
    """The terminal said no for good, or was never told, or it is nobody's here: freeing the hold takes
    nothing twice."""
    ours = s.outcome in ("away", "failed", "refused") and bool(s.held_minor)
    return (ours or is_foreign(s, e)) and is_recorded(s, e) and bool(s.hold) and not s.freed


def is_freeing(s: Session, _: Event) -> bool:
    """A technician's order, not the end of the session."""
    return bool(s.freeing)


def freed_and_owed(s: Session, e: Event) -> bool:
    """The hold is freed by a technician's order; what it was for is still owed."""
    return is_freeing(s, e) and s.to_capture_minor > 0


def is_recorded(s: Session, _: Event) -> bool:
    """The record of how it stands is made; another outcome gets another one."""
    return s.settlement_seq is not None


# --- hold -----------------------------------------------------------------------------------------


def tapped(s: Session, e: Event) -> Session:
    evse = e.data.get("evse")
    return replace(
        s,
        started=e.stamp,
        evse=None if evse is None else str(evse),
        terminal=e.text("terminal"),
        terminal_id=None if e.data.get("terminal_id") is None else e.text("terminal_id"),
        requested_minor=e.integer("amount_minor"),
        currency=e.text("currency"),
        tariff_id=e.text("tariff_id"),
        tariff_hash=e.text("tariff_hash"),
        language=e.text("language"),
        plugged=e.data.get("plugged") is True,
        accept_partial=e.data.get("accept_partial") is not False,
        least_capture_minor=e.optional_int("least_capture_minor") or 0,
        before=None if e.data.get("last") is None else ref_key(e.mapping("last")),
    )


def bound(s: Session, e: Event) -> Session:
    return replace(s, evse=e.text("evse"))


def plugged(s: Session, _: Event) -> Session:
    return replace(s, plugged=True)


def unplugged(s: Session, _: Event) -> Session:
    return replace(s, plugged=False)


def approved(s: Session, e: Event) -> Session:
    return replace(
        s,
        held_minor=e.optional_int("approved_minor"),
        held_at=s.held_at or e.stamp,
        hold=e.mapping("hold"),
        card=e.mapping("details"),
    )


def approved_blindly(s: Session, e: Event) -> Session:
    """A hold of an amount that nobody knows: it is released, whoever brought it."""
    s = approved(s, e) if e.data else s
    return replace(s, why="the terminal did not say what it approved")


def approved_too_little(s: Session, e: Event) -> Session:
    s = approved(s, e) if e.data else s
    return replace(s, why=f"approved {s.held_minor} of {s.requested_minor}")


def contradicted_hold(s: Session, e: Event) -> Session:
    """Approved by its evidence, refused by its completion: neither word is believed before asking."""
    return replace(s, why=e.text("text") or e.text("why") or e.text("reason"))


def refused_hold(s: Session, e: Event) -> Session:
    return replace(
        s,
        outcome="refused",
        held_minor=0,
        refusal=_refusal(e),
    )


def never_held(s: Session, e: Event) -> Session:
    if s.hold:
        return replace(s, outcome="cancelled", why=e.text("why"))
    return replace(s, outcome="not_held", held_minor=0, why=e.text("why"))


def is_unwished(s: Session, _: Event) -> bool:
    """Nobody has asked so far that it be cancelled."""
    return not s.cancel_wish


def cancel_wished(s: Session, e: Event) -> Session:
    """The terminal is at work, or its outcome is not known: it ends as soon as that is."""
    return replace(s, cancel_wish=e.text("why"))


def cancelled(s: Session, e: Event) -> Session:
    return replace(s, why=e.text("why", e.name), outcome="")


# --- energy ---------------------------------------------------------------------------------------


def began(s: Session, e: Event) -> Session:
    wh = e.integer("energy_wh")
    serial = e.data.get("serial")
    return replace(
        told_by_meter(s, e),
        begin_wh=wh,
        began_at=e.read_at(),
        offered_at=e.stamp,
        last_wh=wh,
        last_at=e.read_at(),
        meter_serial=None if serial is None else str(serial),
        meter_model=e.text("model"),
    )


def phase_change(s: Session, e: Event) -> Session:
    return replace(s, clock_from=e.stamp)


def progress(s: Session, e: Event) -> Session:
    wh = e.integer("energy_wh")
    if s.last_wh is not None and wh < s.last_wh:
        return s  # a lower register is a fault of the meter, never a new base
    return replace(s, last_wh=wh, last_at=e.read_at())


def usage_at(s: Session, now: Stamp) -> tuple[int, int]:
    """(charging_ms, idle_ms) at `now`, the running phase included."""
    until = accounted(s, now)
    return until.charging_ms, until.idle_ms


def stop(s: Session, e: Event) -> Session:
    gone = e.name == "unplugged"
    return replace(
        s,
        clock_from=None,
        gone_wh=s.last_wh if gone else None,
        gone_at=s.last_at if gone else None,
        stop_reason="unplugged" if gone else e.text("reason"),
        plugged=s.plugged and not gone,
    )


def restarted_charging(s: Session, e: Event) -> Session:
    """The outage itself is not charged as time; its energy is, by the register."""
    return after_restart(replace(s, clock_from=e.stamp), e)


def stop_after_restart(s: Session, e: Event) -> Session:
    return after_restart(replace(s, clock_from=None, stop_reason=e.text("reason", "restart")), e)


def ended(s: Session, e: Event) -> Session:
    by_last = e.text("quality") == LAST_DURABLE
    return replace(
        told_by_meter(s, e),
        end_wh=e.integer("energy_wh"),
        ended_at=e.stamp,
        end_read_at=last_durable(s).at if by_last else e.read_at(),
        end_quality=e.text("quality"),
        cost_minor=e.integer("cost_minor"),
        price=e.mapping("price"),
        bill=e.mapping("bill"),
    )


# --- settlement -----------------------------------------------------------------------------------


def recorded_session(s: Session, e: Event) -> Session:
    return replace(s, record_seq=e.integer("seq"), attempts=0)


def recorded_settlement(s: Session, e: Event) -> Session:
    return replace(s, settlement_seq=e.integer("seq"))


def evidence(s: Session, e: Event) -> Session:
    return replace(s, result=e.mapping("result"), booked_minor=e.optional_int("amount_minor"))


def outcome_of(s: Session, outcome: str, refusal: Json) -> Session:
    """Every outcome has a record of its own, also after a session was listed as unresolved."""
    return replace(s, outcome=outcome, refusal=refusal, settlement_seq=None)


def captured(s: Session, e: Event) -> Session:
    s = evidence(s, e) if "result" in e.data else s
    return outcome_of(s, "captured", {})


def captured_otherwise(s: Session, e: Event) -> Session:
    """Money has moved, so nothing is sent again; a person has to look."""
    s = captured(s, e)
    return replace(s, why=f"booked {s.booked_minor}, told to charge {s.to_capture_minor}")


def released(s: Session, e: Event) -> Session:
    s = evidence(s, e) if "result" in e.data else s
    return outcome_of(s, "released" if s.cost_minor is not None else "cancelled", {})


def not_executed(s: Session, e: Event) -> Session:
    return replace(s, attempts=s.attempts + 1, why=e.text("why"))


def again(s: Session, _: Event) -> Session:
    """Asked, and the hold is still open: the command was not executed and may be sent again. What the
    terminal reported of that try is void; kept, it would confirm a later try that never happened."""
    return replace(s, attempts=s.attempts + 1, outcome="", refusal={}, result={}, booked_minor=None)


def _refusal(e: Event) -> Json:
    return {"reason": e.text("reason"), "code": e.text("code"), "text": e.text("text")}


def refused_settlement(s: Session, e: Event) -> Session:
    return outcome_of(s, "refused", _refusal(e))


def given_up(s: Session, e: Event) -> Session:
    """Never refused, never executed, and no further try: listed with what is owed."""
    return replace(outcome_of(s, "failed", s.refusal), why=e.text("why"))


def doubted_refusal(s: Session, e: Event) -> Session:
    return replace(s, refusal=_refusal(e))


def vanished(s: Session, e: Event) -> Session:
    return replace(outcome_of(s, "unknown", s.refusal), why=e.text("why"))


def hold_vanished(s: Session, e: Event) -> Session:
    return replace(vanished(s, e), hold_doubted=True)


def hold_found_late(s: Session, e: Event) -> Session:
    """The connector was given up meanwhile: there is nothing to hold it for."""
    s = replace(approved(s, e), hold_doubted=False, outcome="")
    return replace(s, why="the hold was found when nobody waited for it any more")


def hold_absent_late(s: Session, e: Event) -> Session:
    s = replace(never_held(s, e), hold_doubted=False)
    return outcome_of(s, s.outcome, {})


def explain(s: Session, e: Event) -> Session:
    return replace(s, why=e.text("why"))


def away(s: Session, e: Event) -> Session:
    """Nothing was sent: the terminal that has the hold is not there."""
    return replace(outcome_of(s, "away", s.refusal), why=e.text("why"))
