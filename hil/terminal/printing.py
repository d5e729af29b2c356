"""What is printed through the ECR: receipts, the day, the configuration (06 D1 and 06 D3)."""

from __future__ import annotations

from hil.terminal.bank import Booked
from hil.terminal.batch import DayTotals
from hil.terminal.cards import CARDS
from hil.terminal.codec import apdu, container, tlv
from hil.terminal.dialogue import PRINT_BLOCK, PRINT_LINE
from hil.terminal.store import Memory, Store
from hil.terminal.switches import Switches
from hil.terminal.texts import encoded, money

PRINTS_BY_ECR = 0x80  # bits of the configuration byte
PAYMENT_RECEIPTS, ADMINISTRATION_RECEIPTS = 0x02, 0x04
RECEIPT_CUSTOMER, RECEIPT_ADMINISTRATION = 2, 3
LAST_LINE = 0xC0  # top bit, but not 80 alone; 40 centres it
TEXT_LINE = 0x00
WIDTH = 24
# Bytes of a text block beside its lines: control field, long length, container, receipt type, 25.
BLOCK_FRAME = 24

TITLES = {
    "hold": "Reservation",
    "increment": "Reservation raised",
    "payment": "Payment",
    "capture": "Payment",
    "release": "Cancellation",
    "foreign_release": "Cancellation",
    "refund": "Refund",
    "reversal": "Reversal",
}


def receipt_lines(booked: Booked, store: Store, contract_number: str) -> list[str]:
    """The customer's slip of the terminal."""
    memory, now = store.memory, store.now()
    card = CARDS[booked.hold.card]
    width = memory.printer_width or WIDTH
    lines = [
        "Customer receipt".center(width),
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
        f"VU {contract_number}",
        f"AID {booked.hold.aid}",
        "",
        "Please keep this receipt".center(width),
    ]
    if booked.kind == "capture":
        freed = booked.hold.amount_minor - booked.amount_minor
        lines.insert(10, f"Released {money(freed, memory.currency):>15}")
    return _wrapped(lines, width)


def day_lines(totals: DayTotals, store: Store, title: str) -> list[str]:
    memory, now = store.memory, store.now()
    lines = [title, f"Terminal ID {memory.tid:>12}", f"{now:%d.%m.%Y %H:%M:%S}"]
    lines.append(f"BNo {totals.first_receipt:04d} - {totals.last_receipt:04d}")
    for brand, (count, total) in totals.by_brand().items():
        if count:
            lines.append(f"{brand:<11}{count:>3} {money(total, memory.currency):>9}")
    lines.append(f"Total {money(totals.total_minor, memory.currency):>18}")
    return _wrapped(lines, memory.printer_width or WIDTH)


def setup_lines(store: Store, switches: Switches) -> list[str]:
    """06 1A: the configuration, which is long."""
    memory = store.memory
    lines = ["System configuration", f"TID {memory.tid}", f"Currency {memory.currency}"]
    lines += [f"{name} {value}" for name, value in switches.as_json().items()]
    return _wrapped(lines, memory.printer_width or WIDTH)


def _wrapped(lines: list[str], width: int) -> list[str]:
    return [line[at : at + width] for line in lines for at in range(0, len(line) or 1, width)]


def print_messages(
    lines: list[str], memory: Memory, switches: Switches, kind: int = RECEIPT_CUSTOMER
) -> list[bytes]:
    """06 D3 or 06 D1 as switch and Registration tell; none where the ECR prints nothing."""
    wanted = ADMINISTRATION_RECEIPTS if kind == RECEIPT_ADMINISTRATION else PAYMENT_RECEIPTS
    how = switches.print
    if not (memory.config & PRINTS_BY_ECR and memory.config & wanted) or how == "none":
        return []
    if how == "auto":
        offered = memory.ecr_commands
        if f"{PRINT_BLOCK:04x}" in offered:
            how = "block"
        elif offered and f"{PRINT_LINE:04x}" not in offered:
            return []  # it names what it can take, and this is not in it
        else:
            how = "lines"
    texts = [encoded(line, memory, switches) for line in lines]
    if how == "block":
        return _blocks(texts, kind, memory.max_apdu)
    tail = bytes.fromhex("06041f0701") + bytes([kind]) if switches.print_tags else b""
    attributes = [TEXT_LINE] * (len(texts) - 1) + [LAST_LINE]
    return [
        apdu(PRINT_LINE, bytes([attribute]) + text + tail)
        for attribute, text in zip(attributes, texts, strict=True)
    ]


def _blocks(texts: list[bytes], kind: int, max_apdu: int | None) -> list[bytes]:
    """One block, or as many as the ECR's longest message needs; the last closes the receipt."""
    entries = [tlv(0x09, bytes([TEXT_LINE])) + tlv(0x07, text) for text in texts]
    room = None if max_apdu is None else max_apdu - BLOCK_FRAME
    parts: list[list[bytes]] = [[]]
    for entry in entries:
        if room is not None and parts[-1] and sum(map(len, parts[-1])) + len(entry) > room:
            parts.append([])
        parts[-1].append(entry)
    parts[-1].append(tlv(0x09, b"\x80"))
    head = tlv(0x1F07, bytes([kind]))
    return [apdu(PRINT_BLOCK, container(head, tlv(0x25, *part))) for part in parts]
