"""One connector in memory: contactor, car and register, exact on a virtual clock."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from agent.ports import EvseState
from agent.values import ReadingState

WH_MWS = 3_600_000  # milliwatt seconds in a Wh


@dataclass
class Plant:
    """One connector: contactor, car and the register behind it. `clock_ms` is the true time. Power
    changes at the moments in `_due`; the truth is exact in milliwatt seconds."""

    clock_ms: Callable[[], int]
    load_w: int = 11_000
    react_ms: int = 1_500
    fall_ms: int = 1_000
    begin_wh: int = 104_211
    plugged: bool = False
    released: bool = False
    charged: bool = False
    ended: bool = False
    estop: bool = False
    fault: bool = False
    answers: bool = True
    takes_withdrawals: bool = True
    meter_answers: bool = True
    meter_claims: ReadingState | None = (
        None  # another serial number or model than the one that is expected
    )
    serial: str = "SDM-1"
    failsafe_s: int | None = None
    bus_ms: int = 60
    meter_step_wh: int = 1
    power_w: int = 0
    commands: list[str] = field(default_factory=list)
    most_power_w: int = 0
    _energy_mws: int = 0
    _at_ms: int = 0
    _due: list[tuple[int, int]] = field(default_factory=list)

    def __post_init__(self) -> None:
        self._at_ms = self.clock_ms()

    # physics

    def advance(self) -> None:
        now = self.clock_ms()
        for at, power in list(self._due):
            if at > now:
                break
            self._flow(at)
            self.power_w = power
            self._due.pop(0)
        self._flow(now)
        if self.power_w > 0:
            self.charged = True

    def _flow(self, to_ms: int) -> None:
        self._energy_mws += self.power_w * (to_ms - self._at_ms)  # W times ms
        self._at_ms = to_ms
        self.most_power_w = max(self.most_power_w, self.power_w)

    def rebase(self, by_ms: int) -> None:
        """The boot-time clock was moved."""
        self._at_ms += by_ms
        self._due = [(at + by_ms, power) for at, power in self._due]

    def _later(self, after_ms: int, power_w: int) -> None:
        self.advance()
        self._due = [(self.clock_ms() + after_ms, power_w)]

    @property
    def delivered_wh(self) -> int:
        self.advance()
        return self._energy_mws // WH_MWS

    @property
    def register_wh(self) -> int:
        return self.begin_wh + self.delivered_wh

    # what a person or a car does

    def plug(self) -> None:
        self.advance()
        self.plugged, self.charged, self.ended = True, False, False

    def unplug(self) -> None:
        self._later(0, 0)
        self.advance()
        self.plugged = self.charged = self.ended = False

    def draw(self, power_w: int) -> None:
        """The car changes its mind."""
        self.load_w = power_w
        if self.released and self.plugged:
            self._later(0, power_w)

    def press_estop(self) -> None:
        self.estop = True
        self._later(0, 0)

    # what the controller does

    def release(self) -> None:
        self.commands.append("release")
        if not self.released:
            self.released = True
            if self.plugged and not self.estop:
                self._later(self.react_ms, self.load_w)

    def withdraw(self) -> None:
        self.commands.append("withdraw")
        if self.released:
            self.released, self.ended = False, True
            self._later(self.fall_ms, 0)

    def state(self) -> EvseState:
        self.advance()
        if self.fault:
            return EvseState.FAULT
        if not self.plugged:
            return EvseState.UNPLUGGED
        if self.released:
            if self.power_w > 0:
                return EvseState.CHARGING
            return EvseState.SUSPENDED if self.charged else EvseState.READY
        if self.power_w > 0:
            return EvseState.SUSPENDED
        return EvseState.FINISHED if self.ended else EvseState.PLUGGED
