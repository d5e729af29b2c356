"""Registers to numbers, exactly; and what a register may do from one reading to the next."""

from __future__ import annotations

import struct
from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.values import ReadingState
from drivers.meter.plausible import RegisterWatch
from drivers.meter.values import (
    NotAvailable,
    WordOrder,
    decode,
    float32,
    float32_step,
    raw_number,
)


@given(st.floats(width=32, allow_nan=False, allow_infinity=False))
def test_float32_is_exact(value: float) -> None:
    (raw,) = struct.unpack(">I", struct.pack(">f", value))
    assert float32(raw) == Fraction(value)


@given(st.integers(0, 0x7F7FFFFE))
def test_the_step_is_the_distance_to_the_next_float(raw: int) -> None:
    assert float32(raw + 1) - float32(raw) == float32_step(raw)


@pytest.mark.parametrize("raw", [0x7F800000, 0xFF800000, 0x7FC00000, 0x7F800001, 0xFFFFFFFF])
def test_nan_and_infinity_are_no_value(raw: int) -> None:
    with pytest.raises(NotAvailable):
        decode(raw, "f32", ())


@pytest.mark.parametrize(
    ("raw", "kind", "marks", "value"),
    [
        (0xFFFF, "i16", (), -1),
        (0xFFFF, "u16", (), 65535),
        (0x80000000, "i32", ("all_ones",), -(2**31)),
        (0xFFFFFFFE, "u32", ("all_ones",), 2**32 - 2),
        (2**64 - 1, "i64", (), -1),
        (0, "u32", ("all_ones",), 0),
    ],
)
def test_integers(raw: int, kind: str, marks: tuple[str, ...], value: int) -> None:
    assert decode(raw, kind, marks) == value


@pytest.mark.parametrize(
    ("raw", "kind", "mark"),
    [(0xFFFFFFFF, "u32", "all_ones"), (0, "u32", "zero"), (0x7FFFFFFF, "i32", "0x7FFFFFFF")],
)
def test_marks_of_a_model_are_no_value(raw: int, kind: str, mark: str) -> None:
    with pytest.raises(NotAvailable):
        decode(raw, kind, (mark,))


def test_word_order() -> None:
    assert raw_number((0x1234, 0x5678), WordOrder.BIG) == 0x12345678
    assert raw_number((0x1234, 0x5678), WordOrder.LITTLE) == 0x56781234


NO_STEP = Fraction(0)


def test_a_fallen_register_is_held_and_never_a_new_start() -> None:
    watch = RegisterWatch(rated_power_w=None)
    assert watch.judge(104_211, NO_STEP, 0)[0] is ReadingState.OK
    for value in (0, 500, 104_210):
        state, why = watch.judge(value, NO_STEP, 1000)
        assert state is ReadingState.ROLLBACK
        assert "104211" in why
    assert watch.judge(104_212, NO_STEP, 2000)[0] is ReadingState.OK


def test_a_rise_beyond_the_rated_power_is_held_until_the_register_returns() -> None:
    watch = RegisterWatch(rated_power_w=22_000)
    assert watch.judge(1000, NO_STEP, 0)[0] is ReadingState.OK
    # 22 kW for an hour is 22 kWh, a quarter more is allowed.
    assert watch.judge(1000 + 27_000, NO_STEP, 3_600_000)[0] is ReadingState.OK
    assert watch.judge(28_000 + 3_000, NO_STEP, 3_601_000)[0] is ReadingState.JUMP
    # Time alone does not make it good.
    assert watch.judge(28_000 + 3_000, NO_STEP, 7_200_000)[0] is ReadingState.JUMP
    assert watch.judge(28_000 + 9_000, NO_STEP, 7_200_000)[0] is ReadingState.JUMP
    assert watch.judge(27_999, NO_STEP, 7_200_000)[0] is ReadingState.ROLLBACK
    assert watch.judge(28_100, NO_STEP, 7_200_000)[0] is ReadingState.OK
    watch.forget()
    assert watch.judge(5, NO_STEP, 7_300_000)[0] is ReadingState.OK


def test_an_outage_is_time_in_which_energy_may_flow() -> None:
    watch = RegisterWatch(rated_power_w=22_000)
    watch.judge(1000, NO_STEP, 0)
    assert watch.judge(1000 + 3_600, NO_STEP, 600_000)[0] is ReadingState.OK


def test_coarse_registers_are_given_their_step() -> None:
    step = 1000 * float32_step(struct.unpack(">I", struct.pack(">f", 1e6))[0])  # 1 GWh in kWh
    assert step == Fraction(125, 2)  # 62.5 Wh
    watch = RegisterWatch(rated_power_w=1000)
    watch.judge(10**9, step, 0)
    assert watch.judge(10**9 + 125, step, 500)[0] is ReadingState.OK
