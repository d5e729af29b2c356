"""The terminal port over ZVT: one line, one command at a time, verbs made of dialogues.

Every other verb ends a running card read by aborting it. Nothing that moves money is sent twice: a dialogue
that breaks after its first byte ends as Unknown, and the caller asks. What a verb does stands in the module
of its kind; here is what they share, and what a profile lets a terminal do."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager

from agent.ports import (
    Card,
    DeviceUnavailable,
    DriverEnv,
    EodHolds,
    Handover,
    HoldRef,
    Keep,
    LastResult,
    LineSpec,
    OpenHolds,
    Outcome,
    Terminal,
    TerminalIdentity,
    TerminalSpec,
    Upkeep,
    UpkeepReport,
)
from agent.values import Money
from drivers.line import Line, open_line
from drivers.terminal.zvt import recorder
from drivers.terminal.zvt.asking import Asking
from drivers.terminal.zvt.bookings import Bookings
from drivers.terminal.zvt.cards import Cards
from drivers.terminal.zvt.care import Care
from drivers.terminal.zvt.channel import Channel
from drivers.terminal.zvt.joining import Joining
from drivers.terminal.zvt.money import MoneyVerbs
from drivers.terminal.zvt.profile import Profile, load_profile
from drivers.terminal.zvt.turns import Crowded, Rank, Turnstile

_PASSWORD = re.compile(r"[0-9]{6}")


class ZvtTerminal:
    def __init__(
        self,
        spec: TerminalSpec,
        env: DriverEnv,
        profile: Profile,
        record: recorder.Recorder | None = None,
    ) -> None:
        self._channel = Channel(spec, env, profile, _open, record)
        self._joining = Joining(spec, env, profile, self._channel)
        self._turns = Turnstile(env.boot_ms, self._interrupt)
        self._cards = Cards(spec, env, profile, self._channel, self._joining, self._turns)
        self._asking = Asking(spec, profile, self._channel, self._joining)
        bookings = Bookings(spec, env, profile, self._channel, self._joining, self._turns)
        self._care = Care(spec, env, profile, self._channel, self._joining)
        self._money = money = MoneyVerbs(spec, profile, bookings)
        self.eod_open_holds = EodHolds(profile.eod_open_holds)
        self.least_amount_minor = profile.min_amount_minor
        self.capture_reports = profile.capture_amount
        # A capability is there, for `isinstance`, where the profile says that the terminal has it.
        if profile.extension != "none":
            self.increment, self.increment_reports = money.increment, profile.extension
        if profile.refund:
            self.refund = money.refund
        if profile.reversal != "none":
            self.reverse = money.reverse

    # --- link -------------------------------------------------------------------------------------

    async def connect(self) -> TerminalIdentity:
        async with self._at(Rank.ASKING):
            return await self._joining.connect()

    async def close(self) -> None:
        """A verb that waits ends as when the line is lost."""
        await self._channel.close()

    async def identify(self) -> TerminalIdentity:
        async with self._at(Rank.STATUS):
            return await self._joining.identify()

    # --- cards and the display --------------------------------------------------------------------

    async def read_card(self, timeout_s: int) -> Card | None:
        try:
            return await self._cards.read(timeout_s)
        except Crowded as error:
            raise _crowded(error) from None

    async def show(self, lines: Sequence[str], hold_s: int = 0) -> None:
        async with self._at(Rank.SHOW):
            await self._asking.show(lines, hold_s)

    # --- money ------------------------------------------------------------------------------------

    async def authorize(self, amount: Money, reference: str, keep: Keep) -> Outcome:
        return await self._money.authorize(amount, reference, keep)

    async def capture(self, ref: HoldRef, held: Money, amount: Money, keep: Keep) -> Outcome:
        return await self._money.capture(ref, held, amount, keep)

    async def release(self, ref: HoldRef, held: Money, keep: Keep) -> Outcome:
        return await self._money.release(ref, held, keep)

    async def release_foreign(self, ref: HoldRef, held: Money, keep: Keep) -> Outcome:
        return await self._money.release_foreign(ref, held, keep)

    async def pay(self, amount: Money, reference: str, keep: Keep, goods: Handover) -> Outcome:
        return await self._money.pay(amount, reference, keep, goods)

    async def end_of_day(self, keep: Keep) -> Outcome:
        return await self._money.end_of_day(keep)

    # --- asking -----------------------------------------------------------------------------------

    async def open_holds(self) -> OpenHolds:
        return await self._asking.open_holds(lambda: self._at(Rank.ASKING))

    async def last_result(self) -> LastResult | None:
        async with self._at(Rank.ASKING):
            return await self._asking.last_result()

    # --- care -------------------------------------------------------------------------------------

    async def maintain(self, task: Upkeep, **values: object) -> UpkeepReport:
        async with self._at(Rank.CARE):
            return await self._care.maintain(task, values)

    # --- turns ------------------------------------------------------------------------------------

    def _interrupt(self) -> None:
        self._cards.interrupt()

    @asynccontextmanager
    async def _at(self, rank: Rank) -> AsyncIterator[None]:
        """A turn. Raises DeviceUnavailable TRM-014 where too many wait already."""
        try:
            async with self._turns.at(rank):
                yield
        except Crowded as error:
            raise _crowded(error) from None


def _crowded(error: Crowded) -> DeviceUnavailable:
    return DeviceUnavailable(
        "TRM-014", str(error), "a handful at most", "a caller repeats itself without waiting"
    )


async def _open(spec: LineSpec) -> Line:
    return await open_line(spec)


def open_terminal(spec: TerminalSpec, env: DriverEnv) -> Terminal:
    """Entry point `terminal.zvt`. Opens nothing; raises DeviceUnavailable TRM-010 for settings that
    cannot be used."""
    if not _PASSWORD.fullmatch(spec.password):
        raise DeviceUnavailable(
            "TRM-010", "the terminal password", "six digits", "correct the file it is read from"
        )
    settings = {name: value for name, value in spec.options.items() if name != recorder.OPTION}
    return ZvtTerminal(
        spec, env, load_profile(spec.profile, settings), recorder.recorder(spec, env)
    )
