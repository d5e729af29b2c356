"""What a card on the reader means: the end of its own session, the begin of a new one, or a text."""

from __future__ import annotations

import hashlib
import hmac
import secrets
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass

from agent.driver_ui.screens import Lines
from agent.ledger import LedgerError
from agent.ports import Card
from agent.session import E, S, Session, energy_allowed
from agent.session.doubt import in_doubt
from agent.station.charge_point import ChargePoint
from agent.station.context import Context
from agent.station.errands import Errands
from agent.station.meant import meant
from agent.station.screen import Screen
from agent.station.till import Till, made_elsewhere
from agent.station.wishes import CANCELLABLE, end
from agent.values import Money

# The same card twice within this is one tap: drivers hold the card until something happens. Counted from
# the end of what the tap began, too: a card left on the reader must not cancel its own hold.
SAME_TAP_MS = 4_000
ID_ALPHABET = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"  # Crockford: nothing that is misread on a receipt
ID_LENGTH = 10
HOLDS_FULL = "holds_full"  # the word of the display for a terminal without room


@dataclass(frozen=True, slots=True)
class DeskRules:
    hold: Money
    stop_by_tap: bool
    card_poll_s: int
    language: str
    accept_partial: bool = True
    release_foreign: bool = False  # the terminal is this station's alone
    holds_most: int | None = None  # as many open holds does the terminal keep


def new_session_id() -> str:
    return "".join(secrets.choice(ID_ALPHABET) for _ in range(ID_LENGTH))


def may_tap(session: Session) -> bool:
    """Its driver may come back with the card: to stop, or to cancel."""
    return energy_allowed(session.state) or session.state in CANCELLABLE


def holds_open(sessions: Iterable[Session], strange: Iterable[int], terminal_id: str | None) -> int:
    """How many holds a terminal keeps, as far as it is known: those of the sessions there that have not
    ended, one that is being asked for among them, and `strange` receipts that no session explains."""
    here = [s for s in sessions if _may_hold(s) and not made_elsewhere(s, terminal_id)]
    return len(here) + len(set(strange) - {s.hold.get("receipt") for s in here})


def _may_hold(s: Session) -> bool:
    if s.state is S.UNRESOLVED:
        return s.outcome in ("refused", "failed", "unknown", "foreign") and not s.freed
    return s.state not in (S.NEW, S.SETTLED, S.CLOSED)


