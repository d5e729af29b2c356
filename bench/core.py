"""The money core: the ledger and its disk, from a hold to energy, the whole service and its budgets."""

from __future__ import annotations

import argparse
import asyncio
import random
import resource
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from statistics import median

from agent.ledger import AsyncLedger
from agent.station.clock import SystemClock
from agent.station.ledger_care import LedgerCare
from agent.trust.keys import RecordKey
from bench import (
    core_budgets,
    core_commits,
    core_cuts,
    core_growth,
    core_kills,
    core_many,
    core_ready,
    core_release,
    machine,
)
from bench.core_device import Device, device
from bench.report import Goal, Report, Table

IMAGES, KILLS = 10_000, 200
QUICK_IMAGES, QUICK_KILLS = 600, 20
OLD_EVENTS, QUICK_OLD_EVENTS = 1_000_000, 20_000
IDLE_TURNS = 10  # one a minute
# Others take more than this of the processors: figures in seconds are not the project's then.
BUSY_PERCENT = 10


@dataclass(frozen=True, slots=True)
class Given:
    quick: bool
    images: int
    kills: int
    seed: int
    minutes: float | None


Part = Callable[[Report, Path, Given], None]


def options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--images", type=int, help=f"power-cut images ({IMAGES}); with it nothing else runs"
    )
    parser.add_argument(
        "--kills", type=int, help=f"processes killed ({KILLS}); with it nothing else runs"
    )
    parser.add_argument("--seed", type=int, help="repeat the cuts and kills of a run")
    parser.add_argument(
        "--only", action="append", choices=sorted(PARTS), help="this part; may be given often"
    )
    parser.add_argument("--minutes", type=float, help="how long growth is looked for (0.7)")
    parser.add_argument(
        "--markdown",
        action="store_true",
        help="print the goals as the table of docs/benchmarks.md, too",
    )


def run(folder: Path, quick: bool, given: argparse.Namespace | None = None) -> Report:
    """`folder` takes the durable writes; `quick` measures too little for a figure."""

    def told(name: str) -> object:
        return getattr(given, name, None)

    seed = told("seed")
    wanted = Given(
        quick,
        int(str(told("images") or (QUICK_IMAGES if quick else IMAGES))),
        int(str(told("kills") or (QUICK_KILLS if quick else KILLS))),
        random.randrange(2**32) if seed is None else int(str(seed)),
        None if told("minutes") is None else float(str(told("minutes"))),
    )
    only: list[str] = list(getattr(given, "only", None) or ())
    only += [name for name, word in (("cuts", "images"), ("kills", "kills")) if told(word)]
    report = Report(machine.describe(folder))
    others = Others()
    for name, part in PARTS.items():
        if not only or name in only:
            place = folder / name
            place.mkdir()
            part(report, place, wanted)
    report.machine = [*report.machine, ("others", others.percent())]
    if told("markdown"):
        print(markdown(report))
    return report


def markdown(report: Report) -> str:
    """The goals as docs/benchmarks.md shows them."""
    lines = ["| figure | seen | goal | |", "|---|---|---|---|"]
    lines += [
        f"| {' | '.join(' '.join(cell.split()) for cell in goal.row())} |" for goal in report.goals
    ]
    return "\n".join([*lines, ""])


