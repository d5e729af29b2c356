"""The meter driver against slaves that others wrote, over real ptys and the real line, and pymodbus's
client against a slave that is late once: what this master is for."""

from __future__ import annotations

import asyncio
import contextlib
import os
import shutil
import subprocess
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from support.rtu_slave import crc, driver_env, float_words, words
from support.serial_relay import Relay

from agent.ports import LineSpec, MeterSpec
from agent.values import Reading, ReadingState
from drivers.meter.modbus import BusError
from drivers.meter.modbus_meter import ModbusMeter, open_meter, read_once
from drivers.meter.rtu import DeviceTiming, open_bus

QUICK = {"turnaround_ms": 60, "longest_reply_ms": 250, "min_gap_ms": 2}
SERIAL = 20_190_417


@contextlib.asynccontextmanager
async def meter_on(path: str) -> AsyncIterator[ModbusMeter]:
    env, _, _ = driver_env()
    bus = open_bus(LineSpec(path, 19200), env)
    try:
        yield open_meter(MeterSpec("eastron_sdm630", 1, options=QUICK), bus, env)
    finally:
        await bus.close()


# --- pymodbus as the slave ------------------------------------------------------------------------


@contextlib.asynccontextmanager
async def pymodbus_sdm630(path: str, energy_kwh: float, power_w: float) -> AsyncIterator[None]:
    pytest.importorskip("pymodbus", reason="needs pymodbus: pip install pymodbus")
    from pymodbus.server import ModbusSerialServer
    from pymodbus.simulator import DataType, SimData, SimDevice

    floats = [0.0] * 12
    floats[0], floats[10] = power_w, energy_kwh  # registers 0x34 and 0x48
    device = SimDevice(
        1,
        simdata=[
            SimData(0x34, values=floats, datatype=DataType.FLOAT32),
            SimData(0xFC00, values=SERIAL, datatype=DataType.UINT32),
        ],
    )
    server = ModbusSerialServer(device, port=path, baudrate=19200)
    await server.serve_forever(background=True)
    try:
        yield
    finally:
        await server.shutdown()


def test_readings_agree_with_a_pymodbus_slave() -> None:
    async def main() -> None:
        with Relay() as relay:
            async with (
                pymodbus_sdm630(relay.far, 1234.5677, 21999.6),
                meter_on(relay.near) as meter,
            ):
                reading = await meter.read()
                assert reading.state is ReadingState.OK, reading.why
                assert reading.energy_import_wh == 1_234_568
                assert reading.power_w == 22_000
                assert reading.serial == str(SERIAL)

    asyncio.run(main())


def test_read_once_is_what_the_command_line_prints() -> None:
    async def main() -> None:
        env, _, _ = driver_env()
        with Relay() as relay:
            async with pymodbus_sdm630(relay.far, 104.211, 7360.0):
                line = LineSpec(relay.near, 9600)
                shown = await read_once("eastron_sdm630", line, 1, env)
        assert shown == {
            "model": "eastron_sdm630",
            "serial": str(SERIAL),
            "energy_import_wh": 104_211,
            "power_w": 7360,
            "state": "ok",
            "why": "",
        }
        shown = await read_once("eastron_sdm630", LineSpec("/dev/no-such-port"), 1, env)
        assert shown["state"] == "no_answer"
        assert str(shown["why"]).startswith("MTR-001")

    asyncio.run(main())


def test_a_late_reply_of_a_pymodbus_slave_is_never_energy() -> None:
    async def main() -> None:
        with Relay() as relay:
            async with pymodbus_sdm630(relay.far, 500.125, 11000.0), meter_on(relay.near) as meter:
                # Every fourth reply comes when nobody waits for it any more.
                relay.delay_s = lambda n: 0.18 if n % 4 == 3 else 0.0
                readings = [await meter.read() for _ in range(12)]
        assert relay.replies > 14
        assert_exact_or_error(readings, 500_125)

    asyncio.run(main())


def assert_exact_or_error(readings: list[Reading], energy_wh: int) -> None:
    good = [reading for reading in readings if reading.ok]
    assert {reading.energy_import_wh for reading in good} == {energy_wh}
    assert len(good) >= len(readings) // 2
    for reading in readings:
        assert reading.ok or reading.state is ReadingState.NO_ANSWER, reading


