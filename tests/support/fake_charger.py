"""The drivers of the connector in memory: charge controller and meter, for one agent process."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from support.fake_plant import Plant
from support.fake_process import Process

from agent.ports import DeviceUnavailable, EvseAbilities, EvseSnapshot, EvseState, MeterIdentity
from agent.values import Reading, ReadingState

MS = 1000


class EvseDriver:
    def __init__(self, plant: Plant, process: Process) -> None:
        self._p, self._process = plant, process
        self._looked = False

    @property
    def abilities(self) -> EvseAbilities:
        return EvseAbilities(self._p.failsafe_s, reports_estop=True)

    async def snapshot(self) -> EvseSnapshot:
        await asyncio.sleep(self._p.bus_ms / MS)
        now = self._p.clock_ms()
        if not self._p.answers:
            return EvseSnapshot(EvseState.UNKNOWN, now, fault_codes=("MTR-002",))
        state, first = self._p.state(), not self._looked
        self._looked = True
        if first and state is EvseState.UNPLUGGED:
            state = EvseState.UNKNOWN  # "no car" is believed when it was seen twice
        return EvseSnapshot(state, now, estop=self._p.estop)

    async def _command(self, do: Callable[[], None]) -> None:
        await asyncio.sleep(self._p.bus_ms / MS)
        if not (self._p.answers and self._process.alive):
            raise DeviceUnavailable("MTR-002", "no answer")
        do()

    async def release(self, limit_ma: int, lease_s: int) -> None:
        await self._command(self._p.release)

    async def withdraw(self) -> None:
        if not self._p.takes_withdrawals:
            raise DeviceUnavailable("MTR-002", "no answer")
        await self._command(self._p.withdraw)

    async def stop(self) -> None:
        await self._command(self._p.withdraw)

    async def unlock(self) -> None:
        raise DeviceUnavailable("EVS-007", "no lock")


class MeterDriver:
    def __init__(self, plant: Plant, process: Process) -> None:
        self._p = plant

    async def identity(self) -> MeterIdentity:
        await asyncio.sleep(self._p.bus_ms / MS)
        if not self._p.meter_answers:
            raise DeviceUnavailable("MTR-002", "no answer")
        return MeterIdentity("fake", self._p.serial)

    async def read(self) -> Reading:
        await asyncio.sleep(self._p.bus_ms / MS)
        now = self._p.clock_ms()
        if not self._p.meter_answers:
            return Reading(ReadingState.NO_ANSWER, now, why="MTR-002: no answer")
        if self._p.meter_claims is not None:
            return Reading(self._p.meter_claims, now, why="MTR-015: it claims to be another one")
        wh = self._p.register_wh // self._p.meter_step_wh * self._p.meter_step_wh
        step_wh = self._p.meter_step_wh
        return Reading(ReadingState.OK, now, wh, self._p.power_w, self._p.serial, step_wh=step_wh)
