"""The status information 04 0F (PA00P015 ch. 5 and 9)."""

from __future__ import annotations

from hil.terminal import codec
from hil.terminal.bank import Booked
from hil.terminal.batch import DayTotals
from hil.terminal.cards import Card, bcd_number, masked
from hil.terminal.codec import apdu, bcd, container, ll, lll, tlv
from hil.terminal.dialogue import STATUS_INFORMATION
from hil.terminal.framing import ACK, DLE, ETX, NAK, STX, checksum
from hil.terminal.store import Memory, Store
from hil.terminal.switches import Switches
from hil.terminal.texts import encoded, text_for

CONTRACT_NUMBER = "804011926"
EXPIRY = "2912"
UID_BYTES = 10
# A BMP number and TLV tags that no table has.
UNKNOWN_BMP = bytes.fromhex("99010203")
UNKNOWN_TAGS = bytes.fromhex("1f7e021020" + "e7041f7d0110")
CONTROL_BYTES = (STX, ETX, ACK, DLE, NAK)
# 1F12 of how the card was presented (a bit of 1F60).
PRESENTED = {1: 0, 2: 1, 4: 2}
TRIES = 4096  # one in 26 texts gives such a CRC


def _card_number(card: Card, switches: Switches) -> bytes:
    if switches.empty_pan:
        return b"\x22" + ll(b"")
    shown = 6 if switches.pan_mask == "6+4" else 0
    number = card.pan if switches.full_pan else masked(card.pan, shown)
    return b"\x22" + ll(bcd_number(number))


def _track2(card: Card) -> bytes:
    return b"\x23" + ll(bcd_number(f"{card.pan}d{EXPIRY}2010000000000"))


def _track3(card: Card) -> bytes:
    return b"\x24" + lll(bcd_number(f"01{card.pan}d978{EXPIRY}000000000"))


def _track1(card: Card) -> bytes:
    return b"\x2d" + ll(f"B{card.pan}^TEST/CARD^{EXPIRY}2010000000000".encode())


def _clear_data(card: Card, switches: Switches) -> dict[int, bytes]:
    """Expiry and tracks by BMP, where a switch wants what no terminal should send."""
    found: dict[int, bytes] = {}
    if not card.is_bank:
        return found
    if switches.full_pan or switches.clear_tracks:
        found[0x0E] = b"\x0e" + bytes.fromhex(EXPIRY)
        found[0x23] = _track2(card)
    if switches.clear_tracks:
        found[0x24], found[0x2D] = _track3(card), _track1(card)
    return found


def money_result(
    booked: Booked,
    card: Card,
    store: Store,
    switches: Switches,
    *,
    technology: int,
    with_currency: bool,
    with_tags: bool,
) -> bytes:
    """04 0F for an executed transaction, fields in table order. Currency and TLV are sent only to an
    ECR that sends them itself."""
    memory, now = store.memory, store.now()
    clear = _clear_data(card, switches)
    first = booked.kind in ("hold", "payment", "refund")
    parts = [
        b"\x27\x00",
        codec.amount(booked.shown_minor),
        b"\x0b" + bcd(booked.trace, 3),
        b"\x0c" + bytes.fromhex(now.strftime("%H%M%S")),
        b"\x0d" + bytes.fromhex(now.strftime("%m%d")),
        clear.get(0x0E, b""),
        b"\x19\x60",  # authorised online
        _card_number(card, switches),
        clear.get(0x23, b""),
        clear.get(0x24, b""),
        b"\x29" + bytes.fromhex(memory.tid),
        b"\x2a" + CONTRACT_NUMBER.encode().ljust(15),
        clear.get(0x2D, b""),
        b"" if first else b"\x37" + bcd(booked.hold.trace, 3),
        b"\x3b" + booked.hold.aid.encode().ljust(8, b"\0"),
        b"\x49" + bcd(int(memory.currency), 2) if with_currency else b"",
        b"\x87" + bcd(booked.receipt, 2),
        b"\x88" + bcd(memory.turnover, 3),
        b"\x8a" + bytes([card.card_type]),
        b"\x8b" + ll(card.label.encode() + b"\0"),
    ]
    if with_tags:
        parts.append(_money_tags(booked, card, switches, technology))
    if switches.unknown_bmp:
        parts.append(UNKNOWN_BMP)
    if switches.crc_looks_like_control:
        return _tricky(parts)
    return apdu(STATUS_INFORMATION, b"".join(parts))


