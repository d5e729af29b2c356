"""An agent's process as the devices in memory see it, and the moments at which a test kills it."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass

from support.virtual_loop import VirtualLoop


@dataclass
class Process:
    """The agent's process as the devices see it."""

    alive: bool = True


class Points:
    """Named moments of a dialogue at which a test kills the agent."""

    def __init__(self) -> None:
        self.kill_at: str | None = None
        self.seen: list[str] = []

    async def reach(self, name: str, process: Process) -> None:
        self.seen.append(name)
        if self.kill_at == name:
            self.kill_at = None
            process.alive = False
            loop = asyncio.get_running_loop()
            assert isinstance(loop, VirtualLoop)
            await loop.die(name)
