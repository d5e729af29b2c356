"""`./dev simulate --sweep`: every scenario on several cores, the table, one point again with its trace."""

from __future__ import annotations

import gc
import multiprocessing
import multiprocessing.util
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import NamedTuple

from simulate.fate import STEPS
from simulate.make import Menu
from simulate.run import COLLECT_EVERY, Runner
from simulate.scenarios import BY_NAME, SCENARIOS
from simulate.sweep import MODES, POLLS, NoSuchPoint, Point, Sweep, Swept, Undisturbed, points

ROOT = Path(__file__).resolve().parents[1]
DOCUMENT = ROOT / "docs" / "kill-sweep.md"
# Points handed to a worker at once.
BATCH = 24
FOUND_SHOWN = 20
OK, FOUND = 0, 1


@dataclass(frozen=True, slots=True)
class Order:
    """What to sweep. `again`: second deaths, before so many first writes of the recovery. `stop_at`: enough
    violations; 0 for all."""

    scenarios: tuple[str, ...]
    steps: tuple[str, ...]
    modes: tuple[str, ...]
    again: int = 0
    stop_at: int = 0

    @classmethod
    def of(cls, scenarios: str, steps: str, modes: str, again: int, stop_at: int = 0) -> Order:
        """From words with commas; empty for the usual ones. Raises NoSuchPoint."""
        usual = ("write",) if again else tuple(step for step in STEPS if step not in POLLS)
        return cls(
            _words(scenarios, tuple(BY_NAME), tuple(BY_NAME)),
            STEPS if steps == "all" else _words(steps, usual, STEPS),
            _words(modes, tuple(MODES), tuple(MODES)),
            again,
            stop_at,
        )


def _words(text: str, usual: tuple[str, ...], known: tuple[str, ...]) -> tuple[str, ...]:
    words = tuple(word for word in text.split(",") if word)
    if unknown := [word for word in words if word not in known]:
        raise NoSuchPoint(f"{unknown[0]!r} is not known; known: {', '.join(known)}")
    return words or usual


# --- On several cores -----------------------------------------------------------------------------


class Work(NamedTuple):
    """One portion: to count when there are no points. `enough`: violations after which the rest is left."""

    scenario: str
    points: tuple[Point, ...] = ()
    totals: tuple[int, ...] = ()
    enough: int = 0


class Done(NamedTuple):
    undisturbed: Undisturbed | None
    swept: Swept


_RUNNERS: list[Runner] = []


def _in_worker(work: Work) -> Done:
    """In a worker, which lives as long as the pool."""
    if not _RUNNERS:
        _RUNNERS.append(Runner(Menu()))
        multiprocessing.util.Finalize(None, _RUNNERS[0].close, exitpriority=10)
    return _do(_RUNNERS[0], work)


def _do(runner: Runner, work: Work) -> Done:
    sweep, scenario = Sweep(runner.board, runner.places), BY_NAME[work.scenario]
    swept = Swept(scenario.name)
    if not work.points:
        return Done(sweep.undisturbed(scenario), swept)
    began = time.process_time()
    for n, (point, total) in enumerate(zip(work.points, work.totals, strict=True), 1):
        swept.take(point, *sweep.run(scenario, point, total))
        if n % COLLECT_EVERY == 0:
            gc.collect()
        if work.enough and len(swept.found) >= work.enough:
            break
    gc.collect()
    swept.cpu_s = time.process_time() - began
    return Done(None, swept)


@dataclass(slots=True)
class Report:
    order: Order
    undisturbed: dict[str, Undisturbed]
    swept: dict[str, Swept]
    seconds: float = 0.0
    stopped: bool = False

    @property
    def failed(self) -> bool:
        return any(u.differs for u in self.undisturbed.values()) or any(
            swept.found for swept in self.swept.values()
        )


