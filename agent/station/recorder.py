"""Signs records, one after the other: number, previous hash and signature in the same order."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from agent.ledger import AsyncLedger, RecordRow
from agent.session import E, Effect, Session
from agent.session.records import session_record, settlement_record
from agent.station.keeper import Keeper
from agent.trust.jws import RECORD_TYP, jws_hash, sign

if TYPE_CHECKING:
    from agent.trust.keys import RecordKey


class Recorder:
    """Signing never runs inside a transaction nor between an approval and its answer; with RFC 6979
    the same record signed again after a crash has the same bytes."""

    def __init__(self, ledger: AsyncLedger, keeper: Keeper, key: RecordKey, station: str) -> None:
        self._ledger, self._keeper, self._key, self._station = ledger, keeper, key, station
        self._turn = asyncio.Lock()

    async def record(self, session_id: str, effect: Effect) -> None:
        """Make the record a session owes. Does nothing when it has it already."""
        async with self._turn:
            session = self._keeper.sessions.get(session_id)
            if session is None or not _wanted(session, effect):
                return
            kind = "session" if effect is Effect.RECORD_SESSION else "settlement"
            make = session_record if kind == "session" else settlement_record
            head = await self._ledger.head()
            seq = head.seq + 1
            payload = {"chain": head.chain, "seq": seq, "prev": head.hash}
            payload |= make(session, self._station)
            jws = await asyncio.to_thread(sign, self._key, payload, RECORD_TYP)
            row = RecordRow(head.chain, seq, kind, session_id, jws, jws_hash(jws))
            await self._keeper.tell(session_id, E.RECORDED, {"seq": seq}, record=row)


def _wanted(session: Session, effect: Effect) -> bool:
    if effect is Effect.RECORD_SESSION:
        return session.record_seq is None
    return session.settlement_seq is None
