"""The money side of the terminal: what the host approves for what is asked.

A transaction is *prepared* here (the host has done it); `booking` makes it final or takes it back.
There is no idempotency: each request that arrives is a new transaction with new numbers, as in real
terminals."""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import datetime, timedelta

from hil.terminal.cards import CARDS, Card
from hil.terminal.store import Booking, Hold, Row, Store
from hil.terminal.switches import Switches

# Codes of PA00P015 ch. 10.
ABORTED = 0x6C
WRONG_CURRENCY = 0x6F
NOT_REGISTERED = 0x6B
NOT_POSSIBLE = 0x83
ALREADY_REVERSED = 0xB4
REVERSAL_IMPOSSIBLE = 0xB5
PREAUTH_AMOUNT = 0xB7
PREAUTH_ERROR = 0xB8
MAX_AMOUNT = 0xC3
METHOD_UNSUPPORTED = 0xC5
AMOUNT_TOO_SMALL = 0xC8
EOD_DUE = 0xF0


class Declined(Exception):
    """The host or the terminal says no; nothing was moved."""

    def __init__(self, code: int) -> None:
        super().__init__(f"{code:02X}")
        self.code = code


@dataclass(frozen=True, slots=True)
class Booked:
    """A prepared transaction: its numbers, and the amount that moves. `rows_now` are booked at the
    acquirer with its approval, `rows` when it becomes final. `reported_minor`: the amount in the
    result where that is another one."""

    kind: str
    receipt: int
    trace: int
    amount_minor: int
    hold: Hold
    rows: tuple[Row, ...] = ()
    rows_now: tuple[Row, ...] = ()
    reported_minor: int | None = None
    reverses: int | None = None

    @property
    def shown_minor(self) -> int:
        return self.amount_minor if self.reported_minor is None else self.reported_minor


