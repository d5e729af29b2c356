"""One card terminal: keeps the link, shows the price, waits for cards, and does the money work that
sessions owe. One command at a time; money goes before everything else."""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import secrets
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass

from agent.ledger import LedgerError
from agent.ports import (
    Card,
    DeviceUnavailable,
    NotSent,
    Reason,
    Refused,
    Terminal,
    TerminalIdentity,
)
from agent.session import E, Effect, S, Session, energy_allowed
from agent.station.charge_point import ChargePoint
from agent.station.context import Context
from agent.station.day_end import DayEnd
from agent.station.errands import Errands
from agent.station.screen import Notice, Screen
from agent.station.till import DESK_BOUND_MS, JUDGES, Till, owes
from agent.values import Money

# A status enquiry at least every minute lets the terminal run its timed jobs (PA00P015, 05 01).
IDENTIFY_EVERY_MS = 60_000
# One that is not ready may become so at any moment.
IDENTIFY_SOON_MS = 10_000
NOT_YET = "not connected yet"
RETRY_FIRST_S = 1.0
RETRY_MOST_S = 30.0  # a terminal that boots takes about a minute; no use in asking more often
ASK_AGAIN_S = 60.0  # the terminal answered but it cannot be told: its state changes slowly
# A link that held for so long was a good one: the next loss is retried at once.
STABLE_MS = 60_000
NO_CARD_PAUSE_S = 1.0
# The same card twice within this is one tap: drivers hold the card until something happens. Counted from
# the end of what the tap began, too: a card left on the reader must not cancel its own hold.
SAME_TAP_MS = 4_000
ID_ALPHABET = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"  # Crockford: nothing that is misread on a receipt
ID_LENGTH = 10


@dataclass(frozen=True, slots=True)
class DeskRules:
    hold: Money
    stop_by_tap: bool
    card_poll_s: int
    language: str
    accept_partial: bool = True


def new_session_id() -> str:
    return "".join(secrets.choice(ID_ALPHABET) for _ in range(ID_LENGTH))


