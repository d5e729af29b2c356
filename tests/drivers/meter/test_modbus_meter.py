"""The SDM630 driver: what each kind of answer becomes."""

from __future__ import annotations

import asyncio
import struct
from fractions import Fraction
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support.rtu_slave import (
    Clock,
    Log,
    Port,
    Refuse,
    Registers,
    crc,
    driver_env,
    float_words,
    prompt,
)
from support.virtual_loop import VirtualLoop

from agent.ports import DeviceUnavailable, DriverEnv, LineSpec, Meter, MeterSpec
from agent.values import Reading, ReadingState
from drivers.meter.catalogue import SHIPPED, ModelError
from drivers.meter.modbus_meter import BLANK_MS, ModbusMeter, open_meter
from drivers.meter.options import OptionError
from drivers.meter.rtu import Bus

LINE = LineSpec("/dev/bus", 115200, "8N1")
FAST = {"turnaround_ms": 30, "longest_reply_ms": 60, "min_gap_ms": 1}
NAN = (0x7FC0, 0)


def sdm630(
    energy_kwh: float = 104.2115, power_w: float = 7360.4, serial: int = 12345678
) -> Registers:
    device = Registers(1, inputs=dict.fromkeys(range(0x34, 0x4C), 0))
    device.holdings = {0xFC00: serial >> 16, 0xFC01: serial & 0xFFFF}
    show(device, energy_kwh, power_w)
    return device


def show(device: Registers, energy_kwh: float, power_w: float | None = None) -> None:
    device.inputs[0x48], device.inputs[0x49] = float_words(energy_kwh)
    if power_w is not None:
        device.inputs[0x34], device.inputs[0x35] = float_words(power_w)


def setup(
    device: Registers, serial: str | None = None, **options: object
) -> tuple[ModbusMeter, Bus, Port, Clock, Log]:
    env, clock, log = driver_env()
    port = Port(device)
    bus = Bus(LINE, env, port)
    spec = MeterSpec("eastron_sdm630", device.unit, serial, {**FAST, **options})
    return open_meter(spec, bus, env), bus, port, clock, log


def test_a_reading_is_one_request_of_exact_whole_numbers() -> None:
    async def main() -> None:
        device = sdm630()
        meter, bus, port, clock, _ = setup(device)
        as_port: Meter = meter
        identity = await as_port.identity()
        assert (identity.model, identity.serial) == ("eastron_sdm630", "12345678")
        before = clock()
        reading = await meter.read()
        assert reading == Reading(ReadingState.OK, reading.boot_ms, 104_212, 7360, "12345678")
        assert before <= reading.boot_ms <= clock()
        port.line.frames.clear()
        assert (await meter.read()).ok
        (frame,) = port.line.frames
        assert frame[:6].hex() == "010400340016"
        await bus.close()

    asyncio.run(main())


@settings(max_examples=25)
@given(st.floats(0, 99_999, width=32))
def test_energy_is_the_float_rounded_once(energy_kwh: float) -> None:
    (exact,) = struct.unpack(">f", struct.pack(">f", energy_kwh))

    async def main() -> None:
        meter, bus, *_ = setup(sdm630(energy_kwh))
        reading = await meter.read()
        assert reading.energy_import_wh == round(Fraction(exact) * 1000)
        await bus.close()

    asyncio.run(main())


def raw(device: Registers, address: int, words: tuple[int, int]) -> None:
    device.inputs[address], device.inputs[address + 1] = words


@pytest.mark.parametrize(
    ("address", "words", "state", "code"),
    [
        (0x48, NAN, ReadingState.NOT_AVAILABLE, "MTR-013"),
        (0x48, (0xFFFF, 0xFFFF), ReadingState.NOT_AVAILABLE, "MTR-013"),
        (0x48, (0x7F80, 0), ReadingState.NOT_AVAILABLE, "MTR-013"),
        (0x48, float_words(-1.0), ReadingState.OUT_OF_RANGE, "MTR-014"),
        (0x48, float_words(2e8), ReadingState.OUT_OF_RANGE, "MTR-014"),
        (0x34, NAN, ReadingState.NOT_AVAILABLE, "MTR-013"),
        (0x34, float_words(-5000.0), ReadingState.OUT_OF_RANGE, "MTR-014"),
        (0x34, float_words(-3.4), ReadingState.OK, ""),
    ],
)
def test_what_is_no_value_carries_no_number(
    address: int, words: tuple[int, int], state: ReadingState, code: str
) -> None:
    async def main() -> None:
        device = sdm630()
        meter, bus, *_ = setup(device)
        assert (await meter.read()).ok
        raw(device, address, words)
        reading = await meter.read()
        assert reading.state is state
        assert reading.why.startswith(code)
        if state is not ReadingState.OK:
            assert (reading.energy_import_wh, reading.power_w) == (None, None)
            show(device, 104.3, 10)
            assert (await meter.read()).ok  # no harm is done to the next one
        await bus.close()

    asyncio.run(main())


