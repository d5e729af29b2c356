"""Lines of a fixed width. Nothing is ever cut: what does not fit goes on to the next line."""

from __future__ import annotations

import re

# Keeps two words on one line, "50.00 EUR"; a plain space in what comes out.
TIE = "\u00a0"
_BLANKS = re.compile(r"[^\S\u00a0]+")  # every blank but that one


def wrap(text: str, width: int) -> list[str]:
    """Words over lines; a word longer than a line is broken at its end."""
    lines: list[str] = []
    line = ""
    for word in _BLANKS.split(text):
        rest = word
        while rest:
            gap = 1 if line else 0
            if len(line) + gap + len(rest) <= width:
                line += " " * gap + rest
                rest = ""
            elif line:
                lines.append(line)
                line = ""
            else:
                lines.append(rest[:width])
                rest = rest[width:]
    if line:
        lines.append(line)
    return [line.replace(TIE, " ") for line in lines]


def centre(text: str, width: int) -> list[str]:
    return [line.center(width).rstrip() for line in wrap(text, width)]


def pair(left: str, right: str, width: int) -> list[str]:
    """`left`, and `right` at the right edge. When they do not fit side by side, the words of `right`
    go on below; each in one piece where a line can hold it."""
    if len(left) + 1 + len(right) <= width:
        return [f"{left}{right.rjust(width - len(left))}".replace(TIE, " ")]
    words = _BLANKS.split(right)
    if len(left) + 1 + len(words[0]) <= width:
        first = words.pop(0)
        while words and len(left) + 2 + len(first) + len(words[0]) <= width:
            first = f"{first} {words.pop(0)}"
        rest = wrap(" ".join(words), width)
        return [left + first.replace(TIE, " ").rjust(width - len(left))] + [
            line.rjust(width) for line in rest
        ]
    return wrap(left, width) + [line.rjust(width) for line in wrap(right, width)]


def rule(width: int) -> str:
    return "-" * width
