"""What the terminal does by itself: updates, being silent meanwhile, a reboot every day."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta

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


class Daily:
    """The reboot that card schemes want of a terminal every day (PCI PTS), by its own clock."""

    def __init__(self, switches: Switches, now: Callable[[], datetime]) -> None:
        self._switches, self._now = switches, now
        self._seen = now()
        # For whoever waits: the hour or the clock is another one.
        self.changed = asyncio.Event()

    def begin(self) -> None:
        """What has passed does not count any more."""
        self._seen = self._now()
        self.changed.set()

    def is_due(self) -> bool:
        """Whether the hour has come since this was last asked."""
        seen, self._seen = self._seen, self._now()
        next_one = self._after(seen)
        return next_one is not None and next_one <= self._seen

    def left_s(self) -> float | None:
        now = self._now()
        next_one = self._after(now)
        return None if next_one is None else (next_one - now).total_seconds()

    def _after(self, moment: datetime) -> datetime | None:
        if not self._switches.reboot_daily:
            return None
        hour, minute = map(int, self._switches.reboot_daily.split(":"))
        same_day = moment.replace(hour=hour, minute=minute, second=0, microsecond=0)
        return same_day if same_day > moment else same_day + timedelta(days=1)
