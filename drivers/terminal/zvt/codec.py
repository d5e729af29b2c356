"""One codec for all ZVT messages: bytes to `Apdu` and back, by the tables.

Card data never enters an Apdu. Of a PAN the last four digits are kept when the terminal sends them; tracks
and expiry leave only the fact that they were there (`dropped`)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from drivers.terminal.zvt.frames import apdu_length
from drivers.terminal.zvt.primitives import Malformed, Value
from drivers.terminal.zvt.tables import (
    BMPS,
    BY_NAME,
    MESSAGES,
    TLV_RAW,
    TLV_REPEATED,
    TLV_TEXT,
    Bmp,
    Card,
    Form,
    Message,
)

TLV_DEPTH_MAX = 8  # real messages nest three deep
LAST_DIGITS = 4
# What a terminal sends for an expiry date that it does not tell.
MASKED_EXPIRY = b"\x99\x99"
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
    value: bytes | tuple[Tlv, ...]


@dataclass(frozen=True, slots=True)
class Item:
    """One bitmap: raw bytes, or the tags of a TLV container."""

    number: int
    value: bytes | tuple[Tlv, ...]


@dataclass(frozen=True, slots=True)
class Apdu:
    """A message. `parts` are the positional values by name, `items` the bitmaps in their order.
    `rest` is what stands behind a bitmap nobody knows. `dropped` names the card data that was there;
    such an Apdu does not encode to the bytes it came from."""

    command: str
    parts: Mapping[str, Value] = field(default_factory=dict)
    items: tuple[Item, ...] = ()
    raw: bytes = b""
    rest: bytes = field(default=b"", repr=False)
    dropped: tuple[str, ...] = ()
    card_last4: str | None = None

    @property
    def name(self) -> str:
        message = MESSAGES.get(self.command)
        return message.name if message is not None else _answer_name(self.command)

    def get(self, name: str) -> Value | None:
        """The last bitmap or positional part called `name`."""
        if name in self.parts:
            return self.parts[name]
        bmp = BY_NAME.get(name)
        for item in reversed(self.items):
            if bmp is not None and item.number == bmp.number and isinstance(item.value, bytes):
                return bmp.show(item.value)
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

    def tag_text(self, tag: str) -> str | None:
        """The first tag of that name as text or hex."""
        for found in self.find(tag):
            if isinstance(found.value, bytes):
                return str(_tlv_show(found))
        return None


def walk(tags: Sequence[Tlv]) -> list[Tlv]:
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


# --- decoding -------------------------------------------------------------------------------------


def decode(apdu: bytes, after: str | None = None) -> Apdu:
    """An APDU as it came from the line. `after` is the command that a completion answers: what stands
    in it depends on that. Raises Malformed."""
    if apdu_length(apdu) != len(apdu):
        raise Malformed(f"the length says {apdu_length(apdu)} bytes, there are {len(apdu)}", 2)
    command = apdu[:2].hex()
    head = 5 if apdu[2] == 0xFF else 3
    data = apdu[head:]
    if command == "060f" and after is not None:
        special = _completion(data, after)
        if special is not None:
            return special
    message = MESSAGES.get(command)
    if message is None:
        return _unstructured(command, data)
    return _structured(command, message, data, head)


def _unstructured(command: str, data: bytes) -> Apdu:
    """An answer, or a command nobody knows: bitmaps where they can be read, else raw."""
    try:
        items, rest, dropped, last4 = _items(data, 3)
    except Malformed:
        items, rest, dropped, last4 = (), b"", (), None
        return Apdu(command, raw=data)
    if rest:
        return Apdu(command, raw=data)
    return Apdu(command, {}, items, b"", b"", dropped, last4)


def _structured(command: str, message: Message, data: bytes, head: int) -> Apdu:
    parts: dict[str, Value] = {}
    at = 0
    for part in message.parts:
        rest = data[at:]
        if len(rest) < part.size or not part.when(rest, parts):
            continue
        parts[part.name] = part.show(rest[: part.size])
        at += part.size
    if message.raw is not None:
        return Apdu(command, parts, raw=data[at:])
    items, rest, dropped, last4 = _items(data[at:], head + at)
    return Apdu(command, parts, items, b"", rest, dropped, last4)


def _completion(data: bytes, after: str) -> Apdu | None:
    """Completions with positions instead of bitmaps (PA00P015 05 01; Feig 0F A1)."""
    if after == "0501" and data:
        return _status_completion(data)
    if after == "0fa1" and data:
        return Apdu("060f", _system_information(data), raw=data)
    return None


def _status_completion(data: bytes) -> Apdu:
    parts: dict[str, Value] = {}
    at = 0
    if data[0] >= 0xF0:
        length, at = _length_digits(data, 0, 3)
        if at + length > len(data):
            raise Malformed("the software version is cut off", at)
        parts["sw_version"] = data[at : at + length].decode("latin-1")
        at += length
    if at < len(data):
        parts["terminal_status"] = f"{data[at]:02x}"
        at += 1
    items, rest, dropped, last4 = _items(data[at:], 3 + at)
    return Apdu("060f", parts, items, b"", rest, dropped, last4)


def _system_information(data: bytes) -> dict[str, Value]:
    text = data.decode("latin-1")
    found: dict[str, Value] = {"device_id": text[0:8], "sw_version": text[8:25], "tid": text[25:33]}
    if len(text) > 33:
        found["temperature"] = text[-4:] if len(text) in (37, 41) else text[33:]
    return found


_Items = tuple[tuple[Item, ...], bytes, tuple[str, ...], str | None]


def _items(data: bytes, offset: int) -> _Items:
    """Bitmaps until the end, or until one nobody knows: then what was read is kept."""
    items: list[Item] = []
    dropped: list[str] = []
    last4: str | None = None
    at = 0
    while at < len(data):
        bmp = BMPS.get(data[at])
        if bmp is None:
            return tuple(items), data[at:], tuple(dropped), last4
        length, start = _length(bmp, data, at + 1, offset)
        end = start + length
        if end > len(data):
            raise Malformed(f"{bmp.name} is cut off", offset + start)
        value = data[start:end]
        if bmp.card is not None:
            digits = _last_digits(value) if bmp.card is Card.PAN else None
            last4 = digits or last4
            if not _is_card_data(bmp.card, value):
                items.append(Item(bmp.number, value))  # masked by the terminal: nothing to hide
            elif bmp.card.value not in dropped:
                dropped.append(bmp.card.value)
        elif bmp.form is Form.TLV:
            items.append(Item(bmp.number, _tags(value, offset + start, 0)))
        else:
            bmp.show(value)
            items.append(Item(bmp.number, value))
        at = end
    return tuple(items), b"", tuple(dropped), last4


def _is_card_data(card: Card, value: bytes) -> bool:
    """Whether there was anything to drop: masked fields are not card data."""
    if card is Card.EXPIRY:
        return value != MASKED_EXPIRY
    if card is Card.PAN:
        shown = sum(1 for nibble in value.hex() if nibble.isdecimal())
        return shown > LAST_DIGITS
    return bool(value)


def _last_digits(pan: bytes) -> str | None:
    nibbles = pan.hex().rstrip("f")
    tail = nibbles[-LAST_DIGITS:]
    return tail if len(tail) == LAST_DIGITS and tail.isdecimal() else None


def _length_digits(data: bytes, at: int, count: int) -> tuple[int, int]:
    digits = data[at : at + count]
    if len(digits) < count or any(byte & 0x0F > 9 for byte in digits):
        raise Malformed("a length that is no number", at)
    return int("".join(str(byte & 0x0F) for byte in digits)), at + count


def _length(bmp: Bmp, data: bytes, at: int, offset: int) -> tuple[int, int]:
    if bmp.form is Form.FIXED:
        return bmp.size, at
    if bmp.form is Form.TLV:
        return _tlv_length(data, at, offset)
    try:
        return _length_digits(data, at, 2 if bmp.form is Form.LL else 3)
    except Malformed:
        raise Malformed(f"{bmp.name} has a length that is no number", offset + at) from None


def _tlv_length(data: bytes, at: int, offset: int) -> tuple[int, int]:
    if at >= len(data):
        raise Malformed("a TLV length is missing", offset + at)
    first = data[at]
    if first < 0x80:
        return first, at + 1
    size = {0x81: 1, 0x82: 2}.get(first)
    if size is None or at + 1 + size > len(data):
        raise Malformed(f"TLV length {first:02x} is reserved or cut off", offset + at)
    return int.from_bytes(data[at + 1 : at + 1 + size], "big"), at + 1 + size


def _tags(data: bytes, offset: int, depth: int) -> tuple[Tlv, ...]:
    if depth > TLV_DEPTH_MAX:
        raise Malformed("TLV containers nested too deep", offset)
    tags: list[Tlv] = []
    at = 0
    while at < len(data):
        first, start = data[at], at
        at += 1
        if first & 0x1F == 0x1F:
            while at < len(data) and data[at] & 0x80:
                at += 1
            at += 1
        tag = data[start:at].hex()
        length, at = _tlv_length(data, at, offset)
        if at + length > len(data):
            raise Malformed(f"TLV tag {tag} is cut off", offset + at)
        value = data[at : at + length]
        if first & 0x20 and tag not in TLV_RAW:
            tags.append(Tlv(tag, _tags(value, offset + at, depth + 1)))
        else:
            tags.append(Tlv(tag, value))
        at += length
    return tuple(tags)


# --- encoding -------------------------------------------------------------------------------------


def encode(apdu: Apdu) -> bytes:
    """The bytes of an APDU. Raises ValueError for one whose card data was dropped."""
    if apdu.dropped or apdu.rest:
        raise ValueError(f"{apdu.command}: what was not kept cannot be encoded")
    data = b"".join((*_encode_parts(apdu), *(_encode_item(item) for item in apdu.items)))
    data += b"" if apdu.command == "060f" and "device_id" in apdu.parts else apdu.raw
    if len(data) < 0xFF:
        return bytes.fromhex(apdu.command) + bytes([len(data)]) + data
    return bytes.fromhex(apdu.command) + b"\xff" + len(data).to_bytes(2, "little") + data


def _encode_parts(apdu: Apdu) -> list[bytes]:
    if apdu.command == "060f":
        if "device_id" in apdu.parts:
            return [apdu.raw]
        out = []
        if "sw_version" in apdu.parts:
            version = str(apdu.parts["sw_version"]).encode("latin-1")
            out.append(_digits(len(version), 3) + version)
        if "terminal_status" in apdu.parts:
            out.append(bytes.fromhex(str(apdu.parts["terminal_status"])))
        return out
    message = MESSAGES.get(apdu.command, Message(""))
    return [
        part.pack(apdu.parts[part.name], part.size)
        for part in message.parts
        if part.name in apdu.parts
    ]


def _digits(length: int, count: int) -> bytes:
    # The high nibble is always F: Feig's cVEND refuses 0x.
    return bytes(0xF0 | int(digit) for digit in f"{length:0{count}d}")


def _encode_item(item: Item) -> bytes:
    bmp = BMPS[item.number]
    if isinstance(item.value, tuple):
        body = b"".join(encode_tag(tag) for tag in item.value)
        return bytes([item.number]) + _encode_tlv_length(len(body)) + body
    if bmp.form is Form.FIXED:
        return bytes([item.number]) + item.value
    count = 2 if bmp.form is Form.LL else 3
    return bytes([item.number]) + _digits(len(item.value), count) + item.value


def _encode_tlv_length(length: int) -> bytes:
    if length < 0x80:
        return bytes([length])
    if length < 0x100:
        return b"\x81" + bytes([length])
    return b"\x82" + length.to_bytes(2, "big")


def encode_tag(tag: Tlv) -> bytes:
    body = (
        tag.value
        if isinstance(tag.value, bytes)
        else b"".join(encode_tag(child) for child in tag.value)
    )
    return bytes.fromhex(tag.tag) + _encode_tlv_length(len(body)) + body


def build(command: str, values: Mapping[str, Value], tlv: Sequence[Tlv] | None = None) -> Apdu:
    """A message from named values: positional parts by their name, all others as bitmaps in the order
    given. `tlv` comes last; an empty one allows the terminal to answer with TLV."""
    message = MESSAGES[command]
    positions = {part.name for part in message.parts}
    items = []
    for name, value in values.items():
        if name not in positions:
            bmp = BY_NAME[name]
            items.append(Item(bmp.number, bmp.pack(value, bmp.size)))
    if tlv is not None:
        items.append(Item(BY_NAME["tlv"].number, tuple(tlv)))
    parts = {name: value for name, value in values.items() if name in positions}
    return Apdu(command, parts, tuple(items))


def tag(name: str, *children: Tlv, hex_value: str | None = None, text: str | None = None) -> Tlv:
    """A TLV tag with children, a hex value, or text."""
    if text is not None:
        pack = TLV_TEXT[name][1]
        return Tlv(name, pack(text, 0))
    return Tlv(name, children if hex_value is None else bytes.fromhex(hex_value))


def _tlv_show(tag: Tlv) -> Value:
    assert isinstance(tag.value, bytes)
    show = TLV_TEXT.get(tag.tag)
    return tag.value.hex() if show is None else show[0](tag.value)


def tlv_json(tags: Sequence[Tlv]) -> dict[str, object]:
    """A container for people: tags to values, tags that repeat to lists."""
    found: dict[str, object] = {}
    for item in tags:
        value = _tlv_show(item) if isinstance(item.value, bytes) else tlv_json(item.value)
        container_list = item.tag in TLV_REPEATED and isinstance(item.value, tuple)
        if item.tag in found:
            known = found[item.tag]
            found[item.tag] = [*known, value] if isinstance(known, list) else [known, value]
        else:
            found[item.tag] = [value] if container_list else value
    return found
