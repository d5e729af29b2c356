"""The ledger at the start of the service: opened, or, where it is damaged or lost, made anew from what can be
proven. Nothing that is open is ended by that: it is listed."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Sequence
from pathlib import Path

from agent.ledger import AsyncLedger, EventRow, LedgerDamaged, rescue
from agent.ledger.ballast import Ballast
from agent.ledger.salvage import Known, Plan
from agent.session import FINAL
from agent.station.clock import Clock
from agent.station.keeper import Log, refold
from agent.trust.chain import GENESIS, Sealed, seal
from agent.trust.keys import KeySet, KeySource, Signer
from agent.trust.plain import JSON

# The word of the gap record for what has happened, by error id.
REASONS = {"LED-003": "damaged", "LED-016": "log_lost", "LED-019": "lost"}


def judge(session_id: str, events: Sequence[EventRow]) -> Known | None:
    """Where a session stands by its events alone; None when they do not make one."""
    session = refold(session_id, events)
    if session is None:
        return None
    return Known(
        str(session.state), session.state not in FINAL, session.evse, session.terminal or "unknown"
    )


class Opening:
    """`was_here`: the station has run before, so there was a ledger."""

    def __init__(self, path: Path, station: str, key: KeySource, clock: Clock, log: Log) -> None:
        self._path, self._station, self._key = path, station, key
        self._clock, self._log = clock, log

    async def open(self, was_here: bool) -> AsyncLedger:
        """Raises LedgerError's family; KeyRefused when a new chain cannot be signed."""
        trouble = await asyncio.to_thread(self._look, was_here)
        if trouble is None:
            try:
                return await self._try()
            except LedgerDamaged as damage:
                trouble = damage
        await asyncio.to_thread(self._rescue, trouble)
        return await self._try()

    async def _try(self) -> AsyncLedger:
        ballast = Ballast(self._path.with_name("ballast"))
        return await AsyncLedger.open(self._path, self._station, ballast=ballast)

    def _look(self, was_here: bool) -> LedgerDamaged | None:
        """What SQLite would not tell: it makes a new file where it finds none."""
        if rescue.emptied(self._path):
            return LedgerDamaged("LED-003", f"{self._path} has no page left, but its log has")
        if rescue.exists(self._path) or not (was_here or rescue.interrupted(self._path)):
            return None
        return LedgerDamaged("LED-019", f"{self._path} is gone, but this station has run before")

    def _rescue(self, trouble: LedgerDamaged) -> None:
        key = self._key.open()
        try:
            self._begin_anew(key, trouble)
        finally:
            key.close()

    def _begin_anew(self, key: Signer, trouble: LedgerDamaged) -> None:
        source = rescue.interrupted(self._path)
        if source is None and rescue.exists(self._path):
            source = rescue.set_aside(self._path)
        stamp = self._clock.stamp()

        def sealed(chain: str, body: dict[str, JSON]) -> Sealed:
            return seal(
                key,
                chain=chain,
                seq=1,
                prev=GENESIS,
                type="gap",
                station=self._station,
                stamp=stamp,
                body=body,
            )

        plan = Plan(
            station=self._station,
            reason=REASONS[trouble.code],
            set_aside=None if source is None else source.name,
            keys=KeySet([key.public]),
            judge=judge,
            seal=sealed,
            new_chain=lambda: secrets.token_hex(16),
            utc_ms=stamp.utc_ms,
        )
        found = rescue.replace(self._path, source, plan)
        self._log(
            "ledger_begun_anew",
            level="error",
            id=trouble.code,
            why=trouble.text,
            set_aside=plan.set_aside,
            old_chain=found.old_chain,
            old_seq=found.old_seq,
            lost=found.lost,
            sessions=found.sessions,
            records=found.records,
            open=found.open,
            effect="a new chain begins with a gap record; salvaged open sessions are listed, not ended",
        )
