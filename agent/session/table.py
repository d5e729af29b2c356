"""The session table, as data, and the one function that moves a session.

`transitions` validates the table and walks it: synchronous, `auto_transitions=False` (no jumps past
rules), `queued=False` (a queue would answer True before anything happened), a throwaway model per step,
and every row's act runs in `before`, so that an exception leaves the session as it was.

Rows of one event in one state are tried in order; the first whose guard holds is taken.
A change to this table raises TABLE_VERSION: stored events name the version they were decided with.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from typing import Any, NamedTuple, cast

from transitions import EventData, Machine, MachineError

from agent.session import acts, limits, listed, measured, raises
from agent.session.events import E, Event
from agent.session.session import Session, accounted
from agent.session.states import BEFORE_ENERGY, OWED, Effect, S
from agent.values import Stamp

TABLE_VERSION = 1

Act = Callable[[Session, Event], Session]
Guard = Callable[[Session, Event], bool]


class Row(NamedTuple):
    event: E
    source: S
    dest: S
    do: Act = acts.nothing
    when: Guard | None = None


def _stay(event: E, states: Iterable[S], do: Act = acts.nothing) -> tuple[Row, ...]:
    return tuple(Row(event, s, s, do) for s in states)


def _stay_when(event: E, states: Iterable[S], do: Act, when: Guard) -> tuple[Row, ...]:
    return tuple(Row(event, s, s, do, when) for s in states)


def _is_unbound(s: Session, _: Event) -> bool:
    """Two cars may be plugged in before the first is stored as the one that was meant."""
    return s.evse is None


_RUNNING = (S.STARTING, S.CHARGING, S.SUSPENDED)

# Order of a session: hold done, meter begin, release, ..., stop, power zero, meter end, price, record,
# capture (design §3).
HOLD: tuple[Row, ...] = (
    Row(E.TAPPED, S.NEW, S.AUTHORIZING, acts.tapped),
    Row(E.APPROVED, S.AUTHORIZING, S.APPROVED, acts.approved),
    Row(E.HELD, S.APPROVED, S.RELEASING, acts.approved_blindly, acts.has_no_amount),
    Row(E.HELD, S.APPROVED, S.RELEASING, acts.approved_too_little, acts.too_little),
    Row(E.HELD, S.APPROVED, S.BEGINNING, acts.nothing, acts.is_plugged),
    Row(E.HELD, S.APPROVED, S.HELD),
    Row(E.REFUSED, S.AUTHORIZING, S.SETTLED, acts.refused_hold),
    Row(E.NOT_SENT, S.AUTHORIZING, S.SETTLED, acts.never_held),
    Row(E.REFUSED, S.APPROVED, S.HOLD_UNCLEAR, acts.contradicted_hold),
    Row(E.NOT_SENT, S.APPROVED, S.HOLD_UNCLEAR, acts.contradicted_hold),
    Row(E.UNCLEAR, S.AUTHORIZING, S.HOLD_UNCLEAR, acts.explain),
    Row(E.UNCLEAR, S.APPROVED, S.HOLD_UNCLEAR, acts.explain),
    Row(E.RESTARTED, S.AUTHORIZING, S.HOLD_UNCLEAR),
    Row(E.RESTARTED, S.APPROVED, S.HOLD_UNCLEAR),
    Row(E.HOLD_FOUND, S.HOLD_UNCLEAR, S.RELEASING, acts.approved_blindly, acts.found_no_amount),
    Row(E.HOLD_FOUND, S.HOLD_UNCLEAR, S.RELEASING, acts.approved_too_little, acts.found_too_little),
    Row(E.HOLD_FOUND, S.HOLD_UNCLEAR, S.HELD, acts.approved),
    Row(E.HOLD_ABSENT, S.HOLD_UNCLEAR, S.SETTLED, acts.never_held),
    Row(E.VANISHED, S.HOLD_UNCLEAR, S.UNRESOLVED, acts.hold_vanished),
    *_stay_when(E.BOUND, BEFORE_ENERGY, acts.bound, _is_unbound),
    *_stay(E.PLUGGED, (S.AUTHORIZING, S.APPROVED, S.HOLD_UNCLEAR), acts.plugged),
    *_stay(E.UNPLUGGED, BEFORE_ENERGY, acts.unplugged),
    Row(E.PLUGGED, S.HELD, S.BEGINNING, acts.plugged, acts.is_bound),
    Row(E.CONNECTION_TIMEOUT, S.HELD, S.RELEASING, acts.cancelled),
    Row(E.CANCELLED, S.HELD, S.RELEASING, acts.cancelled),
    *_stay_when(
        E.CANCELLED,
        (S.AUTHORIZING, S.APPROVED, S.HOLD_UNCLEAR),
        acts.cancel_wished,
        acts.is_unwished,
    ),
)

ENERGY: tuple[Row, ...] = (
    *_stay(E.SIGNING, (S.BEGINNING,), measured.signing),
    Row(E.BEGAN, S.BEGINNING, S.STARTING, acts.began, acts.is_unwished),
    Row(E.BEGIN_FAILED, S.BEGINNING, S.RELEASING, acts.cancelled),
    Row(E.UNPLUGGED, S.BEGINNING, S.RELEASING, acts.cancelled),
    Row(E.CANCELLED, S.BEGINNING, S.RELEASING, acts.cancelled),
    Row(E.ENERGY_FLOWS, S.STARTING, S.CHARGING, acts.phase_change),
    Row(E.ENERGY_FLOWS, S.SUSPENDED, S.CHARGING, acts.phase_change),
    Row(E.SUSPENDED, S.CHARGING, S.SUSPENDED, acts.phase_change),
    *_stay(E.PROGRESS, (*_RUNNING, S.STOPPING), acts.progress),
    *(Row(E.STOP, s, S.STOPPING, acts.stop) for s in _RUNNING),
    *(Row(E.UNPLUGGED, s, S.STOPPING, acts.stop) for s in _RUNNING),
    *(Row(E.RESTARTED, s, s, acts.restarted_charging, acts.may_resume) for s in _RUNNING),
    *(Row(E.RESTARTED, s, S.STOPPING, acts.stop_after_restart) for s in _RUNNING),
    Row(E.STOPPED, S.STOPPING, S.ENDING, measured.stopped),
    Row(E.ENDED, S.ENDING, S.RAISE_OPEN, acts.ended, raises.is_under_way),
    Row(E.ENDED, S.ENDING, S.RECORDING, acts.ended),
)

# Raising the hold runs beside these states; only when all else is read does anything wait for it.
_BESIDE = (*_RUNNING, S.STOPPING, S.ENDING)


def _raise_told(event: E, do: Act, when: Guard) -> tuple[Row, ...]:
    """A word that ends the raise, whatever the state."""
    return (*_stay_when(event, _BESIDE, do, when), Row(event, S.RAISE_OPEN, S.RECORDING, do, when))


RAISE: tuple[Row, ...] = (
    *_stay_when(E.RAISE, _RUNNING, raises.ordered, raises.may_raise),
    *_stay_when(E.RAISE_APPROVED, (*_BESIDE, S.RAISE_OPEN), raises.approved, raises.is_ordered),
    *_stay_when(E.RAISED, (*_BESIDE, S.RAISE_OPEN), raises.doubted, raises.completed_blindly),
    *_raise_told(E.RAISED, raises.done, raises.is_approved),
    *_stay_when(E.RAISE_FAILED, (*_BESIDE, S.RAISE_OPEN), raises.doubted, raises.is_approved),
    *_raise_told(E.RAISE_FAILED, raises.failed, raises.is_ordered),
    *_stay_when(E.RAISE_UNCLEAR, (*_BESIDE, S.RAISE_OPEN), raises.doubted, raises.is_under_way),
    *_raise_told(E.RAISE_FOUND, raises.found, raises.is_doubted),
    *_raise_told(E.RAISE_ABSENT, raises.absent, raises.is_doubted),
    *_stay_when(E.VANISHED, _BESIDE, raises.lost, raises.is_unclear),
    Row(E.VANISHED, S.RAISE_OPEN, S.RECORDING, raises.lost),
    *_stay(E.RESTARTED, (S.STOPPING, S.ENDING), measured.restarted_ending),
    Row(E.RESTARTED, S.RAISE_OPEN, S.RAISE_OPEN, raises.after_restart),
    Row(E.RAISE_FOUND, S.UNRESOLVED, S.CAPTURING, raises.found_late, raises.lost_and_costs),
    Row(E.RAISE_ABSENT, S.UNRESOLVED, S.CAPTURING, raises.absent_late, raises.lost_and_costs),
)

SETTLEMENT: tuple[Row, ...] = (
    Row(
        E.RECORDED,
        S.RECORDING,
        S.UNRESOLVED,
        raises.record_with_unknown_hold,
        raises.lost_and_costs,
    ),
    Row(E.RECORDED, S.RECORDING, S.CAPTURING, acts.recorded_session, acts.costs),
    Row(E.RECORDED, S.RECORDING, S.RELEASING, acts.recorded_session),
    *_stay(E.EVIDENCE, (S.CAPTURING, S.RELEASING), acts.evidence),
    # capture
    Row(E.SETTLED, S.CAPTURING, S.UNRESOLVED, acts.captured_otherwise, acts.booked_otherwise),
    Row(E.SETTLED, S.CAPTURING, S.SETTLED, acts.captured),
    Row(E.NOT_SENT, S.CAPTURING, S.CAPTURE_UNCLEAR, acts.explain, acts.contradicted),
    Row(E.NOT_SENT, S.CAPTURING, S.CAPTURE_DUE, acts.not_executed),
    Row(E.UNCLEAR, S.CAPTURING, S.CAPTURE_UNCLEAR, acts.explain),
    Row(E.RESTARTED, S.CAPTURING, S.CAPTURE_UNCLEAR),
    Row(E.REFUSED, S.CAPTURING, S.CAPTURE_UNCLEAR, acts.doubted_refusal, acts.asks_first),
    Row(E.REFUSED, S.CAPTURING, S.UNRESOLVED, acts.refused_settlement),
    Row(E.RETRY_DUE, S.CAPTURE_DUE, S.CAPTURING),
    Row(E.GAVE_UP, S.CAPTURE_DUE, S.UNRESOLVED, acts.given_up),
    Row(E.STILL_OPEN, S.CAPTURE_UNCLEAR, S.CAPTURING, acts.again, acts.first_try),
    Row(E.STILL_OPEN, S.CAPTURE_UNCLEAR, S.CAPTURE_DUE, acts.again),
    Row(E.CONFIRMED, S.CAPTURE_UNCLEAR, S.SETTLED, acts.captured),
    Row(E.VANISHED, S.CAPTURE_UNCLEAR, S.UNRESOLVED, acts.vanished),
    # release
    Row(E.SETTLED, S.RELEASING, S.UNRESOLVED, listed.freed, acts.freed_and_owed),
    Row(E.NOT_SENT, S.RELEASING, S.UNRESOLVED, listed.not_freed, acts.is_freeing),
    Row(E.REFUSED, S.RELEASING, S.UNRESOLVED, listed.not_freed, acts.is_freeing),
    Row(E.CONFIRMED, S.RELEASE_UNCLEAR, S.UNRESOLVED, listed.freed, acts.freed_and_owed),
    Row(E.SETTLED, S.RELEASING, S.SETTLED, acts.released),
    Row(E.NOT_SENT, S.RELEASING, S.RELEASE_UNCLEAR, acts.explain, acts.contradicted),
    Row(E.NOT_SENT, S.RELEASING, S.RELEASE_DUE, acts.not_executed),
    Row(E.UNCLEAR, S.RELEASING, S.RELEASE_UNCLEAR, acts.explain),
    Row(E.RESTARTED, S.RELEASING, S.RELEASE_UNCLEAR),
    Row(E.REFUSED, S.RELEASING, S.RELEASE_UNCLEAR, acts.doubted_refusal, acts.asks_first),
    Row(E.REFUSED, S.RELEASING, S.UNRESOLVED, acts.refused_settlement),
    Row(E.RETRY_DUE, S.RELEASE_DUE, S.RELEASING),
    Row(E.GAVE_UP, S.RELEASE_DUE, S.UNRESOLVED, acts.given_up),
    Row(E.STILL_OPEN, S.RELEASE_UNCLEAR, S.RELEASING, acts.again, acts.first_try),
    Row(E.STILL_OPEN, S.RELEASE_UNCLEAR, S.RELEASE_DUE, acts.again),
    Row(E.CONFIRMED, S.RELEASE_UNCLEAR, S.SETTLED, acts.released),
    Row(E.VANISHED, S.RELEASE_UNCLEAR, S.UNRESOLVED, acts.vanished),
    Row(E.RECORDED, S.SETTLED, S.CLOSED, acts.recorded_settlement),
    # An outcome that stayed unknown is asked for again from time to time; a refusal is a person's work.
    Row(E.RECORDED, S.UNRESOLVED, S.UNRESOLVED, acts.recorded_settlement),
    Row(E.HOLD_FOUND, S.UNRESOLVED, S.RELEASING, acts.hold_found_late, acts.doubted_hold),
    Row(E.HOLD_ABSENT, S.UNRESOLVED, S.SETTLED, acts.hold_absent_late, acts.doubted_hold),
    Row(E.STILL_OPEN, S.UNRESOLVED, S.CAPTURING, acts.again, acts.unknown_capture),
    Row(E.STILL_OPEN, S.UNRESOLVED, S.RELEASING, acts.again, acts.unknown_release),
    Row(E.STILL_OPEN, S.UNRESOLVED, S.RELEASING, acts.again, acts.unknown_freeing),
    Row(E.CONFIRMED, S.UNRESOLVED, S.UNRESOLVED, listed.freed, acts.unknown_freeing),
    Row(E.CONFIRMED, S.UNRESOLVED, S.SETTLED, acts.captured, acts.unknown_capture),
    Row(E.CONFIRMED, S.UNRESOLVED, S.SETTLED, acts.released, acts.unknown_release),
)

# What a driver or the back end sets binds while energy may still flow.
LIMITS = _stay_when(E.LIMITED, sorted(limits.TAKES_LIMITS), limits.limited, limits.changes)

# What stays listed: holds at a terminal that was exchanged, holds of nobody here, and the word of a person.
LISTED: tuple[Row, ...] = (
    *(
        Row(E.AWAY, state, S.UNRESOLVED, acts.away)
        for state in (S.CAPTURING, S.CAPTURE_DUE, S.RELEASING, S.RELEASE_DUE)
    ),
    Row(E.AWAY, S.CAPTURE_UNCLEAR, S.UNRESOLVED, acts.vanished),
    Row(E.AWAY, S.RELEASE_UNCLEAR, S.UNRESOLVED, acts.vanished),
    Row(E.FOREIGN, S.NEW, S.UNRESOLVED, listed.foreign),
    Row(E.CANCELLED, S.UNRESOLVED, S.RELEASING, acts.cancelled, acts.is_foreign),
    Row(E.FREE, S.UNRESOLVED, S.RELEASING, listed.free, acts.may_free),
    Row(E.VANISHED, S.UNRESOLVED, S.SETTLED, listed.foreign_gone, acts.foreign_and_recorded),
    Row(E.CLOSED_BY_HAND, S.UNRESOLVED, S.SETTLED, listed.closed_by_hand, acts.is_recorded),
)

# What the station could not go on with: salvaged from a damaged ledger, or of another version's table. What
# is folded of it may stand anywhere; only a person ends it, and nothing is sent.
SET_ASIDE: tuple[Row, ...] = tuple(
    Row(E.CLOSED_UNREAD, state, S.CLOSED, listed.closed_unread)
    for state in S
    if state is not S.CLOSED
)

# What is told of a session that has ended, when its register is read again.
AFTERWARDS: tuple[Row, ...] = (
    Row(E.UNMEASURED, S.CLOSED, S.CLOSED, measured.unmeasured, measured.is_named_once),
)

# States that survive a restart as they are: the same effect is owed again.
_KEPT = (
    S.HOLD_UNCLEAR,
    S.HELD,
    S.BEGINNING,
    S.RECORDING,
    S.CAPTURE_DUE,
    S.CAPTURE_UNCLEAR,
    S.RELEASE_DUE,
    S.RELEASE_UNCLEAR,
    S.SETTLED,
    S.UNRESOLVED,
)

TABLE: tuple[Row, ...] = (
    *HOLD,
    *ENERGY,
    *RAISE,
    *LIMITS,
    *SETTLEMENT,
    *LISTED,
    *SET_ASIDE,
    *AFTERWARDS,
    *_stay(E.RESTARTED, _KEPT),
)


@dataclass
class _Cell:
    """The model `transitions` moves: one per step, dropped after it."""

    session: Session
    state: S


def _cell(data: EventData) -> tuple[_Cell, Event]:
    return cast(_Cell, data.model), cast("tuple[Event]", data.args)[0]


class _Bound:
    """A row as the callbacks the library wants."""

    def __init__(self, row: Row) -> None:
        self.row = row

    def allowed(self, data: EventData) -> bool:
        cell, event = _cell(data)
        return self.row.when is None or self.row.when(cell.session, event)

    def act(self, data: EventData) -> None:
        cell, event = _cell(data)
        # A restart ends no phase: what went before it is not proven. Nor is it for what comes before anybody
        # has looked; the time runs again when the station did.
        if event.data.get("outage") is True:
            cell.session = replace(cell.session, clock_from=None)
        elif event.name is not E.RESTARTED:
            cell.session = accounted(cell.session, event.stamp)
        cell.session = self.row.do(cell.session, event)


def _machine() -> Machine:
    rows: list[dict[str, Any]] = []
    for row in TABLE:
        bound = _Bound(row)
        rows.append(
            {
                "trigger": row.event,
                "source": row.source,
                "dest": row.dest,
                "conditions": bound.allowed,
                "before": bound.act,
            }
        )
    return Machine(
        model=None,
        states=S,
        initial=S.NEW,
        transitions=rows,
        auto_transitions=False,
        send_event=True,
        queued=False,
    )


_MACHINE = _machine()


class Step(NamedTuple):
    """`taken` is False when the state does not know the event: nothing changed. `owed` is the effect
    that the new state owes when it was entered by this step, else None."""

    session: Session
    taken: bool
    owed: Effect | None


def step(session: Session, event: Event) -> Step:
    """One decision. Never raises for an event a state does not know."""
    cell = _Cell(session, session.state)
    trigger = _MACHINE.events.get(event.name)
    try:
        taken = trigger is not None and trigger.trigger(cell, event)
    except MachineError:
        taken = False
    if not taken:
        return Step(session, False, None)
    # What stays listed, but with another outcome, is entered anew: it owes a record of that.
    renewed = session.settlement_seq is not None and cell.session.settlement_seq is None
    entered = cell.state is not session.state or renewed
    after = replace(
        cell.session,
        state=cell.state,
        entered=event.stamp if entered else session.entered,
        held_at=_held_at(cell.session, event),
    )
    return Step(after, True, OWED.get(cell.state) if entered else None)


def _held_at(s: Session, event: Event) -> Stamp | None:
    """A hold ages through reboots, too, so what its boot learns of the time of day counts for it."""
    return None if s.held_at is None else s.held_at.as_told_by(event.stamp)


def fold(session_id: str, events: Iterable[Event]) -> Session:
    """The session its stored events make."""
    session = Session(session_id)
    for event in events:
        session = step(session, event).session
    return session
