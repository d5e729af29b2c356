"""Who is next at the terminal: one command at a time, and the more urgent one first.

`Turns` decides and knows no clock; `Turnstile` lets coroutines wait for its decision. A card read never
waits ahead of anything, and while one runs it is interrupted by whatever comes (`interrupt`)."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from enum import IntEnum

# The agent itself never has more than three commands waiting (a desk's, its screen's, a technician's). A
# caller that goes on calling is broken, and its calls end here instead of filling the memory.
WAITING_MAX = 16
# A status enquiry is due every minute (PA00P015, 05 01) so that the terminal can do its own jobs. After this
# long it is next, whatever waits; what runs before it is one command.
STATUS_PATIENCE_MS = 20_000


class Rank(IntEnum):
    """Lower goes first; equals go in the order they came."""

    MONEY = 0
    ASKING = 1
    SHOW = 2
    STATUS = 3
    CARE = 4
    CARD = 5


@dataclass(frozen=True, slots=True)
class Ticket:
    rank: Rank
    number: int
    since_ms: int


class Crowded(Exception):
    """More commands wait than anybody can have meant. Nothing was sent."""


class Turns:
    def __init__(self) -> None:
        self._waiting: list[Ticket] = []
        self._running: Ticket | None = None
        self._number = 0

    @property
    def running(self) -> Ticket | None:
        return self._running

    @property
    def waiting(self) -> int:
        return len(self._waiting)

    def enter(self, rank: Rank, now: int) -> Ticket:
        """Raises Crowded."""
        if len(self._waiting) >= WAITING_MAX:
            raise Crowded(f"{WAITING_MAX} commands wait for the terminal")
        self._number += 1
        ticket = Ticket(rank, self._number, now)
        self._waiting.append(ticket)
        return ticket

    def leave(self, ticket: Ticket) -> None:
        """Done, or tired of waiting."""
        if self._running == ticket:
            self._running = None
        elif ticket in self._waiting:
            self._waiting.remove(ticket)

    def next(self, now: int) -> Ticket | None:
        """Whose turn begins now; None while another one runs or nobody waits."""
        if self._running is not None or not self._waiting:
            return None
        chosen = min(self._waiting, key=lambda ticket: _order(ticket, now))
        self._waiting.remove(chosen)
        self._running = chosen
        return chosen

    def wanted_by_others(self) -> bool:
        """Whether a card read has to give way, or should not begin."""
        return any(ticket.rank is not Rank.CARD for ticket in self._waiting)


def _order(ticket: Ticket, now: int) -> tuple[int, int]:
    overdue = ticket.rank is Rank.STATUS and now - ticket.since_ms >= STATUS_PATIENCE_MS
    return (-1 if overdue else ticket.rank, ticket.number)


class Turnstile:
    """`interrupt` is called when something else waits while a card is being read."""

    def __init__(self, boot_ms: Callable[[], int], interrupt: Callable[[], None]) -> None:
        self._boot_ms, self._interrupt = boot_ms, interrupt
        self._turns = Turns()
        self.others = 0  # commands that came, card reads not counted
        self._let_in: dict[Ticket, asyncio.Future[None]] = {}

    def wanted(self) -> bool:
        """Something more urgent than a card read waits."""
        return self._turns.wanted_by_others()

    @asynccontextmanager
    async def at(self, rank: Rank) -> AsyncIterator[None]:
        """A turn. Raises Crowded at once instead of waiting in too long a queue."""
        ticket = self._turns.enter(rank, self._boot_ms())
        self.others += rank is not Rank.CARD
        entry = self._let_in[ticket] = asyncio.get_running_loop().create_future()
        try:
            self._advance()
            running = self._turns.running
            if running is not None and running.rank is Rank.CARD and rank is not Rank.CARD:
                self._interrupt()
            await entry
            yield
        finally:
            self._let_in.pop(ticket, None)
            self._turns.leave(ticket)
            self._advance()

    def _advance(self) -> None:
        ticket = self._turns.next(self._boot_ms())
        # Whoever was cancelled at this very moment leaves by itself, and the next one comes then.
        if ticket is not None and not self._let_in[ticket].done():
            self._let_in[ticket].set_result(None)
