"""Keeps the open sessions: every event is durable before anything follows from it.

`tell` is the one way to move a session: decide (pure), commit (synced), then hand the owed effect on.
A caller that is cancelled while the commit is under way does not tear it apart: the commit runs on in a
task of its own, so memory and disk never differ."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from agent.ledger import AsyncLedger, EventRow, RecordRow, SessionRow
from agent.session import (
    FINAL,
    OWED,
    TABLE_VERSION,
    E,
    Effect,
    Event,
    S,
    Session,
    Step,
    energy_allowed,
    fold,
    step,
)
from agent.session.ask import Ref
from agent.session.raises import owed_besides, owed_now
from agent.session.states import OCCUPIES_EVSE
from agent.station.clock import Clock
from agent.station.left_open import LeftOpen
from agent.station.results import refs_at, refs_in
from agent.values import Stamp

Perform = Callable[[Session, Effect], None]
Log = Callable[..., None]


# More open sessions than connectors only come from unresolved ones; a station that has this many is
# looked after by people.
LOAD_LIMIT = 1_000
# Terminals repeat only their last result; a few more cover several desks and sessions in between.
CLOSED_KEPT = 50


def event_of(row: EventRow) -> Event:
    return Event(E(row.name), row.stamp, row.data)


def refold(session_id: str, rows: Sequence[EventRow]) -> Session | None:
    """The session its stored events make; None when this version cannot read one of them. Where a person
    has ended it all the same, what can be read, and his word."""
    try:
        return fold(session_id, [event_of(row) for row in rows])
    except (ValueError, TypeError, KeyError):
        ended = bool(rows) and rows[-1].name == E.CLOSED_UNREAD
        return readable(Session(session_id), rows) if ended else None


def hold_of(session: Session, events: Sequence[EventRow]) -> dict[str, Any]:
    """hold, held_minor and currency: by the session, else as the events that are left name them."""
    hold, held, currency = dict(session.hold), session.held_minor, session.currency
    for event in events:
        data = event.data
        if not hold and isinstance(data.get("hold"), Mapping):
            hold = dict(data["hold"])  # type: ignore[arg-type]  # just looked
        amount = data.get("approved_minor")
        if held is None and isinstance(amount, int) and not isinstance(amount, bool):
            held = amount
        if not currency and isinstance(data.get("currency"), str):
            currency = str(data["currency"])
    return {"hold": hold, "held_minor": held, "currency": currency}


def readable(session: Session, rows: Sequence[EventRow]) -> Session:
    """As much of it as can be read: events that are lost or not known are passed over."""
    for row in rows:
        try:
            session = step(session, event_of(row)).session
        except (ValueError, TypeError, KeyError):
            continue
    return session


class Keeper:
    def __init__(self, ledger: AsyncLedger, clock: Clock, log: Log) -> None:
        self._ledger = ledger
        self._clock = clock
        self._log = log
        self._counts: dict[str, int] = {}
        self._stamps: dict[str, Stamp] = {}
        self._locks: dict[str, asyncio.Lock] = {}
        self._commits: set[asyncio.Task[Step]] = set()
        self._closed: deque[Session] = deque(maxlen=CLOSED_KEPT)
        self._watchers: list[Callable[[Session], None]] = []
        self.sessions: dict[str, Session] = {}
        # Sessions whose stored states this version's table does not reproduce: shown, not touched.
        self.committed = 0
        self.set_aside: dict[str, str] = {}
        self._aside: dict[str, Session] = {}  # as far as they can be read
        self._aside_refs: dict[str, frozenset[Ref]] = {}
        # By connector: whether the car of its last session was still there when that ended, as stored.
        self.stayed: dict[str, bool] = {}
        self.left = LeftOpen(ledger)
        # Charged when the agent went away, and not yet looked at: only a restart accounts for the outage.
        self._unlooked: set[str] = set()
        # Sessions whose first event or whose connector is not stored yet: (connector, terminal). Nobody else
        # begins on these.
        self._beginning: dict[str, tuple[str | None, str]] = {}
        self.perform: Perform = lambda session, effect: None

    async def load(self, can_price: Callable[[Session], bool] = lambda _: True) -> list[Session]:
        """Fold every open session from the ledger. Recovery starts here. One that cannot be priced any more
        is set aside."""
        for row in await self._ledger.sessions(open_only=True, limit=LOAD_LIMIT):
            if row.salvaged:
                self._list_salvaged(row, await self._ledger.events(row.id))
                continue
            events = await self._ledger.events(row.id)
            session = refold(row.id, events)
            if session is None or session.state != row.state:
                self._put_aside(row, events)
                self._log(
                    "session_set_aside",
                    level="error",
                    id="STA-002",
                    session=row.id,
                    seen="an event it does not know" if session is None else str(session.state),
                    expected=row.state,
                )
                continue
            if not can_price(session):
                self._put_aside(row, events)
                self._log(
                    "session_without_tariff",
                    level="error",
                    id="STA-047",
                    session=row.id,
                    tariff=session.tariff_id,
                    effect="listed; no energy flows and its hold is left alone",
                )
                continue
            self.sessions[row.id] = session
            self._counts[row.id] = len(events)
            # What was stored after an outage before anybody looked proves nothing about the time before it.
            looked = (e.stamp for e in reversed(events) if e.data.get("outage") is not True)
            self._stamps[row.id] = next(looked, events[0].stamp)
            if energy_allowed(session.state):
                self._unlooked.add(row.id)
        for row in reversed(await self._ledger.sessions(limit=CLOSED_KEPT)):
            closed = None if row.open else refold(row.id, await self._ledger.events(row.id))
            if closed is not None:
                self._closed.append(closed)
            known = closed or self.sessions.get(row.id) or self._aside.get(row.id)
            if known is not None and known.evse is not None and known.begin_wh is not None:
                self.stayed[known.evse] = known.plugged
        await self.left.load(self._closed, refold)
        return list(self.sessions.values())

    def _put_aside(self, row: SessionRow, events: Sequence[EventRow]) -> None:
        """Nothing is done for it, but its hold and its results are not those of another session."""
        self.set_aside[row.id] = row.state
        session = readable(Session(row.id, evse=row.evse, terminal=row.terminal), events)
        self._aside[row.id] = replace(session, **hold_of(session, events))
        self._aside_refs[row.id] = refs_in(events)

    def _list_salvaged(self, row: SessionRow, events: Sequence[EventRow]) -> None:
        """Its last events may be lost: nothing is sent for it, nor energy released, by itself."""
        self._put_aside(row, events)
        self._log(
            "session_salvaged",
            level="error",
            id="LED-018",
            session=row.id,
            evse=row.evse,
            terminal=row.terminal,
            state=row.state,
            effect="listed; its hold is left alone",
        )

    def closed_aside(self, session: Session) -> None:
        """A person took it off the list. Its hold stays explained, so that it is not called nobody's."""
        self.set_aside.pop(session.id, None)
        self._aside.pop(session.id, None)
        self._closed.append(session)
        self.left.take(session)
        self._log(
            "session_closed_by_hand",
            level="warning",
            session=session.id,
            aside=session.aside,
            how=session.closed_as,
            by=session.closed_by,
            receipt=session.hold.get("receipt"),
            effect="off the list; nothing was sent to the terminal",
        )

    def watch(self, watcher: Callable[[Session], None]) -> None:
        """`watcher(session)` is called after every committed event."""
        self._watchers.append(watcher)

    def on_evse(self, evse: str) -> Session | None:
        """The session that occupies a connector."""
        for session in self.sessions.values():
            if session.evse == evse and session.state in OCCUPIES_EVSE:
                return session
        return None

    def taken(self, evse: str) -> bool:
        """A session occupies the connector, or is about to: its first event is being stored."""
        beginning = any(evse == its for its, _ in self._beginning.values())
        return beginning or self.on_evse(evse) is not None

    def any_unbound(self, terminals: Iterable[str]) -> bool:
        """Some session of these terminals has no connector yet, or is about to begin without one."""
        names = set(terminals)
        beginning = any(its is None and at in names for its, at in self._beginning.values())
        return beginning or any(self.unbound(name) is not None for name in names)

    def unbound(self, terminal: str) -> Session | None:
        """The one session of a terminal that has no connector yet (design §2 rule 7)."""
        for s in self.sessions.values():
            waits = s.evse is None and s.id not in self._beginning
            if s.terminal == terminal and waits and s.state in OCCUPIES_EVSE:
                return s
        return None

    def at_terminal(self, terminal: str) -> list[Session]:
        return [s for s in self.sessions.values() if s.terminal == terminal]

    def may_hold_at(self, terminal: str, terminal_id: str | None) -> list[Session]:
        """The sessions that have not ended, those set aside among them, whose hold may be at a terminal:
        also one that was begun when the terminal had another name in the configuration."""
        return [
            s
            for s in (*self.sessions.values(), *self._aside.values())
            if s.terminal == terminal or (terminal_id and s.hold.get("terminal_id") == terminal_id)
        ]

    def known_results(self, terminal: str, tid: str | None, but: str) -> frozenset[Ref]:
        """Holds and results of our other sessions at a terminal, which calls itself `tid`, the last closed
        ones and those set aside included: a last result among them says nothing about the session `but`."""
        refs = refs_at(terminal, tid, (*self._closed, *self.sessions.values()), but)
        return frozenset(refs).union(*self._aside_refs.values())

    def last_stamp(self, session_id: str) -> Stamp | None:
        """When the last durable event of a session was that a looking process has told."""
        return self._stamps.get(session_id)

    def last_closed(self, terminal: str) -> Session | None:
        """The session that ended last at a terminal, for the screen and the receipt."""
        return next((s for s in reversed(self._closed) if s.terminal == terminal), None)

    def closed_at(self, terminal: str) -> list[Session]:
        """The sessions that ended last at a terminal, oldest first."""
        return [s for s in self._closed if s.terminal == terminal]

    def may_charge(self, evse: str) -> bool:
        session = self.on_evse(evse)
        return session is not None and energy_allowed(session.state)

    async def tell(
        self,
        session_id: str,
        name: E,
        data: Mapping[str, Any] | None = None,
        *,
        record: RecordRow | None = None,
        card_mac: bytes | None = None,
        basis: Session | None = None,
    ) -> Step:
        """Move a session by one event. Raises what the ledger raises; then nothing has changed. `basis`: the
        session that the event was made from; where it has moved meanwhile, the event is not taken."""
        commit = self.telling(session_id, name, data, record, card_mac, basis)
        return await asyncio.shield(commit)

    def telling(
        self,
        session_id: str,
        name: E,
        data: Mapping[str, Any] | None = None,
        record: RecordRow | None = None,
        card_mac: bytes | None = None,
        basis: Session | None = None,
        at: Stamp | None = None,
    ) -> asyncio.Task[Step]:
        """The same, begun, not waited for: it goes on whoever waits. `at`: when it happened, if not now."""
        told, at = dict(data or {}), at or self._clock.stamp()
        begins = name in (E.TAPPED, E.BOUND)
        if begins:
            session, evse = self.sessions.get(session_id), told.get("evse")
            self._beginning[session_id] = (
                None if evse is None else str(evse),
                str(told["terminal"]) if session is None else session.terminal,
            )
        commit = asyncio.create_task(
            self._commit(session_id, name, told, record, card_mac, basis, at)
        )
        if begins:  # another event of the session may be stored before it
            commit.add_done_callback(lambda _: self._beginning.pop(session_id, None))
        self._commits.add(commit)
        commit.add_done_callback(self._commits.discard)
        return commit

    def _when(self, session_id: str, at: Stamp) -> Stamp:
        """Not before what is stored already: phases are counted from one event to the next."""
        last = self._stamps.get(session_id)
        return last if last is not None and (at.since_ms(last) or 0) < 0 else at

    async def _commit(
        self,
        session_id: str,
        name: E,
        data: dict[str, Any],
        record: RecordRow | None,
        card_mac: bytes | None,
        basis: Session | None,
        at: Stamp,
    ) -> Step:
        async with self._locks.setdefault(session_id, asyncio.Lock()):
            before = self.sessions.get(session_id) or Session(session_id)
            if before.state is S.NEW and name not in (E.TAPPED, E.FOREIGN):
                self._locks.pop(session_id, None)
                return Step(before, False, None)  # closed meanwhile
            if basis is not None and before is not basis:
                return Step(before, False, None)
            if name is E.STOP and session_id in self._unlooked:
                # Nobody knows what became of the time in between: it is not charged (design §2 rule 11).
                name, data = E.RESTARTED, {**data, "resume": False}
            elif session_id in self._unlooked and name is not E.RESTARTED:
                data = {**data, "outage": True}
            event = Event(name, self._when(session_id, at), data)
            result = step(before, event)
            if not result.taken:
                self._log(
                    "event_refused",
                    level="warning",
                    session=session_id,
                    name=name,
                    state=before.state,
                )
                return result
            after = result.session
            n = self._counts.get(session_id, 0) + 1
            row = EventRow(
                session_id, n, str(name), data, str(after.state), TABLE_VERSION, event.stamp
            )
            await self._ledger.append(
                row,
                evse=after.evse,
                terminal=after.terminal,
                open=after.state not in FINAL,
                record=record,
                card_mac=card_mac,
            )
            self.committed += 1
            self._counts[session_id] = n
            if data.get("outage") is not True:
                self._stamps[session_id] = event.stamp
            if name is E.RESTARTED or not energy_allowed(after.state):
                self._unlooked.discard(session_id)
            self._remember(after)
        if after.state is not before.state:
            self._log(
                "session", session=session_id, evse=after.evse, event_name=name, state=after.state
            )
        for watcher in self._watchers:
            watcher(after)
        for effect in (result.owed, owed_besides(before, after)):
            if effect is not None:
                self.perform(after, effect)
        return result

    def _remember(self, session: Session) -> None:
        if session.state in FINAL:
            self._closed.append(session)
            self.left.take(session)
            self.sessions.pop(session.id, None)
            self._counts.pop(session.id, None)
            self._stamps.pop(session.id, None)
            self._locks.pop(session.id, None)
        else:
            self.sessions[session.id] = session

    def owe(self, session: Session) -> None:
        """Order again what the state owes: after a restart, and after a failed try."""
        for effect in (OWED.get(session.state), owed_now(session)):
            # A raise is ordered once, by its intent; after that it is only asked for.
            if effect is not None and effect is not Effect.RAISE:
                self.perform(session, effect)

    async def settle_commits(self) -> None:
        """Wait until every commit under way has ended."""
        if self._commits:
            await asyncio.gather(*self._commits, return_exceptions=True)
