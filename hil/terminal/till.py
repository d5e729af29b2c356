"""What all money commands share: who may, which card, the host, and the way to the commit point."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, replace

from hil.terminal import codec, printing, results
from hil.terminal.bank import (
    ABORTED,
    EOD_DUE,
    NOT_REGISTERED,
    PREAUTH_ERROR,
    WRONG_CURRENCY,
    Booked,
    Declined,
)
from hil.terminal.cards import ALL_TECHNOLOGIES, CARDS, CONTACTLESS, Card
from hil.terminal.dialogue import ABORT, STATUS_INFORMATION, Talk
from hil.terminal.link import LinkBroken
from hil.terminal.texts import money, text_for

CARD_FROM_BEFORE = 0x02  # bit of the payment type
SHOW_RESULT_S = 3.0
INITIALISATION_NEEDED = 0x51
# States of 05 01 in which no payment is taken; the code is the state's own.
BLOCKING = (0xB1, 0xB2, 0xC2, 0xDF, 0xE2, 0xE3, 0xE4)
PARTLY_ISSUED = b"\x84\x9d"
SEND_AGAIN = b"\x84\x9c"

# Codes of the intermediate status 04 FF.
FF_WAIT_FOR_HOST = 0x04
FF_AUTO_REVERSAL = 0x05
FF_PRESENT_CARD = 0x0A
FF_PLEASE_WAIT = 0x0E


@dataclass(frozen=True, slots=True)
class Ask:
    """A money command as it came. `card` where it was read by the command itself."""

    command: str
    fields: dict[int, bytes]
    tags: dict[int, bytes]
    card: Card | None = None
    technology: int = CONTACTLESS

    def amount_minor(self) -> int | None:
        """Raises Malformed."""
        return codec.from_bcd(self.fields[0x04]) if 0x04 in self.fields else None

    def trace(self) -> int | None:
        """The trace number it names, the long one (1F2B) before 0B. Raises Malformed."""
        named = self.tags.get(0x1F2B) or self.fields.get(0x0B)
        return codec.from_bcd(named) if named else None

    def aid(self) -> str | None:
        return self.fields[0x3B].rstrip(b"\0").decode("latin-1") if 0x3B in self.fields else None

    def last_receipt(self) -> int | None:
        """1F1F. Raises Malformed."""
        known = self.tags.get(0x1F1F)
        return codec.from_bcd(known) if known else None

    @property
    def technologies(self) -> int:
        return (self.tags.get(0x1F60) or bytes([ALL_TECHNOLOGIES]))[0]


@dataclass(frozen=True, slots=True)
class Read:
    card: Card
    technology: int
    at: float


class Till:
    def __init__(self, talk: Talk) -> None:
        self._talk = talk
        self._desk = talk.desk
        self.prompting = False
        self.card_before: Read | None = None
        self._reserved_on: Read | None = None
        # What the ECR is asked for before 04 0F; False when the transaction is over with its answer.
        self.ask_ecr: Callable[[], Awaitable[bool]] = _nothing

    def forget(self) -> None:
        """Power-up, or a new Registration."""
        self.prompting = False
        self.card_before = None

    def ask(self, command: str, data: bytes) -> Ask:
        """Raises Malformed."""
        fields = self._desk.fields(data)
        return Ask(command, fields, codec.tags(fields))

    # --- Before the host ---------------------------------------------------------------------------

    async def refuse_currency(self, fields: dict[int, bytes]) -> bool:
        """A wrong currency is refused at once, naming the terminal's own."""
        own = codec.bcd(int(self._desk.store.memory.currency), 2)
        if fields.get(0x49, own) == own:
            return False
        await self._talk.negative(ABORT & 0xFF, bytes([WRONG_CURRENCY]) + own)
        return True

    async def admit(self, ask: Ask, *, new_money: bool, new_hold: bool = False) -> None:
        """Does the terminal take this command in its present state? Raises Declined. What an earlier
        broken dialogue left to be taken back is taken back first."""
        desk = self._desk
        switches, memory = desk.switches, desk.store.memory
        if desk.books.settle_broken(ask.last_receipt()):
            desk.points.trace.append("auto_reversal")
            await self._talk.intermediate(FF_AUTO_REVERSAL)
        desk.bank.check_refusal(ask.command)
        status = desk.setup_status
        if status == INITIALISATION_NEEDED:
            raise Declined(switches.uninitialised_code)
        if status in BLOCKING:
            raise Declined(status)
        if switches.require_registration and not memory.registered:
            raise Declined(NOT_REGISTERED)
        if new_money and desk.batch.is_due:
            raise Declined(EOD_DUE)
        if new_hold and len(memory.holds) >= switches.max_holds:
            raise Declined(PREAUTH_ERROR)

    async def card_for(self, ask: Ask) -> Ask:
        """With the card read just before, else the one that comes now. Raises Aborted."""
        desk = self._desk
        if ask.card is not None:
            return ask
        before = self.card_before
        bit_set = bool(ask.fields.get(0x19, b"\x00")[0] & CARD_FROM_BEFORE)
        if before and (bit_set or not desk.switches.pay_type_02_required):
            age_s = asyncio.get_running_loop().time() - before.at
            if age_s <= desk.switches.read_valid_s:
                self._watch(ask, before)
                return replace(ask, card=before.card, technology=before.technology)
        if desk.field.present() is None:
            desk.screen.busy("", "Please present card")
            await self._talk.intermediate(FF_PRESENT_CARD)
        try:
            self.prompting = True
            card = await self._talk.wait_for_card(desk.switches.card_wait_s, ask.technologies)
        finally:
            self.prompting = False
        technology = desk.field.technology
        await self._talk.take_time(desk.pace.CARD_S)
        return replace(ask, card=card, technology=technology)

    def _watch(self, ask: Ask, before: Read) -> None:
        """One tap is one wish: a second reservation on it charges the driver twice."""
        if ask.command == "reserve":
            if self._reserved_on is before:
                self._desk.complaints["second_reservation_on_one_tap"] += 1
            self._reserved_on = before

    async def ask_host(self, command: str) -> None:
        """Raises Declined when there is no way to the host."""
        desk, talk = self._desk, self._talk
        switches = desk.switches
        desk.screen.busy("", "Please wait")
        await talk.intermediate(FF_PLEASE_WAIT)
        if switches.extra_status_t4_min is not None:
            await talk.intermediate(FF_WAIT_FOR_HOST, switches.extra_status_t4_min)
        await desk.points.pass_(f"{command}:host_asked")
        await talk.take_time(desk.pace.HOST_S, exactly_s=switches.host_s)
        if switches.host_offline is not None:
            raise Declined(switches.host_offline)
        await talk.intermediate(FF_WAIT_FOR_HOST)

    # --- No ----------------------------------------------------------------------------------------

    async def decline(self, code: int) -> None:
        """04 0F with the code, then 06 1E with the same."""
        desk = self._desk
        result = results.declined_result(code, desk.store.memory, desk.switches)
        self._show([text_for(code, desk.store.memory.language)])
        await self._talk.message(result)
        desk.books.note_result(result)
        await self._abort(code)

    async def refuse(self, code: int) -> None:
        """06 1E alone."""
        self._show([text_for(code, self._desk.store.memory.language)])
        await self._abort(code)

    async def _abort(self, code: int) -> None:
        memory, switches = self._desk.store.memory, self._desk.switches
        told = memory.tlv_allowed and switches.extended_error
        await self._talk.abort(code, results.error_tags(code, memory, switches) if told else b"")

    # --- From the host's yes to the Completion -----------------------------------------------------

    async def settle(self, ask: Ask, booked: Booked) -> None:
        """The transaction is final once the ECR has answered all that must be answered; before that
        it is taken back."""
        desk, talk = self._desk, self._talk
        store, switches = desk.store, desk.switches
        result = self._result(ask, booked)
        slips: list[bytes] = []
        if booked.kind not in ("hold", "increment") or switches.print_hold:
            lines = printing.receipt_lines(booked, store, results.CONTRACT_NUMBER)
            slips = printing.print_messages(lines, store.memory, switches)
        desk.books.remember(booked, result, sync=0x1F1F in ask.tags)
        if desk.loses_result():
            desk.points.trace.append("result_lost")
            self._commit(ask, booked, booked.amount_minor)
            self._show_booked(booked, booked.amount_minor)
            return
        first, last = (slips, []) if switches.print_before_result else ([], slips)
        issued = await self._issued(ask, booked, result, first)
        if issued is None:
            await self._give_up()
            return
        if not last:
            self._commit(ask, booked, issued)
        await desk.points.pass_(f"{ask.command}:result_answered")
        if last:
            if not await self._all_taken(last):
                await self._give_up()
                return
            self._commit(ask, booked, issued)
        for _ in range(switches.extra_results):
            await talk.message(result)
        if issued != booked.amount_minor and switches.partial_issue == "books_and_tells":
            await talk.message(self._result(ask, replace(booked, amount_minor=issued)))
        self._show_booked(booked, issued)
        await talk.complete(ask.command)

    def _result(self, ask: Ask, booked: Booked) -> bytes:
        memory, switches = self._desk.store.memory, self._desk.switches
        return results.money_result(
            booked,
            CARDS[booked.hold.card],
            self._desk.store,
            switches,
            technology=ask.technology,
            with_currency=0x49 in ask.fields or memory.sends_currency,
            with_tags=codec.TLV in ask.fields or memory.tlv_allowed or switches.tlv_always,
        )

    def _commit(self, ask: Ask, booked: Booked, issued_minor: int) -> None:
        if issued_minor == booked.amount_minor:
            self._desk.books.commit()
            return
        result = self._result(ask, replace(booked, amount_minor=issued_minor))
        self._desk.books.commit(issued_minor, result)

    async def _issued(
        self, ask: Ask, booked: Booked, result: bytes, prints: list[bytes]
    ) -> int | None:
        """Print what comes first, send 04 0F. The amount that stands; None when the ECR says no."""
        switches = self._desk.switches
        if not await self._all_taken(prints):
            return None
        if not await self.ask_ecr():
            return None
        answer = await self._offer(ask, result)
        if is_positive(answer):
            return booked.amount_minor
        if (
            answer[:2] != PARTLY_ISSUED
            or ask.command != "pay"
            or switches.partial_issue == "refuses"
        ):
            return None
        try:
            issued = codec.from_bcd(codec.fields(codec.split(answer)[1]).get(0x04, b""))
        except codec.Malformed:
            return None
        return issued if 0 < issued <= booked.amount_minor else None

    async def _offer(self, ask: Ask, result: bytes) -> bytes:
        """Send 04 0F; `84 9C 00` asks for it again, a few times. The last answer."""
        desk = self._desk
        wait_s = desk.switches.vending_wait_s if ask.command == "pay" else None
        repeats = desk.switches.vending_repeats
        if 0x01 in ask.fields:
            wait_s = float(ask.fields[0x01][0])
        if 0x02 in ask.fields:
            repeats = ask.fields[0x02][0]

        async def sent() -> None:
            await desk.points.pass_(f"{ask.command}:result_sent")

        answer = b""
        for _ in range(repeats + 1):
            await desk.points.pass_(f"{ask.command}:result_due")
            answer = await self._talk.message(result, sent, wait_s=wait_s)
            if answer[:2] != SEND_AGAIN:
                return answer
            await self._talk.take_time(desk.switches.vending_repeat_s)
        return answer

    async def _all_taken(self, messages: list[bytes]) -> bool:
        for message in messages:
            if not is_positive(await self._talk.message(message)):
                return False
        return True

    async def _give_up(self) -> None:
        """The ECR said no to a result: it is taken back, and the ECR is told so."""
        desk = self._desk
        desk.books.take_back()
        desk.points.trace.append("auto_reversal")
        self._show([text_for(ABORTED, desk.store.memory.language)])
        await self._talk.message(codec.apdu(STATUS_INFORMATION, bytes([0x27, ABORTED])))
        await self._talk.abort(ABORTED)

    def link_broke(self, _error: LinkBroken) -> None:
        """The dialogue is dead. What was not answered is taken back now or later."""
        desk = self._desk
        self.prompting = False
        desk.points.trace.append("link_broken")
        if desk.books.link_broke():
            desk.points.trace.append("auto_reversal")
        self._show(["Cancelled"])

    # --- The screen --------------------------------------------------------------------------------

    def _show_booked(self, booked: Booked, issued_minor: int) -> None:
        amount = money(issued_minor, booked.hold.currency)
        lines: dict[str, list[str]] = {
            "hold": ["", f"Approved {amount}", "Remove card"],
            "increment": ["", f"Approved {amount} more"],
            "payment": ["", f"Paid {amount}", "Thank you"],
            "capture": ["", f"Paid {amount}", "Thank you"],
            "refund": ["", f"Refunded {amount}"],
            "reversal": ["", f"Reversed {amount}"],
        }
        self._show(lines.get(booked.kind, ["", "Reservation released"]))

    def _show(self, lines: list[str]) -> None:
        self._desk.screen.done(lines, self._desk.pace.seconds(SHOW_RESULT_S))


async def _nothing() -> bool:
    return True


def is_positive(answer: bytes) -> bool:
    """80 00, and 84 00, which also means yes."""
    return answer[:2] in (b"\x80\x00", b"\x84\x00")
