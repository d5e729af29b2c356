"""Every command, message and answer as data (PA00P015, chapter of each): its name, its positional parts, and
for what the ECR sends the bitmaps it may carry, in the order of the document. Pure tables; codec.py reads
and writes by them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from drivers.terminal.zvt.primitives import (
    Pack,
    Show,
    Value,
    bcd,
    bcd_number,
    binary,
    currency_code,
    hex_bytes,
    hex_text,
    pack_bcd,
    pack_bcd_number,
    pack_binary,
    pack_currency,
)


@dataclass(frozen=True, slots=True)
class Part:
    """A positional part: present when the rest of the data is at least `size` long and, where given,
    `when` says so of the rest and of the parts before."""

    name: str
    size: int
    show: Show
    pack: Pack
    when: Callable[[bytes, Mapping[str, Value]], bool] = lambda _rest, _before: True


@dataclass(frozen=True, slots=True)
class Message:
    """A command or answer. `parts` come first, then bitmaps. `raw` names a rest without structure, and
    `tail` says that one TLV container may stand behind it. `loose`: bitmaps where they can be read, else
    raw. `fields`: the bitmaps of a command of ours."""

    name: str
    parts: tuple[Part, ...] = ()
    raw: str | None = None
    tail: bool = False
    loose: bool = False
    fields: tuple[str, ...] = ()


def _wrong_currency(_rest: bytes, before: Mapping[str, Value]) -> bool:
    """06 1E carries the terminal's currency only with error 6F."""
    return before.get("error") == "6f"


def _is_minutes(rest: bytes, _before: Mapping[str, Value]) -> bool:
    """04 FF: one BCD byte of T4 before an optional TLV container, which begins with 06 as well."""
    return rest[0] != 0x06 or is_container(rest, 1) or not is_container(rest, 0)


def is_container(data: bytes, at: int) -> bool:
    """Exactly one TLV container (06, length, content) stands at `at`, and nothing behind it."""
    head = {b"\x81": 3, b"\x82": 4}.get(data[at + 1 : at + 2], 2)
    if data[at : at + 1] != b"\x06" or len(data) < at + head:
        return False
    length = data[at + 1] if head == 2 else int.from_bytes(data[at + 2 : at + head], "big")
    return len(data) == at + head + length


def _code(name: str) -> Part:
    return Part(name, 1, hex_text, hex_bytes)


_PASSWORD = Part("password", 3, bcd, pack_bcd)
_CURRENCY = Part("currency", 2, currency_code, pack_currency)
_OWN_CURRENCY = Part("currency", 2, currency_code, pack_currency, _wrong_currency)
_TIMEOUT = Part("timeout_s", 1, binary, pack_binary)

# The closed set of bitmaps a command of ours may carry. Card data has no place in them.
_PAYMENT = ("amount_minor", "currency", "payment_type", "timeout_s", "max_status_infos", "pump")
_RESERVATION = (*_PAYMENT, "trace", "aid", "text", "card_type")
_REVERSAL = ("receipt", "amount_minor", "currency", "payment_type", "text", "trace", "aid")
_BOOKING = (*_REVERSAL, "time", "date", "tid", "card_type")
_TEXTS = ("display_s", *(f"line_{n}" for n in range(1, 9)), "beeps", "device")

# 0F A1 has no mark of a password but its length, alone or before a message number.
FEIG_WITH_PASSWORD = frozenset({5, 13})

