"""The money side of the terminal: what the host approves, when it is final, what is taken back.

A transaction is *prepared* (the host has done it), then either *committed* (the ECR has answered the
result, PA00P015 ch. 4) or *taken back*. There is no idempotency: each request that arrives is a new
transaction with a new receipt number, as in real terminals."""

from __future__ import annotations

from dataclasses import dataclass

from hil.terminal.cards import CARDS, Card
from hil.terminal.store import Hold, Pending, Row, Store
from hil.terminal.switches import Switches

# Codes of PA00P015 ch. 10.
ABORTED = 0x6C
WRONG_CURRENCY = 0x6F
NOT_REGISTERED = 0x6B
NOT_POSSIBLE = 0x83
PREAUTH_AMOUNT = 0xB7
PREAUTH_ERROR = 0xB8
EOD_DUE = 0xF0

TOTAL_COLUMNS = (
    0x05,
    0x0E,
    0x06,
    0x08,
    0x0A,
    0x0C,
)  # BMP 60: girocard, JCB, MC, Amex, Visa, Diners


class Declined(Exception):
    """The host or the terminal says no; nothing was moved."""

    def __init__(self, code: int) -> None:
        super().__init__(f"{code:02X}")
        self.code = code


@dataclass(frozen=True, slots=True)
class Booked:
    """A prepared transaction: its numbers and the amount the result reports."""

    kind: str
    receipt: int
    trace: int
    amount_minor: int
    hold: Hold
    rows: tuple[Row, ...] = ()


@dataclass(frozen=True, slots=True)
class DayTotals:
    """`columns` are (count, sum) in the order of BMP 60: the six named brands, then all others."""

    trace: int
    total_minor: int
    first_receipt: int
    last_receipt: int
    columns: tuple[tuple[int, int], ...]


