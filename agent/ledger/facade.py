"""The ledger as the event loop sees it: every call runs on one thread of its own.

SQLite's connection is for one thread at a time, and a flush to flash may take 20 ms or, on a worn card,
seconds; the loop must not wait for it. Steps that wait together are committed together with one sync; each
caller resumes only after that sync.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import Executor, ThreadPoolExecutor
from pathlib import Path
from typing import TypeVar

from agent.ledger.ballast import Ballast
from agent.ledger.errors import LedgerError, LedgerOverloaded
from agent.ledger.ledger import Ledger, new_chain_id
from agent.ledger.retention import Forgotten
from agent.ledger.rows import (
    AckResult,
    Append,
    EventRow,
    Head,
    OutboxStatus,
    RecordRow,
    SessionRow,
    UpkeepOrder,
    UpkeepRow,
)

T = TypeVar("T")

# A station has a few connectors with one step in flight each, plus the uplink and a person's queries.
# More than this waiting means the disk hangs; then callers must know, not queue.
MAX_PENDING = 256
# One group commit stays short enough for the three seconds a terminal may wait (design §2 rule 14).
MAX_GROUP = 64


class AsyncLedger:
    """Use from one event loop. A call that was cancelled may still be carried out, as with any thread:
    its caller must treat the outcome as unknown."""

    def __init__(self, ledger: Ledger, executor: Executor, *, owns_executor: bool = False) -> None:
        """`executor` must have exactly one thread, the one `ledger` is used from."""
        self._ledger, self._executor, self._owns = ledger, executor, owns_executor
        self._waiting: deque[tuple[Append, asyncio.Future[None]]] = deque()
        self._committing: asyncio.Future[list[LedgerError | None]] | None = None
        self._calls = 0

    @classmethod
    async def open(
        cls,
        path: Path | str,
        station: str | None,
        *,
        create: bool = True,
        executor: Executor | None = None,
        new_chain: Callable[[], str] | None = None,
        ballast: Ballast | None = None,
    ) -> AsyncLedger:
        """As Ledger.open, on the ledger's thread; one is started when no `executor` is given."""
        thread = executor or ThreadPoolExecutor(max_workers=1, thread_name_prefix="ledger")

        def work() -> Ledger:
            chain = new_chain or new_chain_id
            return Ledger.open(path, station, create=create, new_chain=chain, ballast=ballast)

        try:
            ledger = await asyncio.get_running_loop().run_in_executor(thread, work)
        except BaseException:
            if executor is None:
                thread.shutdown(wait=False)
            raise
        return cls(ledger, thread, owns_executor=executor is None)

    @property
    def path(self) -> Path:
        return self._ledger.path

    @property
    def station(self) -> str:
        return self._ledger.station

    @property
    def pending(self) -> int:
        """Calls that wait for the ledger's thread: what a watchdog looks at."""
        return self._calls

    async def close(self) -> None:
        """Wait for the calls under way, close the file, end the thread if it is ours."""
        while self._committing is not None:
            await asyncio.wait([self._committing])
        loop = asyncio.get_running_loop()
        await loop.run_in_executor(self._executor, self._ledger.close)
        if self._owns:
            self._executor.shutdown(wait=False)

    # --- Appending in groups ----------------------------------------------------------------------

    async def append(
        self,
        event: EventRow,
        *,
        evse: str | None,
        terminal: str,
        open: bool,
        record: RecordRow | None = None,
        card_mac: bytes | None = None,
    ) -> None:
        """As Ledger.append: durable when this returns."""
        self._admit()
        done: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.append((Append(event, evse, terminal, open, record, card_mac), done))
        self._commit_waiting()
        try:
            await done
        finally:
            self._calls -= 1

    def _commit_waiting(self) -> None:
        if self._committing is not None or not self._waiting:
            return
        group = [self._waiting.popleft() for _ in range(min(MAX_GROUP, len(self._waiting)))]
        steps = [step for step, _ in group]
        loop = asyncio.get_running_loop()
        self._committing = loop.run_in_executor(self._executor, self._ledger.append_many, steps)
        waiters = [done for _, done in group]
        self._committing.add_done_callback(lambda result: self._committed(result, waiters))

    def _committed(
        self,
        result: asyncio.Future[list[LedgerError | None]],
        waiters: Sequence[asyncio.Future[None]],
    ) -> None:
        self._committing = None
        if result.cancelled():
            failed: BaseException | None = asyncio.CancelledError()
        else:
            failed = result.exception()
        outcomes: Sequence[BaseException | None]
        outcomes = result.result() if failed is None else [failed] * len(waiters)
        for done, outcome in zip(waiters, outcomes, strict=True):
            if done.cancelled():
                continue
            if outcome is None:
                done.set_result(None)
            elif isinstance(outcome, asyncio.CancelledError):
                done.cancel()
            else:
                done.set_exception(outcome)
        self._commit_waiting()

    # --- Everything else --------------------------------------------------------------------------

    def _admit(self) -> None:
        if self._calls >= MAX_PENDING:
            raise LedgerOverloaded(
                "LED-013",
                f"{self._calls} calls wait for {self.path}; the disk does not keep up",
            )
        self._calls += 1

    async def _call(self, work: Callable[[], T]) -> T:
        self._admit()
        try:
            return await asyncio.get_running_loop().run_in_executor(self._executor, work)
        finally:
            self._calls -= 1

    async def apply_ack(
        self,
        chain: str,
        through_seq: int,
        hash: str,
        holes: Sequence[int] = (),
        refused: Sequence[tuple[int, str]] = (),
        *,
        asked_ms: int = 0,
        now_ms: int | None = None,
    ) -> AckResult:
        return await self._call(
            lambda: self._ledger.apply_ack(
                chain, through_seq, hash, holes, refused, asked_ms=asked_ms, now_ms=now_ms
            )
        )

    async def forget_card(self, session_id: str) -> None:
        await self._call(lambda: self._ledger.forget_card(session_id))

    async def meta_set(self, key: str, value: str) -> None:
        await self._call(lambda: self._ledger.meta_set(key, value))

    async def add_upkeep(self, row: UpkeepRow, order: int | None = None) -> int:
        return await self._call(lambda: self._ledger.add_upkeep(row, order))

    async def upkeep(self, task: str) -> list[UpkeepOrder]:
        return await self._call(lambda: self._ledger.upkeep(task))

    async def checkpoint(self) -> int:
        return await self._call(self._ledger.checkpoint)

    async def forget(self, keep_ms: int, utc_ms: int) -> Forgotten:
        return await self._call(lambda: self._ledger.forget(keep_ms, utc_ms))

    async def log_pages(self) -> int:
        return await self._call(self._ledger.log_pages)

    async def scrub(self) -> bool:
        return await self._call(self._ledger.scrub)

    @property
    def checked(self) -> bool:
        """The whole file was looked through when it was opened."""
        return self._ledger.checked

    @property
    def full(self) -> bool:
        """No new session may begin: the disk has no room for ending it."""
        return self._ledger.full

    async def look_for_room(self) -> bool:
        return await self._call(self._ledger.look_for_room)

    async def events(self, session_id: str) -> list[EventRow]:
        return await self._call(lambda: self._ledger.events(session_id))

    async def sessions(self, *, open_only: bool = False, limit: int = 100) -> list[SessionRow]:
        return await self._call(lambda: self._ledger.sessions(open_only=open_only, limit=limit))

    async def session(self, session_id: str) -> SessionRow | None:
        return await self._call(lambda: self._ledger.session(session_id))

    async def head(self) -> Head:
        return await self._call(self._ledger.head)

    async def records(self, from_seq: int, limit: int, chain: str | None = None) -> list[RecordRow]:
        return await self._call(lambda: self._ledger.records(from_seq, limit, chain))

    async def record_of(self, session_id: str) -> list[RecordRow]:
        return await self._call(lambda: self._ledger.record_of(session_id))

    async def unacked(
        self, limit: int, after_seq: int = 0, chain: str | None = None
    ) -> list[RecordRow]:
        return await self._call(lambda: self._ledger.unacked(limit, after_seq, chain))

    async def outbox_status(self) -> OutboxStatus:
        return await self._call(self._ledger.outbox_status)

    async def card_mac(self, session_id: str) -> bytes | None:
        return await self._call(lambda: self._ledger.card_mac(session_id))

    async def use(self, work: Callable[[Ledger], T]) -> T:
        """Run `work` with the ledger on its thread: for queries that need several reads in one."""
        return await self._call(lambda: work(self._ledger))

    async def meta_get(self, key: str) -> str | None:
        return await self._call(lambda: self._ledger.meta_get(key))
