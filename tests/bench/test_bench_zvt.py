"""The benches' wiring: that they run and what they print. Figures are for people: docs/benchmarks.md."""

import asyncio
import re
import subprocess
import sys
from pathlib import Path

from support.tree import ROOT

from bench.__main__ import BENCHES, MISSED_EXIT
from bench.machine import file_system
from bench.report import Goal, Report, Table, quantile, spread
from bench.zvt_load import measure

sys.path.insert(0, str(ROOT / "packaging"))
from dev.cli import COMMANDS


def bench(*words: str) -> "subprocess.CompletedProcess[str]":
    command = [sys.executable, "-m", "bench", *words]
    return subprocess.run(
        command, cwd=ROOT, capture_output=True, text=True, timeout=50, check=False
    )


def test_a_quick_run_measures_everything_and_leaves_nothing(tmp_path: Path) -> None:
    done = bench("zvt", "--quick", "--folder", str(tmp_path))
    assert done.returncode in (0, MISSED_EXIT), done.stderr
    assert done.stderr == ""
    for row in (
        r"block written, up to 16 bytes +\d+ x \d+ +[\d,]+ +[\d.]+ +[\d.]+ x its checksum by loop",
        r"message decoded, 255 and more .* x json.loads",
        r"14 bytes at a time \(16-byte FIFO\) +[\d,]+ +[\d.]+ %",
        r"answer to 04 0F, in the ledger first +5 ",
        r"bare write and fdatasync, \d{4} bytes +5 ",
        r"CPU at 115200 baud saturated +[\d.]+ % of a core +10 % of a core +(met|MISSED)",
        r"turnaround, median +[\d.]+ ms +1 ms +(met|MISSED)",
    ):
        assert re.search(row, done.stdout), f"{row} is not in\n{done.stdout}"
    assert ("MISSED" in done.stdout) == (done.returncode == MISSED_EXIT)
    assert list(tmp_path.iterdir()) == []


def test_a_load_is_measured_on_whatever_machine() -> None:
    load = asyncio.run(measure(14, quick=True))
    assert load.bytes_a_second > 0
    assert all(percent > 0 for percent in load.percents)


def test_the_list_and_the_command() -> None:
    assert [line.split()[0] for line in bench().stdout.splitlines()] == sorted(BENCHES)
    assert "yardsticks" in str(COMMANDS["bench"].__doc__)
    assert bench("metre").returncode == 2


def test_figures_add_up() -> None:
    times = [float(n) for n in range(1, 101)]
    assert (quantile(times, 0.05), quantile(times, 0.95), quantile(times, 1.0)) == (5, 95, 100)
    assert spread("x", times) == ("x", "100", "5.000", "50.500", "95.000", "99.000", "100.000")
    report = Report([("machine", "one")], [Table("T", ("", "n"), [("row", "1")])])
    report.goals.append(Goal("fast", 1.0, 1.0, "ms"))
    assert report.met
    report.goals.append(Goal("faster", 1.01, 1.0, "ms"))
    assert not report.met
    assert "MISSED" in report.text()
    assert "  row  1" in report.text()


def test_the_file_system_is_the_one_that_holds_the_folder(tmp_path: Path) -> None:
    assert file_system(Path("/proc/self"))[0] == "proc"
    assert file_system(tmp_path)[0] != "proc"
