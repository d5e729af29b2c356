"""A station of `station_world` whose connector has a signing meter: the shipped driver and hil's simulated
unit, with the frames between them in memory. The agent can be killed before or after any frame that
writes."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import pytest
from support.signing_rig import Site
from support.station_world import World
from support.virtual_loop import VirtualLoop

from agent.ports import DriverEnv, MeterSpec
from agent.station import build
from drivers.meter.catalogue import load_model
from drivers.meter.modbus import Request
from drivers.meter.modbus_meter import open_model
from drivers.meter.rtu import Answer


class WorldTime:
    """What the site wants of a loop: the world's own time, whichever process lives."""

    def __init__(self, world: World) -> None:
        self._world = world

    def time(self) -> float:
        return self._world.now_ms / 1000


class Bus:
    """The wire as one process of the agent has it."""

    def __init__(self, meter: SigningStation) -> None:
        self._meter, self._process = meter, meter.world.process

    async def transact(self, request: Request, **options: Any) -> Answer:
        meter = self._meter
        meter.follow()
        if not request.writes:
            return await meter.site.transact(request, **options)
        meter.writes += 1
        await self._die("before")
        answer = await meter.site.transact(request, **options)
        await self._die("after")
        return answer

    async def _die(self, when: str) -> None:
        meter = self._meter
        if meter.kill == (when, meter.writes):
            meter.kill = None
            self._process.alive = False
            loop = asyncio.get_running_loop()
            assert isinstance(loop, VirtualLoop)
            await loop.die(f"{when} write {meter.writes}")

    async def close(self) -> None:
        """Nothing to close."""


class SigningStation:
    """`writes`: frames that wrote into the meter; `kill`: (before or after, which of them)."""

    def __init__(
        self, make: Callable[..., World], monkeypatch: pytest.MonkeyPatch, model: str
    ) -> None:
        self.world = world = make(start=False)
        self.site = Site(model, WorldTime(world))  # type: ignore[arg-type]
        self.model = load_model(model)
        self.writes = 0
        self.kill: tuple[str, int] | None = None
        monkeypatch.setattr(build, "load", self._load)

    def _load(self, kind: str, name: str) -> Callable[..., Any]:
        if kind != "meter":
            return self.world._load(kind, name)

        def factory(spec: MeterSpec, _: object, env: DriverEnv) -> Any:
            unit = MeterSpec(self.model.id, self.model.unit or 1, None, spec.options)
            return open_model(self.model, unit, Bus(self), env)  # type: ignore[arg-type]

        return factory

    def follow(self) -> None:
        """What flows at the connector flows through this meter."""
        plant = self.world.plant
        plant.advance()
        self.site.plant._at_ns = None
        self.site.plant.energy_mw_ns = plant._energy_mws * 10**9
        self.site.plant.load_w = plant.power_w
