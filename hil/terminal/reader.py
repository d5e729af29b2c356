"""Commands that read a card: 06 C0, 06 E6."""

from __future__ import annotations

import asyncio

from hil.terminal import codec, results
from hil.terminal.bank import ABORTED, EOD_DUE
from hil.terminal.cards import ALL_TECHNOLOGIES, CHIP, MAGSTRIPE, UNREADABLE, Card
from hil.terminal.dialogue import Aborted, Talk
from hil.terminal.payment import PROTOCOL_ERROR, Payments
from hil.terminal.till import Ask, Read, Till

CARD_UNKNOWN = 0x7A
# High nibble of BMP 19 in a card read, where 1F60 is missing; everything else is magnetic stripe.
READ_TYPES = {0x1: CHIP, 0x2: CHIP, 0x5: CHIP | MAGSTRIPE}


class Reader:
    def __init__(self, talk: Talk, till: Till, payments: Payments) -> None:
        self._talk = talk
        self._desk = talk.desk
        self._till = till
        self._payments = payments
        self.reading_card = False

    async def read_card(self, data: bytes) -> None:
        """Timeout (one byte, 0 for ever), then fields. Ends with 04 0F, without a Completion."""
        desk, talk = self._desk, self._talk
        timeout_s = float(data[0]) if data and data[0] else desk.switches.read_limit_s
        fields = desk.fields(data[1:])
        tags = codec.tags(fields)
        await talk.positive()
        self._till.card_before = None
        if desk.switches.eod_due_blocks_read and desk.batch.is_due:
            await talk.abort(EOD_DUE)
            return
        card = await self._present(timeout_s, self._technologies(fields, tags))
        if card is None:
            return
        memory = desk.store.memory
        with_tags = codec.TLV in fields or memory.tlv_allowed or desk.switches.tlv_always
        control = (tags.get(0x1F15) or b"\x00")[0]
        result = results.card_result(card, control, desk.switches, with_tags=with_tags)
        technology = desk.field.technology

        async def sent() -> None:
            await desk.points.pass_("read_card:result_sent")

        await talk.message(result, sent)
        self._till.card_before = Read(card, technology, asyncio.get_running_loop().time())
        await desk.points.pass_("read_card:result_answered")
        await desk.points.pass_("read_card:completed")

    def _technologies(self, fields: dict[int, bytes], tags: dict[int, bytes]) -> int:
        if tags.get(0x1F60):
            return tags[0x1F60][0]
        if not self._desk.switches.strict_read_type:
            return ALL_TECHNOLOGIES
        return READ_TYPES.get(fields.get(0x19, b"\x00")[0] >> 4, MAGSTRIPE)

    async def _present(self, timeout_s: float | None, technologies: int) -> Card | None:
        """The card; None when the command has been aborted without one."""
        talk = self._talk
        try:
            self.reading_card = True
            card = await talk.wait_for_card(timeout_s, technologies)
        except Aborted:
            await talk.abort(ABORTED)
            return None
        finally:
            self.reading_card = False
        await talk.take_time(self._desk.pace.CARD_S)
        if not card.readable:
            await talk.abort(UNREADABLE)
            return None
        return card

    async def poll(self, data: bytes) -> None:
        """06 E6: a bank card pays (amount 0: is only told), any other card is named in an Abort."""
        talk = self._talk
        ask = self._till.ask("poll_card", data)
        if await self._till.refuse_currency(ask.fields):
            return
        amount_minor = ask.amount_minor()
        timeout = ask.tags.get(0x1F5B)
        if amount_minor is None:
            await talk.negative(PROTOCOL_ERROR)
            return
        await talk.positive()
        timeout_s = float(int.from_bytes(timeout, "big")) if timeout else None
        card = await self._present(timeout_s, ask.technologies)
        if card is None:
            return
        if not card.is_bank:
            await talk.abort(CARD_UNKNOWN, self._other_card(card))
        elif amount_minor == 0:
            await talk.message(results.card_result(card, 0, self._desk.switches, with_tags=True))
            await talk.complete("poll_card")
        else:
            technology = self._desk.field.technology
            paying = Ask("pay", ask.fields, ask.tags, card, technology)
            await self._payments.with_card(paying, amount_minor, self._desk.bank.pay)

    @staticmethod
    def _other_card(card: Card) -> bytes:
        uid, *kind = results.uid_tags(card) or [b""]
        how = codec.tlv(0x1F12, b"\x02")
        answer_to_select = codec.tlv(0x1F45, bytes.fromhex("0578807102"))
        return codec.container(uid, answer_to_select, codec.tlv(0xE6, how, *kind))
