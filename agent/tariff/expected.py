"""What a charge is expected to cost before it begins: for the amount of a hold. Exact inside, no float."""

from __future__ import annotations

from agent.tariff.model import Tariff, Usage
from agent.tariff.price import price
from agent.values import Money
from agent.values.money import CURRENCIES

MS_PER_HOUR = 3_600_000


def expected_price(
    tariff: Tariff,
    max_power_w: int,
    *,
    energy_wh: int | None = None,
    duration_ms: int | None = None,
) -> Money:
    """The price of `energy_wh`, or of `duration_ms`, at full power, with tax and all fees but idle time,
    rounded up to a whole unit of the currency. Exactly one of the two is given, and positive."""
    if (energy_wh is None) == (duration_ms is None):
        raise ValueError("expected either an energy or a duration")
    if max_power_w <= 0 or (energy_wh or duration_ms or 0) <= 0:
        raise ValueError("power, energy and duration are more than zero")
    if duration_ms is not None:
        energy_wh = -(-max_power_w * duration_ms // MS_PER_HOUR)
    else:
        assert energy_wh is not None
        duration_ms = -(-energy_wh * MS_PER_HOUR // max_power_w)
    total_minor = price(tariff, Usage(energy_wh, charging_ms=duration_ms)).total_minor
    unit = int(10 ** CURRENCIES[tariff.currency][1])
    return Money(-(-total_minor // unit) * unit, tariff.currency)
