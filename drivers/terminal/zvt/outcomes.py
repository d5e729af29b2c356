"""How a ZVT command can end, what a 04 0F may mean in it, and reading both from the bytes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum, auto

from drivers.terminal.zvt.apdu import Apdu

NO_CODE = 0xFF  # an end without a code: the document's "system error"


class Ends(Enum):
    """What ends a command."""

    WITH_COMPLETION = auto()  # 06 0F or 06 1E
    WITH_ANSWER = auto()  # the 80 00 itself (06 02, 06 B0, 06 E0 ...)
    WITH_STATUS = auto()  # 04 0F without a Completion (06 C0)


class Results(Enum):
    """What a 04 0F means in a dialogue."""

    NONE = auto()  # nothing of ours was booked
    REPORT = auto()  # an old result is told again (06 20)
    CARD = auto()  # a card was read, nothing was booked (06 C0, 06 E6 without an amount)
    EVIDENCE = auto()  # money moves
    DAY = auto()  # a batch was closed (06 50)


@dataclass(frozen=True, slots=True)
class Evidence:
    """A 04 0F with result 00 that waits for `decide`. At most one in a dialogue, unless it was asked for
    again by Later."""

    apdu: Apdu


@dataclass(frozen=True, slots=True)
class Later:
    """A decision on evidence: the goods are not out yet, tell it again (84 9C). For 06 01 alone."""


@dataclass(frozen=True, slots=True)
class Partly:
    """A decision on evidence: goods for this amount only, which is what the terminal then books (84 9D).
    For 06 01 alone."""

    amount_minor: int


# True: it is stored, and stands. False: it is not, and must not stand.
Decision = bool | Later | Partly


@dataclass(frozen=True, slots=True)
class Completed:
    """06 0F, or for 06 C0 its 04 0F, or the answer of a command that ends with it. `status`: the 04 0F that
    was stored, or the one reported. `issued_minor`: the part that was to be booked of it (84 9D)."""

    completion: Apdu
    status: Apdu | None = None
    issued_minor: int | None = None


@dataclass(frozen=True, slots=True)
class Aborted:
    """06 1E, or a Completion after a 04 0F that failed. `code` is the terminal's."""

    code: int
    apdu: Apdu


@dataclass(frozen=True, slots=True)
class Negative:
    """84 xx to the command itself: nothing was started."""

    code: int


@dataclass(frozen=True, slots=True)
class Disputed:
    """The terminal ended the command, but not so that its outcome is known: its words contradict each
    other, or we refused its result."""

    why: str


@dataclass(frozen=True, slots=True)
class Broken:
    """The dialogue ended without a word. Our command's bytes had left, so its outcome is unknown."""

    why: str


@dataclass(frozen=True, slots=True)
class Progress:
    """04 FF: what the terminal is doing. `timeout_min`: the T4 it asks for. `lines` are its own text."""

    code: int
    timeout_min: int | None = None
    lines: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Printed:
    """06 D1 and 06 D3: lines of a receipt, numbers like those of cards masked. `kind` is 1F07 (1 merchant, 2
    customer, 3 administration), None where it is not told. `last`: the receipt is complete."""

    kind: int | None
    lines: tuple[str, ...]
    last: bool


@dataclass(frozen=True, slots=True)
class Asked:
    """The terminal asked for something, and was answered. `command` is the control field: 04 01 wants the
    ECR's clock set (`values`: date YYMMDD, time HHMMSS), 04 0C a part of a file (file_id, offset, length
    sent)."""

    command: str
    values: Mapping[str, int | str]


Outcome = Completed | Aborted | Negative | Disputed | Broken
Told = Progress | Printed | Asked
DialogueEvent = Evidence | Told | Outcome


def is_booking(apdu: Apdu) -> bool:
    """A 04 0F that says, or may say, that money was moved. The totals of an end of day do not."""
    if apdu.command != "040f" or apdu.get("totals") is not None:
        return False
    result = apdu.get("result")
    return result == 0 or (result is None and apdu.get("receipt") is not None)


def is_of_a_card(apdu: Apdu) -> bool:
    """A 04 0F that tells of a card and of nothing that was booked."""
    receipt = apdu.text("receipt")
    return not apdu.get("amount_minor") and (receipt is None or not receipt.strip("0"))


def is_of_the_day(apdu: Apdu) -> bool:
    """A 04 0F with result 00 that tells what a batch came to, and not of a single booking."""
    single = apdu.get("totals") is None and apdu.get("receipt") is not None
    return apdu.get("result") == 0 and not single


def same_booking(kept: Apdu, told: Apdu, *, amount: bool = True) -> bool:
    """Whether `told` contradicts `kept` in nothing: fields may be missing in either."""
    names = ["receipt", "currency", "trace", "turnover", "tid"]
    names += ["amount_minor"] if amount else []
    pairs = [(kept.get(name), told.get(name)) for name in names]
    return all(a is None or b is None or a == b for a, b in pairs)


def result_code(apdu: Apdu) -> int:
    return apdu.integer("result") or NO_CODE


def negative_code(data: bytes) -> int:
    """84 xx; 84 1E brings the code of the Abort that it stands for (06 00 with a wrong currency)."""
    return data[3] if data[1] == 0x1E and len(data) > 3 else data[1]


def abort_code(apdu: Apdu) -> int:
    """What 06 1E says; some terminals say nothing."""
    error = apdu.text("error")
    return int(error, 16) if error else NO_CODE
