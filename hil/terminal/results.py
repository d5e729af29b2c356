"""The status information 04 0F and what is printed (PA00P015 ch. 5 and 9)."""

from __future__ import annotations

from hil.terminal import codec
from hil.terminal.bank import Booked, DayTotals
from hil.terminal.cards import CARDS, Card, bcd_number, masked
from hil.terminal.codec import apdu, bcd, container, ll, lll, tlv
from hil.terminal.dialogue import PRINT_BLOCK, PRINT_LINE, STATUS_INFORMATION
from hil.terminal.screen import CHARSETS
from hil.terminal.store import Memory, Store
from hil.terminal.switches import Switches

CONTRACT_NUMBER = "804011926"
EXPIRY = "2912"
UID_BYTES = 10
# A BMP number and TLV tags that no table has.
UNKNOWN_BMP = bytes.fromhex("99010203")
UNKNOWN_TAGS = bytes.fromhex("1f7e021020" + "e7041f7d0110")

TEXTS = {
    0x05: "Declined",
    0x33: "PIN required",
    0x64: "Card not readable",
    0x68: "Card not accepted",
    0x6C: "Cancelled",
    0x71: "Not enough credit",
    0x78: "Card expired",
    0xB7: "Amount too high",
    0xB8: "No such reservation",
    0xEC: "PIN not possible",
    0xF0: "End of day due",
}
TITLES = {"hold": "Reservation", "capture": "Payment", "release": "Cancellation"}

PRINTS_BY_ECR = 0x80  # bits of the configuration byte
PAYMENT_RECEIPTS = 0x02
RECEIPT_CUSTOMER = 2
LAST_LINE = 0xC0  # top bit, but not 80 alone; 40 centres it


def text_for(code: int) -> str:
    return TEXTS.get(code, f"Not possible ({code:02X})")


def money(amount_minor: int, currency: str) -> str:
    name = {"978": "EUR", "756": "CHF", "826": "GBP"}.get(currency, currency)
    return f"{amount_minor // 100}.{amount_minor % 100:02d} {name}"


def _card_number(card: Card, switches: Switches) -> bytes:
    if switches.empty_pan:
        return b"\x22" + ll(b"")
    number = card.pan if switches.full_pan else masked(card.pan)
    return b"\x22" + ll(bcd_number(number))


def _clear_card_data(card: Card) -> bytes:
    track2 = f"{card.pan}d{EXPIRY}2010000000000"
    return b"\x23" + ll(bcd_number(track2))


def money_result(
    booked: Booked,
    card: Card,
    store: Store,
    switches: Switches,
    *,
    with_currency: bool,
    with_tags: bool,
) -> bytes:
    """04 0F for an executed hold, capture or release, fields in table order. Currency and TLV are
    sent only to an ECR that sends them itself."""
    memory, now = store.memory, store.now()
    parts = [
        b"\x27\x00",
        codec.amount(booked.amount_minor),
        b"\x0b" + bcd(booked.trace, 3),
        b"\x0c" + bytes.fromhex(now.strftime("%H%M%S")),
        b"\x0d" + bytes.fromhex(now.strftime("%m%d")),
        b"\x0e" + bytes.fromhex(EXPIRY) if switches.full_pan else b"",
        b"\x19\x60",  # authorised online
        _card_number(card, switches),
        _clear_card_data(card) if switches.full_pan else b"",
        b"\x29" + bytes.fromhex(memory.tid),
        b"\x2a" + CONTRACT_NUMBER.encode().ljust(15),
        b"\x37" + bcd(booked.hold.trace, 3) if booked.kind != "hold" else b"",
        b"\x3b" + booked.hold.aid.encode().ljust(8, b"\0"),
        b"\x49" + bcd(int(memory.currency), 2) if with_currency else b"",
        b"\x87" + bcd(booked.receipt, 2),
        b"\x88" + bcd(memory.turnover, 3),
        b"\x8a" + bytes([card.card_type]),
        b"\x8b" + ll(card.label.encode() + b"\0"),
    ]
    if with_tags:
        parts.append(_money_tags(booked, card, switches))
    if switches.unknown_bmp:
        parts.append(UNKNOWN_BMP)
    return apdu(STATUS_INFORMATION, b"".join(parts))


