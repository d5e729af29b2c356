"""Fields of ZVT messages as data: bitmaps (PA00P015, chapter on bitmaps) and TLV tags. Which message has
which of them stands in messages.py. One codec (codec.py) reads and writes them all.

Card data is marked here, and dropped by the codec before anything else sees it."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum, auto

from drivers.terminal.zvt.primitives import (
    Pack,
    Show,
    ascii_bytes,
    ascii_text,
    bcd,
    bcd_int,
    bcd_number,
    binary,
    charset_bytes,
    charset_text,
    charset_zero_ended,
    currency_code,
    hex_bytes,
    hex_text,
    pack_bcd,
    pack_bcd_int,
    pack_bcd_number,
    pack_binary,
    pack_currency,
    pack_zero_ended,
    spec_or_utf8_text,
    utf8_bytes,
    zero_ended,
)


class Form(Enum):
    """How the length of a field is told."""

    FIXED = auto()
    LL = auto()  # two bytes Fx Fx
    LLL = auto()  # three bytes
    TLV = auto()  # length as in TLV


class Card(Enum):
    """Card data: what may leave the parser of it."""

    PAN = "pan"  # the last four digits
    TRACK1 = "track1"
    TRACK2 = "track2"
    TRACK3 = "track3"
    EXPIRY = "expiry"
    CVV = "cvv"  # nothing, as of the tracks
    HOLDER = "holder"
    IBAN = "iban"


@dataclass(frozen=True, slots=True)
class Bmp:
    number: int
    name: str
    form: Form
    size: int = 0
    show: Show = hex_text
    pack: Pack = hex_bytes
    card: Card | None = None


def _fixed(number: int, name: str, size: int, show: Show = hex_text, pack: Pack = hex_bytes) -> Bmp:
    return Bmp(number, name, Form.FIXED, size, show, pack)


def _byte_code(number: int, name: str) -> Bmp:
    return _fixed(number, name, 1)


def _number(number: int, name: str, size: int) -> Bmp:
    """BCD; a terminal may fill in F for a number it does not know."""
    return _fixed(number, name, size, bcd_number, pack_bcd_number)


def _text(number: int, name: str, form: Form) -> Bmp:
    return Bmp(number, name, form, 0, charset_text, charset_bytes)


def _card(number: int, card: Card, form: Form, size: int = 0) -> Bmp:
    return Bmp(number, card.value, form, size, card=card)


BMPS: dict[int, Bmp] = {
    b.number: b
    for b in (
        _fixed(0x01, "timeout_s", 1, binary, pack_binary),
        _fixed(0x02, "max_status_infos", 1, binary, pack_binary),
        _byte_code(0x03, "service_byte"),
        _fixed(0x04, "amount_minor", 6, bcd_int, pack_bcd_int),
        _fixed(0x05, "pump", 1, binary, pack_binary),
        Bmp(0x06, "tlv", Form.TLV),
        _number(0x0B, "trace", 3),
        _fixed(0x0C, "time", 3, bcd, pack_bcd),
        _fixed(0x0D, "date", 2, bcd, pack_bcd),
        _card(0x0E, Card.EXPIRY, Form.FIXED, 2),
        _number(0x17, "card_sequence", 2),
        _byte_code(0x19, "payment_type"),
        _card(0x22, Card.PAN, Form.LL),
        _card(0x23, Card.TRACK2, Form.LL),
        _card(0x24, Card.TRACK3, Form.LLL),
        _fixed(0x27, "result", 1, binary, pack_binary),
        _fixed(0x29, "tid", 4, bcd, pack_bcd),
        _fixed(0x2A, "vu", 15, charset_text, charset_bytes),
        _card(0x2D, Card.TRACK1, Form.LL),
        Bmp(0x2E, "sync_chip", Form.LLL),
        _number(0x37, "original_trace", 3),
        _card(0x3A, Card.CVV, Form.FIXED, 2),
        _fixed(0x3B, "aid", 8, zero_ended, pack_zero_ended),
        _text(0x3C, "text", Form.LLL),
        _fixed(0x3D, "password_bmp", 3, bcd, pack_bcd),
        _fixed(0x49, "currency", 2, currency_code, pack_currency),
        Bmp(0x4C, "blocked_goods", Form.LL),
        Bmp(0x60, "totals", Form.LLL),
        *(_fixed(n, f"display_{n:02x}", 4) for n in (0x70, 0x71)),
        *(_byte_code(n, f"display_{n:02x}") for n in range(0x72, 0x77)),
        _fixed(0x87, "receipt", 2, bcd, pack_bcd),
        _number(0x88, "turnover", 3),
        _fixed(0x8A, "card_type", 1, binary, pack_binary),
        Bmp(0x8B, "card_name", Form.LL, 0, charset_zero_ended, charset_bytes),
        _fixed(0x8C, "card_type_network", 1, binary, pack_binary),
        Bmp(0x92, "offline_chip", Form.LLL),
        Bmp(0x9A, "geldkarte", Form.LLL),
        _byte_code(0xA0, "result_code_as"),
        Bmp(0xA7, "chip_ef", Form.LL),
        _fixed(0xAA, "date_full", 3, bcd, pack_bcd),
        Bmp(0xAF, "ef_info", Form.LLL),
        _fixed(0xBA, "aid_parameter", 5),
        _byte_code(0xD0, "algorithm"),
        Bmp(0xD1, "card_offset", Form.LL),
        _byte_code(0xD2, "direction"),
        _byte_code(0xD3, "key_position"),
        _byte_code(0xE0, "input_min"),
        *(_text(n, f"input_{n:02x}", Form.LL) for n in range(0xE1, 0xE9)),
        *(_byte_code(n, f"input_{n:02x}") for n in (0xE9, 0xEA)),
        _fixed(0xEB, "input_eb", 8),
        _fixed(0xF0, "display_s", 1, binary, pack_binary),
        *(_text(n, f"line_{n - 0xF0}", Form.LL) for n in range(0xF1, 0xF9)),
        _fixed(0xF9, "beeps", 1, binary, pack_binary),
        _byte_code(0xFA, "motor"),
        _byte_code(0xFB, "confirm"),
        _byte_code(0xFC, "dialog"),
        _byte_code(0xFD, "device"),
    )
}
BY_NAME: dict[str, Bmp] = {b.name: b for b in BMPS.values()}

# Tags whose value is text; all others are shown as hex.
TLV_TEXT: dict[str, tuple[Show, Pack]] = {
    "07": (charset_text, charset_bytes),
    "1f17": (spec_or_utf8_text, utf8_bytes),
    "1f40": (ascii_text, ascii_bytes),
    "1f41": (ascii_text, ascii_bytes),
    "15": (ascii_text, ascii_bytes),
    "1f62": (ascii_text, ascii_bytes),
    "1f63": (ascii_text, ascii_bytes),
    "44": (charset_text, charset_bytes),
    "42": (charset_text, charset_bytes),
}
# Constructed tags that may stand more than once: always a list.
TLV_REPEATED = frozenset({"60", "61", "62", "24", "25", "0a", "08", "07", "2d"})
# Tags that hold tags. Others may have the constructed bit set around raw bytes (Feig's FF40 and up do):
# their content is read as tags only where it can be.
TLV_CONTAINERS = frozenset(
    {"23", "24", "25", "26", "2d", "2f", "34", "60", "61", "62", "e1", "e4", "e6", "e9"}
)
# Card data as PA00P015 names it (chapter on TLV), and as EMV does (book 3, annex A), should a terminal hand
# it through.
TLV_CARD: dict[str, Card] = {
    "1f08": Card.TRACK1,
    "1f09": Card.TRACK2,
    "1f0a": Card.TRACK3,
    "1f1a": Card.PAN,
    "1f2a": Card.HOLDER,
    "1f5e": Card.IBAN,
    "5a": Card.PAN,
    "56": Card.TRACK1,
    "9f1f": Card.TRACK1,
    "57": Card.TRACK2,
    "9f20": Card.TRACK2,
    "9f6b": Card.TRACK2,
    "58": Card.TRACK3,
    "5f24": Card.EXPIRY,
    "5f20": Card.HOLDER,
    "9f0b": Card.HOLDER,
}
# Card UID, token, application id, ATS: shown as they are, although they may consist of digits.
TLV_IDENTIFIERS = frozenset({"43", "4c", "1f14", "1f45"})
# Amounts: six BCD bytes, of which real ones fill half.
TLV_AMOUNTS = frozenset({"1f0b"})
