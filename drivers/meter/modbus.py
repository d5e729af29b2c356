"""Modbus RTU as data: requests, replies, the check of a reply against its request. No I/O, no clock.

Sources: "MODBUS Application Protocol Specification V1.1b3" ch. 6 and 7 (functions, exceptions) and
"MODBUS over Serial Line Specification and Implementation Guide V1.02" ch. 2.5 (RTU frame, CRC, pauses).

RTU has no transaction number. The only link between a reply and its request is what the reply repeats:
unit, function, byte count, and for writes the address and value. All of it is checked here; what the
shape cannot tell (an old reply of the same shape) is kept out by the bus master's quarantine.
"""

from __future__ import annotations

import struct
from collections.abc import Callable
from dataclasses import dataclass, field
from enum import IntEnum
from typing import ClassVar

# --- Failures -------------------------------------------------------------------------------------


class BusError(Exception):
    """A request brought no usable answer. `why` is for a person; nothing is known about a write."""

    def __init__(self, why: str) -> None:
        super().__init__(why)
        self.why = why


class Timeout(BusError):
    """Nothing, or not the whole reply, came in the time the device is given."""


class BadFrame(BusError):
    """Bytes came that are not the reply to this request: checksum, unit, function, count or echo."""


class Echo(BadFrame):
    """The request itself came back: the adapter hears its own transmitter."""


class LineGone(BusError):
    """The serial line could not be opened or was lost."""


class Babbling(BusError):
    """The bus never became quiet, so no request could be sent without risk."""


class QueueFull(BusError):
    """More requests wait for the bus than it can serve in useful time."""


class ExceptionReply(BusError):
    """The device answered, with an exception `code` (V1.1b3 ch. 7)."""

    NAMES: ClassVar[dict[int, str]] = {
        1: "illegal function",
        2: "illegal register address",
        3: "illegal value or count",
        4: "device failure",
        5: "acknowledged, still working",
        6: "device busy",
        8: "memory parity error",
        10: "gateway path unavailable",
        11: "gateway target did not respond",
    }
    # The device does not know what it was asked: another try tells the same.
    CONFIGURATION = frozenset({1, 2, 3})
    # Worth another try, later: the device said so itself.
    BUSY = frozenset({5, 6})
    # From a gateway, not from the device: the device may still answer, late.
    GATEWAY = frozenset({10, 11})

    def __init__(self, code: int) -> None:
        super().__init__(f"exception {code} ({self.NAMES.get(code, 'not a standard code')})")
        self.code = code

    @property
    def is_configuration(self) -> bool:
        return self.code in self.CONFIGURATION

    @property
    def is_busy(self) -> bool:
        return self.code in self.BUSY

    @property
    def is_of_gateway(self) -> bool:
        return self.code in self.GATEWAY


# --- Checksum -------------------------------------------------------------------------------------


def _crc_table() -> tuple[int, ...]:
    table = []
    for byte in range(256):
        crc = byte
        for _ in range(8):
            crc = (crc >> 1) ^ 0xA001 if crc & 1 else crc >> 1
        table.append(crc)
    return tuple(table)


_CRC = _crc_table()


def crc16(data: bytes) -> int:
    """CRC-16 of V1.02 ch. 2.5.1.2: polynomial A001 reflected, start FFFF."""
    crc = 0xFFFF
    for byte in data:
        crc = (crc >> 8) ^ _CRC[(crc ^ byte) & 0xFF]
    return crc


def with_crc(body: bytes) -> bytes:
    """`body` plus its checksum, low byte first."""
    return body + crc16(body).to_bytes(2, "little")


# --- Requests -------------------------------------------------------------------------------------


class Function(IntEnum):
    """Function codes in use (V1.1b3 ch. 6)."""

    READ_COILS = 1
    READ_DISCRETE = 2
    READ_HOLDING = 3
    READ_INPUT = 4
    WRITE_COIL = 5
    WRITE_REGISTER = 6
    WRITE_COILS = 15
    WRITE_REGISTERS = 16
    READ_WRITE = 23


@dataclass(frozen=True, slots=True)
class Shape:
    """How a function looks on the wire: what it reads and writes (`bits`, `words` or nothing), and
    how many at most (V1.1b3 ch. 6)."""

    reads: str = ""
    writes: str = ""
    most_read: int = 0
    most_written: int = 0


