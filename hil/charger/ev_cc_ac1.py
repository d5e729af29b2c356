"""Phoenix Contact EV-CC-AC1 (EV Charge Control Basic): the registers a master sees.

Source: user manual 106377_en_04 table 9-2. Coils and 22000 are volatile, 4000 and 4001 retentive. The
real controller has no fail-safe timer; `failsafe_s` is the bench's switch for one that has.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from hil.charger.plant import Plant
from hil.charger.rtu import ILLEGAL_ADDRESS, ILLEGAL_VALUE, ModbusException

ENABLE_MODE, AVAILABLE_MODE, LOCK_MODE = 4000, 4001, 4002
COIL_ENABLE, COIL_AVAILABLE, COIL_LOCK, COIL_RESTART = 20000, 20001, 20002, 21000
MAX_CURRENT, SYSTEM_STATE, OFFERED_A, INPUTS, ERRORS = 22000, 24000, 24003, 24004, 24025
DEFAULT_LIMIT_A = 32
LIMIT_RANGE_A = range(6, 64)
_MODE_RANGES = {ENABLE_MODE: range(4), AVAILABLE_MODE: range(3), LOCK_MODE: range(4)}
_ALWAYS, _BY_COIL, _AVAILABLE_BY_COIL = 0, 3, 2
_INPUT_ESTOP = 1 << 4  # the bench wires the emergency stop's second contact to input IN
_ERROR_UNAVAILABLE, _ERROR_RESIDUAL_CURRENT = 1 << 5, 1 << 15
_ORDER_TEXT = b"EV-CC-AC1-M3-CBC-SER-HS".ljust(32)
_ORDER_REGISTERS = {
    1000 + n: int.from_bytes(_ORDER_TEXT[2 * n : 2 * n + 2], "big") for n in range(16)
}


@dataclass(slots=True)
class EvCcAc1:
    """The controller in front of `plant`. `retentive`: registers that survive a power cut."""

    plant: Plant
    retentive: dict[int, int]
    failsafe_s: int = 0
    on_change: Callable[[], None] = field(default=lambda: None)
    restart: Callable[[], None] = field(default=lambda: None)
    coils: dict[int, bool] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.power_up()

    def power_up(self) -> None:
        """Volatile registers at their defaults: not released, available, limit as by DIP switch."""
        self.coils = {COIL_ENABLE: False, COIL_AVAILABLE: True, COIL_LOCK: False}
        self.plant.limit_a = DEFAULT_LIMIT_A
        self._apply()

    def failsafe_due_ns(self, heard_ns: int) -> int | None:
        """When the release is withdrawn if no request comes after the one at `heard_ns`."""
        if not self.failsafe_s or not self.coils[COIL_ENABLE]:
            return None
        return heard_ns + self.failsafe_s * 1_000_000_000

    def trip_failsafe(self, heard_ns: int, now_ns: int) -> bool:
        """True when the silence on the bus made it withdraw the release just now."""
        due_ns = self.failsafe_due_ns(heard_ns)
        if due_ns is None or now_ns < due_ns:
            return False
        self.coils[COIL_ENABLE] = False
        self._apply()
        return True

    def _apply(self) -> None:
        mode = self.retentive[ENABLE_MODE]
        # Modes 1 and 2 listen to the input EN, to which the bench connects nothing.
        self.plant.released = mode == _ALWAYS or (mode == _BY_COIL and self.coils[COIL_ENABLE])
        by_coil = self.retentive[AVAILABLE_MODE] == _AVAILABLE_BY_COIL
        self.plant.available = self.coils[COIL_AVAILABLE] if by_coil else True

    def read_bits(self, function: int, address: int, count: int) -> Sequence[bool]:
        wanted = range(address, address + count)
        if function != 1 or any(a not in self.coils for a in wanted):
            raise ModbusException(ILLEGAL_ADDRESS)
        return [self.coils[a] for a in wanted]

    def write_bits(self, address: int, values: Sequence[bool]) -> None:
        wanted = range(address, address + len(values))
        if wanted == range(COIL_RESTART, COIL_RESTART + 1):
            if values[0]:
                self.restart()
            return
        if any(a not in self.coils for a in wanted):
            raise ModbusException(ILLEGAL_ADDRESS)
        self.coils.update(zip(wanted, values, strict=True))
        self._apply()
        self.on_change()

    def read_words(self, function: int, address: int, count: int) -> Sequence[int]:
        table = self._inputs() if function == 4 else self._holdings()
        wanted = range(address, address + count)
        if any(a not in table for a in wanted):
            raise ModbusException(ILLEGAL_ADDRESS)
        return [table[a] for a in wanted]

    def write_words(self, address: int, values: Sequence[int]) -> None:
        wanted = dict(zip(range(address, address + len(values)), values, strict=True))
        for register, value in wanted.items():
            allowed = LIMIT_RANGE_A if register == MAX_CURRENT else _MODE_RANGES.get(register)
            if allowed is None:
                raise ModbusException(ILLEGAL_ADDRESS)
            if value not in allowed:
                raise ModbusException(ILLEGAL_VALUE)
        for register, value in wanted.items():
            if register == MAX_CURRENT:
                self.plant.limit_a = value
            else:
                self.retentive[register] = value
        self._apply()
        self.on_change()

    def _holdings(self) -> dict[int, int]:
        return {**self.retentive, MAX_CURRENT: self.plant.limit_a}

    def _inputs(self) -> dict[int, int]:
        state = self.plant.control_pilot().ljust(2, "0").encode("ascii")
        offered_a = self.plant.limit_a if self.plant.offered else 0
        errors = 0 if self.plant.available else _ERROR_UNAVAILABLE
        errors |= _ERROR_RESIDUAL_CURRENT if self.plant.ground_fault else 0
        table = {
            SYSTEM_STATE: int.from_bytes(state, "big"),
            24001: 32 if self.plant.plugged else 0,
            24002: offered_a * 5 // 3,  # duty cycle in percent: 0.6 A each (IEC 61851-1 annex A)
            OFFERED_A: offered_a,
            INPUTS: _INPUT_ESTOP if self.plant.estop else 0,
            24005: 0,
            ERRORS: errors,
        }
        return table | _ORDER_REGISTERS


def factory_registers(enable_mode: int = _BY_COIL) -> dict[int, int]:
    """`enable_mode` 3: released by coil 20000, as an installer sets it up for a master."""
    return {ENABLE_MODE: enable_mode, AVAILABLE_MODE: 0, LOCK_MODE: 0}
