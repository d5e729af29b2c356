"""Eastron SDM630-Modbus V2: the registers a master sees.

Source: Eastron SDM630MCT Modbus protocol manual (input and holding register tables). Every value is an
IEEE 754 float32 in two registers, most significant word first; the serial number is a u32.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from fractions import Fraction

from hil.charger.plant import MW_NS_PER_MWH, Plant
from hil.charger.rtu import ILLEGAL_ADDRESS, ILLEGAL_VALUE, ModbusException

MAX_WORDS_PER_READ = 80  # the manual: at most 40 parameters in one request
LAST_INPUT = 0x0181
SERIAL_ADDRESS = 0xFC00
ENERGY_IMPORT = 0x0048
PARITY_STOP, UNIT_ID, BAUD = 0x0012, 0x0014, 0x001C
BAUD_CODES = {2400: 0, 4800: 1, 9600: 2, 19200: 3, 38400: 4}
_RANGES = {PARITY_STOP: range(4), UNIT_ID: range(1, 248), BAUD: range(5)}
_MAINS_V, _MAINS_HZ = 230, 50
_NAN = b"\x7f\xc0\x00\x00"
_ENERGY = frozenset({ENERGY_IMPORT, 0x0156, 0x015A, 0x015C, 0x015E})


@dataclass(slots=True)
class Sdm630:
    """The meter on `plant`'s cable. `start_wh`: what the register showed when the plant began.

    `on_shown` is called before an energy value leaves the meter: what a master has seen must survive."""

    plant: Plant
    serial: int
    start_wh: int
    config: dict[int, int]
    on_shown: Callable[[], None] = field(default=lambda: None)
    nan: bool = False
    frozen_kwh: Fraction | None = None
    jump_back_wh: int = 0

    @property
    def energy_kwh(self) -> Fraction:
        """What the register is made from: exact, plus what a fault makes of it."""
        if self.frozen_kwh is not None:
            return self.frozen_kwh
        flowed = Fraction(self.plant.energy_mw_ns, MW_NS_PER_MWH * 1_000_000)
        return max(Fraction(0), Fraction(self.start_wh - self.jump_back_wh, 1000) + flowed)

    @property
    def register_wh(self) -> int:
        """The energy register as a reader gets it: float32 kWh, converted once to the nearest Wh."""
        (kwh,) = struct.unpack(">f", _float32(self.energy_kwh))
        return round(Fraction(kwh) * 1000)

    def freeze(self) -> None:
        self.frozen_kwh = self.energy_kwh

    def read_bits(self, function: int, address: int, count: int) -> Sequence[bool]:
        raise ModbusException(1)

    def write_bits(self, address: int, values: Sequence[bool]) -> None:
        raise ModbusException(1)

    def read_words(self, function: int, address: int, count: int) -> Sequence[int]:
        if function == 3 and address == SERIAL_ADDRESS and count == 2:
            return self.serial >> 16, self.serial & 0xFFFF
        if count > MAX_WORDS_PER_READ:
            raise ModbusException(ILLEGAL_VALUE)
        if address % 2 or count % 2:
            raise ModbusException(ILLEGAL_ADDRESS)  # half of a float has no meaning
        wanted = range(address, address + count, 2)
        if function == 3:
            return self._words([self._holding(a) for a in wanted])
        if wanted[-1] > LAST_INPUT:
            raise ModbusException(ILLEGAL_ADDRESS)
        values = self._inputs()
        if not _ENERGY.isdisjoint(wanted):
            self.on_shown()
        if self.nan:
            return self._words([_NAN] * len(wanted))
        return self._words([_float32(values.get(a, Fraction(0))) for a in wanted])

    def write_words(self, address: int, values: Sequence[int]) -> None:
        """Configuration comes as float32; it is kept at once and works after the next power-up."""
        if address not in _RANGES or len(values) != 2:
            raise ModbusException(ILLEGAL_ADDRESS)
        (value,) = struct.unpack(">f", struct.pack(">HH", *values))
        if value not in _RANGES[address]:  # NaN is in no range
            raise ModbusException(ILLEGAL_VALUE)
        self.config[address] = int(value)
        self.on_shown()

    def _holding(self, address: int) -> bytes:
        if address not in self.config:
            raise ModbusException(ILLEGAL_ADDRESS)
        return _float32(Fraction(self.config[address]))

    def _inputs(self) -> dict[int, Fraction]:
        watts = Fraction(self.plant.power_mw, 1000)
        energy = self.energy_kwh
        values = {0x0034: watts, 0x0046: Fraction(_MAINS_HZ), ENERGY_IMPORT: energy, 0x0156: energy}
        for n in range(0, 6, 2):
            values[n] = Fraction(_MAINS_V)
            values[0x06 + n] = watts / 3 / _MAINS_V
            values[0x0C + n] = watts / 3
            values[0x12 + n] = watts / 3  # volt amperes: the car's power factor is one
            values[0x1E + n] = Fraction(1)
            values[0x015A + n] = energy / 3
        return values

    def _words(self, floats: Sequence[bytes]) -> list[int]:
        return [word for data in floats for word in struct.unpack(">HH", data)]


def factory_config(unit: int, baud: int) -> dict[int, int]:
    """Framing 8N1, the given unit and baud rate."""
    return {PARITY_STOP: 0, UNIT_ID: unit, BAUD: BAUD_CODES[baud]}


def _float32(value: Fraction) -> bytes:
    return struct.pack(">f", float(value))
