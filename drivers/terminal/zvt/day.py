"""The totals of a batch (BMP 60, PA00P015), as evidence of an end of day and as flat facts. Pure."""

from __future__ import annotations

from agent.ports import Evidence, HoldRef
from agent.values import Money
from drivers.terminal.zvt.apdu import Apdu
from drivers.terminal.zvt.mask import amount_minor
from drivers.terminal.zvt.messages import BRANDS, TOTALS, cut, size_of
from drivers.terminal.zvt.results import DIGITS_MAX


def totals(apdu: Apdu) -> dict[str, int]:
    """`total_<brand>_count` and `total_<brand>_minor` of every brand with bookings, `receipt_first`,
    `receipt_last`. Empty where the message has no totals; an amount that is none is left out."""
    raw = apdu.text("totals")
    body = b"" if raw is None else bytes.fromhex(raw)
    if len(body) < size_of(TOTALS):
        return {}
    told, _ = cut(TOTALS, body)
    found: dict[str, int] = {}
    for name in ("receipt_first", "receipt_last"):
        digits = told[name].hex()
        if digits.isdecimal():
            found[name] = int(digits)
    for brand in BRANDS:
        count, minor = told[f"{brand}_count"][0], amount_minor(told[f"{brand}_minor"])
        if count:
            found[f"total_{brand}_count"] = count
            if minor is not None:
                found[f"total_{brand}_minor"] = minor
    return found


def evidence(apdu: Apdu | None, currency: str, terminal_id: str | None) -> Evidence:
    """Of an end of day. None: the terminal has told no totals, which it need not."""
    found = {} if apdu is None else totals(apdu)
    brands = [name.removesuffix("_count") for name in found if name.endswith("_count")]
    sums = [found.get(f"{brand}_minor") for brand in brands]
    told = [minor for minor in sums if minor is not None]
    amount = None
    if found and len(told) == len(sums):
        amount = Money(sum(told), currency)
    return Evidence(_ref(apdu, found, terminal_id), amount, dict(found))


def _ref(apdu: Apdu | None, found: dict[str, int], terminal_id: str | None) -> HoldRef:
    """A day has no receipt of its own everywhere; its last one stands for it."""
    last = found.get("receipt_last", 0)
    if apdu is None:
        return HoldRef(terminal_id or "", last)
    digits = _digits(apdu.text("receipt"))
    return HoldRef(
        terminal_id=_digits(apdu.text("tid")) or terminal_id or "",
        receipt=int(digits) if digits else last,
        turnover=apdu.integer("turnover"),
        trace=apdu.integer("trace"),
        date=_digits(apdu.text("date")),
        time=_digits(apdu.text("time")),
    )


def _digits(text: str | None) -> str | None:
    return text if text and text.isdecimal() and len(text) <= DIGITS_MAX else None
