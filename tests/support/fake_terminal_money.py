"""The driver of the terminal in memory: everything that books, up to the end of day."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from support.fake_terminal import FakeTerminal, Hold, Movement
from support.fake_terminal_link import TerminalLink

from agent.ports import (
    Done,
    EodHolds,
    Evidence,
    HoldRef,
    Keep,
    LastResult,
    NotSent,
    Outcome,
    Reason,
    Refused,
    Unknown,
    Upkeep,
    UpkeepReport,
    Verdict,
)
from agent.values import Money


class TerminalDriver(TerminalLink):
    async def authorize(self, amount: Money, reference: str, keep: Keep) -> Outcome:
        d = self.d

        def book() -> Evidence:
            approved = d.approves_minor or amount.amount_minor
            hold = Hold(d.next_ref(), approved)
            d.holds.append(hold)
            d.movements.append(Movement("hold", hold.ref.receipt, approved))

            details: dict[str, int | str] = {"card_name": "girocard", "card_last4": "1234"}
            evidence = Evidence(hold.ref, Money(approved, d.currency), details)

            def undo() -> None:
                hold.open = False
                d.last = LastResult(0, evidence)
                d.movements.append(Movement("auto_reversal", hold.ref.receipt, approved))

            d.undo = undo
            return evidence

        if (d.eod_due or d.full) and d.online and self._linked:
            d.commands.append("authorize")
            return Refused(Reason.OPERATOR, "f0", "end of day due", "day_closing")
        return await self._money("authorize", d.authorize_s, book, keep)

    async def capture(self, ref: HoldRef, held: Money, amount: Money, keep: Keep) -> Outcome:
        return await self._end("capture", ref, amount, keep)

    @property
    def increment_reports(self) -> str:
        return "total"

    @property
    def least_amount_minor(self) -> int:
        return self.d.least_amount_minor

    async def increment(self, ref: HoldRef, held: Money, add: Money, keep: Keep) -> Outcome:
        d = self.d
        hold = next((h for h in d.holds if h.open and h.ref.receipt == ref.receipt), None)
        if hold is None and d.online and self._linked:
            d.commands.append("increment")
            return Refused(Reason.UNKNOWN_HOLD, "b4", "receipt not known")

        def book() -> Evidence:
            assert hold is not None
            before, last = hold.amount_minor, d.last
            added = min(add.amount_minor, d.adds_at_most_minor or add.amount_minor)
            hold.amount_minor += added
            d.movements.append(Movement("increment", ref.receipt, added))

            def undo() -> None:
                hold.amount_minor, d.last = before, last
                d.movements.pop()

            d.undo = undo
            return Evidence(d.next_ref(), Money(hold.amount_minor, d.currency), {})

        return await self._money("increment", d.settle_s, book, keep)

    async def release(self, ref: HoldRef, held: Money, keep: Keep) -> Outcome:
        return await self._end("release", ref, Money(0, held.currency), keep)

    async def release_foreign(self, ref: HoldRef, held: Money, keep: Keep) -> Outcome:
        """By its trace number and AID, at the host: the receipt means nothing here."""
        d = self.d
        hold = next((h for h in d.holds if h.open and h.ref.trace == ref.trace), None)

        def book() -> Evidence:
            assert hold is not None
            hold.open = False
            d.movements.append(Movement("release_foreign", hold.ref.receipt, held.amount_minor))
            d.undo = lambda: setattr(hold, "open", True)
            return Evidence(d.next_ref(), Money(0, d.currency), {})

        return await self._money("release_foreign", d.settle_s, book, keep)

    async def _end(self, kind: str, ref: HoldRef, amount: Money, keep: Keep) -> Outcome:
        d = self.d
        hold = next((h for h in d.holds if h.open and h.ref.receipt == ref.receipt), None)
        if hold is None and d.online and self._linked:
            d.commands.append(kind)
            return Refused(Reason.UNKNOWN_HOLD, "b4", "receipt not known")

        def book() -> Evidence:
            assert hold is not None
            before, hold.open = d.last, False
            made = d.next_ref()
            booked = Money(max(0, amount.amount_minor - d.books_less_minor), d.currency)
            d.movements.append(Movement(kind, ref.receipt, booked.amount_minor))

            def undo() -> None:
                hold.open, d.last = True, before
                d.movements.pop()

            d.undo = undo
            return Evidence(made, booked, {"card_name": "girocard"})

        return await self._money(kind, d.settle_s, book, keep)

    @property
    def eod_open_holds(self) -> EodHolds:
        return self.d.eod_open_holds

    async def maintain(self, task: Upkeep, **values: object) -> UpkeepReport:
        async with self._turn:
            await self._takes(0.1)
            self._up()
            if task is not Upkeep.TOTALS:
                self.d.tasks.append((task, values))
            if task in self.d.maintains:
                self.d.wants = self.d.wants[1:]
                return UpkeepReport(task, True)
            if task is not Upkeep.TOTALS or not self.d.tells_totals:
                return UpkeepReport(task, False, "83", "function not possible")
            return UpkeepReport(task, True, facts=_totals(self.d.batch()))

    async def end_of_day(self, keep: Keep) -> Outcome:
        d = self.d

        if d.open_holds() and d.eod_open_holds is EodHolds.REFUSES and self._linked:
            d.commands.append("end_of_day")
            return Refused(Reason.OPERATOR, "b8", "open pre-authorisations")

        def book() -> Evidence:
            _holds_at_day_end(d)
            batch, before = d.batch(), d.last
            total = sum(m.amount_minor for m in batch)
            d.movements.append(Movement("end_of_day", 0, total))
            d.eod_due = d.full = False
            made = HoldRef(d.terminal_id, 0, 12, 900 + len(d.movements))
            evidence = Evidence(made, Money(total, d.currency), _totals(batch))
            # What was closed stays closed, whatever is answered.
            d.last = LastResult(0, evidence) if d.repeats_day else before
            return evidence

        return await self._money("end_of_day", d.settle_s, book, keep)

    async def _money(
        self, verb: str, takes_s: float, book: Callable[[], Evidence], keep: Keep
    ) -> Outcome:
        d = self.d
        self._abort.set()
        async with self._turn:
            if not (d.online and self._linked):
                return NotSent("the link to the terminal is down")
            how = d.take(verb)
            if how == "not_sent":
                return NotSent("the terminal is busy")
            await d.points.reach(f"{verb}:received", self._process)
            await self._takes(takes_s)
            early = {
                "blocked": Refused(Reason.OPERATOR, "c0", "terminal locked"),
                "busy": Refused(Reason.TRY_LATER, "9c", "please wait", "terminal_busy"),
                "declined": Refused(Reason.DECLINED, "05", d.decline_text),
                "unknown_hold": Refused(Reason.UNKNOWN_HOLD, "b4", "receipt not known"),
            }.get(how)
            if how == "declined":  # a last result, too, without a receipt
                d.last = LastResult(5, Evidence(HoldRef(d.terminal_id, 0), None))
            if early is not None:
                return early
            if how == "lost" or not d.online:
                return self._broken("no answer")
            return await self._evidence(verb, how, book(), keep)

    async def _evidence(self, verb: str, how: str, made: Evidence, keep: Keep) -> Outcome:
        d = self.d
        await d.points.reach(f"{verb}:result_sent", self._process)
        if how == "lost_done":
            if verb != "end_of_day":
                self._stands(made)
            return self._broken("the evidence never arrived")
        verdict = await keep(made)
        await d.points.reach(f"{verb}:stored", self._process)
        if verdict is Verdict.REJECT:
            d.break_link()
            return Unknown("the evidence could not be stored; the terminal was told no")
        if verb != "end_of_day":
            self._stands(made)
        await d.points.reach(f"{verb}:answered", self._process)
        await self._takes(0.3)
        if how == "lost_after":
            return self._broken("the completion never arrived")
        await d.points.reach(f"{verb}:completed", self._process)
        return Done(made)

    def _stands(self, made: Evidence) -> None:
        self.d.undo = None
        self.d.last = LastResult(0, made)

    def _broken(self, why: str) -> Unknown:
        self._linked = False
        return Unknown(why)


def _holds_at_day_end(d: FakeTerminal) -> None:
    """What the worst do to a hold that is left open: charge all of it, or cancel it."""
    ends = {EodHolds.CHARGES_FULL: "capture", EodHolds.CANCELS: "cancelled_by_day"}
    for hold in d.open_holds() if d.eod_open_holds in ends else ():
        hold.open = False
        kind = ends[d.eod_open_holds]
        d.movements.append(Movement(kind, hold.ref.receipt, hold.amount_minor))


def _totals(batch: Sequence[Movement]) -> dict[str, int | str]:
    if not batch:
        return {}
    return {
        "total_girocard_count": len(batch),
        "total_girocard_minor": sum(m.amount_minor for m in batch),
        "receipt_first": batch[0].receipt,
        "receipt_last": batch[-1].receipt,
    }
