"""The simulated terminal and acquirer: hil's, on the world's clock, with memory for a disk and a cable for a
pty. It charges every request that it gets."""

from __future__ import annotations

import asyncio
import pickle
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from hil.terminal import simulator as hil_simulator
from hil.terminal.cards import CARDS
from hil.terminal.link import SerialLink
from hil.terminal.simulator import Options, Simulator
from hil.terminal.store import Hold, Memory, Row, Store
from simulate.cable import Cable
from simulate.loop import Time

EPOCH = datetime(2026, 11, 20, 12, tzinfo=UTC)
NOWHERE = Path("/nonexistent")
# Terminal id, batch, receipt, trace: numbers alone are given again.
HoldName = tuple[str, int, int, int]
PASSWORD = "123456"
TIDS = ("52523535", "52523536")
BERLIN_S = 3_600.0  # in winter


class MemoryStore(Store):
    """What the real one keeps in files; `reload` forgets what was never saved."""

    def __init__(self, time: Time, tid: str) -> None:
        self.path = self.ledger = NOWHERE
        self._time = time
        self.skew_s = lambda: 0.0
        self.booked: list[Row] = []
        self.booked_ms: list[int] = []  # when, each
        self.on_hold: Callable[[], None] = lambda: None
        self.last_ms = 0  # since when the last result is what it is
        self._last: str | None = None
        # What an end of day did to holds that were open: (rows, the row of the end of day).
        self.wiped: list[tuple[list[Row], Row]] = []
        self.memory = self.fresh(tid)
        self._saved = b""
        self.save()

    def fresh(self, tid: str) -> Memory:
        memory = Memory(tid=tid, currency="978")
        # Another device gives the same receipt numbers again; its traces are its own.
        memory.next_trace += int(tid) % 100_000 if tid not in TIDS else 0
        memory.day_opened = (EPOCH.replace(tzinfo=None) + self._passed()).isoformat()
        return memory

    def _passed(self, more_s: float = 0.0) -> timedelta:
        return timedelta(seconds=self._time.now_s + more_s)

    def reload(self) -> None:
        self.memory = pickle.loads(self._saved)

    def save(self, rows: list[Row] | None = None) -> None:
        self._saved = pickle.dumps(self.memory)
        if self.memory.last_result != self._last:
            self._last, self.last_ms = self.memory.last_result, self.now_ms
        self.booked += rows or []
        self.booked_ms += [self.now_ms] * len(rows or ())
        if rows and rows[0]["kind"] == "hold":
            self.on_hold()
        if rows and rows[-1]["kind"] == "end_of_day" and len(rows) > 1:
            self.wiped.append((rows[:-1], rows[-1]))

    @property
    def now_ms(self) -> int:
        return self._time.ms

    def rows(self) -> list[Row]:
        return list(self.booked)

    def world_now(self) -> datetime:
        return EPOCH.replace(tzinfo=None) + self._passed(self.memory.world_offset_s)

    def row(self, *args: Any, **more: Any) -> Row:
        when = EPOCH + timedelta(seconds=self._time.now_s)
        return {**super().row(*args, **more), "time": when.isoformat(timespec="milliseconds")}


def name_of(hold: Hold) -> HoldName:
    return hold.tid, hold.turnover, hold.receipt, hold.trace


class FarEnd:
    """The simulator's end of the cable, in the place of its pty (hil.common.pty_line.PtyLine)."""

    pace = False

    def __init__(self, cable: Cable, baud: int) -> None:
        self._cable, self.baud = cable, baud
        self._pending = bytearray()
        self._news = asyncio.Event()
        self.powered = True
        self.received_bytes = 0
        cable.to_device = self._arrived

    def _arrived(self, data: bytes) -> None:
        if self.powered:
            self.received_bytes += len(data)
            self._pending += data
            self._news.set()

    async def read(self) -> bytes:
        while not self._pending:
            self._news.clear()
            await self._news.wait()
        return self.discard()

    def discard(self) -> bytes:
        data = bytes(self._pending)
        self._pending.clear()
        return data

    async def write(self, data: bytes, *, gap_at: int = 0, gap_s: float = 0.0) -> None:
        if gap_s > 0:
            self._put(data[:gap_at])
            await asyncio.sleep(gap_s)
            data = data[gap_at:]
        self._put(data)

    def _put(self, data: bytes) -> None:
        if self.powered and data:
            self._cable.from_device(data)

    async def drained(self, at_most_s: float) -> None:
        return None

    def close(self) -> None:
        self.powered = False

    def peer_baud(self) -> int:
        return self.baud

    def set_baud(self, baud: int, bits_per_char: int = 11) -> None:
        self.baud = baud

    def power_off(self) -> None:
        self.powered = False
        self._pending.clear()

    def power_on(self) -> None:
        self.powered = True


