"""A terminal, a meter and a charge controller with a small car, in memory and on a virtual clock.

The devices live on when the agent dies. Each agent process gets drivers of its own (`driver()`), which
implement agent.ports; a driver of a dead process does nothing any more."""

from __future__ import annotations

import asyncio
import itertools
from collections import defaultdict, deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from support.virtual_loop import VirtualLoop

from agent.ports import (
    Card,
    CardKind,
    DeviceUnavailable,
    Done,
    EodHolds,
    Evidence,
    EvseAbilities,
    EvseSnapshot,
    EvseState,
    HoldRef,
    Keep,
    LastResult,
    MeterIdentity,
    NotSent,
    OpenHolds,
    Outcome,
    Reason,
    Refused,
    TerminalIdentity,
    Unknown,
    Upkeep,
    UpkeepReport,
    Verdict,
)
from agent.values import Money, Reading, ReadingState

MS = 1000
WH_MWS = 3_600_000  # milliwatt seconds in a Wh


@dataclass
class Process:
    """The agent's process as the devices see it."""

    alive: bool = True


class Points:
    """Named moments of a dialogue at which a test kills the agent."""

    def __init__(self) -> None:
        self.kill_at: str | None = None
        self.seen: list[str] = []

    async def reach(self, name: str, process: Process) -> None:
        self.seen.append(name)
        if self.kill_at == name:
            self.kill_at = None
            process.alive = False
            loop = asyncio.get_running_loop()
            assert isinstance(loop, VirtualLoop)
            await loop.die(name)


# --- Terminal -------------------------------------------------------------------------------------


@dataclass
class Hold:
    ref: HoldRef
    amount_minor: int
    open: bool = True


@dataclass
class Movement:
    kind: str  # hold, capture, release, auto_reversal, end_of_day
    receipt: int
    amount_minor: int


@dataclass
class FakeTerminal:
    """What a verb does next is taken from `script[verb]`, else it works. Words: "ok", "declined",
    "not_sent", "lost" (not executed), "lost_done" (executed, its evidence never arrives),
    "lost_after" (evidence stored and answered, completion lost), "unknown_hold"."""

    points: Points
    name: str = "t1"
    currency: str = "EUR"
    terminal_id: str = "52523535"
    online: bool = True
    ready: bool = True
    complete_list: bool = True
    approves_minor: int | None = None
    books_less_minor: int = 0
    adds_at_most_minor: int | None = None
    least_amount_minor: int = 0
    eod_due: bool = False
    full: bool = False  # no booking before its day is ended, though its status does not say so
    # What it asks for beside, and what it can be told; a task that is done ends the need.
    wants: list[str] = field(default_factory=list)
    maintains: tuple[Upkeep, ...] = ()
    tasks: list[tuple[Upkeep, dict[str, object]]] = field(default_factory=list)
    eod_open_holds: EodHolds = EodHolds.REFUSES
    tells_totals: bool = True
    repeats_day: bool = True
    decline_text: str = "declined by the issuer"
    authorize_s: float = 3.0
    settle_s: float = 2.0
    pace: float = 1.0  # of everything it takes time for, for tests on the system's own clock
    script: dict[str, deque[str]] = field(default_factory=lambda: defaultdict(deque))
    holds: list[Hold] = field(default_factory=list)
    movements: list[Movement] = field(default_factory=list)
    last: LastResult | None = None
    screens: list[tuple[str, ...]] = field(default_factory=list)
    commands: list[str] = field(default_factory=list)
    on_reader: list[tuple[bytes | None, float]] = field(default_factory=list)
    tapped: asyncio.Event | None = None
    undo: Callable[[], None] | None = None
    _receipts: itertools.count[int] = field(default_factory=lambda: itertools.count(231))

    # what a person does

    def tap(self, card: bytes | None, hold_s: float = 0.0) -> None:
        """Lay `card` on the reader for `hold_s` seconds."""
        self.on_reader.append((card, hold_s))
        if self.tapped is not None:
            self.tapped.set()

    def break_link(self) -> None:
        """The other end died or the cable came off: what was not answered is undone."""
        undo, self.undo = self.undo, None
        if undo is not None:
            undo()

    # for assertions

    def count(self, kind: str) -> int:
        return sum(m.kind == kind for m in self.movements)

    def amounts(self, kind: str) -> list[int]:
        return [m.amount_minor for m in self.movements if m.kind == kind]

    def open_holds(self) -> list[Hold]:
        return [h for h in self.holds if h.open]

    def batch(self) -> list[Movement]:
        """The captures since the last end of day."""
        kinds = [m.kind for m in reversed(self.movements)]
        since = kinds.index("end_of_day") if "end_of_day" in kinds else len(kinds)
        open_ = self.movements[len(kinds) - since :]
        return [m for m in open_ if m.kind == "capture"]

    @property
    def screen(self) -> str:
        return " ".join(self.screens[-1]) if self.screens else ""

    def next_ref(self) -> HoldRef:
        receipt = next(self._receipts)
        aid = f"{receipt:06d}"
        return HoldRef(self.terminal_id, receipt, 12, 700 + receipt, "1121", "120400", aid)

    def take(self, verb: str) -> str:
        self.commands.append(verb)
        return self.script[verb].popleft() if self.script[verb] else "ok"

    def driver(self, process: Process) -> TerminalDriver:
        return TerminalDriver(self, process)


