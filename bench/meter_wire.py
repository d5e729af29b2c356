"""How much of a bus's time is spent on the wire, asked back to back."""

from __future__ import annotations

import asyncio
import os
import time
from statistics import median

from agent.ports import LineSpec
from bench.meter_peer import CHAR_BITS, PAUSE_BITS, REQUEST_BYTES
from bench.meter_rig import env, slave
from bench.report import Goal, Table
from drivers.meter.rtu import DeviceTiming, open_bus

BAUDS = (9600, 19200)
# The block that an SDM630 is billed by, and the most it gives at once.
COUNTS = (22, 80)
SAMPLES, SAMPLE_S = 5, 2.0
QUICK_SAMPLES, QUICK_SAMPLE_S = 1, 0.2
GOAL_PERCENT = 95.0
NO_GAP = DeviceTiming(turnaround_ms=300, longest_reply_ms=300, min_gap_ms=0)


def limit_s(baud: int, count: int) -> float:
    """One read: request, pause, reply, pause."""
    chars = REQUEST_BYTES + 5 + 2 * count
    return (chars * CHAR_BITS + 2 * PAUSE_BITS) / baud


async def measure(baud: int, count: int, quick: bool) -> list[float]:
    """Percent of the limit, one a sample."""
    samples, sample_s = (QUICK_SAMPLES, QUICK_SAMPLE_S) if quick else (SAMPLES, SAMPLE_S)
    percents = []
    with slave("--baud", str(baud)) as port:
        bus = open_bus(LineSpec(port, baud), env())
        await bus.read_input(1, 0, count, timing=NO_GAP)
        for _ in range(samples):
            reads, started = 0, time.perf_counter()
            while time.perf_counter() - started < sample_s:
                await bus.read_input(1, 0, count, timing=NO_GAP)
                reads += 1
            spent = time.perf_counter() - started
            percents.append(100 * reads * limit_s(baud, count) / spent)
        await bus.close()
    return percents


def run(quick: bool) -> tuple[Table, list[Goal]]:
    rows, goals = [], []
    for baud in BAUDS:
        for count in COUNTS:
            shares = asyncio.run(measure(baud, count, quick))
            share, limit = median(shares), limit_s(baud, count)
            what = f"{count} registers at {baud} baud"
            rows.append(
                (
                    what,
                    f"{1 / limit:.2f}",
                    f"{share / 100 / limit:.2f}",
                    f"{share:.1f} %",
                    f"{min(shares):.1f} to {max(shares):.1f} %",
                )
            )
            goals.append(Goal(f"wire time used, {what}", share, GOAL_PERCENT, "%", at_least=True))
    heads = ("", "limit, reads/s", "reads/s", "median", "samples")
    title = (
        "Back-to-back reads on a paced pty, as a share of the time on the wire (two pauses a read)"
    )
    return Table(title, heads, rows, _trouble()), goals


def _trouble() -> str:
    """Whoever waits for a processor is late on the line, and so is the peer."""
    load, cores = os.getloadavg()[0], len(os.sched_getaffinity(0))
    return f"BUSY: load {load:.1f} on {cores} cores" if load > cores else ""
