"""What a meter said at one moment. Energy is integer Wh, converted once, at the driver."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class ReadingState(StrEnum):
    """A reading that is not OK carries no number: a number that cannot be billed
    must not look as if it could."""

    OK = "ok"
    NO_ANSWER = "no_answer"
    NOT_AVAILABLE = "not_available"  # NaN, all-ones or another mark of the model
    OUT_OF_RANGE = "out_of_range"
    ROLLBACK = "rollback"
    JUMP = "jump"
    FROZEN = "frozen"  # power flows, and neither it nor the register changes
    POWER_WITHOUT_ENERGY = "power_without_energy"  # power flows and changes, the register stands
    ENERGY_WITHOUT_POWER = "energy_without_power"
    WRONG_SERIAL = "wrong_serial"
    WRONG_MODEL = "wrong_model"  # its identity registers name another model than the configuration


@dataclass(frozen=True, slots=True)
class Reading:
    """`energy_import_wh` and `power_w` are None unless `state` is OK. `boot_ms` is the boot-time
    clock at the receipt of the reply; the driver gets that clock handed in. `step_wh`: what the register
    can tell apart where it stands now, rounded up; it may be behind the energy by so much."""

    state: ReadingState
    boot_ms: int
    energy_import_wh: int | None = None
    power_w: int | None = None
    serial: str | None = None
    why: str = ""
    step_wh: int = 1

    def __post_init__(self) -> None:
        numbers = (self.energy_import_wh, self.power_w)
        if any(isinstance(n, float) for n in numbers):
            raise TypeError(f"a reading of {numbers}; energy and power are integers")
        if self.state is not ReadingState.OK and numbers != (None, None):
            raise ValueError(f"a reading that is {self.state} carries {numbers}; expected nothing")

    @property
    def ok(self) -> bool:
        return self.state is ReadingState.OK
