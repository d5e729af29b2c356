"""The verbs that move money: each one command of PA00P015, and a way to read its result."""

from __future__ import annotations

from dataclasses import replace

from agent.ports import Handover, HoldRef, Keep, Outcome, Reason, Refused, TerminalSpec
from agent.values import Money
from drivers.terminal.zvt import codes, commands
from drivers.terminal.zvt.bookings import Amount, Booking, Bookings, as_told
from drivers.terminal.zvt.goods import GOODS_WAIT_S, GOODS_WAITS_MAX, Goods
from drivers.terminal.zvt.profile import Profile

TOO_SMALL = 0xC8


class MoneyVerbs:
    """All of them raise ValueError for what cannot be asked for."""

    def __init__(self, spec: TerminalSpec, profile: Profile, bookings: Bookings) -> None:
        self._spec, self._profile, self._bookings = spec, profile, bookings

    # --- holds ------------------------------------------------------------------------------------

    async def authorize(self, amount: Money, reference: str, keep: Keep) -> Outcome:
        """06 22."""
        self._check(amount)
        refused = self._too_small(amount)
        if refused is not None:
            return refused
        command = commands.reserve(amount, reference, self._profile)
        booking = Booking(command, "reserve", driver_waits=True, most=amount)
        return await self._bookings.book(booking, keep)

    async def increment(self, ref: HoldRef, held: Money, add: Money, keep: Keep) -> Outcome:
        """06 22 with the hold's trace. Nobody stands at the terminal: it asks its host alone."""
        self._check(add)
        if ref.trace is None:
            text = "the terminal told no trace number for this hold"
            return Refused(Reason.NOT_SUPPORTED, "", text)
        command = commands.extend(ref, add, ref.aid, "", self._profile)
        adds = self._profile.extension == "added"
        amount: Amount = (lambda told: None if told is None else held + told) if adds else as_told
        return await self._bookings.book(Booking(command, "extend", ref, amount), keep)

    async def capture(self, ref: HoldRef, held: Money, amount: Money, keep: Keep) -> Outcome:
        """06 23, whose amount is the part to release, or 06 24, whose amount is the part to charge, as
        the terminal's acquirer has it. Nothing to charge is a release."""
        if amount.amount_minor == 0:
            self._check(held)
            return await self._bookings.book(self._release(ref, lambda _: amount), keep)
        self._check(amount)
        if amount > held:
            raise ValueError(f"capture of {amount} is more than the hold of {held}")
        reads = self._rest_of(held) if self._profile.capture_amount == "reversed" else as_told
        if self._profile.capture_by == "book_total":
            command = commands.book_total(ref, amount, self._profile, aid=ref.aid)
            booking = Booking(command, "book_total", ref, reads)
        else:
            command = commands.capture(ref, held - amount, self._profile)
            booking = Booking(command, "capture", ref, reads)
        return await self._bookings.book(booking, keep)

    async def release(self, ref: HoldRef, held: Money, keep: Keep) -> Outcome:
        """06 25. The amount of its evidence is 0 or the amount freed, as the terminal's make has it."""
        return await self._bookings.book(self._release(ref, as_told), keep)

    async def release_foreign(self, ref: HoldRef, held: Money, keep: Keep) -> Outcome:
        """06 26."""
        self._check(held)
        if ref.trace is None or not ref.aid:
            raise ValueError(
                "a foreign hold is known by its trace number and its AID; both are needed"
            )
        command = commands.release_foreign(held, ref.trace, ref.aid)
        # Its receipt number belongs to the other terminal and means nothing here.
        known = replace(ref, receipt=0)
        return await self._bookings.book(Booking(command, "release_foreign", known), keep)

    # --- giving back ------------------------------------------------------------------------------

    async def reverse(self, ref: HoldRef, amount: Money, keep: Keep) -> Outcome:
        """06 30."""
        self._check(amount)
        command = commands.reversal(self._spec.password, ref, amount)
        return await self._bookings.book(Booking(command, "reversal", ref), keep)

    async def refund(self, ref: HoldRef, amount: Money, keep: Keep) -> Outcome:
        """06 31. The terminal knows nothing of `ref`: the card says where the money goes."""
        self._check(amount)
        command = commands.refund(self._spec.password, amount, self._profile)
        return await self._bookings.book(Booking(command, "refund", driver_waits=True), keep)

    # --- at once ----------------------------------------------------------------------------------

    async def pay(self, amount: Money, reference: str, keep: Keep, goods: Handover) -> Outcome:
        """06 01, and the word on the goods to each of its 04 0F (PA00P015, vending machines)."""
        self._check(amount)
        refused = self._too_small(amount)
        if refused is not None:
            return refused
        waits = GOODS_WAITS_MAX if self._profile.vending_wait else None
        wait_s = None if waits is None else GOODS_WAIT_S
        command = commands.payment(amount, reference, self._profile, wait_s=wait_s, waits_max=waits)
        handed = Goods(goods, self._profile, GOODS_WAITS_MAX)
        booking = Booking(command, "payment", driver_waits=True, goods=handed.decide, most=amount)
        return await self._bookings.book(booking, keep)

    # --- the day ----------------------------------------------------------------------------------

    async def end_of_day(self, keep: Keep) -> Outcome:
        """06 50."""
        command = commands.end_of_day(self._spec.password)
        return await self._bookings.book(Booking(command, "end_of_day"), keep)

    def _release(self, ref: HoldRef, amount: Amount) -> Booking:
        command = commands.release(ref, self._spec.currency, self._profile)
        return Booking(command, "release", ref, amount)

    def _rest_of(self, held: Money) -> Amount:
        return lambda told: None if told is None else held - told

    def _check(self, amount: Money) -> None:
        if amount.currency != self._spec.currency or amount.amount_minor <= 0:
            raise ValueError(f"{amount}; expected an amount above zero in {self._spec.currency}")

    def _too_small(self, amount: Money) -> Outcome | None:
        """What the terminal would say, without asking it."""
        smallest = self._profile.min_amount_minor
        if amount.amount_minor >= smallest:
            return None
        told = codes.refusal(TOO_SMALL)
        text = f"{told.text}; the smallest is {Money(smallest, amount.currency)}"
        return Refused(told.reason, f"{TOO_SMALL:02x}", text, told.key)
