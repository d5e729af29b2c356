"""What a terminal shows: the sessions of its connectors, put into the words of driver_ui.

Level-triggered like everything else: the lines follow from the states, so a screen is never left behind."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from agent.driver_ui import screens
from agent.driver_ui.screens import Display, Lines
from agent.ports import Reason
from agent.session import S, Session
from agent.station.context import Context
from agent.station.meant import connector_name, meant
from agent.values import Money

if TYPE_CHECKING:
    from agent.station.charge_point import ChargePoint

NOTICE_MS = 8_000  # long enough to read two lines, short enough not to keep the next driver waiting
DONE_MS = 30_000  # the total stays while the driver puts the cable back

_ID = re.compile(r"[A-Z]{3}-\d{3}")
# What stopped a session against the driver's wish, and the code that a helpline is told.
FAULTS = {
    "emergency stop": "STA-030",
    "fault of the charge controller": "STA-031",
    "charge controller lost": "STA-020",
    "meter lost": "STA-021",
    "meter exchanged": "STA-021",
}

_BEFORE_HOLD = (S.AUTHORIZING, S.APPROVED)
_ASKING = (S.HOLD_UNCLEAR, S.CAPTURE_UNCLEAR, S.RELEASE_UNCLEAR)
_STOPPING = (S.STOPPING, S.ENDING, S.RECORDING, S.CAPTURING)


@dataclass(frozen=True, slots=True)
class Notice:
    """A text for a moment, whatever the states are."""

    lines: Lines
    until_ms: int


class Screen:
    def __init__(
        self,
        context: Context,
        hold: Money,
        language: str,
        *,
        stop_by_tap: bool,
        plug_first: bool = False,
        helpline: str = "",
    ) -> None:
        self._context, self._hold = context, hold
        self._display = Display(language=language)
        self._stop_by_tap, self._plug_first = stop_by_tap, plug_first
        self._helpline = helpline

    # --- moments ----------------------------------------------------------------------------------

    def refused(self, why: str) -> tuple[Lines, int]:
        """A tap that starts nothing: "busy", "wait_check", "occupied", "other_card", "holds_full", "day_end"
        or "out_of_order"."""
        if why == "day_end":
            return self.day_end(), NOTICE_MS
        if why == "out_of_order":
            return self._out_of_order(""), NOTICE_MS
        return screens.refused_tap(self._display, why), NOTICE_MS

    def declined(self, reason: Reason, key: str = "") -> tuple[Lines, int]:
        return screens.declined(self._display, reason, key), NOTICE_MS

    def card_test(self) -> Lines:
        return screens.card_test(self._display)

    def day_end(self) -> Lines:
        return screens.day_end(self._display)

    # --- states -----------------------------------------------------------------------------------

    def lines(
        self, terminal: str, points: Mapping[str, ChargePoint], trouble: str, closed: str = ""
    ) -> Lines:
        """`trouble`: why nobody can do anything; `closed`: why no session may begin (see `refused`)."""
        if trouble:
            return self._out_of_order(trouble)
        keeper = self._context.keeper
        mine = [s for s in keeper.at_terminal(terminal) if s.state is not S.UNRESOLVED]
        session = _most_urgent(mine)
        if session is not None:
            return self._of(session, points)
        done = keeper.last_closed(terminal)
        if done is not None and self._fresh(done):
            return self._of(done, points)
        if closed == "day_end":
            return self.day_end()
        if closed == "holds_full":
            return screens.refused_tap(self._display, closed)
        free = [p for p in points.values() if not p.ready_for_session()]
        if closed or not free:
            return self._out_of_order("")
        chosen = meant(points)
        named = chosen is not None and chosen.car_there
        return screens.idle(
            self._display,
            self._context.tariff,
            self._hold,
            plug_first=self._plug_first and not named,
            connector="" if chosen is None else _where(chosen.id, points),
        )

    def _out_of_order(self, trouble: str) -> Lines:
        """Never the text itself, which is for technicians, but its id for the helpline."""
        code = _ID.match(trouble)
        return screens.out_of_order(
            self._display, code=code.group() if code else "", helpline=self._helpline
        )

    def _fresh(self, session: Session) -> bool:
        now = self._context.clock.stamp()
        since_ms = None if session.entered is None else now.since_ms(session.entered)
        # A hold that came to nothing is told, too: a driver who sees only the price again worries.
        shown_ms = DONE_MS if session.begin_wh is not None else NOTICE_MS
        shown = session.outcome in ("captured", "released", "cancelled", "not_held")
        return shown and since_ms is not None and since_ms < shown_ms

    def _of(self, session: Session, points: Mapping[str, ChargePoint]) -> Lines:
        d, state = self._display, session.state
        where = _where(session.evse, points)
        if state in _BEFORE_HOLD:
            return screens.authorising(d, Money(session.requested_minor, session.currency), where)
        if state in _ASKING:
            return screens.payment_unclear(d)
        if state is S.HELD:
            waits = [p for p in points.values() if not p.ready_for_session() and p.car_there]
            again = session.evse is None and any(p.car.served for p in waits)
            return screens.approved(d, connector=where, plug_again=again)
        if state in (S.BEGINNING, S.STARTING):
            return screens.starting(d, where)
        if state in (S.CHARGING, S.SUSPENDED):
            return self._charging(session, points)
        if state in _STOPPING:
            return screens.stopping(d)
        if session.begin_wh is None:
            return screens.not_started(d)
        return self._done(session, points)

    def _charging(self, session: Session, points: Mapping[str, ChargePoint]) -> Lines:
        point = points.get(session.evse or "")
        live = None if point is None else point.live
        if live is None:
            return screens.starting(self._display, _where(session.evse, points))
        return screens.charging(
            self._display,
            energy_wh=live.energy_wh,
            duration_ms=live.charging_ms + live.idle_ms,
            cost=Money(live.cost_minor, session.currency),
            stop_by_tap=self._stop_by_tap,
            paused=session.state is S.SUSPENDED,
            connector=_where(session.evse, points),
        )

    def _done(self, session: Session, points: Mapping[str, ChargePoint]) -> Lines:
        point = points.get(session.evse or "")
        last4 = session.card.get("card_last4")
        fault = FAULTS.get(session.stop_reason)
        if fault is not None:
            return screens.fault(
                self._display,
                code=fault,
                pays=Money(session.to_capture_minor, session.currency),
                helpline=self._helpline,
                estop=session.stop_reason == "emergency stop",
            )
        return screens.done(
            self._display,
            total=Money(session.cost_minor or 0, session.currency),
            energy_wh=session.energy_wh,
            duration_ms=session.charging_ms + session.idle_ms,
            released=Money(session.released_minor, session.currency),
            card_last4=None if last4 is None else str(last4),
            receipt_code=session.id,
            plugged=point is not None and point.car_there,
        )


# Who has the display when a terminal serves several connectors: a payment under way, then a driver who
# has to do something, then whoever stops, then whoever charges.
_URGENCY: tuple[frozenset[S], ...] = (
    frozenset({*_BEFORE_HOLD, S.HOLD_UNCLEAR}),
    frozenset({S.HELD, S.BEGINNING, S.STARTING}),
    frozenset({*_STOPPING, S.RELEASING, S.SETTLED}),
    frozenset({S.CHARGING, S.SUSPENDED}),
    frozenset({S.CAPTURE_UNCLEAR, S.RELEASE_UNCLEAR}),
)


def _where(evse: str | None, points: Mapping[str, ChargePoint]) -> str:
    """The connector's name, where the terminal serves several."""
    return connector_name(evse) if evse is not None and len(points) > 1 else ""


def _most_urgent(sessions: Iterable[Session]) -> Session | None:
    kept = list(sessions)
    for group in _URGENCY:
        for session in kept:
            if session.state in group:
                return session
    return None
