"""From the completion of a hold to the release command: the bytes of 06 0F at the driver's line until the
charge controller is told to let energy flow.

The terminal is a process at the other end of a pty. Desk work, session, ledger and connector are the shipped
ones; controller and meter answer at once, and the pause between the two readings that must agree is left out:
what a bus takes is not the agent's. The intent to hold, the evidence, the completion and the begin reading
are commits of a real ledger; the last two lie between the two moments that are measured."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median

from agent.ledger import AsyncLedger, EventRow, LedgerError, RecordRow
from agent.ports import EvseAbilities, EvseSnapshot, EvseState, MeterIdentity
from agent.session import E, Effect, S, Session
from agent.settings.load import load_tariff
from agent.station import register
from agent.station.charge_point import ChargePoint, PointRules
from agent.station.clock import SystemClock
from agent.station.context import Context
from agent.station.keeper import Keeper
from agent.station.notify import Progress
from agent.station.station import WAKES_CONNECTOR
from agent.station.tariffs import Tariffs
from agent.station.till import Till
from agent.tariff import Tariff
from agent.trust.chain import seal
from agent.trust.keys import RecordKey
from agent.values import Reading, ReadingState
from bench.core_commits import RECORD_BODY, STATION, stamp
from bench.core_station import TARIFF
from bench.report import SPREAD, Goal, Table, quantile, spread
from bench.zvt_rig import rig
from bench.zvt_turnaround import BareCommit
from drivers import line

EVSE, TERMINAL = "DE*ABC*E1", "t1"
TURNS, QUICK_TURNS = 20, 2
# In each turn so many holds while nothing else happens, and as many while another session is busy.
HOLDS, QUICK_HOLDS = 20, 2
ABOVE_MS, BUSY_TIMES = 1.0, 3.0
WAIT_S = 10.0
COMPLETION = bytes.fromhex("10 02 06 0f")  # DLE STX, control field of the completion


@dataclass(slots=True)
class Moments:
    """Of the hold that is under way, as time.perf_counter has it."""

    completion: float = 0.0
    at: dict[S, float] = field(default_factory=dict)
    released: asyncio.Event = field(default_factory=asyncio.Event)
    release: float = 0.0


@dataclass(slots=True)
class Samples:
    """Milliseconds from the completion."""

    held: list[float] = field(default_factory=list)
    begun: list[float] = field(default_factory=list)
    release: list[float] = field(default_factory=list)


class InstantEvse:
    """A controller with a car; its answers need no time."""

    abilities = EvseAbilities(failsafe_s=30)

    def __init__(self, moments: Moments, clock: SystemClock) -> None:
        self._moments, self._clock = moments, clock

    async def snapshot(self) -> EvseSnapshot:
        return EvseSnapshot(EvseState.PLUGGED, self._clock.boot_ms())

    async def release(self, limit_ma: int, lease_s: int) -> None:
        if not self._moments.released.is_set():
            self._moments.release = time.perf_counter()
            self._moments.released.set()

    async def withdraw(self) -> None: ...

    async def stop(self) -> None: ...

    async def unlock(self) -> None: ...


class InstantMeter:
    def __init__(self, clock: SystemClock) -> None:
        self._clock = clock

    async def identity(self) -> MeterIdentity:
        return MeterIdentity("bench", "1")

    async def read(self) -> Reading:
        return Reading(ReadingState.OK, self._clock.boot_ms(), 104_211, 0, "1")


class Bench:
    """A connector, a desk's till and what they share."""

    def __init__(self, ledger: AsyncLedger, tariff: Tariff) -> None:
        clock = SystemClock()
        self.moments = Moments()
        self.keeper = Keeper(ledger, clock, _silent)
        progress = Progress(clock.boot_ms)
        self.context = Context(clock, self.keeper, progress, Tariffs(tariff), _silent)
        rules = PointRules(22_000, 32_000, 60_000, 300_000)
        self.point = ChargePoint(
            EVSE, InstantEvse(self.moments, clock), InstantMeter(clock), rules, self.context
        )
        self.keeper.perform = self._perform
        self.keeper.watch(self._changed)
        self._tasks: set[asyncio.Task[None]] = set()
        self._count = 0

    def _perform(self, session: Session, effect: Effect) -> None:
        """As the station does; the desk's work is done by the bench itself."""
        if effect is Effect.METER_BEGIN:
            task = asyncio.create_task(self.point.meter_begin(session.id))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    def _changed(self, session: Session) -> None:
        self.moments.at[session.state] = time.perf_counter()
        if session.state in WAKES_CONNECTOR:
            self.point.wake.set()

    async def hold(self, till: Till, into: Samples) -> None:
        self._count += 1
        name, moments = f"BENCH{self._count:05}", self.moments
        moments.released.clear()
        moments.at.clear()
        data = {
            "evse": EVSE,
            "plugged": True,
            "terminal": TERMINAL,
            "amount_minor": 5000,
            "currency": "EUR",
            "tariff_id": self.context.tariff.id,
            "language": "en",
        }
        await self.keeper.tell(name, E.TAPPED, data)
        await till.do(self.keeper.sessions[name], Effect.AUTHORIZE)
        async with asyncio.timeout(WAIT_S):
            await moments.released.wait()
        for values, when in (
            (into.held, moments.at[S.BEGINNING]),
            (into.begun, moments.at[S.STARTING]),
            (into.release, moments.release),
        ):
            values.append(1e3 * (when - moments.completion))
        # Only its beginning is of interest: the connector is free for the next.
        del self.keeper.sessions[name]


