"""The money work that waits for its turn at one terminal, in order."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable

from agent.session import Effect, Session
from agent.session.doubt import raise_in_doubt
from agent.station.keeper import Keeper
from agent.station.till import JUDGES, Till, made_elsewhere, owes

ASK_AGAIN_S = 60.0  # the terminal answered but it cannot be told: its state changes slowly
# What waits for another session's raise to be told is looked at so often.
HELD_BACK_S = 5.0
# The next command replaces the last result, which may be all that tells how an earlier one ended, so
# questions go first; a raise was ordered by the last result as it is now.
_FIRST = (*JUDGES, Effect.RAISE)


class Jobs:
    """Bounded: one job per session and effect. `wake`: the desk has something to do."""

    def __init__(self, till: Till, keeper: Keeper, wake: Callable[[], None]) -> None:
        self._till, self._keeper, self._wake = till, keeper, wake
        self._waiting: deque[tuple[str, Effect]] = deque()
        self._later: dict[str, asyncio.TimerHandle] = {}

    def __bool__(self) -> bool:
        return bool(self._waiting)

    def order(self, session_id: str, effect: Effect) -> None:
        if (session_id, effect) not in self._waiting:
            if effect in _FIRST:
                self._waiting.appendleft((session_id, effect))
            else:
                self._waiting.append((session_id, effect))
        self._wake()

    def later(self, session_id: str, effect: Effect, after_s: float = ASK_AGAIN_S) -> None:
        """Order it again after a while; one such wait of a session is pending at a time."""
        self._forget(session_id)
        loop = asyncio.get_running_loop()
        self._later[session_id] = loop.call_later(after_s, self.order, session_id, effect)

    def next(self) -> tuple[Session, Effect] | None:
        """The oldest one, if its session still owes it and it may be done now."""
        session_id, effect = self._waiting.popleft()
        self._forget(session_id)
        session = self._keeper.sessions.get(session_id)
        if session is None or not owes(session, effect):
            return None
        if effect not in JUDGES and self._would_replace(session_id):
            self.later(session_id, effect, HELD_BACK_S)
            return None
        return session, effect

    def stop(self) -> None:
        for session_id in list(self._later):
            self._forget(session_id)

    def _forget(self, session_id: str) -> None:
        handle = self._later.pop(session_id, None)
        if handle is not None:
            handle.cancel()

    def _would_replace(self, session_id: str) -> bool:
        """Another session needs the last result as it is, to tell whether its hold was raised."""
        connected = self._till.connected_id
        return any(
            s.id != session_id and raise_in_doubt(s) and not made_elsewhere(s, connected)
            for s in self._keeper.at_terminal(self._till.id)
        )
