"""Deadlines of sessions: computed by the session room, waited for here."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from typing import Any

from agent.session import E, Session
from agent.session.deadlines import Deadline, Policy, deadlines, hold_left_ms, waited_ms
from agent.session.states import OCCUPIES_EVSE
from agent.station.context import Context
from agent.values import Stamp

# What is due already when it is looked at: a connector may be about to tell what ends the wait.
LOOK_AGAIN_S = 1.0
# The loop's clock stands still while the board is suspended, the boot-time clock does not: no wait is
# longer than this before the question is asked again.
LOOK_EVERY_S = 300.0


@dataclass
class _Watched:
    """`anchor`: where waiting in the present state began, as far as this boot can prove it; it counts while
    no clock can tell how long the board was off."""

    session: Session
    anchor: Stamp
    alarmed: bool = False
    handle: asyncio.TimerHandle | None = None

    def cancel(self) -> None:
        if self.handle is not None:
            self.handle.cancel()


class Timers:
    """One timer a session, set anew whenever it enters a state. After a reboot the time already waited is
    taken from the wall clock where that is known; else, and where a driver waits, the wait begins again."""

    def __init__(
        self,
        policy: Policy,
        context: Context,
        start: Callable[[str, Coroutine[Any, Any, None]], None],
    ) -> None:
        """`start` runs work as a part of the station: a deadline that cannot be stored must not be
        lost in silence."""
        self._policy, self._context, self._start = policy, context, start
        self._running: dict[str, _Watched] = {}

    def watch(self, session: Session) -> None:
        """Called after every event of a session, and once for each session found at start."""
        known = self._running.get(session.id)
        if known is not None and _same_wait(known.session, session):
            return
        if known is not None:
            known.cancel()
            del self._running[session.id]
        if session.entered is None:
            return
        now = self._context.clock.stamp()
        anchor = now if now.since_ms(session.entered) is None else session.entered
        self._wait(_Watched(session, anchor, known is not None and known.alarmed))

    def _wait(self, watched: _Watched) -> None:
        session = watched.session
        left = [self._left_ms(watched, due) for due in deadlines(session, self._policy)]
        alarm = None if watched.alarmed else self._alarm_left_ms(session)
        waits = [ms for ms in (*left, alarm) if ms is not None]
        if not waits:
            return
        left_s = min(waits) / 1000
        wait_s = min(left_s if left_s > 0 else LOOK_AGAIN_S, LOOK_EVERY_S)
        watched.handle = asyncio.get_running_loop().call_later(wait_s, self._look, session.id)
        self._running[session.id] = watched

    def _left_ms(self, watched: _Watched, due: Deadline) -> int:
        now = self._context.clock.stamp()
        if due.since is not None:
            return due.after_ms - waited_ms(due.since, now)
        entered = watched.session.entered
        if entered is None or watched.session.state in OCCUPIES_EVSE:
            # A driver waits here, and may have done his part while the board was off.
            entered = watched.anchor
        # A clock that was set back meanwhile must not hold up what this boot has waited for.
        return due.after_ms - max(waited_ms(watched.anchor, now), waited_ms(entered, now))

    def _alarm_left_ms(self, session: Session) -> int | None:
        if session.state not in OCCUPIES_EVSE:
            return None
        left = hold_left_ms(session, self._context.clock.stamp(), self._policy)
        return None if left is None else left - self._policy.hold_alarm_ms

    def _look(self, session_id: str) -> None:
        watched = self._running.pop(session_id)
        session = watched.session
        for due in deadlines(session, self._policy):
            if self._left_ms(watched, due) <= 0:
                self._start(f"deadline {session_id}", self._tell(session, due.event, due.data))
                return
        alarm = self._alarm_left_ms(session)
        if not watched.alarmed and alarm is not None and alarm <= 0:
            watched.alarmed = True
            self._context.log(
                "hold_expires",
                level="warning",
                id="STA-040",
                session=session_id,
                evse=session.evse,
                left_ms=hold_left_ms(session, self._context.clock.stamp(), self._policy),
            )
        self._wait(watched)

    async def _tell(self, session: Session, event: E, data: dict[str, object]) -> None:
        """Not when the wait has ended meanwhile: its session is watched anew then."""
        keeper = self._context.keeper
        now = keeper.sessions.get(session.id)
        if now is not None and _same_wait(now, session):
            await keeper.tell(session.id, event, data, basis=now)

    def stop(self) -> None:
        """No deadline is told any more; the next start computes them again."""
        for watched in self._running.values():
            watched.cancel()
        self._running.clear()


def _same_wait(a: Session, b: Session) -> bool:
    return _wait(a) == _wait(b)


def _wait(s: Session) -> tuple[object, ...]:
    return s.state, s.entered, s.held_at, s.raising, s.raising_since
