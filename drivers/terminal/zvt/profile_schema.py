"""What a terminal profile says: every setting with its kind and its meaning, in the order of the page
docs/terminals.md that is made from it."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass, field, fields
from typing import Any

Plain = str | int | bool
# A value as it is kept, or what was expected instead.
Check = Callable[[Plain], "Kept | str"]

TCP_PORT_MAX = 65_535
APDU_MAX = 65_535  # PA00P015: the extended length is 16 bits
# 06 E0 has eight lines of at most 40 columns; receipts of 58 and 80 mm paper have 16 to 64.
COLUMNS_MIN, COLUMNS_MAX = 16, 64
AMOUNT_MINOR_MAX = 999_999_999_999  # BMP 04 has twelve digits
# The longest update a terminal may take before it counts as lost.
UPDATE_S_MAX = 4 * 3600
# From what every terminal starts with to the fastest of PA00P016, and what 08 40 can set between.
BAUDS = (9600, 19_200, 38_400, 57_600, 115_200)
PRINTS_BY_ECR = 0x80  # config byte: print lines and blocks come to us
RECEIPTS_BY_ECR = 0x02  # config byte: payment receipts are our business


@dataclass(frozen=True, slots=True)
class Kept:
    value: object


def _choice(*words: str) -> Check:
    expected = f"{', '.join(words[:-1])} or {words[-1]}"
    return lambda value: Kept(value) if value in words and isinstance(value, str) else expected


def _matching(form: str, expected: str) -> Check:
    whole = re.compile(form)

    def check(value: Plain) -> Kept | str:
        return Kept(value) if isinstance(value, str) and whole.fullmatch(value) else expected

    return check


def _number(low: int, high: int) -> Check:
    def check(value: Plain) -> Kept | str:
        if isinstance(value, bool) or not isinstance(value, int) or not low <= value <= high:
            return f"a whole number from {low} to {high}"
        return Kept(value)

    return check


def _baud(value: Plain) -> Kept | str:
    if isinstance(value, bool) or value not in BAUDS:
        return f"one of {', '.join(map(str, BAUDS))}"
    return Kept(value)


def _bauds(value: Plain) -> Kept | str:
    """One rate may stand without quotes."""
    words = [] if isinstance(value, bool) else str(value).split()
    if isinstance(value, bool) or any(word not in map(str, BAUDS) for word in words):
        return 'rates with blanks between, such as "9600 115200", or "" for none'
    return Kept(tuple(map(int, words)))


def _flag(value: Plain) -> Kept | str:
    return Kept(value) if isinstance(value, bool) else "true or false"


def _commands(value: Plain) -> Kept | str:
    words = value.lower().split() if isinstance(value, str) else ["?"]
    if any(re.fullmatch("[0-9a-f]{4}", word) is None for word in words):
        return 'commands with blanks between, such as "0693 0850", or "" for none'
    return Kept(tuple(words))


_HEX = _matching("[0-9A-Fa-f]{2}", 'two hex digits in quotes, such as "40"')


@dataclass(frozen=True, slots=True)
class Setting:
    """`group` heads its part of the page; `text` is for a technician."""

    name: str
    group: str
    text: str
    check: Check

    @property
    def expected(self) -> str:
        """What may stand there; no setting takes a zero character."""
        return str(self.check("\0"))


def _setting(group: str, check: Check, text: str) -> Any:
    return field(metadata={"group": group, "check": check, "text": text})


LINE, REGISTRATION, CARDS = "Line", "Registration and texts", "Cards"
MONEY, RECOVERY, CARE = "Money", "Recovery and end of day", "Care"


@dataclass(frozen=True, slots=True)
class Profile:
    """Hex values are text without 0x, as the manuals print them. `name` is the file's, `title` is for
    people. Numbers in the texts are the terminal's commands, bitmaps and tags (PA00P015)."""

    name: str
    title: str

    baud: int = _setting(LINE, _baud, "serial rate it has from the factory")
    framing: str = _setting(LINE, _choice("8N1", "8N2"), "data bits, parity, stop bits")
    baud_fallback: tuple[int, ...] = _setting(
        LINE, _bauds, "rates to try when it is silent at the configured one"
    )
    tcp_port: int = _setting(LINE, _number(1, TCP_PORT_MAX), "port it listens on")
    tcp_idle: str = _setting(
        LINE,
        _choice("keep", "close"),
        "an idle connection is kept, or closed by it: then each command connects anew",
    )

    config_byte: str = _setting(REGISTRATION, _HEX, "06 00: what it may do by itself")
    prints: str = _setting(
        REGISTRATION,
        _choice("ecr", "terminal", "nobody"),
        "who prints its receipts: the lines come to us (config byte 82), its own printer (no 02), or "
        "nobody (02 without 80)",
    )
    print_blocks: bool = _setting(REGISTRATION, _flag, "06 D3 is offered in 06 00 (tag 26)")
    print_columns: int = _setting(
        REGISTRATION, _number(COLUMNS_MIN, COLUMNS_MAX), "printer width told in 06 00 (tag 12)"
    )
    display_columns: int = _setting(
        REGISTRATION, _number(COLUMNS_MIN, COLUMNS_MAX), "columns of its display"
    )
    charset: str = _setting(
        REGISTRATION, _choice("cp437", "latin-1", "utf-8"), "character set of texts both ways"
    )
    offers_charset: bool = _setting(
        REGISTRATION, _flag, "the character set is offered in 06 00 (tags 14 and 27)"
    )
    message_numbers: bool = _setting(
        REGISTRATION, _flag, "message sequence numbers are offered in 06 00 (tag 1F73)"
    )
    max_apdu: int = _setting(
        REGISTRATION, _number(255, APDU_MAX), "bytes of the longest message it can take"
    )
    status_service: str = _setting(REGISTRATION, _HEX, "BMP 03 of 05 01")

    read_control: str = _setting(CARDS, _HEX, "06 C0, tag 1F15: token, UID and hash")
    read_technologies: str = _setting(CARDS, _HEX, "06 C0, tag 1F60: which readers")
    read_dialog: str = _setting(CARDS, _HEX, "06 C0, BMP FC: its own prompts and beeps")
    abort: str = _setting(
        CARDS, _choice("cards", "any", "never"), "06 B0 ends card waiting, anything, or nothing"
    )

    payment_type: str = _setting(MONEY, _HEX, "BMP 19 of money commands")
    reference_tag: str = _setting(
        MONEY,
        _matching("([A-Z0-9]{2})?", 'two capitals or digits, or "" for none'),
        "name of our reference in E9/1F62; none is sent where it is empty",
    )
    capture_by: str = _setting(
        MONEY,
        _choice("partial_reversal", "book_total"),
        "06 23 with the part to free, or 06 24 with the part to charge",
    )
    capture_amount: str = _setting(
        MONEY,
        _choice("booked", "reversed"),
        "what BMP 04 of the answer to 06 23 says: the amount booked or the part freed",
    )
    trace_in_reversal: bool = _setting(MONEY, _flag, "0B (or 1F2B) of the hold in 06 23 to 06 25")
    aid_in_booking: bool = _setting(MONEY, _flag, "3B of the hold in 06 24")
    release_payment_type: bool = _setting(MONEY, _flag, "BMP 19 in 06 23 and 06 25")
    extension: str = _setting(
        MONEY,
        _choice("none", "added", "total"),
        "06 22 cannot raise a hold, or its result tells the part added or the whole",
    )
    min_amount_minor: int = _setting(
        MONEY, _number(1, AMOUNT_MINOR_MAX), "smallest amount it takes, in minor units"
    )
    reversal: str = _setting(
        MONEY, _choice("last", "any", "none"), "06 30 takes back the last payment, any, or none"
    )
    refund: bool = _setting(MONEY, _flag, "06 31 is possible")
    vending_wait: bool = _setting(MONEY, _flag, "takes 84 9C, goods not issued yet")
    partial_issue: bool = _setting(MONEY, _flag, "takes 84 9D, goods issued for a part")
    print_before_status: bool = _setting(
        MONEY, _flag, "receipts come before 04 0F, whose answer then commits"
    )

    repeat_result: bool = _setting(RECOVERY, _flag, "06 20 tells the last 04 0F again")
    eod_open_holds: str = _setting(
        RECOVERY,
        _choice("refuses", "charges_full", "cancels", "keeps"),
        "what an end of day does with open holds",
    )
    eod_update_s: int = _setting(
        RECOVERY, _number(1, UPDATE_S_MAX), "silence allowed after 27 E0 or 27 FC, in seconds"
    )
    scheduled_reboot: str = _setting(
        RECOVERY,
        _matching("(([01][0-9]|2[0-3]):[0-5][0-9])?", 'HH:MM in quotes, or "" for none'),
        "time of day of its daily restart",
    )

    diagnosis_type: str = _setting(CARE, _HEX, "06 70, tag 1B")
    unsupported: tuple[str, ...] = _setting(CARE, _commands, "commands it answers with 84 83 00")
    tid_settable: bool = _setting(CARE, _flag, "06 1B sets its terminal id")
    feig_functions: bool = _setting(CARE, _flag, "knows 0F A1, 08 13 and 08 14")


SETTINGS: dict[str, Setting] = {
    f.name: Setting(f.name, f.metadata["group"], f.metadata["text"], f.metadata["check"])
    for f in fields(Profile)
    if f.metadata
}


def prints_by(config_byte: str) -> str:
    """Who prints when a terminal is registered with this config byte (PA00P015, 06 00)."""
    bits = int(config_byte, 16)
    if not bits & RECEIPTS_BY_ECR:
        return "terminal"
    return "ecr" if bits & PRINTS_BY_ECR else "nobody"
