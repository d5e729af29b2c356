"""Wires that carry bytes well or badly, on asyncio's timers. Each says when which piece arrives."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable

CHAR_S = 0.00115  # 9600 8N2

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
    for wire in (perfect, one_byte, lossy, flipped, delayed, duplicated, noisy, storm)
}


class Wire:
    """One direction: keeps the order of bytes, as wires do."""

    def __init__(self, carry: Carry, rng: random.Random, deliver: Callable[[bytes], None]) -> None:
        self._carry, self._rng, self._deliver = carry, rng, deliver
        self._free_at = 0.0
        self.cut = False

    def send(self, data: bytes) -> None:
        loop = asyncio.get_running_loop()
        for delay_s, chunk in self._carry(data, self._rng):
            self._free_at = max(self._free_at, loop.time()) + delay_s
            if chunk:
                loop.call_at(self._free_at, self._arrive, chunk)

    def _arrive(self, chunk: bytes) -> None:
        if not self.cut:
            self._deliver(chunk)
