"""Sixteen connectors on one service against sixteen times one: processor time while idle and while every car
charges, and memory. Each connector has a bus, a meter, a controller and a terminal of its own."""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path

from bench.core_station import have_broker, look_at, memory_kib, station
from bench.report import Goal, Table

MANY, QUICK_MANY = 16, 2
WINDOW_S, QUICK_WINDOW_S = 10.0, 1.0
SETTLE_S = 3.0
CPU, ADDED_MIB = 1.2, 1.0


@dataclass(frozen=True, slots=True)
class Load:
    """CPU in percent of a core, memory in KiB."""

    idle: float
    charging: float
    idle_kib: int
    charging_kib: int


def measure(folder: Path, connectors: int, quick: bool) -> Load:
    with station(folder / f"with-{connectors}", connectors) as found:
        found.charge()  # first a session on each: what sessions need is in memory then
        found.unplug()
        idle = _percent(found.pid, quick)
        idle_kib = memory_kib(found.pid)[0]
        found.charge()
        charging = _percent(found.pid, quick)
        charging_kib = memory_kib(found.pid)[0]
        found.unplug()
    return Load(idle, charging, idle_kib, charging_kib)


def _percent(pid: int, quick: bool) -> float:
    time.sleep(0 if quick else SETTLE_S)
    before, began = look_at(pid).cpu_ns, time.perf_counter()
    time.sleep(QUICK_WINDOW_S if quick else WINDOW_S)
    return (look_at(pid).cpu_ns - before) / (time.perf_counter() - began) / 1e7


def run(folder: Path, quick: bool) -> tuple[list[Table], list[Goal]]:
    if why := have_broker():
        return [Table("Many connectors", ("",), (), f"not measured: {why}")], []
    many = QUICK_MANY if quick else MANY
    one, all_of_them = measure(folder, 1, quick), measure(folder, many, quick)
    idle, charging = (
        a / (many * b)
        for a, b in ((all_of_them.idle, one.idle), (all_of_them.charging, one.charging))
    )
    added = [
        (a - b) / 1024 / (many - 1)
        for a, b in (
            (all_of_them.idle_kib, one.idle_kib),
            (all_of_them.charging_kib, one.charging_kib),
        )
    ]
    rows = [
        ("CPU idle, % of a core", f"{one.idle:.2f}", f"{all_of_them.idle:.2f}", f"{idle:.2f}"),
        (
            "CPU while all charge, % of a core",
            f"{one.charging:.2f}",
            f"{all_of_them.charging:.2f}",
            f"{charging:.2f}",
        ),
        (
            "resident, MiB",
            f"{one.charging_kib / 1024:.1f}",
            f"{all_of_them.charging_kib / 1024:.1f}",
            "",
        ),
        ("added by each connector, MiB", "", f"{max(added):.2f}", ""),
    ]
    heads = ("", "one", str(many), f"of {many} x one")
    goals = [
        Goal(f"CPU of {many} connectors, idle", idle, CPU, f"x {many} times one"),
        Goal(f"CPU of {many} connectors, charging", charging, CPU, f"x {many} times one"),
        Goal("memory that a connector adds", max(added), ADDED_MIB, "MiB"),
    ]
    return [Table("Many connectors on one service", heads, rows)], goals
