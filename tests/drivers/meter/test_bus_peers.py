"""Every function code against slaves that others wrote, pymodbus and libmodbus, over RTU and over TCP."""

from __future__ import annotations

import asyncio
import contextlib
import shutil
import subprocess
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest
from support.rtu_slave import driver_env
from support.serial_relay import Relay

from agent.ports import LineSpec
from drivers.meter.modbus import ExceptionReply
from drivers.meter.rtu import Bus, open_bus
from drivers.meter.timing import DeviceTiming
from hil.common.ports import free_port

TIMING = DeviceTiming(turnaround_ms=500, longest_reply_ms=600, min_gap_ms=0)
# Of the slaves: so many of each kind from address 0 (pymodbus keeps bits by the sixteen). Coil n is on where
# n % 3 is 0, discrete input n where n % 5 is 0; holding register n has 1000 + n, input register n 2000 + n.
SIZE = 208
Peer = Callable[[str], contextlib.AbstractAsyncContextManager[str]]


async def every_function(bus: Bus, quarantines: int) -> None:
    """Codes 1 to 6, 15, 16 and 23, single and many, each write read back."""
    coils = [int(n % 3 == 0) for n in range(SIZE)]
    holdings = [1000 + n for n in range(SIZE)]
    for start, count in ((0, 1), (3, 8), (5, 17), (0, SIZE)):
        part = slice(start, start + count)
        assert list(await bus.read_coils(1, start, count, timing=TIMING)) == coils[part]
        found = await bus.read_discrete(1, start, count, timing=TIMING)
        assert list(found) == [int(n % 5 == 0) for n in range(SIZE)][part]
    assert list(await bus.read_holding(1, 7, 120, timing=TIMING)) == holdings[7:127]
    assert list(await bus.read_input(1, 0, 2, timing=TIMING)) == [2000, 2001]

    await bus.write_coil(1, 1, True, timing=TIMING)
    await bus.write_coil(1, 0, False, timing=TIMING)
    coils[1], coils[0] = 1, 0
    wished = [True, False, True, True, False, False, True, True, True, False, True]
    await bus.write_coils(1, 20, wished, timing=TIMING)
    coils[20:31] = [int(value) for value in wished]
    assert list(await bus.read_coils(1, 0, SIZE, timing=TIMING)) == coils

    await bus.write_registers(1, 4, [0xBEEF], timing=TIMING)
    await bus.write_registers(1, 50, list(range(65_000, 65_100)), timing=TIMING)
    holdings[4], holdings[50:150] = 0xBEEF, list(range(65_000, 65_100))
    # Written before it is read (V1.1b3 ch. 6.17), here within the range that is read.
    both = await bus.read_write(1, 2, 10, 5, [11, 12, 13], timing=TIMING)
    holdings[5:8] = [11, 12, 13]
    assert list(both) == holdings[2:12]
    assert list(await bus.read_holding(1, 0, 120, timing=TIMING)) == holdings[:120]

    for asked in (
        bus.read_coils(1, SIZE, timing=TIMING),
        bus.read_input(1, SIZE - 1, 2, timing=TIMING),
        bus.write_registers(1, SIZE, [1], timing=TIMING),
        bus.write_coils(1, SIZE - 1, [True, True], timing=TIMING),
    ):
        with pytest.raises(ExceptionReply) as caught:
            await asked
        assert caught.value.is_configuration
    status = bus.status()
    seen = (status["timeouts"], status["bad_frames"], status["quarantines"])
    assert seen == (0, 0, quarantines)


async def against(peer: Peer, way: str) -> None:
    env, _, _ = driver_env()
    with Relay() as relay:
        port = free_port()
        where, place = (
            (relay.far, relay.near)
            if way == "rtu"
            else (f"127.0.0.1:{port}", f"modbus-tcp://127.0.0.1:{port}")
        )
        async with peer(where):
            bus = open_bus(LineSpec(place, 19200), env)
            try:
                # A serial line begins with one, for what others may be owed on it.
                await every_function(bus, int(way == "rtu"))
            finally:
                await bus.close()


# --- pymodbus ------------------------------------------------------------------------------------------


