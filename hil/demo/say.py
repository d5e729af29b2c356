"""How the tour speaks: numbered steps, and who sees what."""

from __future__ import annotations

import os
import shutil
import sys
import textwrap
import time
from collections.abc import Iterable, Sequence

WHO_WIDTH = 10
INDENT = " " * (2 + WHO_WIDTH + 2)
WIDTH_MAX = 100
WIDTH_MIN = 60


class Voice:
    """Prints at once. Colour only on a terminal, and never where NO_COLOR is set."""

    def __init__(self) -> None:
        self._step = 0
        self._started = time.monotonic()
        self._colour = sys.stdout.isatty() and "NO_COLOR" not in os.environ
        self.width = max(WIDTH_MIN, min(WIDTH_MAX, shutil.get_terminal_size((80, 24)).columns))
        self.checks = 0
        self.failures: list[str] = []

    def _paint(self, text: str, code: str) -> str:
        return f"\x1b[{code}m{text}\x1b[0m" if self._colour else text

    def start_clock(self) -> None:
        """What came before was setting up."""
        self._started = time.monotonic()

    def seconds(self) -> int:
        return round(time.monotonic() - self._started)

    def line(self, text: str = "") -> None:
        print(text, flush=True)

    def title(self, text: str) -> None:
        self.line(self._paint(text, "1"))

    def prose(self, text: str) -> None:
        """A paragraph as wide as the terminal."""
        for row in textwrap.wrap(text, self.width - 2):
            self.line(f"  {row}")

    def step(self, text: str) -> None:
        self._step += 1
        number, clock = f"{self._step:2d}  ", f"{self.seconds()} s"
        self.line()
        self.title(f"{number}{text:<{self.width - len(number) - len(clock) - 1}} {clock}")

    def says(self, who: str, text: str) -> None:
        rows = textwrap.wrap(text, self.width - len(INDENT)) or [""]
        self.line(f"  {who:<{WHO_WIDTH}}  {rows[0]}")
        for row in rows[1:]:
            self.line(INDENT + row)

    def box(self, who: str, rows: Iterable[str]) -> None:
        """A display, drawn as one."""
        lines = [row.rstrip() for row in rows]
        while lines and not lines[-1]:
            lines.pop()
        width = max(20, *(len(row) for row in lines or [""]))
        edge = "+" + "-" * (width + 2) + "+"
        self.line(f"  {who:<{WHO_WIDTH}}  {edge}")
        for row in lines:
            self.line(f"{INDENT}| {row:<{width}} |")
        self.line(INDENT + edge)

    def table(self, who: str, rows: Sequence[Sequence[str]]) -> None:
        """Columns as wide as their widest cell: the first to the left, all others to the right."""
        widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
        for n, row in enumerate(rows):
            cells = [
                cell.rjust(width) if i else cell.ljust(width)
                for i, (cell, width) in enumerate(zip(row, widths, strict=True))
            ]
            self.line(f"  {who if n == 0 else '':<{WHO_WIDTH}}  {'   '.join(cells).rstrip()}")

    def check(self, what: str, held: bool, seen: object = "") -> None:
        """One promise of the tour. A broken one fails the whole run."""
        self.checks += 1
        if held:
            self.says("check", f"{self._paint('ok', '32')}  {what}")
            return
        self.failures.append(f"{what}: seen {seen}")
        self.says("check", f"{self._paint('BROKEN', '31;1')}  {what}: seen {seen}")