class Taps:
    """`closed` is asked why no session may begin, as screen.refused has words for it; empty when one may.
    `no_room`: why the ledger takes no new session."""

    def __init__(
        self,
        till: Till,
        points: Mapping[str, ChargePoint],
        rules: DeskRules,
        screen: Screen,
        card_key: bytes,
        errands: Errands,
        context: Context,
        closed: Callable[[], str],
        tell_driver: Callable[[Lines, int], None],
    ) -> None:
        self.no_room = ""
        self._till, self._points, self._rules = till, points, rules
        self._screen, self._card_key, self._errands = screen, card_key, errands
        self._context, self._keeper, self._clock = context, context.keeper, context.clock
        self._closed, self._tell_driver = closed, tell_driver
        self._last: tuple[bytes, int] = (b"", -SAME_TAP_MS)
        self._about = ""  # the session that the last tap began, stopped or cancelled
        self._macs: dict[str, bytes] = {}

    def remember(self, session_id: str, mac: bytes) -> None:
        self._macs[session_id] = mac

    def forget(self, session_id: str) -> None:
        self._macs.pop(session_id, None)

    def wanted(self) -> bool:
        """A card could mean something now."""
        if not self._closed() and any(not p.ready_for_session() for p in self._points.values()):
            return True
        return any(may_tap(s) for s in self._keeper.at_terminal(self._till.id))

    def full(self) -> bool:
        """The terminal has room for no further hold, though a connector is free."""
        most, till = self._rules.holds_most, self._till
        if most is None or all(p.ready_for_session() for p in self._points.values()):
            return False
        terminal_id = till.connected_id
        here = self._keeper.at_terminal(till.id)
        left = [
            s
            for s in self._keeper.left.at(till.id, terminal_id)
            if not made_elsewhere(s, terminal_id)
        ]
        return holds_open(here, till.strange_holds, terminal_id) + len(left) >= most

    def served(self, session_id: str) -> None:
        """Something is done at the terminal. If the last tap was about that session, its card may still lie
        there; what was done for others makes no tap an old one."""
        if session_id == self._about:
            self._last = (self._last[0], self._clock.boot_ms())

    def may_come_again(self) -> None:
        """The driver was asked to tap again: the same card at once is no lasting tap."""
        self._last = (b"", -SAME_TAP_MS)

    async def tapped(self, card: Card) -> None:
        mac = hmac.new(self._card_key, card.token or b"", hashlib.sha256).digest()
        repeated = self._repeated(mac)
        known = mac if card.token is not None else None
        here = self._keeper.at_terminal(self._till.id)
        mine = [s for s in here if known and known == self._macs.get(s.id)]
        if self._errands.wants_card and not mine:
            self._errands.take_card(card, known)
            return
        if repeated:
            return
        for session in mine:
            self._about = session.id
            if energy_allowed(session.state) or session.state in CANCELLABLE:
                stop = "tap" if self._rules.stop_by_tap else ""
                await end(self._keeper, session.id, stop=stop, cancel="driver")
            return
        refused = self._refusal()
        last = None if refused else await self._till.last_ref()
        refused = refused or self._refusal()  # somebody may have begun meanwhile
        if refused == HOLDS_FULL:
            self._context.log(
                "session_refused",
                level="warning",
                id="STA-046",
                terminal=self._till.id,
                why=f"{self._rules.holds_most} holds are open at the terminal; it keeps no more",
            )
        if refused:
            self._tell_driver(*self._screen.refused(refused))
        else:
            await self._begin(known, last)

    def _repeated(self, mac: bytes) -> bool:
        now = self._clock.boot_ms()
        repeated = self._last[0] == mac and now - self._last[1] < SAME_TAP_MS
        self._last = (mac, now)
        return repeated

    def _refusal(self) -> str:
        """Why no session can begin now, as screens.refused_tap has words for it."""
        here = self._keeper.at_terminal(self._till.id)
        connected = self._till.connected_id
        # Its hold would replace the last result that tells, if this is the terminal that can.
        if any(in_doubt(s) and not made_elsewhere(s, connected) for s in here):
            return "wait_check"
        # Where terminals share connectors, two drivers without one cannot be told apart (design §2 rule 7).
        neighbours = {name for point in self._points.values() for name in point.terminals}
        if self._keeper.any_unbound({self._till.id, *neighbours}):
            return "busy"
        closed = self._closed()
        if closed:
            return closed
        troubles = [p.ready_for_session() for p in self._points.values()]
        if not all(troubles):
            return ""
        if any(may_tap(s) for s in here):
            return "other_card"
        return "occupied" if "occupied" in troubles else "out_of_order"

    async def _begin(self, mac: bytes | None, last: Mapping[str, object] | None) -> None:
        chosen, till = meant(self._points), self._till
        session_id = self._about = new_session_id()
        data = {
            "evse": None if chosen is None else chosen.id,
            "plugged": chosen is not None and chosen.car_there,
            "terminal": till.id,
            "terminal_id": till.connected_id,
            "amount_minor": self._rules.hold.amount_minor,
            "currency": self._rules.hold.currency,
            "tariff_id": self._context.tariff.id,
            "tariff_hash": self._context.tariffs.name,
            "language": self._rules.language,
            "accept_partial": self._rules.accept_partial,
            "least_capture_minor": till.least_amount_minor,
            "last": last,
        }
        if mac is not None:
            self.remember(session_id, mac)
        try:
            await self._keeper.tell(session_id, E.TAPPED, data, card_mac=mac)
        except LedgerError as error:
            self.forget(session_id)
            self.no_room = str(error)
            self._context.log("session_refused", level="error", id="STA-003", why=str(error))
