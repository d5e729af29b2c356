"""A signing meter of the simulator behind the driver, on a virtual clock, with the wire in memory: frames as
on a line, and any request may be lost, its reply may be lost, the process killed or the meter's power cut.

`Station` does what the station has to do around the port: intent first, the record stored before it is
acknowledged, and after a kill go on from what was stored."""

from __future__ import annotations

import asyncio
import functools
import json
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from typing import Any

from support.rtu_slave import Log
from support.virtual_loop import VirtualLoop

from agent.ports import DeviceUnavailable, DriverEnv, MeterSpec
from drivers.meter.catalogue import load_model
from drivers.meter.modbus import Request, Timeout, values_of
from drivers.meter.modbus_meter import open_model
from drivers.meter.rtu import Answer, DeviceTiming, Priority
from drivers.meter.signing.meter import SigningModbusMeter
from hil.charger.plant import Plant
from hil.charger.rtu import answer
from hil.meter import wordmap
from hil.meter.bench import SIGNING_UNITS
from hil.meter.signing_common import SigningUnit
from hil.meter.slave import Slave

MODELS = ("bauer_bsm_ws36a", "carlogavazzi_em580", "iskra_wm3m4")
START_WH = 104_211
REQUEST_S = 0.005
OFF_S = 3.0


# Read once: a sweep makes a thousand meters.
_map = functools.cache(wordmap.load)
_model = functools.cache(load_model)


class Killed(BaseException):
    """The agent's process ends here."""


@dataclass(slots=True)
class Mishap:
    """At the `at`-th request: `drop` it, `lose` its reply, `kill` the agent or `cut` the meter's power,
    the latter two before the meter got it, or `_after` it."""

    what: str
    at: int


@dataclass
class Site:
    """What outlives the agent: the meter, the wire and the disk."""

    model: str
    loop: VirtualLoop
    mishaps: list[Mishap] = field(default_factory=list)
    requests: list[Request] = field(default_factory=list)
    disk: dict[str, Any] = field(default_factory=dict)
    memory: dict[str, Any] = field(default_factory=dict)
    off_until_s: float | None = None
    happened: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.plant = Plant(bare=True)
        self.slave = Slave(
            self.plant, _map(self.model), "KX012345", START_WH,
            now_ns=lambda: int(self.loop.time() * 1e9) + 10**12,
        )  # fmt: skip
        self.unit: SigningUnit = SIGNING_UNITS[self.model](self.slave, self.memory)
        self.slave.parts.append(self.unit)
        self.log = Log()

    def driver(self) -> SigningModbusMeter:
        """As a freshly started agent makes it."""
        env = DriverEnv(lambda: int(self.loop.time() * 1000), self.log)
        model = _model(self.model)
        meter = open_model(model, MeterSpec(model.id, model.unit or 1), self, env)  # type: ignore[arg-type]
        assert isinstance(meter, SigningModbusMeter)
        return meter

    def flow(self, wh: int) -> None:
        self.plant.energy_mw_ns += wh * 3_600_000_000_000_000

    @property
    def import_wh(self) -> Fraction:
        return self.slave.import_wh

    # --- the bus, as far as a meter uses it ----------------------------------------------------

    async def transact(
        self,
        request: Request,
        *,
        timing: DeviceTiming,
        priority: Priority = Priority.READ,
        repeatable: bool | None = None,
    ) -> Answer:
        n = len(self.requests)
        self.requests.append(request)
        if request.writes:
            assert not repeatable
        what = next((mishap.what for mishap in self.mishaps if mishap.at == n), "")
        if what:
            self.happened.append(what)
        if what == "kill":
            raise Killed
        await asyncio.sleep(REQUEST_S)
        if what == "cut":
            self.cut()
        self._power()
        if self.off_until_s is not None or what == "drop":
            await asyncio.sleep(timing.turnaround_ms / 1000)
            raise Timeout("nothing came")
        late_ms = self.unit.late_ms()
        reply = answer(self.slave, request.frame[1:-2])
        if what == "cut_after":
            self.cut()
        if what == "kill_after":
            raise Killed
        await asyncio.sleep(min(late_ms, timing.turnaround_ms) / 1000)
        if late_ms > timing.turnaround_ms or what in ("lose", "cut_after"):
            await asyncio.sleep(timing.turnaround_ms / 1000)
            raise Timeout("nothing came")
        return Answer(values_of(request, reply), int(self.loop.time() * 1000))

    def cut(self) -> None:
        """The power of the meter fails, for three seconds."""
        if self.off_until_s is None:
            self.unit.power_off()
        self.off_until_s = self.loop.time() + OFF_S

    def _power(self) -> None:
        if self.off_until_s is not None and self.loop.time() >= self.off_until_s:
            self.off_until_s = None
            self.unit.power_on()


def text(ident: str, **more: Any) -> str:
    fields: dict[str, Any] = {
        "ID": ident, "IT": "CARD_TXN_NR", "CT": "EVSEID", "CI": "DE*ABC*E1", "TT": "001;EUR;0;59;0;0",
        "TM": "2026-11-21T12:40:00,000+0100 S",
    }  # fmt: skip
    return json.dumps(fields | more)


@dataclass
class Station:
    """One transaction to its end, through whatever happens. `site.disk` is what it has stored."""

    site: Site
    ident: str
    wh: int = 7_350
    tries: int = 60

    async def run(self) -> bytes:
        """The record. Mishaps make it try again, as a scheduler would."""
        disk = self.site.disk.setdefault(self.ident, {})
        for _ in range(self.tries):
            meter = self.site.driver()
            if disk:
                meter.resume(text(self.ident))
            try:
                while True:
                    try:
                        return await self._step(meter, disk)
                    except DeviceUnavailable as error:
                        disk.setdefault("met", []).append(error.code)
                        if len(disk["met"]) > self.tries:
                            raise
                        await asyncio.sleep(1)
            except Killed:
                await asyncio.sleep(0.2)
        raise AssertionError(f"not ended: {disk}")

    async def _step(self, meter: SigningModbusMeter, disk: dict[str, Any]) -> bytes:
        disk["intent"] = True
        if "begun" not in disk:
            try:
                await meter.begin(text(self.ident))
            except DeviceUnavailable as error:
                if error.code == "MTR-031":
                    await self._clear(meter)
                raise
            disk["begun"] = True
        if "flowed" not in disk:
            self.site.flow(self.wh)
            disk["flowed"] = True
        if "ended" not in disk:
            await meter.end()
            disk["ended"] = True
        try:
            data = await meter.fetch()
        except DeviceUnavailable as error:
            if error.code == "MTR-036" and "record" in disk:
                return bytes(disk["record"])  # killed behind the acknowledgement
            raise
        assert disk.setdefault("record", data) == data
        await meter.acknowledge()
        return data

    async def _clear(self, meter: SigningModbusMeter) -> None:
        """A record of an older transaction: stored, then acknowledged."""
        data = await meter.fetch()
        found = self.site.disk.setdefault("found", [])
        if data not in found:
            found.append(data)
        await meter.acknowledge()


def run(
    model: str,
    job: Callable[[Site], Awaitable[Any]],
    mishaps: Sequence[Mishap] = (),
    memory: dict[str, Any] | None = None,
) -> Site:
    """`job` on a site of its own, on a virtual loop; the site, for what is left to see. `memory`: what the
    meter's signing part remembers from before."""
    loop = VirtualLoop()
    try:
        site = Site(model, loop, list(mishaps), memory=dict(memory or {}))

        async def main() -> None:
            await job(site)

        loop.run_until_complete(main())
        assert not loop.troubles, loop.troubles
        return site
    finally:
        loop.close()