def _tricky(parts: list[bytes]) -> bytes:
    """With a text that makes a byte of the block's CRC look like a control byte."""
    for number in range(TRIES):
        text = b"\x3c" + lll(f"{number:04d}".encode())
        made = apdu(STATUS_INFORMATION, b"".join([*parts[:-1], text, parts[-1]]))
        if any(byte in CONTROL_BYTES for byte in checksum(made)):
            return made
    raise AssertionError("no text gives such a CRC")


def _money_tags(booked: Booked, card: Card, switches: Switches, technology: int) -> bytes:
    applications = [*card.aids, *(aid for _, aid in card.chip_aids)]
    presented = bytes([PRESENTED.get(technology, 2)])
    return container(
        UNKNOWN_TAGS if switches.unknown_tlv else b"",
        tlv(0x2F, tlv(0x1F10, b"\x00"), tlv(0x1F11, b"\x01"), tlv(0x1F12, presented)),
        *(tlv(0x60, tlv(0x43, aid)) for aid in applications[:1]),
        tlv(0x1F2B, bcd(booked.trace, 4)),
    )


def declined_result(code: int, memory: Memory, switches: Switches) -> bytes:
    text = encoded(text_for(code, memory.language), memory, switches)
    data = bytes([0x27, code]) + b"\x29" + bytes.fromhex(memory.tid) + b"\x3c" + lll(text)
    if memory.tlv_allowed or switches.tlv_always:
        data += container(tlv(0x24, tlv(0x07, text)))
    return apdu(STATUS_INFORMATION, data)


def error_tags(code: int, memory: Memory, switches: Switches) -> bytes:
    """1F16 and 1F17 of an Abort."""
    text = text_for(code, memory.language)
    told = text.encode() if switches.extended_error_utf8 else encoded(text, memory, switches)
    return container(tlv(0x1F16, bytes([0x00, code])), tlv(0x1F17, told))


def uid_tags(card: Card) -> list[bytes]:
    """UID and kind of a contactless card; nothing for one without."""
    if not card.uid:
        return []
    kind = [tlv(0x1F4C, b"\x01"), tlv(0x1F4D, b"\xfe\x04"), tlv(0x1F4F, b"\x04\x00")]
    return [tlv(0x4C, card.uid.rjust(UID_BYTES, b"\0")), *kind, tlv(0x1F50, b"\x20")]


def card_result(card: Card, control: int, switches: Switches, *, with_tags: bool) -> bytes:
    """04 0F of a card read. `control` is tag 1F15: 40 asks for the UID, 80 for the card token."""
    parts = [b"\x27\x00"]
    clear = _clear_data(card, switches)
    if clear:
        number = _card_number(card, switches)
        parts += [clear[0x0E], number, clear[0x23], clear.get(0x24, b""), clear.get(0x2D, b"")]
    elif card.is_bank and not with_tags:
        parts.append(_card_number(card, switches))
    if not with_tags:
        return apdu(STATUS_INFORMATION, b"".join(parts))
    tags = [UNKNOWN_TAGS if switches.unknown_tlv else b""]
    if switches.max_preauth_minor is not None:
        tags.append(tlv(0x1F0B, bcd(switches.max_preauth_minor, 6)))
    if control & 0x80 and card.token:
        tags.append(tlv(0x1F14, card.token))
    if control & 0x40:
        tags += uid_tags(card)
    if card.chip_aids:
        listed = (
            tlv(0x60, tlv(0x41, kind.to_bytes(2, "big")), tlv(0x43, aid))
            for kind, aid in card.chip_aids
        )
        tags.append(tlv(0x62, *listed))
    tags += [tlv(0x60, tlv(0x43, aid)) for aid in card.aids]
    parts.append(container(*tags))
    if switches.unknown_bmp:
        parts.append(UNKNOWN_BMP)
    return apdu(STATUS_INFORMATION, b"".join(parts))


def day_result(totals: DayTotals, store: Store) -> bytes:
    """04 0F of an end of day: receipt numbers and seven pairs of count and sum."""
    now = store.now()
    body = bcd(totals.first_receipt, 2) + bcd(totals.last_receipt, 2)
    for count, total in totals.columns:
        body += bytes([min(count, 0xFF)]) + bcd(total, 6)
    return apdu(
        STATUS_INFORMATION,
        b"\x27\x00"
        + codec.amount(totals.total_minor)
        + b"\x0b" + bcd(totals.trace, 3)
        + b"\x0c" + bytes.fromhex(now.strftime("%H%M%S"))
        + b"\x0d" + bytes.fromhex(now.strftime("%m%d"))
        + b"\x60" + lll(body),
    )  # fmt: skip