def test_no_answer_and_exceptions_are_states_and_identity_raises() -> None:
    async def main() -> None:
        device = sdm630()
        meter, bus, port, _, _ = setup(device)
        port.script = lambda *_: []
        reading = await meter.read()
        assert reading.state is ReadingState.NO_ANSWER
        assert reading.why.startswith("MTR-002: meter eastron_sdm630, unit 1: nothing came")
        with pytest.raises(DeviceUnavailable, match="MTR-002"):
            await meter.identity()
        port.script = prompt
        assert (await meter.read()).ok

        def busy(function: int, address: int, many: int, frame: bytes) -> bytes:
            raise Refuse(4)

        device._answer = busy  # type: ignore[method-assign]  # the whole device has failed
        reading = await meter.read()
        assert reading.state is ReadingState.NOT_AVAILABLE
        assert reading.why.startswith("MTR-017")
        await bus.close()
        assert (await meter.read()).state is ReadingState.NO_ANSWER

    asyncio.run(main())


def test_a_wrong_serial_number_ends_readings() -> None:
    async def main() -> None:
        meter, bus, *_ = setup(sdm630(serial=7), serial="8")
        reading = await meter.read()
        assert (reading.state, reading.serial) == (ReadingState.WRONG_SERIAL, "7")
        assert reading.why.startswith("MTR-010: serial number 7; expected 8")
        assert (await meter.identity()).serial == "7"  # a person must be able to see it
        assert (await meter.read()).state is ReadingState.WRONG_SERIAL
        await bus.close()

    asyncio.run(main())


def test_a_meter_swapped_in_the_middle_is_noticed_after_its_silence() -> None:
    async def main() -> None:
        device = sdm630(serial=7)
        meter, bus, port, *_ = setup(device)
        assert (await meter.read()).serial == "7"
        port.script = lambda *_: []
        assert (await meter.read()).state is ReadingState.NO_ANSWER
        port.script = prompt
        device.holdings[0xFC01] = 9
        show(device, 3.0)
        reading = await meter.read()
        assert (reading.state, reading.serial) == (ReadingState.WRONG_SERIAL, "9")
        assert (await meter.read()).state is ReadingState.WRONG_SERIAL
        # Whoever asks for the identity accepts the new one, with its own register.
        assert (await meter.identity()).serial == "9"
        assert (await meter.read()).energy_import_wh == 3000
        await bus.close()

    asyncio.run(main())


@pytest.mark.parametrize("words", [(0xFFFF, 0xFFFF), (0, 0), None])
def test_a_meter_that_tells_no_serial_number_is_read_all_the_same(
    words: tuple[int, int] | None,
) -> None:
    async def main() -> None:
        device = sdm630()
        device.holdings = {} if words is None else {0xFC00: words[0], 0xFC01: words[1]}
        meter, bus, _, clock, _ = setup(device)
        assert (await meter.identity()).serial is None
        await meter.read()
        clock.ahead_ms += BLANK_MS
        reading = await meter.read()
        assert (reading.ok, reading.serial) == (True, None)
        await bus.close()
        meter, bus, *_ = setup(device, serial="5")
        reading = await meter.read()
        assert reading.state is ReadingState.NOT_AVAILABLE
        assert "tells no serial number" in reading.why
        await bus.close()

    asyncio.run(main())


def test_rollback_and_jump_are_held() -> None:
    async def main() -> None:
        device = sdm630(100.0)
        meter, bus, *_ = setup(device, rated_power_w=22_000)
        assert (await meter.read()).ok
        show(device, 99.999)
        reading = await meter.read()
        assert reading.state is ReadingState.ROLLBACK
        assert reading.why.startswith("MTR-012")
        assert (await meter.read()).state is ReadingState.ROLLBACK
        show(device, 101.0)
        assert (await meter.read()).state is ReadingState.JUMP
        assert (await meter.read()).state is ReadingState.JUMP
        show(device, 100.001)
        assert (await meter.read()).energy_import_wh == 100_001
        await bus.close()

    asyncio.run(main())


def test_a_zero_at_power_up_is_never_a_beginning() -> None:
    """The first reading is taken twice, so a meter that says zero for a moment is found out."""

    async def main() -> None:
        device = sdm630(0.0)
        meter, bus, port, *_ = setup(device)

        def wake(frame: bytes, reply: bytes) -> list[tuple[float, bytes]]:
            if frame[1] == 4:
                show(device, 104_211.0)  # from the second answer on
            return prompt(frame, reply)

        port.script = wake
        reading = await meter.read()
        assert reading.state is ReadingState.NOT_AVAILABLE
        assert "do not agree" in reading.why
        assert (await meter.read()).energy_import_wh == 104_211_000
        await bus.close()

    asyncio.run(main())


