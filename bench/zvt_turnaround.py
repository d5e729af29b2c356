"""From the last byte of a terminal's message to the first of our answer, with and without the disk."""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median

import apsw

from agent.ledger import AsyncLedger, EventRow
from agent.ports import Evidence, HoldRef, Verdict
from agent.values import Quality, Stamp
from bench.report import SPREAD, Goal, Table, quantile, spread
from bench.zvt_rig import AMOUNT, at_once, rig

HOLDS, QUICK_HOLDS = 400, 5
RESULT = "040f"
GOAL_MS = 1.0
ABOVE_SYNC_GOAL_MS = 1.0
ROOM_BYTES = 4 * 1024 * 1024  # of a log that has grown to its full size
WARM_UP = 5
BUSY_RATIO = 3
# Commits that make the ledger's log longer than all that are measured, 64 at a time as it groups them.
GROUPS, GROUP = 30, 64
EVIDENCE = Evidence(
    HoldRef("52523535", 231, trace=975, turnover=1, date="0405", time="225558"),
    AMOUNT,
    {"card_name": "MasterCard", "vu": "804011926", "aid": "750071", "payment_type": "60"},
)


@dataclass(slots=True)
class Samples:
    """Milliseconds. `bare_*` are the yardsticks, taken between the holds they are compared with."""

    ack: list[float] = field(default_factory=list)
    plain: list[float] = field(default_factory=list)
    other: list[float] = field(default_factory=list)
    durable: list[float] = field(default_factory=list)
    ledger: list[float] = field(default_factory=list)
    bare_write: list[float] = field(default_factory=list)
    bare_commit: list[float] = field(default_factory=list)


class Evidences:
    """The station's way to keep evidence: an event of its session, committed by the ledger's thread."""

    def __init__(self, ledger: AsyncLedger) -> None:
        self._ledger = ledger
        self._count = 0
        self.took_ms: list[float] = []

    async def keep(self, evidence: Evidence) -> Verdict:
        self._count += 1
        ref, amount = evidence.ref, evidence.amount
        event = EventRow(
            f"bench-{self._count}",
            1,
            "approved",
            {
                "terminal_id": ref.terminal_id,
                "receipt": ref.receipt,
                "trace": ref.trace,
                "turnover": ref.turnover,
                "amount_minor": None if amount is None else amount.amount_minor,
                "details": dict(evidence.details),
            },
            "approved",
            1,
            Stamp(1_790_000_000_000 + self._count, self._count, "bench", Quality.TRUSTED),
        )
        started = time.perf_counter()
        await self._ledger.append(event, evse="E1", terminal="bench", open=False)
        self.took_ms.append((time.perf_counter() - started) * 1e3)
        return Verdict.STORED


class BareWrite:
    """So many bytes written where the file has room already, as SQLite's log has, and fdatasync."""

    def __init__(self, path: Path, size: int) -> None:
        self._fd = os.open(path, os.O_WRONLY | os.O_CREAT, 0o600)
        self._data, self._at = os.urandom(size), 0
        os.write(self._fd, bytes(ROOM_BYTES))
        os.fsync(self._fd)

    def run(self) -> None:
        if self._at + len(self._data) > ROOM_BYTES:
            self._at = 0
        os.pwrite(self._fd, self._data, self._at)
        self._at += len(self._data)
        os.fdatasync(self._fd)

    def close(self) -> None:
        os.close(self._fd)


class BareCommit:
    """One row into one table: SQLite with a log and synchronous=FULL, nothing of ours. The log has its room
    already, as that of the ledger."""

    def __init__(self, path: Path) -> None:
        self._db = apsw.Connection(str(path))
        self._db.pragma("journal_mode", "wal")
        self._db.pragma("synchronous", "full")
        self._db.execute("create table event (data blob)")
        self._db.execute("insert into event values (zeroblob(?))", (ROOM_BYTES,))
        self._db.pragma("wal_checkpoint")
        self._data = os.urandom(400)

    def run(self) -> None:
        self._db.execute("insert into event values (?)", (self._data,))

    def close(self) -> None:
        self._db.close()


