"""Texts in a terminal's own character set, which is CP437 unless another was agreed (PA00P015, tag 14).

Nothing becomes a "?" or a box: a character that the set lacks is written by the table below, else by its
base letter (Unicode NFKD), else it is left out. Widths are counted after that."""

from __future__ import annotations

import unicodedata
from collections.abc import Sequence

DEFAULT = "cp437"

# Written down in docs/terminals.md. ASCII, so that it fits every set; used only where the set lacks the sign.
FALLBACK = {
    "€": "EUR",
    "₺": "TRY",
    "₴": "UAH",
    "₽": "RUB",
    "₹": "INR",
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
    "ŧ": "t",
    "Ŧ": "T",
    "ŋ": "ng",
    "Ŋ": "NG",
    "ı": "i",
    "ĸ": "k",
    "þ": "th",
    "Þ": "TH",
    "ð": "d",
    "Ð": "D",
    "ə": "e",
    "Ə": "E",
    "μ": "u",
    "‐": "-",
    "‑": "-",
    "‒": "-",
    "–": "-",
    "—": "-",
    "―": "-",
    "−": "-",
    "⁄": "/",
    "∕": "/",
    "’": "'",
    "‘": "'",
    "‚": "'",
    "‛": "'",
    "ʼ": "'",
    "′": "'",
    "‹": "<",
    "›": ">",
    "“": '"',
    "”": '"',
    "„": '"',
    "‟": '"',
    "″": '"',
    "•": "*",
    "×": "x",
    "≤": "<=",
    "≥": ">=",
    "≠": "<>",
    "≈": "~",
    "√": "ok",
    "✓": "ok",
    "✔": "ok",
    "←": "<-",
    "→": "->",
    "↑": "^",
    "↓": "v",
    "‰": "o/oo",
    "§": "Par.",
    "©": "(c)",
    "®": "(R)",
    "¦": "|",
    "¤": "*",
    "Ω": "Ohm",
}
# Unicode categories. What only steers, or stands for nothing, is left out; what moves on is a blank.
_BLANK = frozenset({"Cc", "Zs", "Zl", "Zp"})
_NOTHING = frozenset({"Cf", "Cs", "Co", "Cn"})


def displayable(text: str, charset: str = DEFAULT) -> str:
    """`text` as it can be encoded in `charset` ("cp437", "latin-1" or "utf-8")."""
    composed = unicodedata.normalize("NFC", text)
    return "".join(_character(c, charset) for c in composed)


def width(text: str) -> int:
    """Columns of a text that `displayable` made. Only UTF-8 knows signs of no width and of two."""
    return sum(_columns(c) for c in text)


def fit(lines: Sequence[str], columns: int, charset: str = DEFAULT) -> list[str]:
    """The lines in `charset`, none wider than `columns`: what a written-out sign made too long goes on
    below, after a blank where there is one."""
    fitted: list[str] = []
    for line in lines:
        rest = displayable(line, charset)
        while width(rest) > columns:
            end = _end(rest, columns)
            fitted.append(rest[:end].rstrip())
            rest = rest[end:].lstrip()
        fitted.append(rest)
    return fitted


def _end(text: str, columns: int) -> int:
    """Where to break a text that is too wide: behind the last blank that fits, or in a word that is
    wider than the line."""
    taken = end = 0
    while taken + _columns(text[end]) <= columns:
        taken += _columns(text[end])
        end += 1
    blank = text.rfind(" ", 0, end + 1)
    return blank if blank > 0 and text[:blank].strip() else max(1, end)


def _columns(character: str) -> int:
    if unicodedata.category(character) in ("Mn", "Me"):
        return 0
    return 2 if unicodedata.east_asian_width(character) in ("W", "F") else 1


def _character(character: str, charset: str) -> str:
    category = unicodedata.category(character)
    if category in _BLANK:
        return " "
    if category in _NOTHING:
        return ""
    if _fits(character, charset):
        return character
    if character in FALLBACK:
        return FALLBACK[character]
    parts = unicodedata.normalize("NFKD", character)
    if parts == character:
        return ""
    return "".join(_character(part, charset) for part in parts)


def _fits(character: str, charset: str) -> bool:
    try:
        character.encode(charset)
    except UnicodeEncodeError:
        return False
    return True