class Bank:
    def __init__(self, store: Store, switches: Switches) -> None:
        self._store = store
        self._switches = switches
        self.refusals: dict[str, list[int]] = {}  # command name -> codes to refuse with, in order

    def check_refusal(self, command: str) -> None:
        if codes := self.refusals.get(command):
            raise Declined(codes.pop(0))

    def _numbers(self, keep_receipt: int | None = None) -> tuple[int, int]:
        skip_open = self._switches.receipt_reuse == "skips_open"
        return self._store.next_numbers(keep_receipt=keep_receipt, skip_open=skip_open)

    # --- New money ---------------------------------------------------------------------------------

    def _approved(self, card: Card, amount_minor: int) -> int:
        """What is approved, which may be less than asked. Raises Declined."""
        switches = self._switches
        if card.result:
            raise Declined(card.result)
        if amount_minor == 0 or amount_minor < switches.min_amount_minor:
            raise Declined(AMOUNT_TOO_SMALL)
        if switches.max_amount_minor is not None and amount_minor > switches.max_amount_minor:
            raise Declined(MAX_AMOUNT)
        if switches.pin_above_minor is not None and amount_minor > switches.pin_above_minor:
            raise Declined(switches.pin_code)
        limits = (card.at_most_minor, switches.approve_at_most_minor)
        return min([amount_minor, *(limit for limit in limits if limit is not None)])

    def _subject(self, card: Card, amount_minor: int) -> Hold:
        receipt, trace = self._numbers()
        memory, now = self._store.memory, self._store.now()
        return Hold(
            receipt=receipt,
            trace=trace,
            turnover=memory.turnover,
            amount_minor=amount_minor,
            currency=memory.currency,
            card=card.name,
            aid=f"{(750_000 + trace) % 1_000_000:06d}",
            date=now.strftime("%m%d"),
            time=now.strftime("%H%M%S"),
            born=self._store.world_now().isoformat(),
            tid=memory.tid,
        )

    def _new(self, kind: str, card: Card, amount_minor: int) -> Booked:
        subject = self._subject(card, amount_minor)
        # It exists at the acquirer from the host's answer on, whatever the ECR says later.
        row = self._store.row(kind, subject.receipt, subject.trace, subject, amount_minor)
        return Booked(kind, subject.receipt, subject.trace, amount_minor, subject, rows_now=(row,))

    def authorize(self, card: Card, amount_minor: int) -> Booked:
        """A hold. Raises Declined."""
        return self._new("hold", card, self._approved(card, amount_minor))

    def pay(self, card: Card, amount_minor: int) -> Booked:
        """An immediate payment. Raises Declined."""
        return self._new("payment", card, self._approved(card, amount_minor))

    def refund(self, card: Card, amount_minor: int) -> Booked:
        if not self._switches.refund:
            raise Declined(NOT_POSSIBLE)
        if card.is_debit and not self._switches.refund_debit:
            raise Declined(METHOD_UNSUPPORTED)
        if card.result:
            raise Declined(card.result)
        if amount_minor == 0:
            raise Declined(AMOUNT_TOO_SMALL)
        return self._new("refund", card, amount_minor)

    # --- An open hold ------------------------------------------------------------------------------

    def find(self, receipt: int) -> Hold:
        hold = self._store.hold(receipt)
        if hold is None:
            raise Declined(PREAUTH_ERROR)
        return hold

    def find_by_trace(self, trace: int, aid: str | None) -> Hold:
        """By the numbers an increment names. Raises Declined."""
        for hold in self._store.memory.holds:
            if hold.trace == trace and (aid is None or aid == hold.aid):
                return hold
        raise Declined(PREAUTH_ERROR)

    def increment(self, hold: Hold, add_minor: int) -> Booked:
        """Raise a hold by `add_minor`, or by less. Raises Declined."""
        switches = self._switches
        if not switches.increments:
            raise Declined(NOT_POSSIBLE)
        if (
            switches.increment_count_max is not None
            and hold.increments >= switches.increment_count_max
        ):
            raise Declined(PREAUTH_ERROR)
        if hold.expired:
            raise Declined(PREAUTH_ERROR)
        added = self._approved(CARDS[hold.card], add_minor)
        if switches.increment_at_most_minor is not None:
            added = min(added, switches.increment_at_most_minor)
        total = hold.amount_minor + added
        limit = switches.increment_sum_max_minor
        if added == 0 or (limit is not None and total > limit):
            raise Declined(PREAUTH_AMOUNT)
        keep = hold.receipt if switches.increment_receipt == "same" else None
        receipt, trace = self._numbers(keep)
        row = self._store.row("increment", receipt, trace, hold, added)
        reported = total if switches.increment_reports == "total" else added
        return Booked(
            "increment", receipt, trace, added, hold, rows_now=(row,), reported_minor=reported
        )

    def capture(self, hold: Hold, captured_minor: int) -> Booked:
        if hold.expired:
            raise Declined(PREAUTH_ERROR)
        if not 0 <= captured_minor <= hold.amount_minor:
            raise Declined(PREAUTH_AMOUNT)
        if captured_minor == 0:
            return self._release(hold)
        receipt, trace = self._numbers()
        released = hold.amount_minor - captured_minor
        row = self._store.row(
            "capture", receipt, trace, hold, captured_minor, released_minor=released
        )
        return Booked("capture", receipt, trace, captured_minor, hold, (row,))

    def cancel(self, hold: Hold) -> Booked:
        """06 25. Raises Declined where the card kind has no such thing."""
        if CARDS[hold.card].is_debit and not self._switches.cancel_debit:
            raise Declined(NOT_POSSIBLE)
        return self._release(hold)

    def _release(self, hold: Hold) -> Booked:
        receipt, trace = self._numbers()
        row = self._store.row("release", receipt, trace, hold, hold.amount_minor)
        rows = () if hold.expired else (row,)  # the bank has freed it long ago
        reported = 0 if self._switches.cancel_amount == "zero" else hold.amount_minor
        return Booked(
            "release", receipt, trace, hold.amount_minor, hold, rows, reported_minor=reported
        )

    def release_foreign(self, amount_minor: int, trace: int, aid: str) -> Booked:
        """06 26: a hold that another terminal made. Raises Declined."""
        if not self._switches.foreign_reversal:
            raise Declined(NOT_POSSIBLE)
        for hold in self._store.memory.foreign:
            if (hold.amount_minor, hold.trace, hold.aid) == (amount_minor, trace, aid):
                return replace(self._release(hold), kind="foreign_release")
        raise Declined(PREAUTH_ERROR)

    def expire(self) -> list[Hold]:
        """Holds whose time at the bank is over; each is booked once."""
        days, memory = self._switches.hold_days, self._store.memory
        if days is None:
            return []
        limit = self._store.world_now() - timedelta(days=days)
        over = [
            hold
            for hold in (*memory.holds, *memory.foreign)
            if not hold.expired and hold.born and datetime.fromisoformat(hold.born) <= limit
        ]
        if not over:
            return []
        for hold in over:
            hold.expired = True
        memory.foreign = [hold for hold in memory.foreign if not hold.expired]
        if self._switches.expired_holds == "vanish":
            memory.holds = [hold for hold in memory.holds if not hold.expired]
        rows = [
            self._store.row("expiry", hold.receipt, hold.trace, hold, hold.amount_minor)
            for hold in over
        ]
        self._store.save(rows)
        return over

    # --- 06 30 -------------------------------------------------------------------------------------

    def reverse(self, receipt: int, amount_minor: int | None) -> Booked:
        """Take back a booking of this batch. Raises Declined."""
        found = self._to_reverse(receipt)
        if found.reversed:
            raise Declined(ALREADY_REVERSED)
        if amount_minor is not None and amount_minor != found.amount_minor:
            raise Declined(REVERSAL_IMPOSSIBLE)
        number, trace = self._numbers()
        row = self._store.row(
            "reversal", number, trace, found.hold, found.amount_minor,
            reverses=found.kind, reverses_receipt=receipt,
        )  # fmt: skip
        return Booked(
            "reversal", number, trace, found.amount_minor, found.hold, (row,), reverses=receipt
        )

    def _to_reverse(self, receipt: int) -> Booking:
        memory, rule = self._store.memory, self._switches.reversal
        found = [booking for booking in memory.bookings if booking.receipt == receipt]
        if rule == "none" or not found:
            raise Declined(REVERSAL_IMPOSSIBLE)
        if rule == "last" and (memory.last is None or receipt != memory.receipt_last):
            if found[-1].reversed:
                raise Declined(ALREADY_REVERSED)
            raise Declined(REVERSAL_IMPOSSIBLE)
        return found[-1]
