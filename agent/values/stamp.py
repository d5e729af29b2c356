"""When something happened, told by two clocks and an honest word about the second."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class Quality(StrEnum):
    """How far the wall clock may be believed (design rule 11)."""

    TRUSTED = "trusted"  # synchronised since boot
    RESTORED = "restored"  # read back from a file or a clock chip, not yet synchronised
    UNKNOWN = "unknown"  # earlier than the build, or never set


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