class SimTerminal(Simulator):
    """hil's terminal. `acquirer.booked` is the acquirer's ledger. `name`: what the station calls it."""

    def __init__(
        self,
        time: Time,
        cable: Cable,
        seed: int,
        settings: tuple[str, ...],
        name: str = "t1",
        tid: str = TIDS[0],
    ) -> None:
        self.name = name
        # What was put away with its holds in it, oldest first.
        self.former: list[Memory] = []
        # Holds of nobody's session, and when they were made.
        self.strange: dict[HoldName, int] = {}
        self.on_power: Callable[[bool], None] = lambda _: None
        self.on_refusal: Callable[[str], None] = lambda _: None
        options = Options(
            control=NOWHERE,
            store=NOWHERE,
            ledger=NOWHERE,
            tid=tid,
            password=PASSWORD,
            speed=1.0,
            settings=settings,
            seed=seed,
        )
        self.acquirer = MemoryStore(time, tid)
        shipped = Store
        vars(hil_simulator)["Store"] = lambda *_: self.acquirer
        try:
            super().__init__(options)
        finally:
            vars(hil_simulator)["Store"] = shipped
        self.cable = cable
        # Their own, and told: no class of hil's knows that somebody wants to hear of it.
        self.bank.check_refusal = self._check_refusal  # type: ignore[method-assign]
        self.books.note_result = self._note_result  # type: ignore[method-assign]

    def _check_refusal(self, command: str) -> None:
        if self.bank.refusals.get(command):
            self.on_refusal(command)
        type(self.bank).check_refusal(self.bank, command)

    def _note_result(self, result: bytes) -> None:
        """A no is a last result, too, and the same no as before is a new one."""
        type(self.books).note_result(self.books, result)
        self.acquirer.last_ms = self.acquirer.now_ms

    async def power_off(self) -> None:
        self.on_power(False)
        await super().power_off()

    def power_on(self) -> None:
        super().power_on()
        self.on_power(True)

    async def start(self) -> SimTerminal:
        """As hil's, without control socket and pty."""
        self._failure = asyncio.get_running_loop().create_future()
        self.points.hold_link = self._hold_links
        self.points.free_link = self._free_links
        self.points.reboot = self.reboot
        far = FarEnd(self.cable, self.options.baud)
        self.line = far  # type: ignore[assignment]
        serial = SerialLink(
            far,  # type: ignore[arg-type]
            self.switches,
            self.faults,
            self._deliver_from,
            self._collide,
            self._is_deaf,
            self._complain,
        )
        serial.running.add_done_callback(self._on_work_done)
        self._add_link(serial)
        self._power_up()
        if self.switches.reboot_daily:
            # Its clock shows the time of the place.
            self.acquirer.memory.clock_offset_s = BERLIN_S
            self.acquirer.save()
            self._later(self._reboot_daily())
        return self

    def strange_hold(self, amount_minor: int) -> Hold:
        """Made by hand: open at the terminal, and of no session."""
        booked = self.bank.authorize(CARDS["visa2"], amount_minor)
        self.strange[name_of(booked.hold)] = self.acquirer.now_ms
        self.acquirer.memory.holds.append(booked.hold)
        self.acquirer.save(list(booked.rows_now))
        return booked.hold

    @property
    def holds(self) -> list[Hold]:
        """Open at the acquirer, whichever device made them."""
        return [h for memory in (*self.former, self.acquirer.memory) for h in memory.holds]

    async def replace(self, tid: str) -> None:
        """Another device behind the same cable; one that was here before is found again as it was."""
        await self.power_off()
        self.acquirer.reload()
        self.books.link_broke()  # what nobody has answered for is taken back, now as at any power-up
        acquirer = self.acquirer
        known = [memory for memory in self.former if memory.tid == tid]
        self.former = [*(m for m in self.former if m.tid != tid), acquirer.memory]
        acquirer.memory = known[0] if known else acquirer.fresh(tid)
        acquirer.save()
        self.power_on()

    @property
    def waits_for_card(self) -> bool:
        return self.powered and bool(
            self.commands.reader.reading_card or self.commands.till.prompting
        )

    def broken(self) -> BaseException | None:
        """An error in the simulator itself."""
        failure = self._failure
        return failure.result() if failure is not None and failure.done() else None
