"""Orders the raises that connectors wish for, one at a time, while nothing else is done at the terminal.

What the terminal's last result is then is stored with the order. Nothing comes between it and the command,
and nothing after that before it is known how it ended: whatever the last result is then tells."""

from __future__ import annotations

from collections.abc import Mapping

from agent.session import E, energy_allowed
from agent.session.doubt import needs_last_result
from agent.station.charge_point import ChargePoint
from agent.station.keeper import Keeper
from agent.station.till import Till, made_elsewhere


class Raising:
    def __init__(self, till: Till, points: Mapping[str, ChargePoint], keeper: Keeper) -> None:
        self._till, self._points, self._keeper = till, points, keeper

    @property
    def wanted(self) -> bool:
        return any(point.raise_wish(self._till.id) for point in self._points.values())

    async def order(self) -> None:
        """The first wish becomes an order, or is dropped: the connector wishes again after a while. Raises
        LedgerError."""
        for point in self._points.values():
            wish = point.raise_wish(self._till.id)
            if wish is None:
                continue
            point.forget_wish()
            before = await self._till.last_ref() if self._may(wish[0]) else None
            if before is not None:
                told = [[before["receipt"], before["trace"]]] if before else []
                await self._keeper.tell(wish[0], E.RAISE, wish[1] | {"before": told})
            return

    def _may(self, session_id: str) -> bool:
        """Its energy still flows, and no other session needs the last result as it is."""
        session, connected = self._keeper.sessions.get(session_id), self._till.connected_id
        if session is None or not energy_allowed(session.state):
            return False
        return not any(
            s.id != session_id and needs_last_result(s) and not made_elsewhere(s, connected)
            for s in self._keeper.at_terminal(self._till.id)
        )
