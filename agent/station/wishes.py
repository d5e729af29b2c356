"""A cancel that came while the terminal was at work is carried out as soon as the hold is known.

Remembered in the session, so that it outlives the process; until it is carried out the table lets no energy
begin. The hold itself is not interrupted: a driver may be typing a PIN, and what was approved is released."""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from typing import Any

from agent.session import E, S, Session
from agent.station.keeper import Keeper

CANCELLABLE = (S.HELD, S.BEGINNING)
# Where a wish stands that is not carried out yet.
PENDING = (S.AUTHORIZING, S.APPROVED, S.HOLD_UNCLEAR, *CANCELLABLE)


class Wishes:
    def __init__(
        self, keeper: Keeper, start: Callable[[str, Coroutine[Any, Any, None]], None]
    ) -> None:
        self._keeper, self._start = keeper, start

    def watch(self, session: Session) -> None:
        """Called after every event of a session."""
        if session.cancel_wish and session.state in CANCELLABLE:
            self._start(f"cancel {session.id}", self._cancel(session))

    async def _cancel(self, session: Session) -> None:
        now = self._keeper.sessions.get(session.id)
        if now is not None and now.state in CANCELLABLE:
            await self._keeper.tell(session.id, E.CANCELLED, {"why": session.cancel_wish})
