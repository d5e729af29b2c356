"""Everything about the terminal that a test can change while it runs (`set`), with its default."""

from __future__ import annotations

from dataclasses import asdict, dataclass, fields
from typing import Any

# Words a switch may take; every other switch is a number, a truth value or (where None) off.
CHOICES = {
    "auto_reversal": ("immediate", "next_transaction", "never"),
    "print": ("auto", "none", "lines", "block"),
    "enquiry": ("auto", "one", "list", "no_receipt"),
    "cancel_amount": ("zero", "reversed"),
    "eod_open_holds": ("refuses", "charges_full", "cancels", "keeps"),
    "collision": ("strict", "polite"),
}


@dataclass(slots=True)
class Switches:
    # The line (PA00P016 ch. 2): 200 ms between bytes, 5 s for an ACK, 5 s for an answer.
    t1_ms: int = 200
    t2_ms: int = 5000
    t3_ms: int = 5000
    # strict: while it waits for its own ACK it does not look at the other side's block, as the
    # document tells. polite: it acknowledges and keeps the block for afterwards.
    collision: str = "strict"

    # State of the terminal. `status` answers 05 01; `locked` is the code every payment is aborted with.
    status: int = 0x00
    registration_status: int = 0x10  # vending-machine mode
    locked: int | None = None
    eod_due: bool = False
    require_registration: bool = False
    forget_registration: bool = False  # at power-up
    wrong_password_code: int = 0x37

    # Cards and holds.
    pay_type_02_required: bool = False  # without bit 02 a card read before does not count
    read_valid_s: int = 60  # how long a card read before can be used for a reservation
    tap_s: float = 10.0  # how long a tap stays in the field when nobody reads it
    card_wait_s: float = 30.0
    approve_at_most_minor: int | None = None
    max_holds: int = 20
    default_hold_minor: int = 2500  # for a reservation without an amount
    auto_reversal: str = "immediate"
    partial_reversal: bool = True  # 06 23 allowed by the acquirer
    book_total: bool = True  # 06 24 allowed by the acquirer
    cancel_amount: str = "zero"
    enquiry: str = "auto"
    eod_open_holds: str = "refuses"
    vending_repeats: int = 3  # how often 84 9C 00 is accepted
    vending_repeat_s: float = 2.0

    # What its messages look like.
    print: str = "auto"
    print_hold: bool = False
    # Feig's order: print first, then 04 0F, whose answer is then the commit point. In the other order
    # a transaction is final only after the answer to the last print command, too.
    print_before_result: bool = True
    full_pan: bool = False  # unmasked test PAN, track 2 and expiry, as no terminal should send them
    empty_pan: bool = False
    unknown_tlv: bool = False
    unknown_bmp: bool = False
    extra_status_t4_min: int | None = None  # one more 04 FF, with this T4 in minutes
    set_clock_in_diagnosis: bool = False  # 04 01 before the Completion of 06 70
    max_preauth_minor: int | None = None  # tag 1F0B in a card read

    def change(self, name: str, value: Any) -> None:
        """Raises ValueError for an unknown switch or a value of the wrong kind."""
        kinds = {field.name: field.type for field in fields(self)}
        if name not in kinds:
            raise ValueError(f"no switch {name!r}; known: {', '.join(sorted(kinds))}")
        kind = str(kinds[name])
        if name in CHOICES:
            if value not in CHOICES[name]:
                raise ValueError(f"{name} takes one of {', '.join(CHOICES[name])}")
        elif value is None:
            if "None" not in kind:
                raise ValueError(f"{name} cannot be off; it is {kind}")
        elif kind.startswith("float"):
            if isinstance(value, bool) or not isinstance(value, int | float) or value < 0:
                raise ValueError(f"{name} takes seconds, not {value!r}")
        elif kind == "bool":
            if not isinstance(value, bool):
                raise ValueError(f"{name} takes true or false, not {value!r}")
        elif isinstance(value, bool) or not isinstance(value, int) or value < 0:
            raise ValueError(f"{name} takes a whole number, not {value!r}")
        setattr(self, name, value)

    def as_json(self) -> dict[str, Any]:
        return asdict(self)
