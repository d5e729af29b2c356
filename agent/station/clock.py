"""The only place that reads clocks. Everything else is handed a `Clock`."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Protocol

from agent.values import Quality, Stamp

# No board can run this software before it was written; an earlier wall clock was never set.
BUILD_FLOOR_UTC_MS = 1_790_000_000_000  # September 2026
# systemd-timesyncd and chrony's wait service create it once the clock is synchronised.
SYNCHRONISED_MARK = Path("/run/systemd/timesync/synchronized")
BOOT_ID = Path("/proc/sys/kernel/random/boot_id")


class Clock(Protocol):
    def boot_ms(self) -> int:
        """Milliseconds of a clock that never jumps and runs through suspend."""

    def stamp(self) -> Stamp: ...


class SystemClock:
    """CLOCK_BOOTTIME and the wall clock of the board (design §2 rule 11)."""

    def __init__(self) -> None:
        self.boot_id = BOOT_ID.read_text().strip() if BOOT_ID.exists() else "unknown-boot"

    def boot_ms(self) -> int:
        return time.clock_gettime_ns(time.CLOCK_BOOTTIME) // 1_000_000

    def quality(self, utc_ms: int) -> Quality:
        if utc_ms < BUILD_FLOOR_UTC_MS:
            return Quality.UNKNOWN
        return Quality.TRUSTED if SYNCHRONISED_MARK.exists() else Quality.RESTORED

    def stamp(self) -> Stamp:
        utc_ms = time.time_ns() // 1_000_000
        return Stamp(utc_ms, self.boot_ms(), self.boot_id, self.quality(utc_ms))
