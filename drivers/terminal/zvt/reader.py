"""Reading the data of one APDU by the tables: parts, bitmaps, TLV. Card data ends here.

Of a PAN the last four digits are kept when the terminal sends them; tracks and expiry leave only the fact
that they were there (`dropped`)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from drivers.terminal.zvt.apdu import Apdu, Item, Tlv
from drivers.terminal.zvt.messages import (
    NEWER_BYTES,
    SYSTEM,
    SYSTEM_INFORMATION,
    SYSTEM_NEWER,
    Message,
    cut,
    is_container,
)
from drivers.terminal.zvt.primitives import CHARSET_TAGS, Malformed, Value
from drivers.terminal.zvt.tables import BMPS, BY_NAME, TLV_CARD, TLV_CONTAINERS, Bmp, Card, Form

TLV_DEPTH_MAX = 8  # real messages nest three deep
TAG_BYTES_MAX = 4  # the longest tag met has three; a longer one is garbage read as a tag
LAST_DIGITS = 4
# What a terminal sends for an expiry date that it does not tell.
MASKED_EXPIRY = b"\x99\x99"
_CHARSETS = frozenset(bytes.fromhex(value) for value in CHARSET_TAGS)


class TooDeep(Malformed):
    """Tags nested deeper than any message has them."""


class Reader:
    """Reads the data of one APDU and remembers what card data it met. `head` is where the data
    begins, for the positions in errors."""

    def __init__(self, command: str, data: bytes, head: int, charset: str) -> None:
        self.command, self.data, self._head, self._charset = command, data, head, charset
        self._dropped: list[str] = []
        self._last4: str | None = None

    def structured(self, message: Message) -> Apdu:
        parts: dict[str, Value] = {}
        at = 0
        for part in message.parts:
            rest = self.data[at:]
            if len(rest) < part.size or not part.when(rest, parts):
                continue
            parts[part.name] = part.show(rest[: part.size])
            at += part.size
        if message.raw is None:
            return self._apdu(parts, at)
        end = self._tail(at) if message.tail else len(self.data)
        return replace(self._apdu(parts, end), raw=self.data[at:end])

    def _tail(self, at: int) -> int:
        """Where the text ends: before a container that fills the rest. 06 is no character of a text."""
        for place in range(at, len(self.data)):
            if self.data[place] == BY_NAME["tlv"].number and is_container(self.data, place):
                return place
        return len(self.data)

    def system_information(self) -> Apdu:
        """0F A1: text by position."""
        apdu = self.structured(SYSTEM_INFORMATION)
        return replace(apdu, parts=_system_information(apdu.raw))

    def unstructured(self) -> Apdu:
        """An answer, or a command nobody knows: bitmaps where they can be read, else raw."""
        try:
            apdu = self._apdu({}, 0)
        except Malformed:
            return Apdu(self.command, raw=b"" if self._dropped else self.data)
        if apdu.rest and not apdu.dropped:
            return Apdu(self.command, raw=self.data)
        return apdu

    def status_completion(self) -> Apdu:
        """05 01: an optional software version with its length in three digits, one status byte, then
        bitmaps. A status of F0 and above looks like the first digit."""
        parts: dict[str, Value] = {}
        at = 0
        if self.data[0] >= 0xF0:
            digits = self.data[:3]
            length = _number(digits)
            whole = all(byte >= 0xF0 for byte in digits) and len(digits) == 3
            if whole and length is not None and 3 + length < len(self.data):
                at = 3 + length
                parts["sw_version"] = self.data[3:at].decode("latin-1")
        parts["terminal_status"] = f"{self.data[at]:02x}"
        return self._apdu(parts, at + 1)

    def _apdu(self, parts: Mapping[str, Value], at: int) -> Apdu:
        items, rest = self._items(at)
        apdu = Apdu(self.command, parts, items, b"", rest, tuple(self._dropped), self._last4)
        named = [tag.value.hex() for tag in apdu.tlv if tag.tag == "14" and tag.value in _CHARSETS]
        return replace(apdu, charset=CHARSET_TAGS[named[0]] if named else self._charset)

    # --- bitmaps ----------------------------------------------------------------------------------

    def _items(self, at: int) -> tuple[tuple[Item, ...], bytes]:
        """Bitmaps until the end, or until one nobody knows: then what was read is kept."""
        items: list[Item] = []
        while at < len(self.data):
            bmp = BMPS.get(self.data[at])
            if bmp is None:
                return tuple(items), self.data[at:]
            start, end = self._span(bmp, at + 1)
            value = self.data[start:end]
            if bmp.form is Form.TLV:
                items.append(Item(bmp.number, self._tags(value, start, 0)))
            elif bmp.card is None or not self._drop(bmp.card, value):
                self._check(bmp, value, start)
                items.append(Item(bmp.number, value))
            at = end
        return tuple(items), b""

    def _check(self, bmp: Bmp, value: bytes, start: int) -> None:
        try:
            bmp.show(value)
        except Malformed as error:
            raise Malformed(f"{bmp.name} is {error.why}", self._head + start) from None

    def _span(self, bmp: Bmp, at: int) -> tuple[int, int]:
        """Where the value begins and ends."""
        if bmp.form is Form.FIXED:
            length, start = bmp.size, at
        elif bmp.form is Form.TLV:
            length, start = self._tlv_length(self.data, at, 0)
        else:
            count = 2 if bmp.form is Form.LL else 3
            number = _number(self.data[at : at + count])
            if number is None or at + count > len(self.data):
                raise Malformed(f"{bmp.name} has a length that is no number", self._head + at)
            length, start = number, at + count
        if start + length > len(self.data):
            raise Malformed(f"{bmp.name} is cut off", self._head + start)
        return start, start + length

    def _drop(self, card: Card, value: bytes) -> bool:
        """Whether this is card data. What the terminal has masked itself is none."""
        if card is Card.PAN:
            self._last4 = _last_digits(value) or self._last4
            shown = sum(1 for nibble in value.hex() if nibble.isdecimal())
            is_data = shown > LAST_DIGITS
        elif card is Card.EXPIRY:
            is_data = value != MASKED_EXPIRY
        else:
            is_data = bool(value)
        if is_data and card.value not in self._dropped:
            self._dropped.append(card.value)
        return is_data

    # --- TLV --------------------------------------------------------------------------------------

    def _tags(self, data: bytes, offset: int, depth: int) -> tuple[Tlv, ...]:
        if depth > TLV_DEPTH_MAX:
            raise TooDeep("TLV containers nested too deep", self._head + offset)
        tags: list[Tlv] = []
        at = 0
        while at < len(data):
            tag, at = self._tag(data, at, offset)
            length, at = self._tlv_length(data, at, offset)
            if at + length > len(data):
                raise Malformed(f"TLV tag {tag} is cut off", self._head + offset + at)
            value = data[at : at + length]
            card = TLV_CARD.get(tag)
            if card is None or not self._drop(card, value):
                tags.append(Tlv(tag, self._tag_value(tag, value, offset + at, depth)))
            at += length
        return tuple(tags)

    def _tag(self, data: bytes, at: int, offset: int) -> tuple[str, int]:
        """Low five bits all set: more bytes, each but the last with its top bit set."""
        start = at
        at += 1
        if data[start] & 0x1F == 0x1F:
            while at < len(data) and data[at] & 0x80:
                at += 1
            at += 1
        if at - start > TAG_BYTES_MAX or at > len(data):
            raise Malformed("a TLV tag that does not end", self._head + offset + start)
        return data[start:at].hex(), at

    def _tag_value(
        self, tag: str, value: bytes, offset: int, depth: int
    ) -> bytes | tuple[Tlv, ...]:
        constructed = int(tag[:2], 16) & 0x20
        if not constructed:
            return value
        try:
            return self._tags(value, offset, depth + 1)
        except TooDeep:
            raise
        except Malformed:
            if tag in TLV_CONTAINERS:
                raise
            return value

    def _tlv_length(self, data: bytes, at: int, offset: int) -> tuple[int, int]:
        """The length that stands at `at`, and where the value begins."""
        if at >= len(data):
            raise Malformed("a TLV length is missing", self._head + offset + at)
        first = data[at]
        if first < 0x80:
            return first, at + 1
        size = {0x81: 1, 0x82: 2}.get(first)
        if size is None or at + 1 + size > len(data):
            raise Malformed("a TLV length is reserved or cut off", self._head + offset + at)
        return int.from_bytes(data[at + 1 : at + 1 + size], "big"), at + 1 + size


def _number(digits: bytes) -> int | None:
    """The digits of an LL or LLL length: the low nibbles, whatever the high ones are."""
    if not digits or any(byte & 0x0F > 9 for byte in digits):
        return None
    return int("".join(str(byte & 0x0F) for byte in digits))


def _last_digits(pan: bytes) -> str | None:
    tail = pan.hex().rstrip("f")[-LAST_DIGITS:]
    return tail if len(tail) == LAST_DIGITS and tail.isdecimal() else None


def _system_information(data: bytes) -> dict[str, Value]:
    """Feig's answer to 0F A1: text by position."""
    fields, left = cut(SYSTEM_NEWER if len(data) in NEWER_BYTES else SYSTEM, data)
    if left:
        fields["temperature"] = left
    return {name: value.decode("latin-1") for name, value in fields.items()}
