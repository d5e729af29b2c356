"""Is this register value possible after the last one? Pure.

An energy register only rises, and not faster than the rated power allows. Everything else is a fault to
hold, never a new starting point: meters have been seen to answer zero for a moment, and books that took
the zero as a new base billed the whole lifetime total with the next reading.
"""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction

from agent.values import ReadingState

# Allowed over the rated power: chargers and meters both have tolerances, and start currents exist.
MARGIN_PERCENT = 125
# Added to the elapsed time: some meters refresh their register only once a second, and both readings may
# lie on either side of it.
REFRESH_MS = 2_000
# Added to every bound, for registers that count in steps of 10 Wh.
SLACK_WH = 20
# Where no rated power is given, two readings in a row are compared with this. It is far above any charger
# and still finds a register that says zero for a moment.
UNKNOWN_RATED_POWER_W = 10_000_000


def most_rise_wh(rated_power_w: int, elapsed_ms: int, step_wh: Fraction) -> int:
    """Upper bound for the energy of `elapsed_ms` at rated power, in Wh. `step_wh` is what the register
    can tell apart (float32 registers count in coarse steps when they are high)."""
    energy = Fraction(rated_power_w * (elapsed_ms + REFRESH_MS) * MARGIN_PERCENT, 100 * 3_600_000)
    return int(energy + 2 * step_wh) + 1 + SLACK_WH


@dataclass(slots=True)
class RegisterWatch:
    """The last accepted value and whether the register has left the possible since.

    ROLLBACK ends when the register is back at or above the accepted value. JUMP ends only when the
    register falls back below the value it jumped to and into the bound; time alone does not make a jump
    good. A person ends either by restarting the agent or by a changed serial number (`forget`)."""

    rated_power_w: int | None
    accepted_wh: int | None = None
    accepted_ms: int = 0
    jumped_wh: int | None = None

    def forget(self) -> None:
        """Another meter: nothing of the old one counts."""
        self.accepted_wh = self.jumped_wh = None

    def judge(self, energy_wh: int, step_wh: Fraction, now_ms: int) -> tuple[ReadingState, str]:
        """OK and accepted, or ROLLBACK or JUMP and why."""
        if self.accepted_wh is None:
            return self._accept(energy_wh, now_ms)
        if energy_wh < self.accepted_wh:
            why = f"register fell from {self.accepted_wh} to {energy_wh} Wh"
            return ReadingState.ROLLBACK, why
        if self.rated_power_w is None:
            return self._accept(energy_wh, now_ms)
        elapsed_ms = max(0, now_ms - self.accepted_ms)
        bound = self.accepted_wh + most_rise_wh(self.rated_power_w, elapsed_ms, step_wh)
        still = self.jumped_wh is not None and energy_wh >= self.jumped_wh
        if still or energy_wh > bound:
            if self.jumped_wh is None:
                self.jumped_wh = energy_wh
            return ReadingState.JUMP, (
                f"register rose from {self.accepted_wh} to {energy_wh} Wh in {elapsed_ms} ms, more than "
                f"{self.rated_power_w} W can do"
            )
        return self._accept(energy_wh, now_ms)

    def _accept(self, energy_wh: int, now_ms: int) -> tuple[ReadingState, str]:
        self.accepted_wh, self.accepted_ms, self.jumped_wh = energy_wh, now_ms, None
        return ReadingState.OK, ""
