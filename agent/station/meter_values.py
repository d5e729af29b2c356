"""What a meter has signed, as it goes into the session's record: its own bytes, looked at, never touched."""

from __future__ import annotations

from decimal import Decimal

from agent.session import Session
from agent.station.signed_readings import NOBODY, customer_of
from agent.trust import ocmf
from agent.trust.ocmf.record import Reading
from agent.trust.ocmf.series import Transaction, transactions

DIFFERS, NOT_GENUINE = "STA-063", "STA-064"
# The bill counts whole Wh of the register, rounded at begin and end.
ROUNDING_WH = 1


def meter_values(s: Session) -> tuple[dict[str, str], ...]:
    """A meter that signs begin and end apart gives two, a line each."""
    text, key = str(s.meter_values["text"]), str(s.meter_values.get("public_key", ""))
    return tuple(
        ocmf.SignedValue(line, key, "meter").json() for line in text.split("\n") if line.strip()
    )


def trouble_in(s: Session, values: tuple[dict[str, str], ...]) -> dict[str, str] | None:
    """Whether it is genuine, and says what is billed; None when all is well. Never raises."""
    key = str(s.meter_values.get("public_key", ""))
    records = []
    for value in values:
        try:
            records.append(ocmf.parse(value["text"]))
        except ocmf.OcmfRefused as refused:
            return {"id": NOT_GENUINE, "why": refused.text}
        verdict = ocmf.verify(records[-1], key or None)
        if key and not verdict.valid:
            return {"id": NOT_GENUINE, "why": f"{verdict.signature}: {verdict.text}"}
    charges = transactions(records)
    if len(charges) != 1 or not _same(charges[0], s.energy_wh):
        seen = ", ".join(f"{each.energy_wh} Wh" for each in charges) or "no whole charge"
        return {"id": DIFFERS, "why": f"the meter has signed {seen}, {s.energy_wh} Wh are billed"}
    customer = customer_of(s)
    if customer != NOBODY and any(record.get("ID") != customer.id for record in records):
        return {"id": DIFFERS, "why": f"the meter's record is not of payment {customer.id}"}
    return None


def _same(charge: Transaction, billed_wh: int) -> bool:
    """As far as the digits go that the meter signs: some sign hundredths of a kWh of a finer register."""
    signed_wh = charge.energy_wh
    if signed_wh is None:
        return False
    coarse_wh = max(_step_wh(charge.begin), _step_wh(charge.end))
    return abs(signed_wh - billed_wh) < coarse_wh + ROUNDING_WH


def _step_wh(reading: Reading) -> Decimal:
    """What its last digit counts."""
    digits = len(str(reading.rv).strip().partition(".")[2])
    return (1000 if reading.ru == "kWh" else 1) * Decimal(1).scaleb(-digits)
