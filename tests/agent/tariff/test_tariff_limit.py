"""The stop comes early enough: whatever a car does, the cost never passes the hold."""

from __future__ import annotations

from decimal import Decimal

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agent.tariff import (
    EnergyPrice,
    FixedPrice,
    PriceBasis,
    Rounding,
    Tariff,
    TimePrice,
    Usage,
    headroom,
    limit_reached,
    price,
)

MS_PER_HOUR = 3_600_000


def tariff(energy: str, minute: str = "0", idle: str = "0", fixed: str = "0") -> Tariff:
    return Tariff(
        "t",
        "EUR",
        PriceBasis.INCLUDING_VAT,
        Decimal(19),
        Rounding.HALF_UP,
        (EnergyPrice(Decimal(energy)),),
        (TimePrice(Decimal(minute)),),
        (TimePrice(Decimal(idle)),),
        (FixedPrice(Decimal(fixed)),),
    )


cents = st.integers(0, 200).map(lambda n: f"{Decimal(n).scaleb(-2):f}")


@settings(max_examples=60)
@given(
    data=st.data(),
    energy=cents.filter(lambda c: c != "0.00"),
    minute=cents,
    idle=cents,
    fixed=cents,
    power_w=st.integers(1_000, 400_000),
    poll_ms=st.integers(200, 10_000),
    stop_ms=st.integers(0, 20_000),
    step_wh=st.sampled_from([1, 10, 100]),
    hold_minor=st.integers(500, 6_000),
)
def test_cost_never_passes_the_hold_at_full_power(
    data: st.DataObject,
    energy: str,
    minute: str,
    idle: str,
    fixed: str,
    power_w: int,
    poll_ms: int,
    stop_ms: int,
    step_wh: int,
    hold_minor: int,
) -> None:
    t = tariff(energy, minute, idle, fixed)
    truth_mws, charging_ms, idle_ms = 0, 0, 0  # milliwatt-seconds, so that nothing is rounded away

    def seen() -> Usage:
        wh = truth_mws // MS_PER_HOUR
        return Usage(wh // step_wh * step_wh, charging_ms, idle_ms)

    def billed() -> int:
        return price(t, Usage(truth_mws // MS_PER_HOUR, charging_ms, idle_ms)).total_minor

    def run(ms: int, busy: bool) -> None:
        nonlocal truth_mws, charging_ms, idle_ms
        if busy:
            truth_mws += power_w * ms
            charging_ms += ms
        else:
            idle_ms += ms

    def stop() -> bool:
        return limit_reached(t, seen(), hold_minor, power_w, poll_ms + stop_ms, step_wh) is not None

    if stop():
        return  # the hold is too small to begin at all, and that was said before any energy
    for _ in range(400):
        run(poll_ms, busy=data.draw(st.booleans()) if idle != "0.00" else True)
        if stop():
            run(stop_ms, busy=True)  # the contactor takes its time, at full power
            break
    assert billed() <= hold_minor


def test_the_margin_is_what_can_still_flow() -> None:
    found = headroom(
        tariff("0.50", minute="0.60"),
        Usage(1000),
        100,
        max_power_w=36_000,
        reaction_ms=10_000,
        meter_step_wh=10,
    )
    # 36 kW for 10 s are 100 Wh, and the register may be 10 Wh behind; 10 s cost 0.10.
    assert (found.margin_wh, found.margin_ms) == (110, 10_000)
    assert (found.cost_minor, found.worst_minor, found.margin_minor) == (50, 66, 16)
    assert found.left_minor == 34
    assert not found.reached


def test_the_dearer_time_fee_runs_on() -> None:
    found = headroom(
        tariff("0.50", minute="0.06", idle="6.00"),
        Usage(0),
        1000,
        max_power_w=1,
        reaction_ms=60_000,
    )
    assert found.worst_minor == 600


def test_reached_exactly_one_cent_too_late_is_not_reached() -> None:
    t = tariff("1.00")
    at_hold = {
        "max_power_w": 3600,
        "reaction_ms": 9_000,
        "meter_step_wh": 1,
    }  # 10 Wh margin: 1 cent
    assert limit_reached(t, Usage(990), 100, **at_hold) is None
    stop = limit_reached(t, Usage(1000), 100, **at_hold)
    assert stop is not None
    assert stop.json() == {
        "cost_minor": 100,
        "worst_minor": 101,
        "hold_minor": 100,
        "margin_minor": 1,
        "margin_wh": 10,
        "margin_ms": 9_000,
    }


@pytest.mark.parametrize("name", ["max_power_w", "reaction_ms", "meter_step_wh"])
def test_no_margin_is_not_a_margin_of_zero(name: str) -> None:
    given_ = {"max_power_w": 1, "reaction_ms": 1, "meter_step_wh": 1} | {name: 0}
    with pytest.raises(ValueError, match=name):
        limit_reached(tariff("1"), Usage(0), 100, **given_)
