"""Runs one dialogue over a line: the only part of ZVT that waits."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

from agent.ports import DriverEnv
from drivers.line import Line, LineLost
from drivers.terminal.zvt.apdu import Apdu
from drivers.terminal.zvt.dialogue import Dialogue
from drivers.terminal.zvt.frames import LinkEvent
from drivers.terminal.zvt.links import AnyLink
from drivers.terminal.zvt.outcomes import (
    Asked,
    Decision,
    DialogueEvent,
    Evidence,
    Outcome,
    Printed,
    Progress,
    Told,
)

Store = Callable[[Apdu], Awaitable[Decision]]

# Evidence whose dialogue is already over is still worth having: the store is given this long to finish.
STORE_S = 5.0
# What is kept of what a terminal says on the way; the longest printout that was seen came in 118 lines.
TOLD_MAX = 500


class Drive:
    """`store` is asked for the evidence while the link goes on answering: the link's ACK never waits
    for the disk. `wake` interrupts the wait when the dialogue was told something."""

    def __init__(
        self,
        env: DriverEnv,
        line: Line,
        link: AnyLink,
        dialogue: Dialogue,
        store: Store | None,
        wake: asyncio.Event,
    ) -> None:
        self._env, self._line, self._link = env, line, link
        self._dialogue, self._store, self._wake = dialogue, store, wake
        self.told: list[Told] = []
        self._outcome: Outcome | None = None
        self._storing: asyncio.Future[Decision] | None = None
        self._over: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._timer: asyncio.TimerHandle | None = None

    async def run(self) -> Outcome:
        """The dialogue's outcome. Cancelled, it leaves nothing running."""
        # Two tasks for the whole dialogue: new ones for every few bytes off a UART took most of the time.
        tasks: list[asyncio.Future[None]] = [
            asyncio.ensure_future(self._read()),
            asyncio.ensure_future(self._listen()),
        ]
        for task in tasks:
            task.add_done_callback(self._task_ended)
        try:
            self._dialogue.start(self._env.boot_ms())
            self._advance()
            await self._over
            if self._storing is not None:
                await asyncio.wait({self._storing}, timeout=STORE_S)
            assert self._outcome is not None
            return self._outcome
        finally:
            if self._timer is not None:
                self._timer.cancel()
            if self._storing is not None:
                self._storing.cancel()
                await asyncio.gather(self._storing, return_exceptions=True)
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    async def _read(self) -> None:
        while self._outcome is None:
            try:
                data = await self._line.read()
            except LineLost as error:
                self._take(self._dialogue.lost(str(error)))
                self._advance()
                return
            now = self._env.boot_ms()
            self._link_events(self._link.receive(data, now), now)
            self._advance()

    async def _listen(self) -> None:
        """For whatever is no byte: a timer, a word to the dialogue, the end of storing."""
        while self._outcome is None:
            await self._wake.wait()
            self._wake.clear()
            self._advance()

    def _task_ended(self, task: asyncio.Future[None]) -> None:
        if not task.cancelled() and (error := task.exception()) and not self._over.done():
            self._over.set_exception(error)

    def _advance(self) -> None:
        self._decide()
        self._time()
        self._flush()
        if self._outcome is None:
            self._set_timer()
        elif not self._over.done():
            self._over.set_result(None)

    def _set_timer(self) -> None:
        """One that rings too early is no harm, and cheaper than a new one for every byte."""
        times = [self._link.next_deadline(), self._dialogue.next_deadline()]
        due = min((t for t in times if t is not None), default=None)
        if due is None:
            return
        loop = asyncio.get_running_loop()
        at = loop.time() + max(0, due - self._env.boot_ms()) / 1000
        if self._timer is not None and self._timer.when() > at:
            self._timer.cancel()
            self._timer = None
        if self._timer is None:
            self._timer = loop.call_at(at, self._rang)

    def _rang(self) -> None:
        self._timer = None
        self._wake.set()

    def _flush(self) -> None:
        out = self._link.take_output()
        if not out:
            return
        try:
            self._line.write(out)
        except LineLost as error:
            self._take(self._dialogue.lost(str(error)))

    def _time(self) -> None:
        now = self._env.boot_ms()
        self._link_events(self._link.on_time(now), now)
        self._take(self._dialogue.on_time(now))

    def _link_events(self, events: list[LinkEvent], now: int) -> None:
        for event in events:
            self._take(self._dialogue.on_link(event, now))

    def _take(self, events: list[DialogueEvent]) -> None:
        for event in events:
            if isinstance(event, Evidence):
                assert self._store is not None, "evidence in a dialogue that moves no money"
                self._storing = asyncio.ensure_future(self._store(event.apdu))
                self._storing.add_done_callback(lambda _: self._wake.set())
            elif isinstance(event, Progress | Printed | Asked):
                if len(self.told) < TOLD_MAX:
                    self.told.append(event)
            else:
                self._outcome = event

    def _decide(self) -> None:
        """A store that fails, however, has not stored."""
        if self._storing is None or not self._storing.done():
            return
        storing, self._storing = self._storing, None
        failed = storing.cancelled() or storing.exception() is not None
        stored = not failed and storing.result()
        self._take(self._dialogue.decide(stored, self._env.boot_ms()))
