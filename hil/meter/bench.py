"""The shell of a simulated meter: the bus, what survives a power cut, the energy truth and the control
socket."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from fractions import Fraction
from pathlib import Path
from typing import Any

from hil.charger.bus import Bus, Station
from hil.charger.faults import Fault, Reply
from hil.charger.plant import Plant
from hil.common.control import Answer, ControlError, ControlServer
from hil.common.workers import Workers
from hil.meter.faults import METER_FAULTS, REPLY_FAULTS, SIGNING_FAULTS, let_out
from hil.meter.signing_bsm_ws36a import BsmWs36aUnit
from hil.meter.signing_common import SigningUnit, World
from hil.meter.signing_em580 import Em580Unit
from hil.meter.signing_wm3m4 import Wm3m4Unit
from hil.meter.slave import Slave
from hil.meter.wordmap import FRAMING_BITS, WordMap

# How often the store is written and waiting clients are looked after while energy flows.
TICK_S = 0.05
VERSION = 1
SIGNING_UNITS: dict[str, Callable[[World, dict[str, Any]], SigningUnit]] = {
    "bauer_bsm_ws36a": BsmWs36aUnit,
    "carlogavazzi_em580": Em580Unit,
    "iskra_wm3m4": Wm3m4Unit,
}


@dataclass(slots=True)
class Memory:
    """What survives a power cut: the register, the number, and settings a master wrote."""

    model: str
    serial: str
    start_wh: int
    energy_mw_ns: int = 0
    load_w: int = 0
    settings: dict[int, int] = field(default_factory=dict)
    signing: dict[str, Any] = field(default_factory=dict)


def load(path: Path) -> Memory | None:
    """None when there is no file yet. Raises ValueError for a file that is not ours."""
    try:
        raw = json.loads(path.read_text())
    except FileNotFoundError:
        return None
    if not isinstance(raw, dict) or raw.pop("meter", None) != VERSION:
        raise ValueError(f"{path} is no meter's store of version {VERSION}; choose another --store")
    raw["settings"] = {int(key): int(value) for key, value in raw["settings"].items()}
    return Memory(**raw)


def save(path: Path, memory: Memory) -> None:
    """Whole or not at all, also when the process is killed in the middle."""
    temporary = path.with_name(f".{path.name}.new")
    temporary.write_text(json.dumps({"meter": VERSION, **asdict(memory)}))
    temporary.replace(path)


@dataclass(frozen=True, slots=True)
class Options:
    """`truth`: a file that gets a line for every reply with the import register."""

    link: Path
    control: Path
    store: Path | None
    truth: Path | None
    baud: int
    framing: str
    unit: int
    pace: bool
    strict_rate: bool


class Bench:
    """Serves its meter until closed. Every verb brings the physics up to date first."""

    def __init__(self, options: Options, memory: Memory, wordmap: WordMap) -> None:
        self.options, self.memory = options, memory
        self.plant = Plant(bare=True, load_w=memory.load_w, energy_mw_ns=memory.energy_mw_ns)
        self.meter = Slave(
            self.plant, wordmap, memory.serial, memory.start_wh, memory.settings,
            now_ns=time.monotonic_ns, on_shown=self._shown,
        )  # fmt: skip
        make = SIGNING_UNITS.get(wordmap.name)
        self.signing: SigningUnit | None = None
        self._signing_kept = ""
        if make is not None:
            self.signing = make(self.meter, memory.signing)
            self.meter.parts.append(self.signing)
        self.bus = Bus(options.link, options.baud, options.pace, self.now, self._tell)
        self.bus.line.set_baud(options.baud, FRAMING_BITS[options.framing])
        self.bus.turnaround_s = wordmap.turnaround_ms / 1000
        self.bus.strict_rate = options.strict_rate
        self.station = Station("meter", options.unit, self.meter, spoil=self._let_out)
        self.bus.stations.append(self.station)
        self.control = ControlServer(options.control, self._verbs())
        self._moved = asyncio.Event()
        self._poke = asyncio.Event()
        self._workers: Workers | None = None

    # --- life ---------------------------------------------------------------------------------

    async def start(self) -> Bench:
        self._workers = Workers()
        self.now()
        self.save()
        self.bus.line.open()
        try:
            await self.control.start()
        except BaseException:
            self.bus.close()
            raise
        self._workers.start([*self.bus.workers(), self._keep_house()])
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

    def save(self) -> None:
        if self.options.store is not None:
            self.memory.energy_mw_ns = self.plant.energy_mw_ns
            self.memory.load_w, self.memory.serial = self.plant.load_w, self.meter.serial
            save(self.options.store, self.memory)

    def _let_out(self, fault: Fault | None, unit: int, pdu: bytes) -> Reply:
        """Some answer late while they sign; what a master is told of it must survive."""
        reply = let_out(fault, unit, pdu)
        if self.signing is None:
            return reply
        known = json.dumps(self.memory.signing)
        if known != self._signing_kept:
            self._signing_kept = known
            self.save()
        late_ms = self.signing.late_ms()
        return Reply(reply.data, reply.delay_ms + late_ms)

    def _shown(self, energy: bool) -> None:
        """Before a value leaves the meter: what a master has seen must survive."""
        self.save()
        if energy and self.options.truth is not None:
            line = {"at_ns": time.monotonic_ns(), "import_mwh": self._import_mwh(),
                    "register_wh": self.meter.register_wh}  # fmt: skip
            with self.options.truth.open("a") as file:
                file.write(json.dumps(line) + "\n")

    def _import_mwh(self) -> int:
        return int(self.meter.import_wh * 1000)

    def _tell(self) -> None:
        self._moved.set()
        self._moved = asyncio.Event()

    async def _keep_house(self) -> None:
        """Regularly while energy flows; asleep while none does."""
        while True:
            self.now()
            if self.plant.power_mw:
                self.save()
            self._tell()
            self._poke.clear()
            try:
                async with asyncio.timeout(TICK_S if self.plant.power_mw else None):
                    await self._poke.wait()
            except TimeoutError:
                pass

    def inject(self, name: str, count: int) -> None:
        """A fault of replies that is there from the start; `count` 0: for ever."""
        self.station.faults.append(Fault(name, count or None))

    # --- verbs --------------------------------------------------------------------------------

    def _verbs(self) -> dict[str, Callable[..., Any]]:
        return {
            "state": self.state,
            "truth": self._truth,
            "wait": self._wait,
            "load": self._load,
            "flow": self._flow,
            "power_off": self._power_off,
            "power_on": self._power_on,
            "fault": self._fault,
            "clear_faults": self._clear_faults,
            "say": self._say,
        }

    def _changed(self) -> Answer:
        self.save()
        self._poke.set()
        self._tell()
        return self.state()

    def _load(self, w: int) -> Answer:
        """The power that flows from now on."""
        self.now()
        self.plant.load_w = _whole(w, "power", "watts")
        return self._changed()

    def _flow(self, wh: int) -> Answer:
        """This much energy flows in an instant: hours of charging without the wait."""
        self.now()
        self.plant.energy_mw_ns += _whole(wh, "energy", "Wh") * 3_600_000_000_000_000
        return self._changed()

    def _power_off(self) -> Answer:
        self.now()
        self.bus.power_off()
        if self.signing is not None and self.plant.powered:
            self.signing.power_off()
        self.plant.powered = False
        return self._changed()

    def _power_on(self) -> Answer:
        """A changed unit id counts from now on."""
        self.now()
        unit = next((s for s in self.meter.map.settings if s.name == "unit"), None)
        if unit is not None:
            self.station.unit = self.meter.settings.get(unit.address, self.station.unit)
        self.bus.power_on()
        if self.signing is not None and not self.plant.powered:
            self.signing.power_on()
        self.plant.powered = True
        return self._changed()

    def _fault(
        self,
        *,
        name: str,
        count: int = 1,
        ms: int = 0,
        code: int = 4,
        wh: int = 0,
        phase: int = 1,
        serial: str = "",
        function: int | None = None,
        address: int | None = None,
        device: str = "meter",
    ) -> Answer:
        """`count` replies are spoilt, 0: all until `clear_faults`."""
        self.now()
        if device != "meter":
            raise ControlError(f"no device {device!r} here; there is meter")
        if name in REPLY_FAULTS:
            self.station.faults.append(Fault(name, count or None, ms, code, function, address))
        elif name in METER_FAULTS:
            self._meter_fault(name, wh, phase, serial)
        elif name in SIGNING_FAULTS:
            self._signing_fault(name, count, ms, code)
        else:
            known = ", ".join((*REPLY_FAULTS, *METER_FAULTS, *SIGNING_FAULTS))
            raise ControlError(f"meter knows no fault {name!r}; known: {known}")
        return self._changed()

    def _meter_fault(self, name: str, wh: int, phase: int, serial: str) -> None:
        match name:
            case "nan":
                self.meter.nan = True
            case "freeze":
                self.meter.freeze()
            case "jump_back":
                self.meter.jump_back_wh += _whole(wh, "energy", "Wh")
            case "rollover":
                self.meter.roll_over(_whole(wh, "energy", "Wh"))
            case "missing_phase":
                self.meter.missing.add(phase)
            case _:
                if not serial:
                    raise ControlError("serial: which? give `serial`")
                self.meter.serial = serial

    def _signing_fault(self, name: str, count: int, ms: int, code: int) -> None:
        if self.signing is None:
            raise ControlError(f"{self.meter.map.name} signs nothing")
        if name == "slow_signature":
            self.signing.faults.slow_ms = ms
        else:
            self.signing.faults.refuse, self.signing.faults.code = count, code

    def _clear_faults(self) -> Answer:
        """All but the serial number: another meter stays another meter."""
        self.now()
        self.station.faults.clear()
        if self.signing is not None:
            self.signing.faults.slow_ms = self.signing.faults.refuse = 0
        self.meter.heal()
        return self._changed()

    async def _say(self, hex: str) -> Answer:
        """Put these bytes on the line now, as somebody else on the bus would."""
        try:
            data = bytes.fromhex(hex)
        except ValueError as error:
            raise ControlError(f"hex: {error}") from None
        await self.bus.line.write(data)
        return self.state()

    async def _wait(
        self,
        *,
        timeout_s: float,
        power_w: int | None = None,
        drawn_mwh: int | None = None,
        requests: int | None = None,
    ) -> Answer:
        """Returns the state when all conditions hold. `drawn_mwh` (of energy_truth_mwh) and
        `requests` (good ones, all units) mean at least."""
        try:
            async with asyncio.timeout(timeout_s):
                while True:
                    moved = self._moved
                    state = self.state()
                    if (
                        (power_w is None or state["power_w"] == power_w)
                        and (drawn_mwh is None or state["energy_truth_mwh"] >= drawn_mwh)
                        and (requests is None or self.bus.requests.total() >= requests)
                    ):
                        return state
                    await moved.wait()
        except TimeoutError:
            raise ControlError(f"not within {timeout_s} s; the state is {self.state()}") from None

    def _truth(self) -> Answer:
        """Every quantity as it really is, and as the registers tell it; decimal text, base units."""
        self.now()
        told = {name: _text(value) for name, value in self.meter.shown().items()}
        truth = {name: _text(value) for name, value in self.meter.truth().items()}
        return {"truth": truth, "told": told, "import_mwh": self._import_mwh()}

    def state(self) -> Answer:
        self.now()
        plant, bus = self.plant, self.bus
        return {
            "model": self.meter.map.name,
            "powered": plant.powered,
            "power_w": plant.power_mw // 1000,
            "load_w": plant.load_w,
            "energy_truth_mwh": plant.energy_mwh,
            "import_mwh": self._import_mwh(),
            "register_wh": self.meter.register_wh,
            "start_wh": self.meter.start_wh,
            "serial": self.meter.serial,
            "requests": bus.counts(),
            "bad_frames": bus.framer.bad_frames,
            "units": {"meter": self.station.unit},
            "faults": {"meter": [fault.name for fault in self.station.faults]},
            "meter_config": {str(key): value for key, value in self.memory.settings.items()},
            "signing": None if self.signing is None else self.signing.told(),
        }


def _whole(value: int, what: str, unit: str) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or value < 0:
        raise ControlError(f"{what} is {value!r}; expected whole {unit} from 0")
    return value


def _text(value: Fraction | str) -> str:
    if isinstance(value, str):
        return value
    sign = "-" if value < 0 else ""
    scaled = round(abs(value) * 10**9)
    return f"{sign}{scaled // 10**9}.{scaled % 10**9:09d}".rstrip("0").rstrip(".")
