"""Signs records, one after the other: number, previous hash and signature in the same order."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Protocol

from agent.ledger import AsyncLedger, Ledger, RecordRow
from agent.session import E, Effect, Session
from agent.session.records import session_record, settlement_record
from agent.station import aside
from agent.station.keeper import Keeper, refold
from agent.station.signed_readings import SignedReadings, Values
from agent.station.signing import Signing
from agent.trust.chain import Sealed, seal
from agent.trust.keys import Signer
from agent.values import Stamp

# What is signed may be out of date when it is: a terminal answered in between. Then it is made again. So many
# events in a row are more than a session has left when it owes a record; what is still owed then is made
# after the next event.
MOVES_MOST = 20


class Draft(Protocol):
    """An event of a closed session with its record, before it is signed."""

    def seal(self, key: Signer) -> Sealed: ...

    def store(self, ledger: Ledger, sealed: Sealed) -> None: ...


class Recorder:
    """Signing never runs inside a transaction nor between an approval and its answer. While the key is away
    everything waits here, in its order; what is owed stays in the ledger."""

    def __init__(
        self, ledger: AsyncLedger, keeper: Keeper, signing: Signing, readings: SignedReadings
    ) -> None:
        self._ledger, self._keeper, self._signing = ledger, keeper, signing
        self._readings = readings
        self._turn = asyncio.Lock()
        # Called when a record is stored of which no session tells: somebody has to send it.
        self.stored: Callable[[], None] = lambda: None

    async def record(self, session_id: str, effect: Effect) -> None:
        """Make the record a session owes. Does nothing when it has it already."""
        async with self._turn:
            for _ in range(MOVES_MOST):
                session = self._keeper.sessions.get(session_id)
                if session is None or session.entered is None or not _wanted(session, effect):
                    return
                sealed, made = await self._sealed(session, effect)
                row, data = RecordRow.of(sealed, session_id, made.page), {"seq": sealed.seq}
                step = await self._keeper.tell(
                    session_id, E.RECORDED, data, record=row, basis=session
                )
                if step.taken:
                    self._readings.tell(session, made)
                if step.taken or step.session is session:
                    return

    async def close_aside(
        self, session_id: str, word: dict[str, object], now: Stamp
    ) -> Session | None:
        """A person takes a session off the list that the station left alone; see aside.close."""
        async with self._turn:
            draft = await self._ledger.use(lambda at: aside.draft(at, session_id, word, now))
            if draft is None:
                return None
            sealed = await self._signing.use(draft.seal)
            after = await self._ledger.use(lambda at: aside.store(at, draft, sealed))
            self.stored()
            return after

    async def add(self, draft: Callable[[Ledger], Draft | None]) -> bool:
        """A record of a session that has ended. False when it takes none."""
        async with self._turn:
            made = await self._ledger.use(draft)
            if made is None:
                return False
            sealed = await self._signing.use(made.seal)
            await self._ledger.use(lambda ledger: made.store(ledger, sealed))
            self.stored()
            return True

    async def last_sessions(self, limit: int) -> list[Session]:
        """As far as this version can read them, oldest first."""
        found = []
        for row in reversed(await self._ledger.sessions(limit=limit)):
            session = refold(row.id, await self._ledger.events(row.id))
            if session is not None:
                found.append(session)
        return found

    async def _sealed(self, session: Session, effect: Effect) -> tuple[Sealed, Values]:
        """The record, and the signed readings in it: both by one key, in one turn. A page is taken when they
        are stored together; until then nobody has seen what was signed."""
        stamp = session.entered
        if stamp is None:
            raise ValueError(f"session {session.id} has no event; a record of it cannot be")
        head = await self._ledger.head()
        pages = await self._ledger.use(lambda ledger: ledger.used_pages())

        def sign(key: Signer) -> tuple[Sealed, Values]:
            made = Values()
            if effect is Effect.RECORD_SESSION:
                made = self._readings.of(session, pages, key)
                kind = "session"
                body = session_record(session, made.values, made.missing, made.meter)
            else:
                kind, body = "settlement", settlement_record(session)
            sealed = seal(
                key,
                chain=head.chain,
                seq=head.seq + 1,
                prev=head.hash,
                type=kind,
                station=self._ledger.station,
                stamp=stamp,
                body=body,
            )
            return sealed, made

        return await self._signing.use(sign)


def _wanted(session: Session, effect: Effect) -> bool:
    if effect is Effect.RECORD_SESSION:
        return session.record_seq is None
    return session.settlement_seq is None
