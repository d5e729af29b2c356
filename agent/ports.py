"""The few things the agent needs from hardware, and nothing more.

Three ports: `Terminal` (money), `Meter` (energy), `Evse` (contactor and plug). A driver implements one
of them and imports only this module and `agent.values`. What a driver cannot do it does not have:
optional verbs are protocols of their own (`CanIncrement`, `CanEndOfDay`, `SigningMeter` ...), found with
`isinstance`.

Two kinds of failure, never mixed:

* `DeviceUnavailable` is raised when a device does not answer and nothing that moves money was sent.
* A money verb never raises for trouble on the line. It returns exactly one of `Done`, `Refused`,
  `Unknown`; `Unknown` is a state the session lives in, not an error (design §2 rule 2).
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Protocol, runtime_checkable

from agent.values import Money, Reading


class DeviceUnavailable(Exception):
    """The device did not answer, or not as its protocol says. No money was moved by the failed call.

    `code` is a stable id of docs/errors.md; `seen`, `expected` and `remedy` are for a person."""

    def __init__(self, code: str, seen: str, expected: str = "", remedy: str = "") -> None:
        parts = [f"{code}: {seen}"]
        if expected:
            parts.append(f"expected {expected}")
        if remedy:
            parts.append(remedy)
        super().__init__("; ".join(parts))
        self.code, self.seen, self.expected, self.remedy = code, seen, expected, remedy


# --- Where a device is, and what a driver is given ------------------------------------------------


@dataclass(frozen=True, slots=True)
class LineSpec:
    """A serial line: pyserial URL or path, bits a second, and framing such as "8N1"."""

    port: str
    baud: int = 9600
    framing: str = "8N1"


@dataclass(frozen=True, slots=True)
class DriverEnv:
    """What the station hands to every driver: its boot-time clock in milliseconds, and a place to
    tell what happened (`event` name plus plain values, never card data)."""

    boot_ms: Callable[[], int]
    log: Callable[..., None]


@dataclass(frozen=True, slots=True)
class TerminalSpec:
    id: str
    line: LineSpec
    password: str = field(repr=False)
    currency: str
    profile: str = "generic"
    options: Mapping[str, object] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class MeterSpec:
    model: str
    unit: int = 1
    serial: str | None = None
    options: Mapping[str, object] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class EvseSpec:
    id: str
    unit: int = 1
    options: Mapping[str, object] = field(default_factory=dict)


# --- Terminal -------------------------------------------------------------------------------------


class CardKind(StrEnum):
    BANK = "bank"
    RFID = "rfid"
    UNKNOWN = "unknown"


@dataclass(frozen=True, slots=True)
class Card:
    """A card that was read without any amount. `token` is the terminal's own token or the UID: it is
    compared as an HMAC only and never stored, logged or shown (design §2 rule 10)."""

    kind: CardKind
    token: bytes | None = field(default=None, repr=False)
    max_hold: Money | None = None


@dataclass(frozen=True, slots=True)
class HoldRef:
    """How a hold is known at the terminal. All parts together: receipt numbers are reused
    (design §2 rule 3). `date` is the terminal's MMDD, `time` its HHMMSS."""

    terminal_id: str
    receipt: int
    turnover: int | None = None
    trace: int | None = None
    date: str | None = None
    time: str | None = None

    def to_json(self) -> dict[str, int | str | None]:
        return {
            "terminal_id": self.terminal_id,
            "receipt": self.receipt,
            "turnover": self.turnover,
            "trace": self.trace,
            "date": self.date,
            "time": self.time,
        }

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
    """A definite no: nothing was moved. `code` is the terminal's own (ZVT: two hex digits)."""

    reason: Reason
    code: str
    text: str = ""


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


@dataclass(frozen=True, slots=True)
class TerminalIdentity:
    terminal_id: str | None  # TID; the terminal's name at the acquirer
    device_serial: str | None
    software: str | None
    model: str | None
    ready: bool  # accepts payments now
    status_code: str  # the terminal's own (ZVT: two hex digits, "00" ready)
    status_text: str