class Desk:
    def __init__(
        self,
        terminal_id: str,
        terminal: Terminal,
        points: Mapping[str, ChargePoint],
        rules: DeskRules,
        screen: Screen,
        card_key: bytes,
        day: DayEnd,
        context: Context,
    ) -> None:
        self.id = terminal_id
        self.points = points
        self.trouble = NOT_YET
        self.no_room = ""  # why the ledger takes no new session
        self.accepting = True
        self.linked = False
        self.errands = Errands(terminal, day, self.refresh)
        self._terminal, self._rules, self.screen = terminal, rules, screen
        self._card_key = card_key
        self._till = Till(terminal_id, terminal, context)
        self._context, self._keeper = context, context.keeper
        self._clock, self._log = context.clock, context.log
        self._jobs: deque[tuple[str, Effect]] = deque()
        self._wake = asyncio.Event()
        self._shown: tuple[str, ...] = ()
        self._notice: Notice | None = None
        self._identified_ms = 0
        self._linked_ms = 0
        self._lost_ms: int | None = None
        self._unready_ms: int | None = None
        self._last_tap: tuple[bytes, int] = (b"", -SAME_TAP_MS)
        self._macs: dict[str, bytes] = {}

    @property
    def identity(self) -> TerminalIdentity | None:
        return self._till.identity

    @property
    def strange_holds(self) -> tuple[int, ...]:
        """Receipts of holds at the terminal that no session of ours explains."""
        return self._till.strange_holds

    # --- orders from the station ------------------------------------------------------------------

    def order(self, session_id: str, effect: Effect) -> None:
        """Queue money work. Bounded: one job per session and effect. Questions go first: the next
        command replaces the last result, which may be all that tells how an earlier one ended."""
        if (session_id, effect) not in self._jobs:
            if effect in JUDGES:
                self._jobs.appendleft((session_id, effect))
            else:
                self._jobs.append((session_id, effect))
        self._wake.set()

    def refresh(self) -> None:
        """Something visible changed."""
        self._wake.set()

    def remember_card(self, session_id: str, mac: bytes) -> None:
        self._macs[session_id] = mac

    def forget_card(self, session_id: str) -> None:
        self._macs.pop(session_id, None)

    # --- the loop ---------------------------------------------------------------------------------

    async def run(self) -> None:
        await self.errands.day.load()
        pause_s = RETRY_FIRST_S
        try:
            while True:
                self._beat()
                try:
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
            await self._terminal.close()

    def _beat(self) -> None:
        self._context.progress.beat(f"terminal {self.id}", DESK_BOUND_MS)

    async def _link_up(self) -> None:
        identity = await self._terminal.connect()
        self._shown, self.linked = (), True
        if self._lost_ms is not None:
            after_ms, self._lost_ms = self._clock.boot_ms() - self._lost_ms, None
            self._log("device_back", device="terminal", terminal=self.id, after_ms=after_ms)
        else:
            self._log("terminal_connected", terminal=self.id, tid=identity.terminal_id)
        self._take_state(identity)
        await self.errands.ask_day(now=True)

    def _take_state(self, identity: TerminalIdentity) -> None:
        now = self._identified_ms = self._clock.boot_ms()
        self._till.identity = identity
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
        if self._lost_ms is None:
            self._lost_ms = self._clock.boot_ms()
            self._log(
                "device_lost",
                level="error",
                id=error.code,
                device="terminal",
                terminal=self.id,
                why=str(error),
                effect="out of order for payment",
            )

    async def _serve(self) -> None:
        while True:
            self._beat()
            self._wake.clear()
            if self._jobs or self.errands.waiting:
                await self._work()
                continue
            await self.errands.ask_day(now=False)
            every_ms = IDENTIFY_SOON_MS if self.trouble else IDENTIFY_EVERY_MS
            if self._clock.boot_ms() - self._identified_ms >= every_ms:
                self._take_state(await self._terminal.identify())
            await self._paint()
            if self._wants_card():
                await self._poll_card()
            else:
                await self._nap(NO_CARD_PAUSE_S)

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
            else self.screen.lines(self.id, self.points, self.trouble or self.no_room)
        )
        if lines != self._shown:
            await self._terminal.show(lines)
            self._shown = lines

    def tell_driver(self, lines: tuple[str, ...], for_ms: int) -> None:
        self._notice = Notice(lines, self._clock.boot_ms() + for_ms)
        self._wake.set()

    # --- cards ------------------------------------------------------------------------------------

    def _wants_card(self) -> bool:
        if self.errands.wants_card:
            return True
        if self.trouble or not self.accepting:
            return False
        if not self.no_room and any(not p.ready_for_session() for p in self.points.values()):
            return True
        mine = self._keeper.at_terminal(self.id)
        return any(energy_allowed(s.state) or s.state is S.HELD for s in mine)

    async def _poll_card(self) -> None:
        """Wait for a card; in between do work that comes, and show what is new. The driver aborts the
        read when another verb comes; what the read found by then still counts."""
        reading = asyncio.ensure_future(self._terminal.read_card(self._rules.card_poll_s))
        try:
            while not reading.done():
                waking = asyncio.ensure_future(self._wake.wait())
                await asyncio.wait({reading, waking}, return_when=asyncio.FIRST_COMPLETED)
                waking.cancel()
                self._wake.clear()
                if self._jobs or self.errands.waiting:
                    await self._work()
                elif not reading.done():
                    await self._paint()
            card = reading.result()
        finally:
            reading.cancel()
            await asyncio.gather(reading, return_exceptions=True)
        if card is not None:
            await self._tapped(card)

    async def _tapped(self, card: Card) -> None:
        self._shown = ()  # the terminal shows its own words after a card
        mac = hmac.new(self._card_key, card.token or b"", hashlib.sha256).digest()
        repeated = self._repeated(mac)
        known = mac if card.token is not None else None
        mine = [
            s for s in self._keeper.at_terminal(self.id) if known and known == self._macs.get(s.id)
        ]
        if self.errands.wants_card and not mine:
            self.errands.take_card(card, known)
            return
        if repeated:
            return
        for session in mine:
            if energy_allowed(session.state) and self._rules.stop_by_tap:
                await self._keeper.tell(session.id, E.STOP, {"reason": "tap"})
            elif session.state is S.HELD:
                await self._keeper.tell(session.id, E.CANCELLED, {"why": "driver"})
            return
        refused = self._refusal()
        if refused:
            self.tell_driver(*self.screen.refused(refused))
        else:
            await self._begin(known)

    def _repeated(self, mac: bytes) -> bool:
        now = self._clock.boot_ms()
        repeated = self._last_tap[0] == mac and now - self._last_tap[1] < SAME_TAP_MS
        self._last_tap = (mac, now)
        return repeated

    def _refusal(self) -> str:
        """Why no session can begin now, as screens.refused_tap has words for it."""
        if self._keeper.unbound(self.id) is not None:
            return "busy"
        if self.no_room or not self.accepting:
            return "out_of_order"
        troubles = [p.ready_for_session() for p in self.points.values()]
        if not all(troubles):
            return ""
        mine = self._keeper.at_terminal(self.id)
        if any(energy_allowed(s.state) or s.state is S.HELD for s in mine):
            return "other_card"
        return "occupied" if "occupied" in troubles else "out_of_order"

    def _connector(self) -> ChargePoint | None:
        """The connector that is meant, where that can be known before the tap (design §2 rule 7)."""
        free = [p for p in self.points.values() if not p.ready_for_session()]
        plugged = [p for p in free if p.car_there]
        if len(plugged) == 1:
            return plugged[0]
        return free[0] if len(free) == 1 else None

    async def _begin(self, mac: bytes | None) -> None:
        chosen = self._connector()
        session_id = new_session_id()
        data = {
            "evse": None if chosen is None else chosen.id,
            "plugged": chosen is not None and chosen.car_there,
            "terminal": self.id,
            "terminal_id": None if self.identity is None else self.identity.terminal_id,
            "amount_minor": self._rules.hold.amount_minor,
            "currency": self._rules.hold.currency,
            "tariff_id": self._context.tariff.id,
            "language": self._rules.language,
            "accept_partial": self._rules.accept_partial,
            "least_capture_minor": self._till.least_amount_minor,
        }
        if mac is not None:
            self.remember_card(session_id, mac)
        try:
            await self._keeper.tell(session_id, E.TAPPED, data, card_mac=mac)
        except LedgerError as error:
            self.forget_card(session_id)
            self.no_room = str(error)
            self._log("session_refused", level="error", id="STA-003", why=str(error))
            self._wake.set()

    # --- work -------------------------------------------------------------------------------------

    async def _work(self) -> None:
        """Do the oldest job, if its session still owes it; what a person asks for comes after money."""
        if not self._jobs:
            await self._errand()
            return
        session_id, effect = self._jobs.popleft()
        session = self._keeper.sessions.get(session_id)
        if session is None or not owes(session, effect):
            return
        self._shown = ()
        if effect in JUDGES:
            await self._ask(session, effect)
            return
        try:
            outcome = await self._till.do(session, effect)
        finally:
            self._last_tap = (self._last_tap[0], self._clock.boot_ms())
        if effect is Effect.AUTHORIZE and isinstance(outcome, Refused):
            if outcome.reason is Reason.CARD_REMOVED:
                # It says "please tap again": the same card at once is no lasting tap.
                self._last_tap = (b"", -SAME_TAP_MS)
            self.tell_driver(*self.screen.declined(outcome.reason, outcome.key))
        elif effect is Effect.AUTHORIZE and isinstance(outcome, NotSent):
            self.tell_driver(*self.screen.refused("out_of_order"))

    async def _errand(self) -> None:
        """What a person asks for may leave the terminal in another state and with another text."""
        self._shown = ()
        await self.errands.do_next(self._beat)
        self._identified_ms = self._clock.boot_ms() - IDENTIFY_EVERY_MS

    async def _ask(self, session: Session, effect: Effect) -> None:
        try:
            told = await self._till.ask(session, effect)
        except DeviceUnavailable:
            self.order(session.id, effect)  # first thing when the link is back
            raise
        if not told:
            loop = asyncio.get_running_loop()
            loop.call_later(ASK_AGAIN_S, self.order, session.id, effect)
