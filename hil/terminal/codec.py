"""Fields of the application protocol (PA00P015 ch. 9 and 10): APDU, BMPs, TLV.

Values stay bytes here; `bcd` and friends turn them into numbers where a command needs one."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

POSITIVE = bytes.fromhex("800000")
TLV = 0x06
# BMP number -> bytes of data; -2 and -3 are LLVAR and LLLVAR with that many length bytes.
LL, LLL = -2, -3
FIXED_AND_VAR = {
    0x01: 1, 0x02: 1, 0x03: 1, 0x04: 6, 0x05: 1, 0x0B: 3, 0x0C: 3, 0x0D: 2, 0x0E: 2, 0x17: 2,
    0x19: 1, 0x22: LL, 0x23: LL, 0x24: LLL, 0x27: 1, 0x29: 4, 0x2A: 15, 0x2D: LL, 0x2E: LLL,
    0x37: 3, 0x3A: 2, 0x3B: 8, 0x3C: LLL, 0x3D: 3, 0x49: 2, 0x4C: LL, 0x60: LLL, 0x87: 2, 0x88: 3,
    0x8A: 1, 0x8B: LL, 0x8C: 1, 0x92: LLL, 0x9A: LLL, 0xA0: 1, 0xA7: LL, 0xAA: 3, 0xAF: LLL,
    0x70: 4, 0x71: 4,
    0x72: 1, 0x73: 1, 0x74: 1, 0x75: 1, 0xBA: 5,
    0xD0: 1, 0xD1: LL, 0xD2: 1, 0xD3: 1, 0xE0: 1, 0xE9: 1, 0xEA: 1, 0xEB: 8, 0xF0: 1,
    0xF9: 1, 0xFA: 1, 0xFB: 1, 0xFC: 1, 0xFD: 1,
    **dict.fromkeys(range(0xE1, 0xE9), LL),
    **dict.fromkeys(range(0xF1, 0xF9), LL),
}  # fmt: skip


class Malformed(ValueError):
    """The data ends inside a field, or a length is impossible."""


class UnknownBmp(Malformed):
    """A BMP whose length nobody knows; what follows cannot be read."""


def apdu(control: int, data: bytes = b"") -> bytes:
    """Control field as one number (0x060F), its length, the data."""
    size = len(data)
    length = bytes([size]) if size < 0xFF else b"\xff" + size.to_bytes(2, "little")
    return control.to_bytes(2, "big") + length + data


def split(message: bytes) -> tuple[int, bytes]:
    """Control field and data of a whole APDU."""
    head = 5 if message[2] == 0xFF else 3
    return int.from_bytes(message[:2], "big"), message[head:]


def bcd(number: int, size: int) -> bytes:
    return bytes.fromhex(f"{number:0{size * 2}d}")


def from_bcd(data: bytes) -> int:
    """Raises Malformed for a digit that is none."""
    text = data.hex()
    if not text.isdigit():
        raise Malformed(f"{text} is no BCD number")
    return int(text)


def amount(minor: int) -> bytes:
    return b"\x04" + bcd(minor, 6)


def ll(data: bytes) -> bytes:
    return _var(data, 2)


def lll(data: bytes) -> bytes:
    return _var(data, 3)


def _var(data: bytes, digits: int) -> bytes:
    # Peers exist that refuse a length whose high nibble is not F.
    return bytes(0xF0 | int(digit) for digit in f"{len(data):0{digits}d}") + data


@dataclass(frozen=True, slots=True)
class Field:
    """A BMP where it stands: from its number at `start` to `end`."""

    number: int
    value: bytes
    start: int
    end: int


def fields(data: bytes, *, strict_ll: bool = False) -> dict[int, bytes]:
    """BMPs by number, the last one where a number comes twice. A TLV container is its inner bytes.
    `strict_ll`: a length digit must have the high nibble F, as some terminals insist."""
    return {field.number: field.value for field in walk(data, strict_ll=strict_ll)}


def walk(data: bytes, at: int = 0, *, strict_ll: bool = False) -> Iterator[Field]:
    """Raises Malformed, and UnknownBmp where nothing behind can be read."""
    while at < len(data):
        start = at
        number = data[at]
        at += 1
        if number == TLV:
            size, at = _tlv_length(data, at)
        elif number not in FIXED_AND_VAR:
            raise UnknownBmp(f"BMP {number:02X} is unknown")
        else:
            size = FIXED_AND_VAR[number]
            if size < 0:
                coded = data[at : at - size]
                digits = [byte & 0x0F for byte in coded]
                plain = strict_ll and any(byte < 0xF0 for byte in coded)
                if len(digits) < -size or max(digits) > 9 or plain:
                    raise Malformed(f"BMP {number:02X} has no proper length")
                at -= size
                size = int("".join(str(digit) for digit in digits))
        if at + size > len(data):
            raise Malformed(f"BMP {number:02X} needs {size} bytes, {len(data) - at} are left")
        yield Field(number, data[at : at + size], start, at + size)
        at += size


def tlv(tag: int, *parts: bytes) -> bytes:
    """One TLV object; several parts make a constructed one."""
    value = b"".join(parts)
    size = (tag.bit_length() + 7) // 8 or 1
    return tag.to_bytes(size, "big") + _length(len(value)) + value


def container(*objects: bytes) -> bytes:
    """BMP 06 around TLV objects."""
    value = b"".join(objects)
    return bytes([TLV]) + _length(len(value)) + value


def _length(size: int) -> bytes:
    if size < 0x80:
        return bytes([size])
    return b"\x81" + bytes([size]) if size < 0x100 else b"\x82" + size.to_bytes(2, "big")


def objects(data: bytes) -> list[tuple[int, bytes]]:
    """Tags and values of one level; repeated tags are normal."""
    found = []
    at = 0
    while at < len(data):
        start = at
        at += 1
        if data[start] & 0x1F == 0x1F:
            while at < len(data) and data[at] & 0x80:
                at += 1
            at += 1
        tag = int.from_bytes(data[start:at], "big")
        size, at = _tlv_length(data, at)
        if at + size > len(data):
            raise Malformed(f"tag {tag:X} needs {size} bytes, {len(data) - at} are left")
        found.append((tag, data[at : at + size]))
        at += size
    return found


def _tlv_length(data: bytes, at: int) -> tuple[int, int]:
    if at >= len(data):
        raise Malformed("the data ends before a TLV length")
    first = data[at]
    if first < 0x80:
        return first, at + 1
    count = {0x81: 1, 0x82: 2}.get(first)
    if count is None or at + 1 + count > len(data):
        raise Malformed(f"TLV length byte {first:02X} cannot be read")
    return int.from_bytes(data[at + 1 : at + 1 + count], "big"), at + 1 + count


def tags(fields_: dict[int, bytes]) -> dict[int, bytes]:
    """The outer tags of a command's container, the last one where a tag comes twice."""
    return dict(objects(fields_.get(TLV, b"")))
