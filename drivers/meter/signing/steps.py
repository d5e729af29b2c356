"""What a signing sequence is made of. Pure: a sequence is a generator that yields the next step and is
sent its reply, with the time; it talks to nobody, sleeps never and owns no clock.

A command that makes the meter sign is sent once. When its reply is lost, the sequence asks the meter what
became of it; it never sends it again by itself.
"""

from __future__ import annotations

from collections.abc import Generator, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import TypeVar

from agent.ports import DeviceUnavailable
from drivers.meter.modbus import BusError, ExceptionReply, LineGone, QueueFull

T = TypeVar("T")
WRITE_MOST = 123  # registers in one request (Modbus application protocol V1.1b3 ch. 6.12)


class SigningState(StrEnum):
    """What a signing meter is doing, whoever asked for it."""

    FREE = "free"  # a transaction may begin
    OPEN = "open"  # a transaction runs
    INTERRUPTED = "interrupted"  # it runs, and wants time and text again after a power loss
    SIGNING = "signing"
    RECORD = "record"  # a signed record waits to be fetched and acknowledged
    FAILED = "failed"  # the meter could not sign; its record, if any, is of no use


# --- Steps and replies ----------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Read:
    """`patient`: the meter may be signing, which makes some answer seconds late."""

    address: int
    count: int = 1
    function: int = 3
    patient: bool = False


@dataclass(frozen=True, slots=True)
class Write:
    """`single`: function 6 instead of 16. `signs`: what it orders must not be ordered twice. Never repeated
    by the bus."""

    address: int
    values: tuple[int, ...]
    single: bool = False
    patient: bool = False
    signs: bool = False


@dataclass(frozen=True, slots=True)
class Pause:
    ms: int


Step = Read | Write | Pause


@dataclass(frozen=True, slots=True)
class Reply:
    """`at_ms`: boot-time clock. `error`: why there are no values."""

    at_ms: int
    values: tuple[int, ...] = ()
    error: BusError | None = None


Steps = Generator[Step, Reply, T]


@dataclass(frozen=True, slots=True)
class SignedRecord:
    """`data`: what the meter signed, as OCMF records, one a line, in the meter's own bytes. `mark` names it,
    so that only what was fetched is ever acknowledged. `why`: what makes it useless; `data` is empty then."""

    data: bytes
    mark: str
    why: str = ""


# --- Trouble --------------------------------------------------------------------------------------


class SigningTrouble(DeviceUnavailable):
    """`code` is the named state of docs/errors.md; `state` is the meter's, where it was told. `mark` names a
    record that is of no use, so that the meter can be told to forget it."""

    def __init__(
        self,
        code: str,
        seen: str,
        expected: str,
        remedy: str,
        state: SigningState | None = None,
        mark: str = "",
    ) -> None:
        super().__init__(code, seen, expected, remedy)
        self.state, self.mark = state, mark


def another_is_open(whose: str) -> SigningTrouble:
    return SigningTrouble(
        "MTR-030", f"a signed transaction of {whose} is open", "a meter that is free",
        "end it, fetch its record and acknowledge it first", SigningState.OPEN,
    )  # fmt: skip


def not_fetched() -> SigningTrouble:
    return SigningTrouble(
        "MTR-031", "a signed record of an earlier transaction was not fetched",
        "a meter that is free", "fetch it, store it and acknowledge it first", SigningState.RECORD,
    )  # fmt: skip


def no_end(doing: str, waited_ms: int) -> SigningTrouble:
    return SigningTrouble(
        "MTR-032", f"{doing} for {waited_ms} ms", "a meter that has finished signing",
        "ask again; if it lasts, switch the meter off and on", SigningState.SIGNING,
    )  # fmt: skip


def failed(why: str, mark: str = "") -> SigningTrouble:
    return SigningTrouble(
        "MTR-033", why, "a signed record", "see the code in the meter's manual", SigningState.FAILED, mark
    )  # fmt: skip


def wrong_text(why: str) -> SigningTrouble:
    return SigningTrouble(
        "MTR-034", why, "a text that the meter can put into its record",
        "shorten or correct identification, tariff text or name of the charge point",
    )  # fmt: skip


def wants_text() -> SigningTrouble:
    return SigningTrouble(
        "MTR-035", "the meter lost power in a transaction and wants time and text again",
        "the text that the transaction began with", "tell it with `resume`", SigningState.INTERRUPTED,
    )  # fmt: skip


def nothing_there(state: SigningState) -> SigningTrouble:
    return SigningTrouble(
        "MTR-036", f"the meter is {state} and has no such transaction or record",
        "begin, end, fetch and acknowledge in this order", "look for what else uses this meter", state,
    )  # fmt: skip


def unusable(why: str, mark: str = "") -> SigningTrouble:
    return SigningTrouble(
        "MTR-037", why, "the same bytes, and an OCMF record", "check cable, termination and firmware",
        None, mark,
    )  # fmt: skip


# --- Building blocks ------------------------------------------------------------------------------


def read(address: int, count: int = 1, function: int = 3, *, patient: bool = False
         ) -> Steps[tuple[int, ...]]:  # fmt: skip
    """Raises BusError."""
    reply = yield Read(address, count, function, patient)
    if reply.error is not None:
        raise reply.error
    return reply.values


def read_long(address: int, count: int, most: int, function: int = 3) -> Steps[tuple[int, ...]]:
    """More than one request carries."""
    found: tuple[int, ...] = ()
    while len(found) < count:
        found += yield from read(address + len(found), min(most, count - len(found)), function)
    return found


def write(address: int, values: Sequence[int], *, single: bool = False) -> Steps[None]:
    """As many requests as it takes. Raises BusError; some may have arrived then."""
    for at in range(0, len(values), WRITE_MOST):
        reply = yield Write(address + at, tuple(values[at : at + WRITE_MOST]), single)
        if reply.error is not None:
            raise reply.error


@dataclass(frozen=True, slots=True)
class Sent:
    """When a command was sent. `doubt`: why it is not known whether it arrived."""

    at_ms: int
    doubt: BusError | None


def command(address: int, value: int, *, single: bool = False, patient: bool = False
            ) -> Steps[Sent]:  # fmt: skip
    """A command that signs, sent once. When the reply is lost it may have been obeyed, so only a refusal
    by the meter, or a line on which nothing was sent, raises."""
    reply = yield Write(address, (value,), single, patient, signs=True)
    error = reply.error
    if error is not None and isinstance(error, ExceptionReply | LineGone | QueueFull):
        raise error
    return Sent(reply.at_ms, error)


def now() -> Steps[int]:
    return (yield Pause(0)).at_ms


# --- Texts in registers ---------------------------------------------------------------------------


def text_words(text: bytes, *, ends: bool = False) -> tuple[int, ...]:
    """Two characters a register, padded with a zero byte; `ends`: with at least one."""
    data = text + b"\0" * (1 if ends else 0)
    data += b"\0" * (len(data) % 2)
    return tuple(int.from_bytes(data[n : n + 2], "big") for n in range(0, len(data), 2))


def word_bytes(words: Sequence[int]) -> bytes:
    return b"".join(word.to_bytes(2, "big") for word in words)


def text_in(words: Sequence[int]) -> bytes:
    """Up to the first zero byte."""
    return word_bytes(words).split(b"\0", 1)[0]
