"""The budgets of the whole service, each as a share of a bare `python -I -c pass` in the same run: memory
once it is connected over TLS, the time from its start to READY, and what it does while nobody comes."""

from __future__ import annotations

import subprocess
import time
import venv
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median

from bench.core_station import Station, have_broker, look_at, memory_kib, station
from bench.report import Goal, Table

ROUNDS, QUICK_ROUNDS = 9, 1
IDLE_S, QUICK_IDLE_S = 60.0, 2.0
# A start leaves timers and connections that settle within a few polls.
SETTLE_S, QUICK_SETTLE_S = 5.0, 0.5
RESIDENT, DIRTY, START = 6.5, 10.5, 25.0
IDLE_CPU_PERCENT, IDLE_WAKES = 0.2, 5.0
# Says that it is there, then waits for its standard input to be closed.
WAITS = "import sys; print(flush=True); sys.stdin.read()"


@dataclass(slots=True)
class Budgets:
    bare_s: list[float] = field(default_factory=list)
    ready_s: list[float] = field(default_factory=list)
    bare_kib: tuple[int, int] = (0, 0)
    agent_kib: tuple[int, int] = (0, 0)
    cpu_percent: float = 0.0
    wakes: float = 0.0
    wakes_of: dict[str, float] = field(default_factory=dict)
    written: int = 0
    ledger_touched: bool = False


def bare_python(folder: Path) -> str:
    """An interpreter in an environment of its own, empty: what others have added to each of its starts in
    this one is not bare."""
    venv.create(folder, symlinks=True)
    return str(folder / "bin" / "python")


def bare_start(python: str) -> float:
    began = time.perf_counter()
    subprocess.run([python, "-I", "-c", "pass"], check=True)
    return time.perf_counter() - began


def bare_memory(python: str) -> tuple[int, int]:
    command = [python, "-I", "-c", WAITS]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        process.stdout.readline()
        found = memory_kib(process.pid)
        process.communicate()
    return found


def _files(found: Station) -> dict[str, tuple[int, int]]:
    """Size and time of change of everything that the service keeps."""
    files = (path for path in found.state.rglob("*") if path.is_file())
    return {str(path): (path.stat().st_size, path.stat().st_mtime_ns) for path in files}


def measure(folder: Path, quick: bool) -> Budgets:
    python = bare_python(folder / "bare")
    seen = Budgets(bare_kib=bare_memory(python))
    with station(folder / "budgets") as found:  # its first start compiles what is not
        for _ in range(QUICK_ROUNDS if quick else ROUNDS):
            found.kill()
            seen.bare_s.append(bare_start(python))
            seen.ready_s.append(found.start())
        # One session first: what a session needs is in memory then, and its records are acknowledged.
        since = len(found.log.events)
        found.wait_idle(since)
        found.charge()
        found.unplug()
        time.sleep(QUICK_SETTLE_S if quick else SETTLE_S)
        files, before, began = _files(found), look_at(found.pid), time.perf_counter()
        time.sleep(QUICK_IDLE_S if quick else IDLE_S)
        after, lasted = look_at(found.pid), time.perf_counter() - began
        seen.ledger_touched = _files(found) != files
        seen.agent_kib = memory_kib(found.pid)
    seen.cpu_percent = (after.cpu_ns - before.cpu_ns) / lasted / 1e7
    seen.wakes = (after.wakes - before.wakes) / lasted
    seen.wakes_of = {
        name: (count - before.wakes_of.get(name, 0)) / lasted
        for name, count in after.wakes_of.items()
    }
    seen.written = after.written - before.written
    return seen


def run(folder: Path, quick: bool) -> tuple[list[Table], list[Goal]]:
    if why := have_broker():
        return [Table("Budgets", ("",), (), f"not measured: {why}")], []
    seen = measure(folder, quick)
    start = median(a / b for a, b in zip(seen.ready_s, seen.bare_s, strict=True))
    resident, dirty = (a / b for a, b in zip(seen.agent_kib, seen.bare_kib, strict=True))
    rows = [
        (
            "exec to READY, ms (medians)",
            f"{1000 * median(seen.ready_s):.0f}",
            f"{1000 * median(seen.bare_s):.1f}",
            f"{start:.1f}",
        ),
        _mib("resident, MiB", seen.agent_kib[0], seen.bare_kib[0], resident),
        _mib("private dirty, MiB", seen.agent_kib[1], seen.bare_kib[1], dirty),
    ]
    whole = Table("Budgets: the whole service", ("", "service", "bare Python", "ratio"), rows)
    threads = ", ".join(f"{name} {rate:.1f}" for name, rate in sorted(seen.wakes_of.items()))
    idle = Table(
        "Idle: one terminal, one meter, one EVSE, connected over TLS",
        ("", "seen"),
        (
            ("CPU, % of a core", f"{seen.cpu_percent:.2f}"),
            ("wake-ups a second", f"{seen.wakes:.1f}"),
            ("bytes for the disk", str(seen.written)),
            ("a file of the state changed", "yes" if seen.ledger_touched else "no"),
        ),
        f"wake-ups by thread: {threads}",
    )
    goals = [
        Goal("exec to READY", start, START, "x bare Python"),
        Goal("resident memory over TLS", resident, RESIDENT, "x bare Python"),
        Goal("private dirty memory over TLS", dirty, DIRTY, "x bare Python"),
        Goal("idle CPU", seen.cpu_percent, IDLE_CPU_PERCENT, "% of a core"),
        Goal("idle wake-ups a second", seen.wakes, IDLE_WAKES, ""),
        Goal("bytes written while idle", seen.written + seen.ledger_touched, 0, ""),
    ]
    return [whole, idle], goals


def _mib(name: str, service: int, bare: int, ratio: float) -> tuple[str, ...]:
    return name, f"{service / 1024:.1f}", f"{bare / 1024:.1f}", f"{ratio:.2f}"
