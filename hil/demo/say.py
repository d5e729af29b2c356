"""How the tour speaks: numbered steps, and who sees what."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable

WHO_WIDTH = 10


class Voice:
    """Prints at once. Colour only on a terminal, and never where NO_COLOR is set."""

    def __init__(self) -> None:
        self._step = 0
        self._colour = sys.stdout.isatty() and "NO_COLOR" not in os.environ
        self.failures: list[str] = []

    def _paint(self, text: str, code: str) -> str:
        return f"\x1b[{code}m{text}\x1b[0m" if self._colour else text

    def line(self, text: str = "") -> None:
        print(text, flush=True)

    def title(self, text: str) -> None:
        self.line(self._paint(text, "1"))

    def step(self, text: str) -> None:
        self._step += 1
        self.line()
        self.title(f"{self._step:2d}  {text}")

    def says(self, who: str, text: str) -> None:
        self.line(f"    {who:<{WHO_WIDTH}} {text}")

    def box(self, who: str, rows: Iterable[str]) -> None:
        """A display, drawn as one."""
        lines = [row.rstrip() for row in rows] or [""]
        width = max(20, *(len(row) for row in lines))
        edge = "+" + "-" * (width + 2) + "+"
        self.says(who, edge)
        for row in lines:
            self.says("", f"| {row:<{width}} |")
        self.says("", edge)

    def check(self, what: str, held: bool, seen: object = "") -> None:
        """One promise of the tour. A broken one fails the whole run."""
        if held:
            self.says("check", f"{self._paint('ok', '32')}  {what}")
            return
        self.failures.append(what)
        self.says("check", f"{self._paint('BROKEN', '31;1')}  {what}: seen {seen}")
