"""The port of a card terminal: its values, and the verbs that every terminal has."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Protocol

from agent.values import Money


class CardKind(StrEnum):
    BANK = "bank"
    RFID = "rfid"
    UNKNOWN = "unknown"


@dataclass(frozen=True, slots=True)
class Card:
    """A card that was read without any amount. `token` is the terminal's own token or the UID: it is
    compared as an HMAC only and never stored, logged or shown (design §2 rule 10). `details`: card_name
    and card_last4, where the terminal says them before any amount."""

    kind: CardKind
    token: bytes | None = field(default=None, repr=False)
    max_hold: Money | None = None
    details: Mapping[str, int | str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class HoldRef:
    """How a hold is known at the terminal. All parts together: receipt numbers are reused
    (design §2 rule 3). `date` is the terminal's MMDD, `time` its HHMMSS. `aid` is the authorisation's
    own attribute (ZVT: BMP 3B), kept only for terminals that want it back."""

    terminal_id: str
    receipt: int
    turnover: int | None = None
    trace: int | None = None
    date: str | None = None
    time: str | None = None
    aid: str | None = None

    def to_json(self) -> dict[str, int | str | None]:
        found: dict[str, int | str | None] = {
            "terminal_id": self.terminal_id,
            "receipt": self.receipt,
            "turnover": self.turnover,
            "trace": self.trace,
            "date": self.date,
            "time": self.time,
        }
        if self.aid is not None:
            found["aid"] = self.aid
        return found

    @classmethod
    def from_json(cls, data: Mapping[str, int | str | None]) -> HoldRef:
        return cls(**data)  # type: ignore[arg-type]


@dataclass(frozen=True, slots=True)
class Evidence:
    """What the terminal reported about one money command (ZVT: a 04 0F with result 00).

    `amount` is what the terminal booked, held or charged, never what was asked; None when it did not
    say. A protocol whose full approval names no amount because it means the whole one, and that reports
    a partial approval by another message (PSP), has said it. `details` are further plain facts for the
    receipt (card_name, card_last4, aid, vu, text ...); the parser has already dropped card data."""

    ref: HoldRef
    amount: Money | None
    details: Mapping[str, int | str] = field(default_factory=dict)


class Verdict(StrEnum):
    """The agent's word on evidence: durable, or not. After REJECT the verb tells the terminal no (or
    undoes the command where the terminal waits for no answer) and returns `Unknown` whatever the
    terminal says then (design §2 rule 14)."""

    STORED = "stored"
    REJECT = "reject"


# Given to every money verb. The verb calls it once with its evidence and waits; only after STORED may
# it answer the terminal positively (design §2 rules 1 and 14).
Keep = Callable[[Evidence], Awaitable[Verdict]]


class Reason(StrEnum):
    """Why a terminal refused, by who can do something about it."""

    DECLINED = "declined"  # the issuer or host said no
    CARD_REMOVED = "card_removed"  # aborted by the driver, or no card in time
    CARD_NOT_ACCEPTED = "card_not_accepted"  # unreadable, expired, foreign, blocked
    PIN_REQUIRED = "pin_required"
    AMOUNT = "amount"  # too high, too low, or no credit
    TRY_LATER = "try_later"  # host or line of the terminal, busy, maintenance
    OPERATOR = "operator"  # initialisation, diagnosis, end of day, configuration
    UNKNOWN_HOLD = "unknown_hold"  # the terminal does not know the receipt
    NOT_SUPPORTED = "not_supported"


@dataclass(frozen=True, slots=True)
class Done:
    """The terminal has completed the command; its evidence was stored before."""

    evidence: Evidence


@dataclass(frozen=True, slots=True)
class Refused:
    """A definite no: nothing was moved. `code` is the terminal's own (ZVT: two hex digits). `key` names
    words for the driver (agent.driver_ui) where the terminal says more than the reason."""

    reason: Reason
    code: str
    text: str = ""
    key: str = ""


@dataclass(frozen=True, slots=True)
class NotSent:
    """Not executed: the command did not reach the terminal at all (port gone, link down before the
    first byte, or the terminal refused to start it). Retrying is safe."""

    why: str


@dataclass(frozen=True, slots=True)
class Unknown:
    """The dialogue broke after the first byte. Ask before anything is sent again."""

    why: str


Outcome = Done | Refused | NotSent | Unknown


class Need(StrEnum):
    """What a terminal asks to have done before, or beside, accepting payments."""

    END_OF_DAY = "end_of_day"
    INITIALISATION = "initialisation"
    DIAGNOSIS = "diagnosis"
    CLOCK = "clock"
    ACTIVATION = "activation"  # by its operator, at its host
    MAINTENANCE = "maintenance"  # it is at work on itself: wait
    OPERATOR = "operator"  # a person has to come


@dataclass(frozen=True, slots=True)
class TerminalIdentity:
    terminal_id: str | None  # TID; the terminal's name at the acquirer
    device_serial: str | None
    software: str | None
    model: str | None
    ready: bool  # accepts payments now
    status_code: str  # the terminal's own (ZVT: two hex digits, "00" ready)
    status_text: str
    needs: tuple[str, ...] = ()  # values of Need, the most urgent first


NOT_TOLD = -1  # whether the last result was executed


@dataclass(frozen=True, slots=True)
class LastResult:
    """The terminal's last money result as it repeats it. `result` 0 means executed, NOT_TOLD that it does not
    say; of any other nothing was booked. One that failed may have no receipt: its number is 0 then."""

    result: int
    evidence: Evidence


@dataclass(frozen=True, slots=True)
class OpenHolds:
    """Receipt numbers of open holds. Not `complete`: the terminal names only some of them, so one that
    is missing here may still be open."""

    receipts: tuple[int, ...]
    complete: bool = True


class Terminal(Protocol):
    """A card terminal. One command at a time; the driver queues, and a money verb or `show` ends a
    running `read_card` by aborting it."""

    async def connect(self) -> TerminalIdentity:
        """Open the line, register, ask for the state. Raises DeviceUnavailable; may be called again
        after any failure, and does nothing harmful when the link is up."""

    async def close(self) -> None: ...

    async def identify(self) -> TerminalIdentity:
        """Who is there and in what state. Raises DeviceUnavailable."""

    async def read_card(self, timeout_s: int) -> Card | None:
        """Wait for a card at most `timeout_s` (1 to 15). None when none came or the read was
        interrupted by another verb. Raises DeviceUnavailable."""

    async def authorize(self, amount: Money, reference: str, keep: Keep) -> Outcome:
        """Hold `amount`. The evidence says what was approved, which may be less."""

    async def capture(self, ref: HoldRef, held: Money, amount: Money, keep: Keep) -> Outcome:
        """Charge `amount` of the hold `ref` and free the rest, once and finally."""

    async def release(self, ref: HoldRef, held: Money, keep: Keep) -> Outcome:
        """Free the whole hold."""

    async def open_holds(self) -> OpenHolds:
        """Which holds are still open at the terminal. Raises DeviceUnavailable."""

    async def last_result(self) -> LastResult | None:
        """The last money result the terminal remembers. Raises DeviceUnavailable."""

    async def show(self, lines: Sequence[str], hold_s: int = 0) -> None:
        """Text on the terminal's display; `hold_s` 0 means until replaced. Best effort: raises
        DeviceUnavailable, and the caller may ignore it."""
