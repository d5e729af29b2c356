"""The async shell of a simulated charger: the physics, the bus, the store and the control socket."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hil.charger import store
from hil.charger.bus import Bus, Station
from hil.charger.ev_cc_ac1 import EvCcAc1
from hil.charger.faults import METER_FAULTS, REPLY_FAULTS, Fault
from hil.charger.plant import Plant
from hil.charger.sdm630 import UNIT_ID, Sdm630
from hil.common.control import Answer, ControlError, ControlServer, ask_async
from hil.common.workers import Workers

# How often the store is written and waiting clients are looked after while energy flows.
TICK_S = 0.05
# How long a separate meter may take to hear of a new power, and when it is tried again.
METER_CONTROL_S = 2.0


@dataclass(slots=True)
class Options:
    """`meter_control`: socket of a separate meter through which this controller's car draws."""

    link: Path
    control: Path
    store: Path | None
    baud: int
    pace: bool
    meter_control: Path | None = None


class Bench:
    """Serves its devices until closed. Every verb brings the physics up to date first."""

    def __init__(
        self,
        options: Options,
        memory: store.Memory,
        plant: Plant,
        *,
        meter: Sdm630 | None = None,
        evse: EvCcAc1 | None = None,
        evse_unit: int = 3,
    ) -> None:
        self.options, self.memory, self.plant = options, memory, plant
        self.meter, self.evse = meter, evse
        self.bus = Bus(options.link, options.baud, options.pace, self.now, self._heard)
        if meter is not None:
            self.bus.stations.append(Station("meter", memory.meter_config[UNIT_ID], meter))
            meter.on_shown = self.save
        if evse is not None:
            self.bus.stations.append(Station("evse", evse_unit, evse))
            evse.on_change = self.changed
            evse.restart = self._restart_evse
        self.control = ControlServer(options.control, self._verbs())
        self.failsafe_trips = 0
        self._poke = asyncio.Event()
        self._moved = asyncio.Event()
        self._workers: Workers | None = None

    # --- life ---------------------------------------------------------------------------------

    async def start(self) -> Bench:
        self._workers = Workers()
        self.now()
        self.plant.changed()
        self.save()
        self.bus.line.open()
        try:
            await self.control.start()
        except BaseException:
            self.bus.close()
            raise
        workers = [*self.bus.workers(), self._keep_house()]
        if self.options.meter_control is not None:
            workers.append(self._drive_meter(self.options.meter_control))
        self._workers.start(workers)
        return self

    async def close(self) -> None:
        if self._workers is not None:
            await self._workers.close()
        await self.control.close()
        self.bus.close()
        self.now()
        self.save()

    async def failed(self) -> BaseException:
        assert self._workers is not None
        return await self._workers.failed()

    # --- physics ------------------------------------------------------------------------------

    def now(self) -> int:
        now_ns = time.monotonic_ns()
        self.plant.advance(now_ns)
        return now_ns

    def changed(self) -> None:
        """After any input of the plant was changed (and `now()` was called before)."""
        self.plant.changed()
        self.save()
        self._poke.set()
        self._tell()

    def save(self) -> None:
        if self.options.store is None:
            return
        self.memory.energy_mw_ns = self.plant.energy_mw_ns
        self.memory.plugged, self.memory.load_w = self.plant.plugged, self.plant.load_w
        store.save(self.options.store, self.memory)

    def _heard(self) -> None:
        self._tell()

    def _restart_evse(self) -> None:
        if self.evse is not None:
            self.evse.power_up()
            self.changed()

    def _tell(self) -> None:
        self._moved.set()
        self._moved = asyncio.Event()

    async def _keep_house(self) -> None:
        """Wakes for the plant's next step, the fail-safe, and regularly while energy flows."""
        while True:
            now_ns = self.now()
            if self.evse is not None and self.evse.trip_failsafe(self.bus.heard_ns, now_ns):
                self.failsafe_trips += 1
                self.changed()
            if self.plant.power_mw:
                self.save()
            self._tell()
            self._poke.clear()
            try:
                async with asyncio.timeout(self._sleep_s(now_ns)):
                    await self._poke.wait()
            except TimeoutError:
                pass

    def _sleep_s(self, now_ns: int) -> float | None:
        due = [self.plant.next_deadline_ns()]
        if self.evse is not None:
            due.append(self.evse.failsafe_due_ns(self.bus.heard_ns))
        waits = [max(0.0, (at - now_ns) / 1e9) for at in due if at is not None]
        if self.plant.power_mw:
            waits.append(TICK_S)
        return min(waits, default=None)

    async def _drive_meter(self, socket: Path) -> None:
        """Let the car's power flow through a meter that is a process of its own."""
        told: int | None = None
        while True:
            moved = self._moved
            power_w = self.plant.power_mw // 1000
            if power_w != told:
                try:
                    await ask_async(socket, reply_s=METER_CONTROL_S, do="load", w=power_w)
                    told = power_w
                    continue
                except OSError:
                    told = None  # the meter is away; told again at the next change or after a while
            try:
                async with asyncio.timeout(None if told is not None else METER_CONTROL_S):
                    await moved.wait()
            except TimeoutError:
                continue

    # --- verbs --------------------------------------------------------------------------------

    def _verbs(self) -> dict[str, Callable[..., Any]]:
        verbs: dict[str, Callable[..., Any]] = {
            "state": self.state,
            "wait": self._wait,
            "load": self._load,
            "power_off": self._power_off,
            "power_on": self._power_on,
            "fault": self._fault,
            "clear_faults": self._clear_faults,
        }
        if self.evse is not None:
            verbs |= {
                "plug": self._plug,
                "unplug": self._unplug,
                "estop": self._estop,
                "estop_clear": self._estop_clear,
                "ground_fault": self._ground_fault,
                "stop_ineffective": self._stop_ineffective,
            }
        return verbs

    def _set(self, **values: bool | int) -> Answer:
        self.now()
        for name, value in values.items():
            setattr(self.plant, name, value)
        self.changed()
        return self.state()

    def _plug(self, load: int | None = None) -> Answer:
        if load is None:
            return self._set(plugged=True)
        return self._set(plugged=True, load_w=_power(load))

    def _unplug(self) -> Answer:
        return self._set(plugged=False)

    def _load(self, w: int) -> Answer:
        return self._set(load_w=_power(w))

    def _estop(self) -> Answer:
        return self._set(estop=True)

    def _estop_clear(self) -> Answer:
        return self._set(estop=False)

    def _ground_fault(self, on: bool = True) -> Answer:
        return self._set(ground_fault=bool(on))

    def _stop_ineffective(self, on: bool = True) -> Answer:
        """A car or contactor that goes on although the release was withdrawn."""
        return self._set(stop_ineffective=bool(on))

    def _power_off(self) -> Answer:
        self.bus.power_off()
        return self._set(powered=False)

    def _power_on(self) -> Answer:
        """Volatile registers are at their defaults again; a changed unit id counts from now on."""
        self.now()
        if self.evse is not None:
            self.evse.power_up()
        for station in self.bus.stations:
            if station.name == "meter":
                station.unit = self.memory.meter_config[UNIT_ID]
        self.bus.power_on()
        return self._set(powered=True)

    def _fault(
        self,
        *,
        name: str,
        device: str = "meter",
        count: int = 1,
        ms: int = 0,
        code: int = 4,
        wh: int = 0,
        function: int | None = None,
        address: int | None = None,
    ) -> Answer:
        """`count` replies are spoilt, 0: all until `clear_faults`."""
        stations = self.bus.stations
        station = next((s for s in stations if s.name == device), None)
        if station is None:
            known = ", ".join(s.name for s in stations)
            raise ControlError(f"no device {device!r} here; there is {known}")
        self.now()
        if name in METER_FAULTS and device == "meter" and self.meter is not None:
            self.meter.nan = self.meter.nan or name == "nan"
            self.meter.jump_back_wh += wh if name == "jump_back" else 0
            if name == "freeze":
                self.meter.freeze()
        elif name in REPLY_FAULTS:
            station.faults.append(Fault(name, count or None, ms, code, function, address))
        else:
            raise ControlError(f"{device} knows no fault {name!r}")
        return self.state()

    def _clear_faults(self) -> Answer:
        for station in self.bus.stations:
            station.faults.clear()
        if self.meter is not None:
            self.meter.nan, self.meter.frozen_kwh, self.meter.jump_back_wh = False, None, 0
        return self._set(ground_fault=False, stop_ineffective=False)

    async def _wait(
        self,
        *,
        timeout_s: float,
        cp: str | None = None,
        released: bool | None = None,
        power_w: int | None = None,
        drawn_mwh: int | None = None,
        requests: int | None = None,
    ) -> Answer:
        """Returns the state when all conditions hold. `drawn_mwh` (of energy_truth_mwh) and
        `requests` (good ones, all units) mean at least; "A" for `cp` means any A."""
        try:
            async with asyncio.timeout(timeout_s):
                while True:
                    moved = self._moved
                    state = self.state()
                    if (
                        (cp is None or str(state.get("cp", "")).startswith(cp))
                        and (released is None or state.get("released") == released)
                        and (power_w is None or state["power_w"] == power_w)
                        and (drawn_mwh is None or state["energy_truth_mwh"] >= drawn_mwh)
                        and (requests is None or self.bus.requests.total() >= requests)
                    ):
                        return state
                    await moved.wait()
        except TimeoutError:
            raise ControlError(f"not within {timeout_s} s; the state is {self.state()}") from None

    def state(self) -> Answer:
        self.now()
        plant, bus = self.plant, self.bus
        seen: Answer = {
            "powered": plant.powered,
            "power_w": plant.power_mw // 1000,
            "load_w": plant.load_w,
            "energy_truth_mwh": plant.energy_mwh,
            "requests": bus.counts(),
            "bad_frames": bus.framer.bad_frames,
            "units": {s.name: s.unit for s in bus.stations},
            "faults": {s.name: [f.name for f in s.faults] for s in bus.stations},
        }
        if self.meter is not None:
            seen |= {
                "serial": str(self.meter.serial),
                "start_wh": self.meter.start_wh,
                "register_wh": self.meter.register_wh,
                "meter_config": {str(k): v for k, v in self.memory.meter_config.items()},
            }
        if self.evse is not None:
            seen |= {
                "cp": plant.control_pilot(),
                "plugged": plant.plugged,
                "released": plant.released,
                "limit_a": plant.limit_a,
                "estop": plant.estop,
                "failsafe_trips": self.failsafe_trips,
                "evse_retentive": {str(k): v for k, v in self.memory.evse_retentive.items()},
            }
        return seen


def _power(w: int) -> int:
    if isinstance(w, bool) or not isinstance(w, int) or w < 0:
        raise ControlError(f"power is {w!r}; expected whole watts from 0")
    return w
