"""Slaves on a serial line for driver tests, independent of the drivers' own codec.

`FakeLine` stands for a line within the process; `Registers` answers like a correct device; a test bends the
answers through `script`.
"""

from __future__ import annotations

import asyncio
import struct
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from agent.ports import DriverEnv, LineSpec


def crc(body: bytes) -> bytes:
    """`body` with its checksum, bit by bit as the specification draws it."""
    value = 0xFFFF
    for byte in body:
        value ^= byte
        for _ in range(8):
            value = value >> 1 ^ (0xA001 if value & 1 else 0)
    return body + bytes([value & 0xFF, value >> 8])


def words(*values: int) -> bytes:
    return struct.pack(f">{len(values)}H", *values)


def float_words(value: float) -> tuple[int, int]:
    high, low = struct.unpack(">HH", struct.pack(">f", value))
    return high, low


@dataclass
class Log:
    """What a driver logged: (event, values)."""

    rows: list[tuple[str, dict[str, Any]]] = field(default_factory=list)

    def __call__(self, event: str, **values: Any) -> None:
        self.rows.append((event, values))

    def events(self) -> list[str]:
        return [event for event, _ in self.rows]


class Clock:
    """The boot-time clock of a test: the real one, moved forward at will."""

    def __init__(self) -> None:
        self.ahead_ms = 0

    def __call__(self) -> int:
        return time.monotonic_ns() // 1_000_000 + self.ahead_ms


def driver_env() -> tuple[DriverEnv, Clock, Log]:
    clock, log = Clock(), Log()
    return DriverEnv(clock, log), clock, log


class Refuse(Exception):
    """Answer with this exception code."""

    def __init__(self, code: int) -> None:
        super().__init__(code)
        self.code = code


@dataclass
class Registers:
    """One unit with coils and registers; what is not there is refused with exception 2."""

    unit: int
    inputs: dict[int, int] = field(default_factory=dict)
    holdings: dict[int, int] = field(default_factory=dict)
    coils: dict[int, int] = field(default_factory=dict)
    # Called with (function, address, value) before a write takes effect.
    on_write: Callable[[int, int, int], None] = lambda *_: None

    def answer(self, frame: bytes) -> bytes:
        unit, function, address, many = struct.unpack(">BBHH", frame[:6])
        try:
            body = self._answer(function, address, many, frame)
        except Refuse as refuse:
            body = bytes([function | 0x80, refuse.code])
        return crc(bytes([unit]) + body)

    def _answer(self, function: int, address: int, many: int, frame: bytes) -> bytes:
        if function in (3, 4):
            table = self.inputs if function == 4 else self.holdings
            data = words(*self._get(table, address, many))
            return bytes([function, len(data)]) + data
        if function == 1:
            bits = self._get(self.coils, address, many)
            packed = sum(bit << at for at, bit in enumerate(bits))
            return bytes([1, (many + 7) // 8]) + packed.to_bytes((many + 7) // 8, "little")
        if function not in (5, 6):
            raise Refuse(1)
        table = self.coils if function == 5 else self.holdings
        self._get(table, address, 1)
        value = int(many == 0xFF00) if function == 5 else many
        self.on_write(function, address, value)
        table[address] = value
        return frame[1:6]

    @staticmethod
    def _get(table: dict[int, int], address: int, many: int) -> list[int]:
        wanted = range(address, address + many)
        if any(at not in table for at in wanted):
            raise Refuse(2)
        return [table[at] for at in wanted]


# What happens to a reply: a list of (delay_s, bytes).
Script = Callable[[bytes, bytes], list[tuple[float, bytes]]]


def prompt(_frame: bytes, reply: bytes) -> list[tuple[float, bytes]]:
    return [(0.001, reply)]


class FakeLine:
    """The `Line` protocol without a port: every write is one request frame to the units on it."""

    def __init__(self, *units: Registers) -> None:
        self.units = {unit.unit: unit for unit in units}
        self.script: Script = prompt
        self.frames: list[bytes] = []
        self.closed = False
        self.lost = ""
        self._arrived = bytearray()
        self._news = asyncio.Event()
        self.asked = asyncio.Condition()

    def write(self, data: bytes) -> None:
        if self.lost:
            raise OSError(self.lost)
        self.frames.append(data)
        unit = self.units.get(data[0])
        reply = b"" if unit is None else unit.answer(data)
        loop = asyncio.get_running_loop()
        for delay, piece in self.script(data, reply):
            loop.call_later(delay, self.arrive, piece)
        self._news.set()

    def arrive(self, data: bytes) -> None:
        self._arrived += data
        self._news.set()

    def lose(self, why: str) -> None:
        self.lost = why
        self._news.set()

    async def read(self) -> bytes:
        while not self._arrived:
            if self.lost:
                raise OSError(self.lost)
            self._news.clear()
            await self._news.wait()
        return self.discard()

    def discard(self) -> bytes:
        data = bytes(self._arrived)
        self._arrived.clear()
        return data

    async def close(self) -> None:
        self.closed = True


class Port:
    """Opens `FakeLine`s for a `Bus`; `missing` makes it fail like a port that is not there."""

    def __init__(self, *units: Registers) -> None:
        self.units = units
        self.missing = ""
        self.opened: list[FakeLine] = []
        self.script: Script = prompt

    async def __call__(self, spec: LineSpec) -> FakeLine:
        if self.missing:
            raise OSError(f"{spec.port}: {self.missing}")
        line = FakeLine(*self.units)
        line.script = self._scripted
        self.opened.append(line)
        return line

    def _scripted(self, frame: bytes, reply: bytes) -> list[tuple[float, bytes]]:
        return self.script(frame, reply)  # looked up late: tests change it on an open line

    @property
    def line(self) -> FakeLine:
        return self.opened[-1]

    @property
    def frames(self) -> list[bytes]:
        return [frame for line in self.opened for frame in line.frames]
