"""ZVT result, error and status codes (PA00P015, chapter on error messages) and who can do something about
them."""

from __future__ import annotations

from agent.ports import Reason

R = Reason

# code -> (reason, text for a technician)
CODES: dict[int, tuple[Reason, str]] = {
    0x64: (R.CARD_NOT_ACCEPTED, "card not readable"),
    0x65: (R.CARD_NOT_ACCEPTED, "card data not present"),
    0x66: (R.TRY_LATER, "processing error"),
    0x67: (R.CARD_NOT_ACCEPTED, "function not permitted for this card"),
    0x68: (R.CARD_NOT_ACCEPTED, "function not permitted for this card"),
    0x6A: (R.OPERATOR, "turnover file full"),
    0x6B: (R.OPERATOR, "terminal not registered"),
    0x6C: (R.CARD_REMOVED, "aborted, or no card in time"),
    0x6E: (R.CARD_NOT_ACCEPTED, "card is on a blocked list"),
    0x6F: (R.OPERATOR, "wrong currency"),
    0x71: (R.AMOUNT, "credit not sufficient"),
    0x72: (R.CARD_NOT_ACCEPTED, "chip error"),
    0x73: (R.CARD_NOT_ACCEPTED, "card data incorrect"),
    0x77: (R.OPERATOR, "end of day not possible"),
    0x78: (R.CARD_NOT_ACCEPTED, "card expired"),
    0x79: (R.CARD_NOT_ACCEPTED, "card not yet valid"),
    0x7A: (R.CARD_NOT_ACCEPTED, "card unknown"),
    0x7B: (R.CARD_NOT_ACCEPTED, "fallback to magnetic stripe not possible"),
    0x7C: (R.CARD_NOT_ACCEPTED, "fallback not possible"),
    0x7D: (R.TRY_LATER, "communication module does not answer"),
    0x7E: (R.CARD_NOT_ACCEPTED, "fallback not possible, debit advice possible"),
    0x83: (R.NOT_SUPPORTED, "function not possible"),
    0x85: (R.OPERATOR, "key missing"),
    0x89: (R.OPERATOR, "PIN pad defective"),
    0x9A: (R.TRY_LATER, "protocol error"),
    0x9B: (R.TRY_LATER, "error at dial-up or communication"),
    0x9C: (R.TRY_LATER, "please wait"),
    0xA0: (R.TRY_LATER, "receiver not ready"),
    0xA1: (R.TRY_LATER, "remote station does not answer"),
    0xA3: (R.TRY_LATER, "no connection"),
    0xA5: (R.NOT_SUPPORTED, "forbidden by payment card rules"),
    0xB1: (R.OPERATOR, "memory full"),
    0xB2: (R.OPERATOR, "journal full"),
    0xB4: (R.UNKNOWN_HOLD, "already reversed"),
    0xB5: (R.UNKNOWN_HOLD, "reversal not possible"),
    0xB7: (R.AMOUNT, "pre-authorisation amount wrong or too high"),
    0xB8: (R.UNKNOWN_HOLD, "pre-authorisation unknown"),
    0xBF: (R.OPERATOR, "external power supply failed"),
    0xC0: (R.OPERATOR, "terminal locked"),
    0xC1: (R.OPERATOR, "merchant card locked"),
    0xC2: (R.OPERATOR, "diagnosis required"),
    0xC3: (R.AMOUNT, "maximum amount exceeded"),
    0xC4: (R.OPERATOR, "card profile invalid"),
    0xC5: (R.CARD_NOT_ACCEPTED, "payment method not supported"),
    0xC6: (R.OPERATOR, "currency not applicable"),
    0xC8: (R.AMOUNT, "amount too small"),
    0xC9: (R.AMOUNT, "maximum transaction amount too small"),
    0xCB: (R.OPERATOR, "function only allowed in EUR"),
    0xCC: (R.OPERATOR, "printer not ready"),
    0xDC: (R.CARD_REMOVED, "card inserted"),
    0xDF: (R.OPERATOR, "out of order"),
    0xE0: (R.TRY_LATER, "remote maintenance"),
    0xE1: (R.CARD_REMOVED, "card not completely removed"),
    0xE2: (R.OPERATOR, "card reader defective"),
    0xE3: (R.OPERATOR, "shutter closed"),
    0xE4: (R.OPERATOR, "terminal activation required"),
    0xEA: (R.CARD_NOT_ACCEPTED, "card code not permitted"),
    0xEC: (R.PIN_REQUIRED, "PIN entry required and not possible"),
    0xED: (R.PIN_REQUIRED, "PIN pad not usable"),
    0xF0: (R.OPERATOR, "end of day due"),
    0xF6: (R.OPERATOR, "OPT action required"),
    0xFC: (R.PIN_REQUIRED, "necessary device missing"),
    0xFD: (R.NOT_SUPPORTED, "baud rate not supported"),
    0xFF: (R.TRY_LATER, "system error"),
}
# Codes of the host behind it that terminals hand through as they are. 04, 29, 2B, 36 to 38, 50, 56 and 59
# are card complete's; the others were met at a German host.
HOST_CODES: dict[int, tuple[Reason, str]] = {
    0x02: (R.DECLINED, "referral: the issuer wants to be called"),
    0x04: (R.CARD_NOT_ACCEPTED, "card to be retained"),
    0x05: (R.DECLINED, "declined by the issuer"),
    0x13: (R.PIN_REQUIRED, "contactless limit reached"),
    0x21: (R.CARD_NOT_ACCEPTED, "card expired"),
    0x29: (R.CARD_NOT_ACCEPTED, "card to be retained"),
    0x2B: (R.CARD_NOT_ACCEPTED, "card to be retained"),
    0x33: (R.PIN_REQUIRED, "PIN required"),
    0x36: (R.CARD_NOT_ACCEPTED, "card expired"),
    0x37: (R.PIN_REQUIRED, "PIN wrong"),
    0x38: (R.PIN_REQUIRED, "PIN wrong too often"),
    0x3A: (R.OPERATOR, "terminal id not activated"),
    0x3D: (R.PIN_REQUIRED, "PIN required"),
    0x41: (R.PIN_REQUIRED, "PIN required"),
    0x50: (R.CARD_NOT_ACCEPTED, "card expired"),
    0x56: (R.OPERATOR, "terminal inactive"),
    0x59: (R.OPERATOR, "terminal locked"),
}
# Nothing is wrong but the moment: the terminal is busy, or its host cannot be reached.
TEMPORARY = frozenset({0x7D, 0x9B, 0x9C, 0xA0, 0xA1, 0xA3, 0xE0})
# What 05 01 says where it differs from an error of the same code.
STATUS: dict[int, str] = {
    0x00: "ready",
    0x51: "initialisation required",
    0x62: "date and time not set",
    0x9D: "partial issue of goods",
}
# The terminal accepts payments although it wants something.
USABLE_STATUS = frozenset({0x00, 0xDC, 0xE1})


def explain(code: int) -> tuple[Reason, str]:
    """Reason and text of a code; a code nobody knows is a host's refusal or an unknown error."""
    if code in CODES:
        return CODES[code]
    if code in HOST_CODES:
        return HOST_CODES[code]
    if 0x01 <= code <= 0x63:
        return R.DECLINED, f"declined by the host ({code:02x})"
    return R.TRY_LATER, f"unknown error {code:02x}"


def status_text(code: int) -> str:
    """The status of 05 01. Host codes mean something else there, or nothing."""
    known = STATUS.get(code) or (CODES[code][1] if code in CODES else None)
    return known or f"status {code:02x}"
