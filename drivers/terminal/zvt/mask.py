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

# In texts numbers stand in groups: spaces and dashes between two digits do not end a number.
_IN_TEXT = re.compile(rf"[0-9](?:[ \u00a0-]{{0,2}}[0-9]){{{DIGITS_SHOWN_MAX},}}")
_IN_HEX = re.compile(rf"[0-9]{{{DIGITS_SHOWN_MAX + 1},}}")


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
    return _IN_TEXT.sub(MASK, text)


def mask_hex(digits: str) -> str:
    """Bytes in hex, of which nobody knows what they mean: as text. BCD and ASCII digits alike are
    decimal digits there."""
    return _IN_HEX.sub(MASK, digits)


def mask_identifier(digits: str) -> str:
    """Bytes in hex that name a card, an application or a token and may well consist of digits only:
    replaced only where they are a card number, by its check digit."""
    return _IN_HEX.sub(lambda run: MASK if _is_pan(run.group()) else run.group(), digits)


def _is_pan(run: str) -> bool:
    candidates = {run, run.lstrip("0"), run.strip("0")}
    if re.fullmatch("(3[0-9])+", run):
        candidates.add(run[1::2])  # ASCII
    return any(len(digits) in PAN_DIGITS and _luhn(digits) for digits in candidates)


def _luhn(digits: str) -> bool:
    """The check digit rule of ISO/IEC 7812-1 annex B."""
    total = 0
    for place, digit in enumerate(reversed(digits)):
        value = int(digit) * (2 if place % 2 else 1)
        total += value - 9 if value > 9 else value
    return total % 10 == 0
