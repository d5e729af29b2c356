"""Which connector a tap is for, where one terminal serves several (design §2 rule 7)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from agent.ports import EvseState
from agent.values import Stamp

if TYPE_CHECKING:
    from agent.station.charge_point import ChargePoint

CAR_THERE = (
    EvseState.PLUGGED,
    EvseState.READY,
    EvseState.CHARGING,
    EvseState.SUSPENDED,
    EvseState.FINISHED,
)


class Car:
    """What was seen of the car at one connector. UNKNOWN and FAULT say nothing about it.

    `came`: when it was seen to come. `served`: it has had its energy in a session that has ended, or is
    having it, and was not seen unplugged since: who taps now may be anybody."""

    def __init__(self) -> None:
        self.came: Stamp | None = None
        self.served = False
        self._was_there: bool | None = None

    def see(self, state: EvseState, now: Stamp, *, draws: bool, stayed: bool) -> None:
        """`draws`: a session gives it energy. `stayed`: the ledger knows nothing of its going; that counts
        until something was seen."""
        if self._was_there is None:
            self.served = stayed
        if state is EvseState.UNPLUGGED:
            self._was_there, self.came, self.served = False, None, False
        elif state in CAR_THERE:
            if self._was_there is False:
                self.came = now
            self._was_there = True
            self.served = self.served or draws


def meant(points: Mapping[str, ChargePoint]) -> ChargePoint | None:
    """The connector that is meant by a tap now; None where a car has to come first.

    Beside other connectors a car that was served names none: its driver may be gone, and the next one pays
    for what it draws. Where the terminal serves this one alone nothing else can be meant: its driver goes
    on, and whoever comes next has to take the plug out of that car anyway."""
    free = [p for p in points.values() if not p.ready_for_session()]
    named = [p for p in free if p.car_there and (not p.car.served or len(points) == 1)]
    if len(named) == 1:
        return named[0]
    return free[0] if len(free) == 1 and not free[0].car_there else None


def connector_name(evse_id: str) -> str:
    """As it stands on the charger: the EVSE id without country and operator."""
    return evse_id.split("*", 2)[-1]
