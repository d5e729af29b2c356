"""Open holds at a terminal against the ledger, after every start and whenever the link comes up.

A hold of a running session is adopted, one whose session has ended is finished, one that waits for a
person stays listed. One that no session explains is listed as a session of its own, once, with a record; it
is released only where the operator says that the terminal is this station's alone (design §2 rule 2)."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass

from agent.ledger import LedgerError
from agent.ports import OpenHolds, Terminal, TerminalIdentity
from agent.session import E, Effect, S, Session
from agent.session.acts import worth_asking
from agent.session.ask import may_be_nameless, question_of
from agent.session.doubt import needs_last_result
from agent.session.states import OCCUPIES_EVSE
from agent.station.context import Context
from agent.station.taps import DeskRules, new_session_id
from agent.station.till import Till, made_elsewhere

# Not at work there: what is not the terminal's own any more is listed.
_WAITING = (S.CAPTURE_DUE, S.RELEASE_DUE)


@dataclass(frozen=True, slots=True)
class Matched:
    """Session ids, and receipts of holds that nobody here explains."""

    adopted: tuple[str, ...]
    finishing: tuple[str, ...]
    listed: tuple[str, ...]
    foreign: tuple[int, ...]
    gone: tuple[str, ...]
    ended: tuple[str, ...] = ()  # taken off the list before, and not at the terminal any more


def match(terminal_id: str | None, holds: OpenHolds, sessions: Iterable[Session]) -> Matched:
    """Pure. `sessions`: those that could explain a hold here."""
    here = [s for s in sessions if s.hold and not made_elsewhere(s, terminal_id)]
    # Of two with one receipt the newer one is at the terminal: numbers are reused.
    by_receipt = {s.hold.get("receipt"): s for s in here if s.state is not S.CLOSED}
    known = {s.hold.get("receipt") for s in here}
    found = [by_receipt[r] for r in holds.receipts if r in by_receipt]
    open_ = set(holds.receipts)
    return Matched(
        tuple(s.id for s in found if s.state in OCCUPIES_EVSE),
        tuple(s.id for s in found if s.state not in (*OCCUPIES_EVSE, S.UNRESOLVED)),
        tuple(s.id for s in found if s.state is S.UNRESOLVED),
        tuple(r for r in holds.receipts if r not in known),
        tuple(
            s.id
            for s in here
            if s.outcome == "foreign"
            and s.state is S.UNRESOLVED
            and holds.complete
            and s.hold.get("receipt") not in open_
        ),
        tuple(
            s.id
            for s in here
            if s.state is S.CLOSED
            and terminal_id
            and holds.complete
            and s.hold.get("receipt") not in open_
        ),
    )


class Matching:
    """`order` queues work of the terminal."""

    def __init__(
        self,
        till: Till,
        terminal: Terminal,
        rules: DeskRules,
        context: Context,
        order: Callable[[str, Effect], None],
    ) -> None:
        self.id = till.id
        self._till, self._terminal = till, terminal
        self._currency, self._release = rules.hold.currency, rules.release_foreign
        self._keeper, self._log, self._order = context.keeper, context.log, order
        self._clock = context.clock
        self._due = True
        self._asked: set[str] = set()  # since the link came up
        self._put_off = False  # an open hold is not called nobody's yet

    def link_is_up(self) -> None:
        self._due = True
        self._asked.clear()

    async def turn(self, identity: TerminalIdentity) -> bool:
        """True when the terminal was asked. Raises DeviceUnavailable and LedgerError."""
        if self._unclear(identity):
            return False
        await self._free(identity)
        sessions = self._keeper.at_terminal(self.id)
        if self._put_off and not self._may_be_ours(identity):
            self._due = True
        if not self._due:
            return False
        nameless = False
        for session in sessions:
            elsewhere = made_elsewhere(session, identity.terminal_id)
            if elsewhere and session.state in _WAITING:
                await self._keeper.tell(session.id, E.AWAY, {"why": elsewhere})
            elif not elsewhere and _may_go_on(session) and session.id not in self._asked:
                self._asked.add(session.id)
                self._order(session.id, question_of(session))
                nameless = nameless or may_be_nameless(session)
        if nameless:
            return False  # first the question: its hold may be among them
        holds = await self._terminal.open_holds()
        if self._unclear(identity):
            return True  # a tap came in between: its hold may be among them
        self._due = False
        known = match(identity.terminal_id, holds, self._known(identity.terminal_id))
        try:
            await self._take_in(identity, known)
        except LedgerError:
            self._due = True  # what is known by now is passed over
            raise
        return True

    def _unclear(self, identity: TerminalIdentity) -> bool:
        """A session may have a hold there that it does not know yet, or needs the last result as it is. What
        is in doubt at an exchanged terminal is told by that one alone."""
        return any(
            needs_last_result(s) and not made_elsewhere(s, identity.terminal_id)
            for s in self._keeper.at_terminal(self.id)
        )

    def _known(self, terminal_id: str | None) -> list[Session]:
        """What can explain a hold here: also a session that was begun when this terminal had another name
        in the configuration, and what a person took off the list although it is still open."""
        open_ = [
            s
            for s in self._keeper.sessions.values()
            if s.terminal == self.id or (terminal_id and s.hold.get("terminal_id") == terminal_id)
        ]
        return [*self._keeper.left.at(self.id, terminal_id), *open_]

    async def _take_in(self, identity: TerminalIdentity, found: Matched) -> None:
        if found.adopted or found.finishing or found.listed or found.foreign:
            self._log(
                "holds_matched",
                terminal=self.id,
                adopted=list(found.adopted),
                finishing=list(found.finishing),
                listed=list(found.listed),
                foreign=list(found.foreign),
            )
        self._till.strange_holds = found.foreign
        await self._keeper.left.gone(found.ended)
        for session_id in found.gone:
            why = {"why": "the terminal does not list it any more"}
            await self._keeper.tell(session_id, E.VANISHED, why)
        self._put_off = bool(found.foreign) and self._may_be_ours(identity)
        for receipt in () if self._put_off else found.foreign:
            await self._list(identity.terminal_id, receipt)

    def _may_be_ours(self, identity: TerminalIdentity) -> bool:
        """A session that was set aside could explain a hold, or one that was listed before it knew whether
        its own was made. Where the terminal is ours alone the latter makes no difference."""
        if self._keeper.set_aside:
            return True
        here = [s for s in self._keeper.at_terminal(self.id) if may_be_nameless(s)]
        known = identity.terminal_id
        tapped_here = any(not known or s.terminal_id in (None, known) for s in here)
        return tapped_here and not self._release

    async def _list(self, terminal_id: str | None, receipt: int) -> None:
        session_id = new_session_id()
        self._log(
            "strange_holds",
            level="warning",
            id="STA-027",
            terminal=self.id,
            receipts=[receipt],
            session=session_id,
        )
        data = {
            "terminal": self.id,
            "terminal_id": terminal_id,
            "currency": self._currency,
            "hold": {"terminal_id": terminal_id or "", "receipt": receipt},
        }
        await self._keeper.tell(session_id, E.FOREIGN, data)

    async def _free(self, identity: TerminalIdentity) -> None:
        """Where the terminal is ours alone: whoever made it, nobody will end it."""
        if not self._release or self._keeper.set_aside:
            return
        for s in self._keeper.at_terminal(self.id):
            recorded = s.state is S.UNRESOLVED and s.settlement_seq is not None
            if s.outcome == "foreign" and recorded and not made_elsewhere(s, identity.terminal_id):
                await self._keeper.tell(s.id, E.CANCELLED, {"why": "the terminal is ours alone"})


def _may_go_on(session: Session) -> bool:
    return worth_asking(session) and (bool(session.hold) or may_be_nameless(session))