class Bank:
    def __init__(self, store: Store, switches: Switches) -> None:
        self._store = store
        self._switches = switches
        self.refusals: dict[str, list[int]] = {}  # command name -> codes to refuse with, in order
        self.auto_reversals = 0

    def check_refusal(self, command: str) -> None:
        if codes := self.refusals.get(command):
            raise Declined(codes.pop(0))

    # --- Preparing --------------------------------------------------------------------------------

    def authorize(self, card: Card, amount_minor: int) -> Booked:
        """A hold; the approved amount may be less than asked. Raises Declined."""
        if card.result:
            raise Declined(card.result)
        limits = (card.at_most_minor, self._switches.approve_at_most_minor)
        approved = min([amount_minor, *(limit for limit in limits if limit is not None)])
        receipt, trace = self._store.next_numbers()
        now = self._store.now()
        memory = self._store.memory
        hold = Hold(
            receipt=receipt,
            trace=trace,
            turnover=memory.turnover,
            amount_minor=approved,
            currency=memory.currency,
            card=card.name,
            aid=f"{750000 + trace:06d}",
            date=now.strftime("%m%d"),
            time=now.strftime("%H%M%S"),
        )
        return Booked("hold", receipt, trace, approved, hold)

    def find(self, receipt: int) -> Hold:
        hold = self._store.hold(receipt)
        if hold is None:
            raise Declined(PREAUTH_ERROR)
        return hold

    def capture(self, hold: Hold, captured_minor: int) -> Booked:
        if not 0 <= captured_minor <= hold.amount_minor:
            raise Declined(PREAUTH_AMOUNT)
        if captured_minor == 0:
            return self.release(hold)
        receipt, trace = self._store.next_numbers()
        released = hold.amount_minor - captured_minor
        row = self._store.row("capture", receipt, trace, hold, captured_minor, released)
        return Booked("capture", receipt, trace, captured_minor, hold, (row,))

    def release(self, hold: Hold) -> Booked:
        receipt, trace = self._store.next_numbers()
        row = self._store.row("release", receipt, trace, hold, hold.amount_minor)
        reported = 0 if self._switches.cancel_amount == "zero" else hold.amount_minor
        return Booked("release", receipt, trace, reported, hold, (row,))

    def remember(self, booked: Booked, result: bytes) -> None:
        """The host has done it: durable before the ECR hears of it."""
        self._store.memory.pending = Pending(
            kind=booked.kind,
            receipt=booked.receipt,
            trace=booked.trace,
            amount_minor=booked.amount_minor,
            result=result.hex(),
            hold=booked.hold,
            rows=list(booked.rows),
        )
        rows = []
        if booked.kind == "hold":
            # A hold exists at the acquirer from the host's answer on, whatever the ECR says later.
            rows.append(
                self._store.row(
                    "hold", booked.receipt, booked.trace, booked.hold, booked.amount_minor
                )
            )
        self._store.save(rows)

    # --- The end of a transaction -----------------------------------------------------------------

    def commit(self) -> None:
        memory = self._store.memory
        pending = memory.pending
        if pending is None:
            return
        if pending.kind == "hold":
            memory.holds.append(pending.hold)
        else:
            memory.holds = [hold for hold in memory.holds if hold.receipt != pending.hold.receipt]
        if pending.kind == "capture":
            self._count(pending.hold, pending.receipt, pending.amount_minor)
        memory.last_result = pending.result
        memory.pending = None
        self._store.save(pending.rows)

    def _count(self, hold: Hold, receipt: int, amount_minor: int) -> None:
        memory = self._store.memory
        card = CARDS.get(hold.card)
        totals = memory.totals.setdefault(f"{card.card_type if card else 0xFF:02x}", [0, 0])
        totals[0] += 1
        totals[1] += amount_minor
        memory.first_receipt = memory.first_receipt or receipt
        memory.last_receipt = receipt

    def link_broke(self) -> bool:
        """The ECR did not answer a result. True when the transaction was taken back at once."""
        if self._store.memory.pending is None:
            return False
        if self._switches.auto_reversal == "never":
            self.commit()
            return False
        if self._switches.auto_reversal == "next_transaction":
            return False
        return self.take_back()

    def take_back(self) -> bool:
        """Automatic reversal of what was never answered. A capture or release that is taken back
        leaves its hold open."""
        memory = self._store.memory
        pending = memory.pending
        if pending is None:
            return False
        rows = []
        if pending.kind == "hold":
            rows.append(
                self._store.row(
                    "auto_reversal",
                    pending.receipt,
                    pending.trace,
                    pending.hold,
                    pending.amount_minor,
                )
            )
        memory.pending = None
        self.auto_reversals += 1
        self._store.save(rows)
        return True

    def note_result(self, result: bytes) -> None:
        """A declined payment is a last result, too."""
        self._store.memory.last_result = result.hex()
        self._store.save()

    # --- End of day -------------------------------------------------------------------------------

    def close_day(self) -> DayTotals:
        """Close the batch. Raises Declined with open holds where the acquirer wants none."""
        memory = self._store.memory
        rows: list[Row] = []
        rule = self._switches.eod_open_holds
        if memory.holds and rule == "refuses":
            raise Declined(PREAUTH_ERROR)
        for hold in memory.holds if rule != "keeps" else []:
            booked = self.capture(hold, hold.amount_minor if rule == "charges_full" else 0)
            rows += booked.rows
            if booked.kind == "capture":
                self._count(hold, booked.receipt, booked.amount_minor)
        if rule != "keeps":
            memory.holds = []
        sums = {int(key, 16): (count, total) for key, (count, total) in memory.totals.items()}
        named = [sums.pop(kind, (0, 0)) for kind in TOTAL_COLUMNS]
        others = (
            sum(count for count, _ in sums.values()),
            sum(total for _, total in sums.values()),
        )
        totals = DayTotals(
            trace=self._store.next_numbers()[1],
            total_minor=sum(total for _, total in [*named, others]),
            first_receipt=memory.first_receipt or 0,
            last_receipt=memory.last_receipt or 0,
            columns=(*named, others),
        )
        memory.totals, memory.first_receipt, memory.last_receipt = {}, None, None
        memory.turnover += 1
        self._switches.eod_due = False
        self._store.save(rows)
        return totals
