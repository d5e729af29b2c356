"""A simulated meter on a pty beside the test's own thread, for what opens the port by itself.

with meter_thread(folder, "--model", "eastron_sdm630") as meter:
    meter.link                          # the pty to open
    meter.ask("fault", name="nan")
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hil.common.control import ask
from hil.meter.cli import made

STARTED_S = 20.0  # two cores shared with other tests


@dataclass(frozen=True)
class MeterThread:
    link: Path
    control: Path

    def ask(self, do: str, **request: Any) -> dict[str, Any]:
        return ask(self.control, do=do, **request)


@contextmanager
def meter_thread(folder: Path, *options: str) -> Iterator[MeterThread]:
    link, control = folder / "meter.pty", folder / "meter.sock"
    started, loops = threading.Event(), list[asyncio.AbstractEventLoop]()
    ended = list[asyncio.Event]()
    wrong: list[BaseException] = []

    async def serve() -> None:
        end = asyncio.Event()
        try:
            bench = made(["--link", str(link), "--control", str(control), *options])
            await bench.start()
        except (OSError, ValueError) as error:
            wrong.append(error)
            return
        finally:
            loops.append(asyncio.get_running_loop())
            ended.append(end)
            started.set()
        try:
            await end.wait()
        finally:
            await bench.close()

    thread = threading.Thread(target=asyncio.run, args=(serve(),))
    thread.start()
    try:
        assert started.wait(STARTED_S)
        if wrong:
            raise wrong[0]
        yield MeterThread(link, control)
    finally:
        if ended and not wrong:
            loops[0].call_soon_threadsafe(ended[0].set)
        thread.join()