SHAPES: dict[Function, Shape] = {
    Function.READ_COILS: Shape(reads="bits", most_read=2000),
    Function.READ_DISCRETE: Shape(reads="bits", most_read=2000),
    Function.READ_HOLDING: Shape(reads="words", most_read=125),
    Function.READ_INPUT: Shape(reads="words", most_read=125),
    Function.WRITE_COIL: Shape(writes="bits", most_written=1),
    Function.WRITE_REGISTER: Shape(writes="words", most_written=1),
    Function.WRITE_COILS: Shape(writes="bits", most_written=1968),
    Function.WRITE_REGISTERS: Shape(writes="words", most_written=123),
    Function.READ_WRITE: Shape(reads="words", writes="words", most_read=125, most_written=121),
}

_SINGLE = (Function.WRITE_COIL, Function.WRITE_REGISTER)
_COIL_ON = 0xFF00
_EXCEPTION_BIT = 0x80
EXCEPTION_BYTES = 5  # unit, function with bit 7, code, two checksum bytes
WRITE_REPLY_BYTES = 8
# Bytes behind a complete reply that can be line noise; from this many on it can be a frame.
SHORTEST_FRAME = 5


def _words(values: tuple[int, ...]) -> bytes:
    return b"".join(value.to_bytes(2, "big") for value in values)


