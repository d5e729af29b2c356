"""The ECR's end of a line that only exists in memory: what `drivers.line.open_line` would have opened."""

from __future__ import annotations

import asyncio
from typing import Any, Self

from drivers.line import LineLost


class EcrEnd:
    """Bytes to and from a driver. A subclass carries them: `_dial` when the driver opens the line,
    `_carry` for what it writes; what comes back goes to `_arrived`."""

    def __init__(self) -> None:
        self._inbox = bytearray()
        self._news = asyncio.Event()
        self.lost: str | None = None
        self.opened = 0
        self.closed = 0
        self.sent: list[bytes] = []

    def _dial(self) -> None:
        """Raises LineLost when there is nothing to open."""

    def _carry(self, data: bytes) -> None:
        raise NotImplementedError

    # --- What the driver sees ---------------------------------------------------------------------

    async def open(self, _spec: Any) -> Self:
        self._dial()
        self.opened += 1
        self.lost = None
        self._inbox.clear()
        return self

    def write(self, data: bytes) -> None:
        self._check()
        if data:
            self.sent.append(data)
            self._carry(data)

    async def read(self) -> bytes:
        while not self._inbox:
            self._check()
            self._news.clear()
            await self._news.wait()
        return self._take()

    def discard(self) -> bytes:
        return self._take()

    async def close(self) -> None:
        self.closed += 1
        self._lose("closed")

    # --- The line ---------------------------------------------------------------------------------

    def _arrived(self, data: bytes) -> None:
        if self.lost is None:
            self._inbox += data
            self._news.set()

    def _lose(self, why: str) -> None:
        self.lost = self.lost or why
        self._news.set()

    def _check(self) -> None:
        if self.lost is not None:
            raise LineLost(self.lost)

    def _take(self) -> bytes:
        data = bytes(self._inbox)
        self._inbox.clear()
        return data
