"""When a transaction is final, and what takes it back (PA00P015 ch. 4).

Prepared by `bank`, a transaction is remembered before the ECR hears of it; it is *committed* when the
ECR has answered the result, and else *taken back*: at once, at the next transaction, or never."""

from __future__ import annotations

from hil.terminal.bank import Booked
from hil.terminal.store import Booking, Pending, Row, Store
from hil.terminal.switches import Switches

# Kinds that the acquirer knows from its approval on, so that taking them back is a movement, too.
KNOWN_AT_ONCE = ("hold", "increment", "payment", "refund")
BOOKED = ("payment", "capture", "refund")


class Books:
    def __init__(self, store: Store, switches: Switches) -> None:
        self._store = store
        self._switches = switches
        self.auto_reversals = 0

    def remember(self, booked: Booked, result: bytes, *, sync: bool = False) -> None:
        """The host has done it: durable before the ECR hears of it."""
        memory = self._store.memory
        memory.pending = Pending(
            kind=booked.kind,
            receipt=booked.receipt,
            trace=booked.trace,
            amount_minor=booked.amount_minor,
            result=result.hex(),
            hold=booked.hold,
            rows=list(booked.rows),
            sync=sync and self._switches.sync_id,
            reverses=booked.reverses,
        )
        memory.receipt_before, memory.receipt_last = memory.receipt_last, booked.receipt
        self._store.save(list(booked.rows_now))

    # --- Final -------------------------------------------------------------------------------------

    def commit(self, issued_minor: int | None = None, result: bytes | None = None) -> None:
        """`issued_minor`: only this part of a payment stands, the rest goes back; `result` then takes
        the place of the remembered one."""
        memory = self._store.memory
        pending = memory.pending
        if pending is None:
            return
        if result is not None:
            pending.result = result.hex()
        rows = list(pending.rows)
        if issued_minor is not None and issued_minor != pending.amount_minor:
            rows.append(
                self._back(pending, "reversal", pending.amount_minor - issued_minor, partial=True)
            )
            pending.amount_minor = issued_minor
        self._apply(pending)
        memory.last_result, memory.last = pending.result, pending
        memory.pending = None
        self._store.save(rows)

    def _apply(self, done: Pending) -> None:
        memory = self._store.memory
        if done.kind == "hold":
            memory.holds.append(done.hold)
        elif done.kind == "increment":
            for hold in memory.holds:
                if hold.key == done.hold.key:
                    hold.amount_minor += done.amount_minor
                    hold.increments += 1
        elif done.kind == "reversal":
            for booking in memory.bookings:
                if booking.receipt == done.reverses:
                    booking.reversed = True
        elif done.kind == "foreign_release":
            memory.foreign = [hold for hold in memory.foreign if hold.key != done.hold.key]
        elif done.kind in ("capture", "release"):
            memory.holds = [hold for hold in memory.holds if hold.key != done.hold.key]
        if done.kind in BOOKED:
            memory.bookings.append(
                Booking(done.kind, done.receipt, done.trace, done.amount_minor, done.hold)
            )

    # --- Taken back --------------------------------------------------------------------------------

    def link_broke(self) -> bool:
        """The ECR did not answer a result. True when the transaction was taken back at once."""
        pending = self._store.memory.pending
        if pending is None or pending.sync:
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
        if pending.kind in KNOWN_AT_ONCE:
            rows.append(self._back(pending, "auto_reversal", pending.amount_minor))
        memory.pending = None
        memory.receipt_last = memory.receipt_before
        self.auto_reversals += 1
        self._store.save(rows)
        return True

    def settle_broken(self, last_receipt: int | None) -> bool:
        """A new transaction begins. `last_receipt` is what the ECR knows of (1F1F; None: it does not
        say). True when something was taken back."""
        memory = self._store.memory
        pending = memory.pending
        if last_receipt is None or not self._switches.sync_id:
            return self.take_back()
        if pending is not None and last_receipt == memory.receipt_last:
            self.commit()  # the ECR has it: only the answer got lost
            return False
        if last_receipt == memory.receipt_before and last_receipt != memory.receipt_last:
            return self.take_back() if pending is not None else self._undo_last()
        # Another number than one of the last two is ignored.
        return self.take_back() if pending is not None and not pending.sync else False

    def _undo_last(self) -> bool:
        """The ECR is one behind though it had answered: its memory is older than our answer."""
        memory = self._store.memory
        last = memory.last
        if last is None:
            return False
        if last.kind == "hold":
            memory.holds = [hold for hold in memory.holds if hold.key != last.hold.key]
        elif last.kind == "increment":
            for hold in memory.holds:
                if hold.key == last.hold.key:
                    hold.amount_minor -= last.amount_minor
        elif last.kind in ("capture", "release"):
            memory.holds.append(last.hold)
        memory.bookings = [item for item in memory.bookings if item.receipt != last.receipt]
        row = self._back(last, "auto_reversal", last.amount_minor)
        memory.last, memory.receipt_last = None, memory.receipt_before
        self.auto_reversals += 1
        self._store.save([row])
        return True

    def _back(self, done: Pending, kind: str, amount_minor: int, *, partial: bool = False) -> Row:
        more = {"partial": True} if partial else {}
        row = self._store.row(
            kind, done.receipt, done.trace, done.hold, amount_minor, reverses=done.kind, **more
        )
        if partial:
            row["id"] += "-partial"
        return row

    def note_result(self, result: bytes) -> None:
        """A declined payment is a last result, too."""
        self._store.memory.last_result = result.hex()
        self._store.save()
