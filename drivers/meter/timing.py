"""How long things take on an RTU bus, and how long a device may take. Values only.

The pauses are those of "MODBUS over Serial Line V1.02" ch. 2.5.1.1.
"""

from __future__ import annotations

from dataclasses import dataclass, field

# A millisecond on the masters' clock, which counts microseconds: at 19200 baud a pause is 2005 of them, and
# whole milliseconds would cost a bus 3 to 8 % of its time.
MS = 1000
# A character counts 11 bits for pauses, whatever the framing (ch. 2.5.1.1).
_PAUSE_CHAR_BITS = 11
# Above this rate the pauses stop shrinking.
_FAST_BAUD = 19200
_FAST_PAUSE_US = 1750


@dataclass(frozen=True, slots=True)
class DeviceTiming:
    """What a device needs, in milliseconds. `turnaround_ms`: how long it is waited for, beyond the time
    the bytes take on the wire. `longest_reply_ms`: how late after the request its reply may still begin;
    the length of a quarantine. `min_gap_ms`: between its reply and the next request to it."""

    turnaround_ms: int = 300
    longest_reply_ms: int = 1000
    min_gap_ms: int = 20

    def __post_init__(self) -> None:
        if not 1 <= self.turnaround_ms <= self.longest_reply_ms <= 60_000:
            raise ValueError(
                f"turnaround_ms {self.turnaround_ms} and longest_reply_ms {self.longest_reply_ms}: "
                "expected 1 <= turnaround_ms <= longest_reply_ms <= 60000"
            )
        if not 0 <= self.min_gap_ms <= 10_000:
            raise ValueError(f"min_gap_ms {self.min_gap_ms}: expected 0 to 10000")


@dataclass(frozen=True, slots=True)
class Wire:
    """How long things take on the line."""

    baud: int
    framing: str = "8N1"
    _char_bits: int = field(init=False, repr=False)

    def __post_init__(self) -> None:
        parity = 0 if self.framing[1] == "N" else 1
        bits = 1 + int(self.framing[0]) + parity + int(self.framing[2])
        object.__setattr__(self, "_char_bits", bits)

    def us(self, chars: int) -> int:
        """Microseconds that `chars` characters take, rounded up."""
        return -(-chars * self._char_bits * 1_000_000 // self.baud)

    @property
    def pause_us(self) -> int:
        """The 3.5-character silence before a frame, rounded up; fixed above 19200 baud."""
        if self.baud > _FAST_BAUD:
            return _FAST_PAUSE_US
        return -(-7 * _PAUSE_CHAR_BITS * 1_000_000 // (2 * self.baud))
