"""The simulated charger: hil's meters, charge controllers and cars on one RS-485 cable, and the truth about
the energy that flowed."""

from __future__ import annotations

import asyncio
from bisect import bisect_right
from collections.abc import Callable
from dataclasses import dataclass, field

from hil.charger.bus import Station
from hil.charger.ev_cc_ac1 import EvCcAc1, factory_registers
from hil.charger.faults import Fault, spoil
from hil.charger.plant import Plant
from hil.charger.rtu import Request, RequestFramer, answer, frame_silence_ns
from hil.charger.sdm630 import Sdm630, factory_config
from simulate.cable import Cable
from simulate.loop import SharedLoop, Time

BAUD = 9600
START_WH = 104_211
TURNAROUND_S = 0.015
NS = 1_000_000_000
_NS_PER_H = 3_600 * NS


@dataclass(slots=True)
class Connector:
    """One connector. `idle_ns`: time in which energy was offered and the car drew nothing. `curve`: since
    when (ns) which power flows (mW), and the energy until then (mWh)."""

    name: str
    plant: Plant
    meter: Sdm630
    evse: EvCcAc1
    offered_ns: int = 0
    idle_ns: int = 0
    seen_ns: int = 0
    meter_faults: int = 0
    curve: list[tuple[int, int, int]] = field(default_factory=list)

    def look(self, now_ns: int) -> None:
        """Bring physics and bookkeeping up to now; to be called before and after anything changes."""
        plant = self.plant
        while (due := plant.next_deadline_ns()) is not None and due <= now_ns:
            self._count(due)
            plant.advance(due)
        self._count(now_ns)
        plant.advance(now_ns)

    def _count(self, to_ns: int) -> None:
        passed = to_ns - self.seen_ns
        if passed > 0 and self.plant.released:
            self.offered_ns += passed
            if not self.plant.power_mw:
                self.idle_ns += passed
        if passed > 0 and (not self.curve or self.curve[-1][1] != self.plant.power_mw):
            self.curve.append((self.seen_ns, self.plant.power_mw, self.plant.energy_mwh))
        self.seen_ns = to_ns

    def energy_mwh_at(self, ns: int) -> int:
        """What had flowed by then."""
        before = bisect_right(self.curve, ns, key=lambda piece: piece[0])
        since_ns, power_mw, energy_mwh = self.curve[max(0, before - 1)]
        return energy_mwh + power_mw * max(0, ns - since_ns) // _NS_PER_H


@dataclass(slots=True)
class Charger:
    """`on_look` is told after every good request: the moment to compare energy with holds."""

    time: Time
    loop: SharedLoop
    cable: Cable
    connectors: list[Connector]
    on_look: Callable[[], None] = lambda: None
    on_plug: Callable[[int, bool, int], None] = lambda n, plugged, energy_mwh: None
    on_load: Callable[[int, int], None] = lambda n, load_w: None
    stations: list[Station] = field(default_factory=list)
    framer: RequestFramer = field(init=False)
    _silence: asyncio.TimerHandle | None = None

    def __post_init__(self) -> None:
        self.framer = RequestFramer(max(20_000_000, frame_silence_ns(BAUD)))
        self.cable.to_device = self._arrived
        for n, connector in enumerate(self.connectors):
            self.stations.append(Station(f"meter{n}", meter_unit(n), connector.meter))
            self.stations.append(Station(f"evse{n}", evse_unit(n), connector.evse))
            connector.evse.on_change = connector.plant.changed
        self.look()

    def look(self) -> None:
        now_ns = self.time.ns
        for connector in self.connectors:
            connector.look(now_ns)

    def change(self, n: int, **values: bool | int) -> None:
        """What a person or a car does: plugged, load_w, estop, ground_fault."""
        self.look()
        plant = self.connectors[n].plant
        for name, value in values.items():
            setattr(plant, name, value)
        if "plugged" in values:
            self.on_plug(n, plant.plugged, plant.energy_mwh)
        if "load_w" in values:
            self.on_load(n, plant.load_w)
        self.connectors[n].plant.changed()

    def fault(self, station: str, fault: Fault) -> None:
        self.station(station).faults.append(fault)

    def station(self, name: str) -> Station:
        return next(s for s in self.stations if s.name == name)

    def heal(self) -> None:
        self.look()
        for station in self.stations:
            station.faults.clear()
        for connector in self.connectors:
            meter = connector.meter
            meter.nan, meter.frozen_kwh, meter.jump_back_wh = False, None, 0
            connector.plant.ground_fault = connector.plant.stop_ineffective = False
            connector.plant.changed()

    # --- the bus ----------------------------------------------------------------------------------

    def _arrived(self, data: bytes) -> None:
        self._serve(self.framer.feed(data, self.time.ns))
        if self._silence is not None:
            self._silence.cancel()
            self._silence = None
        due = self.framer.next_deadline_ns()
        if due is not None:
            self._silence = self.loop.call_at(due / NS + 1e-4, self._quiet)

    def _quiet(self) -> None:
        self._silence = None
        self._serve(self.framer.tick(self.time.ns))

    def _serve(self, requests: list[Request]) -> None:
        for request in requests:
            self.look()
            for station in self.stations:
                if request.unit == station.unit:
                    self._answer(station, request)
            self.on_look()

    def _answer(self, station: Station, request: Request) -> None:
        reply = spoil(station.fault_for(request), station.unit, answer(station.device, request.pdu))
        if reply.data:
            delay_s = TURNAROUND_S + reply.delay_ms / 1000
            self.loop.call_later(delay_s, self.cable.from_device, reply.data)


def meter_unit(n: int) -> int:
    return 1 + 2 * n


def evse_unit(n: int) -> int:
    return 2 + 2 * n


def make_charger(time: Time, loop: SharedLoop, cable: Cable, names: list[str]) -> Charger:
    connectors = []
    for n, name in enumerate(names):
        plant = Plant(react_ms=900, fall_ms=1_200)
        plant.advance(time.ns)
        meter = Sdm630(plant, 12_345_678 + n, START_WH, factory_config(meter_unit(n), BAUD))
        evse = EvCcAc1(plant, factory_registers())
        connectors.append(Connector(name, plant, meter, evse, seen_ns=time.ns))
    return Charger(time, loop, cable, connectors)
