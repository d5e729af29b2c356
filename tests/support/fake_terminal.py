"""A card terminal in memory, on a virtual clock: what it holds and has booked, what a person does at it.

It lives on when the agent dies. Each agent process gets a driver of its own (`driver()`), which implements
agent.ports; a driver of a dead process does nothing any more."""

from __future__ import annotations

import asyncio
import itertools
from collections import defaultdict, deque
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from support.fake_process import Points, Process

from agent.ports import EodHolds, HoldRef, LastResult, Upkeep

if TYPE_CHECKING:
    from support.fake_terminal_money import TerminalDriver


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
        from support.fake_terminal_money import TerminalDriver

        return TerminalDriver(self, process)
