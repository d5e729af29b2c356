"""One card terminal: keeps the link, shows the price, waits for cards, and does the money work that
sessions owe. One command at a time; money goes before everything else."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping

from agent.ledger import LedgerError
from agent.ports import (
    DeviceUnavailable,
    Need,
    NotSent,
    Reason,
    Refused,
    Terminal,
    TerminalIdentity,
)
from agent.session import Effect, S, Session
from agent.station.charge_point import ChargePoint
from agent.station.closing import Closing, DayRules
from agent.station.context import Context
from agent.station.day_end import DayEnd, Journal
from agent.station.errands import Errands
from agent.station.jobs import Jobs
from agent.station.matching import Matching
from agent.station.needs import Needs
from agent.station.patience import bounded
from agent.station.raising import Raising
from agent.station.screen import Notice, Screen
from agent.station.taps import HOLDS_FULL, DeskRules, Taps
from agent.station.till import DESK_BOUND_MS, JUDGES, Till

# A status enquiry at least every minute lets the terminal run its timed jobs (PA00P015, 05 01).
IDENTIFY_EVERY_MS = 60_000
# One that is not ready may become so at any moment.
IDENTIFY_SOON_MS = 10_000
NOT_YET = "not connected yet"
RETRY_FIRST_S = 1.0
RETRY_MOST_S = 30.0  # a terminal that boots takes about a minute; no use in asking more often
# A link that held for so long was a good one: the next loss is retried at once.
STABLE_MS = 60_000
NO_CARD_PAUSE_S = 1.0
# The words of a refusal that only an end of day cures (agent.driver_ui, drivers).
DAY_CLOSING = "day_closing"
# A terminal without room for a hold is asked again which are open: somebody may have ended one there.
HOLDS_AGAIN_MS = 600_000
# After a commit that failed: what the station does by itself is not urgent.
CARE_PAUSE_MS = 60_000


class Desk:
    def __init__(
        self,
        terminal_id: str,
        terminal: Terminal,
        points: Mapping[str, ChargePoint],
        rules: DeskRules,
        screen: Screen,
        card_key: bytes,
        journal: Journal,
        day_rules: DayRules,
        context: Context,
    ) -> None:
        self.id = terminal_id
        self.points = points
        self.trouble = NOT_YET
        self.accepting = True
        self.linked = False
        self._terminal, self._rules, self.screen = terminal, rules, screen
        self._context, self._keeper = context, context.keeper
        self._clock, self._log = context.clock, context.log
        self._till = till = Till(terminal_id, terminal, context)
        day = DayEnd(terminal_id, journal, context.clock, context.log)
        self.errands = errands = Errands(terminal, day, self.refresh)
        self.closing = Closing(terminal, day, journal, day_rules, context)
        self._needs = Needs(terminal_id, terminal, journal, day_rules.zone, context)
        self._matching = Matching(till, terminal, rules, context, self.order)
        till.exchanged = self._look_at_holds
        self.taps = Taps(
            till,
            points,
            rules,
            screen,
            card_key,
            errands,
            context,
            self._closed_to_taps,
            self.tell_driver,
        )
        self._wake = asyncio.Event()
        self._jobs = Jobs(till, context.keeper, self._wake.set)
        self._raising = Raising(till, points, context.keeper)
        self._shown: tuple[str, ...] = ()
        self._notice: Notice | None = None
        self._identified_ms = self._looked_ms = 0
        self._linked_ms = 0
        self._lost_ms: int | None = None
        self._loss_told = (
            False  # a terminal that restarts at its time is no fault, unless it stays away
        )
        self._unready_ms: int | None = None
        self._care_again_ms = 0
        self._enquire = False  # a refusal said that the terminal may not be ready any more

    @property
    def identity(self) -> TerminalIdentity | None:
        return self._till.identity

    @property
    def strange_holds(self) -> tuple[int, ...]:
        """Receipts of holds at the terminal that no session of ours explains."""
        return self._till.strange_holds

    @property
    def no_room(self) -> str:
        """Why the ledger takes no new session."""
        return self.taps.no_room

    @no_room.setter
    def no_room(self, why: str) -> None:
        self.taps.no_room = why

    # --- orders from the station ------------------------------------------------------------------

    def order(self, session_id: str, effect: Effect) -> None:
        """Queue money work."""
        self._jobs.order(session_id, effect)

    def refresh(self) -> None:
        """Something visible changed."""
        self._wake.set()

    # --- the loop ---------------------------------------------------------------------------------

    async def run(self) -> None:
        await self.errands.day.load()
        await self.closing.load()
        pause_s = RETRY_FIRST_S
        try:
            while True:
                self._beat()
                try:
                    await self.closing.press()
                    self._linked_ms = self._clock.boot_ms()
                    await self._link_up()
                    await self._serve()
                except DeviceUnavailable as error:
                    self._lost(error)
                    if self._clock.boot_ms() - self._linked_ms >= STABLE_MS:
                        pause_s = RETRY_FIRST_S
                    await self._terminal.close()
                    await asyncio.sleep(pause_s)
                    pause_s = min(pause_s * 2, RETRY_MOST_S)
        finally:
            self._jobs.stop()
            await self._terminal.close()

    def _beat(self) -> None:
        self._context.progress.beat(f"terminal {self.id}", DESK_BOUND_MS)

    async def _link_up(self) -> None:
        identity = await bounded(self._terminal.connect(), self._beat)
        self._shown, self.linked = (), True
        if self._lost_ms is not None:
            after_ms, self._lost_ms = self._clock.boot_ms() - self._lost_ms, None
            self._log("device_back", device="terminal", terminal=self.id, after_ms=after_ms)
        self._take_state(identity)
        self._look_at_holds()
        await self.errands.ask_day(now=True)

    def _look_at_holds(self) -> None:
        self._looked_ms = self._clock.boot_ms()
        self._matching.link_is_up()

    def _take_state(self, identity: TerminalIdentity) -> None:
        now = self._identified_ms = self._clock.boot_ms()
        self._enquire = False
        self._till.meet(identity)
        if identity.ready:
            self.trouble = ""
            if self._unready_ms is not None:
                after_ms, self._unready_ms = now - self._unready_ms, None
                self._log("terminal_ready", terminal=self.id, after_ms=after_ms)
            return
        self.trouble = f"STA-028: terminal says {identity.status_text} ({identity.status_code})"
        if self._unready_ms is None:
            self._unready_ms = now
            self._log(
                "terminal_not_ready",
                level="error",
                id="STA-028",
                terminal=self.id,
                why=self.trouble,
                effect="out of order for payment",
            )

    def _lost(self, error: DeviceUnavailable) -> None:
        self.trouble = str(error)
        self._shown, self.linked = (), False
        self.errands.fail(error)
        restarts = self.closing.reboots(None)
        told = {"device": "terminal", "terminal": self.id, "why": str(error)}
        told["effect"] = "out of order for payment"
        if self._lost_ms is None:
            self._lost_ms, self._loss_told = self._clock.boot_ms(), False
            if restarts:
                self._log("device_restarts", **told)
        if not restarts and not self._loss_told:
            self._loss_told = True
            self._log("device_lost", level="error", id=error.code, **told)

    async def _serve(self) -> None:
        while True:
            self._beat()
            self._wake.clear()
            if self._has_work:
                await self._work()
                continue
            await self.errands.ask_day(now=False)
            every_ms = IDENTIFY_SOON_MS if self.trouble else IDENTIFY_EVERY_MS
            if self._enquire or self._clock.boot_ms() - self._identified_ms >= every_ms:
                self._take_state(await bounded(self._terminal.identify(), self._beat))
            if await self._care():
                continue
            await self._paint()
            if self._wants_card():
                await self._poll_card()
            else:
                await self._nap(NO_CARD_PAUSE_S)

    async def _care(self) -> bool:
        """What the station does at the terminal by itself, when nothing else is to be done there; True when
        it did something."""
        identity, now = self._till.identity, self._clock.boot_ms()
        if identity is None or now < self._care_again_ms:
            return False
        if now - self._looked_ms >= HOLDS_AGAIN_MS and self.taps.full():
            self._look_at_holds()
        try:
            told = (
                await self._matching.turn(identity)
                or await self.closing.turn(identity, self._beat)
                or await self._needs.turn(identity, self._beat)
            )
        except LedgerError as error:
            self._care_again_ms = now + CARE_PAUSE_MS
            self._log(
                "care_put_off", level="error", id=error.code, terminal=self.id, why=str(error)
            )
            return False
        if told:
            self._shown, self._enquire = (), True
        return told

    async def _nap(self, seconds: float) -> None:
        try:
            async with asyncio.timeout(seconds):
                await self._wake.wait()
        except TimeoutError:
            return

    async def _paint(self) -> None:
        now = self._clock.boot_ms()
        if self._notice is not None and now >= self._notice.until_ms:
            self._notice = None
        lines = (
            self._notice.lines
            if self._notice is not None
            else self.screen.lines(self.id, self.points, self._blocked(), closed=self._closed())
        )
        if lines != self._shown:
            await self._terminal.show(lines)
            self._shown = lines

    def tell_driver(self, lines: tuple[str, ...], for_ms: int) -> None:
        self._notice = Notice(lines, self._clock.boot_ms() + for_ms)
        self._wake.set()

    # --- cards ------------------------------------------------------------------------------------

    def _blocked(self) -> str:
        """Why nobody can do anything here. A day that is to be ended is no such thing: drivers still stop
        their sessions."""
        needs = () if self._till.identity is None else self._till.identity.needs
        ends = self.linked and needs[:1] == (Need.END_OF_DAY,)
        return self.no_room or ("" if ends else self.trouble)

    def _closed(self) -> str:
        """Why no session may begin, as screen.refused has words for it."""
        if self._blocked() or not self.accepting:
            return "out_of_order"
        if self.trouble or self.closing.draining:
            return "day_end"
        if self.closing.reboots(self._linked_ms):
            return "out_of_order"
        return HOLDS_FULL if self.taps.full() else ""

    def _closed_to_taps(self) -> str:
        """Before it is known whether the terminal is still ready nobody begins either."""
        return self._closed() or ("busy" if self._enquire else "")

    def _wants_card(self) -> bool:
        if self.errands.wants_card:
            return True
        if not self.linked or (self.trouble and self._closed() != "day_end"):
            return False
        return self.accepting and self.taps.wanted()

    async def _poll_card(self) -> None:
        """Wait for a card; in between do work that comes, and show what is new. The driver aborts the
        read when another verb comes; what the read found by then still counts."""
        read = self._terminal.read_card(self._rules.card_poll_s)
        reading = asyncio.ensure_future(bounded(read, self._beat))
        try:
            while not reading.done():
                waking = asyncio.ensure_future(self._wake.wait())
                await asyncio.wait({reading, waking}, return_when=asyncio.FIRST_COMPLETED)
                waking.cancel()
                self._wake.clear()
                if self._has_work:
                    await self._work()
                elif not reading.done():
                    await self._paint()
            card = reading.result()
        finally:
            reading.cancel()
            await asyncio.gather(reading, return_exceptions=True)
        if card is not None:
            self._shown = ()  # the terminal shows its own words after a card
            await self.taps.tapped(card)

    # --- work -------------------------------------------------------------------------------------

    @property
    def _has_work(self) -> bool:
        return bool(self._jobs) or self._raising.wanted or self.errands.waiting

    async def _work(self) -> None:
        """One thing: what a session owes, a raise, then what a person asks for."""
        if not self._jobs:
            await (self._raising.order() if self._raising.wanted else self._errand())
            return
        job = self._jobs.next()
        if job is None:
            return
        session, effect = job
        self._shown = ()
        if effect in JUDGES:
            await self._ask(session, effect)
            return
        try:
            outcome = await self._till.do(session, effect)
        finally:
            if effect is not Effect.RAISE:  # which no tap began: the next one may mean to stop
                self.taps.served(session.id)
        if isinstance(outcome, Refused):
            self._look_at(outcome)
        if effect is Effect.AUTHORIZE and isinstance(outcome, Refused):
            if outcome.reason is Reason.CARD_REMOVED:
                self.taps.may_come_again()
            self.tell_driver(*self.screen.declined(outcome.reason, outcome.key))
        elif effect is Effect.AUTHORIZE and isinstance(outcome, NotSent):
            self.tell_driver(*self.screen.refused("out_of_order"))

    def _look_at(self, refused: Refused) -> None:
        """Where the refusal may mean that no payment can succeed, the terminal is asked before the next."""
        if refused.reason in (Reason.OPERATOR, Reason.TRY_LATER):
            self._enquire = True
        if refused.key == DAY_CLOSING:
            self.closing.full()

    async def _errand(self) -> None:
        """What a person asks for may leave the terminal in another state and with another text."""
        self._shown = ()
        await self.errands.do_next(self._beat)
        self._enquire = True

    async def _ask(self, session: Session, effect: Effect) -> None:
        """What is listed as unknown the station asks for by the hour."""
        try:
            told = await self._till.ask(session, effect)
        except DeviceUnavailable:
            self.order(session.id, effect)  # first thing when the link is back
            raise
        now = self._keeper.sessions.get(session.id)
        if told or now is None or now.state is S.UNRESOLVED:
            return
        self._jobs.later(session.id, effect)
