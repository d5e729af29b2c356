"""The ZVT driver, a perfect cable and a terminal of its own making at the other end, for tests of verbs."""

import asyncio
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any

import pytest
from support.zvt_peer import Cable
from support.zvt_wires import perfect

from agent.ports import (
    DeviceUnavailable,
    DriverEnv,
    Evidence,
    HoldRef,
    LineSpec,
    TerminalIdentity,
    TerminalSpec,
    Verdict,
)
from agent.values import Money
from drivers.terminal.zvt import terminal as zvt

EUR50 = Money(5000, "EUR")
HELD = HoldRef("52523535", 231, trace=931)


def h(text: str) -> bytes:
    return bytes.fromhex(text)


class Bench:
    """A driver, its cable and the terminal at the other end; `keep` stores everything."""

    def __init__(self, **spec: Any) -> None:
        loop = asyncio.get_running_loop()
        self.cable = Cable(perfect, 1)
        self.peer = self.cable.terminal
        self.log: list[dict[str, Any]] = []
        self.kept: list[Evidence] = []
        self.keep_does: Callable[[], Awaitable[Verdict]] | None = None
        given = {"line": LineSpec("cable"), "password": "123456", "currency": "EUR"}
        settings = {"profile": "feig_cvend", **given, **spec}
        env = DriverEnv(
            lambda: int(loop.time() * 1000),
            lambda event, **values: self.log.append({"event": event, **values}),
        )
        self.driver: Any = zvt.open_terminal(TerminalSpec("t1", **settings), env)
        self.serving = asyncio.ensure_future(self.peer.run())

    async def keep(self, evidence: Evidence) -> Verdict:
        self.kept.append(evidence)
        return Verdict.STORED if self.keep_does is None else await self.keep_does()

    async def linked(self) -> TerminalIdentity:
        found: TerminalIdentity = await self.driver.connect()
        self.peer.heard.clear()
        return found

    async def hold(self) -> object:
        return await self.driver.authorize(EUR50, "S1", self.keep)

    async def unplug_after(self, seconds: float) -> None:
        await asyncio.sleep(seconds)
        self.cable.unplug()

    def heard(self) -> list[str]:
        return [command[:2].hex() for command in self.peer.heard]


Case = Callable[[Bench], Coroutine[Any, Any, None]]


def unavailable(code: str) -> Any:
    return pytest.raises(DeviceUnavailable, match=code)
