"""The last tripwire before the disk: something that looks like a card number.

Drivers drop card data at the parser (design §2 rule 10); this catches the mistake that lets one through.
It must not cry wolf, because a refused commit stops a sale: only a run of 13 to 19 digits that stands
alone, begins like a payment card (2 to 6, ISO/IEC 7812-1) and passes the Luhn check counts. Hashes,
decimal strings and UUIDs do not stand alone in that sense; times in milliseconds, serial numbers (in the text
of an OCMF record, too) and the terminal's contract number (`vu`, up to 15 digits) are left out by their key.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

# Digits that touch a letter, a point or a dash belong to something longer: a hash, a price, a UUID.
_ALONE = re.compile(
    r"(?<![\w.,:-])"
    r"([2-6]\d{12,18}|[2-6]\d{3}([ -])\d{4}\2\d{4}\2\d{1,7}|3\d{3}([ -])\d{6}\3\d{5})"
    r"(?![\w:]|[.,-]\w)"
)
# Most texts hold no such run at all; this sees it in a tenth of the time.
_MAYBE = re.compile(r"\d[\d -]{11,}\d")
# Meter and gateway name themselves so (OCMF, "Meter Identification"), in up to 20 digits.
_OCMF_SERIAL = re.compile(r'"(?:MS|GS)" ?: ?"[^"]*"')
BEFORE_LAST_FOUR = re.compile(r"\d(?=(?:[ -]?\d){4})")
_NOT_CARDS = ("_ms", "_id", "serial")
_NOT_CARD = ("vu", "aid")


def luhn(digits: str) -> bool:
    """The check digit rule of ISO/IEC 7812-1 annex B."""
    total = 0
    for place, digit in enumerate(reversed(digits)):
        value = int(digit) * (2 if place % 2 else 1)
        total += value - 9 if value > 9 else value
    return total % 10 == 0


def in_text(text: str) -> bool:
    """True when `text` holds what looks like a card number."""
    if _MAYBE.search(text) is None:
        return False
    if text.startswith("OCMF|"):
        text = _OCMF_SERIAL.sub('""', text)
    found = (re.sub(r"[ -]", "", match.group(1)) for match in _ALONE.finditer(text))
    return any(13 <= len(digits) <= 19 and luhn(digits) for digits in found)


def masked(text: str) -> str:
    """`text` with the digits of what looks like a card number overwritten, the last four left."""
    return BEFORE_LAST_FOUR.sub("*", text) if in_text(text) else text


def find(value: object, where: str = "$", key: str = "") -> str | None:
    """The place (a path such as `$.hold.reference`) of the first card-like value, or None."""
    if isinstance(value, str | int) and not isinstance(value, bool):
        known = key in _NOT_CARD or key.endswith(_NOT_CARDS)
        return where if not known and in_text(str(value)) else None
    if isinstance(value, Mapping):
        items = [(f"{where}.{name}", str(name), item) for name, item in value.items()]
    elif isinstance(value, Sequence):
        items = [(f"{where}[{index}]", key, item) for index, item in enumerate(value)]
    else:
        return None
    return next((hit for at, name, item in items if (hit := find(item, at, name))), None)