@contextlib.asynccontextmanager
async def pymodbus_slave(where: str) -> AsyncIterator[str]:
    pytest.importorskip("pymodbus", reason="needs pymodbus: pip install pymodbus")
    from pymodbus.server import ModbusSerialServer, ModbusTcpServer
    from pymodbus.simulator import DataType, SimData, SimDevice

    bits, words = DataType.BITS, DataType.REGISTERS
    device = SimDevice(
        1,
        simdata=(
            [SimData(0, values=[n % 3 == 0 for n in range(SIZE)], datatype=bits)],
            [SimData(0, values=[n % 5 == 0 for n in range(SIZE)], datatype=bits)],
            [SimData(0, values=[1000 + n for n in range(SIZE)], datatype=words)],
            [SimData(0, values=[2000 + n for n in range(SIZE)], datatype=words)],
        ),
    )
    if where.startswith("/"):
        server = ModbusSerialServer(device, port=where, baudrate=19200)
    else:
        host, _, port = where.partition(":")
        server = ModbusTcpServer(device, address=(host, int(port)))
    await server.serve_forever(background=True)
    try:
        yield where
    finally:
        await server.shutdown()


@pytest.mark.parametrize("way", ["rtu", "tcp"])
def test_every_function_code_against_pymodbus(way: str) -> None:
    asyncio.run(against(pymodbus_slave, way))


# --- libmodbus -----------------------------------------------------------------------------------------

LIBMODBUS = r"""
#include <errno.h>
#include <modbus.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

int main(int argc, char **argv)
{
    int size = atoi(argv[2]), tcp = strchr(argv[1], ':') != NULL, length;
    char *port = strchr(argv[1], ':');
    uint8_t query[MODBUS_TCP_MAX_ADU_LENGTH];
    if (tcp)
        *port++ = 0;
    modbus_t *bus = tcp ? modbus_new_tcp(argv[1], atoi(port))
                        : modbus_new_rtu(argv[1], 19200, 'N', 8, 1);
    modbus_mapping_t *map = modbus_mapping_new(size, size, size, size);
    if (!bus || !map)
        return 1;
    for (int n = 0; n < size; n++) {
        map->tab_bits[n] = n % 3 == 0;
        map->tab_input_bits[n] = n % 5 == 0;
        map->tab_registers[n] = 1000 + n;
        map->tab_input_registers[n] = 2000 + n;
    }
    int heard = tcp ? modbus_tcp_listen(bus, 1) : 0;
    if (heard < 0 || (!tcp && (modbus_set_slave(bus, 1) || modbus_connect(bus))))
        return 1;
    puts("ready");
    fflush(stdout);
    if (tcp)
        modbus_tcp_accept(bus, &heard);
    for (;;) {
        length = modbus_receive(bus, query);
        if (length < 0 && errno != EMBBADCRC && errno != ETIMEDOUT)
            return 0;
        if (length > 0)
            modbus_reply(bus, query, length, map);
    }
}
"""


@pytest.fixture(scope="module")
def libmodbus(tmp_path_factory: pytest.TempPathFactory) -> Path:
    if shutil.which("gcc") is None:
        pytest.skip("needs gcc: apt-get install gcc")
    if shutil.which("pkg-config") is None:
        pytest.skip("needs pkg-config: apt-get install pkg-config")
    wanted = ["pkg-config", "--cflags", "--libs", "libmodbus"]
    found = subprocess.run(wanted, capture_output=True, text=True, check=False)
    if found.returncode != 0:
        pytest.skip("needs libmodbus: apt-get install libmodbus-dev")
    folder = tmp_path_factory.mktemp("libmodbus")
    source, program = folder / "slave.c", folder / "slave"
    source.write_text(LIBMODBUS)
    command = ["gcc", "-o", str(program), str(source), *found.stdout.split()]
    subprocess.run(command, check=True, capture_output=True, timeout=50)
    return program


@pytest.mark.parametrize("way", ["rtu", "tcp"])
def test_every_function_code_against_libmodbus(libmodbus: Path, way: str) -> None:
    @contextlib.asynccontextmanager
    async def peer(where: str) -> AsyncIterator[str]:
        slave = await asyncio.create_subprocess_exec(
            str(libmodbus), where, str(SIZE), stdout=asyncio.subprocess.PIPE
        )
        try:
            assert slave.stdout is not None
            assert await slave.stdout.readline() == b"ready\n"
            yield where
        finally:
            with contextlib.suppress(ProcessLookupError):
                slave.kill()
            await slave.wait()

    asyncio.run(against(peer, way))
