"""Two ptys joined back to back, as a cable between two programs; bytes may be held back on the way."""

from __future__ import annotations

import asyncio
import os
import tty
from collections.abc import Callable


class Relay:
    """`near` and `far` are the two paths. `delay_s(n)` is asked for every chunk that goes from far to
    near, n counting the chunks from 0; chunks may overtake each other as they may not on a wire, so give
    a chunk a delay only where the next one comes later anyway."""

    def __init__(self) -> None:
        self.delay_s: Callable[[int], float] = lambda _n: 0.0
        self.requests = 0
        self.replies = 0
        pairs = [os.openpty() for _ in range(2)]
        for _, slave in pairs:
            tty.setraw(slave)
        self._near, self._far = (master for master, _ in pairs)
        self._slaves = [slave for _, slave in pairs]
        self.near, self.far = (os.ttyname(slave) for slave in self._slaves)

    def __enter__(self) -> Relay:
        loop = asyncio.get_running_loop()
        loop.add_reader(self._near, self._outward)
        loop.add_reader(self._far, self._inward)
        return self

    def __exit__(self, *_: object) -> None:
        loop = asyncio.get_running_loop()
        for fd in (self._near, self._far):
            loop.remove_reader(fd)
        for fd in (self._near, self._far, *self._slaves):
            os.close(fd)
        self._near = self._far = -1

    def _outward(self) -> None:
        self.requests += 1
        os.write(self._far, os.read(self._near, 4096))

    def _inward(self) -> None:
        data = os.read(self._far, 4096)
        delay = self.delay_s(self.replies)
        self.replies += 1
        asyncio.get_running_loop().call_later(delay, self._deliver, data)

    def _deliver(self, data: bytes) -> None:
        if self._near >= 0:
            os.write(self._near, data)
