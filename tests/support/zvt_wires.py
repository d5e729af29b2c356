"""Wires that carry bytes well or badly, on asyncio's timers. Each says when which piece arrives."""

from __future__ import annotations

import asyncio
import itertools
import random
from collections.abc import Callable

CHAR_S = 0.00115  # 9600 8N2
TICK_S = 2e-6

Carry = Callable[[bytes, random.Random], list[tuple[float, bytes]]]


def perfect(data: bytes, _: random.Random) -> list[tuple[float, bytes]]:
    return [(0.005, data)]


def one_byte(data: bytes, _: random.Random) -> list[tuple[float, bytes]]:
    return [(CHAR_S, bytes([byte])) for byte in data]


def lossy(data: bytes, rng: random.Random) -> list[tuple[float, bytes]]:
    rate = rng.choice((0.0, 0.0, 0.02, 0.1))
    return [(0.005, bytes(byte for byte in data if rng.random() >= rate))]


def flipped(data: bytes, rng: random.Random) -> list[tuple[float, bytes]]:
    rate = rng.choice((0.0, 0.0, 0.02, 0.1))
    spoiled = (b ^ (1 << rng.randrange(8)) if rng.random() < rate else b for b in data)
    return [(0.005, bytes(spoiled))]


def delayed(data: bytes, rng: random.Random) -> list[tuple[float, bytes]]:
    cut = rng.randrange(len(data) + 1)
    gap = rng.choice((0.01, 0.1, 0.19, 0.19, 0.3, 1.0))
    return [(rng.random() * 0.5, data[:cut]), (gap, data[cut:])]


def paused(data: bytes, rng: random.Random) -> list[tuple[float, bytes]]:
    """Every pause is shorter than T1 (200 ms), if only just: nobody may mind."""
    pieces = cut(data, rng, 3)
    return [(rng.choice((0.01, 0.15, 0.198)) if i else 0.005, p) for i, p in enumerate(pieces)]


def stalled(data: bytes, rng: random.Random) -> list[tuple[float, bytes]]:
    """Now and then a pause just above T1."""
    pieces = cut(data, rng, 2)
    gap = rng.choice((0.01, 0.01, 0.01, 0.198, 0.202, 0.25))
    return [(gap if i else 0.005, piece) for i, piece in enumerate(pieces)]


def cut(data: bytes, rng: random.Random, most: int) -> list[bytes]:
    """`data` in up to `most` pieces."""
    at = sorted({0, len(data), *(rng.randrange(len(data) + 1) for _ in range(most - 1))})
    return [data[a:b] for a, b in itertools.pairwise(at)]


def duplicated(data: bytes, rng: random.Random) -> list[tuple[float, bytes]]:
    # At once: a copy that overtakes the next block cannot be told from a new one, and no serial line
    # makes one.
    return [(0.005, data * rng.choice((1, 1, 1, 2, 3)))]


def noisy(data: bytes, rng: random.Random) -> list[tuple[float, bytes]]:
    def noise() -> bytes:
        return rng.randbytes(rng.choice((0, 0, 0, 1, 2, 9)))

    spare = bytes(rng.choice((0x10, 0x06, 0x15, 0x02)) for _ in range(rng.choice((0, 0, 0, 1))))
    return [(0.005, noise() + spare), (0.005, data), (0.002, noise())]


def storm(data: bytes, rng: random.Random) -> list[tuple[float, bytes]]:
    return rng.choice((perfect, perfect, one_byte, lossy, flipped, delayed, duplicated, noisy))(
        data, rng
    )


WIRES: dict[str, Carry] = {
    wire.__name__: wire
    for wire in (
        perfect,
        one_byte,
        lossy,
        flipped,
        delayed,
        paused,
        stalled,
        duplicated,
        noisy,
        storm,
    )
}


def segmented(data: bytes, rng: random.Random) -> list[tuple[float, bytes]]:
    return [(rng.choice((0.0, 0.0, 0.001, 0.05)), piece) for piece in cut(data, rng, 6)]


def slow_network(data: bytes, rng: random.Random) -> list[tuple[float, bytes]]:
    return [(rng.random() * rng.choice((0.05, 0.5, 1.5)), piece) for piece in cut(data, rng, 3)]


# TCP loses, spoils and repeats nothing; it cuts as it likes, and it is late.
STREAMS: dict[str, Carry] = {
    stream.__name__: stream for stream in (perfect, one_byte, segmented, slow_network)
}


class Wire:
    """One direction: keeps the order of bytes, as wires do."""

    def __init__(self, carry: Carry, rng: random.Random, deliver: Callable[[bytes], None]) -> None:
        self.carry, self._rng, self._deliver = carry, rng, deliver
        self._free_at = 0.0
        self.cut = False

    def send(self, data: bytes) -> None:
        loop = asyncio.get_running_loop()
        for delay_s, chunk in self.carry(data, self._rng):
            # Never two at the same moment: asyncio does not keep their order.
            self._free_at = max(self._free_at, loop.time()) + max(delay_s, TICK_S)
            if chunk:
                loop.call_at(self._free_at, self._arrive, chunk)

    def after_all(self, then: Callable[[], None]) -> None:
        """Calls `then` when all that was sent has arrived."""
        loop = asyncio.get_running_loop()
        loop.call_at(max(self._free_at, loop.time()) + TICK_S, then)

    def _arrive(self, chunk: bytes) -> None:
        if not self.cut:
            self._deliver(chunk)
