"""The text receipt, from facts that were stored with the session; nothing is computed again here.

Content: the union of what the laws of the places ask for, as far as the station knows it. Quantities and
meter readings are printed with every digit that was billed, so that a driver can check the sum."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from agent.driver_ui import numbers
from agent.driver_ui.layout import TIE, centre, pair, rule, wrap
from agent.driver_ui.words import LANGUAGES, say
from agent.tariff import Bill, Line, LineKey
from agent.values import Money, Quality, Stamp
from agent.values.money import CURRENCIES

MIN_WIDTH, MAX_WIDTH = 24, 48
# Enough of a key's hash to compare by eye with the one the operator publishes.
FINGERPRINT_DIGITS = 16


@dataclass(frozen=True, slots=True)
class ReceiptFacts:
    """What a receipt says. None or empty: not known, and not printed.

    `bill` is None when nothing was billed (refused, cancelled, never plugged in). `shortfall` exceeds the
    hold and is not collected; `owed` was refused by the terminal. `estimated_end`: the last valid reading
    stands in for the end reading. `pending`: how the payment ended is still being asked."""

    language: str
    time_zone: str
    station: str
    evse: str
    receipt_no: str
    operator_name: str = ""
    operator_address: tuple[str, ...] = ()
    vat_id: str = ""
    helpline: str = ""
    receipt_url: str = ""
    started: Stamp | None = None
    ended: Stamp | None = None
    meter_serial: str = ""
    begin_wh: int | None = None
    end_wh: int | None = None
    estimated_end: bool = False
    bill: Bill | None = None
    tariff_id: str = ""
    card_brand: str = ""
    card_last4: str = ""
    terminal_id: str = ""
    trace: int | None = None
    terminal_receipt: int | None = None
    approval_code: str = ""
    aid: str = ""
    held: Money | None = None
    charged: Money | None = None
    released: Money | None = None
    shortfall: Money | None = None
    owed: Money | None = None
    pending: bool = False
    record_seq: int | None = None
    key_fingerprint: str = ""


def render(facts: ReceiptFacts, width: int) -> str:
    """The receipt in `width` columns (24 to 48), lines joined by newlines, none wider than `width`."""
    if not MIN_WIDTH <= width <= MAX_WIDTH:
        raise ValueError(f"{width} columns; expected {MIN_WIDTH} to {MAX_WIDTH}")
    r = _Receipt(facts, width)
    blocks = [r.seller(), r.session(), r.lines(), r.total(), r.payment(), r.proof()]
    lines: list[str] = []
    for block in blocks:
        if block:
            lines += [rule(width), *block] if lines else block
    assert all(len(line) <= width for line in lines), "a receipt line is wider than the paper"
    return "\n".join(lines)


class _Receipt:
    def __init__(self, facts: ReceiptFacts, width: int) -> None:
        self.f, self.width = facts, width
        self.language = facts.language if facts.language in LANGUAGES else LANGUAGES[0]

    def say(self, key: str, **values: str) -> str:
        return say(self.language, key, self.width, **values)

    def row(self, key: str, value: str) -> list[str]:
        return pair(self.say(key), value, self.width) if value else []

    def money(self, key: str, value: Money | None, *, zero: bool = True) -> list[str]:
        if value is None or not (value or zero):
            return []
        return self.row(key, numbers.number(value, self.language))

    def seller(self) -> list[str]:
        out: list[str] = []
        for text in (self.f.operator_name, *self.f.operator_address):
            out += centre(text, self.width)
        if self.f.vat_id:
            out += centre(f"{self.say('r_vat_id')} {self.f.vat_id}", self.width)
        return out

    def session(self) -> list[str]:
        f = self.f
        out = self.row("r_receipt", f.receipt_no)
        out += self.row("r_station", f.station) + self.row("r_evse", f.evse)
        out += self.row("r_start", self.local(f.started)) + self.row("r_stop", self.local(f.ended))
        stamps = [s for s in (f.started, f.ended) if s is not None]
        if any(s.quality is not Quality.TRUSTED for s in stamps):
            out += wrap(self.say("r_clock"), self.width)
        out += self.row("r_meter", f.meter_serial)
        for key, wh in (("r_meter_start", f.begin_wh), ("r_meter_stop", f.end_wh)):
            out += self.row(key, "" if wh is None else numbers.energy(wh, self.language))
        if f.estimated_end:
            out += wrap(self.say("r_estimated"), self.width)
        return out

    def local(self, stamp: Stamp | None) -> str:
        """Local time of the station with its offset."""
        if stamp is None:
            return ""
        from zoneinfo import ZoneInfo

        when = datetime.fromtimestamp(stamp.utc_ms // 1000, ZoneInfo(self.f.time_zone))
        offset = when.strftime("%z")
        return f"{when:%Y-%m-%d %H:%M:%S}{TIE}{offset[:3]}:{offset[3:5]}"

    def lines(self) -> list[str]:
        bill = self.f.bill
        if bill is None:
            return [] if self.f.pending else wrap(self.say("r_no_charge"), self.width)
        out: list[str] = []
        for line in bill.lines:
            out += self.line(bill.currency, line)
        if bill.rounding_minor:
            out += self.money("r_rounding", Money(bill.rounding_minor, bill.currency))
        if not bill.total_minor and self.f.begin_wh == self.f.end_wh:
            out += wrap(
                self.say("r_no_charge"), self.width
            )  # else a 0.00 beside a price looks wrong
        return out

    def line(self, currency: str, line: Line) -> list[str]:
        label = self.say(f"r_{line.key}")
        amount = numbers.number(Money(line.amount_minor, currency), self.language)
        if line.key is LineKey.FIXED:
            return pair(label, amount, self.width)
        digits = CURRENCIES[currency][1]
        each = numbers.unit_price(line.unit_price, digits, self.language)
        quantity = numbers.mark(line.quantity_text, self.language)
        whole = f"{label} {quantity} x {each}"
        if len(whole) + 1 + len(amount) <= self.width:
            return pair(whole, amount, self.width)
        return pair(label, quantity, self.width) + pair(f"  x {each}", amount, self.width)

    def total(self) -> list[str]:
        bill = self.f.bill
        if bill is None:
            return []
        out = pair(
            f"{self.say('r_total')} {bill.currency}",
            numbers.number(bill.total, self.language),
            self.width,
        )
        percent = numbers.percent(bill.vat_percent, self.language)
        vat = numbers.number(Money(bill.vat_minor, bill.currency), self.language)
        out += pair(self.say("r_vat", percent=percent), vat, self.width)
        return out + self.money("r_net", Money(bill.net_minor, bill.currency))

    def payment(self) -> list[str]:
        f = self.f
        card = f"****{f.card_last4}" if f.card_last4 else ""
        out = pair(f.card_brand or self.say("r_card"), card, self.width) if card else []
        if f.card_brand and not card:
            out += self.row("r_card", f.card_brand)
        out += self.row("r_terminal", f.terminal_id)
        out += self.row("r_trace", "" if f.trace is None else str(f.trace))
        slip = "" if f.terminal_receipt is None else str(f.terminal_receipt)
        out += self.row("r_terminal_receipt", slip)
        out += self.row("r_approval", f.approval_code)
        out += self.row("r_aid", f.aid)
        out += self.money("r_held", f.held)
        out += self.money("r_charged", f.charged)
        out += self.money("r_released", f.released)
        out += self.money("r_not_collected", f.shortfall, zero=False)
        out += self.money("r_owed", f.owed, zero=False)
        if f.pending:
            out += wrap(self.say("r_pending"), self.width)
        return out

    def proof(self) -> list[str]:
        f = self.f
        out = self.row("r_tariff", f.tariff_id)
        out += self.row("r_record", "" if f.record_seq is None else str(f.record_seq))
        out += self.row("r_key", f.key_fingerprint[:FINGERPRINT_DIGITS])
        out += self.row("r_help", f.helpline)
        if f.receipt_url:
            out += wrap(self.say("r_digital"), self.width)
            # Broken before the code, which a driver without a camera types.
            head, _, code = f.receipt_url.rpartition("/")
            whole = len(f.receipt_url) <= self.width
            for part in [f.receipt_url] if whole else [f"{head}/", code]:
                out += wrap(part, self.width)
        return out
