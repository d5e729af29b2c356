"""Deadlines of sessions: computed by the session room, waited for here."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any

from agent.session import E, Session
from agent.session.deadlines import Policy, deadline
from agent.station.context import Context


class Timers:
    """One timer a session, set anew whenever it enters a state. After a reboot the time already
    waited is not known, so the whole wait begins again."""

    def __init__(
        self,
        policy: Policy,
        context: Context,
        start: Callable[[str, Coroutine[Any, Any, None]], None],
    ) -> None:
        """`start` runs work as a part of the station: a deadline that cannot be stored must not be
        lost in silence."""
        self._policy, self._context, self._start = policy, context, start
        self._running: dict[str, tuple[object, asyncio.TimerHandle]] = {}

    def watch(self, session: Session) -> None:
        """Called after every event of a session, and once for each session found at start."""
        known = self._running.get(session.id)
        if known is not None and known[0] == (session.state, session.entered):
            return
        if known is not None:
            known[1].cancel()
            del self._running[session.id]
        due = deadline(session, self._policy)
        if due is None or session.entered is None:
            return
        waited_ms = self._context.clock.stamp().since_ms(session.entered) or 0
        handle = asyncio.get_running_loop().call_later(
            max(0, due.after_ms - waited_ms) / 1000, self._fire, session.id, due.event, due.data
        )
        self._running[session.id] = ((session.state, session.entered), handle)

    def _fire(self, session_id: str, event: E, data: dict[str, object]) -> None:
        self._running.pop(session_id, None)
        self._start(f"deadline {session_id}", self._tell(session_id, event, data))

    async def _tell(self, session_id: str, event: E, data: dict[str, object]) -> None:
        await self._context.keeper.tell(session_id, event, data)

    def stop(self) -> None:
        """No deadline is told any more; the next start computes them again."""
        for _, handle in self._running.values():
            handle.cancel()
        self._running.clear()
