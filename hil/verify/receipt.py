"""(d) The printed receipt, read back as a person reads it: a label, and the number beside it."""

from __future__ import annotations

import re
from collections.abc import Iterator
from decimal import Decimal
from itertools import pairwise

from hil.verify.evidence import Evidence, Finding
from hil.verify.price import minor_units

_NUMBER = re.compile(r"-?\d+(?:[.,]\d+)?")
_KWH = re.compile(r"(-?\d+(?:[.,]\d+)?)\s*kWh")
_MINUTES = re.compile(r"(\d+):(\d\d)(?:[.,](\d{3}))?\s*min")
# Label at the start of a line, English and German, by the agent's name of the value.
_MONEY_LABELS = {
    "cost_minor": r"total\b|summe\b",
    "held_minor": r"held\b|reserviert\b",
    "captured_minor": r"charged\b|belastet\b",
    "released_minor": r"released\b|freigegeben\b",
    "shortfall_minor": r"not collected\b|nicht gedeckt\b",
    "owed_minor": r"still owed\b|noch offen\b",
    "vat_minor": r"incl\. vat\b|inkl\. .*mwst\b",
    "net_minor": r"net\b|netto\b",
}
_ENERGY_LABELS = {
    "energy_wh": r"energy\b|energie\b",
    "begin_wh": r"meter start\b|zählerstand beginn\b",
    "end_wh": r"meter stop\b|zählerstand ende\b",
}
_TIME_LABELS = {"charging_ms": r"charging\b|ladezeit\b", "idle_ms": r"idle\b|standzeit\b"}
# What every billed receipt must say, also when it is zero.
_REQUIRED = ("cost_minor", "held_minor", "captured_minor", "released_minor", *_ENERGY_LABELS)

Printed = dict[str, int | Decimal]


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
        for key, value in session.items():
            if key in printed and printed[key] != value:
                yield Finding(
                    "receipt_differs", where, f"{key}: printed {printed[key]}, is {value}"
                )
            elif key not in printed and (key in _REQUIRED or (key in _MONEY_LABELS and value)):
                yield Finding("receipt_lacks", where, f"no line for {key} ({value})")
        yield from _sums(printed, where)


def _sums(printed: Printed, where: str) -> Iterator[Finding]:
    """A driver with a pencil: the lines make the total, net and tax make the total."""
    total = printed.get("cost_minor")
    if total is None:
        return
    if "lines_minor" in printed and printed["lines_minor"] != total:
        text = f"the lines make {printed['lines_minor']}, the total says {total}"
        yield Finding("receipt_sum_differs", where, text)
    if "net_minor" in printed and printed["net_minor"] + printed.get("vat_minor", 0) != total:
        yield Finding("receipt_sum_differs", where, "net and tax do not make the total")


def parse(text: str, currency: str) -> Printed:
    """Minor units, Wh and ms by the agent's names for them; `lines_minor` is the sum of the price lines
    above the total. What is not printed is absent."""
    found: Printed = {}
    lines = [line.strip() for line in text.splitlines()]
    units = minor_units(currency)
    for n, line in enumerate(lines):
        beside = line if _NUMBER.search(line) else f"{line} {''.join(lines[n + 1 : n + 2])}"
        if (key := _labelled(line, _MONEY_LABELS)) and "kwh" not in line.lower():
            numbers = _NUMBER.findall(beside)
            if numbers:
                found.setdefault(key, _scaled(numbers[-1], units))
        if (key := _labelled(line, _ENERGY_LABELS)) and (kwh := _KWH.search(beside)):
            found.setdefault(key, _scaled(kwh[1], 1000))
        if (key := _labelled(line, _TIME_LABELS)) and (time := _MINUTES.search(beside)):
            ms = (int(time[1]) * 60 + int(time[2])) * 1000 + int(time[3] or 0)
            found.setdefault(key, ms)
    amounts = _price_lines(lines)
    if amounts:
        found["lines_minor"] = sum((_scaled(amount, units) for amount in amounts), 0)
    return found


def _labelled(line: str, labels: dict[str, str]) -> str | None:
    return next((k for k, label in labels.items() if re.match(label, line, re.IGNORECASE)), None)


def _price_lines(lines: list[str]) -> list[str]:
    """The amounts of the block that stands before the total, between two rules. A line too long for
    the paper goes on in the next one, which then begins with the "x" before the unit price."""
    rules = [n for n, line in enumerate(lines) if re.fullmatch(r"[-=_]{8,}", line)]
    for before, after in pairwise(rules):
        if after + 1 < len(lines) and re.match(_MONEY_LABELS["cost_minor"], lines[after + 1], re.I):
            block = lines[before + 1 : after]
            whole = [
                line
                for n, line in enumerate(block)
                if not "".join(block[n + 1 : n + 2]).startswith("x ")
            ]
            return [_NUMBER.findall(line)[-1] for line in whole if _NUMBER.search(line)]
    return []


def _scaled(text: str, factor: int) -> int | Decimal:
    """A whole number where it is one; otherwise the odd value itself, which then differs."""
    value = Decimal(text.replace(",", ".")) * factor
    return int(value) if value == int(value) else value
