"""What can be made to go wrong on the bus and in the meter. Pure: a request and its reply in, what to
send and when out."""

from __future__ import annotations

from dataclasses import dataclass

from hil.charger.rtu import Request, crc16, frame

# Faults of one reply; each has a `count` of replies it spoils, 0 until it is cleared.
REPLY_FAULTS = (
    "timeout",
    "late",
    "crc",
    "exception",
    "wrong_unit",
    "wrong_count",
    "wrong_function",
)
# Faults of the meter itself, until they are cleared.
METER_FAULTS = ("nan", "freeze", "jump_back")
_READS = range(1, 5)


@dataclass(slots=True)
class Fault:
    """`left` None means until cleared. `function` and `address` narrow it to requests that ask for
    that function, or whose range covers that address."""

    name: str
    left: int | None
    ms: int = 0
    code: int = 4
    function: int | None = None
    address: int | None = None

    def matches(self, request: Request) -> bool:
        if self.function is not None and request.function != self.function:
            return False
        if self.address is None:
            return True
        first = request.address
        if first is None:
            return False
        several = request.function in _READS or request.function in (15, 16)
        count = int.from_bytes(request.pdu[3:5], "big") if several else 1
        return first <= self.address < first + count


@dataclass(frozen=True, slots=True)
class Reply:
    """Bytes to send (none: stay silent) and how much later than a healthy device would."""

    data: bytes
    delay_ms: int = 0


def spoil(fault: Fault | None, unit: int, pdu: bytes) -> Reply:
    """The reply `pdu` of `unit` as `fault` lets it out."""
    good = frame(unit, pdu)
    if fault is None:
        return Reply(good)
    if fault.name == "timeout":
        return Reply(b"")
    if fault.name == "late":
        return Reply(good, fault.ms)
    if fault.name == "crc":
        return Reply(good[:-1] + bytes((good[-1] ^ 0x01,)))
    if fault.name == "exception":
        return Reply(frame(unit, bytes((pdu[0] | 0x80, fault.code))))
    if fault.name == "wrong_unit":
        return Reply(frame(unit % 247 + 1, pdu))
    if fault.name == "wrong_function":
        return Reply(frame(unit, bytes((pdu[0] ^ 0x07,)) + pdu[1:]))
    if fault.name == "wrong_count":
        return Reply(_one_word_less(unit, pdu))
    raise ValueError(f"no such fault: {fault.name}")


def _one_word_less(unit: int, pdu: bytes) -> bytes:
    """A well-formed reply to a shorter request; a reply too short for that is cut on the line."""
    if pdu[0] in (3, 4) and len(pdu) > 4:
        return frame(unit, bytes((pdu[0], pdu[1] - 2)) + pdu[2:-2])
    body = bytes((unit,)) + pdu[:-1]
    return body + crc16(body)
