"""Digits that could be a card number do not leave the driver, wherever a terminal put them.

The codec drops the fields that are card data by definition (codec.py). This is for the others: free texts
of hosts, and tags nobody knows, in which a terminal may repeat the number."""

from __future__ import annotations

import re

# A PAN has at least 12 digits (ISO/IEC 7812-1); its first six and last four alone may be shown (PCI DSS
# 3.4.1), which together are ten.
DIGITS_SHOWN_MAX = 10
PAN_DIGITS = range(12, 20)
MASK = "*"

# In texts numbers stand in groups: spaces, dashes and what is shown as a space between two digits do not end
# a number. Dates and times have dots, slashes and colons: these join only to groups of four digits and more.
_IN_TEXT = re.compile(
    rf"[0-9](?:[ \u00a0\x00-\x09\x0b\x0c\x0e-\x1f-]{{0,2}}[0-9]){{{DIGITS_SHOWN_MAX},}}"
)
_IN_GROUPS = re.compile(r"[0-9]+(?:[./_:,*|]{1,2}[0-9]{4,})+(?:[./_:,*|]{1,2}[0-9]{1,3})?")
_EXPIRY = re.compile(r"0?[0-9]{2}(?:0[1-9]|1[0-2])")  # perhaps behind the digit that fills a byte
_IN_ASCII = re.compile(rf"(?:3[0-9](?:20|2d|a0)?){{{DIGITS_SHOWN_MAX + 1},}}")
_IN_HEX = re.compile(rf"[0-9]{{{DIGITS_SHOWN_MAX + 1},}}")
# BCD that was read as text: characters whose code has two decimal digits, of which one at least is a
# control character. Texts have none but line ends, tabs and the zeros that fill a field.
_AS_TEXT = re.compile(r"[\x00-\x09\x10-\x19 -)0-9@-IP-Y`-ip-y\x80-\x89\x90-\x99]{6,}")
_CONTROL = re.compile(r"[\x01-\x08\x10-\x19]")

# An amount field has twelve digits. One that fills them is not an amount of this world, and could be part
# of a card number.
AMOUNT_BYTES = 6
AMOUNT_MINOR_MAX = 10**DIGITS_SHOWN_MAX - 1


def amount_minor(raw: bytes) -> int | None:
    """Six BCD bytes as an amount; None for what is none."""
    digits = raw.hex()
    if len(raw) != AMOUNT_BYTES or not digits.isdecimal():
        return None
    return int(digits) if int(digits) <= AMOUNT_MINOR_MAX else None


def mask_text(text: str) -> str:
    """`text` with every number of more than ten digits replaced."""
    text = _IN_GROUPS.sub(_unless_short, _IN_TEXT.sub(MASK, text))
    if _CONTROL.search(text) is None:
        return text
    # As bytes again: CP437 has other characters than latin-1 above 7F, one for each byte.
    try:
        raw = text.encode("cp437").decode("latin-1")
    except UnicodeEncodeError:
        raw = text
    for run in reversed([r for r in _AS_TEXT.finditer(raw) if _CONTROL.search(r.group())]):
        text = text[: run.start()] + MASK + text[run.end() :]
    return text


def _unless_short(found: re.Match[str]) -> str:
    text = found.group()
    return MASK if sum(c.isdigit() for c in text) > DIGITS_SHOWN_MAX else text


def mask_hex(digits: str) -> str:
    """Bytes in hex, of which nobody knows what they mean: as text. BCD and ASCII digits alike are
    decimal digits there."""
    return _IN_HEX.sub(MASK, digits)


def mask_identifier(digits: str) -> str:
    """Bytes in hex that name a card, an application or a token and may well consist of digits only:
    replaced only where they are a card number, by its check digit, perhaps with more digits behind it."""
    if _IN_ASCII.search(digits):
        text = bytes.fromhex(digits).decode("latin-1")
        if mask_text(text) != text:
            return MASK
    # A registered application begins with a letter (ISO/IEC 7816-5): only a whole number counts there.
    is_pan = _is_pan if digits[:1].isalpha() else _begins_with_pan
    return _IN_HEX.sub(lambda run: MASK if is_pan(run.group()) else run.group(), digits)


def _is_pan(run: str) -> bool:
    candidates = {run, run.lstrip("0"), run.strip("0")}
    return any(len(digits) in PAN_DIGITS and _luhn(digits) for digits in candidates)


def _begins_with_pan(run: str) -> bool:
    """The number alone, or with the expiry date behind it, as tracks have it."""
    digits = run.lstrip("0")
    followed = (n for n in PAN_DIGITS if _EXPIRY.match(digits, n) is not None)
    return _is_pan(run) or any(_luhn(digits[:size]) for size in followed)


def _luhn(digits: str) -> bool:
    """The check digit rule of ISO/IEC 7812-1 annex B."""
    total = 0
    for place, digit in enumerate(reversed(digits)):
        value = int(digit) * (2 if place % 2 else 1)
        total += value - 9 if value > 9 else value
    return total % 10 == 0
