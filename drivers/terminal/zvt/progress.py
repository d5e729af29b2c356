"""What a terminal says on the way, 04 FF (PA00P015, chapter on intermediate status), as keys of texts
(agent/driver_ui). A key, never the terminal's own words: those may be for a merchant."""

from __future__ import annotations

WITH_REMOVE_CARD = 0x40  # added to a code: the same, and the card has to come out
_LAST_PLAIN = 0x1D
# Text in tag 24: the terminal shows it itself.
OWN_TEXT = 0xFF
DEFAULT = "please_wait"

PROGRESS: dict[int, str] = {
    0x00: "follow_terminal",  # confirm the amount
    0x01: "follow_terminal",  # look at the PIN pad
    0x02: "follow_terminal",
    0x03: "card_not_accepted",
    0x04: "please_wait",  # for the host
    0x05: "checking",  # takes back what broke off
    0x06: "please_wait",  # books what was made offline
    0x07: "card_not_accepted",
    0x08: "card_not_accepted",
    0x09: "card_expired",
    0x0A: "present_card",
    0x0B: "remove_card",
    0x0C: "card_unreadable",
    0x0D: "card_removed",  # aborted
    0x0E: "please_wait",
    0x0F: "day_closing",
    0x12: "not_possible",  # system error
    0x13: "not_possible",
    0x15: "pin_wrong",
    0x17: "please_wait",
    0x18: "pin_too_often",
    # Approved: nothing to fill up or to take before the hold is stored.
    0x1B: "please_wait",
    0x1C: "please_wait",
    0x1D: "declined",
    0x68: "keep_card",  # card detected
    0xC8: "please_wait",  # for the cashier
    0xC9: "terminal_update",  # diagnosis by itself
    0xCA: "terminal_update",  # initialisation by itself
    0xCC: "enter_pin",
    0xD2: "please_wait",  # dials
    0xD3: "please_wait",  # is connected
    0xE0: "follow_terminal",  # a choice on its display
    0xE1: "follow_terminal",
    0xF1: "please_wait",  # offline
    0xF2: "please_wait",  # online
    0xF3: "please_wait",  # offline transaction
    OWN_TEXT: "follow_terminal",
}


def progress_key(code: int) -> str:
    """The text to show for a 04 FF; "please wait" for a code nobody knows."""
    if code in PROGRESS:
        return PROGRESS[code]
    if WITH_REMOVE_CARD <= code <= WITH_REMOVE_CARD + _LAST_PLAIN:
        return "remove_card"
    return DEFAULT
