"""How single values stand in bytes: BCD, binary, text. Each pair is a bijection, so that a decoded
message encodes to the same bytes."""

from __future__ import annotations

Value = int | str

# PA00P015: the default character set of displays and printers.
CHARSET = "cp437"


class Malformed(ValueError):
    """Bytes that are no ZVT message. `at` is the offset where reading stopped."""

    def __init__(self, why: str, at: int) -> None:
        super().__init__(f"{why} at byte {at}")
        self.why, self.at = why, at


def bcd(raw: bytes) -> str:
    return raw.hex()


def pack_bcd(value: Value, size: int) -> bytes:
    return bytes.fromhex(str(value).rjust(size * 2, "0"))


def bcd_int(raw: bytes) -> int:
    digits = raw.hex()
    if not digits.isdecimal():
        raise Malformed(f"{digits} is no BCD number", 0)
    return int(digits)


def pack_bcd_int(value: Value, size: int) -> bytes:
    digits = str(int(value)).rjust(size * 2, "0")
    if len(digits) != size * 2 or not digits.isdecimal():
        raise ValueError(f"{value} does not fit {size} BCD bytes")
    return bytes.fromhex(digits)


def binary(raw: bytes) -> int:
    return int.from_bytes(raw, "big")


def pack_binary(value: Value, size: int) -> bytes:
    return int(value).to_bytes(size, "big")


def hex_text(raw: bytes) -> str:
    return raw.hex()


def hex_bytes(value: Value, _size: int) -> bytes:
    return bytes.fromhex(str(value))


def charset_text(raw: bytes) -> str:
    return raw.decode(CHARSET)


def charset_bytes(value: Value, _size: int) -> bytes:
    return str(value).encode(CHARSET)


def ascii_text(raw: bytes) -> str:
    return raw.decode("latin-1")


def ascii_bytes(value: Value, _size: int) -> bytes:
    return str(value).encode("latin-1")


def zero_ended(raw: bytes) -> str:
    return raw.split(b"\0", 1)[0].decode(CHARSET)


def pack_zero_ended(value: Value, size: int) -> bytes:
    return str(value).encode(CHARSET).ljust(size, b"\0")
