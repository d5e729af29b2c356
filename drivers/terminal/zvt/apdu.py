"""What a ZVT message is once it was read: `Apdu`, its bitmaps and its TLV tags.

None of them tells its content in its repr: a repr ends up in logs and tracebacks, and a message nobody
knows may hold anything."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from drivers.terminal.zvt.messages import MESSAGES
from drivers.terminal.zvt.primitives import CHARSET, Value, shown
from drivers.terminal.zvt.tables import BY_NAME, TLV_TEXT

ANSWER_NAMES = {
    "8000": "Positive Answer",
    "8400": "Positive Answer",
    "849c": "Please Wait",
    "849d": "Partial Issue of Goods",
    "8483": "Unknown Command",
}


@dataclass(frozen=True, slots=True)
class Tlv:
    """One tag: raw bytes, or its children."""

    tag: str
    value: bytes | tuple[Tlv, ...] = field(repr=False)

    def show(self, charset: str = CHARSET) -> Value:
        """A primitive tag as text or hex."""
        assert isinstance(self.value, bytes)
        known = TLV_TEXT.get(self.tag)
        return self.value.hex() if known is None else shown(known[0], self.value, charset)


@dataclass(frozen=True, slots=True)
class Item:
    """One bitmap: raw bytes, or the tags of a TLV container."""

    number: int
    value: bytes | tuple[Tlv, ...] = field(repr=False)


@dataclass(frozen=True, slots=True)
class Apdu:
    """A message. `parts` are the positional values by name, `raw` what has no structure, `items` the
    bitmaps in their order. `rest` is what stands behind a bitmap nobody knows. `dropped` names the
    card data that was there; such an Apdu does not encode to the bytes it came from. `charset` is that
    of its texts."""

    command: str
    parts: Mapping[str, Value] = field(default_factory=dict, repr=False)
    items: tuple[Item, ...] = field(default=(), repr=False)
    raw: bytes = field(default=b"", repr=False)
    rest: bytes = field(default=b"", repr=False)
    dropped: tuple[str, ...] = ()
    card_last4: str | None = field(default=None, repr=False)
    charset: str = field(default=CHARSET, repr=False)

    @property
    def name(self) -> str:
        message = MESSAGES.get(self.command)
        return message.name if message is not None else _answer_name(self.command)

    def get(self, name: str) -> Value | None:
        """The positional part called `name`, else the last bitmap of that name."""
        if name in self.parts:
            return self.parts[name]
        bmp = BY_NAME.get(name)
        for item in reversed(self.items):
            if bmp is not None and item.number == bmp.number and isinstance(item.value, bytes):
                return shown(bmp.show, item.value, self.charset)
        return None

    def integer(self, name: str) -> int | None:
        value = self.get(name)
        return value if isinstance(value, int) else None

    def text(self, name: str) -> str | None:
        value = self.get(name)
        return value if isinstance(value, str) else None

    @property
    def tlv(self) -> tuple[Tlv, ...]:
        """The tags of the container, all containers together."""
        return tuple(
            tag for item in self.items if isinstance(item.value, tuple) for tag in item.value
        )

    def find(self, tag: str) -> list[Tlv]:
        """Every tag of that name, however deep."""
        return [t for t in walk(self.tlv) if t.tag == tag]

    def values(self, tag: str) -> list[bytes]:
        """The content of every primitive tag of that name."""
        return [t.value for t in self.find(tag) if isinstance(t.value, bytes)]

    def tag_text(self, tag: str) -> str | None:
        """The first tag of that name as text or hex."""
        for found in self.find(tag):
            if isinstance(found.value, bytes):
                return str(found.show(self.charset))
        return None


def walk(tags: Sequence[Tlv]) -> list[Tlv]:
    """All tags, parents before their children."""
    found: list[Tlv] = []
    for tag in tags:
        found.append(tag)
        if isinstance(tag.value, tuple):
            found += walk(tag.value)
    return found


def _answer_name(command: str) -> str:
    if command in ANSWER_NAMES:
        return ANSWER_NAMES[command]
    if command.startswith("84"):
        return f"Negative Answer {command[2:].upper()}"
    return "Unknown Command"
