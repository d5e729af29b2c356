"""Which meter it is: what is not told for a moment is no other meter, and another one is never missed."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any

import pytest
from support.rtu_slave import (
    Clock,
    Port,
    Refuse,
    Registers,
    driver_env,
    float_words,
    prompt,
)

from agent.ports import DeviceUnavailable, LineSpec, MeterSpec
from agent.values import Reading, ReadingState
from drivers.meter.modbus_meter import BLANK_MS, HEARD_MS, ModbusMeter, open_meter
from drivers.meter.rtu import Bus

FAST = {"turnaround_ms": 30, "longest_reply_ms": 60, "min_gap_ms": 1}
SERIAL, ENERGY, POWER = 0xFC00, 0x48, 0x34
EM340_SERIAL, EM340_MODEL = 0x5000, 0x000B
# What the serial number's register tells in turn, the last for good; a negative one is an exception.
Told = list[int]


class Meter(Registers):
    """An SDM630 whose serial number is told as the test says."""

    def __init__(self, *told: int) -> None:
        super().__init__(1, inputs=dict.fromkeys(range(POWER, ENERGY + 4), 0))
        self.told: Told = list(told)
        self.asked = 0
        self.counts(104.25)

    def counts(self, energy_kwh: float) -> None:
        self.inputs[ENERGY], self.inputs[ENERGY + 1] = float_words(energy_kwh)

    def _answer(self, function: int, address: int, many: int, frame: bytes) -> bytes:
        if address == SERIAL:
            self.asked += 1
            value = self.told.pop(0) if len(self.told) > 1 else self.told[0]
            if value < 0:
                raise Refuse(-value)
            self.holdings = {SERIAL: value >> 16, SERIAL + 1: value & 0xFFFF}
        return super()._answer(function, address, many, frame)


Body = Callable[[ModbusMeter, Port, Clock], Coroutine[Any, Any, None]]


def on_bus(device: Registers, body: Body, model: str = "eastron_sdm630", serial: str = "") -> None:
    async def main() -> None:
        env, clock, _ = driver_env()
        port = Port(device)
        bus = Bus(LineSpec("/dev/bus", 115200, "8N1"), env, port)
        spec = MeterSpec(model, device.unit, serial or None, FAST)
        await body(open_meter(spec, bus, env), port, clock)
        await bus.close()

    asyncio.run(main())


async def _silent_once(meter: ModbusMeter, port: Port) -> None:
    port.script = lambda *_: []
    assert (await meter.read()).state is ReadingState.NO_ANSWER
    port.script = prompt


def _state(reading: Reading) -> tuple[ReadingState, str | None]:
    return reading.state, reading.serial


@pytest.mark.parametrize("moment", [0, 0xFFFF_FFFF, -4, -2], ids=["zero", "ones", "failed", "none"])
def test_a_serial_number_that_is_not_told_for_a_moment_is_no_other_meter(moment: int) -> None:
    device = Meter(7)

    async def body(meter: ModbusMeter, port: Port, _: Clock) -> None:
        assert _state(await meter.read()) == (ReadingState.OK, "7")
        await _silent_once(meter, port)
        device.told = [moment, 7]
        reading = await meter.read()
        assert _state(reading) == (ReadingState.NOT_AVAILABLE, "7")
        assert "tells no serial number; expected 7" in reading.why
        assert _state(await meter.read()) == (ReadingState.OK, "7")

    on_bus(device, body)


@pytest.mark.parametrize("refuses_for_ever", [False, True])
def test_a_meter_that_failed_for_longer_is_asked_again_once_it_works(
    refuses_for_ever: bool,
) -> None:
    """It refused everything; the reading that succeeds is the first moment at which it can tell."""
    device = Meter(-4)

    async def body(meter: ModbusMeter, port: Port, clock: Clock) -> None:
        assert _state(await meter.read()) == (ReadingState.NOT_AVAILABLE, None)
        clock.ahead_ms += BLANK_MS
        device.told = [-4] if refuses_for_ever else [-4, 7]
        serial = None if refuses_for_ever else "7"
        assert _state(await meter.read()) == (ReadingState.OK, serial)

    on_bus(device, body)


@pytest.mark.parametrize("serial", ["", "7"])
@pytest.mark.parametrize("moment", [0, -4])
def test_a_serial_number_that_is_told_late_is_the_meters_from_then_on(
    moment: int, serial: str
) -> None:
    """As after a power cut of board and meter; whether it is configured or not."""
    device = Meter(moment, moment, moment, 7)

    async def body(meter: ModbusMeter, port: Port, _: Clock) -> None:
        assert (await meter.identity()).serial is None
        for _n in range(2):
            assert _state(await meter.read()) == (ReadingState.NOT_AVAILABLE, None)
        for _n in range(2):
            assert _state(await meter.read()) == (ReadingState.OK, "7")
        await _silent_once(meter, port)
        device.told = [8]
        assert _state(await meter.read()) == (ReadingState.WRONG_SERIAL, "8")

    on_bus(device, body, serial=serial)


@pytest.mark.parametrize("moment", [0, 0xFFFF_FFFF, -2])
def test_a_meter_that_never_tells_one_is_read_after_a_while(moment: int) -> None:
    async def body(meter: ModbusMeter, _: Port, clock: Clock) -> None:
        assert (await meter.read()).state is ReadingState.NOT_AVAILABLE
        clock.ahead_ms += BLANK_MS
        for _n in range(2):
            assert _state(await meter.read()) == (ReadingState.OK, None)
            clock.ahead_ms += 2 * HEARD_MS

    on_bus(Meter(moment), body)


def test_one_early_answer_does_not_become_what_is_expected() -> None:
    device = Meter(9, 7)

    async def body(meter: ModbusMeter, _port: Port, _: Clock) -> None:
        with pytest.raises(DeviceUnavailable, match="as 9, then as 7") as told:
            await meter.identity()
        assert told.value.code == "MTR-013"
        assert (await meter.identity()).serial == "7"
        assert _state(await meter.read()) == (ReadingState.OK, "7")

    on_bus(device, body)


def test_an_identity_without_a_serial_number_forgets_none() -> None:
    device = Meter(7)

    async def body(meter: ModbusMeter, port: Port, _: Clock) -> None:
        assert (await meter.identity()).serial == "7"
        device.told = [0, 8]
        assert (await meter.identity()).serial is None
        await _silent_once(meter, port)
        assert _state(await meter.read()) == (ReadingState.WRONG_SERIAL, "8")

    on_bus(device, body)


def test_another_serial_number_told_once_is_not_believed_and_told_twice_it_is() -> None:
    device = Meter(7)

    async def body(meter: ModbusMeter, port: Port, _: Clock) -> None:
        assert (await meter.read()).ok
        await _silent_once(meter, port)
        device.told = [9, 7]
        assert _state(await meter.read()) == (ReadingState.OK, "7")
        await _silent_once(meter, port)
        device.told = [9, 10, 9]
        reading = await meter.read()
        assert _state(reading) == (ReadingState.NOT_AVAILABLE, "7")
        assert "tells its serial number as 9, then as 10" in reading.why
        assert _state(await meter.read()) == (ReadingState.WRONG_SERIAL, "9")

    on_bus(device, body)


def test_a_configured_serial_number_that_is_never_told_bills_nothing() -> None:
    async def body(meter: ModbusMeter, _port: Port, _: Clock) -> None:
        for _n in range(2):
            reading = await meter.read()
            assert _state(reading) == (ReadingState.NOT_AVAILABLE, None)
            assert reading.why.startswith("MTR-013: the meter tells no serial number; expected 5")

    on_bus(Meter(-2), body, serial="5")


def test_a_meter_put_in_while_nobody_asked_is_noticed_without_a_lost_answer() -> None:
    device = Meter(7)

    async def body(meter: ModbusMeter, _: Port, clock: Clock) -> None:
        assert (await meter.read()).ok
        asked = device.asked
        assert (await meter.read()).ok
        assert device.asked == asked, "not in every reading: a bus is slow"
        for _n in range(4):
            clock.ahead_ms += HEARD_MS // 2
            assert (await meter.read()).ok
        assert device.asked == asked, "as long as it answers"
        device.told = [8]
        clock.ahead_ms += HEARD_MS + 1
        assert _state(await meter.read()) == (ReadingState.WRONG_SERIAL, "8")

    on_bus(device, body)


# --- the model ---------------------------------------------------------------------------------------


def em340() -> Registers:
    """Only what is asked for a reading: energy and power 0, and who it is."""
    inputs = dict.fromkeys(range(EM340_SERIAL), 0)
    digits = {EM340_SERIAL + n: 0x3100 | ord(c) for n, c in enumerate("2345678")}
    device = Registers(1, inputs=inputs | digits)
    device.inputs[EM340_MODEL] = 340
    return device


class Moody(Registers):
    """An EM340 whose model code is told as the test says."""

    codes: list[int]

    def _answer(self, function: int, address: int, many: int, frame: bytes) -> bytes:
        if address == EM340_MODEL and many == 1:
            self.inputs[EM340_MODEL] = self.codes.pop(0) if len(self.codes) > 1 else self.codes[0]
        return super()._answer(function, address, many, frame)


@pytest.mark.parametrize(
    ("codes", "state"),
    [
        ([0, 340], ReadingState.NOT_AVAILABLE),
        ([0xFFFF, 340], ReadingState.NOT_AVAILABLE),
        ([72, 340], ReadingState.OK),
        ([72, 73, 340], ReadingState.NOT_AVAILABLE),
        ([72], ReadingState.WRONG_MODEL),
    ],
)
def test_a_model_code_ends_a_session_only_when_it_is_told_twice(
    codes: Told, state: ReadingState
) -> None:
    plain = em340()
    device = Moody(1, inputs=plain.inputs, holdings=plain.inputs)
    device.codes = [340]

    async def body(meter: ModbusMeter, port: Port, _: Clock) -> None:
        assert (await meter.read()).ok, (await meter.read()).why
        await _silent_once(meter, port)
        device.codes = codes
        assert (await meter.read()).state is state

    on_bus(device, body, "carlogavazzi_em340_family")


@pytest.mark.parametrize("code", [0, 0xFFFF])
def test_a_meter_without_the_models_code_is_of_another_model(code: int) -> None:
    """As an SDM630 at rest, whose registers there are zero."""
    device = Moody(1, inputs=em340().inputs, holdings=em340().inputs)
    device.codes = [code]

    async def body(meter: ModbusMeter, _: Port, clock: Clock) -> None:
        assert (await meter.read()).state is ReadingState.NOT_AVAILABLE
        clock.ahead_ms += BLANK_MS
        reading = await meter.read()
        assert reading.state is ReadingState.WRONG_MODEL
        assert "MTR-015" in reading.why and "'nothing'" in reading.why
        with pytest.raises(DeviceUnavailable, match="MTR-015"):
            await meter.identity()

    on_bus(device, body, "carlogavazzi_em340_family")


# --- how finely it counts ------------------------------------------------------------------------------


@pytest.mark.parametrize(("energy_kwh", "step_wh"), [(104.25, 1), (70_000.0, 8), (300_000.0, 32)])
def test_a_reading_says_how_finely_its_register_counts(energy_kwh: float, step_wh: int) -> None:
    device = Meter(7)
    device.counts(energy_kwh)

    async def body(meter: ModbusMeter, _port: Port, _: Clock) -> None:
        assert (await meter.read()).step_wh == step_wh

    on_bus(device, body)
