"""Modbus RTU from the slave's side: framing, CRC, function codes 1 to 6, 15 and 16, exceptions.

Source: Modbus application protocol V1.1b3 ch. 4 to 7, Modbus over serial line V1.02 ch. 2.5.1.
No I/O and no clock: bytes and instants in, requests out.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

MAX_FRAME_BYTES = 256  # serial line V1.02 ch. 2.5.1: nothing longer is a frame
MAX_READ_BITS, MAX_READ_WORDS = 2000, 125
MAX_WRITE_BITS, MAX_WRITE_WORDS = 1968, 123

ILLEGAL_FUNCTION, ILLEGAL_ADDRESS, ILLEGAL_VALUE = 1, 2, 3

_FIXED_LENGTH_FUNCTIONS = range(1, 7)
_COUNTED_FUNCTIONS = (15, 16)


class ModbusException(Exception):
    """The slave answers with an exception of this `code`."""

    def __init__(self, code: int) -> None:
        super().__init__(f"Modbus exception {code}")
        self.code = code


class Device(Protocol):
    """One slave's registers. Words are 0 to 65535; a wrong address or value raises ModbusException."""

    def read_bits(self, function: int, address: int, count: int) -> Sequence[bool]: ...

    def read_words(self, function: int, address: int, count: int) -> Sequence[int]: ...

    def write_bits(self, address: int, values: Sequence[bool]) -> None: ...

    def write_words(self, address: int, values: Sequence[int]) -> None: ...


def crc16(data: bytes) -> bytes:
    """The two check bytes as they follow `data` on the line, low byte first."""
    crc = 0xFFFF
    for byte in data:
        crc = crc >> 8 ^ _CRC[(crc ^ byte) & 0xFF]
    return crc.to_bytes(2, "little")


def _crc_of(byte: int) -> int:
    for _ in range(8):
        byte = byte >> 1 ^ 0xA001 if byte & 1 else byte >> 1
    return byte


_CRC = tuple(map(_crc_of, range(256)))


def frame(unit: int, pdu: bytes) -> bytes:
    body = bytes((unit,)) + pdu
    return body + crc16(body)


def char_time_ns(baud: int, bits: int = 10) -> int:
    return bits * 1_000_000_000 // baud


def frame_silence_ns(baud: int) -> int:
    """3.5 characters of 11 bits; fixed at 1.75 ms above 19200 baud (serial line V1.02 ch. 2.5.1.1)."""
    return 1_750_000 if baud > 19200 else 77 * 500_000_000 // baud


@dataclass(frozen=True, slots=True)
class Request:
    unit: int
    pdu: bytes

    @property
    def function(self) -> int:
        return self.pdu[0]

    @property
    def address(self) -> int | None:
        return int.from_bytes(self.pdu[1:3], "big") if len(self.pdu) >= 3 else None


class RequestFramer:
    """Cuts the master's bytes into requests.

    A request whose function tells its length ends there; any other ends at the silence. A frame that
    does not check out spoils everything up to the next silence, as on a real line."""

    def __init__(self, silence_ns: int) -> None:
        self.silence_ns = silence_ns
        self.bad_frames = 0
        self._buffer = bytearray()
        self._spoilt = False
        self._last_ns: int | None = None

    def feed(self, data: bytes, now_ns: int) -> list[Request]:
        done = self.tick(now_ns)
        self._last_ns = now_ns
        if self._spoilt:
            return done
        self._buffer += data
        while (length := self._expected()) is not None and len(self._buffer) >= length:
            taken = bytes(self._buffer[:length])
            if crc16(taken[:-2]) != taken[-2:]:
                self._spoil()
                break
            del self._buffer[:length]
            done.append(Request(taken[0], taken[1:-2]))
        if len(self._buffer) > MAX_FRAME_BYTES:
            self._spoil()
        return done

    def tick(self, now_ns: int) -> list[Request]:
        """What the silence up to `now_ns` completes: at most one request of unknown length."""
        if self._last_ns is None or now_ns - self._last_ns < self.silence_ns:
            return []
        self._last_ns = None
        left, self._buffer, spoilt = bytes(self._buffer), bytearray(), self._spoilt
        self._spoilt = False
        if spoilt or not left:
            return []
        if len(left) >= 4 and crc16(left[:-2]) == left[-2:]:
            return [Request(left[0], left[1:-2])]
        self.bad_frames += 1
        return []

    def next_deadline_ns(self) -> int | None:
        if self._last_ns is None or not (self._buffer or self._spoilt):
            return None
        return self._last_ns + self.silence_ns

    def clear(self) -> None:
        self._buffer.clear()
        self._spoilt, self._last_ns = False, None

    def _spoil(self) -> None:
        self._buffer.clear()
        self._spoilt = True
        self.bad_frames += 1

    def _expected(self) -> int | None:
        if len(self._buffer) < 2:
            return None
        function = self._buffer[1]
        if function in _FIXED_LENGTH_FUNCTIONS:
            return 8
        if function in _COUNTED_FUNCTIONS and len(self._buffer) >= 7:
            return 9 + self._buffer[6]
        return None


def answer(device: Device, pdu: bytes) -> bytes:
    """The response PDU, normal or exception."""
    try:
        return _answer(device, pdu)
    except ModbusException as error:
        return bytes((pdu[0] | 0x80, error.code))


def _answer(device: Device, pdu: bytes) -> bytes:
    function = pdu[0]
    if function not in _FIXED_LENGTH_FUNCTIONS and function not in _COUNTED_FUNCTIONS:
        raise ModbusException(ILLEGAL_FUNCTION)
    address, number = int.from_bytes(pdu[1:3], "big"), int.from_bytes(pdu[3:5], "big")
    if function in (1, 2):
        _limit(number, MAX_READ_BITS, address)
        packed = _pack(device.read_bits(function, address, number))
        return bytes((function, len(packed))) + packed
    if function in (3, 4):
        _limit(number, MAX_READ_WORDS, address)
        words = device.read_words(function, address, number)
        data = b"".join(word.to_bytes(2, "big") for word in words)
        return bytes((function, len(data))) + data
    if function == 5:
        if number not in (0x0000, 0xFF00):
            raise ModbusException(ILLEGAL_VALUE)
        device.write_bits(address, [number == 0xFF00])
        return pdu
    if function == 6:
        device.write_words(address, [number])
        return pdu
    data = pdu[6:]
    if function == 15:
        _limit(number, MAX_WRITE_BITS, address)
        _same_length(pdu[5], len(data), (number + 7) // 8)
        device.write_bits(address, [bool(data[n // 8] >> n % 8 & 1) for n in range(number)])
    else:
        _limit(number, MAX_WRITE_WORDS, address)
        _same_length(pdu[5], len(data), number * 2)
        device.write_words(
            address, [int.from_bytes(data[n : n + 2], "big") for n in range(0, len(data), 2)]
        )
    return pdu[:5]


def _limit(count: int, most: int, address: int) -> None:
    if not 1 <= count <= most:
        raise ModbusException(ILLEGAL_VALUE)
    if address + count > 0x10000:
        raise ModbusException(ILLEGAL_ADDRESS)


def _same_length(declared: int, present: int, needed: int) -> None:
    if not declared == present == needed:
        raise ModbusException(ILLEGAL_VALUE)


def _pack(bits: Sequence[bool]) -> bytes:
    packed = bytearray((len(bits) + 7) // 8)
    for n, bit in enumerate(bits):
        packed[n // 8] |= bit << n % 8
    return bytes(packed)
