"""What a terminal shows: the sessions of its connectors, put into the words of driver_ui.

Level-triggered like everything else: the lines follow from the states, so a screen is never left behind."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from agent.driver_ui import screens
from agent.driver_ui.screens import Display, Lines
from agent.ports import Reason
from agent.session import S, Session
from agent.station.context import Context
from agent.values import Money

if TYPE_CHECKING:
    from agent.station.charge_point import ChargePoint

NOTICE_MS = 8_000  # long enough to read two lines, short enough not to keep the next driver waiting
DONE_MS = 30_000  # the total stays while the driver puts the cable back

_BEFORE_HOLD = (S.AUTHORIZING, S.APPROVED)
_ASKING = (S.HOLD_UNCLEAR, S.CAPTURE_UNCLEAR, S.RELEASE_UNCLEAR)
_STOPPING = (S.STOPPING, S.ENDING, S.RECORDING, S.CAPTURING)


@dataclass(frozen=True, slots=True)
class Notice:
    """A text for a moment, whatever the states are."""

    lines: Lines
    until_ms: int


class Screen:
    def __init__(self, context: Context, hold: Money, language: str, stop_by_tap: bool) -> None:
        self._context, self._hold = context, hold
        self._display = Display(language=language)
        self._stop_by_tap = stop_by_tap

    # --- moments ----------------------------------------------------------------------------------

    def busy(self) -> tuple[Lines, int]:
        return screens.refused_tap(self._display, "occupied"), NOTICE_MS

    def other_card(self) -> tuple[Lines, int]:
        return screens.refused_tap(self._display, "other_card"), NOTICE_MS

    def out_of_order(self) -> tuple[Lines, int]:
        return screens.out_of_order(self._display), NOTICE_MS

    def declined(self, reason: Reason) -> tuple[Lines, int]:
        return screens.declined(self._display, reason), NOTICE_MS

    # --- states -----------------------------------------------------------------------------------

    def lines(self, terminal: str, points: Mapping[str, ChargePoint], trouble: str) -> Lines:
        if trouble:
            return screens.out_of_order(self._display)
        keeper = self._context.keeper
        mine = [s for s in keeper.at_terminal(terminal) if s.state is not S.UNRESOLVED]
        session = _most_urgent(mine)
        if session is not None:
            return self._of(session, points)
        done = keeper.last_closed(terminal)
        if done is not None and self._fresh(done):
            return self._done(done, points)
        troubles = [p.ready_for_session() for p in points.values()]
        if all(troubles):
            return screens.out_of_order(self._display)
        return screens.idle(self._display, self._context.tariff, self._hold)

    def _fresh(self, session: Session) -> bool:
        now = self._context.clock.stamp()
        since_ms = None if session.entered is None else now.since_ms(session.entered)
        return session.outcome in ("captured", "released") and (since_ms or DONE_MS) < DONE_MS

    def _of(self, session: Session, points: Mapping[str, ChargePoint]) -> Lines:
        d, state = self._display, session.state
        if state in _BEFORE_HOLD:
            return screens.authorising(d, Money(session.requested_minor, session.currency))
        if state in _ASKING:
            return screens.payment_unclear(d)
        if state is S.HELD:
            return screens.approved(d)
        if state in (S.BEGINNING, S.STARTING):
            return screens.starting(d)
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
            return screens.starting(self._display)
        return screens.charging(
            self._display,
            energy_wh=live.energy_wh,
            duration_ms=live.charging_ms + live.idle_ms,
            cost=Money(live.cost_minor, session.currency),
            stop_by_tap=self._stop_by_tap,
            paused=session.state is S.SUSPENDED,
        )

    def _done(self, session: Session, points: Mapping[str, ChargePoint]) -> Lines:
        point = points.get(session.evse or "")
        last4 = session.card.get("card_last4")
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


def _most_urgent(sessions: Iterable[Session]) -> Session | None:
    kept = list(sessions)
    for group in _URGENCY:
        for session in kept:
            if session.state in group:
                return session
    return None
