"""Blocks on the serial line (PA00P016 ch. 2): DLE STX, data with every DLE doubled, DLE ETX, CRC.

The checksum runs over the undoubled data and the ETX, low byte first on the line. The document names
it CRC-XModem, but gives the polynomial for the bit order of CRC-16/KERMIT, and that is what terminals
use. The two CRC bytes are raw: never doubled, never looked at as DLE.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum, auto

STX, ETX, ACK, DLE, NAK = 0x02, 0x03, 0x06, 0x10, 0x15
POLYNOMIAL = 0x8408
# Control field, length byte FF with its two bytes, and the longest data a length can tell.
MAX_APDU_BYTES = 2 + 3 + 0xFFFF


def checksum(apdu: bytes) -> bytes:
    """The two bytes that follow DLE ETX, as sent."""
    crc = 0
    for byte in apdu + bytes([ETX]):
        crc = crc >> 8 ^ _CRC[(crc ^ byte) & 0xFF]
    return crc.to_bytes(2, "little")


def _crc_of(byte: int) -> int:
    for _ in range(8):
        byte = (byte >> 1) ^ (POLYNOMIAL if byte & 1 else 0)
    return byte


_CRC = tuple(map(_crc_of, range(256)))


def block(apdu: bytes) -> bytes:
    doubled = apdu.replace(bytes([DLE]), bytes([DLE, DLE]))
    return bytes([DLE, STX]) + doubled + bytes([DLE, ETX]) + checksum(apdu)


class Sign(Enum):
    """What can be found on the line besides a good block."""

    ACK = auto()
    NAK = auto()
    BAD = auto()  # a block that cannot be used; NAK it once the line is idle


@dataclass(frozen=True, slots=True)
class Block:
    apdu: bytes


Found = Sign | Block


class Deframer:
    """Bytes in, `Found` out. The owner watches the time between bytes: while `busy`, silence of T1
    must be told with `silence()`."""

    def __init__(self) -> None:
        self._seek()
        self._spoiled = False

    def _seek(self) -> None:
        self._apdu = bytearray()
        self._crc = bytearray()
        self._in_block = False
        self._after_dle = False
        self._closed = False

    @property
    def busy(self) -> bool:
        """Something has begun that silence would end."""
        return self._in_block or self._after_dle or self._spoiled

    def silence(self) -> list[Found]:
        """The line has been idle for T1. A block that was cut short, or that spoiled, is BAD."""
        bad = self._spoiled or self._in_block
        self._spoiled = False
        self._seek()
        return [Sign.BAD] if bad else []

    def feed(self, data: bytes) -> list[Found]:
        found: list[Found] = []
        for byte in data:
            if self._spoiled:
                continue  # drained until silence: a NAK for every byte of garbage would be answered
            if self._closed:
                self._on_crc(byte, found)
            elif self._in_block:
                self._on_body(byte)
            else:
                self._on_idle(byte, found)
        return found

    def _on_idle(self, byte: int, found: list[Found]) -> None:
        if self._after_dle and byte == STX:
            self._in_block, self._after_dle = True, False
            return
        self._after_dle = byte == DLE
        if byte == ACK:
            found.append(Sign.ACK)
        elif byte == NAK:
            found.append(Sign.NAK)

    def _on_body(self, byte: int) -> None:
        if not self._after_dle:
            if byte == DLE:
                self._after_dle = True
            else:
                self._take(byte)
            return
        self._after_dle = False
        if byte == DLE:
            self._take(DLE)
        elif byte == ETX:
            self._closed = True
        else:
            self._spoil()  # DLE before anything else is no legal sequence inside a block

    def _take(self, byte: int) -> None:
        self._apdu.append(byte)
        if len(self._apdu) > MAX_APDU_BYTES:
            self._spoil()

    def _on_crc(self, byte: int, found: list[Found]) -> None:
        self._crc.append(byte)
        if len(self._crc) < 2:
            return
        apdu, crc = bytes(self._apdu), bytes(self._crc)
        if crc == checksum(apdu) and is_whole(apdu):
            self._seek()
            found.append(Block(apdu))
        else:
            self._spoil()

    def _spoil(self) -> None:
        self._seek()
        self._spoiled = True


def is_whole(apdu: bytes) -> bool:
    """Does the length field tell exactly the bytes that are there?"""
    return apdu_size(apdu) == len(apdu)


def apdu_size(data: bytes) -> int | None:
    """Size of the APDU that `data` begins with; None while its length field is incomplete."""
    if len(data) < 3:
        return None
    if data[2] != 0xFF:
        return 3 + data[2]
    return 5 + int.from_bytes(data[3:5], "little") if len(data) >= 5 else None
