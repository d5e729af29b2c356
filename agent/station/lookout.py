"""What happens at a connector while an event of its session is being stored.

A commit takes as long as the disk does. Nobody waits for it whose plug goes, or who presses the emergency
stop: the release is withdrawn at once, and what was seen is not missed, although a car may be there again
when the event is stored."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Any, NamedTuple

from agent.ports import Evse, EvseSnapshot, EvseState
from agent.session import E, Step
from agent.station.context import Context
from agent.station.release import Release
from agent.values import Stamp

LOOK_S = 1.0  # as often as a connector is looked at anyway


class Seen(NamedTuple):
    """A snapshot, and when it was taken."""

    snapshot: EvseSnapshot
    at: Stamp


class Lookout:
    def __init__(self, evse: Evse, release: Release, context: Context) -> None:
        self._evse, self._release = evse, release
        self._keeper, self._clock = context.keeper, context.clock
        self._turn: EvseSnapshot | None = None  # what the present turn is about
        self._missed: Seen | None = None

    async def snapshot(self) -> Seen:
        """Of the next turn: what was missed in the last one comes first."""
        seen, self._missed = self._missed, None
        if seen is None:
            seen = Seen(await self._evse.snapshot(), self._clock.stamp())
        self._turn = seen.snapshot
        return seen

    @property
    def quiet(self) -> bool:
        """Nothing was seen since that has to be told first."""
        return self._missed is None

    async def tell(
        self,
        session_id: str,
        name: E,
        data: Mapping[str, Any] | None = None,
        at: Stamp | None = None,
    ) -> Step:
        """Keeper.tell, and an eye on the connector meanwhile."""
        commit = self._keeper.telling(session_id, name, data, at=at)
        while not (await asyncio.wait((commit,), timeout=LOOK_S))[0]:
            await self._look()
        return commit.result()

    async def _look(self) -> None:
        snapshot = await self._evse.snapshot()
        if not ends_energy(snapshot):
            return
        await self._release.turn(False, snapshot)
        known = self._turn is not None and _signs(self._turn) >= _signs(snapshot)
        if self._missed is None and not known:
            self._missed = Seen(snapshot, self._clock.stamp())


def ends_energy(snapshot: EvseSnapshot) -> bool:
    """Whatever the session says: nobody is there who could be billed, or nobody wants to be."""
    return bool(_signs(snapshot))


def _signs(snapshot: EvseSnapshot) -> frozenset[str]:
    signs = {"gone": snapshot.state is EvseState.UNPLUGGED, "estop": snapshot.estop}
    return frozenset(name for name, there in signs.items() if there)
