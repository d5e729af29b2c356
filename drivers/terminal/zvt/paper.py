"""What the terminal prints through the ECR, as lines: 06 D1 line by line, 06 D3 in blocks (PA00P015).

The lines of 06 D1 are collected until the last one of their receipt."""

from __future__ import annotations

from drivers.terminal.zvt.apdu import Apdu, Tlv
from drivers.terminal.zvt.mask import mask_text
from drivers.terminal.zvt.outcomes import Printed

LAST, CENTRED, INDENT, FEED = 0x80, 0x40, 0x0F, 0xFF
# The longest print-out that was met has 118 lines; more than this at once is handed out in parts.
LINES_MAX = 400
FEEDS_MAX = 10  # nobody tears off here


class Paper:
    def __init__(self) -> None:
        self._lines: list[str] = []
        self._kind: int | None = None

    def take(self, apdu: Apdu) -> list[Printed]:
        """06 D1 or 06 D3; what is complete by it."""
        told = apdu.values("1f07")
        kind = told[0][0] if told and told[0] else None
        if apdu.command == "06d1":
            return self._line(apdu, kind)
        before = self.rest()
        self._kind = kind
        printed = []
        for item in _entries(apdu):
            last, lines = _entry(item, apdu.charset)
            self._lines += lines
            if last or len(self._lines) >= LINES_MAX:
                printed += self._cut(last)
        return [*before, *printed, *self.rest()]

    def _line(self, apdu: Apdu, kind: int | None) -> list[Printed]:
        if kind is not None:
            self._kind = kind
        attribute = int(apdu.text("attribute") or "00", 16)
        if attribute == FEED:
            self._lines += [""] * min(apdu.raw[0] if apdu.raw else 1, FEEDS_MAX)
        else:
            self._lines += _lines(apdu.raw, attribute, apdu.charset)
        last = attribute > LAST and attribute != FEED
        return self._cut(last) if last or len(self._lines) >= LINES_MAX else []

    def _cut(self, last: bool) -> list[Printed]:
        printed = Printed(self._kind, tuple(self._lines), last)
        self._lines.clear()
        if last:
            self._kind = None
        return [printed]

    def rest(self) -> list[Printed]:
        """What was begun and not finished."""
        return self._cut(False) if self._lines else []


def _entries(apdu: Apdu) -> list[tuple[int, Tlv]]:
    """The texts of a block, each with the attribute that stands before it, and attributes alone."""
    found: list[tuple[int, Tlv]] = []
    for text in apdu.find("25"):
        attribute = 0
        for item in text.value:
            if isinstance(item, Tlv) and item.tag == "09" and item.value:
                attribute = item.value[0] if isinstance(item.value, bytes) else 0
            if isinstance(item, Tlv) and item.tag in ("07", "09"):
                found.append((attribute, item))
    return found


def _entry(entry: tuple[int, Tlv], charset: str) -> tuple[bool, list[str]]:
    """Whether the receipt ends here, and the lines."""
    attribute, item = entry
    if item.tag == "09" or not isinstance(item.value, bytes):
        return attribute >= LAST and attribute != FEED, []
    return False, _lines(item.value, attribute, charset)


def _lines(raw: bytes, attribute: int, charset: str) -> list[str]:
    """Text as it stands on paper: moved in by the low nibble, control characters as blanks."""
    indent = 0 if attribute & CENTRED else attribute & INDENT
    return [" " * indent + line for line in text_lines(raw, charset)]


def text_lines(raw: bytes, charset: str) -> list[str]:
    """A text of the terminal for people, numbers like those of cards masked. One line at least."""
    text = mask_text(raw.decode(charset, "replace"))
    return [
        "".join(c if c.isprintable() else " " for c in line) for line in text.splitlines() or [""]
    ]
