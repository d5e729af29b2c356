"""Commands that read a card or move money: 06 C0, 06 22, 06 23, 06 24, 06 25."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from hil.terminal import codec, results
from hil.terminal.bank import (
    ABORTED,
    EOD_DUE,
    NOT_POSSIBLE,
    NOT_REGISTERED,
    PREAUTH_ERROR,
    WRONG_CURRENCY,
    Booked,
    Declined,
)
from hil.terminal.cards import CARDS, UNREADABLE, Card
from hil.terminal.dialogue import Aborted, Talk
from hil.terminal.link import LinkBroken
from hil.terminal.store import Hold

ALL_OPEN = b"\xff\xff"  # receipt number of an enquiry
CARD_FROM_BEFORE = 0x02  # bit of the payment type
PROTOCOL_ERROR = 0x9A
AMOUNT_TOO_SMALL = 0xC8
SHOW_RESULT_S = 3.0

# Codes of the intermediate status 04 FF.
FF_WAIT_FOR_HOST = 0x04
FF_AUTO_REVERSAL = 0x05
FF_PRESENT_CARD = 0x0A
FF_PLEASE_WAIT = 0x0E
FF_DECLINED = 0x1D


class Payments:
    def __init__(self, talk: Talk) -> None:
        self._talk = talk
        self._desk = talk.desk
        self.reading_card = False
        self.prompting = False
        self._card_before: tuple[Card, float] | None = None

    def forget_card(self) -> None:
        self._card_before = None

    # --- 06 C0 ------------------------------------------------------------------------------------

    async def read_card(self, data: bytes) -> None:
        """Timeout (one byte, 0 for ever), then fields. Ends with 04 0F, without a Completion."""
        desk, talk = self._desk, self._talk
        timeout_s = float(data[0]) if data and data[0] else None
        fields = codec.fields(data[1:])
        tags = dict(codec.objects(fields.get(codec.TLV, b"")))
        control = (tags.get(0x1F15) or b"\x00")[0]
        await talk.positive()
        self._card_before = None
        try:
            self.reading_card = True
            card = await talk.wait_for_card(timeout_s)
        except Aborted:
            await talk.abort(ABORTED)
            return
        finally:
            self.reading_card = False
        await talk.take_time(desk.pace.CARD_S)
        if not card.readable:
            await talk.abort(UNREADABLE)
            return
        with_tags = codec.TLV in fields or desk.store.memory.tlv_allowed
        result = results.card_result(card, control, desk.switches, with_tags=with_tags)

        async def sent() -> None:
            await desk.points.pass_("read_card:result_sent")

        await talk.message(result, sent)
        self._card_before = (card, asyncio.get_running_loop().time())
        await desk.points.pass_("read_card:result_answered")
        await desk.points.pass_("read_card:completed")

    # --- 06 22 ------------------------------------------------------------------------------------

    async def reserve(self, data: bytes) -> None:
        desk, talk = self._desk, self._talk
        fields = codec.fields(data)
        if await self._refuse_currency(fields):
            return
        amount_minor = desk.switches.default_hold_minor
        if 0x04 in fields:
            amount_minor = codec.from_bcd(fields[0x04])
        await talk.positive()
        card: Card | None = None
        try:
            await self._admit("reserve", new_hold=True)
            if 0x0B in fields:
                raise Declined(NOT_POSSIBLE)  # extension of a reservation: not at this acquirer
            if amount_minor == 0:
                raise Declined(AMOUNT_TOO_SMALL)
            card = await self._card_for(fields)
            await self._ask_host()
            booked = desk.bank.authorize(card, amount_minor)
        except Aborted:
            await self._decline("reserve", ABORTED)
            return
        except Declined as refusal:
            await self._decline("reserve", refusal.code)
            return
        await self._settle("reserve", booked, fields)

    async def _card_for(self, fields: dict[int, bytes]) -> Card:
        """The card read just before, else the one that comes now. Raises Aborted."""
        desk = self._desk
        bit_set = bool(fields.get(0x19, b"\x00")[0] & CARD_FROM_BEFORE)
        if self._card_before and (bit_set or not desk.switches.pay_type_02_required):
            card, read_at = self._card_before
            if asyncio.get_running_loop().time() - read_at <= desk.switches.read_valid_s:
                return card
        if desk.field.present() is None:
            desk.screen.busy("", "Please present card")
            await self._talk.intermediate(FF_PRESENT_CARD)
        try:
            self.prompting = True
            card = await self._talk.wait_for_card(desk.switches.card_wait_s)
        finally:
            self.prompting = False
        await self._talk.take_time(desk.pace.CARD_S)
        return card

    async def _ask_host(self) -> None:
        desk, talk = self._desk, self._talk
        desk.screen.busy("", "Please wait")
        await talk.intermediate(FF_PLEASE_WAIT)
        if desk.switches.extra_status_t4_min is not None:
            await talk.intermediate(FF_WAIT_FOR_HOST, desk.switches.extra_status_t4_min)
        await talk.take_time(desk.pace.HOST_S)
        await talk.intermediate(FF_WAIT_FOR_HOST)

    # --- 06 23, 06 24, 06 25 ----------------------------------------------------------------------

    async def partial_reversal(self, data: bytes) -> None:
        """`04` is the part to release; without it nothing is released, and all is charged."""
        fields = codec.fields(data)
        if fields.get(0x87) == ALL_OPEN:
            await self._enquire(has_tags=codec.TLV in fields)
            return

        def book(hold: Hold) -> Booked:
            released = codec.from_bcd(fields[0x04]) if 0x04 in fields else 0
            return self._desk.bank.capture(hold, hold.amount_minor - released)

        await self._finish("capture", fields, book, allowed=self._desk.switches.partial_reversal)

    async def book_total(self, data: bytes) -> None:
        """`04` is the part to charge; without it all is charged."""
        fields = codec.fields(data)

        def book(hold: Hold) -> Booked:
            used = codec.from_bcd(fields[0x04]) if 0x04 in fields else hold.amount_minor
            return self._desk.bank.capture(hold, used)

        await self._finish("book_total", fields, book, allowed=self._desk.switches.book_total)

    async def cancel(self, data: bytes) -> None:
        await self._finish("cancel", codec.fields(data), self._desk.bank.release, allowed=True)

    async def _finish(
        self,
        command: str,
        fields: dict[int, bytes],
        book: Callable[[Hold], Booked],
        *,
        allowed: bool,
    ) -> None:
        talk, bank = self._talk, self._desk.bank
        if await self._refuse_currency(fields):
            return
        if 0x87 not in fields:
            await talk.negative(PROTOCOL_ERROR)
            return
        await talk.positive()
        try:
            await self._admit(command, new_hold=False)
            if not allowed:
                raise Declined(NOT_POSSIBLE)
            hold = bank.find(codec.from_bcd(fields[0x87]))
            booked = book(hold)
        except Declined as refusal:
            self._show([results.text_for(refusal.code)])
            await talk.abort(refusal.code)
            return
        await self._ask_host()
        await self._settle(command, booked, fields)

    async def _enquire(self, *, has_tags: bool) -> None:
        """06 23 for receipt FFFF: always ends with an Abort, which is no failure."""
        talk, desk = self._talk, self._desk
        await talk.positive()
        receipts = [codec.bcd(hold.receipt, 2) for hold in desk.store.memory.holds]
        first = b"\x87" + (receipts[0] if receipts else ALL_OPEN)
        form = desk.switches.enquiry
        if form == "no_receipt":
            await talk.abort(PREAUTH_ERROR)
            return
        if receipts and (form == "list" or (form == "auto" and has_tags)):
            listed = codec.tlv(0x23, *(codec.tlv(0x08, receipt) for receipt in receipts))
            first += codec.container(listed)
        await talk.abort(PREAUTH_ERROR, first)

    # --- What all of them share -------------------------------------------------------------------

    async def _refuse_currency(self, fields: dict[int, bytes]) -> bool:
        """A wrong currency is refused at once, naming the terminal's own."""
        own = codec.bcd(int(self._desk.store.memory.currency), 2)
        if fields.get(0x49, own) == own:
            return False
        await self._talk.negative(0x1E, bytes([WRONG_CURRENCY]) + own)
        return True

    async def _admit(self, command: str, *, new_hold: bool) -> None:
        """Does the terminal take this command in its present state? Raises Declined. What an earlier
        broken dialogue left to be taken back is taken back first."""
        desk = self._desk
        switches, memory = desk.switches, desk.store.memory
        if desk.bank.take_back():
            desk.points.trace.append("auto_reversal")
            await self._talk.intermediate(FF_AUTO_REVERSAL)
        desk.bank.check_refusal(command)
        if switches.locked is not None:
            raise Declined(switches.locked)
        if switches.require_registration and not memory.registered:
            raise Declined(NOT_REGISTERED)
        if new_hold and switches.eod_due:
            raise Declined(EOD_DUE)
        if new_hold and len(memory.holds) >= switches.max_holds:
            raise Declined(PREAUTH_ERROR)

    async def _decline(self, command: str, code: int) -> None:
        """04 0F with the code, then 06 1E with the same."""
        talk, desk = self._talk, self._desk
        self._show([results.text_for(code)])
        result = results.declined_result(code, desk.store.memory)
        await talk.message(result)
        desk.bank.note_result(result)
        await talk.abort(code)

    async def _settle(self, command: str, booked: Booked, asked: dict[int, bytes]) -> None:
        """From the host's yes to the Completion. The transaction is final once the ECR has answered
        all that must be answered; before that it is taken back."""
        desk, talk = self._desk, self._talk
        store, switches = desk.store, desk.switches
        card = CARDS[booked.hold.card]
        result = results.money_result(
            booked,
            card,
            store,
            switches,
            with_currency=0x49 in asked or store.memory.sends_currency,
            with_tags=codec.TLV in asked or store.memory.tlv_allowed,
        )
        slips: list[bytes] = []
        if booked.kind != "hold" or switches.print_hold:
            lines = results.receipt_lines(booked, store)
            slips = results.print_messages(lines, store.memory, switches)
        desk.bank.remember(booked, result)
        first, last = (slips, []) if switches.print_before_result else ([], slips)
        if not await self._all_taken(first) or not await self._offer(command, result):
            await self._give_up()
            return
        if not last:
            desk.bank.commit()
        await desk.points.pass_(f"{command}:result_answered")
        if last:
            if not await self._all_taken(last):
                await self._give_up()
                return
            desk.bank.commit()
        self._show_booked(booked)
        await talk.complete(command)

    async def _all_taken(self, messages: list[bytes]) -> bool:
        for message in messages:
            if not is_positive(await self._talk.message(message)):
                return False
        return True

    async def _offer(self, command: str, result: bytes) -> bool:
        """Send 04 0F; `84 9C 00` asks for it again, a few times. True when taken."""
        desk = self._desk

        async def sent() -> None:
            await desk.points.pass_(f"{command}:result_sent")

        for _ in range(desk.switches.vending_repeats + 1):
            await desk.points.pass_(f"{command}:result_due")
            answer = await self._talk.message(result, sent)
            if answer[:2] != b"\x84\x9c":
                return is_positive(answer)
            await self._talk.take_time(desk.switches.vending_repeat_s)
        return False

    async def _give_up(self) -> None:
        """The ECR said no to a result: it is taken back, and the ECR is told so."""
        desk = self._desk
        desk.bank.take_back()
        desk.points.trace.append("auto_reversal")
        self._show([results.text_for(ABORTED)])
        await self._talk.message(results.declined_result(ABORTED, desk.store.memory))
        await self._talk.abort(ABORTED)

    def link_broke(self, error: LinkBroken) -> None:
        """The dialogue is dead. What was not answered is taken back now or later."""
        desk = self._desk
        self.reading_card = self.prompting = False
        desk.points.trace.append("link_broken")
        if desk.bank.link_broke():
            desk.points.trace.append("auto_reversal")
        self._show(["Cancelled"])

    def _show_booked(self, booked: Booked) -> None:
        amount = results.money(booked.amount_minor, booked.hold.currency)
        if booked.kind == "hold":
            self._show(["", f"Approved {amount}", "Remove card"])
        elif booked.kind == "capture":
            self._show(["", f"Paid {amount}", "Thank you"])
        else:
            self._show(["", "Reservation released"])

    def _show(self, lines: list[str]) -> None:
        self._desk.screen.done(lines, self._desk.pace.seconds(SHOW_RESULT_S))


def is_positive(answer: bytes) -> bool:
    """80 00, and 84 00, which also means yes."""
    return answer[:2] in (b"\x80\x00", b"\x84\x00")
