"""The verbs that move money, each as one command of PA00P015 and a way to read its result."""

from __future__ import annotations

from agent.ports import HoldRef, Keep, Outcome, TerminalSpec
from agent.values import Money
from drivers.terminal.zvt import commands
from drivers.terminal.zvt.bookings import Amount, Booking, Bookings
from drivers.terminal.zvt.profile import Profile


class Holds:
    """Raises ValueError for amounts that cannot be asked for."""

    def __init__(self, spec: TerminalSpec, profile: Profile, bookings: Bookings) -> None:
        self._spec, self._profile, self._bookings = spec, profile, bookings

    async def authorize(self, amount: Money, reference: str, keep: Keep) -> Outcome:
        """06 22."""
        self._check(amount)
        command = commands.hold(amount, reference, self._profile)
        return await self._bookings.book(Booking(command, "reserve", driver_waits=True), keep)

    async def capture(self, ref: HoldRef, held: Money, amount: Money, keep: Keep) -> Outcome:
        """06 23, whose amount is the part to release. Nothing to charge is a release."""
        if amount.amount_minor == 0:
            return await self.release(ref, held, keep)
        self._check(amount)
        if amount > held:
            raise ValueError(f"capture of {amount} is more than the hold of {held}")
        command = commands.capture(ref, held - amount, self._profile)
        reads = _rest_of(held) if self._profile.capture_amount == "reversed" else _as_told
        return await self._bookings.book(Booking(command, "capture", ref, reads), keep)

    async def release(self, ref: HoldRef, held: Money, keep: Keep) -> Outcome:
        """06 25. The amount of its evidence is 0 or the amount freed, as the terminal's make has it."""
        command = commands.release(ref, self._spec.currency, self._profile)
        return await self._bookings.book(Booking(command, "release", ref), keep)

    def _check(self, amount: Money) -> None:
        if amount.currency != self._spec.currency or amount.amount_minor <= 0:
            raise ValueError(f"{amount}; expected an amount above zero in {self._spec.currency}")


def _as_told(told: Money) -> Money:
    return told


def _rest_of(held: Money) -> Amount:
    return lambda told: held - told