def _silent(*_words: object, **_values: object) -> None:
    """A log that nobody reads."""


@contextlib.contextmanager
def _noted(moments: Moments) -> Iterator[None]:
    """When a completion arrives at the driver's line; and no pause between two readings."""
    arrived, pause = line._Inbox.arrived, register.CONFIRM_PAUSE_S

    def noting(self: line._Inbox, data: bytes) -> None:
        if COMPLETION in data:
            moments.completion = time.perf_counter()
        arrived(self, data)

    setattr(line._Inbox, "arrived", noting)  # noqa: B010  # mypy takes no assignment to a method
    setattr(register, "CONFIRM_PAUSE_S", 0)  # noqa: B010  # Final for everybody else
    try:
        yield
    finally:
        setattr(line._Inbox, "arrived", arrived)  # noqa: B010
        setattr(register, "CONFIRM_PAUSE_S", pause)  # noqa: B010


class Another:
    """Another session: signs and commits as fast as it can."""

    def __init__(self, ledger: AsyncLedger) -> None:
        self._ledger, self._key, self._count = ledger, RecordKey.generate(), 0

    async def run(self) -> None:
        while True:
            self._count += 1
            at, head = stamp(self._count), await self._ledger.head()
            sealed = await asyncio.to_thread(
                seal,
                self._key,
                chain=head.chain,
                seq=head.seq + 1,
                prev=head.hash,
                type="session",
                station=STATION,
                stamp=at,
                body=RECORD_BODY | {"session_id": "OTHER"},
            )
            event = EventRow("OTHER", self._count, "progress", {}, "charging", 1, at)
            record = RecordRow.of(sealed, "OTHER")
            # What was written last in an earlier turn may have been carried out all the same.
            with contextlib.suppress(LedgerError):
                await self._ledger.append(
                    event, evse="DE*ABC*E2", terminal="t2", open=True, record=record
                )


async def measure(folder: Path, turns: int, holds: int) -> tuple[Samples, Samples, list[float]]:
    """While nothing else happens, while another session is busy; and bare commits in between."""
    idle, busy, bare = Samples(), Samples(), []
    ledger = await AsyncLedger.open(folder / "ledger.db", STATION)
    bench = Bench(ledger, load_tariff(TARIFF))
    commit = BareCommit(folder / "bare.db")
    commit.run()
    another = Another(ledger)
    with _noted(bench.moments):
        async with rig() as found:
            till = Till(TERMINAL, found.terminal, bench.context)
            loop = asyncio.create_task(bench.point.run())
            await bench.hold(till, Samples())  # the first writes what only the first does
            for _ in range(turns):
                for _ in range(holds):
                    await bench.hold(till, idle)
                    began = time.perf_counter()
                    commit.run()
                    bare.append(1e3 * (time.perf_counter() - began))
                other = asyncio.create_task(another.run())
                for _ in range(holds):
                    await bench.hold(till, busy)
                other.cancel()
                await asyncio.gather(other, return_exceptions=True)
                await ledger.checkpoint()
            loop.cancel()
            await asyncio.gather(loop, return_exceptions=True)
    commit.close()
    await ledger.close()
    return idle, busy, bare


def run(folder: Path, quick: bool) -> tuple[list[Table], list[Goal]]:
    turns, holds = (QUICK_TURNS, QUICK_HOLDS) if quick else (TURNS, HOLDS)
    idle, busy, bare = asyncio.run(measure(folder, turns, holds))
    rows = [
        spread("completion to the hold durable", idle.held),
        spread("completion to the begin reading durable", idle.begun),
        spread("completion to the release command", idle.release),
        spread("  while another session signs and commits", busy.release),
        spread("bare SQLite commit, FULL", bare),
    ]
    above = median(idle.release) - median(bare)
    times = quantile(busy.release, 0.99) / quantile(idle.release, 0.99)
    table = Table("From the completed hold to the release command", SPREAD, rows)
    return [table], [
        Goal("release command above a bare commit, median", above, ABOVE_MS, "ms"),
        Goal("p99 while another session commits", times, BUSY_TIMES, "x idle p99"),
    ]
