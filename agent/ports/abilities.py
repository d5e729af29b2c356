"""What some terminals can do beyond the port `Terminal`: capabilities, found with `isinstance`."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Protocol, runtime_checkable

from agent.ports.terminal import Evidence, HoldRef, Keep, Outcome
from agent.values import Money


@runtime_checkable
class CanIncrement(Protocol):
    """Capability: raise the amount of an open hold (incremental authorization). The evidence's amount
    is the whole hold afterwards, not the part that was added. `increment_reports`: what the terminal's own
    last result tells of it, the part "added" or the "total"."""

    @property
    def increment_reports(self) -> str: ...

    async def increment(self, ref: HoldRef, held: Money, add: Money, keep: Keep) -> Outcome: ...


@runtime_checkable
class CanRefund(Protocol):
    """Capability: give back a captured amount, or a part of it, at any time. The card has to be
    presented again: it moves money to whatever card is."""

    async def refund(self, ref: HoldRef, amount: Money, keep: Keep) -> Outcome: ...


@runtime_checkable
class CanReverse(Protocol):
    """Capability: undo a capture as a whole, without the card, until the batch is closed. `ref` and
    `amount` are the capture's own. A terminal that can no longer do it refuses, and has moved nothing:
    whether to refund instead is the caller's decision, and another command."""

    async def reverse(self, ref: HoldRef, amount: Money, keep: Keep) -> Outcome: ...


@runtime_checkable
class CanReleaseForeign(Protocol):
    """Capability: free a hold that another terminal made (a defective one that was replaced). For a
    technician. `ref` brings what the host knows it by: `trace` and `aid`."""

    async def release_foreign(self, ref: HoldRef, held: Money, keep: Keep) -> Outcome: ...


@runtime_checkable
class KnowsLeastAmount(Protocol):
    """Capability: knows the smallest amount (minor units) that its acquirer takes; 0 for any."""

    @property
    def least_amount_minor(self) -> int: ...


@runtime_checkable
class TellsCaptures(Protocol):
    """Capability: says how its last result tells of a capture, by what was "booked" or by the part of the
    hold that was "reversed". Without it the former is assumed."""

    @property
    def capture_reports(self) -> str: ...


class EodHolds(StrEnum):
    """What this terminal does with open holds when its batch is closed."""

    REFUSES = "refuses"
    CHARGES_FULL = "charges_full"
    CANCELS = "cancels"
    KEEPS = "keeps"


@runtime_checkable
class CanEndOfDay(Protocol):
    """Capability: close the batch. Ordered by the station alone (design §2 rule 6).

    The evidence's amount is the batch's total. Its details have flat keys `total_<brand>_count` and
    `total_<brand>_minor` for every brand with bookings, `receipt_first` and `receipt_last`."""

    @property
    def eod_open_holds(self) -> EodHolds: ...

    async def end_of_day(self, keep: Keep) -> Outcome: ...


# --- Goods that are issued at once ----------------------------------------------------------------


class Goods(StrEnum):
    """How far the goods are that a payment is for."""

    ISSUED = "issued"  # all of them: the payment stands
    WAITING = "waiting"  # not yet
    FAILED = "failed"  # none will come: the payment is undone


@dataclass(frozen=True, slots=True)
class PartIssued:
    """Only goods of this price were issued; no more will come. This amount is charged."""

    amount: Money


# Asked when the terminal wants to know, again and again while WAITING; must answer at once.
Handover = Callable[[Evidence], Goods | PartIssued]


@runtime_checkable
class CanPay(Protocol):
    """Capability: take a payment at once, for goods that are issued within seconds (not for a charge:
    that needs a hold). After the card was approved `goods` is asked; nothing is booked before it says
    ISSUED or names a part, and only then is `keep` given the evidence, whose amount is what is charged.
    A terminal that takes no waiting or no parts ends such a payment without charging anything:
    Refused, or Unknown where it does not say so."""

    async def pay(self, amount: Money, reference: str, keep: Keep, goods: Handover) -> Outcome: ...


# --- Care -----------------------------------------------------------------------------------------


class Upkeep(StrEnum):
    """What a technician or the station may have a terminal do, and the values it takes.

    None of them moves money. INITIALISATION, SET_TID, RESET and FACTORY_RESET change what the terminal
    is to its acquirer: with no open hold only (design §2 rule 6), which the station sees to."""

    DIAGNOSIS = "diagnosis"  # kind: "01" line .. "05"; the profile's own where it is not given
    INITIALISATION = "initialisation"
    SET_CLOCK = "set_clock"  # local_time: "2026-11-21T12:04:00", the time of the place
    SET_TID = "set_tid"  # tid: eight digits; read back
    RESET = "reset"
    LANGUAGE = "language"  # language: ISO 639-1 of two letters
    BAUD = "baud"  # baud: the new rate of the line
    DEVICE_INFO = "device_info"
    SELFTEST = "selftest"
    PRINT_SETUP = "print_setup"
    TOTALS = "totals"  # of the open batch; closes nothing
    ACTIVATE_READER = "activate_reader"
    CLOSE_CARD_SESSION = "close_card_session"
    WRITE_FILE = "write_file"  # file_id: a number, data: bytes
    CONFIGURE = "configure"  # settings: hex of the maker's own tags
    FACTORY_RESET = "factory_reset"
    LOG_OFF = "log_off"


@dataclass(frozen=True, slots=True)
class UpkeepReport:
    """How a task ended. `code` and `text` are the terminal's own words on a refusal. `facts` are flat and
    plain (temperature, serial ...), `lines` what it printed; neither holds card data."""

    task: Upkeep
    done: bool
    code: str = ""
    text: str = ""
    facts: Mapping[str, int | str] = field(default_factory=dict)
    lines: tuple[str, ...] = ()


@runtime_checkable
class CanMaintain(Protocol):
    """Capability: be cared for. Ordered by the station alone."""

    async def maintain(self, task: Upkeep, **values: object) -> UpkeepReport:
        """Raises DeviceUnavailable when the terminal does not answer or cannot do it, ValueError for
        values that the task does not take."""
