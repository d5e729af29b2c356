"""ZVT: frames and messages a second, CPU at a saturated line, turnaround with and without the disk."""

from __future__ import annotations

from pathlib import Path

from bench import machine, zvt_codec, zvt_load, zvt_turnaround
from bench.report import Report


def run(folder: Path, quick: bool) -> Report:
    """`folder` takes the durable writes; `quick` measures too little for a figure."""
    report = Report(machine.describe(folder))
    report.tables += zvt_codec.tables(quick)
    load, goal = zvt_load.run(quick)
    turnaround, goals = zvt_turnaround.run(folder, quick)
    report.tables += [load, turnaround]
    report.goals += [goal, *goals]
    return report
