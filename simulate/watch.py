"""Energy, looked at while it flows: whether somebody has a hold for it, and what flowed while the agent was
dead."""

from __future__ import annotations

from typing import TYPE_CHECKING

from simulate.chronicle import Span
from simulate.till import HoldName, name_of

if TYPE_CHECKING:
    from simulate.world import World

# A driver of charge controllers believes that a car has gone when it was told so twice.
SEEN_S = 5.0
# From its start on the agent may need some rounds of a bus of four connectors until a release that stood
# while it was dead is withdrawn, and the car needs a moment to stop.
WITHDRAW_S = 8.0


class Watch:
    def __init__(self, world: World) -> None:
        self._world = world
        self._drew = False
        self._spent: set[HoldName] = set()
        self._inherited: frozenset[int] = (
            frozenset()
        )  # connectors that drew when the agent was started
        self._withdrawn_ms = 0

    def look(self) -> None:
        """No energy without a completed hold of whoever is there: at every word on the bus."""
        world, drew = self._world, self._drawing()
        if world.ready and world.time.ms >= self._withdrawn_ms:
            self._inherited = frozenset()
        for terminal in world.terminals:
            drawing = [n for n in drew if world.terminal_of(n) is terminal]
            if not drawing:
                continue
            self._drew = True
            other = self._spent | terminal.strange.keys()
            fresh = [hold for hold in terminal.holds if name_of(hold) not in other]
            # On a release that stood while the agent was dead: it cannot have been withdrawn yet.
            if len([n for n in drawing if n not in self._inherited]) > len(fresh):
                text = f"{len(drawing)} cars draw energy on {len(fresh)} completed holds of theirs"
                world.violated("energy_without_hold", text)

    def _drawing(self) -> set[int]:
        return {n for n, c in enumerate(self._world.charger.connectors) if c.plant.power_mw}

    # --- lives and deaths of the agent ------------------------------------------------------------

    def dies(self) -> None:
        self._world.charger.look()
        for spans, energy_mwh in self._spans():
            if not spans or spans[-1].to_mwh is not None:
                spans.append(Span(energy_mwh))

    def starts(self) -> None:
        self._world.charger.look()
        self._inherited = frozenset(self._drawing())

    def is_back(self) -> None:
        """It is ready; a moment later everything is again as it should be."""
        world = self._world
        self._withdrawn_ms = world.time.ms + round(WITHDRAW_S * 1000)
        world.loop.call_later(WITHDRAW_S, self._withdrawn, world.starts)

    def _withdrawn(self, starts: int) -> None:
        if not self._world.ready or starts != self._world.starts:
            return
        self._world.charger.look()
        for spans, energy_mwh in self._spans():
            if spans and spans[-1].to_mwh is None:
                spans[-1].to_mwh = energy_mwh

    def _spans(self) -> list[tuple[list[Span], int]]:
        world = self._world
        energies = [c.plant.energy_mwh for c in world.charger.connectors]
        return list(zip(world.chronicle.dead, energies, strict=True))

    # --- drivers ----------------------------------------------------------------------------------

    def car_left(self) -> None:
        """Whoever pulls the plug after energy has flowed is done: nobody else may charge on that hold.
        Only where it is clear whose hold it is, and where the agent had time to see it."""
        world = self._world
        if len(world.charger.connectors) == 1 and self._drew:
            left = {name_of(hold) for hold in world.terminal.holds}
            world.loop.call_later(SEEN_S, self._spend, left, world.starts)
        self._drew = False

    def _spend(self, holds: set[HoldName], starts: int) -> None:
        world = self._world
        if world.ready and world.starts == starts and not world.bus_troubled:
            self._spent |= holds
