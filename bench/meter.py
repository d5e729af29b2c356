"""Meter bus: share of the wire-time limit, CPU per read beside pymodbus, energy over 10,000 faults."""

from __future__ import annotations

from pathlib import Path

from bench import machine, meter_cpu, meter_energy, meter_wire
from bench.report import Report


def run(folder: Path, quick: bool) -> Report:
    """`quick` measures too little for a figure."""
    report = Report(machine.describe(folder))
    for part in (meter_wire, meter_cpu, meter_energy):
        table, goals = part.run(quick)
        report.tables.append(table)
        report.goals += goals
    return report
