"""What each row of the table does to a session. Pure: (session, event) -> session."""

from __future__ import annotations

from dataclasses import replace

from agent.session.events import Event
from agent.session.session import Session
from agent.session.states import S
from agent.values import Stamp


def nothing(s: Session, _: Event) -> Session:
    return s


# --- guards ---------------------------------------------------------------------------------------


def is_plugged(s: Session, _: Event) -> bool:
    return s.plugged and s.evse is not None and bool(s.held_minor)


def has_no_amount(s: Session, _: Event) -> bool:
    """A terminal that does not say what it approved cannot be charged against: the part to release
    would be computed from a guess."""
    return not s.held_minor


def costs(s: Session, _: Event) -> bool:
    return s.to_capture_minor > 0


def may_resume(_: Session, e: Event) -> bool:
    return e.data.get("resume") is True


def hold_is_gone(_: Session, e: Event) -> bool:
    """The terminal does not know the receipt: perhaps because the command was executed before."""
    return e.text("reason") == "unknown_hold"


def first_try(s: Session, _: Event) -> bool:
    """Found open for the first time: sent again at once. Later only on the retry schedule, so that a
    terminal that breaks every dialogue is not hammered."""
    return s.attempts == 0


def unknown_capture(s: Session, _: Event) -> bool:
    return s.outcome == "unknown" and s.to_capture_minor > 0


def unknown_release(s: Session, _: Event) -> bool:
    return s.outcome == "unknown" and s.to_capture_minor == 0


# --- hold -----------------------------------------------------------------------------------------


def tapped(s: Session, e: Event) -> Session:
    evse = e.data.get("evse")
    return replace(
        s,
        started=e.stamp,
        evse=None if evse is None else str(evse),
        terminal=e.text("terminal"),
        requested_minor=e.integer("amount_minor"),
        currency=e.text("currency"),
        tariff_id=e.text("tariff_id"),
        language=e.text("language"),
        plugged=e.data.get("plugged") is True,
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
        hold=e.mapping("hold"),
        card=e.mapping("details"),
    )


def refused_hold(s: Session, e: Event) -> Session:
    return replace(
        s,
        outcome="refused",
        held_minor=0,
        refusal={"reason": e.text("reason"), "code": e.text("code"), "text": e.text("text")},
    )


def never_held(s: Session, e: Event) -> Session:
    return replace(s, outcome="not_held", held_minor=0, why=e.text("why"))


def cancelled(s: Session, e: Event) -> Session:
    return replace(s, why=e.text("why", e.name), outcome="")


# --- energy ---------------------------------------------------------------------------------------


def began(s: Session, e: Event) -> Session:
    wh = e.integer("energy_wh")
    serial = e.data.get("serial")
    return replace(
        s,
        begin_wh=wh,
        began_at=e.stamp,
        last_wh=wh,
        last_at=e.stamp,
        meter_serial=None if serial is None else str(serial),
        meter_model=e.text("model"),
    )


def _account(s: Session, now: Stamp) -> Session:
    """Add the time since `clock_from` to the phase that was running. Time across a reboot is not
    proven and so not charged (design §2 rule 11)."""
    if s.clock_from is None:
        return s
    elapsed_ms = max(0, now.since_ms(s.clock_from) or 0)
    if s.state is S.CHARGING:
        return replace(s, charging_ms=s.charging_ms + elapsed_ms, clock_from=now)
    if s.state is S.SUSPENDED:
        return replace(s, idle_ms=s.idle_ms + elapsed_ms, clock_from=now)
    return replace(s, clock_from=now)


def phase_change(s: Session, e: Event) -> Session:
    return replace(_account(s, e.stamp), clock_from=e.stamp)


def progress(s: Session, e: Event) -> Session:
    s = _account(s, e.stamp)
    wh = e.integer("energy_wh")
    if s.last_wh is not None and wh < s.last_wh:
        return s  # a lower register is a fault of the meter, never a new base
    return replace(s, last_wh=wh, last_at=e.stamp)


def usage_at(s: Session, now: Stamp) -> tuple[int, int]:
    """(charging_ms, idle_ms) at `now`, the running phase included."""
    accounted = _account(s, now)
    return accounted.charging_ms, accounted.idle_ms


def stop(s: Session, e: Event) -> Session:
    s = _account(s, e.stamp)
    gone = e.name == "unplugged"
    return replace(
        s,
        clock_from=None,
        stop_reason="unplugged" if gone else e.text("reason"),
        plugged=s.plugged and not gone,
    )


def restarted_charging(s: Session, e: Event) -> Session:
    """The outage itself is not charged as time; its energy is, by the register."""
    return replace(s, clock_from=e.stamp)


def stop_after_restart(s: Session, e: Event) -> Session:
    return replace(s, clock_from=None, stop_reason=e.text("reason", "restart"))


def ended(s: Session, e: Event) -> Session:
    return replace(
        s,
        end_wh=e.integer("energy_wh"),
        ended_at=e.stamp,
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


def captured(s: Session, e: Event) -> Session:
    s = evidence(s, e) if "result" in e.data else s
    return replace(s, outcome="captured")


def released(s: Session, e: Event) -> Session:
    s = evidence(s, e) if "result" in e.data else s
    return replace(s, outcome="released" if s.cost_minor is not None else "cancelled")


def not_executed(s: Session, e: Event) -> Session:
    return replace(s, attempts=s.attempts + 1, why=e.text("why"))


def again(s: Session, _: Event) -> Session:
    """Asked, and the hold is still open: the command was not executed and may be sent again."""
    return replace(s, attempts=s.attempts + 1, outcome="", refusal={})


def refused_settlement(s: Session, e: Event) -> Session:
    return replace(
        s,
        outcome="refused",
        refusal={"reason": e.text("reason"), "code": e.text("code"), "text": e.text("text")},
    )


def vanished(s: Session, e: Event) -> Session:
    return replace(s, outcome="unknown", why=e.text("why"))


def explain(s: Session, e: Event) -> Session:
    return replace(s, why=e.text("why"))
