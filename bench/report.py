"""Figures as tables: medians, quantiles, ratios to yardsticks, goals."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from statistics import median


def quantile(values: Sequence[float], part: float) -> float:
    """The smallest value that at least `part` of all do not exceed."""
    ordered = sorted(values)
    return ordered[max(0, math.ceil(part * len(ordered)) - 1)]


@dataclass(frozen=True, slots=True)
class Table:
    title: str
    heads: Sequence[str]
    rows: Sequence[Sequence[str]]
    note: str = ""

    def text(self) -> str:
        """The first column stands left, figures right."""
        lines = [list(self.heads), *[list(row) for row in self.rows]]
        widths = [max(len(line[i]) for line in lines) for i in range(len(self.heads))]
        out = [self.title]
        for line in lines:
            first, *others = (
                cell.ljust(width) if i == 0 else cell.rjust(width)
                for i, (cell, width) in enumerate(zip(line, widths, strict=True))
            )
            out.append("  " + "  ".join([first, *others]).rstrip())
        return "\n".join([*out, *([f"  {self.note}"] if self.note else [])])


@dataclass(frozen=True, slots=True)
class Goal:
    what: str
    seen: float
    at_most: float
    unit: str
    at_least: bool = False  # the bound is a floor

    @property
    def met(self) -> bool:
        return self.seen >= self.at_most if self.at_least else self.seen <= self.at_most

    def row(self) -> tuple[str, ...]:
        verdict = "met" if self.met else "MISSED"
        bound = f"{'at least ' * self.at_least}{self.at_most:g} {self.unit}"
        return self.what, f"{self.seen:.2f} {self.unit}", bound, verdict


@dataclass(slots=True)
class Report:
    machine: Sequence[tuple[str, str]]
    tables: list[Table] = field(default_factory=list)
    goals: list[Goal] = field(default_factory=list)

    @property
    def met(self) -> bool:
        return all(goal.met for goal in self.goals)

    def text(self) -> str:
        machine = "\n".join(f"{name:12} {value}" for name, value in self.machine)
        goals = Table("Goals", ("", "seen", "at most", ""), [goal.row() for goal in self.goals])
        return "\n\n".join([machine, *[table.text() for table in self.tables], goals.text()])


def spread(name: str, values_ms: Sequence[float]) -> tuple[str, ...]:
    """A row of SPREAD: times in ms."""
    cells = (
        quantile(values_ms, 0.05),
        median(values_ms),
        quantile(values_ms, 0.95),
        quantile(values_ms, 0.99),
        max(values_ms),
    )
    return name, str(len(values_ms)), *(f"{cell:.3f}" for cell in cells)


SPREAD = ("ms", "n", "p5", "median", "p95", "p99", "worst")
