"""Faults of the serial line, each for the next `count` blocks it applies to.

Sending faults spoil blocks of the terminal; receiving faults spoil what it does with good blocks of
the ECR. `silent` outranks all and has no end of its own when its count is 0."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass

from hil.terminal.framing import block

SENDING = (
    "bad_crc",
    "gap",  # a pause longer than T1 inside the block
    "gap_below",  # a pause just below T1: must be tolerated
    "byte_loss",
    "duplicate",
    "noise",  # garbage before DLE STX
    "lone_dle",  # a single DLE before the block
    "reset",  # TCP: the connection is reset instead
)
RECEIVING = (
    "nak",  # a good block is refused
    "no_ack",  # executed, but the ACK is lost
    "no_answer",  # acknowledged, but not executed and never answered
    "ignored",  # neither acknowledged nor executed
    "collision",  # an Abort is missed because a card is being sent at this very moment
    "silent",
    "lost_result",  # of a money command: it is executed, and neither 04 0F nor an end is sent
)
FOR_EVER = -1
# What a bad line does by itself: chaos takes one of these.
CHAOS_SENDING = ("bad_crc", "byte_loss", "duplicate", "noise", "lone_dle")
CHAOS_RECEIVING = ("nak", "no_ack", "ignored")
FAULT_HELP = {
    "bad_crc": "a block of ours has a wrong CRC",
    "gap": "a pause longer than T1 inside a block",
    "gap_below": "a pause just below T1 inside a block",
    "byte_loss": "a byte of a block gets lost",
    "duplicate": "a block is sent twice",
    "noise": "garbage before DLE STX",
    "lone_dle": "a single DLE before a block",
    "reset": "TCP: the connection is reset instead of a message",
    "nak": "a good block of the ECR is refused",
    "no_ack": "a block is taken, its ACK is lost",
    "no_answer": "a block is acknowledged, not executed, never answered",
    "ignored": "a block is neither acknowledged nor executed",
    "collision": "an Abort is missed because a card (`card`) is being sent right now",
    "lost_result": "a transaction stands, but neither 04 0F nor 06 0F is sent",
    "silent": "hears and says nothing; -1 until ended",
}

# Bytes that look like the start of something: the receiver must not fall for them.
NOISE = bytes.fromhex("0055ff1000aa7f")


@dataclass(frozen=True, slots=True)
class Sending:
    """What goes on the line for one block: bytes, and where and how long to pause."""

    data: bytes
    gap_at: int = 0
    gap_s: float = 0.0


class Faults:
    """`seed` decides which byte gets lost, so a failing test can be repeated."""

    def __init__(self, seed: int = 1) -> None:
        self._left: dict[str, int] = {}
        self._random = random.Random(seed)
        self.collision_card = "visa"
        self.chaos_permille: Callable[[], int] = lambda: 0

    def _strikes(self, choices: tuple[str, ...]) -> str | None:
        if self._random.randrange(1000) >= self.chaos_permille():
            return None
        return self._random.choice(choices)

    def chaos(self, choices: tuple[str, ...]) -> None:
        """A bad line: one of `choices` may be due for this block."""
        if name := self._strikes(choices):
            self._left.setdefault(name, 1)

    def loses_result(self, permille: int) -> bool:
        return self.take("lost_result") or self._random.randrange(1000) < permille

    def garbled(self, data: bytes) -> bytes:
        """What another baud rate makes of it."""
        return bytes(self._random.choice((0x00, 0x80, 0xF8, 0xFE, 0xFF)) for _ in data)

    def set(self, name: str, count: int) -> None:
        """`count` 0 ends the fault; for `silent` -1 means until ended. Raises ValueError."""
        if name not in SENDING + RECEIVING:
            raise ValueError(f"no fault {name!r}; known: {', '.join(SENDING + RECEIVING)}")
        if not isinstance(count, int) or isinstance(count, bool) or count < FOR_EVER:
            raise ValueError(f"count is a whole number from -1 (for ever), not {count!r}")
        if count:
            self._left[name] = count
        else:
            self._left.pop(name, None)

    def set_text(self, text: str) -> None:
        """`name` or `name=count`, as on a command line. Raises ValueError."""
        name, _, count = text.partition("=")
        try:
            self.set(name, int(count or "1"))
        except ValueError as error:
            raise ValueError(f"fault {text}: {error}") from error

    def clear(self) -> None:
        self._left.clear()

    def active(self) -> dict[str, int]:
        return dict(self._left)

    def take(self, name: str) -> bool:
        """Does the fault apply now? Counts it."""
        left = self._left.get(name, 0)
        if left == 0:
            return False
        if left > 0:
            self.set(name, left - 1)
        return True

    def sending(self, apdu: bytes, t1_s: float) -> Sending:
        self.chaos(CHAOS_SENDING)
        data = block(apdu)
        middle = len(data) // 2
        if self.take("bad_crc"):
            data = data[:-1] + bytes([data[-1] ^ 0x5A])
        if self.take("byte_loss"):
            lost = self._random.randrange(2, len(data))
            data = data[:lost] + data[lost + 1 :]
        if self.take("duplicate"):
            data += data
        if self.take("noise"):
            data = NOISE + data
        if self.take("lone_dle"):
            data = b"\x10" + data
        if self.take("gap"):
            return Sending(data, middle, t1_s * 1.6)
        if self.take("gap_below"):
            return Sending(data, middle, t1_s * 0.6)
        return Sending(data)
