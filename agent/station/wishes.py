"""A cancel that came while the terminal was at work is carried out as soon as the hold is known.

Remembered in the session, so that it outlives the process; until it is carried out the table lets no energy
begin. The hold itself is not interrupted: a driver may be typing a PIN, and what was approved is released."""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from typing import Any

from agent.session import E, S, Session, Step, energy_allowed
from agent.station.keeper import Keeper

CANCELLABLE = (S.HELD, S.BEGINNING)
# Where a wish stands that is not carried out yet.
PENDING = (S.AUTHORIZING, S.APPROVED, S.HOLD_UNCLEAR, *CANCELLABLE)


async def end(keeper: Keeper, session_id: str, *, stop: str, cancel: str) -> Step | None:
    """Stop a session whose energy may flow, for the reason `stop` (empty: it goes on), or cancel it before
    that. Which of the two it is may change while another event is being stored. None: nothing to do."""
    step = None
    for _ in range(2):  # energy is allowed once
        session = keeper.sessions.get(session_id)
        if session is None:
            break
        if not energy_allowed(session.state):
            step = await keeper.tell(session_id, E.CANCELLED, {"why": cancel})
        elif stop:
            step = await keeper.tell(session_id, E.STOP, {"reason": stop})
        if step is None or step.taken or not energy_allowed(step.session.state):
            break
    return step


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