class Others:
    """How much of the processors everybody else has taken since this began."""

    def __init__(self) -> None:
        self._busy, self._all, self._ours = self._now()

    def percent(self) -> str:
        busy, all_of_it, ours = self._now()
        took = max(0.0, busy - self._busy - (ours - self._ours))
        share = 100 * took / max(0.01, all_of_it - self._all)
        word = "; BUSY: measure again in peace" if share > BUSY_PERCENT else ""
        return f"{share:.0f} % of the processors during the run{word}"

    @staticmethod
    def _now() -> tuple[float, float, float]:
        # proc(5): user nice system idle iowait irq softirq steal, in ticks.
        ticks = [int(n) for n in Path("/proc/stat").read_text().splitlines()[0].split()[1:9]]
        idle = ticks[3] + ticks[4]
        ours = sum(
            usage.ru_utime + usage.ru_stime
            for usage in map(resource.getrusage, (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
        )
        return (sum(ticks) - idle) / 100, sum(ticks) / 100, ours


def _ledger(report: Report, folder: Path, given: Given) -> None:
    _commits(report, folder, RecordKey.generate(), given.quick)


def _device(report: Report, folder: Path, given: Given) -> None:
    with device(folder) as found:
        if found is None:
            note = "not measured: a loop device of its own needs root, losetup and mkfs.ext4"
            report.tables.append(Table("What reaches the device", ("",), (), note))
        else:
            _traffic(report, found, RecordKey.generate(), given.quick)


def _old(report: Report, folder: Path, given: Given) -> None:
    _age(report, folder, RecordKey.generate(), given.quick)


def _adds(measure: Callable[[Path, bool], tuple[list[Table], list[Goal]]]) -> Part:
    def part(report: Report, folder: Path, given: Given) -> None:
        tables, goals = measure(folder, given.quick)
        report.tables += tables
        report.goals += goals

    return part


def _growth(report: Report, folder: Path, given: Given) -> None:
    tables, goals = core_growth.run(folder, given.quick, given.minutes)
    report.tables += tables
    report.goals += goals


def _commits(report: Report, folder: Path, key: RecordKey, quick: bool) -> None:
    speed = core_commits.against_raw(folder, key, 2 if quick else 9, 50 if quick else 200)
    middle = {name: median(values) for name, values in speed.items()}
    ratios = {
        name: median(a / b for a, b in zip(speed[name], speed[raw], strict=True))
        for name, raw in (("plain", "raw"), ("signed", "raw signed"))
    }
    rows = [
        ("an event", f"{middle['plain']:.0f}", f"{middle['raw']:.0f}", f"{ratios['plain']:.2f}"),
        (
            "a chained and signed record with its event",
            f"{middle['signed']:.0f}",
            f"{middle['raw signed']:.0f}",
            f"{ratios['signed']:.2f}",
        ),
    ]
    heads = ("durable, a second (medians)", "ledger", "raw log", "ratio")
    report.tables.append(Table("Commits against raw flushes", heads, rows))
    report.goals.append(
        Goal("chained commits to raw flushes", ratios["signed"], 0.7, "", at_least=True)
    )


def _traffic(report: Report, found: Device, key: RecordKey, quick: bool) -> None:
    sessions = 20 if quick else 150
    done, steps = core_commits.traffic(found, key, 5 if quick else 60, sessions)
    kib, flushes = done.bytes / 1024 / sessions, done.flushes / sessions
    idle = asyncio.run(_idle(found))
    rows = [
        ("session: 14 events, record, ack", f"{kib:.1f}", f"{flushes:.2f}"),
        ("durable step", f"{done.bytes / 1024 / steps:.1f}", f"{done.flushes / steps:.3f}"),
        ("ten idle minutes", f"{idle / 1024:.1f}", ""),
    ]
    note = f"{sessions} sessions; checkpoints as the station makes them, metadata of ext4 included"
    report.tables.append(Table("What reaches the device", ("", "KiB", "flushes"), rows, note))
    report.goals += [
        Goal("device bytes of an ordinary session", kib, 130, "KiB"),
        Goal("flushes of an ordinary session", flushes, 17, ""),
        Goal("flushes of a durable step", done.flushes / steps, 1.05, ""),
        Goal("device bytes of ten idle minutes", idle / 1024, 0, "KiB"),
    ]


async def _idle(found: Device) -> int:
    """What the station's housekeeping sends to the device while nothing happens; ten turns of it."""
    ledger = await AsyncLedger.open(found.folder / "session.db", core_commits.STATION)
    care = LedgerCare(ledger, 400, SystemClock(), lambda *_, **__: None)
    await care.turn(quiet=True, ended=True)
    await ledger.checkpoint()
    found.settle()
    before = found.traffic()
    for _ in range(IDLE_TURNS):
        await care.turn(quiet=True, ended=True)
        await ledger.look_for_room()
    found.settle()
    done = found.traffic() - before
    await ledger.close()
    return done.bytes


def _age(report: Report, folder: Path, key: RecordKey, quick: bool) -> None:
    events = QUICK_OLD_EVENTS if quick else OLD_EVENTS
    core_commits.fill(folder / "old.db", key, events)
    append = core_commits.old_and_new(folder, key, 2 if quick else 9, 20 if quick else 100)
    ready = core_commits.openings(folder, 2 if quick else 9)
    rows = [
        (what, f"{1000 * of['new']:.2f}", f"{1000 * of['old']:.2f}", f"{of['old'] / of['new']:.2f}")
        for what, of in (("append", append), ("process start to replayed", ready))
    ]
    heads = ("ms (medians)", "empty", f"{events:,} events", "ratio")
    report.tables.append(Table("An old ledger", heads, rows))
    report.goals += [
        Goal("append into an old ledger", append["old"] / append["new"], 1.2, "x"),
        Goal("start with an old ledger", ready["old"] / ready["new"], 1.5, "x"),
    ]


def _cuts(report: Report, folder: Path, given: Given) -> None:
    images, seed = given.images, given.seed
    shipped = core_cuts.run(folder, images, seed)
    weaker = core_cuts.run(folder, max(500, min(images // 10, 10_000)), seed, synchronous="normal")
    rows = [
        (
            name,
            f"{cuts.images:,}",
            f"{cuts.twice:,}",
            f"{cuts.lost:,}",
            f"{cuts.corrupt:,}",
            f"{cuts.images / cuts.seconds:.0f}",
        )
        for name, cuts in (("as shipped", shipped), ("synchronous=NORMAL", weaker))
    ]
    heads = ("", "images", "cut twice", "lost", "corrupt", "a second")
    note = f"seed {seed}" + (f"; first: {shipped.first}" if shipped.first else "")
    report.tables.append(Table("Power cuts", heads, rows, note))
    report.goals += [
        Goal("images that lost a row or are corrupt", shipped.lost + shipped.corrupt, 0, ""),
        Goal("losses with synchronous=NORMAL", weaker.lost, 1, "", at_least=True),
    ]


def _kills(report: Report, folder: Path, given: Given) -> None:
    seed = given.seed
    done = core_kills.run(folder, given.kills, seed)
    rows = [(step, f"{count:,}") for step, count in sorted(done.where.items())]
    note = f"seed {seed}, {done.kills / done.seconds:.0f} a second"
    note += f"; first: {done.first}" if done.first else ""
    report.tables.append(Table("Processes killed", ("killed", "times"), rows, note))
    report.goals.append(Goal("kills that lost a row", done.lost + done.corrupt, 0, ""))


# In this order: what a busy disk disturbs first, what is only counted last.
PARTS: dict[str, Part] = {
    "commits": _ledger,
    "device": _device,
    "release": _adds(core_release.run),
    "old": _old,
    "ready": _adds(core_ready.run),
    "budgets": _adds(core_budgets.run),
    "many": _adds(core_many.run),
    "growth": _growth,
    "cuts": _cuts,
    "kills": _kills,
}
