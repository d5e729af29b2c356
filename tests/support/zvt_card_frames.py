"""Messages of a terminal that tells card numbers where it should not: in every field, tag and text, in every
coding, in messages that are whole, cut short or wrong in a length. Cheap to make, all from one seed.

`told_digits` finds eleven digits of a number in what was printed of such a message."""

from __future__ import annotations

import random
import re
from collections.abc import Iterator
from dataclasses import dataclass

from drivers.terminal.zvt.tables import BMPS, Form

DIGITS_MAX = 10  # that may be seen: first six and last four
PIECE = DIGITS_MAX + 1
# Ranges of real schemes, by length; the digits after them are random, the last one is right.
PREFIXES = {
    12: ("5018", "6304"),
    13: ("4", "5038"),
    14: ("300", "36", "38"),
    15: ("34", "37"),
    16: ("4", "51", "55", "2221", "6011", "3528"),
    17: ("5893",),
    18: ("6761",),
    19: ("6725", "6205", "4"),
}
LENGTHS = (12, 13, 14, 15, 16, 16, 16, 16, 17, 18, 19, 19)
SEPARATORS = (" ", "-", "  ", "\u00a0", ".", "/", "_", ":")


def _hex_words(words: str) -> tuple[bytes, ...]:
    return tuple(bytes.fromhex(word) for word in words.split())


# Tags of the tables, tags of EMV, and some that nobody knows; constructed ones hold others.
TAGS = _hex_words(
    """07 08 09 0a 12 14 15 1a 1b 1c 1d 1e 41 42 43 44 45 46 47 48 4c 4f 50 56 57 58 5a 9f1f 9f20 9f6b
    5f20 5f24 5f34 9f0b 1f00 1f01 1f04 1f05 1f06 1f07 1f0b 1f0e 1f0f 1f10 1f11 1f12 1f14 1f15 1f16 1f17
    1f1f 1f2b 1f37 1f40 1f41 1f42 1f43 1f44 1f45 1f4c 1f4d 1f4f 1f50 1f5b 1f60 1f62 1f63 1f6d 1f70 1f71
    1f72 1f73 c1 df01 9f02 9f10 9f36 1f8001 1f7f 04 13 40"""
)
CONTAINERS = _hex_words("23 24 25 26 2d 2f 34 60 61 62 e1 e4 e6 e9 e0 ff40 3f")
# Control fields of the terminal's messages, of answers, and of what it should not send.
COMMANDS = _hex_words(
    """040f 040f 040f 040f 040f 04ff 060f 060f 061e 061e 06d1 06d3 06d3 8000 841e 8483 84a0 0401 040c
    040d 040e 06d0 06d8 06da 06e4 0600 0601 0622 0623 0625 06c0 06e6 0fa1 1234 7fff"""
)
FIELDS = [n for n in BMPS if n != 0x06]
RESULT = bytes.fromhex("27000400000000500049097887023188000001")


def check_digit(digits: str) -> str:
    total = 0
    for place, digit in enumerate(reversed(digits)):
        value = int(digit) * (1 if place % 2 else 2)
        total += value - 9 if value > 9 else value
    return str(-total % 10)


def card_number(rng: random.Random) -> str:
    length = rng.choice(LENGTHS)
    head = rng.choice(PREFIXES[length])
    digits = head + "".join(rng.choices("0123456789", k=length - len(head) - 1))
    return digits + check_digit(digits)


# --- How it is written ----------------------------------------------------------------------------


def bcd(digits: str, pad: str = "f") -> bytes:
    return bytes.fromhex(digits + pad * (len(digits) % 2))


def grouped(rng: random.Random, pan: str) -> bytes:
    separator = rng.choice(SEPARATORS)
    groups = (4, 6, 5) if len(pan) == 15 else (4, 4, 4, 4, 3)
    out, at = [], 0
    for size in groups:
        out.append(pan[at : at + size])
        at += size
    text = separator.join(part for part in out if part)
    return text.encode(rng.choice(("cp437", "latin-1", "utf-8")))


