"""What a person asks of a terminal through the running service: done by its desk between its own work,
one at a time, so that nothing else is at the terminal meanwhile. Money work goes first."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable
from typing import Any

from agent.ledger import LedgerError
from agent.ports import Card, DeviceUnavailable, Terminal
from agent.station.day_end import DayEnd, DayEndRefused
from agent.station.patience import bounded

# A technician and a script; whoever comes on top is told to wait.
ERRANDS_MAX = 4
# How an end of day ended, where the terminal could not tell at once: it may after its next booking.
ASK_DAY_S = 60 * 60.0

Work = Callable[[Terminal], Awaitable[Any]]
# A card for whoever asked for one, and its HMAC; None where the terminal gave no token.
Seen = tuple[Card, bytes | None]


class TooMany(Exception):
    """More is asked of a terminal than it can do soon."""


class Errands:
    """`wake` tells the desk that there is something to do."""

    def __init__(self, terminal: Terminal, day: DayEnd, wake: Callable[[], None]) -> None:
        self.day = day
        self._terminal, self._wake = terminal, wake
        self._waiting: deque[tuple[Work, asyncio.Future[Any]]] = deque()
        self._card: asyncio.Future[Seen] | None = None
        self._day_again_s = 0.0

    @property
    def waiting(self) -> bool:
        return bool(self._waiting)

    @property
    def wants_card(self) -> bool:
        return self._card is not None and not self._card.done()

    def ask(self, work: Work) -> asyncio.Future[Any]:
        """Queue `work`; its answer, or why not. Raises TooMany."""
        if len(self._waiting) >= ERRANDS_MAX:
            raise TooMany(f"{ERRANDS_MAX} requests wait for this terminal")
        answer: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        self._waiting.append((work, answer))
        self._wake()
        return answer

    def ask_for_card(self) -> asyncio.Future[Seen]:
        """The next card that belongs to no session. Cancel it to end the wait. Raises TooMany."""
        if self.wants_card:
            raise TooMany("somebody waits for a card already")
        self._card = asyncio.get_running_loop().create_future()
        self._wake()
        return self._card

    def take_card(self, card: Card, mac: bytes | None) -> None:
        if self._card is not None and not self._card.done():
            self._card.set_result((card, mac))

    async def do_next(self, beat: Callable[[], None]) -> None:
        """Do the oldest whose asker still waits. Raises DeviceUnavailable, which its asker is told
        too."""
        work, answer = self._waiting.popleft()
        if answer.done():
            return
        try:
            found = await bounded(work(self._terminal), beat)
        except (DeviceUnavailable, DayEndRefused, LedgerError, ValueError) as error:
            _tell(answer, error)
            if isinstance(error, DeviceUnavailable):
                raise
        else:
            if not answer.done():
                answer.set_result(found)

    def fail(self, error: DeviceUnavailable) -> None:
        """The link is gone: everybody who waits is told."""
        while self._waiting:
            _tell(self._waiting.popleft()[1], error)
        if self._card is not None:
            _tell(self._card, error)

    async def ask_day(self, *, now: bool) -> None:
        """An end of day that broke is asked for: at once on a new link, before the next command
        replaces what tells, and then every hour. Raises DeviceUnavailable."""
        time_s = asyncio.get_running_loop().time()
        if self.day.unclear and (now or time_s >= self._day_again_s):
            self._day_again_s = time_s + ASK_DAY_S
            await self.day.ask(self._terminal)


def _tell(answer: asyncio.Future[Any], error: Exception) -> None:
    if not answer.done():
        answer.set_exception(error)
