"""CPU time of one read beside pymodbus's asynchronous client, in turns in one process."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from statistics import median

from agent.ports import LineSpec
from bench.meter_rig import env, slave
from bench.report import Goal, Table
from drivers.meter.rtu import DeviceTiming, open_bus

COUNTS = (2, 22, 80)
GOAL_COUNT = 22
BAUD = 115_200  # the pause is shortest; nothing is paced
ROUNDS, READS = 9, 400
QUICK_ROUNDS, QUICK_READS = 1, 20
GOAL_RATIO = 1.0
TIMING = DeviceTiming(turnaround_ms=300, longest_reply_ms=300, min_gap_ms=0)

Read = Callable[[int], Awaitable[object]]


async def _cpu_us(read: Read, count: int, reads: int) -> float:
    started = time.process_time()
    for _ in range(reads):
        await read(count)
    return (time.process_time() - started) * 1e6 / reads


async def measure(quick: bool) -> dict[int, tuple[float, float]]:
    """Microseconds a read, ours and theirs, by registers."""
    from pymodbus.client import AsyncModbusSerialClient

    rounds, reads = (QUICK_ROUNDS, QUICK_READS) if quick else (ROUNDS, READS)
    found = {}
    with slave() as our_port, slave() as their_port:
        bus = open_bus(LineSpec(our_port, BAUD), env())
        client = AsyncModbusSerialClient(their_port, baudrate=BAUD)
        if not await client.connect():
            raise RuntimeError("pymodbus did not connect")

        async def ours(count: int) -> object:
            return await bus.read_input(1, 0, count, timing=TIMING)

        async def theirs(count: int) -> object:
            reply = await client.read_input_registers(0, count=count, device_id=1)
            if len(reply.registers) != count:
                raise RuntimeError("pymodbus failed")
            return reply

        for count in COUNTS:
            mine, other = [], []
            for way in (ours, theirs):
                await _cpu_us(way, count, QUICK_READS)
            for _ in range(rounds):
                mine.append(await _cpu_us(ours, count, reads))
                other.append(await _cpu_us(theirs, count, reads))
            found[count] = (median(mine), median(other))
        client.close()
        await bus.close()
    return found


def run(quick: bool) -> tuple[Table, list[Goal]]:
    found = asyncio.run(measure(quick))
    rows = [
        (f"{count} registers", f"{mine:.0f}", f"{other:.0f}", f"{mine / other:.2f}")
        for count, (mine, other) in found.items()
    ]
    mine, other = found[GOAL_COUNT]
    goal = Goal(f"CPU per read of {GOAL_COUNT} registers", mine / other, GOAL_RATIO, "x pymodbus")
    heads = ("", "ours, us", "pymodbus, us", "ratio")
    return Table("CPU time of one read over a pty, asyncio's included", heads, rows), [goal]
