"""`voltill zvt decode`: one message as JSON for people and scripts (design §3)."""

from __future__ import annotations

from drivers.terminal.zvt import frames
from drivers.terminal.zvt.codec import Apdu, Tlv, decode, tlv_json, walk
from drivers.terminal.zvt.primitives import CHARSET, Malformed
from drivers.terminal.zvt.tables import BMPS

TOTALS = ("girocard", "jcb", "mastercard", "amex", "visa", "diners", "other")
TOTALS_BYTES = 4 + len(TOTALS) * 7
# Registered application providers of fuel and company cards (Feig): not bank cards.
NOT_BANK = ("a00000083", "a00000066")
NO_RECEIPT = "ffff"


def decode_or_error(hex_text: str, after: str | None = None) -> dict[str, object]:
    """The decoded message, or `{"error", "at"}` for what is none."""
    try:
        return decode_text(hex_text, after)
    except Malformed as error:
        return {"error": error.why, "at": error.at}


def decode_text(hex_text: str, after: str | None = None) -> dict[str, object]:
    """Hex of an APDU or of a serial frame. Raises Malformed."""
    cleaned = "".join(hex_text.split()).replace(":", "").lower()
    try:
        data = bytes.fromhex(cleaned)
    except ValueError:
        raise Malformed("no hex", 0) from None
    apdu = decode(_unframed(data), after)
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
    """The fields of a message under stable names."""
    fields: dict[str, object] = dict(apdu.parts)
    if apdu.command == "0fa1":
        fields.setdefault("password", None)
    for item in apdu.items:
        bmp = BMPS[item.number]
        if isinstance(item.value, bytes) and bmp.card is None:
            fields[bmp.name] = bmp.show(item.value)
    if apdu.card_last4 is not None:
        fields["card_last4"] = apdu.card_last4
    if "totals" in fields:
        fields["totals"] = _totals(str(fields["totals"]))
    if apdu.command == "061e":
        fields["open"] = open_receipts(apdu)
    if "receipt" in fields:
        receipt = str(fields["receipt"])
        special = receipt == NO_RECEIPT
        # In the enquiry FFFF asks for all; in its answer it means none.
        fields["receipt"] = (
            (None if apdu.command == "061e" else receipt) if special else _number(receipt)
        )
    if apdu.raw and apdu.command in ("06d1",):
        fields["text"] = apdu.raw.decode(CHARSET)
    if apdu.command == "04ff":
        fields["lines"] = _lines(apdu)
    if apdu.tlv:
        _present_tlv(apdu, fields)
    return fields


def _number(digits: str) -> int | str:
    return int(digits) if digits.isdecimal() else digits


def _totals(hex_text: str) -> dict[str, object] | str:
    """BMP 60: receipts from and to, then number and sum for each kind of card."""
    raw = bytes.fromhex(hex_text)
    if len(raw) < TOTALS_BYTES:
        return hex_text
    found: dict[str, object] = {
        "receipt_first": _number(raw[0:2].hex()),
        "receipt_last": _number(raw[2:4].hex()),
    }
    for i, name in enumerate(TOTALS):
        at = 4 + 7 * i
        found[name] = [raw[at], _number(raw[at + 1 : at + 7].hex())]
    return found


def open_receipts(apdu: Apdu) -> list[int]:
    """The receipts of an answer to the enquiry of open holds, in all its forms (06 1E B8)."""
    found = [
        int(tag.value.hex())
        for tag in apdu.find("08")
        if isinstance(tag.value, bytes) and tag.value.hex().isdecimal()
    ]
    first = apdu.text("receipt")
    if first is not None and first.isdecimal() and int(first) not in found:
        found.insert(0, int(first))
    return found


def _lines(apdu: Apdu) -> list[str]:
    return [t.value.decode(CHARSET) for t in apdu.find("07") if isinstance(t.value, bytes)]


def _present_tlv(apdu: Apdu, fields: dict[str, object]) -> None:
    tags = tlv_json(apdu.tlv)
    fields["tlv_tags"] = [t.tag for t in apdu.tlv]
    for inner in walk(apdu.tlv):
        if isinstance(inner.value, bytes) and inner.tag not in tags:
            tags |= tlv_json([inner])
    fields["tlv"] = tags
    named = {
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
    for tag, name in named.items():
        value = apdu.tag_text(tag)
        if value is not None:
            fields.setdefault(name, value)
    limit = apdu.tag_text("1f0b")
    if limit is not None and limit.isdecimal():
        fields["max_preauth_cents"] = int(limit)
    _present_card(apdu, fields)
    _present_file(apdu, fields)


def applications(apdu: Apdu) -> list[Tlv]:
    """The applications of a card: tag 60, also inside the lists 61 and 62."""
    return apdu.find("60")


def _present_card(apdu: Apdu, fields: dict[str, object]) -> None:
    apps = applications(apdu)
    if apps:
        fields["tlv_60_count"] = len(apps)
        fields["apps"] = [tlv_json(a.value) for a in apps if isinstance(a.value, tuple)]
        fields["aids"] = [t.value.hex() for t in apdu.find("43") if isinstance(t.value, bytes)]
    if apps or apdu.find("4c"):
        fields["classified_as"] = classify(apdu)


def classify(apdu: Apdu) -> str:
    """ "bank" when any application is a payment one, else "rfid" when there is a UID."""
    aids = [t.value.hex() for t in apdu.find("43") if isinstance(t.value, bytes)]
    if any(not aid.startswith(NOT_BANK) for aid in aids):
        return "bank"
    return "rfid" if apdu.find("4c") else "unknown"


def _present_file(apdu: Apdu, fields: dict[str, object]) -> None:
    if apdu.command != "040c":
        return
    file_id, offset = apdu.tag_text("1d"), apdu.tag_text("1e")
    if file_id is not None:
        fields["file_id"] = file_id
    if offset is not None:
        fields["offset"] = int(offset, 16)
