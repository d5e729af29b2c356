"""The catalogue against slaves that others wrote, with registers written down by hand: at least one meter of
each word order and format. The words below are the meters' documents worked out on paper, not the driver's or
the simulator's arithmetic."""

from __future__ import annotations

import asyncio
import contextlib
import shutil
import subprocess
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import pytest
from support.rtu_slave import driver_env
from support.serial_relay import Relay

from agent.ports import LineSpec, MeterSpec
from drivers.meter.catalogue import load_model
from drivers.meter.look import Look, look
from drivers.meter.rtu import open_bus

QUICK = {"turnaround_ms": 200, "longest_reply_ms": 300, "min_gap_ms": 2, "signing_reply_ms": 300}


@dataclass(frozen=True)
class Meter:
    """`words`: address -> registers, for whichever function the model reads with; `reads`: what they are."""

    model: str
    function: int
    words: Mapping[int, tuple[int, ...]]
    energy_wh: int
    power_w: int
    serial: str | None
    reads: Mapping[str, str]


def text(data: str, registers: int) -> tuple[int, ...]:
    raw = data.encode().ljust(2 * registers, b"\0")
    return tuple(raw[n] << 8 | raw[n + 1] for n in range(0, len(raw), 2))


METERS = [
    # float32, big: 0x447A0000 = 1000.0 ; 0x43660000 = 230.0 ; 0x45E60000 = 7360.0 ; 0x42480000 = 50.0
    Meter(
        "eastron_sdm72dm_v2",
        4,
        {0x00: (0x4366, 0x0000), 0x34: (0x45E6, 0x0000), 0x46: (0x4248, 0x0000), 0x48: (0x447A, 0x0000)},
        1_000_000, 7360, None, {"voltage_l1": "230", "frequency": "50"},
    ),
    # int32, little: 7654 kWh + 321 Wh ; 230.1 V = 2301 = 0x08FD ; 70000.0 W = 700000 = 0x000AAE60 ;
    # -12.345 A = -12345 = 0xFFFFCFC7
    Meter(
        "carlogavazzi_em340_family",
        4,
        {
            0x00: (0x08FD, 0x0000), 0x0B: (340,), 0x0C: (0xCFC7, 0xFFFF), 0x28: (0xAE60, 0x000A),
            0x32: (0xFFFF, 0x01F4), 0x400: (0x1DE6, 0x0000, 0x0141, 0x0000),
            0x5000: (0x4B, 0x5A, 0x30, 0x31, 0x32, 0x33, 0x34),
        },
        7_654_321, 70_000, "KZ01234",
        {"voltage_l1": "230.1", "current_l1": "-12.345", "frequency": "50", "phase_sequence": "-1"},
    ),
    # int64, little: 0x0000_0001_2A05_F200 = 5000000000 Wh
    Meter(
        "carlogavazzi_em580",
        4,
        {0x500: (0xF200, 0x2A05, 0x0001, 0x0000), 0x28: (0x0064, 0x0000), 0x307: (0xFFF6,),
         0x5000: text("KX12345678", 7)},
        5_000_000_000, 10, "KX12345678", {"temperature": "-1"},
    ),
    # u64, big, 10 Wh: 0x01_2A05_F200 * 10 Wh ; what is not measured is all ones ; i32 -5.00 W = 0xFFFFFE0C
    Meter(
        "abb_b21_b23_b24",
        3,
        {0x5000: (0x0000, 0x0001, 0x2A05, 0xF200), 0x5004: (0xFFFF,) * 4, 0x5B00: (0x0000, 0x08FD),
         0x5B02: (0xFFFF, 0xFFFF), 0x5B14: (0xFFFF, 0xFE0C), 0x8900: (0x002E, 0xA6EF),
         0x8960: (0x4232, 0x3120)},
        50_000_000_000, -5, "3057391", {"voltage_l1": "230.1"},
    ),
    # Exponent -1 beside the counter 123456: 12345.6 Wh ; top byte 0xFE is 10**-2, with 23010: 230.10 V ;
    # 0xFD with 50000 is 50 Hz ; 0xFD with 0xFFFFF6 (-10) is -0.01 A ; 0x01 with 720 is 7200 W
    Meter(
        "iskra_wm3m4",
        4,
        {1: text("WM3M4C", 8), 9: text("00012345", 4), 105: (0xFD00, 0xC350), 107: (0xFE00, 0x59E2),
         126: (0xFDFF, 0xFFF6), 140: (0x0100, 0x02D0), 414: (0xFFFF, 0x0000), 418: (0x0001, 0xE240)},
        12_346, 7200, "00012345",
        {"voltage_l1": "230.1", "frequency": "50", "current_l1": "-0.01"},
    ),
    # SunSpec: 4567 with scale factor 1 = 45670 Wh ; i16 2301 with -1 ; 736 with 1 = 7360 W
    Meter(
        "bauer_bsm_ws36a",
        3,
        {40000: (0x5375, 0x6E53), 40052: text("21070006", 16), 40098: (2301,), 40105: (0xFFFF,),
         40108: (736,), 40112: (1,), 40136: (0x0000, 0x11D7), 40144: (1,)},
        45_670, 7360, "21070006", {"voltage_l1": "230.1"},
    ),
]  # fmt: skip


