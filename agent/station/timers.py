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

# The loop's clock stands still while the board is suspended, the boot-time clock does not: no wait is
# longer than this before the question is asked again.
LOOK_EVERY_S = 300.0


@dataclass
class _Watched:
    session: Session
    handle: asyncio.TimerHandle
    alarmed: bool = False


class Timers:
    """One timer a session, set anew whenever it enters a state. After a reboot the time already
    waited is taken from the wall clock where one is needed, else the whole wait begins again."""

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
            known.handle.cancel()
            del self._running[session.id]
        alarmed = known is not None and known.alarmed
        self._wait(session, alarmed)

    def _wait(self, session: Session, alarmed: bool) -> None:
        left = [self._left_ms(session, due) for due in deadlines(session, self._policy)]
        alarm = None if alarmed else self._alarm_left_ms(session)
        waits = [ms for ms in (*left, alarm) if ms is not None]
        if not waits or session.entered is None:
            return
        wait_s = min(max(0, min(waits)) / 1000, LOOK_EVERY_S)
        handle = asyncio.get_running_loop().call_later(wait_s, self._look, session.id)
        self._running[session.id] = _Watched(session, handle, alarmed)

    def _left_ms(self, session: Session, due: Deadline) -> int:
        assert session.entered is not None
        now = self._context.clock.stamp()
        if due.since is not None:
            return due.after_ms - waited_ms(due.since, now)
        return due.after_ms - (now.since_ms(session.entered) or 0)

    def _alarm_left_ms(self, session: Session) -> int | None:
        if session.state not in OCCUPIES_EVSE:
            return None
        left = hold_left_ms(session, self._context.clock.stamp(), self._policy)
        return None if left is None else left - self._policy.hold_alarm_ms

    def _look(self, session_id: str) -> None:
        watched = self._running.pop(session_id)
        session = watched.session
        for due in deadlines(session, self._policy):
            if self._left_ms(session, due) <= 0:
                self._start(f"deadline {session_id}", self._tell(session_id, due.event, due.data))
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
        self._wait(session, watched.alarmed)

    async def _tell(self, session_id: str, event: E, data: dict[str, object]) -> None:
        await self._context.keeper.tell(session_id, event, data)

    def stop(self) -> None:
        """No deadline is told any more; the next start computes them again."""
        for watched in self._running.values():
            watched.handle.cancel()
        self._running.clear()


def _same_wait(a: Session, b: Session) -> bool:
    return (a.state, a.entered, a.held_at) == (b.state, b.entered, b.held_at)