# --- libmodbus as the slave -----------------------------------------------------------------------

# The energy register counts the billing reads, and standard output tells each value before it is sent.
LIBMODBUS_SDM630 = r"""
#include <errno.h>
#include <modbus.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* Not modbus_set_float_abcd: in libmodbus 3.1.6 it swaps the bytes on little-endian machines. */
static void set(uint16_t *words, float value)
{
    uint32_t bits;
    memcpy(&bits, &value, sizeof bits);
    words[0] = bits >> 16;
    words[1] = bits & 0xFFFF;
}

int main(int argc, char **argv)
{
    int late_every = atoi(argv[2]), late_ms = atoi(argv[3]);
    modbus_t *bus = modbus_new_rtu(argv[1], 19200, 'N', 8, 1);
    modbus_mapping_t *map =
        modbus_mapping_new_start_address(0, 0, 0, 0, 0xFC00, 2, 0x34, 24);
    if (argc != 4 || !bus || !map || modbus_set_slave(bus, 1) || modbus_connect(bus))
        return 1;
    map->tab_registers[0] = 20190417 >> 16;
    map->tab_registers[1] = 20190417 & 0xFFFF;
    set(map->tab_input_registers, 3680.0f);
    puts("ready");
    fflush(stdout);
    for (int n = 1, wh = 90000000;; ) {
        uint8_t query[MODBUS_RTU_MAX_ADU_LENGTH];
        int length = modbus_receive(bus, query);
        if (length < 0 && errno != EMBBADCRC && errno != ETIMEDOUT)
            return 0;
        if (length <= 0)
            continue;
        if (query[1] == 4) {
            set(map->tab_input_registers + 20, (wh += 8) / 1000.0f);
            printf("%d\n", wh);
            fflush(stdout);
            if (n++ % late_every == 0)
                usleep(1000 * late_ms);
        }
        modbus_reply(bus, query, length, map);
    }
}
"""


@pytest.fixture(scope="module")
def libmodbus_slave(tmp_path_factory: pytest.TempPathFactory) -> Path:
    if shutil.which("gcc") is None:
        pytest.skip("needs gcc: apt-get install gcc")
    if shutil.which("pkg-config") is None:
        pytest.skip("needs pkg-config: apt-get install pkg-config")
    found = subprocess.run(
        ["pkg-config", "--cflags", "--libs", "libmodbus"],
        capture_output=True,
        text=True,
        check=False,
    )
    if found.returncode != 0:
        pytest.skip("needs libmodbus: apt-get install libmodbus-dev")
    folder = tmp_path_factory.mktemp("libmodbus")
    source, program = folder / "sdm630.c", folder / "sdm630"
    source.write_text(LIBMODBUS_SDM630)
    command = ["gcc", "-o", str(program), str(source), *found.stdout.split()]
    subprocess.run(command, check=True, capture_output=True, timeout=50)
    return program


async def libmodbus_readings(program: Path, late_every: int, late_ms: int, count: int) -> int:
    """Take `count` readings; each must be the value that the slave told last. Returns how many were OK."""
    told = 0
    with Relay() as relay:
        slave = await asyncio.create_subprocess_exec(
            str(program), relay.far, str(late_every), str(late_ms), stdout=asyncio.subprocess.PIPE
        )
        assert slave.stdout is not None
        assert await slave.stdout.readline() == b"ready\n"
        values: list[int] = []

        async def listen(stream: asyncio.StreamReader) -> None:
            while line := await stream.readline():
                values.append(int(line))

        listener = asyncio.create_task(listen(slave.stdout))
        try:
            async with meter_on(relay.near) as meter:
                for _ in range(count):
                    reading = await meter.read()
                    if reading.ok:
                        # What was answered last is what was heard last: nobody else asks.
                        assert reading.energy_import_wh is not None
                        told += 1
                        while not values or values[-1] < reading.energy_import_wh - 7:
                            await asyncio.sleep(0.001)  # standard output may lag behind the line
                        # float32 at 90 MWh counts in steps of 7.8 Wh, so 8 Wh tell two reads apart.
                        assert abs(reading.energy_import_wh - values[-1]) <= 4
                        assert reading.serial == str(SERIAL)
                    else:
                        assert reading.state is ReadingState.NO_ANSWER, reading
        finally:
            slave.kill()
            await slave.wait()
            await listener
    return told


