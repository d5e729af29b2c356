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

COUNT = 22
# Baud rate of the line (none: replies come at once), rest after each read, and how many reads a round has.
# On a bus both wait for the reply's pieces, and both are woken for each.
WAYS = {
    "on a line of 19200 baud, with rests": (19_200, 0.01, 20),
    "on a line of 19200 baud, back to back": (19_200, 0.0, 20),
    "replies at once, back to back": (None, 0.0, 300),
}
GOAL_WAY = "on a line of 19200 baud, with rests"
UNPACED_BAUD = 115_200
ROUNDS, QUICK_ROUNDS = 9, 1
GOAL_RATIO = 1.0
TIMING = DeviceTiming(turnaround_ms=300, longest_reply_ms=300, min_gap_ms=0)

Read = Callable[[], Awaitable[object]]


async def _cpu_us(read: Read, reads: int, rest_s: float) -> float:
    started = time.process_time()
    for _ in range(reads):
        await read()
        if rest_s:
            await asyncio.sleep(rest_s)
    return (time.process_time() - started) * 1e6 / reads


async def measure(way: str, quick: bool) -> tuple[list[float], list[float]]:
    """Microseconds a read, ours and theirs, one a round."""
    from pymodbus.client import AsyncModbusSerialClient

    baud, rest_s, reads = WAYS[way]
    options = () if baud is None else ("--baud", str(baud))
    mine, other = [], []
    with slave(*options) as our_port, slave(*options) as their_port:
        bus = open_bus(LineSpec(our_port, baud or UNPACED_BAUD), env())
        client = AsyncModbusSerialClient(their_port, baudrate=baud or UNPACED_BAUD)
        if not await client.connect():
            raise RuntimeError("pymodbus did not connect")

        async def ours() -> object:
            return await bus.read_input(1, 0, COUNT, timing=TIMING)

        async def theirs() -> object:
            reply = await client.read_input_registers(0, count=COUNT, device_id=1)
            if len(reply.registers) != COUNT:
                raise RuntimeError("pymodbus failed")
            return reply

        for read in (ours, theirs):
            await _cpu_us(read, 5, rest_s)
        for _ in range(QUICK_ROUNDS if quick else ROUNDS):
            mine.append(await _cpu_us(ours, reads, rest_s))
            other.append(await _cpu_us(theirs, reads, rest_s))
        client.close()
        await bus.close()
    return mine, other


def run(quick: bool) -> tuple[Table, list[Goal]]:
    rows, ratios = [], {}
    for way in WAYS:
        mine, other = asyncio.run(measure(way, quick))
        ratios[way] = median(mine) / median(other)
        spread = f"{min(mine):.0f} to {max(mine):.0f}, {min(other):.0f} to {max(other):.0f}"
        row = (way, f"{median(mine):.0f}", f"{median(other):.0f}", f"{ratios[way]:.2f}", spread)
        rows.append(row)
    heads = ("", "ours, us", "pymodbus, us", "ratio", "rounds")
    title = f"CPU time of one read of {COUNT} registers over a pty, asyncio's included"
    note = "pymodbus keeps no pause between frames; back to back, ours is woken once more for it"
    goal = Goal("CPU per read", ratios[GOAL_WAY], GOAL_RATIO, "x pymodbus")
    return Table(title, heads, rows, note), [goal]
