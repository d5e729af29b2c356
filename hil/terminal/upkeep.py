"""What the terminal does by itself for a while: updates, and being silent meanwhile."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass

from hil.terminal.switches import Switches

ABORTS, SILENT = "aborts", "silent"


@dataclass(frozen=True, slots=True)
class Lock:
    """The code that commands end with, and whether it says anything at all."""

    code: int
    style: str


class Upkeep:
    """`lock` is what holds now: the switch, or an update that is under way."""

    def __init__(self, switches: Switches) -> None:
        self._switches = switches
        self._lock: Lock | None = None
        self._until = 0.0

    def begin(self, code: int, for_s: float, style: str) -> None:
        self._lock = Lock(code, style)
        self._until = asyncio.get_running_loop().time() + for_s

    def end(self) -> None:
        self._lock = None

    @property
    def lock(self) -> Lock | None:
        if self._switches.locked is not None:
            return Lock(self._switches.locked, self._switches.locked_style)
        if self._lock and asyncio.get_running_loop().time() >= self._until:
            self._lock = None
        return self._lock

    @property
    def is_silent(self) -> bool:
        lock = self.lock
        return lock is not None and lock.style == SILENT
