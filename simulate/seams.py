"""The four seams: what of the shipped code is replaced in a simulation, and nothing else.

* Byte lines: `drivers.line.open_line`, wherever a driver has taken it from there.
* The MQTT pipe: `agent.uplink.pipe.mqtt`, wherever the uplink has taken it from there.
* The disk: an apsw VFS in memory as SQLite's default (simulate.disk); no function of ours.
* The clock: the argument that `Station` takes for it; no function of ours.

Beside them the operating system's random numbers come from the seed, in the standard library and not in our
code, and `os.statvfs` tells the room of the simulated disk."""

from __future__ import annotations

import contextlib
import os
import random
import sys
from collections.abc import Callable, Iterator
from types import ModuleType
from typing import Any

import agent.uplink.pipe
import drivers.line
from agent.ports import LineSpec
from simulate.disk import ForgetfulVFS, mounted
from simulate.memo import remembered

# Original function -> what it may be replaced by, and why.
REPLACED: dict[str, str] = {
    "drivers.line.open_line": "byte lines",
    "agent.uplink.pipe.mqtt": "MQTT pipe",
}
ROOMS = ("agent", "drivers")


class Board:
    """What is plugged into the seams at the moment: set by the world that is simulated."""

    def __init__(self) -> None:
        self.open_line: Callable[[LineSpec], Any] = _nothing
        self.pipe: Callable[..., Any] = _nothing
        self.free_bytes: Callable[[], int] = lambda: 1 << 40
        self.random = random.Random(0)
        self.vfs: ForgetfulVFS | None = None


def _nothing(*_: Any) -> Any:
    raise OSError("nothing is plugged in")


def our_modules() -> dict[str, ModuleType]:
    return {
        name: module
        for name, module in sorted(sys.modules.items())
        if name.split(".")[0] in ROOMS and module is not None
    }


@contextlib.contextmanager
def installed(board: Board) -> Iterator[Board]:
    """The seams lead to `board` inside the block. All of the agent's modules must be imported before."""

    async def open_line(spec: LineSpec) -> Any:
        return await board.open_line(spec)

    def mqtt(config: Any) -> Any:
        return lambda *given: board.pipe(config, *given)

    fakes = {drivers.line.open_line: open_line, agent.uplink.pipe.mqtt: mqtt}
    with contextlib.ExitStack() as stack:
        for module in our_modules().values():
            for name, value in list(vars(module).items()):
                if callable(value) and getattr(value, "__hash__", None) and value in fakes:
                    stack.callback(setattr, module, name, value)
                    setattr(module, name, fakes[value])
        stack.enter_context(_entropy(board))
        stack.enter_context(_room(board))
        stack.enter_context(remembered())
        board.vfs = stack.enter_context(mounted())
        yield board


@contextlib.contextmanager
def _entropy(board: Board) -> Iterator[None]:
    """`secrets` and unseeded generators draw from the board's seed."""
    source, seed = random._urandom, random.Random.seed  # type: ignore[attr-defined]

    def seeded(self: random.Random, a: Any = None, version: int = 2) -> None:
        if a is None and self is not board.random:
            a = board.random.getrandbits(64)
        seed(self, a, version)

    random._urandom = board.random.randbytes  # type: ignore[attr-defined]
    random.Random.seed = seeded  # type: ignore[method-assign]
    try:
        yield
    finally:
        random._urandom = source  # type: ignore[attr-defined]
        random.Random.seed = seed  # type: ignore[method-assign]


@contextlib.contextmanager
def _room(board: Board) -> Iterator[None]:
    real = os.statvfs

    def statvfs(path: Any) -> os.statvfs_result:
        found = list(real(path))
        found[4] = board.free_bytes() // found[1]  # f_bavail, in blocks of f_frsize
        return os.statvfs_result(found)

    os.statvfs = statvfs
    try:
        yield
    finally:
        os.statvfs = real
