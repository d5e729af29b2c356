"""Everything about the terminal that a test can change while it runs (`set`), with its default.

The table itself is what `help` prints: each switch carries its one line."""

from __future__ import annotations

import re
from dataclasses import asdict, dataclass, field, fields
from typing import Any, TypeVar

T = TypeVar("T")

_DAILY = re.compile(r"(([01][0-9]|2[0-3]):[0-5][0-9])?")


def _switch(default: T, text: str, *choices: str) -> T:
    """A switch with its line of help and, for words, what it may be."""
    made: T = field(default=default, metadata={"help": text, "choices": choices})
    return made


@dataclass(slots=True)
class Switches:
    # --- The line (PA00P016 ch. 2 and 3) ----------------------------------------------------------
    t1_ms: int = _switch(200, "longest time between two bytes of a block")
    t2_ms: int = _switch(5000, "how long an ACK is waited for")
    t3_ms: int = _switch(5000, "how long an answer of the ECR is waited for")
    collision: str = _switch(
        "strict",
        "a block that comes while ours waits for its ACK: ignore or keep it",
        "strict",
        "polite",
    )
    chaos_permille: int = _switch(
        0, "this many of 1000 blocks, either way, meet a random line fault"
    )
    baud_change: bool = _switch(True, "08 40 is done (else 84 FD)")
    baud_wait_s: float = _switch(2.0, "the new rate counts this long after the answer to 08 40")
    baud_after_reboot: str = _switch("keeps", "rate after a reboot", "keeps", "9600")
    check_baud: bool = _switch(False, "bytes are garbled while the ECR's rate is another one")
    tcp_chunk: int | None = _switch(None, "TCP: send in pieces of this many bytes")
    tcp_idle_s: float | None = _switch(None, "TCP: close a connection that is idle for so long")
    wrong_protocol: bool = _switch(False, "answer every APDU with 15 03 69")
    strict_ll: bool = _switch(False, "refuse LL lengths whose high nibble is not F")

    # --- State of the terminal --------------------------------------------------------------------
    status: int = _switch(0x00, "what 05 01 tells; 51 C2 DF E2 E3 E4 B1 B2 also stop payments")
    registration_status: int = _switch(0x10, "status byte 19 of a Registration; 10 is vending mode")
    uninitialised_code: int = _switch(0xDF, "code of a payment while the status is 51")
    locked: int | None = _switch(None, "locked: most commands end with this code")
    locked_style: str = _switch("aborts", "what a locked terminal does", "aborts", "silent")
    card_in_status: bool = _switch(False, "05 01 tells DC while a card is held in the field")
    require_registration: bool = _switch(False, "payments need a Registration (6B)")
    forget_registration: bool = _switch(False, "a Registration does not survive a power cut")
    unsupported: str = _switch("", "control fields that get 84 83 00, as '0693 0850'")
    wrong_password_code: int = _switch(0x37, "code for a wrong password")
    wrong_password: str = _switch(
        "plain", "84 <code> | 84 1E 01 <code> | 80 00 00 and 06 1E <code>", "plain", "1e", "abort"
    )
    password_digits: int = _switch(6, "digits of the password that are compared")
    random_refusal_permille: int = _switch(0, "this many of 1000 commands get 84 1E 01 7D")
    abort: str = _switch("cards", "06 B0 ends card waiting | is always refused", "cards", "refused")
    abort_without_code: bool = _switch(False, "06 1E comes without its code (06 1E 00)")
    clock_skew_s: float = _switch(0.0, "how far the terminal's clock is ahead (may be negative)")
    sequence_numbers: bool = _switch(True, "1F73 is echoed to an ECR that offers it")
    reboot_s: float = _switch(0.3, "how long a reboot of its own keeps it dead")
    reboot_daily: str = _switch("", "HH:MM by its clock: it reboots then, once it is idle")
    asks: str = _switch(
        "nothing", "04 0D, 04 0E before a result", "nothing", "input", "menu", "both"
    )
    asks_unoffered: bool = _switch(False, "also asks an ECR that did not offer it (tag 26)")

    # --- Cards ------------------------------------------------------------------------------------
    pay_type_02_required: bool = _switch(False, "without bit 02 a card read before does not count")
    read_valid_s: int = _switch(60, "how long a card read before can be used")
    tap_s: float = _switch(10.0, "how long a tap stays in the field when nobody reads it")
    card_wait_s: float = _switch(30.0, "how long a payment waits for its card")
    read_limit_s: float | None = _switch(None, "end of a card read without time limit")
    strict_read_type: bool = _switch(False, "without 1F60 only what BMP 19 names is read")
    max_preauth_minor: int | None = _switch(None, "1F0B in a card read")
    card_apdus: bool = _switch(True, "06 C6 is done (else 84 83)")

    # --- What is approved -------------------------------------------------------------------------
    approve_at_most_minor: int | None = _switch(None, "more is not approved, less is")
    min_amount_minor: int = _switch(0, "smaller amounts end with C8")
    max_amount_minor: int | None = _switch(None, "larger amounts end with C3")
    pin_above_minor: int | None = _switch(None, "larger amounts end with pin_code")
    pin_code: int = _switch(0x33, "code where a PIN would be needed")
    max_holds: int = _switch(20, "open holds the terminal can keep (then B8)")
    default_hold_minor: int = _switch(2500, "for a reservation without an amount")
    hold_days: int | None = _switch(None, "a hold expires at the bank after so many days")
    expired_holds: str = _switch(
        "stay", "an expired hold stays listed and is refused | is gone", "stay", "vanish"
    )
    increments: bool = _switch(True, "06 22 with 0B raises an open hold")
    increment_count_max: int | None = _switch(None, "increments of one hold")
    increment_sum_max_minor: int | None = _switch(None, "a hold is not raised above this")
    increment_at_most_minor: int | None = _switch(None, "of an increment only this is approved")
    increment_reports: str = _switch("added", "amount in the result", "added", "total")
    increment_receipt: str = _switch("new", "receipt number in the result", "new", "same")
    host_offline: int | None = _switch(None, "the host cannot be reached; A1, 9B or A3")
    host_s: float | None = _switch(None, "the host's answer takes so long, whatever --speed says")

    # --- Ending holds, taking back ----------------------------------------------------------------
    auto_reversal: str = _switch(
        "immediate",
        "what was never answered is taken back",
        "immediate",
        "next_transaction",
        "never",
    )
    sync_id: bool = _switch(True, "1F1F of the ECR decides about a transaction that broke off")
    partial_reversal: bool = _switch(True, "06 23 is allowed by the acquirer")
    book_total: bool = _switch(True, "06 24 is allowed by the acquirer")
    trace_required: bool = _switch(False, "06 23 and 06 24 need the hold's 0B or 1F2B")
    aid_required: bool = _switch(False, "06 24 needs the hold's 3B")
    cancel_debit: bool = _switch(True, "06 25 is allowed for debit cards")
    cancel_amount: str = _switch("zero", "amount in the result of 06 25", "zero", "reversed")
    enquiry: str = _switch(
        "auto",
        "answer to 06 23 FFFF: list when the ECR sends tags | one | list | list without 87 | no 87 |"
        " lengths that lie | FFFF whatever is open",
        "auto", "one", "list", "list_only", "no_receipt", "malformed", "none",
    )  # fmt: skip
    reversal: str = _switch("last", "06 30 reverses", "last", "any", "none")
    refund: bool = _switch(True, "06 31 is allowed")
    refund_debit: bool = _switch(False, "06 31 is allowed for debit cards")
    foreign_reversal: bool = _switch(True, "06 26 is allowed")
    receipt_reuse: str = _switch(
        "skips_open", "numbers of open holds are given again", "skips_open", "reuses_open"
    )
    receipt_reset_at_eod: bool = _switch(False, "receipt numbers start at 1 after an end of day")

    # --- Vending handshake (04 0F) ----------------------------------------------------------------
    vending_wait_s: float = _switch(30.0, "06 01: how long goods may take (BMP 01 outranks it)")
    vending_repeats: int = _switch(3, "how often 84 9C 00 is accepted (BMP 02 outranks it)")
    vending_repeat_s: float = _switch(2.0, "time to the repeated 04 0F")
    partial_issue: str = _switch(
        "books", "84 9D: books the part | and tells it by 04 0F | takes all back",
        "books", "books_and_tells", "refuses",
    )  # fmt: skip
    lost_result_permille: int = _switch(0, "this many of 1000 results are never sent, and stand")
    extra_results: int = _switch(0, "04 0F comes so many times more though it was answered")

    # --- End of day -------------------------------------------------------------------------------
    eod_due: bool = _switch(False, "an end of day is due: F0")
    eod_due_count: int | None = _switch(None, "due after so many bookings")
    eod_due_h: float | None = _switch(None, "due so many hours after the last one")
    eod_due_blocks_read: bool = _switch(False, "06 C0 is refused with F0, too")
    eod_open_holds: str = _switch(
        "refuses", "open holds at an end of day", "refuses", "charges_full", "cancels", "keeps"
    )
    eod_refuse_code: int = _switch(0xB8, "code when open holds refuse it; B8 or 77")
    eod_code: int | None = _switch(None, "every end of day ends with this code, as A0")
    eod_s: float = _switch(6.0, "how long it takes at --speed 1")
    eod_statuses: int = _switch(0, "04 FF messages meanwhile")
    eod_t4_min: int | None = _switch(None, "T4 in those messages, in minutes")
    eod_completion: str = _switch(
        "plain",
        "06 0F alone | 27 E0, then busy for eod_busy_s | 27 FC, then a reboot",
        "plain",
        "e0",
        "fc",
    )
    eod_busy_s: float = _switch(1.0, "how long the update after 27 E0 takes")
    eod_busy_style: str = _switch("aborts", "what it does meanwhile", "aborts", "silent")
    repeat_after_eod: str = _switch(
        "payment", "06 20 after an end of day gives", "payment", "day", "nothing"
    )
    repeat_needs_control: bool = _switch(
        False, "06 20 sends 04 0F only to an ECR in control (bit 20)"
    )
    set_tid: str = _switch("sets", "06 1B", "sets", "pretends", "refuses")
    diagnosis_type_required: bool = _switch(False, "06 70 without 1B gets 84 83 00")

    # --- What its messages look like --------------------------------------------------------------
    print: str = _switch("auto", "how it prints through the ECR", "auto", "none", "lines", "block")
    print_hold: bool = _switch(False, "also for a reservation")
    print_tags: bool = _switch(False, "06 D1 carries 1F07 behind its text")
    # Feig's order: print first, then 04 0F, whose answer is then the commit point. In the other order
    # a transaction is final only after the answer to the last print command, too.
    print_before_result: bool = _switch(True, "the print comes before 04 0F")
    signature: bool = _switch(False, "06 D0 is asked before 04 0F when the ECR offered it")
    full_pan: bool = _switch(False, "unmasked test PAN, track 2 and expiry, as no terminal should")
    empty_pan: bool = _switch(False, "BMP 22 of length 0")
    clear_tracks: bool = _switch(False, "tracks 1 to 3 and expiry in clear, in every 04 0F")
    pan_mask: str = _switch("6+4", "digits of BMP 22 that are shown", "6+4", "4")
    text_charset: str = _switch(
        "agreed", "texts are sent in this character set", "agreed", "cp437", "latin-1", "utf-8"
    )
    extended_error: bool = _switch(True, "06 1E explains itself in 1F16 and 1F17 where it can")
    extended_error_utf8: bool = _switch(False, "1F17 is UTF-8 though CP437 was agreed")
    tlv_always: bool = _switch(False, "TLV is sent to an ECR that never allowed it, too")
    unknown_tlv: bool = _switch(False, "tags that nobody knows")
    unknown_bmp: bool = _switch(False, "a BMP that nobody knows")
    crc_looks_like_control: bool = _switch(False, "a CRC byte of 04 0F is 02 03 06 10 or 15")
    extra_status_t4_min: int | None = _switch(None, "one more 04 FF, with this T4 in minutes")
    set_clock_in_diagnosis: bool = _switch(False, "04 01 before the Completion of 06 70")

    def change(self, name: str, value: Any) -> None:
        """Raises ValueError for an unknown switch or a value of the wrong kind."""
        known = {item.name: item for item in fields(self)}
        if name not in known:
            raise ValueError(f"no switch {name!r}; known: {', '.join(sorted(known))}")
        choices = known[name].metadata["choices"]
        if choices and value not in choices:
            raise ValueError(f"{name} takes one of {', '.join(choices)}")
        if name == "reboot_daily" and not (isinstance(value, str) and _DAILY.fullmatch(value)):
            raise ValueError(f"reboot_daily takes HH:MM or nothing, not {value!r}")
        if not choices and (wanted := _wanted(str(known[name].type), name, value)):
            raise ValueError(f"{name} takes {wanted}, not {value!r}")
        setattr(self, name, value)

    def change_text(self, text: str) -> None:
        """`name=value` as on a command line: numbers also as 0xF0; on, off, true, false, none.
        Raises ValueError."""
        name, sign, word = text.partition("=")
        if not sign:
            raise ValueError(f"expected name=value, not {text!r}")
        kinds = {item.name: str(item.type) for item in fields(self)}
        if kinds.get(name) == "str":
            self.change(name, word)
        else:
            self.change(name, _value(word))

    def as_json(self) -> dict[str, Any]:
        return asdict(self)


