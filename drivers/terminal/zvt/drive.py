"""Runs one dialogue over a line: the only part of ZVT that waits."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

from agent.ports import DriverEnv
from drivers.line import Line, LineLost
from drivers.terminal.zvt.apdu import Apdu
from drivers.terminal.zvt.dialogue import Dialogue
from drivers.terminal.zvt.frames import Link, LinkEvent
from drivers.terminal.zvt.outcomes import Asked, DialogueEvent, Evidence, Outcome, Printed, Progress

Store = Callable[[Apdu], Awaitable[bool]]

# Evidence whose dialogue is already over is still worth having: the store is given this long to finish.
STORE_S = 5.0


class Drive:
    """`store` is asked for the evidence while the link goes on answering: the link's ACK never waits
    for the disk. `wake` interrupts the wait when the dialogue was told something."""

    def __init__(
        self,
        env: DriverEnv,
        line: Line,
        link: Link,
        dialogue: Dialogue,
        store: Store | None,
        wake: asyncio.Event,
    ) -> None:
        self._env, self._line, self._link = env, line, link
        self._dialogue, self._store, self._wake = dialogue, store, wake
        self._outcome: Outcome | None = None
        self._storing: asyncio.Future[bool] | None = None

    async def run(self) -> Outcome:
        """The dialogue's outcome. Cancelled, it leaves nothing running."""
        reading = asyncio.ensure_future(self._line.read())
        waking = asyncio.ensure_future(self._wake.wait())
        try:
            self._dialogue.start(self._env.boot_ms())
            self._flush()
            while self._outcome is None:
                waiting: set[asyncio.Future[object]] = {reading, waking}  # type: ignore[arg-type]  # a set of them is never written to
                if self._storing is not None:
                    waiting.add(self._storing)  # type: ignore[arg-type]  # as above
                await asyncio.wait(
                    waiting, timeout=self._timeout_s(), return_when=asyncio.FIRST_COMPLETED
                )
                if reading.done():
                    self._arrived(reading)
                    reading = asyncio.ensure_future(self._line.read())
                if waking.done():
                    self._wake.clear()
                    waking = asyncio.ensure_future(self._wake.wait())
                self._decide()
                self._time()
                self._flush()
            if self._storing is not None:
                await asyncio.wait({self._storing}, timeout=STORE_S)
            return self._outcome
        finally:
            left: list[asyncio.Future[object]] = [reading, waking]  # type: ignore[list-item]  # as above
            if self._storing is not None:
                left.append(self._storing)  # type: ignore[arg-type]  # as above
            for task in left:
                task.cancel()
            await asyncio.gather(*left, return_exceptions=True)

    def _flush(self) -> None:
        out = self._link.take_output()
        if not out:
            return
        try:
            self._line.write(out)
        except LineLost as error:
            self._take(self._dialogue.lost(str(error)))

    def _timeout_s(self) -> float | None:
        times = [self._link.next_deadline(), self._dialogue.next_deadline()]
        due = min((t for t in times if t is not None), default=None)
        return None if due is None else max(0, due - self._env.boot_ms()) / 1000

    def _arrived(self, reading: asyncio.Future[bytes]) -> None:
        try:
            data = reading.result()
        except LineLost as error:
            self._take(self._dialogue.lost(str(error)))
            return
        now = self._env.boot_ms()
        self._link_events(self._link.receive(data, now), now)

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
            elif not isinstance(event, Progress | Printed | Asked):
                self._outcome = event

    def _decide(self) -> None:
        """A store that fails, however, has not stored."""
        if self._storing is None or not self._storing.done():
            return
        storing, self._storing = self._storing, None
        failed = storing.cancelled() or storing.exception() is not None
        stored = not failed and storing.result()
        self._take(self._dialogue.decide(stored, self._env.boot_ms()))
