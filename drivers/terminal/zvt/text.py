"""Text for the terminal's display: its character set is CP437 (PA00P015), and nothing becomes a "?"."""

from __future__ import annotations

import unicodedata

from drivers.terminal.zvt.primitives import CHARSET

# What NFKD does not take apart, and signs that CP437 lacks.
FALLBACK = {
    "€": "EUR",
    "ẞ": "SS",
    "ø": "oe",
    "Ø": "OE",
    "œ": "oe",
    "Œ": "OE",
    "ł": "l",
    "Ł": "L",
    "đ": "d",
    "Đ": "D",
    "ħ": "h",
    "Ħ": "H",
    "ı": "i",
    "þ": "th",
    "Þ": "TH",
    "ð": "d",
    "Ð": "D",
    "–": "-",
    "—": "-",
    "’": "'",
    "‘": "'",
    "“": '"',
    "”": '"',
    "„": '"',
    "…": "...",
    "×": "x",
    "\u00a0": " ",
    "\u202f": " ",
}


def displayable(text: str) -> str:
    """`text` with every character the terminal can show; others by the table, by their base letter,
    or left out."""
    return "".join(_character(c) for c in text)


def _character(character: str) -> str:
    if character in FALLBACK:
        return FALLBACK[character]
    if character < " ":
        return " "
    if _fits(character):
        return character
    return "".join(c for c in unicodedata.normalize("NFKD", character) if _fits(c))


def _fits(character: str) -> bool:
    try:
        character.encode(CHARSET)
    except UnicodeEncodeError:
        return False
    return True