def _bits(values: tuple[int, ...]) -> bytes:
    packed = bytearray((len(values) + 7) // 8)
    for at, value in enumerate(values):
        packed[at // 8] |= value << (at % 8)
    return bytes(packed)


@dataclass(frozen=True, slots=True)
class Request:
    """One request to one unit (1 to 247; broadcasts have no reply and are not offered).

    `address` is the wire address (from zero). `count` is how many are read; `values` are written to
    `address`, or to `write_address` for READ_WRITE. Raises ValueError for what cannot go on the wire.
    """

    unit: int
    function: Function
    address: int
    count: int = 0
    values: tuple[int, ...] = ()
    write_address: int = 0
    frame: bytes = field(init=False, repr=False)

    def __post_init__(self) -> None:
        shape = SHAPES[self.function]
        if not 1 <= self.unit <= 247:
            raise ValueError(f"unit {self.unit}: expected 1 to 247")
        if self.count != 0 and not shape.reads:
            raise ValueError(f"{self.function.name} reads nothing, count is {self.count}")
        if shape.reads and not 1 <= self.count <= shape.most_read:
            raise ValueError(f"count {self.count}: expected 1 to {shape.most_read}")
        written = len(self.values)
        if not (1 if shape.writes else 0) <= written <= shape.most_written:
            raise ValueError(f"{written} values: expected up to {shape.most_written}")
        top = 1 if shape.writes == "bits" else 0xFFFF
        if any(not 0 <= value <= top for value in self.values):
            raise ValueError(f"values {self.values}: expected 0 to {top} each")
        for start, many in (
            (self.address, max(self.count, 1 if shape.reads else written)),
            (self.write_address, written if self.function is Function.READ_WRITE else 0),
        ):
            if start < 0 or start + many > 0x10000:
                raise ValueError(f"address {start} with {many} items: expected within 0 to 65535")
        object.__setattr__(self, "frame", with_crc(bytes([self.unit]) + self._pdu()))

    @property
    def writes(self) -> bool:
        return bool(SHAPES[self.function].writes)

    def _pdu(self) -> bytes:
        head = bytes([self.function]) + self.address.to_bytes(2, "big")
        match self.function:
            case Function.WRITE_COIL:
                return head + (_COIL_ON if self.values[0] else 0).to_bytes(2, "big")
            case Function.WRITE_REGISTER:
                return head + _words(self.values)
            case Function.READ_WRITE:
                payload = self.write_address.to_bytes(2, "big") + _counted(_words, self.values)
                return head + self.count.to_bytes(2, "big") + payload
            case Function.WRITE_COILS:
                return head + _counted(_bits, self.values)
            case Function.WRITE_REGISTERS:
                return head + _counted(_words, self.values)
            case _:
                return head + self.count.to_bytes(2, "big")

    @property
    def data_bytes(self) -> int:
        """Bytes of data a read's reply carries; 0 for plain writes."""
        if SHAPES[self.function].reads == "bits":
            return (self.count + 7) // 8
        return 2 * self.count

    @property
    def reply_bytes(self) -> int:
        """Length of the whole good reply."""
        return 5 + self.data_bytes if SHAPES[self.function].reads else WRITE_REPLY_BYTES

    def describe(self) -> str:
        many = self.count or len(self.values)
        return (
            f"unit {self.unit}, function {int(self.function)}, address {self.address}, count {many}"
        )


def _counted(pack: Callable[[tuple[int, ...]], bytes], values: tuple[int, ...]) -> bytes:
    data = pack(values)
    return len(values).to_bytes(2, "big") + bytes([len(data)]) + data


# --- Replies --------------------------------------------------------------------------------------


def values_of(request: Request, pdu: bytes) -> tuple[int, ...]:
    """What a whole reply (function and data, as long as they claim to be) says: bits as 0 or 1, registers,
    or what was written. Raises ExceptionReply, and BadFrame for what does not answer `request`."""
    function, shape = pdu[0], SHAPES[request.function]
    if function == request.function | _EXCEPTION_BIT and len(pdu) == EXCEPTION_BYTES - 3:
        raise ExceptionReply(pdu[1])
    if function != request.function:
        raise BadFrame(f"function {function} in answer to {request.describe()}")
    if len(pdu) != request.reply_bytes - 3:
        raise BadFrame(f"{len(pdu)} bytes in answer to {request.describe()}")
    if not shape.reads:
        if pdu != request.frame[1:6]:
            raise BadFrame(f"another address or value acknowledged, for {request.describe()}")
        return request.values
    if pdu[1] != request.data_bytes:
        raise BadFrame(f"{pdu[1]} data bytes in answer to {request.describe()}")
    if shape.reads == "words":
        return struct.unpack(f">{request.count}H", pdu[2:])
    bits = int.from_bytes(pdu[2:], "little")
    return tuple(bits >> at & 1 for at in range(request.count))


class Receiver:
    """Collects the reply to one request, by length and never by silence (USB adapters hide gaps).

    `feed` returns None while bytes are missing and the values once the reply is whole (bits as 0 or 1;
    what was written for a write). It raises BadFrame as soon as the bytes cannot become the reply, and
    ExceptionReply for a well-formed exception. After either it must not be fed again."""

    def __init__(self, request: Request) -> None:
        self.request = request
        self._got = bytearray()

    @property
    def got(self) -> int:
        """Bytes received so far."""
        return len(self._got)

    @property
    def surplus(self) -> int:
        """Bytes behind the end of the complete reply."""
        return max(0, len(self._got) - self._length())

    def _length(self) -> int:
        if len(self._got) > 1 and self._got[1] & _EXCEPTION_BIT:
            return EXCEPTION_BYTES
        return self.request.reply_bytes

    def feed(self, data: bytes) -> tuple[int, ...] | None:
        self._got += data
        got, request = self._got, self.request
        if len(got) < 2:
            return None
        if got[0] != request.unit:
            raise self._bad(f"a frame of unit {got[0]}")
        if got[1] & ~_EXCEPTION_BIT != request.function:
            raise self._bad(f"function {got[1]}")
        length = self._length()
        shape = SHAPES[request.function]
        is_exception = bool(got[1] & _EXCEPTION_BIT)
        if shape.reads and not is_exception and len(got) > 2 and got[2] != request.data_bytes:
            raise self._bad(f"{got[2]} data bytes instead of {request.data_bytes}")
        if len(got) < length:
            return None
        frame = bytes(got[:length])
        if with_crc(frame[:-2]) != frame:
            raise self._bad("a wrong checksum")
        if self.surplus >= SHORTEST_FRAME:
            # Two frames where one was owed: which of them answers this request cannot be known.
            raise self._bad(f"{self.surplus} bytes behind the reply")
        return values_of(request, frame[1:-2])

    def _bad(self, seen: str) -> BadFrame:
        # A write of one item is acknowledged by the same bytes, so there an echo cannot be told; four
        # bytes are enough to tell it from a reply whose count alone is wrong.
        if len(self._got) >= 4 and self.request.frame.startswith(
            self._got[: len(self.request.frame)]
        ):
            return Echo(f"the line echoes the request ({self.request.describe()})")
        return BadFrame(f"{seen} in answer to {self.request.describe()}")
