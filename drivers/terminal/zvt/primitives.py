"""How single values stand in bytes: BCD, binary, text. Each pair is a bijection, so that a decoded
message encodes to the same bytes."""

from __future__ import annotations

from collections.abc import Callable

Value = int | str
Show = Callable[[bytes], Value]
Pack = Callable[[Value, int], bytes]

# PA00P015: the default character set of displays and printers.
CHARSET = "cp437"
# Tag 14, which names another one in 06 00 and with texts to print.
CHARSET_TAGS = {"ff": "cp437", "fe": "utf-8", "01": "latin-1"}


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
    """For values that decide about money: anything but digits is Malformed."""
    digits = raw.hex()
    if not digits.isdecimal():
        # What stands there instead is not repeated: it could be part of a card number.
        raise Malformed("not a BCD number", 0)
    return int(digits)


def bcd_number(raw: bytes) -> Value:
    """A number, or the hex digits where a terminal fills in F for what it does not know."""
    digits = raw.hex()
    return int(digits) if digits.isdecimal() else digits


def pack_bcd_number(value: Value, size: int) -> bytes:
    return pack_bcd_int(value, size) if isinstance(value, int) else bytes.fromhex(value)


def currency_code(raw: bytes) -> str:
    """ISO 4217 number in two BCD bytes: the three digits, or all four where the first is not 0."""
    digits = raw.hex()
    return digits[1:] if digits[0] == "0" else digits


def pack_currency(value: Value, _size: int) -> bytes:
    return bytes.fromhex(str(value).rjust(4, "0"))


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


def spec_or_utf8_text(raw: bytes) -> str:
    """Error texts: CP437 by the document, UTF-8 in fact at Feig."""
    try:
        return raw.decode("utf-8")
    except UnicodeDecodeError:
        return raw.decode(CHARSET)


def utf8_bytes(value: Value, _size: int) -> bytes:
    return str(value).encode("utf-8")


def shown(show: Show, raw: bytes, charset: str) -> Value:
    """`show` for a terminal that writes its texts in `charset`. What is no text stays as it is; a byte
    that is none of the set becomes a replacement mark."""
    if show is charset_text:
        return raw.decode(charset, "replace")
    if show is charset_zero_ended:
        return raw.split(b"\0", 1)[0].decode(charset, "replace")
    return show(raw)


def packed(pack: Pack, value: Value, size: int, charset: str) -> bytes:
    """The other way round. Raises ValueError for text that has no place in `charset`."""
    return str(value).encode(charset) if pack is charset_bytes else pack(value, size)


def zero_ended(raw: bytes) -> str:
    """For what is sent back: one character for each byte, whatever the terminal's texts are in."""
    return raw.split(b"\0", 1)[0].decode(CHARSET)


def charset_zero_ended(raw: bytes) -> str:
    """As zero_ended, for people: in the terminal's character set."""
    return zero_ended(raw)


def pack_zero_ended(value: Value, size: int) -> bytes:
    return str(value).encode(CHARSET).ljust(size, b"\0")
