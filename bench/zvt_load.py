"""CPU time of our end while the terminal saturates a line of 115200 baud."""

from __future__ import annotations

import asyncio
import resource
import time
from dataclasses import dataclass
from statistics import median

from bench.report import Goal, Table
from bench.zvt_rig import at_once, rig

# 8N1: ten bits a byte. 8N2 brings a tenth less.
RATE = 11_520
# Bytes that arrive together: an UART interrupts at half of its 16-byte FIFO, at seven eighths of it, or
# a USB adapter brings a packet.
PIECES = ((8, "half a 16-byte FIFO"), (14, "16-byte FIFO"), (62, "USB packet"))
GOAL_PIECE = 14
SAMPLES, QUICK_SAMPLES = 5, 1
SAMPLE_S, QUICK_SAMPLE_S = 2.0, 0.3
GOAL_PERCENT = 10.0


@dataclass(frozen=True, slots=True)
class Load:
    percents: list[float]  # of a core, one a sample
    bytes_a_second: float


def _cpu_s() -> float:
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime


async def measure(piece: int, quick: bool) -> Load:
    percents = []
    samples, sample_s = (QUICK_SAMPLES, QUICK_SAMPLE_S) if quick else (SAMPLES, SAMPLE_S)
    async with rig("--rate", str(RATE), "--piece", str(piece), "--receipt") as bench:
        await bench.hold(at_once)  # imports and caches are not the load
        for _ in range(samples):
            cpu_s, started = _cpu_s(), time.perf_counter()
            while (passed := time.perf_counter() - started) < sample_s:
                await bench.hold(at_once)
            percents.append(100 * (_cpu_s() - cpu_s) / passed)
    times = bench.times
    return Load(percents, times.sent_bytes / times.sending_s)


def run(quick: bool) -> tuple[Table, Goal]:
    rows = []
    goal = None
    for piece, what in PIECES:
        load = asyncio.run(measure(piece, quick))
        share = median(load.percents)
        rows.append(
            (
                f"{piece} bytes at a time ({what})",
                f"{load.bytes_a_second:,.0f}",
                f"{share:.1f} %",
                f"{min(load.percents):.1f} to {max(load.percents):.1f} %",
            )
        )
        if piece == GOAL_PIECE:
            goal = Goal("CPU at 115200 baud saturated", share, GOAL_PERCENT, "% of a core")
    assert goal is not None
    heads = ("", "bytes/s", "median", "samples")
    title = "CPU of the driver's process, the line saturated by printed lines and text blocks"
    return Table(title, heads, rows), goal