def _timed(work: Callable[[], None]) -> float:
    started = time.perf_counter()
    work()
    return (time.perf_counter() - started) * 1e3


async def _make_room(evidences: Evidences, ledger: AsyncLedger) -> None:
    """A ledger of some age: its log has grown and is written from its beginning again."""
    for _ in range(GROUPS):
        await asyncio.gather(*(evidences.keep(EVIDENCE) for _ in range(GROUP)))
    await ledger.checkpoint()


async def _bytes_of_a_commit(evidences: Evidences) -> int:
    """How much the ledger writes for one piece of evidence; the first commits write more."""
    sizes = []
    for _ in range(WARM_UP):
        before = _written_bytes()
        await evidences.keep(EVIDENCE)
        sizes.append(_written_bytes() - before)
    return min(sizes)


def _written_bytes() -> int:
    """What this process has given to write(2) so far."""
    for line in Path("/proc/self/io").read_text().splitlines():
        name, _, value = line.partition(": ")
        if name == "wchar":
            return int(value)
    raise OSError("/proc/self/io does not tell wchar")


async def measure(folder: Path, quick: bool) -> tuple[Samples, int]:
    """The samples, and the bytes of one commit. Bare writes and commits alternate with the holds: a disk
    has its moods."""
    found = Samples()
    order: list[list[float]] = []
    ledger = await AsyncLedger.open(folder / "ledger.db", "DE*ABC*S1")
    evidences = Evidences(ledger)
    async with rig() as bench:
        await _make_room(evidences, ledger)
        size = await _bytes_of_a_commit(evidences)
        write, commit = BareWrite(folder / "bare", size), BareCommit(folder / "bare.db")
        commit.run()
        for _ in range(QUICK_HOLDS if quick else HOLDS):
            await bench.hold(at_once)
            found.bare_write.append(_timed(write.run))
            await bench.hold(evidences.keep)
            found.bare_commit.append(_timed(commit.run))
            order += [found.plain, found.durable]
        write.close()
        commit.close()
    await ledger.close()
    turnarounds = bench.times.turnarounds
    results = [answer for kind, _, answer in turnarounds if kind == RESULT]
    for place, answer in zip(order, results[-len(order) :], strict=True):
        place.append(answer)
    found.ack = [ack for _, ack, _ in turnarounds]
    found.other = [answer for kind, _, answer in turnarounds if kind != RESULT]
    found.ledger = evidences.took_ms[-len(found.durable) :]
    return found, size


def run(folder: Path, quick: bool) -> tuple[Table, list[Goal]]:
    found, size = asyncio.run(measure(folder, quick))
    rows = [
        spread("byte ACK, any message", found.ack),
        spread("answer to 06 0F", found.other),
        spread("answer to 04 0F, kept at once", found.plain),
        spread("answer to 04 0F, in the ledger first", found.durable),
        spread("  of it the ledger's commit", found.ledger),
        spread(f"bare write and fdatasync, {size} bytes", found.bare_write),
        spread("bare SQLite commit, FULL", found.bare_commit),
    ]
    durable = median(found.durable)
    goals = [
        Goal("turnaround, median", median(found.plain), GOAL_MS, "ms"),
        Goal(
            "durable turnaround above write and sync",
            durable - median(found.bare_write),
            ABOVE_SYNC_GOAL_MS,
            "ms",
        ),
        Goal(
            "durable turnaround above a bare commit",
            durable - median(found.bare_commit),
            ABOVE_SYNC_GOAL_MS,
            "ms",
        ),
    ]
    title = "Turnaround over a pty, from the message's last byte"
    return Table(title, SPREAD, rows, _trouble(found.bare_write)), goals


def _trouble(bare_ms: list[float]) -> str:
    """Each wait for the disk or a processor is one more chance to wait for somebody else, and the way
    through the ledger has three of them: on a busy machine the difference is not the driver's."""
    usual = median(bare_ms) / quantile(bare_ms, 0.05)
    if usual < BUSY_RATIO:
        return ""
    return (
        f"BUSY: the median of the bare write is {usual:.0f} times its best; measure again in peace."
    )