MESSAGES: dict[str, Message] = {
    # --- terminal to ECR ------------------------------------------------------------------------
    "0401": Message("Set Date and Time in ECR"),
    "040c": Message("Request for Data"),
    "040d": Message("Input Request"),
    "040e": Message("Menu Request"),
    "040f": Message("Status-Information"),
    "04ff": Message(
        "Intermediate Status-Information",
        (_code("status"), Part("timeout_min", 1, bcd_number, pack_bcd_number, _is_minutes)),
    ),
    "060f": Message("Completion"),
    "061e": Message("Abort", (_code("error"), _OWN_CURRENCY)),
    "06d0": Message("Print Line on ECR, signature", raw="data"),
    "06d1": Message("Print Line", (_code("attribute"),), raw="text", tail=True),
    "06d3": Message("Print Text-Block"),
    "06d8": Message("Dial-Up", raw="data"),
    "06d9": Message("Transmit Data via Dial-Up", raw="data"),
    "06da": Message("Receive Data via Dial-Up", raw="data"),
    "06db": Message("Hang-Up", raw="data"),
    "06dd": Message("Transparent-Mode", raw="data"),
    "06e4": Message("Blocked-List Query to ECR", loose=True),
    # --- ECR to terminal: the link --------------------------------------------------------------
    "0501": Message("Status-Enquiry", (_PASSWORD,), fields=("service_byte",)),
    "0600": Message(
        "Registration", (_PASSWORD, _code("config_byte"), _CURRENCY), fields=("service_byte",)
    ),
    "0602": Message("Log-Off"),
    "06b0": Message("Abort"),
    "0840": Message("Change Baudrate", (_code("baud_code"),)),
    # --- money ----------------------------------------------------------------------------------
    "0601": Message("Authorization", fields=(*_PAYMENT, "text", "card_type")),
    "0622": Message("Reservation", fields=_RESERVATION),
    "0623": Message("Partial Reversal", fields=_REVERSAL),
    "0624": Message("Book Total", fields=_BOOKING),
    "0625": Message("Pre-Authorisation Reversal", fields=_REVERSAL),
    "0626": Message(
        "Reversal of a Foreign Reservation", fields=("amount_minor", "currency", "trace", "aid")
    ),
    "0630": Message("Reversal", (_PASSWORD,), fields=("receipt", "amount_minor", "currency")),
    "0631": Message(
        "Refund", (_PASSWORD,), fields=("amount_minor", "currency", "payment_type", "aid")
    ),
    "0620": Message("Repeat Receipt", (_PASSWORD,), fields=("service_byte",)),
    # --- cards ----------------------------------------------------------------------------------
    "06c0": Message("Read Card", (_TIMEOUT,), fields=("payment_type", "dialog")),
    "06c5": Message("Close Card Session"),
    "06c6": Message("Send APDUs"),
    "06e6": Message("Card Poll with Authorization", fields=(*_PAYMENT, "dialog")),
    "0850": Message("Activate Card-Reader", fields=("motor",)),
    # --- the day --------------------------------------------------------------------------------
    "0610": Message("Send Turnover Totals", (_PASSWORD,)),
    "0650": Message("End-of-Day", (_PASSWORD,)),
    # --- care -----------------------------------------------------------------------------------
    "0618": Message("Reset Terminal"),
    "061a": Message("Print System Configuration"),
    "061b": Message("Set Terminal-ID", (_PASSWORD,), fields=("tid",)),
    "0670": Message("Diagnosis"),
    "0679": Message("Selftest"),
    "0691": Message("Set Date and Time in PT", (_PASSWORD,), fields=("date_full", "time")),
    "0693": Message("Initialisation", (_PASSWORD,)),
    "0813": Message("Change Configuration"),
    "0814": Message("Write File", (_PASSWORD,)),
    "0830": Message("Select Language", (_code("language"),)),
    "0fa1": Message(
        "Feig: cVEND Functions",
        (
            Part(
                "password", 3, bcd, pack_bcd, lambda rest, _before: len(rest) in FEIG_WITH_PASSWORD
            ),
            Part("function", 2, hex_text, hex_bytes),
        ),
    ),
    # --- the display ----------------------------------------------------------------------------
    "06e0": Message("Display Text", fields=_TEXTS),
    "06e1": Message("Display Text with Input", fields=_TEXTS),
}

# Data that is text or BCD by position: name and bytes of each field.
Layout = tuple[tuple[str, int], ...]
# BMP 60: first and last receipt, then number and sum of each kind of card.
BRANDS = ("girocard", "jcb", "mastercard", "amex", "visa", "diners", "other")
TOTALS: Layout = (
    ("receipt_first", 2),
    ("receipt_last", 2),
    *(part for brand in BRANDS for part in ((f"{brand}_count", 1), (f"{brand}_minor", 6))),
)
# Feig, 0F A1. Newer firmware tells the voltage of the battery, too; temperatures below ten have one character
# less.
SYSTEM: Layout = (("device_id", 8), ("sw_version", 17), ("tid", 8))
SYSTEM_NEWER: Layout = (*SYSTEM, ("battery_voltage", 4))
NEWER_BYTES = frozenset({40, 41})


def cut(layout: Layout, raw: bytes) -> tuple[dict[str, bytes], bytes]:
    """The fields of `layout`, shorter ones where `raw` ends before, and what is left of it."""
    found: dict[str, bytes] = {}
    for name, size in layout:
        found[name], raw = raw[:size], raw[size:]
    return found, raw


def size_of(layout: Layout) -> int:
    return sum(size for _, size in layout)


# Answers with positional data, by the command they answer.
ANSWERS_TO: dict[str, Message] = {"06e1": Message("Positive Answer", (_code("key"),))}
# 0F A1 is answered by text in which every field has its place; a TLV container may follow.
SYSTEM_INFORMATION = Message("Completion", raw="text", tail=True)
