"""Commands that end an open hold, or list them: 06 23, 06 24, 06 25, 06 26."""

from __future__ import annotations

from collections.abc import Callable

from hil.terminal import codec
from hil.terminal.bank import NOT_POSSIBLE, PREAUTH_ERROR, Booked, Declined
from hil.terminal.dialogue import Talk
from hil.terminal.payment import PROTOCOL_ERROR
from hil.terminal.store import Hold
from hil.terminal.till import Ask, Till

ALL_OPEN = b"\xff\xff"  # receipt number of an enquiry
# A list whose lengths are too long by far, as one driver's unit test has it.
MALFORMED_LIST = bytes.fromhex("061123090802012308024567")


class Holds:
    def __init__(self, talk: Talk, till: Till) -> None:
        self._talk = talk
        self._desk = talk.desk
        self._till = till

    async def partial_reversal(self, data: bytes) -> None:
        """06 23. `04` is the part to release; without it nothing is released, and all is charged."""
        ask = self._till.ask("capture", data)
        if ask.fields.get(0x87) == ALL_OPEN:
            await self._enquire(has_tags=codec.TLV in ask.fields)
            return

        def book(hold: Hold) -> Booked:
            released = ask.amount_minor() or 0
            if released == hold.amount_minor:
                self._desk.complaints["nothing_charged_without_06_25"] += 1
            return self._desk.bank.capture(hold, hold.amount_minor - released)

        await self._finish(ask, book, allowed=self._desk.switches.partial_reversal)

    async def book_total(self, data: bytes) -> None:
        """06 24. `04` is the part to charge; without it all is charged."""
        ask = self._till.ask("book_total", data)
        if self._desk.switches.aid_required and 0x3B not in ask.fields:
            await self._talk.negative(PROTOCOL_ERROR)
            return

        def book(hold: Hold) -> Booked:
            used = ask.amount_minor()
            return self._desk.bank.capture(hold, hold.amount_minor if used is None else used)

        await self._finish(ask, book, allowed=self._desk.switches.book_total)

    async def cancel(self, data: bytes) -> None:
        """06 25."""
        ask = self._till.ask("cancel", data)
        await self._finish(ask, self._desk.bank.cancel, allowed=True)

    async def _finish(self, ask: Ask, book: Callable[[Hold], Booked], *, allowed: bool) -> None:
        bank, switches = self._desk.bank, self._desk.switches
        if await self._till.refuse_currency(ask.fields):
            return
        needs_trace = switches.trace_required and ask.command != "cancel"
        trace, aid = ask.trace(), ask.aid()
        if 0x87 not in ask.fields or (needs_trace and trace is None):
            await self._talk.negative(PROTOCOL_ERROR)
            return
        receipt = codec.from_bcd(ask.fields[0x87])
        await self._talk.positive()
        try:
            await self._till.admit(ask, new_money=False)
            if not allowed:
                raise Declined(NOT_POSSIBLE)
            hold = bank.find(receipt)
            if trace not in (None, hold.trace) or aid not in (None, hold.aid):
                raise Declined(PREAUTH_ERROR)
            booked = book(hold)
            await self._till.ask_host(ask.command)
        except Declined as refusal:
            await self._till.refuse(refusal.code)
            return
        await self._till.settle(ask, booked)

    async def cancel_foreign(self, data: bytes) -> None:
        """06 26: a hold that another terminal made, known by amount, trace and AID."""
        ask = self._till.ask("cancel_foreign", data)
        if await self._till.refuse_currency(ask.fields):
            return
        amount_minor, trace, aid = ask.amount_minor(), ask.trace(), ask.aid()
        if amount_minor is None or trace is None or aid is None:
            await self._talk.negative(PROTOCOL_ERROR)
            return
        await self._talk.positive()
        try:
            await self._till.admit(ask, new_money=False)
            booked = self._desk.bank.release_foreign(amount_minor, trace, aid)
            await self._till.ask_host(ask.command)
        except Declined as refusal:
            await self._till.refuse(refusal.code)
            return
        await self._till.settle(ask, booked)

    async def _enquire(self, *, has_tags: bool) -> None:
        """06 23 for receipt FFFF: always ends with an Abort, which is no failure."""
        talk, desk = self._talk, self._desk
        await talk.positive()
        receipts = [codec.bcd(hold.receipt, 2) for hold in desk.store.memory.holds]
        first = b"\x87" + (receipts[0] if receipts else ALL_OPEN)
        form = desk.switches.enquiry
        listed = codec.container(
            codec.tlv(0x23, *(codec.tlv(0x08, receipt) for receipt in receipts))
        )
        if form == "none":
            first, listed = b"\x87" + ALL_OPEN, b""
        elif form == "no_receipt":
            first = b""
        elif form == "malformed":
            first = MALFORMED_LIST
        elif form == "list_only":
            first = listed
        elif receipts and (form == "list" or (form == "auto" and has_tags)):
            first += listed
        await talk.abort(PREAUTH_ERROR, first)
