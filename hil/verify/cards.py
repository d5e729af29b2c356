"""Nothing anywhere may look like a card number."""

from __future__ import annotations

import re
from collections.abc import Iterator

from hil.verify.evidence import Evidence, Finding

# 13 to 19 digits (ISO/IEC 7812), whole or in printed groups. Digits inside a longer word are parts of
# hashes and random ids, in which such runs happen by chance.
_RUNS = re.compile(
    r"(?<![0-9A-Za-z.])(?:\d{13,19}|\d{4}(?:[ -]\d{4}){2}[ -]\d{1,7})(?![0-9A-Za-z])"
)
# Milliseconds since 1970 have 13 digits and begin with 1 until the year 2033; the only cards that begin
# with 1 (airlines) have 15.
_TIME = re.compile(r"1\d{12}")


def check_cards(evidence: Evidence) -> Iterator[Finding]:
    for name, text in evidence.texts.items():
        for run in card_numbers(text):
            # The finding itself must not carry the number on.
            yield Finding("card_number", name, f"{len(run)} digits that end in {run[-4:]}")


def card_numbers(text: str) -> list[str]:
    runs = [re.sub(r"[ -]", "", match) for match in _RUNS.findall(text)]
    return [run for run in runs if luhn(run) and not _TIME.fullmatch(run)]


def luhn(digits: str) -> bool:
    total = 0
    for n, digit in enumerate(reversed(digits)):
        value = int(digit) * (2 if n % 2 else 1)
        total += value - 9 if value > 9 else value
    return total % 10 == 0
