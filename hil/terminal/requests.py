"""What the terminal asks of the ECR in the middle of a payment: a signature (06 D0), an input (04 0D), a
choice (04 0E); each only of an ECR that offered it in tag 26 of its Registration (PA00P015).

The public parts of the document name the bitmaps of 04 0D and 04 0E, not what must stand in them: the
contents here are assumed. What the ECR answers is kept for the test; a terminal goes on without it."""

from __future__ import annotations

from collections import deque
from typing import Any

from hil.terminal import codec
from hil.terminal.dialogue import SIGNATURE, Talk
from hil.terminal.till import is_positive

INPUT, MENU = 0x040D, 0x040E
INPUT_MIN, LINE_1, INPUT_MAX, ECHO = 0xE0, 0xE1, 0xE9, 0xEA
ANSWERS_KEPT = 20


class Requests:
    def __init__(self, talk: Talk) -> None:
        self._talk = talk
        self._desk = talk.desk
        self.answers: deque[dict[str, Any]] = deque(maxlen=ANSWERS_KEPT)

    async def before_result(self) -> bool:
        """False when the ECR refuses the signature: the transaction is given up then."""
        asks = self._desk.switches.asks
        if asks in ("input", "both"):
            await self._ask(INPUT, _input())
        if asks in ("menu", "both"):
            await self._ask(MENU, _menu())
        if self._desk.switches.signature and self._is_offered(SIGNATURE):
            return is_positive(await self._talk.message(codec.apdu(SIGNATURE)))
        return True

    async def _ask(self, control: int, data: bytes) -> None:
        if not self._is_offered(control) and not self._desk.switches.asks_unoffered:
            return
        answer = await self._talk.message(codec.apdu(control, data))
        self.answers.append({"asked": f"{control:04x}", "answer": answer.hex()})

    def _is_offered(self, control: int) -> bool:
        return f"{control:04x}" in self._desk.store.memory.ecr_commands


def _line(number: int, text: str) -> bytes:
    return bytes([number]) + codec.ll(text.encode("cp437"))


def _input() -> bytes:
    return (
        bytes([INPUT_MIN, 1])
        + _line(LINE_1, "Parking space")
        + bytes([INPUT_MAX, 4])
        + bytes([ECHO, 1])
    )


def _menu() -> bytes:
    lines = ("Receipt?", "Yes", "No")
    return b"".join(_line(LINE_1 + at, text) for at, text in enumerate(lines))
