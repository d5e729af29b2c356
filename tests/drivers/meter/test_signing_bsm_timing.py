"""BSM-WS36A on the real bus: any reply may come 15 s late while it signs (the maker's library waits so
long). What that means for its own requests, for a late reply, and for the neighbours on its bus."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any

import pytest
from support.rtu_slave import FakeLine, Port, Registers, crc
from support.signing_rig import Site, run, text

from agent.ports import DeviceUnavailable, DriverEnv, LineSpec, MeterSpec
from agent.station.charge_point import TURN_BOUND_MS
from agent.values import ReadingState
from drivers.meter.catalogue import load_model
from drivers.meter.modbus_meter import open_model
from drivers.meter.rtu import Bus, DeviceTiming, Priority
from drivers.meter.signing.meter import SigningModbusMeter
from hil.charger.rtu import answer
from hil.meter.signing_bsm_ws36a import LATE_MS

BSM = "bauer_bsm_ws36a"
SIGNING_S = 15
CONTROLLER = 3
QUICK = DeviceTiming(100, 200, 0)


@dataclass
class Bench:
    """The meter and a charge controller on one bus, on the virtual clock."""

    site: Site
    bus: Bus
    meter: SigningModbusMeter
    port: Port

    def now(self) -> float:
        return self.site.loop.time()

    async def poll_controller(self, priority: Priority = Priority.READ) -> float:
        """How long it waited for the bus."""
        begun = self.now()
        if priority is Priority.STOP:
            await self.bus.write_coil(CONTROLLER, 0, True, timing=QUICK, priority=priority)
        else:
            await self.bus.read_input(CONTROLLER, 0, 1, timing=QUICK)
        return self.now() - begun


class OnTheLine(Registers):
    """The simulated meter as a unit on a line."""

    def __init__(self, site: Site) -> None:
        super().__init__(42)
        self.site, self.dead = site, False

    def answer(self, frame: bytes) -> bytes:
        return crc(frame[:1] + answer(self.site.slave, frame[1:-2]))


def on_bench(job: Callable[[Bench, OnTheLine], Awaitable[Any]]) -> None:
    async def main(site: Site) -> None:
        unit = OnTheLine(site)
        port = Port(unit, Registers(CONTROLLER, {0: 7}, coils={0: 0}))

        def late(frame: bytes, reply: bytes) -> list[tuple[float, bytes]]:
            if frame[0] != 42:
                return [(0.01, reply)]
            return [] if unit.dead else [(0.01 + site.unit.late_ms() / 1000, reply)]

        port.script = late
        env = DriverEnv(lambda: int(site.loop.time() * 1000), site.log)
        bus = Bus(LineSpec("/dev/bus", 19_200, "8E1"), env, port)
        meter = open_model(load_model(BSM), MeterSpec(BSM, 42), bus, env)
        assert isinstance(meter, SigningModbusMeter)
        try:
            await job(Bench(site, bus, meter, port), unit)
        finally:
            await bus.close()

    run(BSM, main)


def slow(bench: Bench, reply_s: float) -> None:
    """While it signs its replies are so late, and it signs for half a second longer."""
    bench.site.unit.faults.slow_ms = round(reply_s * 1000) - LATE_MS


@pytest.mark.parametrize("reply_s", [0.15, 5, SIGNING_S - 0.02])
def test_whatever_it_takes_up_to_15_s_is_waited_for(reply_s: float) -> None:
    async def job(bench: Bench, _: OnTheLine) -> None:
        assert (await bench.meter.read()).ok
        slow(bench, reply_s)
        await bench.meter.begin(text("1"))
        bench.site.flow(7_350)
        await bench.meter.end()
        assert (await bench.meter.fetch()).count(b"OCMF|") == 2
        status = bench.bus.status()
        assert (status["timeouts"], status["bad_frames"], status["late_replies"]) == (0, 0, 0)
        assert bench.site.unit.told()["commands"] == ["start", "end"], "each was ordered once"

    on_bench(job)


def test_a_reply_later_than_15_s_is_never_taken_for_the_next_one() -> None:
    """It is lost; the bus is quiet until it cannot come any more, and the sequence finds out what the order
    became."""

    async def job(bench: Bench, _: OnTheLine) -> None:
        assert (await bench.meter.read()).ok
        slow(bench, SIGNING_S + 3)
        begin = asyncio.ensure_future(bench.meter.begin(text("1")))
        await asyncio.sleep(SIGNING_S + 1)
        assert bench.bus.status()["state"] == "quarantine"
        await begin
        status = bench.bus.status()
        assert status["late_replies"] == 1 and status["timeouts"] == 1
        (meter, *_) = status["units"].values()  # type: ignore[attr-defined]  # plain JSON
        assert SIGNING_S * 1000 < meter["latest_late_ms"] < (SIGNING_S + 4) * 1000
        assert bench.site.unit.told()["commands"] == ["start"], "not ordered a second time"
        assert (await bench.meter.read()).energy_import_wh == bench.site.slave.register_wh

    on_bench(job)


def test_neighbours_wait_while_it_signs_and_not_else() -> None:
    """RTU has one request at a time: a charge controller on the bus of this meter waits for its late replies,
    stops too. So it wants a bus of its own (docs/limits.md)."""

    async def job(bench: Bench, _: OnTheLine) -> None:
        assert (await bench.meter.read()).ok
        assert await bench.poll_controller() < 0.1
        slow(bench, SIGNING_S - 1)
        begin = asyncio.ensure_future(bench.meter.begin(text("1")))
        while not bench.site.unit.told()["signing"]:
            await asyncio.sleep(0.01)
        waited = await bench.poll_controller(Priority.STOP)
        assert SIGNING_S - 2 < waited < SIGNING_S + 1
        await begin
        assert await bench.poll_controller() < 0.1

    on_bench(job)


def test_a_meter_that_is_dead_at_the_start_ends_no_service() -> None:
    """Nobody knows whether it signs, so each silence costs twice 15 s; a connector's turn must still end
    within its bound, or the watchdog would end the service."""

    async def job(bench: Bench, unit: OnTheLine) -> None:
        unit.dead = True
        longest = 0.0
        for ask in (bench.meter.identity, bench.meter.read, bench.meter.read):
            begun = bench.now()
            try:
                found = await ask()
                assert getattr(found, "state", None) is ReadingState.NO_ANSWER
            except DeviceUnavailable as error:
                assert error.code == "MTR-002"
            longest = max(longest, bench.now() - begun + await bench.poll_controller())
        assert longest * 1000 < TURN_BOUND_MS
        unit.dead = False
        assert (await bench.meter.read()).ok
        assert bench.meter.timing.longest_reply_ms == 2_000

    on_bench(job)


def test_a_meter_that_dies_while_it_is_only_read_costs_little() -> None:
    """A lost reading in a session: the controller is reached again within seconds, not after 15."""

    async def job(bench: Bench, unit: OnTheLine) -> None:
        await bench.meter.begin(text("1"))
        unit.dead = True
        assert (await bench.meter.read()).state is ReadingState.NO_ANSWER
        assert await bench.poll_controller() < 2.5
        assert isinstance(bench.port.line, FakeLine)

    on_bench(job)