class TerminalDriver:
    def __init__(self, device: FakeTerminal, process: Process) -> None:
        self.d, self._process = device, process
        self._turn = asyncio.Lock()
        self._abort = asyncio.Event()
        self._linked = False

    async def _takes(self, seconds: float) -> None:
        await asyncio.sleep(seconds * self.d.pace)

    def _up(self) -> None:
        if not (self.d.online and self._process.alive):
            self._linked = False
            raise DeviceUnavailable("TRM-006", "no terminal answers")
        if not self._linked:
            raise DeviceUnavailable("TRM-009", "the link to the terminal is down")

    async def connect(self) -> TerminalIdentity:
        await self._takes(0.2)
        if not self.d.online:
            raise DeviceUnavailable("TRM-006", "no terminal answers")
        self._linked = True
        self.d.commands.append("connect")
        return await self.identify()

    async def close(self) -> None:
        if self._process.alive:
            self._linked = False

    async def identify(self) -> TerminalIdentity:
        self._abort.set()
        async with self._turn:
            await self._takes(0.1)
            self._up()
            self.d.commands.append("identify")
            return self._identity()

    def _identity(self) -> TerminalIdentity:
        code, text, needs = "00", "ready", ()
        if self.d.eod_due:
            code, text, needs = "f0", "end of day due", ("end_of_day",)
        if not self.d.ready:
            code, text, needs = "51", "initialisation needed", ("initialisation",)
        if self.d.wants:
            code, text, needs = "c2", "it wants something", tuple(self.d.wants)
        return TerminalIdentity(
            self.d.terminal_id, "serial", "1.0", "fake", not needs, code, text, needs
        )

    async def read_card(self, timeout_s: int) -> Card | None:
        async with self._turn:
            self._up()
            self._abort.clear()
            self.d.tapped = asyncio.Event()
            await self._wait_for_card(timeout_s, self.d.tapped)
            self._up()
            return self._card()

    async def _wait_for_card(self, timeout_s: int, tapped: asyncio.Event) -> None:
        if self.d.on_reader:
            await self._takes(0.5)
            return
        waits = [asyncio.ensure_future(e.wait()) for e in (tapped, self._abort)]
        try:
            await asyncio.wait(waits, timeout=timeout_s, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for wait in waits:
                wait.cancel()

    def _card(self) -> Card | None:
        if not self.d.on_reader:
            return None
        token, hold_s = self.d.on_reader.pop(0)
        if hold_s > 0:
            # It stays and is read again, each read taking half a second.
            self.d.on_reader.insert(0, (token, hold_s - 0.5))
        return Card(CardKind.BANK, token)

    async def show(self, lines: Sequence[str], hold_s: int = 0) -> None:
        self._abort.set()
        async with self._turn:
            await self._takes(0.05)
            self._up()
            self.d.screens.append(tuple(lines))

    async def open_holds(self) -> OpenHolds:
        async with self._turn:
            await self._takes(0.2)
            self._up()
            self.d.commands.append("open_holds")
            here = [h for h in self.d.open_holds() if h.ref.terminal_id == self.d.terminal_id]
            open_ = tuple(h.ref.receipt for h in here)
            return OpenHolds(
                open_ if self.d.complete_list else open_[:1], complete=self.d.complete_list
            )

    async def last_result(self) -> LastResult | None:
        async with self._turn:
            await self._takes(0.2)
            self._up()
            how = self.d.take("last_result")
            if how == "unable":
                raise DeviceUnavailable("TRM-009", "repeat receipt was answered with 0xA0")
            if how == "lost":
                self._linked = False
                raise DeviceUnavailable("TRM-007", "repeat receipt broke")
            return self.d.last

    # money

    async def authorize(self, amount: Money, reference: str, keep: Keep) -> Outcome:
        d = self.d

        def book() -> Evidence:
            approved = d.approves_minor or amount.amount_minor
            hold = Hold(d.next_ref(), approved)
            d.holds.append(hold)
            d.movements.append(Movement("hold", hold.ref.receipt, approved))

            details: dict[str, int | str] = {"card_name": "girocard", "card_last4": "1234"}
            evidence = Evidence(hold.ref, Money(approved, d.currency), details)

            def undo() -> None:
                hold.open = False
                d.last = LastResult(0, evidence)
                d.movements.append(Movement("auto_reversal", hold.ref.receipt, approved))

            d.undo = undo
            return evidence

        if (d.eod_due or d.full) and d.online and self._linked:
            d.commands.append("authorize")
            return Refused(Reason.OPERATOR, "f0", "end of day due", "day_closing")
        return await self._money("authorize", d.authorize_s, book, keep)

    async def capture(self, ref: HoldRef, held: Money, amount: Money, keep: Keep) -> Outcome:
        return await self._end("capture", ref, amount, keep)

    @property
    def increment_reports(self) -> str:
        return "total"

    @property
    def least_amount_minor(self) -> int:
        return self.d.least_amount_minor

    async def increment(self, ref: HoldRef, held: Money, add: Money, keep: Keep) -> Outcome:
        d = self.d
        hold = next((h for h in d.holds if h.open and h.ref.receipt == ref.receipt), None)
        if hold is None and d.online and self._linked:
            d.commands.append("increment")
            return Refused(Reason.UNKNOWN_HOLD, "b4", "receipt not known")

        def book() -> Evidence:
            assert hold is not None
            before, last = hold.amount_minor, d.last
            added = min(add.amount_minor, d.adds_at_most_minor or add.amount_minor)
            hold.amount_minor += added
            d.movements.append(Movement("increment", ref.receipt, added))

            def undo() -> None:
                hold.amount_minor, d.last = before, last
                d.movements.pop()

            d.undo = undo
            return Evidence(d.next_ref(), Money(hold.amount_minor, d.currency), {})

        return await self._money("increment", d.settle_s, book, keep)

    async def release(self, ref: HoldRef, held: Money, keep: Keep) -> Outcome:
        return await self._end("release", ref, Money(0, held.currency), keep)

    async def release_foreign(self, ref: HoldRef, held: Money, keep: Keep) -> Outcome:
        """By its trace number and AID, at the host: the receipt means nothing here."""
        d = self.d
        hold = next((h for h in d.holds if h.open and h.ref.trace == ref.trace), None)

        def book() -> Evidence:
            assert hold is not None
            hold.open = False
            d.movements.append(Movement("release_foreign", hold.ref.receipt, held.amount_minor))
            d.undo = lambda: setattr(hold, "open", True)
            return Evidence(d.next_ref(), Money(0, d.currency), {})

        return await self._money("release_foreign", d.settle_s, book, keep)

    async def _end(self, kind: str, ref: HoldRef, amount: Money, keep: Keep) -> Outcome:
        d = self.d
        hold = next((h for h in d.holds if h.open and h.ref.receipt == ref.receipt), None)
        if hold is None and d.online and self._linked:
            d.commands.append(kind)
            return Refused(Reason.UNKNOWN_HOLD, "b4", "receipt not known")

        def book() -> Evidence:
            assert hold is not None
            before, hold.open = d.last, False
            made = d.next_ref()
            booked = Money(max(0, amount.amount_minor - d.books_less_minor), d.currency)
            d.movements.append(Movement(kind, ref.receipt, booked.amount_minor))

            def undo() -> None:
                hold.open, d.last = True, before
                d.movements.pop()

            d.undo = undo
            return Evidence(made, booked, {"card_name": "girocard"})

        return await self._money(kind, d.settle_s, book, keep)

    @property
    def eod_open_holds(self) -> EodHolds:
        return self.d.eod_open_holds

    async def maintain(self, task: Upkeep, **values: object) -> UpkeepReport:
        async with self._turn:
            await self._takes(0.1)
            self._up()
            if task is not Upkeep.TOTALS:
                self.d.tasks.append((task, values))
            if task in self.d.maintains:
                self.d.wants = self.d.wants[1:]
                return UpkeepReport(task, True)
            if task is not Upkeep.TOTALS or not self.d.tells_totals:
                return UpkeepReport(task, False, "83", "function not possible")
            return UpkeepReport(task, True, facts=_totals(self.d.batch()))

    async def end_of_day(self, keep: Keep) -> Outcome:
        d = self.d

        if d.open_holds() and d.eod_open_holds is EodHolds.REFUSES and self._linked:
            d.commands.append("end_of_day")
            return Refused(Reason.OPERATOR, "b8", "open pre-authorisations")

        def book() -> Evidence:
            _holds_at_day_end(d)
            batch, before = d.batch(), d.last
            total = sum(m.amount_minor for m in batch)
            d.movements.append(Movement("end_of_day", 0, total))
            d.eod_due = d.full = False
            made = HoldRef(d.terminal_id, 0, 12, 900 + len(d.movements))
            evidence = Evidence(made, Money(total, d.currency), _totals(batch))
            # What was closed stays closed, whatever is answered.
            d.last = LastResult(0, evidence) if d.repeats_day else before
            return evidence

        return await self._money("end_of_day", d.settle_s, book, keep)

    async def _money(
        self, verb: str, takes_s: float, book: Callable[[], Evidence], keep: Keep
    ) -> Outcome:
        d = self.d
        self._abort.set()
        async with self._turn:
            if not (d.online and self._linked):
                return NotSent("the link to the terminal is down")
            how = d.take(verb)
            if how == "not_sent":
                return NotSent("the terminal is busy")
            await d.points.reach(f"{verb}:received", self._process)
            await self._takes(takes_s)
            early = {
                "blocked": Refused(Reason.OPERATOR, "c0", "terminal locked"),
                "busy": Refused(Reason.TRY_LATER, "9c", "please wait", "terminal_busy"),
                "declined": Refused(Reason.DECLINED, "05", d.decline_text),
                "unknown_hold": Refused(Reason.UNKNOWN_HOLD, "b4", "receipt not known"),
            }.get(how)
            if early is not None:
                return early
            if how == "lost" or not d.online:
                return self._broken("no answer")
            return await self._evidence(verb, how, book(), keep)

    async def _evidence(self, verb: str, how: str, made: Evidence, keep: Keep) -> Outcome:
        d = self.d
        await d.points.reach(f"{verb}:result_sent", self._process)
        if how == "lost_done":
            if verb != "end_of_day":
                self._stands(made)
            return self._broken("the evidence never arrived")
        verdict = await keep(made)
        await d.points.reach(f"{verb}:stored", self._process)
        if verdict is Verdict.REJECT:
            d.break_link()
            return Unknown("the evidence could not be stored; the terminal was told no")
        if verb != "end_of_day":
            self._stands(made)
        await d.points.reach(f"{verb}:answered", self._process)
        await self._takes(0.3)
        if how == "lost_after":
            return self._broken("the completion never arrived")
        await d.points.reach(f"{verb}:completed", self._process)
        return Done(made)

    def _stands(self, made: Evidence) -> None:
        self.d.undo = None
        self.d.last = LastResult(0, made)

    def _broken(self, why: str) -> Unknown:
        self._linked = False
        return Unknown(why)


def _holds_at_day_end(d: FakeTerminal) -> None:
    """What the worst do to a hold that is left open: charge all of it, or cancel it."""
    ends = {EodHolds.CHARGES_FULL: "capture", EodHolds.CANCELS: "cancelled_by_day"}
    for hold in d.open_holds() if d.eod_open_holds in ends else ():
        hold.open = False
        kind = ends[d.eod_open_holds]
        d.movements.append(Movement(kind, hold.ref.receipt, hold.amount_minor))


def _totals(batch: Sequence[Movement]) -> dict[str, int | str]:
    if not batch:
        return {}
    return {
        "total_girocard_count": len(batch),
        "total_girocard_minor": sum(m.amount_minor for m in batch),
        "receipt_first": batch[0].receipt,
        "receipt_last": batch[-1].receipt,
    }


# --- Car, controller and meter ---------------------------------------------------------------------


@dataclass
class Plant:
    """One connector: contactor, car and the register behind it. `clock_ms` is the true time. Power
    changes at the moments in `_due`; the truth is exact in milliwatt seconds."""

    clock_ms: Callable[[], int]
    load_w: int = 11_000
    react_ms: int = 1_500
    fall_ms: int = 1_000
    begin_wh: int = 104_211
    plugged: bool = False
    released: bool = False
    charged: bool = False
    ended: bool = False
    estop: bool = False
    fault: bool = False
    answers: bool = True
    meter_answers: bool = True
    meter_claims: ReadingState | None = (
        None  # another serial number or model than the one that is expected
    )
    serial: str = "SDM-1"
    failsafe_s: int | None = None
    bus_ms: int = 60
    meter_step_wh: int = 1
    power_w: int = 0
    commands: list[str] = field(default_factory=list)
    most_power_w: int = 0
    _energy_mws: int = 0
    _at_ms: int = 0
    _due: list[tuple[int, int]] = field(default_factory=list)

    def __post_init__(self) -> None:
        self._at_ms = self.clock_ms()

    # physics

    def advance(self) -> None:
        now = self.clock_ms()
        for at, power in list(self._due):
            if at > now:
                break
            self._flow(at)
            self.power_w = power
            self._due.pop(0)
        self._flow(now)
        if self.power_w > 0:
            self.charged = True

    def _flow(self, to_ms: int) -> None:
        self._energy_mws += self.power_w * (to_ms - self._at_ms)  # W times ms
        self._at_ms = to_ms
        self.most_power_w = max(self.most_power_w, self.power_w)

    def rebase(self, by_ms: int) -> None:
        """The boot-time clock was moved."""
        self._at_ms += by_ms
        self._due = [(at + by_ms, power) for at, power in self._due]

    def _later(self, after_ms: int, power_w: int) -> None:
        self.advance()
        self._due = [(self.clock_ms() + after_ms, power_w)]

    @property
    def delivered_wh(self) -> int:
        self.advance()
        return self._energy_mws // WH_MWS

    @property
    def register_wh(self) -> int:
        return self.begin_wh + self.delivered_wh

    # what a person or a car does

    def plug(self) -> None:
        self.advance()
        self.plugged, self.charged, self.ended = True, False, False

    def unplug(self) -> None:
        self._later(0, 0)
        self.advance()
        self.plugged = self.charged = self.ended = False

    def draw(self, power_w: int) -> None:
        """The car changes its mind."""
        self.load_w = power_w
        if self.released and self.plugged:
            self._later(0, power_w)

    def press_estop(self) -> None:
        self.estop = True
        self._later(0, 0)

    # what the controller does

    def release(self) -> None:
        self.commands.append("release")
        if not self.released:
            self.released = True
            if self.plugged and not self.estop:
                self._later(self.react_ms, self.load_w)

    def withdraw(self) -> None:
        self.commands.append("withdraw")
        if self.released:
            self.released, self.ended = False, True
            self._later(self.fall_ms, 0)

    def state(self) -> EvseState:
        self.advance()
        if self.fault:
            return EvseState.FAULT
        if not self.plugged:
            return EvseState.UNPLUGGED
        if self.released:
            if self.power_w > 0:
                return EvseState.CHARGING
            return EvseState.SUSPENDED if self.charged else EvseState.READY
        if self.power_w > 0:
            return EvseState.SUSPENDED
        return EvseState.FINISHED if self.ended else EvseState.PLUGGED


class EvseDriver:
    def __init__(self, plant: Plant, process: Process) -> None:
        self._p, self._process = plant, process
        self._looked = False

    @property
    def abilities(self) -> EvseAbilities:
        return EvseAbilities(self._p.failsafe_s, reports_estop=True)

    async def snapshot(self) -> EvseSnapshot:
        await asyncio.sleep(self._p.bus_ms / MS)
        now = self._p.clock_ms()
        if not self._p.answers:
            return EvseSnapshot(EvseState.UNKNOWN, now, fault_codes=("MTR-002",))
        state, first = self._p.state(), not self._looked
        self._looked = True
        if first and state is EvseState.UNPLUGGED:
            state = EvseState.UNKNOWN  # "no car" is believed when it was seen twice
        return EvseSnapshot(state, now, estop=self._p.estop)

    async def _command(self, do: Callable[[], None]) -> None:
        await asyncio.sleep(self._p.bus_ms / MS)
        if not (self._p.answers and self._process.alive):
            raise DeviceUnavailable("MTR-002", "no answer")
        do()

    async def release(self, limit_ma: int, lease_s: int) -> None:
        await self._command(self._p.release)

    async def withdraw(self) -> None:
        await self._command(self._p.withdraw)

    async def stop(self) -> None:
        await self._command(self._p.withdraw)

    async def unlock(self) -> None:
        raise DeviceUnavailable("EVS-007", "no lock")


class MeterDriver:
    def __init__(self, plant: Plant, process: Process) -> None:
        self._p = plant

    async def identity(self) -> MeterIdentity:
        await asyncio.sleep(self._p.bus_ms / MS)
        if not self._p.meter_answers:
            raise DeviceUnavailable("MTR-002", "no answer")
        return MeterIdentity("fake", self._p.serial)

    async def read(self) -> Reading:
        await asyncio.sleep(self._p.bus_ms / MS)
        now = self._p.clock_ms()
        if not self._p.meter_answers:
            return Reading(ReadingState.NO_ANSWER, now, why="MTR-002: no answer")
        if self._p.meter_claims is not None:
            return Reading(self._p.meter_claims, now, why="MTR-015: it claims to be another one")
        wh = self._p.register_wh // self._p.meter_step_wh * self._p.meter_step_wh
        return Reading(ReadingState.OK, now, wh, self._p.power_w, self._p.serial)
