"""The life of a simulator as a process: start, say `ready`, serve until told to stop, leave nothing."""

from __future__ import annotations

import asyncio
import signal
import sys
from collections.abc import Awaitable, Callable
from typing import Protocol

EXIT_OK = 0
EXIT_FAILED = 2


class Service(Protocol):
    """Something that runs by itself on the loop once started."""

    async def close(self) -> None:
        """Stop, and remove what was published (links, sockets)."""

    async def failed(self) -> BaseException:
        """Returns the error when the service can no longer work; never returns otherwise."""


def run_service(start: Callable[[], Awaitable[Service]], ready: str) -> int:
    """Start a service, print `ready <ready>` on stdout, and serve until SIGTERM, SIGINT or failure.

    Returns the exit status. An OSError or ValueError of `start` is a user's mistake (a path that
    cannot be used, a bad value) and is told in one line."""
    return asyncio.run(_serve(start, ready))


async def _serve(start: Callable[[], Awaitable[Service]], ready: str) -> int:
    loop = asyncio.get_running_loop()
    stop = asyncio.Event()
    # Before anything is published: a signal during start-up must still clean up.
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    try:
        service = await start()
    except (OSError, ValueError) as error:
        print(f"cannot start: {error}", file=sys.stderr)
        return EXIT_FAILED
    failure = asyncio.ensure_future(service.failed())
    stopped = asyncio.ensure_future(stop.wait())
    try:
        print(f"ready {ready}", flush=True)
        await asyncio.wait({failure, stopped}, return_when=asyncio.FIRST_COMPLETED)
        if failure.done():
            print(f"failed: {failure.result()!r}", file=sys.stderr)
            return EXIT_FAILED
        return EXIT_OK
    finally:
        for task in (failure, stopped):
            task.cancel()
        await asyncio.gather(failure, stopped, return_exceptions=True)
        await service.close()