def test_readings_agree_with_a_libmodbus_slave(libmodbus_slave: Path) -> None:
    assert asyncio.run(libmodbus_readings(libmodbus_slave, 1_000, 0, 10)) == 10


def test_a_late_reply_of_a_libmodbus_slave_is_never_energy(libmodbus_slave: Path) -> None:
    assert asyncio.run(libmodbus_readings(libmodbus_slave, 3, 180, 10)) >= 5


# --- What a general client makes of a late reply -----------------------------------------------------

VOLTAGE, ENERGY = 0x0000, 0x0048


@contextlib.asynccontextmanager
async def late_once(path: str, late_s: float) -> AsyncIterator[None]:
    """A correct slave with 230 V and 1000 kWh whose first reply comes `late_s` after its request. Like
    any slave it answers one request after the other."""
    fd = os.open(path, os.O_RDWR | os.O_NOCTTY | os.O_NONBLOCK)
    loop = asyncio.get_running_loop()
    pending = bytearray()
    delays = [late_s]
    busy_until = 0.0

    def hear() -> None:
        nonlocal pending, busy_until
        with contextlib.suppress(BlockingIOError):
            pending += os.read(fd, 4096)
        while len(pending) >= 8:
            frame, pending = pending[:8], pending[8:]
            value = 230.0 if int.from_bytes(frame[2:4], "big") == VOLTAGE else 1000.0
            reply = crc(bytes(frame[:2]) + b"\x04" + words(*float_words(value)))
            busy_until = max(busy_until, loop.time()) + (delays.pop() if delays else 0.02)
            loop.call_at(busy_until, say, reply)

    def say(reply: bytes) -> None:
        with contextlib.suppress(OSError):
            os.write(fd, reply)

    loop.add_reader(fd, hear)
    try:
        yield
    finally:
        loop.remove_reader(fd)
        os.close(fd)


def test_pymodbus_with_its_defaults_takes_the_late_reply_for_the_next_one() -> None:
    """Why there is a master of our own: 3 s timeout, 3 retries, and the voltage is read as energy."""
    client_module = pytest.importorskip(
        "pymodbus.client", reason="needs pymodbus: pip install pymodbus"
    )

    async def main() -> tuple[list[int], list[int]]:
        with Relay() as relay:
            async with late_once(relay.far, 3.05):
                client = client_module.AsyncModbusSerialClient(relay.near, baudrate=19200)
                assert await client.connect()
                try:
                    first = await client.read_input_registers(VOLTAGE, count=2, device_id=1)
                    energy = await client.read_input_registers(ENERGY, count=2, device_id=1)
                finally:
                    client.close()
        return list(first.registers), list(energy.registers)

    _, energy = asyncio.run(main())
    assert tuple(energy) == float_words(230.0)


def test_this_master_does_not() -> None:
    async def main() -> None:
        env, _, _ = driver_env()
        with Relay() as relay:
            async with late_once(relay.far, 0.35):
                bus = open_bus(LineSpec(relay.near, 19200), env)
                timing = DeviceTiming(turnaround_ms=200, longest_reply_ms=400, min_gap_ms=1)
                answers: list[tuple[int, ...] | BusError] = []
                for address in (VOLTAGE, ENERGY, VOLTAGE, ENERGY):
                    try:
                        answers.append(await bus.read_input(1, address, 2, timing=timing))
                    except BusError as error:
                        answers.append(error)
                status = bus.status()
                await bus.close()
        assert answers == [float_words(230.0), float_words(1000.0)] * 2
        assert status["timeouts"] == 1
        units = status["units"]
        assert isinstance(units, dict) and status["late_replies"] == 1
        assert 300 <= units["1"]["latest_late_ms"] <= 400

    asyncio.run(main())
