"""What a meter has signed, as it goes into the session's record: its own bytes, looked at, never touched."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from decimal import Decimal
from itertools import chain

from agent.session import Session
from agent.station.signed_readings import NOBODY, customer_of
from agent.trust import card_like, ocmf
from agent.trust.ocmf.record import Reading, Record, number
from agent.trust.ocmf.series import Transaction, transactions

DIFFERS, NOT_GENUINE = "STA-063", "STA-064"
# The bill counts whole Wh of the register, rounded at begin and end.
ROUNDING_WH = 1
# A meter may break the lines within a record, too.
_NEXT = re.compile(r"\n(?=OCMF\|)")


def meter_values(s: Session) -> tuple[dict[str, str], ...]:
    """A meter that signs begin and end apart gives two, a line each."""
    text, key = str(s.meter_values["text"]), str(s.meter_values.get("public_key", ""))
    return tuple(ocmf.SignedValue(one, key, "meter").json() for one in _NEXT.split(text))


def trouble_in(
    s: Session, values: tuple[dict[str, str], ...], tariff_text: str
) -> dict[str, str] | None:
    """Whether it is genuine, and says what is billed; None when all is well. `tariff_text`: as the meter was
    told it, empty where nobody knows. Never raises."""
    key = str(s.meter_values.get("public_key", ""))
    records = []
    for value in values:
        try:
            records.append(ocmf.parse(value["text"]))
        except ocmf.OcmfRefused as refused:
            return _trouble(NOT_GENUINE, refused.text)
        verdict = ocmf.verify(records[-1], key or None)
        if key and not verdict.valid:
            return _trouble(NOT_GENUINE, f"{verdict.signature}: {verdict.text}")
    why = next(chain(_other_charge(s, records), _other_words(s, records, tariff_text)), "")
    if why:
        return _trouble(DIFFERS, why)
    if not key:
        return _trouble(NOT_GENUINE, "the meter told no public key: nobody can check it")
    return None


def _trouble(code: str, why: str) -> dict[str, str]:
    """Nobody would sign a record that quotes what looks like a card number, and the session could not end."""
    return {"id": code, "why": card_like.masked(why)}


def _other_charge(s: Session, records: Sequence[Record]) -> Iterable[str]:
    """What is wrong with the energy it has signed."""
    charges = transactions(records)
    if len(charges) != 1 or not _same(charges[0], s.energy_wh):
        seen = ", ".join(f"{each.energy_wh} Wh" for each in charges) or "no whole charge"
        yield f"the meter has signed {seen}, {s.energy_wh} Wh are billed"
        return
    readings = (("begin", charges[0].begin, s.begin_wh), ("end", charges[0].end, s.end_wh))
    step_wh = _finest_wh(charges[0])
    for name, reading, billed_wh in readings:
        if reading.st != "G":
            yield f"the meter marks its own {name} as not good (status {reading.st})"
        register_wh = _register_wh(reading)
        if register_wh is None or billed_wh is None:
            yield f"the meter has signed no register at {name}"
        elif abs(register_wh - billed_wh) >= step_wh + ROUNDING_WH:
            yield f"the meter has signed {register_wh} Wh at {name}, the bill says {billed_wh} Wh"


def _other_words(s: Session, records: Sequence[Record], tariff_text: str) -> Iterable[str]:
    """Whose it is, and of which meter and tariff. A meter that does not carry a field says nothing by it."""
    customer = customer_of(s)
    known = customer.id if customer != NOBODY else None
    for record in records:
        if known is not None and record.get("ID") != known:
            yield f"the meter's record is not of payment {known}"
        told = record.get("MS")
        if s.meter_serial is not None and told not in (None, "", s.meter_serial):
            yield f"the record is of meter {told}, energy was read from {s.meter_serial}"
        if tariff_text and record.get("TT") not in (None, "", tariff_text):
            yield "the meter's record names another tariff than the bill"


def _register_wh(reading: Reading) -> Decimal | None:
    """The total register: BSM-WS36A tells it beside what it counted since it was switched on."""
    extra = number(reading.own.get("XV"))
    if extra is None:
        return reading.wh
    return extra * (1000 if reading.own.get("XU") == "kWh" else 1)


def _same(charge: Transaction, billed_wh: int) -> bool:
    """As far as the digits go that the meter signs: some sign hundredths of a kWh of a finer register."""
    signed_wh = charge.energy_wh
    if signed_wh is None:
        return False
    return abs(signed_wh - billed_wh) < _finest_wh(charge) + ROUNDING_WH


def _finest_wh(charge: Transaction) -> Decimal:
    """What the last digit of its numbers counts. One of them may end in a zero that is not written."""
    return min(_step_wh(charge.begin), _step_wh(charge.end))


def _step_wh(reading: Reading) -> Decimal:
    digits = len(str(reading.rv).strip().partition(".")[2])
    return (1000 if reading.ru == "kWh" else 1) * Decimal(1).scaleb(-digits)
