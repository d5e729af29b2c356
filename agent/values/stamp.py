"""When something happened, told by two clocks and an honest word about the second."""

from __future__ import annotations

from dataclasses import dataclass, replace
from enum import StrEnum

# Two clocks of one board drift apart by some milliseconds an hour; a clock that was set moves by more.
_DRIFT_MS = 60_000


class Quality(StrEnum):
    """How far the wall clock may be believed (design rule 11)."""

    TRUSTED = "trusted"  # synchronised since boot
    RESTORED = "restored"  # read back from a file or a clock chip, not yet synchronised
    UNKNOWN = "unknown"  # earlier than the build, or never set


_BEST_LAST = (Quality.UNKNOWN, Quality.RESTORED, Quality.TRUSTED)


@dataclass(frozen=True, slots=True)
class Stamp:
    """`utc_ms`: milliseconds since 1970 (wall clock); `boot_ms`: milliseconds of the boot-time clock,
    which runs through suspend and never jumps; `boot_id`: which boot that clock belongs to."""

    utc_ms: int
    boot_ms: int
    boot_id: str
    quality: Quality

    def since_ms(self, earlier: Stamp) -> int | None:
        """Proven elapsed milliseconds since `earlier`; None when a reboot lies between (rule 11:
        outage time that cannot be proven is not charged)."""
        if self.boot_id != earlier.boot_id:
            return None
        return self.boot_ms - earlier.boot_ms

    def by_wall_clock_ms(self, earlier: Stamp) -> int | None:
        """Elapsed milliseconds since `earlier`, which another boot stamped, where the wall clock can be
        believed; else None. A restored clock may be days behind until it is set, so it is compared with
        another restored one only; and no less can have passed than this boot has lasted."""
        if self.quality is not earlier.quality or self.quality is Quality.UNKNOWN:
            return None
        passed_ms = self.utc_ms - earlier.utc_ms
        return passed_ms if passed_ms >= self.boot_ms else None

    def as_told_by(self, later: Stamp) -> Stamp:
        """The same moment, by what its boot learned of the time of day afterwards."""
        since_ms = later.since_ms(self)
        better = _BEST_LAST.index(later.quality) - _BEST_LAST.index(self.quality)
        if since_ms is None or better < 0:
            return self
        utc_ms = later.utc_ms - since_ms
        if not better and abs(utc_ms - self.utc_ms) < _DRIFT_MS:
            return self
        return replace(self, utc_ms=utc_ms, quality=later.quality)

    def earlier(self, ms: int) -> Stamp:
        """The moment so long before, as the same clocks would have told it."""
        return replace(self, utc_ms=self.utc_ms - ms, boot_ms=self.boot_ms - ms)

    def to_json(self) -> dict[str, int | str]:
        return {
            "utc_ms": self.utc_ms,
            "boot_ms": self.boot_ms,
            "boot_id": self.boot_id,
            "quality": str(self.quality),
        }

    @classmethod
    def from_json(cls, data: dict[str, int | str]) -> Stamp:
        return cls(
            int(data["utc_ms"]),
            int(data["boot_ms"]),
            str(data["boot_id"]),
            Quality(str(data["quality"])),
        )
