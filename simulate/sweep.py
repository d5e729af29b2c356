"""The kill sweep: each named scenario is run once undisturbed, then once for each of its steps with a death
right before that step, and once with a death after the last. The judge is that of the simulator."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

from simulate.episode import Episode, Result
from simulate.fate import STEPS, Fate, Kill
from simulate.oracle import Told
from simulate.place import Places
from simulate.scenarios import Scenario
from simulate.seams import Board

# How an agent dies, and the chance that a piece of the disk which was not synced outlives that. A killed
# process leaves all it wrote to the next one.
MODES: dict[str, tuple[float, ...]] = {"kill": (), "power": (0.0,), "torn": (0.2, 0.5, 0.8)}
# Polls: many, and most of them alike. Swept when asked for.
POLLS = ("bus_send", "bus_receive")
AWAY_S = 3.0


class NoSuchPoint(ValueError):
    """The text is not a point of a sweep, or the scenario has no such step."""


@dataclass(frozen=True, slots=True)
class Point:
    """Die before the `nth` step of kind `step`; one more than the scenario has is after the last. `again`:
    the process that comes next dies, too, before the write of its own with this number; 0: it may live."""

    step: str
    nth: int
    mode: str
    again: int = 0

    def __str__(self) -> str:
        return f"{self.step}:{self.nth}:{self.mode}" + (f":{self.again}" if self.again else "")

    @classmethod
    def parse(cls, text: str) -> Point:
        """As it is printed, e.g. `write:17:power`. Raises NoSuchPoint."""
        step, *rest = text.split(":")
        numbers = [word for n, word in enumerate(rest) if n != 1]
        good = step in STEPS and 2 <= len(rest) <= 3 and rest[1] in MODES
        if not good or not all(word.isascii() and word.isdigit() for word in numbers):
            raise NoSuchPoint(
                f"{text!r} is no point; expected STEP:NUMBER:MODE, e.g. write:17:power; "
                f"steps: {', '.join(STEPS)}; modes: {', '.join(MODES)}"
            )
        return cls(step, int(rest[0]), rest[1], int(rest[2]) if len(rest) == 3 else 0)


class Counting(Fate):
    """No death. `at_ready`: what had been counted when the agent first said that it was ready."""

    def __init__(self, states: Callable[[], set[str]], ready: Callable[[], bool]) -> None:
        super().__init__([], states)
        self._ready = ready
        self.at_ready: Counter[str] | None = None

    def meets(self, step: str) -> Kill | None:
        if self.at_ready is None and self._ready():
            self.at_ready = Counter(self.steps)
        return super().meets(step)


class Doom(Fate):
    """Death at one point, whatever the sessions are in. Counts from the world's beginning, then from that of
    the process which comes after the first death. `total`: how many such steps the scenario has."""

    def __init__(self, point: Point, total: int, states: Callable[[], set[str]]) -> None:
        super().__init__([], states)
        self._point, self._total = point, total
        self._writes = 0
        self.deaths = 0
        self.over = False

    def meets(self, step: str) -> Kill | None:
        was = self.steps[self._point.step]
        self.steps[step] += 1
        if self.over or not self._due(step, was):
            return None
        self.deaths += 1
        for state in sorted(self.states()) or ["none"]:
            self.killed[state, step] += 1
        return Kill(0, "", step, 1, self._point.mode != "kill", AWAY_S)

    def _due(self, step: str, was: int) -> bool:
        point = self._point
        if self.deaths == 0:
            if point.nth > self._total:
                return was >= self._total
            return step == point.step and was + 1 == point.nth
        if self.deaths > 1 or not point.again or step != "write":
            return False
        self._writes += 1
        return self._writes == point.again


class Watched(Episode):
    """An episode of which the sweep sees what was told at its end, and how many steps led there."""

    told: Told | None = None
    steps: Counter[str] | None = None

    def _ask_all(self) -> Told | None:
        fate = self.world.fate
        self.steps = Counter(fate.steps)
        if isinstance(fate, Doom):
            fate.over = True  # the scenario has ended; who asks now is the judge
        self.told = super()._ask_all()
        return self.told


@dataclass(frozen=True, slots=True)
class Undisturbed:
    """`steps`: of each kind; `at_ready`: those before the agent said that it was ready. `differs`: from what
    the scenario must come to, empty when it does."""

    scenario: str
    steps: Counter[str]
    at_ready: Counter[str]
    differs: str
    result: Result


@dataclass(slots=True)
class Swept:
    """What came of some points of one scenario. `deaths`: by kind of step; `found`: (point, code, text).
    `unmet`: deaths that did not come: the recovery wrote less than that, or the world ended with the step
    after which it was due."""

    scenario: str
    worlds: int = 0
    deaths: Counter[str] = field(default_factory=Counter)
    bad: Counter[str] = field(default_factory=Counter)
    found: list[tuple[Point, str, str]] = field(default_factory=list)
    classes: Counter[str] = field(default_factory=Counter)
    killed: Counter[tuple[str, str]] = field(default_factory=Counter)
    sessions: int = 0
    starts: int = 0
    unmet: int = 0
    cpu_s: float = 0.0

    def take(self, point: Point, result: Result, deaths: int) -> None:
        self.worlds += 1
        self.deaths[point.step] += deaths
        self.sessions += result.verdict.sessions
        self.starts += result.starts
        self.classes += result.verdict.classes
        self.killed += result.killed
        self.unmet += 1 + bool(point.again) - deaths
        self.bad[point.step] += bool(result.verdict.violations)
        self.found += [(point, code, text) for code, text in result.verdict.violations]

    def join(self, other: Swept) -> None:
        for name in ("worlds", "sessions", "starts", "unmet", "cpu_s"):
            setattr(self, name, getattr(self, name) + getattr(other, name))
        for name in ("deaths", "bad", "classes", "killed"):
            getattr(self, name).update(getattr(other, name))
        self.found += other.found


class Sweep:
    """Runs scenarios on one board whose seams are installed."""

    def __init__(self, board: Board, places: Places) -> None:
        self._board, self._places = board, places

    def undisturbed(self, scenario: Scenario, verbose: bool = False) -> Undisturbed:
        episode = Watched(self._board, self._places, scenario.plan, verbose)
        world = episode.world
        world.fate = counting = Counting(world.states, lambda: world.ready)
        result = episode.run()
        if episode.told is None or episode.steps is None:
            differs = "the agent told nothing"
        elif violations := result.verdict.violations:
            differs = f"{violations[0][0]}: {violations[0][1]}"
        else:
            differs = scenario.differs(episode.told.sessions, result.verdict.classes)
        steps = episode.steps or counting.steps
        return Undisturbed(scenario.name, steps, counting.at_ready or Counter(), differs, result)

    def run(
        self, scenario: Scenario, point: Point, total: int, verbose: bool = False
    ) -> tuple[Result, int]:
        """The result, and how many deaths there were. `total`: steps of the point's kind, undisturbed."""
        if not 1 <= point.nth <= total + 1:
            raise NoSuchPoint(f"{scenario.name} has {total} steps {point.step}, not {point.nth}")
        episode = Watched(self._board, self._places, scenario.plan, verbose)
        world = episode.world
        world.fate = doom = Doom(point, total, world.states)
        world.cut_keeps = MODES[point.mode]
        world.rng = random.Random(f"{scenario.name} {point}")
        result = episode.run()
        if not doom.deaths and point.nth <= total:
            result.verdict.violations.append(("not_met", f"{point}: nobody died there"))
        return result, doom.deaths


def points(
    steps: Counter[str], kind: str, modes: tuple[str, ...], again: int = 0, first: int = 1
) -> Iterator[Point]:
    """All of one kind from the `first` on. After the last poll comes nothing but the end of the world."""
    last = steps[kind] + (kind not in POLLS)
    for nth in range(first, last + 1):
        for mode in modes:
            if not again:
                yield Point(kind, nth, mode)
            for m in range(1, again + 1):
                yield Point(kind, nth, mode, m)
