"""`voltill zvt decode`: one message as JSON for people and scripts (design §3).

A technician's tool: it shows what the bytes hold, UIDs and the terminal's card tokens too, but never a
card number (mask.py)."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from drivers.terminal.zvt import frames
from drivers.terminal.zvt.apdu import Apdu, Tlv, walk
from drivers.terminal.zvt.codec import decode
from drivers.terminal.zvt.mask import (
    AMOUNT_MINOR_MAX,
    MASK,
    amount_minor,
    mask_hex,
    mask_identifier,
    mask_text,
)
from drivers.terminal.zvt.messages import BRANDS, TOTALS, cut, size_of
from drivers.terminal.zvt.primitives import CHARSET, Malformed, Value, hex_text, shown
from drivers.terminal.zvt.tables import BMPS, TLV_AMOUNTS, TLV_IDENTIFIERS, TLV_TEXT

# Registered application providers of fuel and company cards (Feig): not bank cards.
NOT_BANK = ("a00000083", "a00000066")
NO_RECEIPT = "ffff"
RECEIPT_BYTES = 2
# Constructed tags that may stand more than once: always a list.
TLV_REPEATED = frozenset({"60", "61", "62", "24", "25", "2d"})
NAMED_TAGS = {
    "1f44": "tid",
    "1f40": "device_name",
    "1f41": "device_software",
    "1f42": "serial",
    "1f43": "device_state",
    "1f0e": "date",
    "1f0f": "time",
    "1f2b": "trace_long",
    "1f14": "card_token",
    "4c": "uid_tag",
    "1f16": "extended_error",
    "1f17": "extended_text",
}


def decode_or_error(hex_text: str, after: str | None = None) -> dict[str, object]:
    """The decoded message, or `{"error", "at"}` for what is none."""
    try:
        return decode_text(hex_text, after)
    except Malformed as error:
        return {"error": error.why, "at": error.at}


def decode_text(text: str, after: str | None = None) -> dict[str, object]:
    """Hex of an APDU or of a serial frame. Raises Malformed."""
    cleaned = "".join(text.split()).replace(":", "").lower()
    try:
        data = bytes.fromhex(cleaned)
    except ValueError:
        raise Malformed("no hex", 0) from None
    apdu = decode(_unframed(data), None if after is None else after.lower())
    return {
        "command": apdu.command,
        "name": apdu.name,
        "fields": present(apdu),
        "dropped": sorted(apdu.dropped),
    }


def _unframed(data: bytes) -> bytes:
    """The APDU of a serial frame; an APDU stays what it is (no command begins with DLE STX)."""
    if data[:2] != bytes([frames.DLE, frames.STX]):
        return data
    link = frames.Link()
    for at, byte in enumerate(data):
        for event in link.receive(bytes([byte]), 0):
            if isinstance(event, frames.Received):
                if at != len(data) - 1:
                    raise Malformed("bytes behind the frame", at + 1)
                return event.apdu
    raise Malformed("no whole frame with a good checksum", len(data))


def present(apdu: Apdu) -> dict[str, object]:
    """The fields of a message under stable names, card numbers in texts masked."""
    fields: dict[str, object] = {
        name: mask_text(value) if isinstance(value, str) else value
        for name, value in apdu.parts.items()
    }
    if apdu.command == "0fa1":
        fields.setdefault("password", None)
    for item in apdu.items:
        bmp = BMPS[item.number]
        if isinstance(item.value, bytes) and bmp.card is None:
            totals = _totals(item.value) if bmp.name == "totals" else None
            fields[bmp.name] = totals or _masked(
                bmp.show, shown(bmp.show, item.value, apdu.charset)
            )
    if apdu.card_last4 is not None:
        fields["card_last4"] = apdu.card_last4
    if apdu.command == "061e":
        fields["open"] = open_receipts(apdu)
    if "receipt" in fields:
        fields["receipt"] = _receipt(apdu.command, str(fields["receipt"]))
    if apdu.command == "06d1":
        fields["text"] = mask_text(apdu.raw.decode(apdu.charset, "replace"))
    if apdu.command == "04ff":
        fields["lines"] = texts(apdu)
    if apdu.tlv:
        _present_tlv(apdu, fields)
    return fields


def texts(apdu: Apdu) -> list[str]:
    """The text lines of a message, card numbers masked."""
    return [mask_text(line.decode(apdu.charset, "replace")) for line in apdu.values("07")]


def _masked(show: Callable[[bytes], Value], value: Value) -> Value:
    if isinstance(value, int):
        return value if value <= AMOUNT_MINOR_MAX else MASK
    return mask_hex(value) if show is hex_text else mask_text(value)


def _receipt(command: str, receipt: str) -> int | str | None:
    if receipt == NO_RECEIPT:
        # In the enquiry FFFF asks for all; in its answer it means none.
        return None if command == "061e" else receipt
    return _number(receipt)


def _number(digits: str) -> int | str:
    return int(digits) if digits.isdecimal() else digits


def _totals(raw: bytes) -> dict[str, object] | None:
    """BMP 60: receipts from and to, then number and sum for each kind of card."""
    if len(raw) < size_of(TOTALS):
        return None
    told, _ = cut(TOTALS, raw)
    found: dict[str, object] = {
        name: _number(told[name].hex()) for name in ("receipt_first", "receipt_last")
    }
    for brand in BRANDS:
        found[brand] = [told[f"{brand}_count"][0], _sum(told[f"{brand}_minor"])]
    return found


def _sum(raw: bytes) -> int | str:
    minor = amount_minor(raw)
    return mask_hex(raw.hex()) if minor is None else minor


def open_receipts(apdu: Apdu) -> list[int]:
    """The receipts of an answer to the enquiry of open holds, in all its forms (06 1E B8)."""
    listed = [value.hex() for value in apdu.values("08") if len(value) == RECEIPT_BYTES]
    found = [int(digits) for digits in listed if digits.isdecimal()]
    first = apdu.text("receipt")
    if first is not None and first.isdecimal() and int(first) not in found:
        found.insert(0, int(first))
    return found


# --- TLV ------------------------------------------------------------------------------------------


def _show_tag(tag: Tlv, charset: str) -> Value:
    value = str(tag.show(charset))
    if (
        tag.tag in TLV_AMOUNTS
        and isinstance(tag.value, bytes)
        and amount_minor(tag.value) is not None
    ):
        return value
    if tag.tag in TLV_IDENTIFIERS:
        return mask_identifier(value)
    return mask_text(value) if tag.tag in TLV_TEXT else mask_hex(value)


def tlv_json(tags: Sequence[Tlv], charset: str = CHARSET) -> dict[str, object]:
    """A container for people: tags to values, tags that repeat to lists."""
    found: dict[str, object] = {}
    for item in tags:
        value = (
            _show_tag(item, charset)
            if isinstance(item.value, bytes)
            else tlv_json(item.value, charset)
        )
        container_list = item.tag in TLV_REPEATED and isinstance(item.value, tuple)
        if item.tag in found:
            known = found[item.tag]
            found[item.tag] = [*known, value] if isinstance(known, list) else [known, value]
        else:
            found[item.tag] = [value] if container_list else value
    return found


def _present_tlv(apdu: Apdu, fields: dict[str, object]) -> None:
    tags = tlv_json(apdu.tlv, apdu.charset)
    fields["tlv_tags"] = [t.tag for t in apdu.tlv]
    for inner in walk(apdu.tlv):
        if isinstance(inner.value, bytes) and inner.tag not in tags:
            tags |= tlv_json([inner], apdu.charset)
    fields["tlv"] = tags
    for tag, name in NAMED_TAGS.items():
        first = next((t for t in apdu.find(tag) if isinstance(t.value, bytes)), None)
        if first is not None:
            fields.setdefault(name, _show_tag(first, apdu.charset))
    limits = [amount_minor(value) for value in apdu.values("1f0b")]
    if limits and limits[0] is not None:
        fields["max_preauth_cents"] = limits[0]
    _present_card(apdu, fields)
    _present_file(apdu, fields)


def _present_card(apdu: Apdu, fields: dict[str, object]) -> None:
    apps = apdu.find("60")  # also inside the lists 61 (magnetic stripe) and 62 (chip)
    if apps:
        fields["tlv_60_count"] = len(apps)
        fields["apps"] = [
            tlv_json(a.value, apdu.charset) for a in apps if isinstance(a.value, tuple)
        ]
        fields["aids"] = [mask_identifier(aid.hex()) for aid in apdu.values("43")]
    if apps or apdu.find("4c"):
        fields["classified_as"] = classify(apdu)


def classify(apdu: Apdu) -> str:
    """ "bank" when any application is a payment one, else "rfid" when there is a UID."""
    if any(aid and not aid.hex().startswith(NOT_BANK) for aid in apdu.values("43")):
        return "bank"
    return "rfid" if apdu.find("4c") else "unknown"


def _present_file(apdu: Apdu, fields: dict[str, object]) -> None:
    if apdu.command != "040c":
        return
    file_id, offset = apdu.values("1d"), apdu.values("1e")
    if file_id:
        fields["file_id"] = mask_hex(file_id[0].hex())
    if offset:
        fields["offset"] = int.from_bytes(offset[0][:4], "big")
