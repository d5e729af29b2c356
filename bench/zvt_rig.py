"""Our driver and the peer at the two ends of a pty."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import subprocess
import sys
import time
import tty
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import cast

from agent.ports import Done, DriverEnv, Evidence, LineSpec, Terminal, TerminalSpec, Verdict
from agent.values import Money
from bench.zvt_peer import Times
from drivers.terminal.zvt.terminal import open_terminal

PEER_S = 10.0
AMOUNT = Money(5000, "EUR")

Keep = Callable[[Evidence], Awaitable[Verdict]]


@dataclass(slots=True)
class Rig:
    """`times` is there once the rig is closed."""

    terminal: Terminal
    times: Times = field(default_factory=Times)
    held: int = 0

    async def hold(self, keep: Keep) -> None:
        self.held += 1
        outcome = await self.terminal.authorize(AMOUNT, f"B{self.held}", keep)
        if not isinstance(outcome, Done):
            raise RuntimeError(f"a reservation ended as {outcome}")


def _peer(master: int, options: Sequence[str]) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", "bench.zvt_peer", str(master), *options],
        cwd=Path(__file__).parents[1],
        pass_fds=(master,),
        stdout=subprocess.PIPE,
        text=True,
    )


@contextlib.asynccontextmanager
async def rig(*peer: str) -> AsyncIterator[Rig]:
    """A registered terminal; `peer` are options of zvt_peer."""
    master, slave = os.openpty()
    tty.setraw(slave)
    port = os.ttyname(slave)
    process = _peer(master, peer)
    os.close(master)
    try:
        assert process.stdout is not None
        if process.stdout.readline() != "ready\n":
            raise RuntimeError("the peer did not start")
        env = DriverEnv(lambda: time.monotonic_ns() // 1_000_000, lambda *_words, **_values: None)
        spec = TerminalSpec("bench", LineSpec(port, 115_200, "8N2"), "123456", "EUR")
        found = Rig(open_terminal(spec, env))
        await found.terminal.connect()
        yield found
        await found.terminal.close()
        os.close(slave)
        slave = -1
        out, _ = await asyncio.to_thread(process.communicate, timeout=PEER_S)
        turnarounds, sent_bytes, sending_s = json.loads(out)
        found.times = Times([cast(tuple[str, float, float], tuple(t)) for t in turnarounds])
        found.times.sent_bytes, found.times.sending_s = sent_bytes, sending_s
    finally:
        if slave >= 0:
            os.close(slave)
        process.kill()
        process.wait()


async def at_once(_evidence: Evidence) -> Verdict:
    """Keeps nothing: the driver alone."""
    return Verdict.STORED
