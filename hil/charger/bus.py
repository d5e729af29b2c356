"""The RS-485 side of a bench: bytes from a pty to the stations, and their replies back."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import Callable, Coroutine, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from hil.charger.faults import Fault, Reply, spoil
from hil.charger.rtu import Device, Request, RequestFramer, answer, frame_silence_ns
from hil.common.pty_line import PtyLine

# A pty has no bit times, and a busy host may tear one frame into two reads: a silence shorter than this
# would cut a good request in half. Masters wait longer than this before they repeat.
PTY_SILENCE_NS = 50_000_000
# Requests a device may have waiting while it is late; a master that sends more does not listen.
MAX_WAITING_REQUESTS = 64
TURNAROUND_PACED_S = 0.02  # typical of an SDM meter; unpaced lines answer at once
BROADCAST = 0


@dataclass(slots=True)
class Station:
    """One slave on the bus, with the requests it still has to answer. `spoil` lets its replies out."""

    name: str
    unit: int
    device: Device
    faults: list[Fault] = field(default_factory=list)
    spoil: Callable[[Fault | None, int, bytes], Reply] = spoil
    waiting: asyncio.Queue[tuple[int, Request]] = field(
        default_factory=lambda: asyncio.Queue(MAX_WAITING_REQUESTS)
    )

    def fault_for(self, request: Request) -> Fault | None:
        fault = next((f for f in self.faults if f.matches(request)), None)
        if fault is not None and fault.left is not None:
            fault.left -= 1
            if fault.left == 0:
                self.faults.remove(fault)
        return fault


class Bus:
    """`before_answer` brings the physics up to date; `on_heard` is told of every good request."""

    def __init__(
        self,
        link: Path,
        baud: int,
        pace: bool,
        before_answer: Callable[[], object],
        on_heard: Callable[[], None],
    ) -> None:
        self.stations: list[Station] = []
        self.line = PtyLine(link, baud=baud, pace=pace, bits_per_char=10)
        self.framer = RequestFramer(max(PTY_SILENCE_NS, frame_silence_ns(baud)))
        self.requests: Counter[tuple[int, int]] = Counter()
        self.heard_ns = time.monotonic_ns()
        self.powered = True
        self.turnaround_s = TURNAROUND_PACED_S
        self.strict_rate = False  # deaf to a master that has set another rate, as a real line is
        self._before_answer, self._on_heard = before_answer, on_heard
        self._epoch = 0  # counts power cuts: a reply of an earlier life is never sent
        self._silence: asyncio.TimerHandle | None = None

    def workers(self) -> list[Coroutine[Any, Any, None]]:
        return [self._receive(), *(self._serve(station) for station in self.stations)]

    def close(self) -> None:
        if self._silence is not None:
            self._silence.cancel()
        self.line.close()

    def power_off(self) -> None:
        self.powered = False
        self._epoch += 1
        self.framer.clear()
        self.line.power_off()

    def power_on(self) -> None:
        self.heard_ns = time.monotonic_ns()
        self.line.power_on()
        self.powered = True

    def counts(self) -> dict[str, dict[str, int]]:
        """Good requests by unit and function, also those for units that are not here."""
        counted: dict[str, dict[str, int]] = {}
        for (unit, function), n in sorted(self.requests.items()):
            counted.setdefault(str(unit), {})[str(function)] = n
        return counted

    async def _receive(self) -> None:
        while True:
            data = await self.line.read()
            if self.strict_rate and self.line.peer_baud() not in (None, self.line.baud):
                continue
            self._dispatch(self.framer.feed(data, time.monotonic_ns()))
            self._watch_silence()

    def _watch_silence(self) -> None:
        if self._silence is not None:
            self._silence.cancel()
        due = self.framer.next_deadline_ns()
        if due is not None:
            delay_s = max(0.0, (due - time.monotonic_ns()) / 1e9)
            self._silence = asyncio.get_running_loop().call_later(delay_s, self._on_silence)

    def _on_silence(self) -> None:
        self._dispatch(self.framer.tick(time.monotonic_ns()))
        self._watch_silence()

    def _dispatch(self, requests: Sequence[Request]) -> None:
        for request in requests:
            self.heard_ns = time.monotonic_ns()
            self.requests[request.unit, request.function] += 1
            for station in self.stations:
                if request.unit in (station.unit, BROADCAST) and not station.waiting.full():
                    station.waiting.put_nowait((self._epoch, request))
            self._on_heard()

    async def _serve(self, station: Station) -> None:
        """One request after the other: while a device is late with one, the next has to wait."""
        while True:
            epoch, request = await station.waiting.get()
            if not self.powered or epoch != self._epoch:
                continue
            self._before_answer()
            pdu = answer(station.device, request.pdu)
            if request.unit == BROADCAST:
                continue
            reply = station.spoil(station.fault_for(request), station.unit, pdu)
            delay_s = reply.delay_ms / 1000 + (self.turnaround_s if self.line.pace else 0)
            if delay_s:
                await asyncio.sleep(delay_s)
            if epoch == self._epoch and reply.data:
                await self.line.write(reply.data)
