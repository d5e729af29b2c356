"""The faults of a plan: when each begins, what it does, how it ends."""

from __future__ import annotations

from simulate.plan import Fault
from simulate.world import World


class Faults:
    def __init__(self, world: World, faults: tuple[Fault, ...]) -> None:
        self._world = world
        self.begun: list[str] = []

    def stop(self) -> None: ...

    def end_all(self) -> None: ...

    def disturbed(self) -> frozenset[str]:
        found = set(self.begun)
        if self._world.outages:
            found.add("outage")
        return frozenset(found)
