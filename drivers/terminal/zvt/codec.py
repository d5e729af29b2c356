"""One codec for all ZVT messages: bytes to `Apdu` and back, by the tables.

Card data never enters an Apdu (reader.py)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from drivers.terminal.zvt.apdu import Apdu, Item, Tlv
from drivers.terminal.zvt.messages import ANSWERS_TO, MESSAGES, Message
from drivers.terminal.zvt.primitives import CHARSET, Malformed, Value, packed
from drivers.terminal.zvt.reader import Reader
from drivers.terminal.zvt.tables import BMPS, BY_NAME, TLV_TEXT, Bmp, Form

EXTENDED = 0xFF  # this length byte announces two more
SIZE_MAX = 0xFFFF


# --- decoding -------------------------------------------------------------------------------------


def apdu_length(data: bytes) -> int | None:
    """The whole length of the APDU that `data` begins; None while that cannot be told."""
    if len(data) < 3:
        return None
    if data[2] != 0xFF:
        return 3 + data[2]
    return None if len(data) < 5 else 5 + int.from_bytes(data[3:5], "little")


def decode(apdu: bytes, after: str | None = None, charset: str = CHARSET) -> Apdu:
    """An APDU as it came from the line. `after` is the command that an answer or a completion belongs to:
    what stands in it depends on that. `charset` is that of its texts, where it does not name one itself.
    Raises Malformed, and nothing else; a traceback of it shows no byte of the message."""
    try:
        return _decode(apdu, after, charset)
    except Malformed as error:
        kind, why, at = type(error), error.why, error.at
    # A new one: the frames that the old one holds on to have the bytes in their locals.
    del apdu
    raise kind(why, at)


def _decode(apdu: bytes, after: str | None, charset: str) -> Apdu:
    length = apdu_length(apdu)
    if length is None:
        raise Malformed(f"{len(apdu)} bytes are no APDU", len(apdu))
    if length != len(apdu):
        raise Malformed(f"the length says {length} bytes, there are {len(apdu)}", 2)
    head = 5 if apdu[2] == EXTENDED else 3
    reader = Reader(apdu[:2].hex(), apdu[head:], head, charset)
    if reader.command == "060f" and reader.data:
        if after == "0501":
            return reader.status_completion()
        if after == "0fa1":
            return reader.system_information()
    if reader.command == "8000" and after in ANSWERS_TO:
        return reader.structured(ANSWERS_TO[after])
    message = MESSAGES.get(reader.command)
    if message is None or message.loose:
        return reader.unstructured()
    return reader.structured(message)


# --- encoding -------------------------------------------------------------------------------------


def encode(apdu: Apdu) -> bytes:
    """The bytes of an APDU. Raises ValueError for one whose card data was dropped, and for one that is
    too long."""
    if apdu.dropped or apdu.rest:
        raise ValueError(f"{apdu.command}: what was not kept cannot be encoded")
    items = (_encode_item(item) for item in apdu.items)
    data = b"".join((*_encode_parts(apdu), apdu.raw, *items))
    head = bytes.fromhex(apdu.command)
    if len(data) < EXTENDED:
        return head + bytes([len(data)]) + data
    if len(data) > SIZE_MAX:
        raise ValueError(f"{apdu.command}: {len(data)} bytes; at most {SIZE_MAX}")
    return head + bytes([EXTENDED]) + len(data).to_bytes(2, "little") + data


def _encode_parts(apdu: Apdu) -> list[bytes]:
    if apdu.command == "060f":
        out: list[bytes] = []
        if "device_id" in apdu.parts:
            return out  # text by position: the whole stands in `raw`
        if "sw_version" in apdu.parts:
            version = str(apdu.parts["sw_version"]).encode("latin-1")
            out.append(_digits(len(version), 3) + version)
        if "terminal_status" in apdu.parts:
            out.append(bytes.fromhex(str(apdu.parts["terminal_status"])))
        return out
    if apdu.command == "8000":
        return [bytes.fromhex(str(apdu.parts["key"]))] if "key" in apdu.parts else []
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


def build(
    command: str,
    values: Mapping[str, Value],
    tlv: Sequence[Tlv] | None = None,
    charset: str = CHARSET,
) -> Apdu:
    """A message from named values: positional parts, then bitmaps in the order of the document, or for a
    message whose order is free in the order given. `tlv` comes last; an empty one allows the terminal to
    answer with TLV. Raises ValueError for a field that the command does not have and for a value that
    does not fit its field."""
    message = MESSAGES[command]
    positions = {part.name for part in message.parts}
    names = [name for name in values if name not in positions]
    if message.fields:
        strange = set(names) - set(message.fields)
        if strange:
            raise ValueError(f"{command} has no field {', '.join(sorted(strange))}")
        names.sort(key=message.fields.index)
    items = [_item(BY_NAME[name], values[name], charset) for name in names]
    items += _container(tlv)
    parts = {name: value for name, value in values.items() if name in positions}
    return Apdu(command, parts, tuple(items), charset=charset)


def build_answer(
    command: str, values: Mapping[str, Value], tlv: Sequence[Tlv] | None = None
) -> Apdu:
    """An answer of ours that carries data: 84 9D with an amount, 80 00 with a block of a file."""
    items = [_item(BY_NAME[name], value, CHARSET) for name, value in values.items()]
    return Apdu(command, items=(*items, *_container(tlv)))


def _container(tlv: Sequence[Tlv] | None) -> list[Item]:
    return [] if tlv is None else [Item(BY_NAME["tlv"].number, tuple(tlv))]


def _item(bmp: Bmp, value: Value, charset: str) -> Item:
    raw = packed(bmp.pack, value, bmp.size, charset)
    if bmp.form is Form.FIXED and len(raw) != bmp.size:
        raise ValueError(f"{bmp.name} has {bmp.size} bytes, not {len(raw)}")
    return Item(bmp.number, raw)


def tag(
    name: str,
    *children: Tlv,
    hex_value: str | None = None,
    text: str | None = None,
    raw: bytes | None = None,
) -> Tlv:
    """A TLV tag with children, a hex value, text, or bytes."""
    if text is not None:
        pack = TLV_TEXT[name][1]
        return Tlv(name, pack(text, 0))
    if raw is not None:
        return Tlv(name, raw)
    return Tlv(name, children if hex_value is None else bytes.fromhex(hex_value))
