"""The physics: a car on a charge controller, and the energy that really flowed.

Everything is integer. Power is constant between two events, so energy (in mW times ns) is exact however
often or seldom it is looked at. No clock: instants (monotonic, ns) are handed in.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum

MW_NS_PER_MWH = 3_600_000_000_000
FALL_STEPS = 4  # a car that is told to stop lowers its current in steps before it opens its switch
WATTS_PER_AMP = 690  # three phases of 230 V


class Phase(StrEnum):
    """What the car does with its switch S2 (IEC 61851-1 annex A)."""

    IDLE = "idle"
    CLOSING = "closing"  # saw the offer, will close S2 in a moment
    DRAWING = "drawing"
    FALLING = "falling"  # the offer was withdrawn, current goes down


@dataclass(slots=True)
class Plant:
    """`load_w`: what the car would like. `released`: the controller's own decision (PWM on) as the
    register logic sees it. `bare` is a meter without controller: the load flows as long as there is mains."""

    react_ms: int = 300
    fall_ms: int = 400
    cap_to_limit: bool = False
    bare: bool = False
    load_w: int = 0
    plugged: bool = False
    released: bool = False
    available: bool = True
    powered: bool = True
    estop: bool = False
    ground_fault: bool = False
    stop_ineffective: bool = False
    limit_a: int = 32
    energy_mw_ns: int = 0
    phase: Phase = Phase.IDLE
    _at_ns: int | None = None
    _deadline_ns: int | None = None
    _step: int = field(default=0)

    @property
    def faulted(self) -> bool:
        return self.estop or self.ground_fault

    @property
    def offered(self) -> bool:
        """PWM is on: the car may draw."""
        return (
            self.powered and self.plugged and self.released and not self.faulted and self.available
        )

    @property
    def power_mw(self) -> int:
        wanted_mw = self.load_w * 1000
        if self.cap_to_limit:
            wanted_mw = min(wanted_mw, self.limit_a * WATTS_PER_AMP * 1000)
        if self.bare:
            return wanted_mw if self.powered else 0
        if self.phase is Phase.DRAWING:
            return wanted_mw
        if self.phase is Phase.FALLING:
            return wanted_mw * (FALL_STEPS - self._step) // FALL_STEPS
        return 0

    @property
    def energy_mwh(self) -> int:
        return self.energy_mw_ns // MW_NS_PER_MWH

    def control_pilot(self) -> str:
        """The state letters of IEC 61851-1 as the controller reports them."""
        if self.faulted:
            return "E"
        if not self.available:
            return "F"
        if not self.plugged:
            return "A1"
        if self.phase is Phase.DRAWING:
            return "C2" if self.offered else "C1"
        if self.phase is Phase.FALLING:
            return "C1"
        return "B2" if self.offered else "B1"

    def advance(self, now_ns: int) -> None:
        """Bring the truth up to `now_ns`. Call before anything is changed or looked at."""
        if self._at_ns is None:
            self._at_ns = now_ns
        while self._deadline_ns is not None and self._deadline_ns <= now_ns:
            self._integrate(self._deadline_ns)
            self._fire(self._deadline_ns)
        self._integrate(now_ns)

    def changed(self) -> None:
        """React to a changed input at the instant of the last `advance`."""
        if self._at_ns is None:
            raise RuntimeError("changed() before the first advance()")
        wants = self.load_w > 0
        if not self.plugged or not self.powered or self.faulted or not self.available or not wants:
            self._go(Phase.IDLE, None)
        elif self.offered:
            if self.phase in (Phase.IDLE, Phase.FALLING):
                self._go(Phase.CLOSING, self._at_ns + self.react_ms * 1_000_000)
        elif self.phase is Phase.DRAWING and not self.stop_ineffective:
            self._step = 1
            self._go(Phase.FALLING, self._at_ns + self._fall_step_ns)
            self._skip_an_instant_fall()
        elif self.phase is Phase.CLOSING:
            self._go(Phase.IDLE, None)

    def next_deadline_ns(self) -> int | None:
        return self._deadline_ns

    @property
    def _fall_step_ns(self) -> int:
        return self.fall_ms * 1_000_000 // (FALL_STEPS - 1)

    def _skip_an_instant_fall(self) -> None:
        if self.fall_ms == 0:
            self._go(Phase.IDLE, None)

    def _integrate(self, to_ns: int) -> None:
        if self._at_ns is not None and to_ns > self._at_ns:
            self.energy_mw_ns += self.power_mw * (to_ns - self._at_ns)
            self._at_ns = to_ns

    def _fire(self, at_ns: int) -> None:
        if self.phase is Phase.CLOSING:
            self._go(Phase.DRAWING, None)
        elif self._step + 1 < FALL_STEPS:
            self._step += 1
            self._deadline_ns = at_ns + self._fall_step_ns
        else:
            self._go(Phase.IDLE, None)

    def _go(self, phase: Phase, deadline_ns: int | None) -> None:
        self.phase, self._deadline_ns = phase, deadline_ns
