"""Waiting: for a terminal that is master of the dialogue, long, but not for ever, and alive meanwhile; and
for news, no longer than until the next look."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import TypeVar

T = TypeVar("T")

# An end of day takes minutes at some hosts, and an update may follow; what takes longer hangs.
MOST_S = 15 * 60
BEAT_S = 60.0


async def bounded(work: Awaitable[T], beat: Callable[[], None]) -> T:
    """`work`, with signs of life for the watchdog as long as it may take."""
    task = asyncio.ensure_future(work)
    try:
        for _ in range(round(MOST_S / BEAT_S)):
            beat()
            if (await asyncio.wait({task}, timeout=BEAT_S))[0]:
                break
        return await task
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


async def nap(wake: asyncio.Event, seconds: float) -> None:
    """Until `wake` is set, or the time is over. What was set before this began counts."""
    try:
        async with asyncio.timeout(seconds):
            await wake.wait()
    except TimeoutError:
        pass
    wake.clear()
