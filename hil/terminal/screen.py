"""The terminal's display: what the driver sees."""

from __future__ import annotations

import asyncio

from hil.terminal.texts import CHARSETS

LINES = 8  # 06 E0 has eight text fields
DEMO_LINES = 4
LARGE_FONT = "\x14"


def text_of(data: bytes, charset: int) -> str:
    """Text as the terminal shows it; bytes outside the character set become replacement marks."""
    text = data.decode(CHARSETS.get(charset, "cp437"), errors="replace")
    return text.removeprefix(LARGE_FONT)


class Screen:
    """Shows the last text; a text with a time falls back to the one below it, the ECR's own text
    or the welcome."""

    def __init__(self) -> None:
        self._base = ["Welcome", "", "", ""]
        self._over: list[str] | None = None
        self._until: float | None = None

    @property
    def lines(self) -> list[str]:
        lines = self._base
        if self._over is not None:
            if self._until is None or asyncio.get_running_loop().time() < self._until:
                lines = self._over
            else:
                self._over = None
        return lines + [""] * max(0, DEMO_LINES - len(lines))

    def show(self, lines: list[str], hold_s: float = 0.0) -> None:
        """`hold_s` 0: until replaced."""
        lines = lines[:LINES]
        if hold_s > 0:
            self._over = lines
            self._until = asyncio.get_running_loop().time() + hold_s
        else:
            self._base, self._over = lines, None

    def busy(self, *lines: str) -> None:
        """A text of the terminal's own dialogue, over whatever was there, until `done`."""
        self._over, self._until = list(lines), None

    def done(self, lines: list[str], hold_s: float) -> None:
        """The dialogue's last word; then the text below it comes back."""
        if lines:
            self._over = lines
            self._until = asyncio.get_running_loop().time() + hold_s
        else:
            self._over = None

    def blank(self) -> None:
        self._base, self._over = ["", "", "", ""], None

    def welcome(self) -> None:
        self._base, self._over = ["Welcome", "", "", ""], None