def coded(rng: random.Random, pan: str) -> bytes:
    """The number, or a track that holds it, as bytes."""
    expiry = f"{rng.randrange(24, 40)}{rng.randrange(1, 13):02d}"
    way = rng.randrange(13)
    if way < 2:
        return bcd(pan)
    if way < 5:
        return pan.encode()
    if way < 7:
        return grouped(rng, pan)
    if way == 7:
        return bcd(pan.rjust(20, "0"))
    if way == 8:
        return bcd(pan, "0") + bcd(expiry)
    if way == 9:
        return bcd(f"{pan}d{expiry}201{rng.randrange(10**8):08d}")
    if way == 10:
        return f";{pan}={expiry}201{rng.randrange(10**8):08d}?".encode()
    if way == 11:
        return f"%B{pan}^MUSTERMANN/ERIKA^{expiry}201{rng.randrange(10**6):06d}?".encode()
    return f"Karte: {pan} gueltig bis {expiry}".encode()


# --- Where it stands ------------------------------------------------------------------------------


def tlv(tag: bytes, value: bytes) -> bytes:
    size = len(value)
    if size < 0x80:
        return tag + bytes([size]) + value
    if size < 0x100:
        return tag + b"\x81" + bytes([size]) + value
    return tag + b"\x82" + size.to_bytes(2, "big") + value


def bitmap(number: int, value: bytes) -> bytes:
    bmp = BMPS[number]
    if bmp.form is Form.FIXED:
        return bytes([number]) + value[: bmp.size].ljust(bmp.size, b"\0")
    count = 2 if bmp.form is Form.LL else 3
    value = value[: 10**count - 1]
    return bytes([number]) + bytes(0xF0 | int(d) for d in f"{len(value):0{count}d}") + value


def tags(rng: random.Random, pan: str) -> bytes:
    tag = tlv(rng.choice(TAGS), coded(rng, pan))
    for _ in range(rng.choice((0, 0, 1, 1, 2, 3))):
        tag = tlv(rng.choice(CONTAINERS), tag)
    return tag


def fields(rng: random.Random, pan: str) -> bytes:
    """One or more bitmaps that hold the number, whole or in two parts."""
    way = rng.randrange(8)
    if way < 4:
        return bitmap(rng.choice(FIELDS), coded(rng, pan))
    if way < 7:
        return tlv(b"\x06", b"".join(tags(rng, pan) for _ in range(rng.choice((1, 1, 2)))))
    cut = rng.randrange(2, len(pan) - 1)
    parts = (pan[:cut].encode(), pan[cut:].encode())
    return b"".join(bitmap(rng.choice(FIELDS), part) for part in parts)


def print_block(rng: random.Random, pan: str) -> bytes:
    lines = [b"Kartenzahlung", b"PAN " + coded(rng, pan), b"Betrag 12,50 EUR"]
    text = b"".join(tlv(b"\x09", b"\x00") + tlv(b"\x07", line) for line in lines)
    return tlv(b"\x06", tlv(b"\x1f\x07", b"\x02") + tlv(b"\x25", text))


def body(rng: random.Random, command: bytes, pan: str) -> bytes:
    head = b""
    if command == b"\x06\xd1":
        return bytes([rng.choice((0x00, 0x40, 0x80, 0xC0))]) + coded(rng, pan)
    if command == b"\x06\xd3" and rng.random() < 0.7:
        return print_block(rng, pan)
    if command == b"\x04\xff":
        head = bytes([rng.choice((0x0E, 0x0A, 0xFF))]) + rng.choice((b"", b"\x02"))
    elif command == b"\x06\x1e":
        head = bytes([rng.choice((0x6C, 0xB8, 0x05, 0x6F))])
    elif command == b"\x06\x0f" and rng.random() < 0.3:
        version = coded(rng, pan)[:30]
        head = bytes(0xF0 | int(d) for d in f"{len(version):03d}") + version + b"\x00"
    elif command == b"\x04\x0f" and rng.random() < 0.6:
        head = RESULT
    if rng.random() < 0.1:
        return head + coded(rng, pan)
    return head + b"".join(fields(rng, pan) for _ in range(rng.choice((1, 1, 1, 2, 3))))


