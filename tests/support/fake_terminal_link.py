"""The driver of the terminal in memory, without money: link, identity, cards, screen, questions."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from support.fake_process import Process
from support.fake_terminal import FakeTerminal

from agent.ports import Card, CardKind, DeviceUnavailable, LastResult, OpenHolds, TerminalIdentity


class TerminalLink:
    def __init__(self, device: FakeTerminal, process: Process) -> None:
        self.d, self._process = device, process
        self._turn = asyncio.Lock()
        self._abort = asyncio.Event()
        self._linked = False

    async def _takes(self, seconds: float) -> None:
        await asyncio.sleep(seconds * self.d.pace)

    def _up(self) -> None:
        if not (self.d.online and self._process.alive):
            self._linked = False
            raise DeviceUnavailable("TRM-006", "no terminal answers")
        if not self._linked:
            raise DeviceUnavailable("TRM-009", "the link to the terminal is down")

    async def connect(self) -> TerminalIdentity:
        await self._takes(0.2)
        if not self.d.online:
            raise DeviceUnavailable("TRM-006", "no terminal answers")
        self._linked = True
        self.d.commands.append("connect")
        return await self.identify()

    async def close(self) -> None:
        if self._process.alive:
            self._linked = False

    async def identify(self) -> TerminalIdentity:
        self._abort.set()
        async with self._turn:
            await self._takes(0.1)
            self._up()
            self.d.commands.append("identify")
            return self._identity()

    def _identity(self) -> TerminalIdentity:
        code, text, needs = "00", "ready", ()
        if self.d.eod_due:
            code, text, needs = "f0", "end of day due", ("end_of_day",)
        if not self.d.ready:
            code, text, needs = "51", "initialisation needed", ("initialisation",)
        if self.d.wants:
            code, text, needs = "c2", "it wants something", tuple(self.d.wants)
        return TerminalIdentity(
            self.d.terminal_id, "serial", "1.0", "fake", not needs, code, text, needs
        )

    async def read_card(self, timeout_s: int) -> Card | None:
        async with self._turn:
            self._up()
            self._abort.clear()
            self.d.tapped = asyncio.Event()
            await self._wait_for_card(timeout_s, self.d.tapped)
            self._up()
            return self._card()

    async def _wait_for_card(self, timeout_s: int, tapped: asyncio.Event) -> None:
        if self.d.on_reader:
            await self._takes(0.5)
            return
        waits = [asyncio.ensure_future(e.wait()) for e in (tapped, self._abort)]
        try:
            await asyncio.wait(waits, timeout=timeout_s, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for wait in waits:
                wait.cancel()

    def _card(self) -> Card | None:
        if not self.d.on_reader:
            return None
        token, hold_s = self.d.on_reader.pop(0)
        if hold_s > 0:
            # It stays and is read again, each read taking half a second.
            self.d.on_reader.insert(0, (token, hold_s - 0.5))
        return Card(CardKind.BANK, token)

    async def show(self, lines: Sequence[str], hold_s: int = 0) -> None:
        self._abort.set()
        async with self._turn:
            await self._takes(0.05)
            self._up()
            self.d.screens.append(tuple(lines))

    async def open_holds(self) -> OpenHolds:
        async with self._turn:
            await self._takes(0.2)
            self._up()
            self.d.commands.append("open_holds")
            here = [h for h in self.d.open_holds() if h.ref.terminal_id == self.d.terminal_id]
            open_ = tuple(h.ref.receipt for h in here)
            return OpenHolds(
                open_ if self.d.complete_list else open_[:1], complete=self.d.complete_list
            )

    async def last_result(self) -> LastResult | None:
        async with self._turn:
            await self._takes(0.2)
            self._up()
            how = self.d.take("last_result")
            if how == "unable":
                raise DeviceUnavailable("TRM-009", "repeat receipt was answered with 0xA0")
            if how == "lost":
                self._linked = False
                raise DeviceUnavailable("TRM-007", "repeat receipt broke")
            return self.d.last
