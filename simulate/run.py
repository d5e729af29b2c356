"""Many seeds, on several cores: what was covered, what was found, and the verdict."""

from __future__ import annotations

import gc
import multiprocessing
import os
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

from simulate import shipped
from simulate.episode import Episode, Result
from simulate.kills import ALL_PAIRS, ALL_STATES
from simulate.make import Menu, make_plan
from simulate.place import Places
from simulate.plan import Plan
from simulate.seams import Board, installed

# Seeds handed to a worker at once; results come back as often.
BATCH = 8
FOUND_KEPT = 50
# Collected by hand, between worlds: what a world leaves behind is full of cycles.
COLLECT_EVERY = 20
NUMBERS = ("seeds", "sessions", "starts", "power_cuts", "virtual_s", "cpu_s")
COUNTERS = ("classes", "steps", "faults", "codes")


@dataclass(slots=True)
class Found:
    seed: int
    code: str
    text: str


@dataclass(slots=True)
class Totals:
    seeds: int = 0
    sessions: int = 0
    starts: int = 0
    power_cuts: int = 0
    virtual_s: float = 0.0
    cpu_s: float = 0.0
    classes: Counter[str] = field(default_factory=Counter)
    steps: Counter[str] = field(default_factory=Counter)
    killed: Counter[tuple[str, str]] = field(default_factory=Counter)
    faults: Counter[str] = field(default_factory=Counter)
    codes: Counter[str] = field(default_factory=Counter)
    found: list[Found] = field(default_factory=list)

    def take(self, result: Result) -> None:
        self.seeds += 1
        self.sessions += result.verdict.sessions
        self.starts += result.starts
        self.power_cuts += result.power_cuts
        self.virtual_s += result.virtual_s
        self.cpu_s += result.cpu_s
        self.classes += result.verdict.classes
        self.steps += result.steps
        self.killed += result.killed
        self.faults += result.faults
        for code, text in result.verdict.violations:
            self.codes[code] += 1
            if len(self.found) < FOUND_KEPT:
                self.found.append(Found(result.seed, code, text))

    def to_json(self) -> dict[str, Any]:
        counters = {name: dict(getattr(self, name)) for name in COUNTERS}
        counters["killed"] = {f"{state} {step}": n for (state, step), n in self.killed.items()}
        numbers = {name: getattr(self, name) for name in NUMBERS}
        found = [{"seed": f.seed, "code": f.code, "text": f.text} for f in self.found]
        return {**numbers, **counters, "found": found}

    def join(self, other: Totals) -> None:
        for name in NUMBERS:
            setattr(self, name, getattr(self, name) + getattr(other, name))
        for name in (*COUNTERS, "killed"):
            getattr(self, name).update(getattr(other, name))
        self.found += other.found[: FOUND_KEPT - len(self.found)]


class Runner:
    """Seams, places and garbage collection of one operating-system process."""

    def __init__(self, menu: Menu) -> None:
        shipped.import_all()
        self.menu = menu
        self.board, self.places = Board(), Places()
        self._seams = installed(self.board)
        self._seams.__enter__()
        self._ran = 0
        gc.disable()

    def run(self, plan: Plan, verbose: bool = False) -> Result:
        began = time.process_time()
        result = Episode(self.board, self.places, plan, verbose).run()
        self._ran += 1
        if self._ran % COLLECT_EVERY == 0:
            gc.collect()
        result.cpu_s = time.process_time() - began
        return result

    def run_seed(self, seed: int) -> Result:
        return self.run(make_plan(seed, self.menu))

    def close(self) -> None:
        gc.enable()
        self._seams.__exit__(None, None, None)
        self.places.close()


_RUNNERS: list[Runner] = []


def _batch(work: tuple[Menu, list[int]]) -> Totals:
    """In a worker, which lives as long as the pool."""
    menu, seeds = work
    if not _RUNNERS:
        _RUNNERS.append(Runner(menu))
        # Leaves before multiprocessing takes the interpreter down; SQLite's Python VFS must be gone by then.
        multiprocessing.util.Finalize(None, _RUNNERS[0].close, exitpriority=10)
    totals = Totals()
    for seed in seeds:
        totals.take(_RUNNERS[0].run_seed(seed))
    return totals


