"""What happened on a bus since it was opened first; for a person who looks for a bad cable."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field, fields

# How many of a unit's latest requests tell how it stands now. At one a second it is a minute and a half: long
# enough for a share, short enough to see that a screw was tightened.
RECENT = 100
_MS = 1000


def _recent() -> deque[bool]:
    return deque(maxlen=RECENT)


@dataclass(slots=True)
class UnitCounters:
    """One address. `sent` counts each try; each ends in one of the next five, or was lost with the line.
    `late_replies`: that came when nobody waited for them any more; `latest_late_ms`: how late after its
    request. When that comes near the device's longest_reply_ms, that number is too small."""

    sent: int = 0
    answered: int = 0
    timeouts: int = 0
    bad_frames: int = 0
    exceptions: int = 0
    cancelled: int = 0
    late_replies: int = 0
    latest_late_ms: int = 0
    # Of the latest tries, whether each was answered; those that were cancelled are left out.
    recent: deque[bool] = field(default_factory=_recent)

    def json(self) -> dict[str, int]:
        counted = {name: getattr(self, name) for name in _COUNTED}
        return {**counted, "recent": len(self.recent), "recent_answered": sum(self.recent)}


_COUNTED = tuple(f.name for f in fields(UnitCounters) if f.name != "recent")
_SUMMED = tuple(name for name in _COUNTED if name != "latest_late_ms")


@dataclass(slots=True)
class Counters:
    """The whole bus: `units` by address, and what belongs to none."""

    quarantines: int = 0
    discarded_bytes: int = 0
    bad_headers: int = 0  # of Modbus TCP
    units: dict[int, UnitCounters] = field(default_factory=dict)

    def of(self, unit: int) -> UnitCounters:
        found = self.units.get(unit)
        if found is None:
            found = self.units[unit] = UnitCounters()
        return found

    def late(self, unit: int, after_us: int) -> None:
        one = self.of(unit)
        one.late_replies += 1
        one.latest_late_ms = max(one.latest_late_ms, after_us // _MS)

    def total(self, name: str) -> int:
        """A counter of UnitCounters, over all units."""
        return sum(getattr(one, name) for one in self.units.values())

    def json(self) -> dict[str, object]:
        """Plain JSON values; the sums of all units beside each unit's own."""
        units = {str(unit): one.json() for unit, one in sorted(self.units.items())}
        names = (*_SUMMED, "recent", "recent_answered")
        summed = {name: sum(one[name] for one in units.values()) for name in names}
        return {
            **summed,
            "quarantines": self.quarantines,
            "discarded_bytes": self.discarded_bytes,
            "bad_headers": self.bad_headers,
            "units": units,
        }
