"""Takes card data out of a message without taking the message apart: every length stays, so that it can
still be read by others (trace.py). Pure.

Overwritten are the fields that are card data by definition, the password, the card's UID and the terminal's
token, and whatever mask.py would mask: numbers of more than ten digits where a number of that length has
nothing to do. What cannot be read is overwritten as if nobody knew what it means. Rather too much than too
little: this is for people who look for a fault in a dialogue."""

from __future__ import annotations

import re

from drivers.terminal.zvt.codec import apdu_length
from drivers.terminal.zvt.mask import (
    AMOUNT_BYTES,
    DIGITS_SHOWN_MAX,
    PAN_DIGITS,
    amount_minor,
    mask_identifier,
)
from drivers.terminal.zvt.messages import MESSAGES, Message, Part
from drivers.terminal.zvt.primitives import Malformed, Value, ascii_text, charset_text, zero_ended
from drivers.terminal.zvt.tables import (
    BMPS,
    TLV_AMOUNTS,
    TLV_CARD,
    TLV_IDENTIFIERS,
    TLV_TEXT,
    Bmp,
    Card,
    Form,
)

# The nibble with which terminals mask digits (PA00P015, BMP 22).
HIDDEN = 0xEE
MASK = b"*"  # in texts
HIDDEN_EXPIRY = (
    b"\x99\x99"  # what a terminal sends that does not tell it; it stays a date for readers
)
LAST_DIGITS = 4
DEPTH_MAX = 8
# What identifies a person's card or opens the terminal: token, UID, password of a configuration.
SECRET_TAGS = frozenset({"1f14", "4c", "ff40"})
SECRET_BMPS = frozenset({"password_bmp"})
SECRET_PARTS = frozenset({"password"})
TEXT_SHOWS = (charset_text, zero_ended, ascii_text)
# Receipt numbers, then for each of seven brands one byte and an amount.
TOTALS_HEAD, TOTALS_EACH, TOTALS_BYTES = 4, 7, 53
STATUS_ENQUIRY, SYSTEM_INFORMATION = "0501", "0fa1"

# As in mask.py, but for bytes of any character set: a no-break space is A0, FF or C2 A0.
_NUMBER = re.compile(rb"[0-9](?:[ \xa0\xc2\xff-]{0,4}[0-9]){%d,}" % DIGITS_SHOWN_MAX)
_GROUPS = re.compile(rb"[0-9]+(?:[./_:,*|]{1,2}[0-9]{4,})+(?:[./_:,*|]{1,2}[0-9]{1,3})?")
_PLAIN = re.compile(rb"[0-9]{%d,}" % (DIGITS_SHOWN_MAX + 1))
_DIGIT = re.compile(rb"[0-9]")
_NIBBLES = re.compile(rf"[0-9]{{{DIGITS_SHOWN_MAX + 1},}}")
# In BCD where text should be there are bytes that no text has; 14 is none of these, it begins a line in
# large letters. Letters above 7F need a check digit beside them.
_CONTROL = re.compile(rb"[\x01-\x09\x10-\x13\x15-\x19]")
_HIGH = re.compile(rb"[\x80-\xff]")


class _Unreadable(Exception):
    """The structure is not what the tables say."""


def redacted(apdu: bytes, after: str | None = None) -> bytes:
    """The same message, of the same length, without card data. `after` is the control field of the
    command it answers: a Completion is read by that."""
    if apdu_length(apdu) != len(apdu):
        return apdu[:2] + unknown(apdu[2:])
    head = 5 if apdu[2] == 0xFF else 3
    command, data = apdu[:2].hex(), apdu[head:]
    try:
        clean = _data(command, data, after)
    except (_Unreadable, Malformed):
        clean = unknown(data)
    assert len(clean) == len(data)
    # Fields that stand side by side may make a number that none of them is.
    return apdu[:head] + _PLAIN.sub(_stars, clean)


# --- values ---------------------------------------------------------------------------------------


def unknown(value: bytes) -> bytes:
    """Bytes of which nobody knows what they mean: BCD and ASCII digits alike are decimal nibbles."""
    digits = _NIBBLES.sub(lambda run: "e" * len(run.group()), _numbers(value).hex())
    return bytes.fromhex(digits)