def sweep_all(order: Order, jobs: int, tell: Callable[[int, int, int], None]) -> Report:
    """`tell` is called with worlds run, worlds to run, and violations, now and then."""
    began = time.monotonic()
    if jobs == 1:
        runner = Runner(Menu())
        try:
            report = _sweep(order, lambda works: (_do(runner, work) for work in works), tell)
        finally:
            runner.close()
    else:
        with multiprocessing.get_context("spawn").Pool(jobs) as pool:
            report = _sweep(order, lambda works: pool.imap_unordered(_in_worker, works), tell)
            pool.close() if not report.stopped else pool.terminate()
            pool.join()
    report.seconds = time.monotonic() - began
    return report


def _sweep(
    order: Order,
    do: Callable[[list[Work]], Iterable[Done]],
    tell: Callable[[int, int, int], None],
) -> Report:
    undisturbed: dict[str, Undisturbed] = {}
    for done in do([Work(name) for name in order.scenarios]):
        assert done.undisturbed is not None
        undisturbed[done.undisturbed.scenario] = done.undisturbed
    report = Report(order, undisturbed, {name: Swept(name) for name in order.scenarios})
    works = list(_works(order, undisturbed))
    total, worlds, bad = sum(len(work.points) for work in works), 0, 0
    for done in do(works):
        report.swept[done.swept.scenario].join(done.swept)
        worlds += done.swept.worlds
        bad += len(done.swept.found)
        tell(worlds, total, bad)
        if order.stop_at and bad >= order.stop_at:
            report.stopped = True
            break
    return report


def _works(order: Order, undisturbed: dict[str, Undisturbed]) -> Iterator[Work]:
    for name in order.scenarios:
        if undisturbed[name].differs:
            continue  # it is not what it is called
        steps = undisturbed[name].steps
        those = [p for kind in order.steps for p in points(steps, kind, order.modes, order.again)]
        for at in range(0, len(those), BATCH):
            some = tuple(those[at : at + BATCH])
            yield Work(name, some, tuple(steps[point.step] for point in some), order.stop_at)


# --- The report -----------------------------------------------------------------------------------


def table(report: Report) -> list[str]:
    """One row a scenario: deaths before each kind of step; worlds with a violation, where there are any."""
    steps = report.order.steps
    lines = [
        "| scenario | undisturbed | " + " | ".join(steps) + " | worlds | sessions | violations |",
        "|---|---|" + "---:|" * (len(steps) + 3),
    ]
    whole = Swept("all")
    for name, swept in report.swept.items():
        lines.append(_row(f"`{name}`", _came(report.undisturbed[name]), swept, steps))
        whole.join(swept)
    lines.append(_row("all", "", whole, steps))
    return lines


def _came(undisturbed: Undisturbed) -> str:
    if undisturbed.differs:
        return f"**{undisturbed.differs}**"
    classes = undisturbed.result.verdict.classes
    return ", ".join(f"{n} {name}" for name, n in classes.items()) or "no session"


def _row(name: str, came: str, swept: Swept, steps: tuple[str, ...]) -> str:
    cells = [
        f"{swept.deaths[step]:,}" + (f" (**{swept.bad[step]} bad**)" if swept.bad[step] else "")
        for step in steps
    ]
    numbers = [f"{swept.worlds:,}", f"{swept.sessions:,}", f"{sum(swept.bad.values()):,}"]
    return f"| {name} | {came} | " + " | ".join(cells + numbers) + " |"


def verdict(report: Report) -> list[str]:
    """What was found, how it is seen again, and the counts. The last line is the verdict."""
    lines = []
    for name, undisturbed in report.undisturbed.items():
        if undisturbed.differs:
            lines.append(f"{name}, undisturbed: {undisturbed.differs}")
    found = [(swept.scenario, *each) for swept in report.swept.values() for each in swept.found]
    for scenario, point, code, text in found[:FOUND_SHOWN]:
        lines.append(f"{scenario} {point}: {code}: {text}")
        lines.append(f"  ./dev simulate --sweep --scenario {scenario} --at {point}")
    if len(found) > FOUND_SHOWN:
        lines.append(f"... and {len(found) - FOUND_SHOWN} more")
    whole, classes = Swept("all"), Counter[str]()
    for swept in report.swept.values():
        whole.join(swept)
        classes += swept.classes
    lines.append("sessions: " + ", ".join(f"{n:,} {name}" for name, n in classes.most_common()))
    if whole.unmet:
        why = "the recovery wrote less than that, or the world had come to its end"
        lines.append(f"{whole.unmet} deaths did not come: {why}")
    wrong = len(found) + sum(1 for u in report.undisturbed.values() if u.differs)
    deaths = sum(whole.deaths.values())
    lines.append(
        f"{f'{wrong} VIOLATIONS' if wrong else 'no violation'} in {whole.worlds:,} worlds with {deaths:,} "
        f"deaths ({len(report.swept)} scenarios, {whole.sessions:,} sessions, modes "
        f"{', '.join(report.order.modes)}; {whole.cpu_s:.0f} s of one core's time)"
    )
    return lines


