"""When energy must stop so that the cost can never exceed the hold.

The question is asked again at every reading. It looks one reaction ahead: `reaction_ms` is the longest
time from the moment a reading was true until energy is proven to have stopped, when the stop is only
ordered after the *next* reading. So it is the sum of the age of the reading, one poll interval, the bus
delay (quarantine included), and the time the charge controller takes to open the contactor. As long as
the answer is "not reached", a stop ordered at the next question is still in time.
"""

from __future__ import annotations

from dataclasses import dataclass

from agent.tariff.model import Tariff, Usage
from agent.tariff.price import price

MS_PER_HOUR = 3_600_000


@dataclass(frozen=True, slots=True)
class Headroom:
    """How far a session is from its hold. `worst_minor` is the cost at `cost_minor`'s usage plus the
    margin; `reached` says that it exceeds the hold. All of it is worth a log line when energy stops."""

    cost_minor: int
    worst_minor: int
    hold_minor: int
    margin_wh: int
    margin_ms: int

    @property
    def reached(self) -> bool:
        return self.worst_minor > self.hold_minor

    @property
    def margin_minor(self) -> int:
        return self.worst_minor - self.cost_minor

    @property
    def left_minor(self) -> int:
        """What may still be spent before the stop; negative once the limit is passed."""
        return self.hold_minor - self.worst_minor

    def json(self) -> dict[str, int]:
        return {
            "cost_minor": self.cost_minor,
            "worst_minor": self.worst_minor,
            "hold_minor": self.hold_minor,
            "margin_minor": self.margin_minor,
            "margin_wh": self.margin_wh,
            "margin_ms": self.margin_ms,
        }


def headroom(
    tariff: Tariff,
    usage: Usage,
    hold_minor: int,
    *,
    max_power_w: int,
    reaction_ms: int,
    meter_step_wh: int = 1,
) -> Headroom:
    """Cost now and at worst one reaction later.

    The margin is the energy that `max_power_w` moves in `reaction_ms`, rounded up, plus one step of the
    meter's register (its reading may be that much behind), plus whichever time fee costs more for
    `reaction_ms`: a session either charges or idles, never both at once."""
    for name, value in (
        ("max_power_w", max_power_w),
        ("reaction_ms", reaction_ms),
        ("meter_step_wh", meter_step_wh),
    ):
        if value <= 0:
            raise ValueError(f"{name} is {value}; a margin without it would be a guess")
    margin_wh = -(-max_power_w * reaction_ms // MS_PER_HOUR) + meter_step_wh
    energy_wh = usage.energy_wh + margin_wh
    worst = max(
        price(tariff, Usage(energy_wh, usage.charging_ms + reaction_ms, usage.idle_ms)).total_minor,
        price(tariff, Usage(energy_wh, usage.charging_ms, usage.idle_ms + reaction_ms)).total_minor,
    )
    return Headroom(
        cost_minor=price(tariff, usage).total_minor,
        worst_minor=worst,
        hold_minor=hold_minor,
        margin_wh=margin_wh,
        margin_ms=reaction_ms,
    )


def limit_reached(
    tariff: Tariff,
    usage: Usage,
    hold_minor: int,
    max_power_w: int,
    reaction_ms: int,
    meter_step_wh: int = 1,
) -> Headroom | None:
    """Stop now? The figures to log when yes, None while the session may go on (design §2 rule 4)."""
    found = headroom(
        tariff,
        usage,
        hold_minor,
        max_power_w=max_power_w,
        reaction_ms=reaction_ms,
        meter_step_wh=meter_step_wh,
    )
    return found if found.reached else None
