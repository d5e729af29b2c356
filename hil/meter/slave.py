"""One simulated meter: its truth, its registers, and what may be wrong with it. No I/O and no clock; the
plant is brought up to date by the caller."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from typing import Protocol

from hil.charger.plant import MW_NS_PER_MWH, Plant
from hil.charger.rtu import ILLEGAL_ADDRESS, ILLEGAL_FUNCTION, ILLEGAL_VALUE, ModbusException
from hil.meter import words
from hil.meter.wordmap import Register, Setting, WordMap

# Uneven on purpose: a phase taken for another one shows.
_VOLTS = (Fraction("229.4"), Fraction("230.1"), Fraction("231.7"))
_SHARES = (Fraction(32, 100), Fraction(33, 100), Fraction(35, 100))
_HERTZ, _CELSIUS = Fraction("50.02"), Fraction("31.5")
# What the meter exported before it came here; nothing flows back on a bench.
_EXPORTED_WH = Fraction(1234)
NS_PER_MS = 1_000_000


class Part(Protocol):
    """A further piece of a meter with registers of its own that may be written, such as a signing unit.
    It is asked before the map; a wrong address or value raises ModbusException."""

    def has(self, function: int, address: int) -> bool: ...

    def read(self, function: int, address: int, count: int) -> Sequence[int]: ...

    def write(self, address: int, values: Sequence[int]) -> None: ...


@dataclass(slots=True)
class Slave:
    """The meter on `plant`'s cable. `start_wh`: what its import register showed when the plant began.
    `now_ns` is only looked at by meters whose values are fresh now and then.

    Faults: `nan` (no value for anything measured), `freeze()`, `jump_back_wh`, `roll_over()`, `missing`
    (phases without voltage), and a changed `serial`."""

    plant: Plant
    map: WordMap
    serial: str
    start_wh: int
    settings: dict[int, int] = field(default_factory=dict)
    parts: list[Part] = field(default_factory=list)
    now_ns: Callable[[], int] = lambda: 0
    on_shown: Callable[[bool], None] = lambda _energy: None
    nan: bool = False
    jump_back_wh: Fraction = Fraction(0)
    missing: set[int] = field(default_factory=set)
    _frozen: dict[str, Fraction] | None = None
    _fresh: dict[str, Fraction] | None = None
    _fresh_ns: int = 0

    # --- The truth ----------------------------------------------------------------------------

    @property
    def import_wh(self) -> Fraction:
        """What has really flowed in since the meter was made, exactly."""
        return self.start_wh + Fraction(self.plant.energy_mw_ns, MW_NS_PER_MWH * 1000)

    def truth(self) -> dict[str, Fraction]:
        """Every quantity in its base unit (V, A, W, Hz, degC, Wh), without any fault."""
        watts = Fraction(self.plant.power_mw, 1000)
        energy = self.import_wh
        found = {
            "power": watts, "power_import": watts, "power_export": Fraction(0),
            "energy_import": energy, "energy_export": _EXPORTED_WH,
            "energy_total": energy + _EXPORTED_WH, "frequency": _HERTZ, "temperature": _CELSIUS,
            "energy_since_turn_on": energy - self.start_wh,
        }  # fmt: skip
        shares = _SHARES if self.map.phases == 3 else (Fraction(1),)
        for n, (volts, share) in enumerate(zip(_VOLTS, shares, strict=False), 1):
            found[f"voltage_l{n}"] = volts
            found[f"power_l{n}"] = watts * share
            found[f"current_l{n}"] = watts * share / volts
            found[f"energy_import_l{n}"] = energy * share
        return found

    def shown(self) -> dict[str, Fraction | str]:
        """What its registers stand for at this moment, exactly: after rounding and with its faults.
        A quantity it does not have is missing here."""
        found: dict[str, Fraction | str] = {}
        for register in (*self.map.registers, *self.map.holding):
            if register.holds is not None:
                found[register.name] = _as_told(register, register.holds)
            elif register.name == "serial":
                found["serial"] = self.serial
            elif not register.absent and not self.nan:
                found[register.name] = self._encoded(register)[1]
        return found

    @property
    def register_wh(self) -> int:
        """Its import register as a master gets it, to the nearest Wh."""
        (register,) = (r for r in self.map.registers if r.name == "energy_import")
        return round(self._encoded(register)[1])

    # --- Faults -------------------------------------------------------------------------------

    def freeze(self) -> None:
        self._frozen = self._seen()

    def roll_over(self, wh_left: int) -> None:
        """Its counter stands `wh_left` before the end of its range."""
        self.jump_back_wh = self.import_wh - self.map.wraps_wh + wh_left

    def heal(self) -> None:
        """The register is right again, the serial number stays."""
        self.nan, self._frozen, self.jump_back_wh = False, None, Fraction(0)
        self.missing.clear()

    # --- The device as a master sees it -------------------------------------------------------

    def read_bits(self, function: int, address: int, count: int) -> Sequence[bool]:
        raise ModbusException(ILLEGAL_FUNCTION)

    def write_bits(self, address: int, values: Sequence[bool]) -> None:
        raise ModbusException(ILLEGAL_FUNCTION)

    def read_words(self, function: int, address: int, count: int) -> Sequence[int]:
        for part in self.parts:
            if part.has(function, address):
                return part.read(function, address, count)
        held = self._setting_at(address)
        if function == 3 and held is not None:
            return self._setting_words(held, count)
        table = self._table(function)
        self._refuse(address, count)
        wanted = range(address, address + count)
        found: dict[int, int] = {}
        energy = False
        for register in table:
            if register.address < wanted.stop and wanted.start < register.address + register.words:
                energy = energy or register.name.startswith("energy_import")
                found |= dict(enumerate(self._words(register), register.address))
        if energy:
            self.on_shown(True)
        if not found or (not self.map.gaps_read_zero and not set(wanted) <= found.keys()):
            raise ModbusException(ILLEGAL_ADDRESS)
        return [found.get(at, 0) for at in wanted]

    def write_words(self, address: int, values: Sequence[int]) -> None:
        for part in self.parts:
            if part.has(16, address):
                part.write(address, values)
                return
        setting = self._setting_at(address)
        if setting is None or len(values) != (2 if setting.is_float else 1):
            raise ModbusException(ILLEGAL_ADDRESS)
        value = _float(values) if setting.is_float else Fraction(values[0])
        if value is None or value not in setting.allowed:
            raise ModbusException(ILLEGAL_VALUE)
        self.settings[address] = int(value)
        self.on_shown(False)

    def _table(self, function: int) -> Sequence[Register]:
        table: list[Register] = []
        if function in self.map.functions:
            table += self.map.registers
        if function == 3:
            table += self.map.holding
        if not table:
            raise ModbusException(ILLEGAL_FUNCTION)
        return table

    def _refuse(self, address: int, count: int) -> None:
        if count > self.map.most_words:
            raise ModbusException(ILLEGAL_VALUE)
        last = address + count - 1
        if any(address < wall <= last for wall in self.map.walls):
            raise ModbusException(ILLEGAL_ADDRESS)

    def _words(self, register: Register) -> list[int]:
        if register.holds is not None:
            raw = words.constant(register, register.holds)
        elif register.name == "serial":
            raw = words.constant(register, self.serial)
        elif register.absent or self.nan:
            raw = words.absent(register)
        else:
            raw = self._encoded(register)[0]
        return words.in_order(register, raw, self.map.low_first)

    def _encoded(self, register: Register) -> tuple[list[int], Fraction]:
        value = self._values()[register.quantity]
        return words.encode(register, value, counter=register.name.startswith("energy"))

    def _values(self) -> dict[str, Fraction]:
        return self._seen() if self._frozen is None else self._frozen

    def _seen(self) -> dict[str, Fraction]:
        """The truth as old as this meter's values may be, with the faults of its counter."""
        age_ns = self.now_ns() - self._fresh_ns
        if self._fresh is None or age_ns >= self.map.refresh_ms * NS_PER_MS:
            self._fresh, self._fresh_ns = self.truth(), self.now_ns()
        return self._faulted(self._fresh)

    def _faulted(self, seen: dict[str, Fraction]) -> dict[str, Fraction]:
        values = dict(seen)
        energy = (values["energy_import"] - self.jump_back_wh) % self.map.wraps_wh
        values["energy_import"] = energy
        values["energy_total"] = energy + _EXPORTED_WH
        for n in self.missing:
            for name in (f"voltage_l{n}", f"current_l{n}", f"power_l{n}"):
                values[name] = Fraction(0)
        return values

    # --- Settings -----------------------------------------------------------------------------

    def _setting_at(self, address: int) -> Setting | None:
        return next((s for s in self.map.settings if s.address == address), None)

    def _setting_words(self, setting: Setting, count: int) -> Sequence[int]:
        if count != (2 if setting.is_float else 1):
            raise ModbusException(ILLEGAL_VALUE)
        value = self.settings.get(setting.address, setting.allowed[0])
        if not setting.is_float:
            return [value]
        register = Register(setting.address, "f32", setting.name, 2)
        return words.encode(register, Fraction(value), counter=False)[0]


def _as_told(register: Register, holds: int | str) -> Fraction | str:
    return Fraction(holds) if words.is_number(register) else str(holds)


def _float(values: Sequence[int]) -> Fraction | None:
    """None for what is no number."""
    raw = values[0] << 16 | values[1]
    exponent = raw >> 23 & 0xFF
    if exponent == 0xFF:
        return None
    mantissa = raw & 0x7FFFFF | (0x800000 if exponent else 0)
    size = Fraction(mantissa) * Fraction(2) ** (max(exponent, 1) - 150)
    return -size if raw >> 31 else size