def apdu(command: bytes, data: bytes, *, extended: bool = False) -> bytes:
    if extended or len(data) >= 0xFF:
        return command + b"\xff" + len(data).to_bytes(2, "little") + data
    return command + bytes([len(data)]) + data


def spoiled(rng: random.Random, message: bytes) -> bytes:
    """Cut short, a length that is wrong, bytes too many, or a byte that is another one."""
    way = rng.randrange(4)
    at = rng.randrange(2, len(message))
    if way == 0:
        return message[:at]
    if way == 1:
        return message + rng.randbytes(rng.randrange(1, 4))
    if way == 2:
        return message[:at] + bytes([message[at] ^ (1 << rng.randrange(8))]) + message[at + 1 :]
    # The APDU's length is right; something inside it is not.
    data = bytearray(message[3:] if message[2] != 0xFF else message[5:])
    if data:
        data[rng.randrange(len(data))] = rng.choice((0x00, 0x06, 0x22, 0x81, 0xF0, 0xF9, 0xFF))
    return apdu(message[:2], bytes(data))


_SEPARATED = str.maketrans("", "", " -./_:*,|\t\u00a0\u2007\u202f")
_BLANKS = str.maketrans("", "", " -\t\u00a0")
_MANY = re.compile(rf"[0-9]{{{PIECE}}}")
# Escapes of JSON and of reprs have digits of their own.
_IDENTIFIERS = re.compile(
    r'"(?:43|4c|1f14|1f45|card_token|uid_tag)": (?:"[^"]*"|\[[^]]*\])|"aids": \[[^]]*\]|emv_aid\': \'[^\']*'
)
_ESCAPE = re.compile(r"\\+(?:u[0-9a-f]{4}|x[0-9a-f]{2})")
_CONTROL = re.compile(r"\\x(?:0[1-8]|1[0-9])")


@dataclass(frozen=True, slots=True)
class Case:
    """A card number and a message that holds it, `whole` or spoiled."""

    pan: str
    data: bytes
    whole: bool

    def told_in(self, text: str, *, closely: bool = False) -> str:
        """What `text` tells of the number; empty when nothing. `closely`: with nothing but blanks between
        its digits."""
        found = told_digits(self.pan, text, _BLANKS if closely else _SEPARATED)
        if found and not self.whole:
            # Spoiled it may not be a card number any more, and names of cards and applications stay; or
            # its groups are joined by this and that.
            found = told_digits(self.pan, _IDENTIFIERS.sub("", text), _BLANKS)
        return found or ("BCD" if told_bytes(self.pan, text) else "")


def cases(seed: str, count: int) -> Iterator[Case]:
    rng = random.Random(seed)
    for _ in range(count):
        pan = card_number(rng)
        command = rng.choice(COMMANDS)
        message = apdu(command, body(rng, command, pan), extended=rng.random() < 0.05)
        whole = rng.random() < 0.8
        yield Case(pan, message if whole else spoiled(rng, message), whole)


# --- Whether it was told --------------------------------------------------------------------------


def told_digits(pan: str, text: str, separators: dict[int, int | None] = _SEPARATED) -> str:
    """Eleven digits of `pan` that stand in `text`, plain (which BCD in hex is, too), with separators, or
    as ASCII in hex; empty when there are none."""
    if _MANY.search(text.translate(separators)) is None:
        return ""
    text = _ESCAPE.sub("~", text)
    for form in (text, text.translate(separators)):
        for at in range(len(pan) - DIGITS_MAX):
            piece = pan[at : at + PIECE]
            if piece in form or "3" + "3".join(piece) in form:
                return piece
    return ""


def told_bytes(pan: str, text: str) -> bool:
    """Whether `text` is a repr that shows the number in BCD: no digits, but it can be read. Characters
    that are all printable are left out: nobody can tell them from a word."""
    if _CONTROL.search(text) is None:
        return False
    for at in range(len(pan) - 2 * 6 + 1):
        piece = repr(bytes.fromhex(pan[at : at + 12]))[2:-1]
        if _CONTROL.search(piece) and piece in text:
            return True
    return False
