"""A serial cable in memory: the agent's end is a `drivers.line.Line`, the other a simulated device.

Bytes take the time that the line needs for them, and may be lost, late, doubled or changed on the way."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable
from typing import Protocol

from agent.ports import LineSpec
from drivers.line import LineLost
from simulate.loop import SharedLoop

BITS_PER_CHAR = 11
LATE_S = 5.0  # T2 of PA00P016: a block without an ACK is sent again
PENDING_MAX = 64 * 1024


class Owner(Protocol):
    """The process of the agent that holds the near end."""

    @property
    def loop(self) -> SharedLoop: ...

    def step(self, kind: str) -> bool:
        """False when the process is dead, or dies of this step."""


class Noise:
    """What goes wrong on the way: chances in 1000 a chunk, changed by faults of the plan."""

    def __init__(self, seed: int) -> None:
        self._random = random.Random(seed)
        self.permille = self.flips_permille = 0
        # Chunks that came when they had been said again already, and acknowledgements that came as none: what
        # they were for is said again, and may be taken for something new.
        self.late = 0

    def carry(self, data: bytes) -> list[tuple[float, bytes]]:
        """(delay in s, bytes) of what arrives."""
        rng = self._random
        if not (self.permille or self.flips_permille):
            return [(0.0, data)]
        at, chance = rng.randrange(len(data)), rng.randrange(1000)
        if chance < self.flips_permille:
            kind = 3
        elif chance < self.permille:
            kind = rng.randrange(7)
        else:
            return [(0.0, data)]
        self.late += kind in (0, 3) and len(data) == 1
        if kind == 0:
            return []
        if kind == 1:
            return [(0.0, data[:at] + data[at + 1 :])]
        if kind == 2:
            return [(0.0, data), (0.001, data)]
        if kind == 3:
            flipped = data[at] ^ (1 << rng.randrange(8))
            return [(0.0, data[:at] + bytes([flipped]) + data[at + 1 :])]
        if kind == 4:
            delay_s = rng.choice((0.05, 0.4, 2.0, 7.0))
            self.late += delay_s >= LATE_S
            return [(delay_s, data)]
        if kind == 5:
            return [(0.0, data[:at]), (rng.choice((0.02, 0.25)), data[at:])]
        return [(0.0, rng.randbytes(3) + data)]


class Cable:
    """`to_device` is called on the world's loop. `name` is "terminal" or "bus": the kind of the steps."""

    def __init__(self, name: str, world: SharedLoop, baud: int, noise: Noise) -> None:
        self.name, self._world, self.noise = name, world, noise
        self._char_s = BITS_PER_CHAR / baud
        self.to_device: Callable[[bytes], None] = lambda _: None
        self.plugged_in = True
        self.lag_s = 0.0  # a slow adapter between device and board
        self._near: NearEnd | None = None
        self._out_free_s = self._in_free_s = 0.0

    async def open(self, spec: LineSpec, owner: Owner) -> NearEnd:
        if not self.plugged_in:
            raise LineLost(f"{spec.port}: no such device; check the cable and the name")
        self._near = NearEnd(spec.port, self, owner)
        return self._near

    def send(self, near: NearEnd, data: bytes) -> None:
        if near is not self._near or not self.plugged_in:
            return
        start_s = max(self._world.time(), self._out_free_s)
        self._out_free_s = start_s + len(data) * self._char_s
        for delay_s, piece in self.noise.carry(data):
            if piece:
                self._world.call_at(self._out_free_s + delay_s, self.to_device, piece)

    def from_device(self, data: bytes) -> None:
        """The device says something, whoever listens."""
        start_s = max(self._world.time(), self._in_free_s)
        self._in_free_s = start_s + len(data) * self._char_s
        for delay_s, piece in self.noise.carry(data):
            if piece:
                self._world.call_at(self._in_free_s + delay_s + self.lag_s, self._arrive, piece)

    def _arrive(self, data: bytes) -> None:
        near = self._near
        if near is not None and self.plugged_in:
            near.hand(data)

    def unplug(self) -> None:
        self.plugged_in = False
        if self._near is not None:
            self._near.lose("hung up; unplugged?")

    def replug(self) -> None:
        self.plugged_in = True

    def closed(self, near: NearEnd) -> None:
        if near is self._near:
            self._near = None


class NearEnd:
    """As drivers.line.Line: `write` returns at once, `read` waits for at least one byte."""

    def __init__(self, port: str, cable: Cable, owner: Owner) -> None:
        self._port, self._cable, self._owner = port, cable, owner
        self._pending = bytearray()
        self._news = asyncio.Event()
        self._lost: str | None = None
        self._send, self._receive = f"{cable.name}_send", f"{cable.name}_receive"

    # --- the driver's side ------------------------------------------------------------------------

    def write(self, data: bytes) -> None:
        self._check()
        if data and self._owner.step(self._send):
            self._cable.send(self, bytes(data))

    async def read(self) -> bytes:
        while not self._pending:
            self._check()
            self._news.clear()
            await self._news.wait()
        return self.discard()

    def discard(self) -> bytes:
        data = bytes(self._pending)
        self._pending.clear()
        return data

    async def close(self) -> None:
        self._lose("closed")
        self._cable.closed(self)

    def _check(self) -> None:
        if self._lost is not None:
            raise LineLost(f"{self._port}: {self._lost}")

    # --- the world's side -------------------------------------------------------------------------

    def hand(self, data: bytes) -> None:
        if self._owner.step(self._receive):
            self._owner.loop.call_soon(self._arrived, data)

    def lose(self, why: str) -> None:
        if self._owner.step(self._receive):
            self._owner.loop.call_soon(self._lose, why)

    def _arrived(self, data: bytes) -> None:
        self._pending += data[: PENDING_MAX - len(self._pending)]
        self._news.set()

    def _lose(self, why: str) -> None:
        if self._lost is None:
            self._lost = why
        self._news.set()
