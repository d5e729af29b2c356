"""What the agent keeps of a session that has ended: the shipped agent on the simulator's four seams, one
process that lives long, one driver after the other, no faults and no kills.

Every object that can be reached from the station counts with its size; the simulators' own (the acquirer's
ledger, the back end's database, the disk) do not. What is found is compared with the resident memory of the
service, which is mostly libraries. (tracemalloc would not do: blocks that CPython keeps in free lists go from
the agent's dictionaries to the simulators' and are told as the agent's.) Nobody simulates 100,000 sessions in
a minute: the slope between the first and the last look is extrapolated."""

from __future__ import annotations

import gc
import math
import os
import sys
import time
import types
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from bench.core_station import Station, memory_kib
from bench.report import Goal, Table
from simulate import shipped
from simulate.life import live_all
from simulate.place import Places, Variant
from simulate.plan import Visit
from simulate.seams import Board, installed
from simulate.world import World

SECONDS, QUICK_SECONDS = 40.0, 1.0
SESSIONS = 100_000
GROWTH_PERCENT = 1.0
LOOKS = 9
ALIKE = 4  # visits after which everything repeats: looks are taken at the same point of a life
# Bounded memories are full by then: the last fifty closed sessions, as many last results.
WARM_SESSIONS, QUICK_WARM_SESSIONS = 80, 4
ROWS = 6
SEED = 5
CODE = (type, types.ModuleType, types.FunctionType, types.BuiltinFunctionType, types.CodeType)
SIMULATORS = ("simulate", "hil", "bench")
# Ends that differ in what they leave behind; the limit and the emergency stop take longer.
ORDERS, ENDS = ("plug_first", "tap_first"), ("unplug", "tap")
CARDS = ("visa", "mastercard", "girocard", "amex")


class _Enough(Exception):
    pass


@dataclass(slots=True)
class Growth:
    """`looks`: after how many sessions the agent had how many bytes."""

    looks: list[tuple[int, int]] = field(default_factory=list)
    first: Counter[str] = field(default_factory=Counter)
    last: Counter[str] = field(default_factory=Counter)

    @property
    def sessions(self) -> int:
        return self.looks[-1][0] - self.looks[0][0]

    @property
    def slope(self) -> float:
        """Bytes a session, by least squares."""
        n = len(self.looks)
        mean_x, mean_y = (sum(look[i] for look in self.looks) / n for i in (0, 1))
        top = sum((x - mean_x) * (y - mean_y) for x, y in self.looks)
        below = sum((x - mean_x) ** 2 for x, _ in self.looks)
        return top / below if below else 0.0

    @property
    def doubt(self) -> float:
        """The slope's standard error, bytes a session."""
        n = len(self.looks)
        mean_x, mean_y = (sum(look[i] for look in self.looks) / n for i in (0, 1))
        below = sum((x - mean_x) ** 2 for x, _ in self.looks)
        off = sum((y - mean_y - self.slope * (x - mean_x)) ** 2 for x, y in self.looks)
        return math.sqrt(off / (n - 2) / below) if n > 2 and below else math.inf


def _visits() -> Sequence[Visit]:
    few = [
        Visit(0, CARDS[n % len(CARDS)], order, end, 22_000, 3.0, 1.0)
        for n, (order, end) in enumerate((o, e) for o in ORDERS for e in ENDS)
    ]
    return tuple(few) * (SESSIONS // len(few))


def reach(root: object) -> Counter[str]:
    """Bytes of all that can be reached from `root`, by type."""
    gc.collect()
    seen, left, found = {id(root)}, [root], Counter[str]()
    while left:
        one = left.pop()
        found[type(one).__qualname__] += sys.getsizeof(one, 0)
        for other in gc.get_referents(one):
            if id(other) not in seen and not _foreign(other):
                seen.add(id(other))
                left.append(other)
    return found


def _foreign(one: object) -> bool:
    """Code, which does not grow, and what belongs to the simulators."""
    room = type(one).__module__.partition(".")[0]
    return isinstance(one, CODE) or room in SIMULATORS


def measure(seconds: float, warm: int) -> Growth:
    found = Growth()
    shipped.import_all()
    places = Places()
    board = Board()
    next_look = ends = 0.0

    def look() -> Counter[str]:
        assert world.process is not None
        return reach(world.process.station)

    def visit_begins(number: int) -> None:
        nonlocal next_look, ends
        now = time.monotonic()
        # What the agent has said is kept by whoever listens, here the world.
        world.logs.clear()
        world.lines.clear()
        if number == warm:
            found.first = look()
            found.looks.append((number, found.first.total()))
            ends, next_look = now + seconds, now + seconds / LOOKS
        elif number > warm and number % ALIKE == 0 and now >= min(next_look, ends):
            found.last = look()
            found.looks.append((number, found.last.total()))
            next_look = now + seconds / LOOKS
            if now >= ends:
                raise _Enough

    try:
        with installed(board):
            world = World(board, places.of(Variant(hold="300.00")), SEED, [])
            try:
                world.visit_begins = visit_begins
                world.start()
                life = world.spawn(live_all(world, tuple(_visits())))
                world.run_until(life.done, float("inf"))
                if not isinstance(life.exception(), _Enough):
                    life.result()
                    raise RuntimeError("the drivers came to an end before the time did")
            finally:
                world.close()
    finally:
        places.close()
    return found


def _lines(found: Growth) -> list[tuple[str, ...]]:
    """Where the difference lies."""
    more = {name: size - found.first[name] for name, size in found.last.items()}
    most = sorted(more.items(), key=lambda row: -abs(row[1]))[:ROWS]
    return [(name, f"{size:+,}") for name, size in most]


def _said(found: Growth) -> str:
    if found.slope > 2 * found.doubt:
        return ""
    return "no growth that differs from none: look for longer (--minutes) for a smaller doubt"


def resident(folder: Path) -> int:
    """Of the service alone, in bytes: what growth is a share of."""
    with Station(folder / "alone", 1, uplink=False, devices=False) as station:
        station.start()
        return 1024 * memory_kib(station.pid)[0]


def run(folder: Path, quick: bool, minutes: float | None) -> tuple[list[Table], list[Goal]]:
    whole = 1024 * memory_kib(os.getpid())[0] if quick else resident(folder)
    seconds = 60 * minutes if minutes else QUICK_SECONDS if quick else SECONDS
    found = measure(seconds, QUICK_WARM_SESSIONS if quick else WARM_SESSIONS)
    begin = found.looks[0][1]
    percent = 100 * found.slope * SESSIONS / whole
    rows = [
        ("sessions looked at", f"{found.sessions:,}"),
        ("the service at its start, resident, MiB", f"{whole / 1024 / 1024:.1f}"),
        ("reached from the station at the first look, KiB", f"{begin / 1024:.0f}"),
        ("at the last, KiB", f"{found.looks[-1][1] / 1024:.0f}"),
        ("bytes a session, slope", f"{found.slope:.1f} ± {found.doubt:.1f}"),
        (f"over {SESSIONS:,} sessions, KiB", f"{found.slope * SESSIONS / 1024:.0f}"),
    ]
    tables = [
        Table("Memory that sessions leave behind", ("", "seen"), rows, _said(found)),
        Table("Where it lies", ("type", "bytes"), _lines(found)),
    ]
    return tables, [Goal(f"memory grown over {SESSIONS:,} sessions", percent, GROWTH_PERCENT, "%")]