@dataclass(frozen=True, slots=True)
class LastResult:
    """The terminal's last money result as it repeats it. `result` 0 means executed."""

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


@runtime_checkable
class CanIncrement(Protocol):
    """Capability: raise the amount of an open hold (incremental authorization). The evidence's amount
    is the whole hold afterwards, not the part that was added."""

    async def increment(self, ref: HoldRef, held: Money, add: Money, keep: Keep) -> Outcome: ...


@runtime_checkable
class CanRefund(Protocol):
    """Capability: give back a captured amount."""

    async def refund(self, ref: HoldRef, amount: Money, keep: Keep) -> Outcome: ...


@runtime_checkable
class CanEndOfDay(Protocol):
    """Capability: close the batch. Ordered by the station alone (design §2 rule 6)."""

    async def end_of_day(self, keep: Keep) -> Outcome: ...


# --- Meter ----------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class MeterIdentity:
    model: str
    serial: str | None


class Meter(Protocol):
    """An energy meter. `read` never raises for a bad or missing answer: the reading says so."""

    async def identity(self) -> MeterIdentity:
        """Raises DeviceUnavailable."""

    async def read(self) -> Reading: ...


@runtime_checkable
class SigningMeter(Protocol):
    """Capability: a meter that signs. Begin and end are commands of their own; what `fetch` returned
    must be durable before `acknowledge`, because some meters discard it then."""

    async def begin(self, text: str) -> None: ...

    async def end(self) -> None: ...

    async def fetch(self) -> bytes: ...

    async def acknowledge(self) -> None: ...


# --- EVSE -----------------------------------------------------------------------------------------


class EvseState(StrEnum):
    """After the pilot states of IEC 61851-1. UNKNOWN and FAULT never mean unplugged."""

    UNKNOWN = "unknown"
    UNPLUGGED = "unplugged"
    PLUGGED = "plugged"  # car present, not released
    READY = "ready"  # released, the car draws nothing
    CHARGING = "charging"
    SUSPENDED = "suspended"  # was charging, now not
    FINISHED = "finished"  # our stop took effect, car still there
    FAULT = "fault"


@dataclass(frozen=True, slots=True)
class EvseTransaction:
    """A charge that a controller keeps books of by itself (EVerest). A `token` that is not ours is
    somebody else's session and must be left alone. `begin` and `end` are the register at its two ends:
    their difference is billed. `signed` is a signed meter value as it came."""

    ref: str  # the controller's own id
    token: str | None = None  # what it was authorised with
    begin: Reading | None = None
    end: Reading | None = None
    signed: str | None = None
    reason: str = ""


@dataclass(frozen=True, slots=True)
class EvseSnapshot:
    """The whole picture at `boot_ms` (boot-time clock). Edges are derived by comparing snapshots, so
    a lost or repeated one cannot corrupt anything."""

    state: EvseState
    boot_ms: int
    estop: bool = False
    fault_codes: tuple[str, ...] = ()
    limit_ma: int | None = None
    reading: Reading | None = None  # of a controller that meters by itself
    transaction: EvseTransaction | None = None


@dataclass(frozen=True, slots=True)
class EvseAbilities:
    """`failsafe_s`: after this silence the controller withdraws the release by itself; None when it
    never does, and then an outside watchdog must (design §2 rule 13)."""

    failsafe_s: int | None
    can_unlock: bool = False
    reports_estop: bool = False


class Evse(Protocol):
    """A charge controller. Commands are idempotent and return when sent; whether they worked is
    judged by later snapshots and the meter. All raise DeviceUnavailable."""

    @property
    def abilities(self) -> EvseAbilities: ...

    async def snapshot(self) -> EvseSnapshot:
        """Never raises: without an answer the state is UNKNOWN."""

    async def release(self, limit_ma: int, lease_s: int) -> None:
        """Let energy flow up to `limit_ma`, for `lease_s` unless re-asserted."""

    async def withdraw(self) -> None:
        """Take the release back. Also the safe thing to do at any time."""

    async def stop(self) -> None:
        """End the running charge and keep the car connected."""

    async def unlock(self) -> None: ...
