"""Sessions that a person took off the list while their hold may still be open. The hold stays explained until
the terminal no longer lists it, or it is listed again to be freed, however many sessions have ended since.

Their names stand in the ledger before the person's word does, so that none is missing after a crash; of one
too many the session itself says how it stands."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Callable, Iterable, Sequence

from agent.ledger import AsyncLedger, EventRow, Ledger, LedgerError
from agent.session import FINAL, Session, listed

KEY = "left_open"
# A terminal keeps some dozens of holds, and acquirers end theirs after weeks; the oldest names go first.
MOST = 200


def _names(text: str | None) -> list[str]:
    return [str(name) for name in json.loads(text or "[]")]


def names(ledger: Ledger) -> list[str]:
    """Oldest first."""
    return _names(ledger.meta_get(KEY))


def note(ledger: Ledger, session_id: str) -> None:
    """Before the word is stored. Raises LedgerError."""
    known = names(ledger)
    if session_id not in known:
        ledger.meta_set(KEY, json.dumps([*known, session_id][-MOST:]))


def forget(ledger: Ledger, session_ids: Sequence[str]) -> None:
    """Not at the terminal any more, or listed again. Raises LedgerError."""
    known = names(ledger)
    left = [name for name in known if name not in session_ids]
    if left != known:
        ledger.meta_set(KEY, json.dumps(left))


class LeftOpen:
    """What is stored is changed where it stands, on the ledger's thread: `sessions` lacks those whose word or
    record is on its way."""

    def __init__(self, ledger: AsyncLedger) -> None:
        self._ledger = ledger
        self.sessions: dict[str, Session] = {}

    async def load(
        self,
        closed: Iterable[Session],
        refold: Callable[[str, Sequence[EventRow]], Session | None],
    ) -> None:
        """`closed`: the sessions that ended last; a ledger of the version before kept no names."""
        text = await self._ledger.meta_get(KEY)
        for session in closed if text is None else ():
            self.take(session)
        for name in _names(text):
            rows = await self._ledger.events(name)
            known = refold(name, rows) if rows else None
            if known is not None and known.state in FINAL:
                self.take(known)
        if text is None and self.sessions:
            await self._keep_all()

    async def _keep_all(self) -> None:
        """From now on the names are kept. A disk that is full must not keep the station down."""
        with contextlib.suppress(LedgerError):
            await self._ledger.meta_set(KEY, json.dumps([*self.sessions][-MOST:]))

    def take(self, session: Session) -> None:
        """One that has ended, if it is such a session."""
        if listed.left_open(session):
            self.sessions[session.id] = session

    def at(self, terminal: str, terminal_id: str | None) -> list[Session]:
        """Those whose hold may be at a terminal, under whatever name in the configuration."""
        return [
            s
            for s in self.sessions.values()
            if s.terminal == terminal or (terminal_id and s.hold.get("terminal_id") == terminal_id)
        ]

    async def note(self, session: Session) -> None:
        """Before the word is stored. Raises LedgerError."""
        if listed.may_be_open(session):
            await self._ledger.use(lambda ledger: note(ledger, session.id))

    async def gone(self, names: Sequence[str]) -> None:
        """Not at the terminal any more, or listed again. Raises LedgerError."""
        if names:
            await self._ledger.use(lambda ledger: forget(ledger, names))
        for name in names:
            self.sessions.pop(name, None)
