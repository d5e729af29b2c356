"""The whole ZVT driver and the simulator of hil/ on a virtual clock, over a serial line or TCP, for stories:
what the terminal does is set by the simulator's own switches and verbs."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
from support.virtual_loop import VirtualLoop
from support.virtual_simulator import SerialCable, TcpCable, start_simulator
from support.zvt_profiles import read_once
from support.zvt_wires import perfect

from agent.ports import Done, DriverEnv, Evidence, LineSpec, TerminalSpec, Verdict
from agent.values import Money
from drivers.terminal.zvt import terminal as zvt
from hil.terminal.simulator import Simulator

EUR50 = Money(5000, "EUR")
TCP = "tcp://terminal:20007"


class Stand:
    def __init__(self, sim: Simulator, cable: Any, port: str, spec: dict[str, Any]) -> None:
        loop = asyncio.get_running_loop()
        self.sim, self.cable = sim, cable
        self.log: list[dict[str, Any]] = []
        self.kept: list[Evidence] = []
        settings = {"password": "123456", "currency": "EUR", "profile": "feig_cvend", **spec}
        baud = settings.pop("baud", 9600)
        env = DriverEnv(
            lambda: int(loop.time() * 1000),
            lambda event, **values: self.log.append({"event": event, **values}),
        )
        terminal = TerminalSpec("t1", LineSpec(port, baud), **settings)
        self.driver: Any = zvt.open_terminal(terminal, env)

    def now(self) -> float:
        return asyncio.get_running_loop().time()

    def set(self, **switches: Any) -> None:
        self.sim.verbs.set(**switches)

    async def keep(self, evidence: Evidence) -> Verdict:
        self.kept.append(evidence)
        return Verdict.STORED

    async def hold(self, amount: Money = EUR50) -> Any:
        self.sim.verbs.tap("visa")
        return await self.driver.authorize(amount, "S1", self.keep)

    async def held(self, amount: Money = EUR50) -> Evidence:
        outcome = await self.hold(amount)
        assert isinstance(outcome, Done), outcome
        return outcome.evidence

    def booked(self) -> list[tuple[str, int]]:
        return [(row["kind"], row["amount_minor"]) for row in self.sim.verbs.ledger()["rows"]]

    def commands(self) -> list[str]:
        return [entry["command"] for entry in self.log if entry["event"] == "zvt_command"]


Story = Callable[[Stand], Awaitable[None]]


def tell(story: Story, monkeypatch: pytest.MonkeyPatch, *, tcp: bool = False, **spec: Any) -> None:
    """Plays a story; the driver must leave nothing running."""
    loop = VirtualLoop()
    asyncio.set_event_loop(loop)

    async def main() -> None:
        read_once(monkeypatch)
        rng = random.Random(1)
        cable: Any = TcpCable(perfect, rng, loop) if tcp else SerialCable(perfect, rng)
        monkeypatch.setattr(zvt, "open_line", cable.open)
        sim = await start_simulator(monkeypatch, cable)
        stand = Stand(sim, cable, TCP if tcp else "cable", spec)
        try:
            await story(stand)
        finally:
            await stand.driver.close()
            await sim.close()

    try:
        loop.run_until_complete(main())
        assert not loop.troubles, loop.troubles
    finally:
        asyncio.set_event_loop(None)
        loop.close()