def test_options_and_models_are_checked() -> None:
    env, _, _ = driver_env()
    bus = Bus(LINE, env)
    with pytest.raises(ModelError, match="MTR-008"):
        open_meter(MeterSpec("sdm"), bus, env)
    for options in ({"rated_power_w": 0}, {"rated_power_w": 1.5}, {"models_dir": 3}, {"speed": 1}):
        with pytest.raises(OptionError, match="MTR-011"):
            open_meter(MeterSpec("eastron_sdm630", options=options), bus, env)
    with pytest.raises(OptionError, match="unit is 0"):
        open_meter(MeterSpec("eastron_sdm630", unit=0), bus, env)


OTHER_SERIALS = [
    ("", None),
    (
        "  serial_number: {block: serial, address: 0xFC00, type: ascii, registers: 4, not_available: []}\n",
        "AB-17",
    ),
]


@pytest.mark.parametrize(("line", "serial"), OTHER_SERIALS)
def test_models_with_another_or_no_serial_number(
    tmp_path: Path, line: str, serial: str | None
) -> None:
    async def main() -> None:
        text = (SHIPPED / "eastron_sdm630.yaml").read_text()
        start = text.index("  serial_number:\n")
        text = text[:start] + line + text[text.index("  energy_export:") :]
        if serial is None:
            text = text.replace("serial_number: medium, ", "")
            text = text.replace("  serial: {function: 3, address: 0xFC00, count: 2}\n", "")
        text = text.replace("address: 0xFC00, count: 2", "address: 0xFC00, count: 4")
        text = text.replace("id: eastron_sdm630", "id: other").replace("big", "little")
        (tmp_path / "other.yaml").write_text(text)
        device = sdm630()
        device.holdings = dict(zip(range(0xFC00, 0xFC04), (0x4142, 0x2D31, 0x3700, 0), strict=True))
        for address in (0x34, 0x48):
            device.inputs[address], device.inputs[address + 1] = (
                device.inputs[address + 1],
                device.inputs[address],
            )
        env, _, _ = driver_env()
        bus = Bus(LINE, env, Port(device))
        spec = MeterSpec("other", options={**FAST, "models_dir": str(tmp_path)})
        reading = await open_meter(spec, bus, env).read()
        assert (reading.energy_import_wh, reading.serial) == (104_212, serial), reading.why
        await bus.close()

    asyncio.run(main())


def test_a_gateway_without_its_meter_is_no_answer() -> None:
    async def main() -> None:
        device = sdm630()
        meter, bus, port, *_ = setup(device)
        assert (await meter.read()).ok
        port.script = lambda frame, _reply: prompt(frame, crc(bytes([1, frame[1] | 0x80, 11])))
        reading = await meter.read()
        assert reading.state is ReadingState.NO_ANSWER
        assert reading.why.startswith("MTR-019")
        # After that the meter may be another one: its serial number is wanted first.
        reading = await meter.read()
        assert (reading.state, port.frames[-1][1]) == (ReadingState.NO_ANSWER, 3)
        await bus.close()

    asyncio.run(main())


def test_the_stamp_is_that_of_the_reply_with_the_energy() -> None:
    """This model's power is another request, which here is answered 40 s later."""
    loop = VirtualLoop()

    async def main() -> None:
        def now() -> int:
            return int(loop.time() * 1000)

        device = Registers(1, inputs=dict.fromkeys(range(0x500), 0))
        device.inputs[0x0B] = 341
        device.inputs |= dict.fromkeys(range(0x5000, 0x5007), ord("7"))
        port = Port(device)
        bus = Bus(LINE, DriverEnv(now, Log()), port)
        slow = {"turnaround_ms": 50_000, "longest_reply_ms": 50_000, "min_gap_ms": 0}
        meter = open_meter(MeterSpec("carlogavazzi_em340_family", 1, options=slow), bus, bus._env)
        assert (await meter.read()).ok

        def power_late(frame: bytes, reply: bytes) -> list[tuple[float, bytes]]:
            return [(40.0 if frame[2:4] == b"\x00\x28" else 0.5, reply)]

        port.script = power_late
        begun = now()
        reading = await meter.read()
        assert reading.ok and now() - begun > 40_000
        assert 500 <= reading.boot_ms - begun < 600
        await bus.close()

    try:
        loop.run_until_complete(main())
    finally:
        loop.close()
