"""The batch between two ends of day: its totals, when it is due, how it is closed."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta

from hil.terminal.bank import Bank, Declined
from hil.terminal.cards import CARDS
from hil.terminal.store import Booking, Hold, Row, Store
from hil.terminal.switches import Switches

# BMP 60: six named brands by their ZVT card type, then all others.
BRANDS = {
    "girocard": 0x05, "jcb": 0x0E, "mastercard": 0x06, "amex": 0x08, "visa": 0x0A, "diners": 0x0C,
}  # fmt: skip
OTHERS = "others"
TURNOVER_MAX = 999_999


@dataclass(frozen=True, slots=True)
class DayTotals:
    """`columns`: (count, sum) of each brand in the order of BMP 60. A reversed booking counts nowhere,
    a refund takes from the sum, which never shows less than 0."""

    trace: int
    total_minor: int
    first_receipt: int
    last_receipt: int
    columns: tuple[tuple[int, int], ...]

    def by_brand(self) -> dict[str, list[int]]:
        return dict(zip((*BRANDS, OTHERS), map(list, self.columns), strict=True))


class Batch:
    def __init__(self, store: Store, switches: Switches, bank: Bank) -> None:
        self._store, self._switches, self._bank = store, switches, bank

    @property
    def is_due(self) -> bool:
        switches, memory = self._switches, self._store.memory
        if switches.eod_due:
            return True
        if switches.eod_due_count is not None and len(memory.bookings) >= switches.eod_due_count:
            return True
        if switches.eod_due_h is None or not memory.day_opened:
            return False
        opened = datetime.fromisoformat(memory.day_opened)
        return self._store.world_now() - opened >= timedelta(hours=switches.eod_due_h)

    @property
    def is_empty(self) -> bool:
        return not self._store.memory.bookings and not self._store.memory.holds

    def totals(self) -> DayTotals:
        """Of the batch as it is; takes a trace number."""
        memory = self._store.memory
        sums = {name: [0, 0] for name in (*BRANDS, OTHERS)}
        names = {kind: name for name, kind in BRANDS.items()}
        for booking in memory.bookings:
            if booking.reversed:
                continue
            column = sums[names.get(CARDS[booking.hold.card].card_type, OTHERS)]
            column[0] += 1
            column[1] += -booking.amount_minor if booking.kind == "refund" else booking.amount_minor
        columns = tuple((count, max(0, total)) for count, total in sums.values())
        _, trace = self._store.next_numbers(keep_receipt=0)
        return DayTotals(
            trace=trace,
            total_minor=max(0, sum(total for _, total in sums.values())),
            first_receipt=memory.bookings[0].receipt if memory.bookings else 0,
            last_receipt=memory.bookings[-1].receipt if memory.bookings else 0,
            columns=columns,
        )

    def close(self) -> DayTotals:
        """Close the batch. Raises Declined with open holds where the acquirer wants none."""
        memory = self._store.memory
        rule = self._switches.eod_open_holds
        if memory.holds and rule == "refuses":
            raise Declined(self._switches.eod_refuse_code)
        rows: list[Row] = []
        if rule != "keeps":
            for hold in memory.holds:
                rows += self._end(hold, charge=rule == "charges_full")
            memory.holds = []
        totals = self.totals()
        rows.append(self._row(totals))
        memory.bookings, memory.last = [], None
        memory.turnover = memory.turnover % TURNOVER_MAX + 1
        memory.day_opened = self._store.world_now().isoformat()
        if self._switches.receipt_reset_at_eod:
            memory.next_receipt = 1
        self._switches.eod_due = False
        self._store.save(rows)
        return totals

    def _end(self, hold: Hold, *, charge: bool) -> tuple[Row, ...]:
        """What the acquirer does with a hold that is open at the end of the day."""
        amount = hold.amount_minor if charge and not hold.expired else 0
        if hold.expired:
            return ()
        booked = self._bank.capture(hold, amount)
        if booked.kind == "capture":
            self._store.memory.bookings.append(
                Booking("capture", booked.receipt, booked.trace, amount, hold)
            )
        return booked.rows

    def _row(self, totals: DayTotals) -> Row:
        memory = self._store.memory
        nothing = Hold(
            receipt=0, trace=0, turnover=memory.turnover, amount_minor=0, currency=memory.currency,
            card="", aid="", date="", time="",
        )  # fmt: skip
        return self._store.row(
            "end_of_day", totals.last_receipt, totals.trace, nothing, totals.total_minor,
            totals=totals.by_brand(),
        )  # fmt: skip
