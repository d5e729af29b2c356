"""(d) The printed receipt, read back as a person reads it: a label, and the number beside it."""

from __future__ import annotations

import re
from collections.abc import Iterator
from decimal import Decimal
from typing import Any

from hil.verify.evidence import Evidence, Finding
from hil.verify.price import minor_units

_NUMBER = re.compile(r"-?\d+(?:[.,]\d+)?")
_KWH = re.compile(r"(-?\d+(?:[.,]\d+)?)\s*kWh")
# Label at the start of a line, English and German.
_MONEY_LABELS = {
    "cost_minor": r"total\b|gesamt(betrag)?\b|summe\b",
    "held_minor": r"held\b|reserviert\b",
    "captured_minor": r"charged\b|belastet\b",
    "released_minor": r"released\b|freigegeben\b",
}
_ENERGY_LABELS = {
    "energy_wh": r"energy\b|energie\b",
    "begin_wh": r"meter (start|begin)\b|zähler(stand)? (beginn|start|anfang)\b",
    "end_wh": r"meter (stop|end)\b|zähler(stand)? (ende|stopp?)\b",
}


def check_receipts(evidence: Evidence) -> Iterator[Finding]:
    for session in evidence.sessions:
        if session["state"] != "closed" or session.get("cost_minor") is None:
            continue
        where = f"receipt {session['id']}"
        text = evidence.receipts.get(str(session["id"]))
        if text is None:
            yield Finding("receipt_missing", where, "a billed session has no receipt")
            continue
        printed = parse(text, str(session["currency"]))
        for key in (*_MONEY_LABELS, *_ENERGY_LABELS):
            if key not in printed:
                if session.get(key):
                    yield Finding("receipt_lacks", where, f"no line for {key} ({session[key]})")
            elif printed[key] != session.get(key):
                text = f"{key}: printed {printed[key]}, agent {session.get(key)}"
                yield Finding("receipt_differs", where, text)


def parse(text: str, currency: str) -> dict[str, Any]:
    """Minor units and Wh by the agent's names for them; what is not printed is absent."""
    found: dict[str, Any] = {}
    lines = [line.strip() for line in text.splitlines()]
    for n, line in enumerate(lines):
        beside = line if _NUMBER.search(line) else f"{line} {''.join(lines[n + 1 : n + 2])}"
        for key, label in _MONEY_LABELS.items():
            if re.match(label, line, re.IGNORECASE) and "kwh" not in line.lower():
                numbers = _NUMBER.findall(beside)
                if numbers and key not in found:
                    found[key] = _scaled(numbers[-1], minor_units(currency))
        for key, label in _ENERGY_LABELS.items():
            if re.match(label, line, re.IGNORECASE) and (match := _KWH.search(beside)):
                found.setdefault(key, _scaled(match[1], 1000))
    return found


def _scaled(text: str, factor: int) -> int | Decimal:
    """A whole number where it is one; otherwise the odd value itself, which then differs."""
    value = Decimal(text.replace(",", ".")) * factor
    return int(value) if value == int(value) else value
