"""Do the power and the register of a meter tell one story? Pure.

Either may be wrong alone: a register that stands while current flows gives energy away, one that runs without
power bills what nobody got. Which of the two is wrong cannot be told from here, so such a reading is no
number. The bounds are wide: whoever trips them has a meter at fault, not a car that is hard to follow.
"""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction

from agent.values import ReadingState

# Nothing is said about the time between readings that lie further apart. A session is read every second.
SPAN_MOST_MS = 10_000
# Power below this may be under the current at which a meter begins to count, or be the charger's own.
POWER_COUNTS_W = 100
# So long power must have flowed before a register that stands is believed to stand: some meters bring
# their register up to date in bursts.
STANDS_LEAST_MS = 30_000
# After the power fell to zero the register may still catch up.
SETTLES_MS = 2_000
# What the register may rise with no power shown: rounding, and loads below what the meter shows.
UNSEEN_W = 50
# In so many readings a register must have risen with no power shown: a car may have charged between two that
# showed none, when those between were lost.
RISES_LEAST = 3
# Added to both bounds: registers that count in steps of 10 Wh.
SLACK_WH = 20
_W_MS_PER_WH = 3_600_000


@dataclass(slots=True)
class PowerWatch:
    """Judges each reading against those before it."""

    _at_ms: int | None = None
    _wh: int = 0
    _power_w: int = 0
    # While the register stands: for how long power flowed, how much energy that is, whether it ever varied.
    _flowed_ms: int = 0
    _owed_w_ms: int = 0
    _varied: bool = False
    # While no power is shown: since when, the register when it had settled, how often it has risen since.
    _zero_ms: int | None = None
    _zero_wh: int = 0
    _rises: int = 0

    def judge(
        self, energy_wh: int, power_w: int, step_wh: Fraction, now_ms: int
    ) -> tuple[ReadingState, str]:
        """OK, or which of FROZEN, POWER_WITHOUT_ENERGY, ENERGY_WITHOUT_POWER and why. `step_wh` is what
        the register can tell apart."""
        elapsed_ms = None if self._at_ms is None else now_ms - self._at_ms
        if elapsed_ms is None or not 0 <= elapsed_ms <= SPAN_MOST_MS:
            self._begin(energy_wh, power_w, now_ms)
            return ReadingState.OK, ""
        before_w, stands = self._power_w, energy_wh == self._wh
        self._at_ms, self._wh, self._power_w = now_ms, energy_wh, power_w
        if stands:
            self._flow(min(power_w, before_w), power_w != before_w, elapsed_ms)
        else:
            self._owe_nothing()
        if power_w > 0:
            self._zero_ms = None
            return self._standing(step_wh)
        state, why = self._without_power(step_wh, now_ms, rose=not stands)
        return (state, why) if why else self._standing(step_wh)

    def _begin(self, energy_wh: int, power_w: int, now_ms: int) -> None:
        self._at_ms, self._wh, self._power_w = now_ms, energy_wh, power_w
        self._owe_nothing()
        self._zero_ms = None

    def _owe_nothing(self) -> None:
        self._flowed_ms = self._owed_w_ms = 0
        self._varied = False

    def _flow(self, least_w: int, varied: bool, elapsed_ms: int) -> None:
        if least_w >= POWER_COUNTS_W:
            self._flowed_ms += elapsed_ms
            self._owed_w_ms += least_w * elapsed_ms
        if self._flowed_ms:
            self._varied |= varied

    def _standing(self, step_wh: Fraction) -> tuple[ReadingState, str]:
        owed_wh = self._owed_w_ms // _W_MS_PER_WH
        if self._flowed_ms < STANDS_LEAST_MS or owed_wh <= SLACK_WH + 3 * step_wh:
            return ReadingState.OK, ""
        seen = f"{owed_wh} Wh flowed in {self._flowed_ms // 1000} s, and the register stands"
        if self._varied:
            return ReadingState.POWER_WITHOUT_ENERGY, f"{seen}: power without energy"
        return ReadingState.FROZEN, f"{seen}, as does the power: frozen"

    def _without_power(
        self, step_wh: Fraction, now_ms: int, *, rose: bool
    ) -> tuple[ReadingState, str]:
        if self._zero_ms is None:
            self._zero_ms, self._zero_wh = now_ms, self._wh
        spent_ms = now_ms - self._zero_ms
        if spent_ms <= SETTLES_MS:
            self._zero_wh, self._rises = self._wh, 0
        elif rose:
            self._rises += 1
        rise_wh = self._wh - self._zero_wh
        most_wh = SLACK_WH + 2 * step_wh + Fraction(UNSEEN_W * spent_ms, _W_MS_PER_WH)
        if rise_wh <= most_wh or self._rises < RISES_LEAST:
            return ReadingState.OK, ""
        return ReadingState.ENERGY_WITHOUT_POWER, (
            f"the register rose by {rise_wh} Wh in {spent_ms // 1000} s at no power: energy without power"
        )
