"""Commands that ask for new money or give it back: 06 01, 06 22, 06 30, 06 31."""

from __future__ import annotations

from collections.abc import Callable

from hil.terminal import codec
from hil.terminal.bank import ABORTED, AMOUNT_TOO_SMALL, Booked, Declined
from hil.terminal.cards import Card
from hil.terminal.dialogue import Aborted, Talk
from hil.terminal.till import Ask, Till

PROTOCOL_ERROR = 0x9A
Book = Callable[[Card, int], Booked]


class Payments:
    def __init__(self, talk: Talk, till: Till) -> None:
        self._talk = talk
        self._desk = talk.desk
        self._till = till

    async def pay(self, data: bytes) -> None:
        """06 01."""
        ask = self._till.ask("pay", data)
        if await self._till.refuse_currency(ask.fields):
            return
        amount_minor = ask.amount_minor()
        if amount_minor is None:
            await self._talk.negative(PROTOCOL_ERROR)  # nobody enters amounts here
            return
        await self._talk.positive()
        await self.with_card(ask, amount_minor, self._desk.bank.pay)

    async def reserve(self, data: bytes) -> None:
        """06 22; with a trace number it raises an open reservation."""
        ask = self._till.ask("reserve", data)
        if await self._till.refuse_currency(ask.fields):
            return
        if ask.trace() is not None:
            await self._raise(ask)
            return
        amount_minor = ask.amount_minor()
        if amount_minor is None:
            amount_minor = self._desk.switches.default_hold_minor
        await self._talk.positive()
        await self.with_card(ask, amount_minor, self._desk.bank.authorize, new_hold=True)

    async def refund(self, data: bytes) -> None:
        """06 31: password, then fields; a card must be presented."""
        ask = self._till.ask("refund", data[3:])
        if await self._till.refuse_currency(ask.fields):
            return
        amount_minor = ask.amount_minor()
        if amount_minor is None:
            await self._talk.negative(PROTOCOL_ERROR)
            return
        await self._talk.positive()
        await self.with_card(ask, amount_minor, self._desk.bank.refund)

    async def with_card(
        self, ask: Ask, amount_minor: int, book: Book, *, new_hold: bool = False
    ) -> None:
        """From the admission on; the command was answered."""
        try:
            await self._till.admit(ask, new_money=True, new_hold=new_hold)
            if amount_minor == 0:
                raise Declined(AMOUNT_TOO_SMALL)
            ask = await self._till.card_for(ask)
            assert ask.card is not None
            await self._till.ask_host(ask.command)
            booked = book(ask.card, amount_minor)
        except Aborted:
            await self._till.decline(ABORTED)
            return
        except Declined as refusal:
            await self._till.decline(refusal.code)
            return
        await self._till.settle(ask, booked)

    async def _raise(self, ask: Ask) -> None:
        bank = self._desk.bank
        ask = Ask("increment", ask.fields, ask.tags)
        add_minor, trace, aid = ask.amount_minor(), ask.trace(), ask.aid()
        if add_minor is None or trace is None or aid is None:
            await self._talk.negative(PROTOCOL_ERROR)
            return
        await self._talk.positive()
        try:
            await self._till.admit(ask, new_money=True)
            hold = bank.find_by_trace(trace, aid)
            await self._till.ask_host(ask.command)
            booked = bank.increment(hold, add_minor)
        except Declined as refusal:
            await self._till.decline(refusal.code)
            return
        await self._till.settle(ask, booked)

    async def reverse(self, data: bytes) -> None:
        """06 30: password, receipt number, and the amount, which must be the original one."""
        ask = self._till.ask("reverse", data[3:])
        if await self._till.refuse_currency(ask.fields):
            return
        if 0x87 not in ask.fields:
            await self._talk.negative(PROTOCOL_ERROR)
            return
        receipt, amount_minor = codec.from_bcd(ask.fields[0x87]), ask.amount_minor()
        await self._talk.positive()
        try:
            await self._till.admit(ask, new_money=False)
            booked = self._desk.bank.reverse(receipt, amount_minor)
            await self._till.ask_host(ask.command)
        except Declined as refusal:
            await self._till.decline(refusal.code)
            return
        await self._till.settle(ask, booked)
