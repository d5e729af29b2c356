"""Commands that move money: one dialogue each, its evidence kept before it is answered, and never sent a
second time. A dialogue that breaks after its first byte ends as Unknown, and the caller asks."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

from agent.ports import (
    DeviceUnavailable,
    Done,
    DriverEnv,
    Evidence,
    HoldRef,
    Keep,
    NotSent,
    Outcome,
    Refused,
    TerminalSpec,
    Unknown,
    Verdict,
)
from agent.values import Money
from drivers.terminal.zvt import codes, day, results
from drivers.terminal.zvt import housekeeping as h
from drivers.terminal.zvt import outcomes as o
from drivers.terminal.zvt.apdu import Apdu
from drivers.terminal.zvt.channel import LINK_DOWN, NOT_REGISTERED, Channel, Ran
from drivers.terminal.zvt.joining import Joining
from drivers.terminal.zvt.profile import Profile
from drivers.terminal.zvt.sequences import SEQUENCES
from drivers.terminal.zvt.turns import Crowded, Rank, Turnstile

# What another terminal made is what they are for.
MADE_ELSEWHERE = frozenset({"release_foreign"})

# The amount a result tells -> the amount the evidence is about. None: not told.
Amount = Callable[[Money | None], Money | None]


def as_told(told: Money | None) -> Money | None:
    return told


@dataclass(frozen=True, slots=True)
class Booking:
    """`name`: of its sequence. `ref`: the hold or booking it is about. `amount`: how its result is to be
    read. `driver_waits`: somebody stands at the terminal for it. `goods`: how far the goods are that it
    is for, and the evidence with what is charged then. `most`: what was asked for; a terminal approves less,
    and never more."""

    apdu: Apdu
    name: str
    ref: HoldRef | None = None
    amount: Amount = as_told
    driver_waits: bool = False
    goods: Callable[[Evidence], tuple[o.Decision, Evidence]] | None = None
    most: Money | None = None


class Bookings:
    def __init__(
        self,
        spec: TerminalSpec,
        env: DriverEnv,
        profile: Profile,
        channel: Channel,
        joining: Joining,
        turns: Turnstile,
    ) -> None:
        self._spec, self._env, self._profile = spec, env, profile
        self._channel, self._joining, self._turns = channel, joining, turns

    async def book(self, booking: Booking, keep: Keep) -> Outcome:
        kept: Evidence | None = None

        async def store(apdu: Apdu) -> o.Decision:
            nonlocal kept
            found = self._evidence(apdu, booking)
            if found is None:
                self._env.log(
                    "evidence_refused", level="error", id="TRM-012", terminal=self._spec.id
                )
                return False
            decision: o.Decision = True
            if booking.goods is not None:
                decision, found = booking.goods(found)
            if decision is False or isinstance(decision, o.Later):
                return decision
            if await keep(found) is not Verdict.STORED:
                return False
            kept = found
            return decision

        try:
            async with self._turns.at(Rank.MONEY):
                if not self._channel.usable:
                    return NotSent(LINK_DOWN)
                stranger = await self._stranger(booking)
                if stranger is not None:
                    return stranger
                ran = await self._channel.run(booking.apdu, SEQUENCES[booking.name], store=store)
                if ran.code == NOT_REGISTERED:
                    return await self._registered_again()
        except (DeviceUnavailable, Crowded) as error:
            return NotSent(str(error))
        return await self._outcome(ran, kept, booking, keep)

    async def _stranger(self, booking: Booking) -> NotSent | None:
        """Behind a connection that was made again stands perhaps another terminal, where the same receipt
        number is somebody else's hold: it is asked who it is before a hold is named to it."""
        await self._channel.ready()
        if booking.ref is None or booking.name in MADE_ELSEWHERE or not self._channel.met_anew:
            return None
        await self._joining.register()
        made_at, here = booking.ref.terminal_id, self._joining.terminal_id
        if not made_at or not here or made_at == here:
            return None
        return NotSent(f"the hold was made at terminal {made_at}, this is terminal {here}")

    async def _registered_again(self) -> Outcome:
        """The terminal had forgotten us and started nothing. Whether to order the same again is for
        whoever ordered it."""
        try:
            await self._joining.register()
        except DeviceUnavailable as error:
            return NotSent(f"the terminal had forgotten its registration; {error}")
        return NotSent("the terminal had forgotten its registration and has it again")

    async def _outcome(
        self, ran: Ran, kept: Evidence | None, booking: Booking, keep: Keep
    ) -> Outcome:
        outcome = ran.outcome
        if isinstance(outcome, o.Completed):
            if h.at_work(outcome.completion):
                self._joining.absence.begins(self._env.boot_ms())
            if kept is None and booking.name == "end_of_day":
                return await self._day_without_totals(keep)
            if kept is None:
                return Unknown("the terminal completed without a result")
            return Done(kept)
        if isinstance(outcome, o.Broken | o.Disputed):
            return Unknown(outcome.why)
        return self._definite_no(outcome, booking)

    async def _day_without_totals(self, keep: Keep) -> Outcome:
        """The batch is closed, and the terminal has told no totals: nothing waits for an answer."""
        found = day.evidence(None, self._spec.currency, self._joining.terminal_id)
        if await keep(found) is not Verdict.STORED:
            return Unknown("the end of day was completed, and could not be stored")
        return Done(found)

    def _definite_no(self, outcome: o.Aborted | o.Negative, booking: Booking) -> Outcome:
        """The terminal ended the command without any result, so nothing was moved. What nobody waits
        for is tried again where only the moment was wrong; the driver at the charger is told at once."""
        refusal = codes.refusal(outcome.code)
        text = refusal.text
        if isinstance(outcome, o.Aborted):
            text = results.error_text(outcome.apdu) or text
        started = isinstance(outcome, o.Aborted)
        if outcome.code in codes.TEMPORARY and not (booking.driver_waits and started):
            return NotSent(f"not now: {outcome.code:02x}, {text}")
        return Refused(refusal.reason, f"{outcome.code:02x}", text, refusal.key)

    def _evidence(self, apdu: Apdu, booking: Booking) -> Evidence | None:
        currency, tid = self._spec.currency, self._joining.terminal_id
        if booking.name == "end_of_day":
            return day.evidence(apdu, currency, tid)
        found = results.evidence(apdu, currency, tid, booking.ref)
        if found is None or _is_strange(found, booking):
            return None
        amount = booking.amount(found.amount)
        if amount is not None and amount.amount_minor < 0:
            amount = None
        if amount is not None and booking.most is not None and amount > booking.most:
            return None  # of something else, or nothing a driver has agreed to
        found = replace(found, amount=amount)
        return with_aid(found, self._profile)


def _is_strange(found: Evidence, booking: Booking) -> bool:
    """Whether another terminal than the one that made the hold has booked something. Receipt numbers are
    the same at all of them: there it is somebody else's hold (a terminal that was swapped while its
    connection was idle). Refused, it is taken back."""
    made_at = (
        "" if booking.ref is None or booking.name in MADE_ELSEWHERE else booking.ref.terminal_id
    )
    told = found.ref.terminal_id
    return bool(made_at and told) and made_at != told


def with_aid(found: Evidence, profile: Profile) -> Evidence:
    """BMP 3B as a part of what the booking is known by, where the terminal wants it back."""
    aid = found.details.get("aid")
    if not profile.aid_in_booking or not isinstance(aid, str):
        return found
    return replace(found, ref=replace(found.ref, aid=aid))
