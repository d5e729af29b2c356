"""What the ledger needs in quiet moments: forget what may be forgotten, fold its log back, look through what
the start had no time for. Nothing is written when there is nothing to do."""

from __future__ import annotations

import asyncio

from agent.ledger import AsyncLedger, LedgerDamaged, LedgerError, LedgerFull
from agent.station.clock import Clock
from agent.station.keeper import Log

DAY_MS = 86_400_000
# The log is folded back in a quiet moment from 1 MiB on: each time costs some four flushes, so not after
# every session. Where no moment is quiet, at 3 MiB; at 4 MiB a commit would have to do it.
LOG_PAGES_QUIET, LOG_PAGES_BUSY = 1_000, 3_000
# Ten sessions each: a day's sessions of a busy site in one turn.
BATCHES_A_TURN = 20
# Between two slices of the look-through: the ledger's thread is free most of the time.
SLICE_PAUSE_S = 0.05


async def forget_card(ledger: AsyncLedger, session_id: str, log: Log) -> None:
    """The code of a card is kept no longer than it is needed (design §2 rule 10)."""
    try:
        await ledger.forget_card(session_id)
    except LedgerError as error:
        log("card_kept", level="warning", id=error.code, session=session_id, why=str(error))


class LedgerCare:
    """`trouble`: why no new session may begin; what began is ended first."""

    def __init__(self, ledger: AsyncLedger, keep_days: int, clock: Clock, log: Log) -> None:
        self._ledger, self._keep_ms = ledger, keep_days * DAY_MS
        self._clock, self._log = clock, log
        self._looked = ledger.checked
        self.trouble = ""

    async def turn(self, *, quiet: bool, ended: bool) -> None:
        """`quiet`: nothing is under way that ends by itself soon; `ended`: no session is on a connector.
        Raises LedgerDamaged once damage was found and all have ended: the next start sets the file aside."""
        if ended and self.trouble:
            raise LedgerDamaged("LED-003", self.trouble)
        if quiet:
            await self._forget()
        pages = await self._ledger.log_pages()
        if pages >= (LOG_PAGES_QUIET if quiet else LOG_PAGES_BUSY):
            await self._ledger.checkpoint()
        if not self._looked:
            self._looked = True
            await self._look_through()

    async def _forget(self) -> None:
        stamp, gone = self._clock.stamp(), 0
        try:
            for _ in range(BATCHES_A_TURN):
                done = await self._ledger.forget(self._keep_ms, stamp.utc_ms)
                gone += done.sessions
                if done.at is None:
                    break
        except LedgerFull as full:  # deleting needs room in the log, too
            self._log("not_forgotten", level="warning", id=full.code, why=full.text)
        if gone:
            self._log("forgotten", sessions=gone)

    async def _look_through(self) -> None:
        try:
            more = True
            while more:
                more = await self._ledger.scrub()
                await asyncio.sleep(SLICE_PAUSE_S)
        except LedgerDamaged as damage:
            self.trouble = damage.text
            self._log(
                "ledger_damaged",
                level="error",
                id=damage.code,
                why=damage.text,
                effect="no new sessions; it is set aside when the running ones have ended",
            )
