"""What the terminal reports, as the port's values. Pure.

Everything that leaves here is either a number of few digits, a fixed field, or text without any run of
digits that could be a card number."""

from __future__ import annotations

from agent.ports import Card, CardKind, DeviceUnavailable, Evidence, HoldRef, TerminalIdentity
from agent.values import Money
from agent.values.money import currency_of_numeric
from drivers.terminal.zvt.apdu import Apdu
from drivers.terminal.zvt.codes import USABLE_STATUS, status_text
from drivers.terminal.zvt.decode import classify
from drivers.terminal.zvt.mask import (
    AMOUNT_MINOR_MAX,
    amount_minor,
    mask_identifier,
    mask_text,
)

CARD_FACTS = ("card_name", "card_last4")
CARD_UNKNOWN = "7a"  # code of 06 1E
# 2F/1F12: how the card was presented.
READ_BY = {b"\0": "magnetic stripe", b"\1": "chip", b"\2": "contactless"}
DIGITS_MAX = 8  # of a terminal id; receipts, traces, dates and times have fewer


def identity(apdu: Apdu, terminal_id: str | None) -> TerminalIdentity:
    """The Completion of 05 01. Raises DeviceUnavailable TRM-007 when it holds no status."""
    code = apdu.text("terminal_status")
    if code is None:
        raise DeviceUnavailable("TRM-007", "the status enquiry ended without a status", "05 01")
    return TerminalIdentity(
        terminal_id=_digits(apdu.tag_text("1f44")) or terminal_id,
        device_serial=_short(apdu.tag_text("1f42")),
        software=_short(apdu.text("sw_version")),
        model=_short(apdu.tag_text("1f40")),
        ready=int(code, 16) in USABLE_STATUS,
        status_code=code,
        status_text=status_text(int(code, 16)),
    )


def card(apdu: Apdu, currency: str) -> Card | None:
    """The 04 0F of 06 C0 and 06 E6, or the 06 1E by which 06 E6 names a card that does not pay. None
    unless it says that a card was read."""
    if apdu.get("result") != 0 and apdu.text("error") != CARD_UNKNOWN:
        return None
    told = {key: value for key, value in _details(apdu).items() if key in CARD_FACTS}
    return Card(CardKind(classify(apdu)), _token(apdu), _max_hold(apdu, currency), told)


def _token(apdu: Apdu) -> bytes | None:
    """The terminal's card token (1F14), else the UID. An empty one would make all cards the same."""
    for tag in ("1f14", "4c"):
        for value in apdu.values(tag):
            if value.strip(b"\0"):
                return value
    return None


def _max_hold(apdu: Apdu, currency: str) -> Money | None:
    told = [amount_minor(value) for value in apdu.values("1f0b")]
    return Money(told[0], currency) if told and told[0] else None


def evidence(
    apdu: Apdu,
    currency: str,
    terminal_id: str | None,
    ref: HoldRef | None = None,
    reversed_of: Money | None = None,
) -> Evidence | None:
    """A 04 0F as evidence. `ref` is the hold that was commanded, if any. `reversed_of`: the amount told is
    the part given back of this one. None when it cannot be evidence: no receipt to find it again by, or
    an amount in another currency."""
    digits = _digits(apdu.text("receipt"))
    receipt = int(digits) if digits else None if ref is None else ref.receipt
    if receipt is None:
        return None
    numeric = apdu.text("currency")
    if numeric is not None and currency_of_numeric(numeric) != currency:
        return None
    made = HoldRef(
        terminal_id=_digits(apdu.text("tid")) or terminal_id or "",
        receipt=receipt,
        turnover=apdu.integer("turnover"),
        trace=_trace(apdu),
        date=_digits(apdu.text("date")),
        time=_digits(apdu.text("time")),
    )
    return Evidence(made, _amount(apdu, currency, reversed_of), _details(apdu))


def of_a_failed_one(apdu: Apdu, terminal_id: str | None) -> Evidence:
    """That a payment failed is all it says."""
    return Evidence(HoldRef(_digits(apdu.text("tid")) or terminal_id or "", 0), None)


def _trace(apdu: Apdu) -> int | None:
    """BMP 0B, or the long one where that is 0 or missing."""
    trace = apdu.integer("trace")
    for value in apdu.values("1f2b"):
        digits = _digits(value.hex())
        if not trace and digits:
            return int(digits)
    return trace


def _amount(apdu: Apdu, currency: str, reversed_of: Money | None) -> Money | None:
    minor = apdu.integer("amount_minor")
    if minor is None or minor > AMOUNT_MINOR_MAX:
        return None
    if reversed_of is not None:
        minor = reversed_of.amount_minor - minor
    return Money(minor, currency) if minor >= 0 else None


def _details(apdu: Apdu) -> dict[str, int | str]:
    found: dict[str, int | str] = {}
    for name in ("card_name", "aid", "vu", "text", "card_type", "payment_type"):
        value = apdu.get(name)
        if value is not None:
            found[name] = mask_text(value.strip()) if isinstance(value, str) else value
    if apdu.card_last4 is not None:
        found["card_last4"] = apdu.card_last4
    aids = [aid.hex() for aid in apdu.values("43")]
    # Application ids begin with the letter of their registration category (ISO/IEC 7816-5).
    if aids and not aids[0][:1].isdecimal():
        found["emv_aid"] = mask_identifier(aids[0])
    read = next((READ_BY[v] for v in apdu.values("1f12") if v in READ_BY), None)
    if read is not None:
        found["card_read_by"] = read
    return found


def error_text(apdu: Apdu) -> str:
    """The terminal's own words on a refusal; empty when it has none."""
    return mask_text((apdu.text("text") or apdu.tag_text("1f17") or "").strip())


def _digits(text: str | None) -> str | None:
    """A number with the eight digits of a terminal id at most."""
    return text if text and text.isdecimal() and len(text) <= DIGITS_MAX else None


def _short(text: str | None) -> str | None:
    return None if text is None else mask_text(text.strip())