def text(value: bytes) -> bytes:
    """Long numbers, in groups or not, and what is packed digits instead of text."""
    clean = _numbers(value)
    digits = clean.hex()
    for run in _NIBBLES.finditer(digits):
        at = run.start() // 2
        packed = clean[at : (run.end() + 1) // 2]
        if _CONTROL.search(packed) or (_HIGH.search(packed) and _has_number(run.group())):
            clean = clean[:at] + MASK * len(packed) + clean[at + len(packed) :]
    return clean


def _has_number(digits: str) -> bool:
    """A card number, from one byte's beginning on, by its check digit."""
    windows = (digits[at : at + size] for at in range(0, len(digits), 2) for size in PAN_DIGITS)
    return any(
        len(window) in PAN_DIGITS and mask_identifier(window) != window for window in windows
    )


def _numbers(value: bytes) -> bytes:
    return _GROUPS.sub(_unless_short, _NUMBER.sub(_stars, value))


def _stars(run: re.Match[bytes]) -> bytes:
    return _DIGIT.sub(MASK, run.group())


def _unless_short(run: re.Match[bytes]) -> bytes:
    """Dates and times are groups of digits, too."""
    return _stars(run) if len(_DIGIT.findall(run.group())) > DIGITS_SHOWN_MAX else run.group()


def identifier(value: bytes) -> bytes:
    """Of a card or an application: only where it is a card number by its check digit."""
    is_clean = mask_identifier(value.hex()) == value.hex() and _numbers(value) == value
    return value if is_clean else bytes([HIDDEN]) * len(value)


def amount(value: bytes) -> bytes:
    return unknown(value) if amount_minor(value) is None else value


def _card(card: Card, value: bytes) -> bytes:
    if card is Card.EXPIRY:
        return (HIDDEN_EXPIRY * len(value))[: len(value)]
    if card is not Card.PAN:
        return bytes([HIDDEN]) * len(value)
    nibbles = value.hex()
    number = nibbles.rstrip("f")
    shown = number[-LAST_DIGITS:]
    hidden = re.sub("[0-9]", "e", number[:-LAST_DIGITS])
    return bytes.fromhex(hidden + shown + "f" * (len(nibbles) - len(number)))


def _totals(value: bytes) -> bytes:
    """BMP 60: its amounts stand next to each other, digit to digit."""
    if len(value) != TOTALS_BYTES:
        return unknown(value)
    clean = value[:TOTALS_HEAD]
    for at in range(TOTALS_HEAD, len(value), TOTALS_EACH):
        clean += value[at : at + 1] + amount(value[at + 1 : at + TOTALS_EACH])
    return clean


def _field(bmp: Bmp, value: bytes) -> bytes:
    if bmp.card is not None:
        return _card(bmp.card, value)
    if bmp.name in SECRET_BMPS:
        return bytes([HIDDEN]) * len(value)
    if bmp.name == "totals":
        return _totals(value)
    if bmp.show in TEXT_SHOWS:
        return text(value)
    return amount(value) if bmp.size == AMOUNT_BYTES else unknown(value)


# --- structure ------------------------------------------------------------------------------------


def _data(command: str, data: bytes, after: str | None) -> bytes:
    if command == "060f" and after == SYSTEM_INFORMATION:
        return text(data)
    if command == "060f" and after == STATUS_ENQUIRY:
        at = _status_bytes(data)
        return text(data[:at]) + _fields(data[at:])
    message = MESSAGES.get(command, Message(""))
    parts, at = _parts(message.parts, data)
    rest = data[at:]
    if message.raw is None:
        return parts + _fields(rest)
    return parts + (text(rest) if message.raw == "text" else unknown(rest))


def _parts(parts: tuple[Part, ...], data: bytes) -> tuple[bytes, int]:
    """The positional values, and where they end."""
    clean = b""
    before: dict[str, Value] = {}
    for part in parts:
        rest = data[len(clean) :]
        if len(rest) < part.size or not part.when(rest, before):
            continue
        value = rest[: part.size]
        before[part.name] = part.show(value)
        clean += bytes([HIDDEN]) * part.size if part.name in SECRET_PARTS else value
    return clean, len(clean)


def _status_bytes(data: bytes) -> int:
    """Software version with its length, and the status byte."""
    if len(data) > 3 and all(byte >= 0xF0 for byte in data[:3]):
        version = 3 + _number(data[:3])
        if version < len(data):
            return version + 1
    return 1


def _number(digits: bytes) -> int:
    if any(byte & 0x0F > 9 for byte in digits):
        raise _Unreadable
    return int("".join(str(byte & 0x0F) for byte in digits))


def _fields(data: bytes) -> bytes:
    """Bitmaps; behind one that nobody knows nothing can be told apart."""
    clean, at, value_at = b"", 0, 0
    while at < len(data):
        bmp = BMPS.get(data[at])
        if bmp is None:
            # A number may have begun in the field before, where there was too little room for it.
            return clean[:value_at] + unknown(clean[value_at:] + data[at:])
        head, size = _span(bmp, data, at + 1)
        value = data[head : head + size]
        if len(value) < size:
            raise _Unreadable
        clean += data[at:head] + (_tags(value) if bmp.form is Form.TLV else _field(bmp, value))
        at, value_at = head + size, head
    return clean


def _span(bmp: Bmp, data: bytes, at: int) -> tuple[int, int]:
    """Where the value begins, and its size."""
    if bmp.form is Form.FIXED:
        return at, bmp.size
    if bmp.form is Form.TLV:
        return _tlv_size(data, at)
    count = 2 if bmp.form is Form.LL else 3
    if at + count > len(data):
        raise _Unreadable
    return at + count, _number(data[at : at + count])


def _tags(data: bytes, depth: int = 0) -> bytes:
    if depth > DEPTH_MAX:
        raise _Unreadable
    clean, at = b"", 0
    while at < len(data):
        end = at + 1
        if data[at] & 0x1F == 0x1F:
            while end < len(data) and data[end] & 0x80:
                end += 1
            end += 1
        name = data[at:end].hex()
        head, size = _tlv_size(data, end)
        value = data[head : head + size]
        if len(value) < size:
            raise _Unreadable
        clean += data[at:head] + _tag(name, value, depth)
        at = head + size
    return clean


def _tag(name: str, value: bytes, depth: int) -> bytes:
    if name in TLV_CARD:
        return _card(TLV_CARD[name], value)
    if name in SECRET_TAGS:
        return bytes([HIDDEN]) * len(value)
    if name in TLV_TEXT:
        return text(value)
    if name in TLV_AMOUNTS:
        return amount(value)
    if name in TLV_IDENTIFIERS:
        return identifier(value)
    if int(name[:2], 16) & 0x20:
        try:
            return _tags(value, depth + 1)
        except _Unreadable:
            return unknown(value)
    return unknown(value)


def _tlv_size(data: bytes, at: int) -> tuple[int, int]:
    """Where the value begins, and its size."""
    first = data[at] if at < len(data) else 0x80
    if first < 0x80:
        return at + 1, first
    count = {0x81: 1, 0x82: 2}.get(first)
    if count is None or at + 1 + count > len(data):
        raise _Unreadable
    return at + 1 + count, int.from_bytes(data[at + 1 : at + 1 + count], "big")