def _wanted(kind: str, name: str, value: Any) -> str:
    """What the switch would take; empty when `value` is that."""
    if value is None:
        return "" if "None" in kind else f"{kind} and cannot be off"
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    if kind.startswith("str"):
        return "" if isinstance(value, str) else "a text"
    if kind == "bool":
        return "" if isinstance(value, bool) else "true or false"
    if kind.startswith("float"):
        may_be_negative = name == "clock_skew_s"
        return "" if is_number and (value >= 0 or may_be_negative) else "a number from 0 up"
    return "" if is_number and isinstance(value, int) and value >= 0 else "a whole number"


_WORDS = {"on": True, "true": True, "off": False, "false": False, "none": None, "null": None}


def _value(word: str) -> Any:
    if word.lower() in _WORDS:
        return _WORDS[word.lower()]
    try:
        return int(word, 0)
    except ValueError:
        pass
    try:
        return float(word)
    except ValueError:
        return word


def switch_help() -> dict[str, str]:
    """Each switch with its line: what it does, what it may be, its default."""
    lines = {}
    for item in fields(Switches):
        choices = item.metadata["choices"]
        what = "|".join(choices) if choices else str(item.type).replace(" | None", " or none")
        default = item.default
        if what == "int" and isinstance(default, int) and "code" in item.name:
            default = f"0x{default:02X}"
        lines[item.name] = f"{item.metadata['help']} ({what}; {default})"
    return lines
