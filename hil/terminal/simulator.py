"""The whole terminal: line, behaviour and power."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hil.common.control import ControlError, ControlServer
from hil.common.pty_line import PtyLine
from hil.terminal.bank import Bank
from hil.terminal.batch import Batch
from hil.terminal.booking import Books
from hil.terminal.commands import Commands
from hil.terminal.dialogue import Desk, Field, Pace, Talk
from hil.terminal.faults import Faults
from hil.terminal.link import Link, LinkBroken, SerialLink
from hil.terminal.points import Points
from hil.terminal.presets import apply_preset
from hil.terminal.screen import Screen
from hil.terminal.store import Store
from hil.terminal.switches import Switches
from hil.terminal.tcp import Events, TcpLink
from hil.terminal.upkeep import Daily, Upkeep
from hil.terminal.verbs import Verbs

BITS_PER_CHAR = 11  # 8N2
BAUD_OF_FALLBACK = 9600
# An ECR that is dead or does not look takes nothing from its buffer; a test goes on after this.
ARRIVAL_S = 0.1


@dataclass(frozen=True, slots=True)
class Options:
    """How a simulator is started. Either `link` (a pty) or `tcp_port` or both leads to the ECR; the
    last side that speaks is the one that is answered. `settings` are `name=value`, after `vendor`;
    `faults` are `name` or `name=count`."""

    control: Path
    store: Path
    ledger: Path
    link: Path | None = None
    tcp_port: int | None = None
    tid: str = "52523535"
    password: str = "123456"
    currency: str = "978"
    baud: int = 115200
    pace: bool = False
    speed: float = 4.0
    delay_ms: int | None = None
    vendor: str | None = None
    settings: tuple[str, ...] = ()
    faults: tuple[str, ...] = ()
    seed: int = 1


class Simulator:
    """Raises ValueError for a vendor or setting that does not exist."""

    def __init__(self, options: Options) -> None:
        self.options = options
        self.switches = Switches()
        if options.vendor is not None:
            apply_preset(options.vendor, self.switches)
        for setting in options.settings:
            self.switches.change_text(setting)
        self.faults = Faults(options.seed)
        self.faults.chaos_permille = lambda: self.switches.chaos_permille
        for fault in options.faults:
            self.faults.set_text(fault)
        self.points = Points()
        self.store = Store(options.store, options.ledger, options.tid, options.currency)
        self.store.skew_s = lambda: self.switches.clock_skew_s
        self.bank = Bank(self.store, self.switches)
        self.books = Books(self.store, self.switches)
        self.upkeep = Upkeep(self.switches)
        self.daily = Daily(self.switches, self.store.now)
        self._reboot_when_idle = False
        self.screen = Screen()
        self.field = Field()
        self.powered = True
        self.boots = 0
        self.busy = False
        self.desk = Desk(
            store=self.store,
            bank=self.bank,
            books=self.books,
            batch=Batch(self.store, self.switches, self.bank),
            upkeep=self.upkeep,
            switches=self.switches,
            points=self.points,
            screen=self.screen,
            field=self.field,
            pace=Pace(options.speed, options.delay_ms),
            password=options.password,
            change_baud=self._change_baud,
            loses_result=lambda: self.faults.loses_result(self.switches.lost_result_permille),
        )
        self.talk = Talk(self.desk)
        self.commands = Commands(self.talk, options.seed)
        self.verbs = Verbs(self)
        self.control = ControlServer(options.control, self.verbs.table())
        self.line: PtyLine | None = None
        self.taps = 0
        self._links: list[Link] = []
        self._work: asyncio.Task[None] | None = None
        self._aside: set[asyncio.Task[None]] = set()
        self._deaf_until = 0.0
        self._failure: asyncio.Future[BaseException] | None = None

    # --- Life -------------------------------------------------------------------------------------

    async def start(self) -> Simulator:
        options = self.options
        self._failure = asyncio.get_running_loop().create_future()
        self.points.hold_link = self._hold_links
        self.points.free_link = self._free_links
        self.points.reboot = self.reboot
        self.points.arrived = self._arrived
        try:
            await self.control.start()
            if options.link is not None:
                self._open_line(options.link)
            if options.tcp_port is not None:
                events = Events(self._deliver_from, self._lost, self._is_deaf, lambda: self.busy)
                tcp = TcpLink(options.tcp_port, self.switches, self.faults, events)
                await tcp.start()
                self._add_link(tcp)
        except (OSError, ControlError) as error:
            await self.close()
            raise OSError(str(error)) from error
        self._power_up()
        self._later(self._reboot_daily())
        return self

    @property
    def tcp_port(self) -> int | None:
        """The TCP port that is listened on, also where the system chose it (port 0)."""
        return next((link.port for link in self._links if isinstance(link, TcpLink)), None)

    def _open_line(self, link: Path) -> None:
        options = self.options
        baud = self.store.memory.baud or options.baud
        self.line = PtyLine(link, baud=baud, pace=options.pace, bits_per_char=BITS_PER_CHAR)
        self.line.open()
        serial = SerialLink(
            self.line,
            self.switches,
            self.faults,
            self._deliver_from,
            self._collide,
            self._is_deaf,
            self._complain,
        )
        serial.running.add_done_callback(self._on_work_done)
        self._add_link(serial)

    def _add_link(self, link: Link) -> None:
        self._links.append(link)
        if self.talk.link is None:
            self.talk.link = link

    def _deliver_from(self, link: Link, apdu: bytes) -> None:
        self.talk.link = link
        self.talk.deliver(apdu)

    def _lost(self, link: Link) -> None:
        if self.talk.link is link:
            self.talk.lose()

    def _complain(self, what: str) -> None:
        self.desk.complaints[what] += 1

    def _collide(self, card: str) -> None:
        self.verbs.tap(card)

    def _hold_links(self) -> None:
        for link in self._links:
            link.hold()

    async def _arrived(self) -> None:
        if self.line is not None:
            await self.line.drained(ARRIVAL_S)

    def _free_links(self, discard: bool) -> None:
        for link in self._links:
            link.go_on(discard=discard)

    async def close(self) -> None:
        for task in tuple(self._aside):
            task.cancel()
        await asyncio.gather(*self._aside, return_exceptions=True)
        await self._stop_work()
        for link in self._links:
            await link.close()
        if self.line is not None:
            self.line.close()
        await self.control.close()

    async def failed(self) -> BaseException:
        assert self._failure is not None
        return await self._failure

    def _on_work_done(self, work: asyncio.Task[None]) -> None:
        # An error in the simulator itself must end it loudly, not leave a terminal that is mute.
        error = None if work.cancelled() else work.exception()
        if error and self._failure and not self._failure.done():
            self._failure.set_result(error)

    async def _run(self) -> None:
        while True:
            try:
                command = await self.talk.next_command()
                self.busy = True
                await self.commands.execute(command)
            except LinkBroken as error:
                self.commands.till.link_broke(error)
            finally:
                self.busy = False
            if self.switches.reboot_daily:
                self.daily.changed.set()  # 06 91 may have moved the hour
            if self._reboot_when_idle:
                self._reboot_when_idle = False
                self.reboot()

    async def _reboot_daily(self) -> None:
        while True:
            self.daily.changed.clear()
            try:
                async with asyncio.timeout(self.daily.left_s()):
                    await self.daily.changed.wait()
            except TimeoutError:
                pass
            if not self.daily.is_due() or not self.powered:
                continue
            if self.busy:
                self._reboot_when_idle = True
            else:
                self.reboot()

    async def _stop_work(self) -> None:
        if self._work is not None:
            self._work.cancel()
            await asyncio.gather(self._work, return_exceptions=True)
            self._work = None

    # --- Line -------------------------------------------------------------------------------------

    def _is_deaf(self) -> bool:
        """No power, a silent update, or between two baud rates."""
        changing = asyncio.get_running_loop().time() < self._deaf_until
        return not self.powered or changing or self.upkeep.is_silent

    def _change_baud(self, rate: int, wait_s: float) -> None:
        if self.line is not None:
            self._deaf_until = asyncio.get_running_loop().time() + wait_s
            self.line.set_baud(rate, BITS_PER_CHAR)

    # --- Power ------------------------------------------------------------------------------------

    def _power_up(self) -> None:
        """Only the store survives. What the ECR never answered is settled as the switch tells."""
        self.store.reload()
        self.powered = True
        self._reboot_when_idle = False
        self.daily.begin()
        self.boots += 1
        self.commands.till.forget()
        self.talk.numbers.reset()
        self.screen.welcome()
        if self.switches.forget_registration:
            self.store.memory.registered = False
            self.store.memory.tlv_allowed = False
            self.store.save()
        if self.books.link_broke():
            self.points.trace.append("auto_reversal")
        self._work = asyncio.ensure_future(self._run())
        self._work.add_done_callback(self._on_work_done)

    async def power_off(self) -> None:
        """Cut the power at this very moment: the dialogue, the screen and the registers are gone."""
        self.powered = False
        if self.line is not None:
            self.line.power_off()
        await self._stop_work()
        self.points.reset()
        for link in self._links:
            link.reset()
            link.go_on(discard=True)
        self.talk.clear()
        self.field.stop_pressed = False
        self.commands.reader.reading_card = False
        self.commands.till.prompting = False
        self.upkeep.end()
        self._deaf_until = 0.0
        self.screen.blank()

    def power_on(self) -> None:
        if self.line is not None:
            if self.switches.baud_after_reboot == str(BAUD_OF_FALLBACK):
                self.store.memory.baud = BAUD_OF_FALLBACK
                self.store.save()
                self.line.set_baud(BAUD_OF_FALLBACK, BITS_PER_CHAR)
            self.line.power_on()
        for link in self._links:
            link.reset()
        self._power_up()

    def reboot(self, off_s: float | None = None) -> None:
        """Power off now, on again after `off_s`. Returns at once: it may be called by the very
        dialogue that it ends."""
        self._later(self._reboot(self.switches.reboot_s if off_s is None else off_s))

    async def _reboot(self, off_s: float) -> None:
        await self.power_off()
        await asyncio.sleep(off_s)
        if not self.powered:
            self.power_on()

    def _later(self, what: Coroutine[Any, Any, None]) -> None:
        task = asyncio.ensure_future(what)
        self._aside.add(task)
        task.add_done_callback(self._aside.discard)
        task.add_done_callback(self._on_work_done)