def write_table(word: str, report: Report) -> None:
    """Into docs/kill-sweep.md, between the marks of this part."""
    begin, end = f"<!-- {word}: begin -->", f"<!-- {word}: end -->"
    before, _, rest = DOCUMENT.read_text().partition(begin)
    _, _, after = rest.partition(end)
    told = [*table(report), "", *(f"{line}\n" for line in verdict(report))]
    DOCUMENT.write_text(f"{before}{begin}\n\n" + "\n".join(told).rstrip() + f"\n\n{end}{after}")


class Progress:
    """One line that is written over on a terminal, and now and then a line elsewhere."""

    EVERY_S = 0.5
    EVERY_ELSEWHERE_S = 30.0

    def __init__(self) -> None:
        self._began = time.monotonic()
        self._line = sys.stderr.isatty()
        self._next = self._began

    def tell(self, worlds: int, total: int, bad: int) -> None:
        now = time.monotonic()
        if now < self._next:
            return
        self._next = now + (self.EVERY_S if self._line else self.EVERY_ELSEWHERE_S)
        rate = worlds / max(0.001, now - self._began)
        bar = "#" * round(30 * worlds / total)
        text = f"[{bar:<30}] {worlds} of {total} worlds, {rate:.1f}/s, {bad} violations"
        sys.stderr.write(f"\r{text}\033[K" if self._line else f"{text}\n")
        sys.stderr.flush()

    def end(self) -> None:
        if self._line:
            sys.stderr.write("\r\033[K")


# --- The command ----------------------------------------------------------------------------------


def run_sweep(order: Order, jobs: int, write: bool) -> int:
    failed = False
    for word, part in parts(order):
        progress = Progress()
        report = sweep_all(part, jobs, progress.tell)
        progress.end()
        print("\n".join(["", *table(report), "", *verdict(report)]), flush=True)
        if write:
            write_table(word, report)
        failed |= report.failed
    return FOUND if failed else OK


def parts(order: Order) -> list[tuple[str, Order]]:
    """Each has a table of its own: deaths of the recovery; else writes, then all other steps."""
    if order.again:
        return [("twice", order)]
    writes = tuple(step for step in order.steps if step == "write")
    others = tuple(step for step in order.steps if step != "write")
    split = (("writes", writes), ("steps", others))
    return [(word, replace(order, steps=steps)) for word, steps in split if steps]


def run_one(name: str, point: Point) -> int:
    """With its trace. Raises NoSuchPoint."""
    runner, scenario = Runner(Menu()), BY_NAME[name]
    try:
        sweep = Sweep(runner.board, runner.places)
        total = sweep.undisturbed(scenario).steps[point.step]
        result, _ = sweep.run(scenario, point, total, True)
    finally:
        runner.close()
    print(f"{scenario.shows}\n{scenario.plan}")
    for at_ms, who, what in result.lines:
        print(f"{at_ms / 1000:10.3f}  {who:8} {what}")
    for code, text in result.verdict.violations:
        print(f"{name} {point}: {code}: {text}")
    found = result.verdict.violations
    word = f"{len(found)} VIOLATIONS" if found else "no violation"
    print(f"{word} at {name} {point} of {total}: {dict(result.verdict.classes)}")
    return FOUND if found else OK


def describe() -> list[str]:
    return [f"{s.name:18} {s.shows}" for s in SCENARIOS]