def _money_tags(booked: Booked, card: Card, switches: Switches) -> bytes:
    applications = [*card.aids, *(aid for _, aid in card.chip_aids)]
    return container(
        UNKNOWN_TAGS if switches.unknown_tlv else b"",
        tlv(0x2F, tlv(0x1F10, b"\x00"), tlv(0x1F11, b"\x01"), tlv(0x1F12, b"\x02")),
        *(tlv(0x60, tlv(0x43, aid)) for aid in applications[:1]),
        tlv(0x1F2B, bcd(booked.trace, 4)),
    )


def declined_result(code: int, memory: Memory) -> bytes:
    text = text_for(code).encode(CHARSETS.get(memory.charset, "cp437"))
    data = bytes([0x27, code]) + b"\x29" + bytes.fromhex(memory.tid) + b"\x3c" + lll(text)
    if memory.tlv_allowed:
        data += container(tlv(0x24, tlv(0x07, text)))
    return apdu(STATUS_INFORMATION, data)


def card_result(card: Card, control: int, switches: Switches, *, with_tags: bool) -> bytes:
    """04 0F of a card read. `control` is tag 1F15: 40 asks for the UID, 80 for the card token."""
    parts = [b"\x27\x00"]
    if switches.full_pan and card.is_bank:
        parts += [b"\x0e" + bytes.fromhex(EXPIRY), _card_number(card, switches)]
        parts.append(_clear_card_data(card))
    if not with_tags:
        if card.is_bank and not switches.full_pan:
            parts.append(_card_number(card, switches))
        return apdu(STATUS_INFORMATION, b"".join(parts))
    tags = [UNKNOWN_TAGS if switches.unknown_tlv else b""]
    if switches.max_preauth_minor is not None:
        tags.append(tlv(0x1F0B, bcd(switches.max_preauth_minor, 6)))
    if control & 0x80 and card.token:
        tags.append(tlv(0x1F14, card.token))
    if control & 0x40:
        tags.append(tlv(0x4C, card.uid.rjust(UID_BYTES, b"\0")))
        tags += [tlv(0x1F4C, b"\x01"), tlv(0x1F4D, b"\xfe\x04")]
        tags += [tlv(0x1F4F, b"\x04\x00"), tlv(0x1F50, b"\x20")]
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


# --- Printing through the ECR ---------------------------------------------------------------------


def receipt_lines(booked: Booked, store: Store) -> list[str]:
    """The customer's slip of the terminal; 24 columns."""
    memory, now = store.memory, store.now()
    card = CARDS[booked.hold.card]
    lines = [
        "Customer receipt".center(24),
        "",
        f"Terminal ID {memory.tid:>12}",
        f"TA-No {booked.trace:06d}  BNo {booked.receipt:04d}",
        "",
        TITLES[booked.kind],
        card.label,
        f"{'#' * 12}{card.pan[-4:]}",
        f"Date {now:%d.%m.%Y %H:%M:%S}",
        f"Amount {money(booked.amount_minor, memory.currency):>17}",
        "",
        "Authorised online",
        f"VU {CONTRACT_NUMBER}",
        f"AID {booked.hold.aid}",
        "",
        "Please keep this receipt".center(24),
    ]
    if booked.kind == "capture":
        freed = booked.hold.amount_minor - booked.amount_minor
        lines.insert(10, f"Released {money(freed, memory.currency):>15}")
    return lines


def print_messages(lines: list[str], memory: Memory, switches: Switches) -> list[bytes]:
    """06 D3 or 06 D1 as switch and Registration tell; none where the ECR prints nothing."""
    by_ecr = memory.config & PRINTS_BY_ECR and memory.config & PAYMENT_RECEIPTS
    how = switches.print
    if not by_ecr or how == "none":
        return []
    if how == "auto":
        how = "block" if f"{PRINT_BLOCK:04x}" in memory.ecr_commands else "lines"
    encoded = [line.encode(CHARSETS.get(memory.charset, "cp437")) for line in lines]
    if how == "block":
        texts = [tlv(0x09, b"\x00") + tlv(0x07, line) for line in encoded]
        end = tlv(0x09, b"\x80")
        kind = tlv(0x1F07, bytes([RECEIPT_CUSTOMER]))
        return [apdu(PRINT_BLOCK, container(kind, tlv(0x25, *texts, end)))]
    attributes = [0x00] * (len(encoded) - 1) + [LAST_LINE]
    return [
        apdu(PRINT_LINE, bytes([attribute]) + line)
        for attribute, line in zip(attributes, encoded, strict=True)
    ]