def spread(meter: Meter) -> list[tuple[int, list[int]]]:
    """Whole blocks, with zeros where nothing was written down."""
    table = {
        address + n: word for address, words in meter.words.items() for n, word in enumerate(words)
    }
    merged: dict[int, int] = {}
    for block in load_model(meter.model).blocks.values():
        if block.function == meter.function:
            for at in range(block.address, block.address + block.count):
                merged[at] = table.get(at, 0)
    runs: list[tuple[int, list[int]]] = []
    for at in sorted(merged):
        if runs and runs[-1][0] + len(runs[-1][1]) == at:
            runs[-1][1].append(merged[at])
        else:
            runs.append((at, [merged[at]]))
    return runs


async def looked(meter: Meter, port: str, unit: int) -> Look:
    env, _, _ = driver_env()
    bus = open_bus(LineSpec(port, 115200), env)
    try:
        spec = MeterSpec(meter.model, unit, options=QUICK)
        return await look(load_model(meter.model), spec, bus, env)
    finally:
        await bus.close()


def judge(meter: Meter, found: Look) -> None:
    assert found.reading.ok, found.reading.why
    assert found.reading.energy_import_wh == meter.energy_wh
    assert found.reading.power_w == meter.power_w
    assert found.reading.serial == meter.serial
    told = {value.name: value.json()["value"] for value in found.values}
    assert {name: told[name] for name in meter.reads} == dict(meter.reads)


@contextlib.asynccontextmanager
async def pymodbus_slave(meter: Meter, path: str) -> AsyncIterator[None]:
    pytest.importorskip("pymodbus", reason="needs pymodbus: pip install pymodbus")
    from pymodbus.server import ModbusSerialServer
    from pymodbus.simulator import DataType, SimData, SimDevice

    runs = [
        SimData(address, values=words, datatype=DataType.REGISTERS)
        for address, words in spread(meter)
    ]
    server = ModbusSerialServer(SimDevice(7, simdata=runs), port=path, baudrate=115200)
    await server.serve_forever(background=True)
    try:
        yield
    finally:
        await server.shutdown()


@pytest.mark.parametrize("meter", METERS, ids=lambda meter: meter.model)
def test_registers_served_by_pymodbus(meter: Meter) -> None:
    async def main() -> None:
        with Relay() as relay:
            async with pymodbus_slave(meter, relay.far):
                judge(meter, await looked(meter, relay.near, 7))

    asyncio.run(main())


# Lines "function address count word ..." make up the registers; then it serves until its port is gone.
LIBMODBUS_SLAVE = r"""
#include <errno.h>
#include <modbus.h>
#include <stdio.h>
#include <stdlib.h>

int main(int argc, char **argv)
{
    modbus_t *bus = modbus_new_rtu(argv[1], 115200, 'N', 8, 1);
    modbus_mapping_t *map = modbus_mapping_new(0, 0, 65535, 65535);
    int function, address, count, word;
    if (argc != 2 || !bus || !map || modbus_set_slave(bus, 7) || modbus_connect(bus))
        return 1;
    while (scanf("%d %d %d", &function, &address, &count) == 3)
        for (int n = 0; n < count && scanf("%d", &word) == 1; n++)
            (function == 4 ? map->tab_input_registers : map->tab_registers)[address + n] = word;
    puts("ready");
    fflush(stdout);
    for (;;) {
        uint8_t query[MODBUS_RTU_MAX_ADU_LENGTH];
        int length = modbus_receive(bus, query);
        if (length < 0 && errno != EMBBADCRC && errno != ETIMEDOUT)
            return 0;
        if (length > 0)
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
    asked = ["pkg-config", "--cflags", "--libs", "libmodbus"]
    found = subprocess.run(asked, capture_output=True, text=True, check=False)
    if found.returncode != 0:
        pytest.skip("needs libmodbus: apt-get install libmodbus-dev")
    folder = tmp_path_factory.mktemp("libmodbus")
    source, program = folder / "slave.c", folder / "slave"
    source.write_text(LIBMODBUS_SLAVE)
    command = ["gcc", "-o", str(program), str(source), *found.stdout.split()]
    subprocess.run(command, check=True, capture_output=True, timeout=50)
    return program


@pytest.mark.parametrize("meter", METERS, ids=lambda meter: meter.model)
def test_registers_served_by_libmodbus(meter: Meter, libmodbus_slave: Path) -> None:
    async def main() -> None:
        with Relay() as relay:
            slave = await asyncio.create_subprocess_exec(
                str(libmodbus_slave), relay.far,
                stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE,
            )  # fmt: skip
            assert slave.stdin is not None and slave.stdout is not None
            try:
                for address, words in spread(meter):
                    line = f"{meter.function} {address} {len(words)} {' '.join(map(str, words))}\n"
                    slave.stdin.write(line.encode())
                slave.stdin.close()
                assert await slave.stdout.readline() == b"ready\n"
                judge(meter, await looked(meter, relay.near, 7))
            finally:
                slave.kill()
                await slave.wait()

    asyncio.run(main())
