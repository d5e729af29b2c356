"""Power and register must tell one story: frozen, power without energy, energy without power."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.rtu_slave import Clock, Port, Registers, driver_env, float_words

from agent.ports import LineSpec, MeterSpec
from agent.values import ReadingState
from drivers.meter.agreement import (
    POWER_COUNTS_W,
    SLACK_WH,
    SPAN_MOST_MS,
    STANDS_LEAST_MS,
    PowerWatch,
)
from drivers.meter.modbus_meter import ModbusMeter, open_meter
from drivers.meter.rtu import Bus

OK, FROZEN = ReadingState.OK, ReadingState.FROZEN
STANDS, RUNS = ReadingState.POWER_WITHOUT_ENERGY, ReadingState.ENERGY_WITHOUT_POWER
W_MS_PER_WH = 3_600_000
STEP = Fraction(1)


def states(
    seen: Iterable[tuple[int, int]], step: Fraction = STEP, every_ms: int = 1000
) -> list[ReadingState]:
    """What becomes of (register, power), read one after the other."""
    watch = PowerWatch()
    return [watch.judge(wh, w, step, n * every_ms)[0] for n, (wh, w) in enumerate(seen)]


def first(found: list[ReadingState]) -> tuple[int, ReadingState]:
    """When, in seconds, and which was the first that is no number."""
    return next((n, state) for n, state in enumerate(found) if state is not OK)


def test_a_register_that_stands_while_power_flows_and_changes() -> None:
    found = states([(500, 11_000 + n % 3) for n in range(90)])
    assert first(found) == (STANDS_LEAST_MS // 1000, STANDS)
    assert set(found[STANDS_LEAST_MS // 1000 :]) == {STANDS}


def test_a_meter_that_tells_the_same_for_ever_is_frozen() -> None:
    found = states([(500, 11_000)] * 90)
    assert first(found) == (STANDS_LEAST_MS // 1000, FROZEN)


def test_little_power_may_take_long_for_a_watt_hour() -> None:
    """150 W: 3 Wh behind a step of 1 Wh and the slack take 9 minutes; below what a meter counts from, for
    ever."""
    found = states([(500, 150)] * 700)
    wh = SLACK_WH + 3 * STEP
    assert first(found) == ((wh + 1) * W_MS_PER_WH // 150 // 1000, FROZEN)
    assert set(states([(500, POWER_COUNTS_W - 1)] * 4000)) == {OK}


def test_a_register_in_steps_of_100_wh_is_given_them() -> None:
    """3.7 kW need 97 s for a step."""
    step = Fraction(100)
    assert set(states([(500, 3_700)] * 97, step)) == {OK}
    when, state = first(states([(500, 3_700)] * 400, step))
    assert state is FROZEN and 300 <= when <= 320


def test_a_register_that_runs_without_power() -> None:
    """At 3.6 kW behind a clamp that came off: 1 Wh a second."""
    found = states([(500 + n, 0) for n in range(60)])
    when, state = first(found)
    assert state is RUNS and SLACK_WH < when <= SLACK_WH + 6
    assert set(found[when:]) == {RUNS}, "also between two steps of the register"


def test_what_flowed_between_two_readings_because_those_between_were_lost_is_a_number() -> None:
    """A car at 22 kW for six seconds on a disturbed line; what then rises on is another matter."""
    quiet, after = [(500, 0)] * 4, [(538, 0)] * 4
    assert set(states([*quiet, *after], every_ms=8_000)) == {OK}
    runs = [*quiet, *after, *[(538 + n, 0) for n in range(4)]]
    assert first(states(runs, every_ms=8_000)) == (len(quiet) + len(after) + 2, RUNS)


def test_a_coarse_register_that_runs_without_power_is_held_between_its_steps() -> None:
    found = states([(500 + n // 10 * 10, 0) for n in range(120)], Fraction(10))
    when, _ = first(found)
    assert when <= 60 and set(found[when:]) == {RUNS}


def test_what_is_below_the_meters_notice_may_be_counted() -> None:
    """A charger of 40 W whose meter shows no power under 50 W."""
    assert set(states([(500 + n * 40 // 3600, 0) for n in range(7200)])) == {OK}


@pytest.mark.parametrize("wh_a_second", [6, 100])
def test_the_register_may_catch_up_after_the_car_stopped(wh_a_second: int) -> None:
    """At 22 and at 360 kW: the register is up to two seconds behind the power."""
    charging = [(500 + wh_a_second * n, 3600 * wh_a_second) for n in range(60)]
    last = charging[-1][0]
    after = [(last + wh_a_second * n, 0) for n in range(3)]
    assert set(states([*charging, *after, *[(after[-1][0], 0)] * 60])) == {OK}


@pytest.mark.parametrize(
    ("wrong", "right"),
    [
        ([(500, 11_000 + n % 3) for n in range(60)], [(504 + 3 * n, 11_000) for n in range(60)]),
        ([(500, 11_000)] * 60, [(504 + 3 * n, 11_000) for n in range(60)]),
        ([(500 + 3 * n, 0) for n in range(60)], [(680 + 3 * n, 11_000) for n in range(60)]),
    ],
)
def test_it_is_good_again_when_both_agree(
    wrong: list[tuple[int, int]], right: list[tuple[int, int]]
) -> None:
    found = states([*wrong, *right])
    assert found[len(wrong) - 1] is not OK
    assert set(found[len(wrong) :]) == {OK}


def test_a_standing_register_is_held_also_when_the_power_is_gone() -> None:
    found = states([*[(500, 11_000)] * 60, *[(500, 0)] * 60])
    assert found[-1] is STANDS, "what flowed was never counted"


def test_nothing_is_said_about_the_time_between_readings_far_apart() -> None:
    assert set(states([(500, 11_000)] * 500, every_ms=SPAN_MOST_MS + 1)) == {OK}
    assert set(states([(500 + 90 * n, 0) for n in range(99)], every_ms=30_000)) == {OK}


@given(
    st.lists(st.tuples(st.sampled_from([0, 0, 60, 150, 1_400, 3_700, 11_000, 22_000, 360_000]),
                       st.integers(1, 90)), min_size=1, max_size=12),
    st.sampled_from([1, 10, 100]),
    st.integers(300, 2_500),
    st.integers(0, 1_500),
    st.integers(0, 999),
)  # fmt: skip
def test_an_honest_meter_is_never_accused(
    loads: list[tuple[int, int]], step: int, every_ms: int, refresh_ms: int, begin_wh: int
) -> None:
    """Any car, any step, polled at any pace; register and power each as old as the meter's refresh."""
    powers = [w for w, seconds in loads for _ in range(seconds * 10)]  # each 100 ms
    energy = [0]
    for w in powers:
        energy.append(energy[-1] + w * 100)
    watch = PowerWatch()
    for now in range(0, len(powers) * 100, every_ms):
        fresh = now - now % refresh_ms if refresh_ms else now
        wh = (begin_wh * W_MS_PER_WH + energy[fresh // 100]) // W_MS_PER_WH // step * step
        state, why = watch.judge(wh, powers[fresh // 100], Fraction(step), now)
        assert state is OK, why


# --- Through the driver ---------------------------------------------------------------------------


def show(device: Registers, energy_kwh: float, power_w: float) -> None:
    device.inputs[0x48], device.inputs[0x49] = float_words(energy_kwh)
    device.inputs[0x34], device.inputs[0x35] = float_words(power_w)


async def readings(meter: ModbusMeter, clock: Clock, seconds: int) -> list[ReadingState]:
    found = []
    for _ in range(seconds):
        reading = await meter.read()
        found.append(reading.state)
        if not reading.ok:
            assert (reading.energy_import_wh, reading.power_w) == (None, None)
            assert reading.why.startswith("MTR-020: ") and "restart the agent" in reading.why
        clock.ahead_ms += 1000
    return found


@pytest.mark.parametrize(
    ("wh_a_second", "power_w", "varies", "state"),
    [(0, 11_000, 5, STANDS), (0, 11_000, 0, FROZEN), (4, 0, 0, RUNS), (3, 11_000, 0, OK)],
)
def test_such_a_reading_is_no_number(
    wh_a_second: int, power_w: int, varies: int, state: ReadingState
) -> None:
    async def main() -> None:
        env, clock, _ = driver_env()
        device = Registers(
            1, dict.fromkeys(range(0x100), 0), dict.fromkeys(range(0xFC00, 0xFC10), 0)
        )
        bus = Bus(LineSpec("/dev/bus", 115_200), env, Port(device))
        timing: dict[str, str | int | bool] = {
            "min_gap_ms": 0,
            "turnaround_ms": 50,
            "longest_reply_ms": 50,
        }
        meter = open_meter(MeterSpec("eastron_sdm630", 1, options=timing), bus, env)
        meter.blank_ms = 0  # it has no serial number
        found: list[ReadingState] = []
        for second in range(45):
            show(device, 104 + wh_a_second * second / 1000, power_w + varies * (second % 2))
            found += await readings(meter, clock, 1)
        assert found[0] is OK and found[-1] is state
        await bus.close()

    asyncio.run(main())
