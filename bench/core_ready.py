"""READY of the whole service with a ledger of a million old events, against one with an empty ledger. Ended
in order and killed: what a start has to do differs. No devices: a station gets ready without them."""

from __future__ import annotations

from pathlib import Path
from statistics import median

from agent.trust.keys import RecordKey
from bench import core_commits
from bench.core_station import Station
from bench.report import Goal, Table

OLD_EVENTS, QUICK_OLD_EVENTS = 1_000_000, 20_000
ROUNDS, QUICK_ROUNDS = 5, 1
MOST = 1.5

Times = dict[str, list[float]]


def measure(folder: Path, quick: bool) -> dict[str, Times]:
    """By how the service ended before, seconds to READY with an empty ledger and with an old one."""
    found: dict[str, Times] = {
        how: {"new": [], "old": []} for how in ("ended in order", "killed before")
    }
    stations = {
        name: Station(folder / name, 1, uplink=False, devices=False) for name in ("new", "old")
    }
    with stations["new"], stations["old"]:
        key = RecordKey.load(stations["old"].folder / "record-key.pem")
        for station in stations.values():
            station.state.mkdir(mode=0o700)
        core_commits.fill(
            stations["old"].state / "ledger.db", key, QUICK_OLD_EVENTS if quick else OLD_EVENTS
        )
        for station in stations.values():  # once: what only the first start makes
            station.start()
            station.stop()
        for how, times in found.items():
            for _ in range(QUICK_ROUNDS if quick else ROUNDS):
                for name, station in stations.items():
                    times[name].append(station.start())
                    if how == "killed before":
                        station.kill()
                    else:
                        station.stop()
    return found


def run(folder: Path, quick: bool) -> tuple[list[Table], list[Goal]]:
    found = measure(folder, quick)
    rows, goals = [], []
    for how, times in found.items():
        new, old = median(times["new"]), median(times["old"])
        ratio = median(a / b for a, b in zip(times["old"], times["new"], strict=True))
        rows.append((how, f"{1000 * new:.0f}", f"{1000 * old:.0f}", f"{ratio:.2f}"))
        goals.append(Goal(f"READY with an old ledger, {how}", ratio, MOST, "x empty"))
    events = QUICK_OLD_EVENTS if quick else OLD_EVENTS
    heads = ("ms (medians)", "empty", f"{events:,} events", "ratio")
    return [Table("The whole service from exec to READY", heads, rows)], goals
