"""ZVT result, error and status codes (PA00P015, chapter on error messages): what each means, who can do
something about it, and what the driver at the charger reads.

A code is one byte; its stable id is `zvt.` and its two hex digits. `key` names the texts for the driver
(agent/driver_ui): what is wrong, and under `try_` and the key, what to try."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import NamedTuple

from agent.ports import Need, Reason

R = Reason


class Fix(StrEnum):
    """Who can do something about a refusal."""

    DRIVER = "driver"  # at the charger: another card, the PIN, taking the card out
    LATER = "later"  # nobody has to: it passes
    OPERATOR = "operator"  # somebody has to change a setting or a contract; other payments go on
    BLOCKED = "blocked"  # no payment can succeed before somebody, or the station itself, has acted


F = Fix


class Code(NamedTuple):
    """`text` is for a technician. An empty key: the texts of the reason."""

    reason: Reason
    fix: Fix
    text: str
    key: str = ""


@dataclass(frozen=True, slots=True)
class Refusal:
    id: str
    reason: Reason
    fix: Fix
    key: str
    text: str


CODES: dict[int, Code] = {
    0x64: Code(R.CARD_NOT_ACCEPTED, F.DRIVER, "card not readable", "card_unreadable"),
    0x65: Code(R.CARD_NOT_ACCEPTED, F.DRIVER, "card data not present", "card_unreadable"),
    0x66: Code(R.TRY_LATER, F.LATER, "processing error", "not_possible"),
    0x67: Code(R.CARD_NOT_ACCEPTED, F.DRIVER, "function not permitted for this card"),
    0x68: Code(R.CARD_NOT_ACCEPTED, F.DRIVER, "function not permitted for this card"),
    0x6A: Code(R.OPERATOR, F.BLOCKED, "turnover file full", "day_closing"),
    # The driver registers anew with the next connection.
    0x6B: Code(R.OPERATOR, F.LATER, "terminal not registered"),
    0x6C: Code(R.CARD_REMOVED, F.DRIVER, "aborted, or no card in time"),
    0x6E: Code(R.CARD_NOT_ACCEPTED, F.DRIVER, "card is on a blocked list", "card_blocked"),
    0x6F: Code(R.OPERATOR, F.BLOCKED, "wrong currency"),
    0x71: Code(R.AMOUNT, F.DRIVER, "credit not sufficient", "no_credit"),
    0x72: Code(R.CARD_NOT_ACCEPTED, F.DRIVER, "chip error", "card_unreadable"),
    0x73: Code(R.CARD_NOT_ACCEPTED, F.DRIVER, "card data incorrect", "card_unreadable"),
    0x77: Code(R.OPERATOR, F.OPERATOR, "end of day not possible"),
    0x78: Code(R.CARD_NOT_ACCEPTED, F.DRIVER, "card expired", "card_expired"),
    0x79: Code(R.CARD_NOT_ACCEPTED, F.DRIVER, "card not yet valid", "card_not_yet"),
    0x7A: Code(R.CARD_NOT_ACCEPTED, F.DRIVER, "card unknown"),
    0x7B: Code(
        R.CARD_NOT_ACCEPTED, F.DRIVER, "fallback to magnetic stripe not possible", "card_unreadable"
    ),
    0x7C: Code(R.CARD_NOT_ACCEPTED, F.DRIVER, "fallback not possible", "card_unreadable"),
    0x7D: Code(R.TRY_LATER, F.LATER, "communication module does not answer"),
    0x7E: Code(
        R.CARD_NOT_ACCEPTED,
        F.DRIVER,
        "fallback not possible, debit advice possible",
        "card_unreadable",
    ),
    0x83: Code(R.NOT_SUPPORTED, F.OPERATOR, "function not possible", "not_possible"),
    0x85: Code(R.OPERATOR, F.BLOCKED, "key missing", "terminal_fault"),
    0x89: Code(R.OPERATOR, F.OPERATOR, "PIN pad defective", "no_pin_here"),
    0x9A: Code(R.TRY_LATER, F.LATER, "protocol error", "not_possible"),
    0x9B: Code(R.TRY_LATER, F.LATER, "error at dial-up or communication"),
    0x9C: Code(R.TRY_LATER, F.LATER, "please wait", "terminal_busy"),
    0xA0: Code(R.TRY_LATER, F.LATER, "receiver not ready", "terminal_busy"),
    0xA1: Code(R.TRY_LATER, F.LATER, "remote station does not answer"),
    0xA3: Code(R.TRY_LATER, F.LATER, "no connection"),
    0xA5: Code(R.NOT_SUPPORTED, F.OPERATOR, "forbidden by payment card rules", "not_possible"),
    0xB1: Code(R.OPERATOR, F.BLOCKED, "memory full", "day_closing"),
    0xB2: Code(R.OPERATOR, F.BLOCKED, "journal full", "day_closing"),
    0xB4: Code(R.UNKNOWN_HOLD, F.OPERATOR, "already reversed"),
    0xB5: Code(R.UNKNOWN_HOLD, F.OPERATOR, "reversal not possible"),
    0xB7: Code(R.AMOUNT, F.OPERATOR, "pre-authorisation amount wrong or too high"),
    0xB8: Code(R.UNKNOWN_HOLD, F.OPERATOR, "pre-authorisation unknown"),
    0xBF: Code(R.OPERATOR, F.BLOCKED, "external power supply failed", "terminal_fault"),
    0xC0: Code(R.OPERATOR, F.BLOCKED, "terminal locked"),
    0xC1: Code(R.OPERATOR, F.BLOCKED, "merchant card locked"),
    0xC2: Code(R.OPERATOR, F.BLOCKED, "diagnosis required", "terminal_update"),
    0xC3: Code(R.AMOUNT, F.OPERATOR, "maximum amount exceeded"),
    0xC4: Code(R.OPERATOR, F.BLOCKED, "card profile invalid"),
    0xC5: Code(R.CARD_NOT_ACCEPTED, F.DRIVER, "payment method not supported"),
    0xC6: Code(R.OPERATOR, F.BLOCKED, "currency not applicable"),
    0xC8: Code(R.AMOUNT, F.OPERATOR, "amount too small"),
    0xC9: Code(R.AMOUNT, F.OPERATOR, "maximum transaction amount too small"),
    0xCB: Code(R.OPERATOR, F.BLOCKED, "function only allowed in EUR"),
    0xCC: Code(R.OPERATOR, F.BLOCKED, "printer not ready", "terminal_fault"),
    0xDC: Code(R.CARD_REMOVED, F.DRIVER, "card inserted", "card_inserted"),
    0xDF: Code(R.OPERATOR, F.BLOCKED, "out of order", "terminal_fault"),
    0xE0: Code(R.TRY_LATER, F.LATER, "remote maintenance", "terminal_update"),
    0xE1: Code(R.CARD_REMOVED, F.DRIVER, "card not completely removed", "card_inserted"),
    0xE2: Code(R.OPERATOR, F.BLOCKED, "card reader defective", "terminal_fault"),
    0xE3: Code(R.OPERATOR, F.BLOCKED, "shutter closed", "terminal_fault"),
    0xE4: Code(R.OPERATOR, F.BLOCKED, "terminal activation required"),
    0xEA: Code(R.CARD_NOT_ACCEPTED, F.DRIVER, "card code not permitted"),
    0xEC: Code(R.PIN_REQUIRED, F.DRIVER, "PIN entry required and not possible", "no_pin_here"),
    0xED: Code(R.PIN_REQUIRED, F.DRIVER, "PIN pad not usable", "no_pin_here"),
    0xF0: Code(R.OPERATOR, F.BLOCKED, "end of day due", "day_closing"),
    0xF6: Code(R.OPERATOR, F.BLOCKED, "OPT action required", "terminal_update"),
    0xFC: Code(R.PIN_REQUIRED, F.DRIVER, "necessary device missing", "no_pin_here"),
    0xFD: Code(R.NOT_SUPPORTED, F.OPERATOR, "baud rate not supported", "not_possible"),
    0xFF: Code(R.TRY_LATER, F.LATER, "system error", "not_possible"),
}
# Codes of the host behind it that terminals hand through as they are. 04, 29, 2B, 36 to 38, 50, 56 and 59
# are card complete's; the others were met at a German host. A card that is to be kept is not called so on
# an open street: its driver reads that it is not accepted.
HOST_CODES: dict[int, Code] = {
    0x02: Code(R.DECLINED, F.DRIVER, "referral: the issuer wants to be called", "call_bank"),
    0x04: Code(R.CARD_NOT_ACCEPTED, F.DRIVER, "card to be retained"),
    0x05: Code(R.DECLINED, F.DRIVER, "declined by the issuer"),
    0x13: Code(R.PIN_REQUIRED, F.DRIVER, "contactless limit reached", "tap_limit"),
    0x21: Code(R.CARD_NOT_ACCEPTED, F.DRIVER, "card expired", "card_expired"),
    0x29: Code(R.CARD_NOT_ACCEPTED, F.DRIVER, "card to be retained"),
    0x2B: Code(R.CARD_NOT_ACCEPTED, F.DRIVER, "card to be retained"),
    0x33: Code(R.PIN_REQUIRED, F.DRIVER, "PIN required"),
    0x36: Code(R.CARD_NOT_ACCEPTED, F.DRIVER, "card expired", "card_expired"),
    0x37: Code(R.PIN_REQUIRED, F.DRIVER, "PIN wrong", "pin_wrong"),
    0x38: Code(R.PIN_REQUIRED, F.DRIVER, "PIN wrong too often", "pin_too_often"),
    0x3A: Code(R.OPERATOR, F.BLOCKED, "terminal id not activated"),
    0x3D: Code(R.PIN_REQUIRED, F.DRIVER, "PIN required"),
    0x41: Code(R.PIN_REQUIRED, F.DRIVER, "PIN required"),
    0x50: Code(R.CARD_NOT_ACCEPTED, F.DRIVER, "card expired", "card_expired"),
    0x56: Code(R.OPERATOR, F.BLOCKED, "terminal inactive"),
    0x59: Code(R.OPERATOR, F.BLOCKED, "terminal locked"),
}
# Nothing is wrong but the moment: the terminal is busy, or its host cannot be reached.
TEMPORARY = frozenset({0x7D, 0x9B, 0x9C, 0xA0, 0xA1, 0xA3, 0xE0})
READY = 0x00
# What 05 01 says where it differs from an error of the same code, or where there is no such error.
STATUS: dict[int, Code] = {
    0x51: Code(R.OPERATOR, F.BLOCKED, "initialisation required", "terminal_update"),
    0x62: Code(R.OPERATOR, F.BLOCKED, "date and time not set", "terminal_update"),
    0x9D: Code(R.TRY_LATER, F.LATER, "partial issue of goods", "terminal_busy"),
}
# The terminal accepts payments although it wants something.
USABLE_STATUS = frozenset({READY, 0xDC, 0xE1})
# What can be done about a status. Every other one that stops payments wants a person.
NEEDS: dict[int, Need] = {
    0x51: Need.INITIALISATION,
    0x62: Need.CLOCK,
    0x6A: Need.END_OF_DAY,
    0x9C: Need.MAINTENANCE,
    0x9D: Need.MAINTENANCE,
    0xB1: Need.END_OF_DAY,
    0xB2: Need.END_OF_DAY,
    0xC2: Need.DIAGNOSIS,
    0xE0: Need.MAINTENANCE,
    0xE4: Need.ACTIVATION,
    0xF0: Need.END_OF_DAY,
}


def explain(code: int) -> tuple[Reason, str]:
    """Reason and text of a code."""
    found = _error(code)
    return found.reason, found.text


def refusal(code: int) -> Refusal:
    """All about the code of 06 1E, 84 xx or BMP 27."""
    return _made(code, _error(code))


def state(code: int) -> Refusal | None:
    """All about the status of 05 01; None when the terminal is ready."""
    return None if code == READY else _made(code, _status(code))


def need(code: int) -> Need | None:
    """What a status asks for; None where payments go on without anybody."""
    return None if code in USABLE_STATUS else NEEDS.get(code, Need.OPERATOR)


def status_text(code: int) -> str:
    return "ready" if code == READY else _status(code).text


def _error(code: int) -> Code:
    """A code nobody knows is a host's refusal or an unknown error."""
    found = CODES.get(code) or HOST_CODES.get(code)
    if found is not None:
        return found
    if 0x01 <= code <= 0x63:
        return Code(R.DECLINED, F.DRIVER, f"declined by the host ({code:02x})")
    return Code(R.TRY_LATER, F.LATER, f"unknown error {code:02x}", "not_possible")


def _status(code: int) -> Code:
    """Host codes mean something else here, or nothing."""
    found = STATUS.get(code) or CODES.get(code)
    return found or Code(R.OPERATOR, F.BLOCKED, f"status {code:02x}")


def _made(code: int, found: Code) -> Refusal:
    key = found.key or str(found.reason)
    return Refusal(f"zvt.{code:02x}", found.reason, found.fix, key, found.text)