def run_many(
    first: int, sessions: int, jobs: int, menu: Menu, tell: Callable[[Totals], None], stop_at: int = 0
) -> Totals:  # fmt: skip
    """Seeds from `first` on until `sessions` were simulated. `stop_at`: enough violations. `tell` is called
    now and then with what there is so far."""
    totals = Totals()

    def batches() -> Iterator[tuple[Menu, list[int]]]:
        seed = first
        while totals.sessions < sessions and not (
            stop_at and sum(totals.codes.values()) >= stop_at
        ):
            yield menu, list(range(seed, seed + BATCH))
            seed += BATCH

    if jobs == 1:
        runner = Runner(menu)
        try:
            for _, seeds in batches():
                for seed in seeds:
                    totals.take(runner.run_seed(seed))
                    tell(totals)
        finally:
            runner.close()
        return totals
    with multiprocessing.get_context("spawn").Pool(jobs) as pool:
        waiting = []
        for work in batches():
            waiting.append(pool.apply_async(_batch, (work,)))
            if len(waiting) >= 2 * jobs:
                totals.join(waiting.pop(0).get())
                tell(totals)
        for result in waiting:
            totals.join(result.get())
        pool.close()
        pool.join()
    return totals


# --- The report -----------------------------------------------------------------------------------


class Progress:
    """One line that is written over on a terminal, and now and then a line elsewhere."""

    EVERY_S = 0.5
    EVERY_ELSEWHERE_S = 30.0

    def __init__(self, sessions: int) -> None:
        self._sessions, self._began = sessions, time.monotonic()
        self._line = sys.stderr.isatty()
        self._next = self._began
        self._found = 0

    def tell(self, totals: Totals) -> None:
        begin = "\r\033[K" if self._line else ""
        for found in totals.found[self._found :]:
            sys.stderr.write(f"{begin}seed {found.seed}: {found.code}\n")
        self._found = len(totals.found)
        now = time.monotonic()
        if now < self._next:
            return
        self._next = now + (self.EVERY_S if self._line else self.EVERY_ELSEWHERE_S)
        done = min(1.0, totals.sessions / self._sessions)
        bar = "#" * round(30 * done)
        rate = totals.sessions / max(0.001, now - self._began)
        text = (
            f"[{bar:<30}] {totals.sessions} of {self._sessions} sessions, {rate:.1f}/s, "
            f"{sum(totals.codes.values())} violations"
        )
        sys.stderr.write(f"\r{text}\033[K" if self._line else f"{text}\n")
        sys.stderr.flush()

    @property
    def seconds(self) -> float:
        return time.monotonic() - self._began

    def end(self) -> None:
        if self._line:
            sys.stderr.write("\r\033[K")


def report(totals: Totals, first: int, seconds: float) -> list[str]:
    """The last line is the verdict with its counts."""
    covered = [pair for pair in ALL_PAIRS if totals.killed[pair]]
    missing: dict[str, list[str]] = {}
    for state, step in ALL_PAIRS:
        if not totals.killed[state, step]:
            missing.setdefault(step, []).append(state)
    hours = totals.virtual_s / 3600
    rate = totals.sessions / max(seconds, 0.001)
    per_core = totals.sessions / max(totals.cpu_s, 0.001)
    lines = [
        f"seeds {first} to {first + totals.seeds - 1}: {totals.sessions} sessions "
        f"in {hours:.1f} simulated hours",
        f"{totals.starts} starts of the agent, {sum(totals.killed.values())} kills in a state, "
        f"{totals.power_cuts} power cuts; {per_core:.1f} sessions a second of one core's time",
        "",
        "How sessions ended, and what differs by a named class:",
        *(f"  {count:8} {name}" for name, count in totals.classes.most_common()),
        "",
        "Faults:",
        *(f"  {count:8} {name}" for name, count in sorted(totals.faults.items())),
        "",
        f"Kills by state and step: {len(covered)} of {len(ALL_PAIRS)} pairs "
        f"({len(ALL_STATES)} states, {len(ALL_PAIRS) // len(ALL_STATES)} steps)",
        *table(totals.killed),
        *(f"  not met: {step} in {', '.join(states)}" for step, states in missing.items()),
        "",
    ]
    if totals.found:
        lines.append("Violations:")
        lines += [f"  seed {f.seed}: {f.code}: {f.text}" for f in totals.found]
        lines += ["", f"replay one: ./dev simulate --seed {totals.found[0].seed} --trace", ""]
    verdict = "no violation" if not totals.codes else f"{sum(totals.codes.values())} VIOLATIONS"
    lines.append(
        f"{verdict} in {totals.sessions} sessions ({totals.seeds} seeds from {first}, {rate:.1f} sessions/s, "
        f"coverage {len(covered)}/{len(ALL_PAIRS)})"
    )
    return lines


def table(killed: Counter[tuple[str, str]]) -> list[str]:
    steps = list(dict.fromkeys(step for _, step in ALL_PAIRS))
    short = [step.replace("terminal", "t").replace("receive", "rcv") for step in steps]
    rows = [f"  {'':16}" + "".join(f"{name:>10}" for name in short)]
    for state in ALL_STATES:
        counts = "".join(f"{killed[state, step] or '-':>10}" for step in steps)
        rows.append(f"  {state:16}{counts}")
    return rows


def cores() -> int:
    return len(os.sched_getaffinity(0))
