"""The whole terminal: line, behaviour, power, and the verbs of its control socket."""

from __future__ import annotations

import asyncio
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from hil.common.control import ControlError, ControlServer
from hil.common.pty_line import PtyLine
from hil.terminal.bank import Bank
from hil.terminal.cards import CARDS
from hil.terminal.commands import Commands
from hil.terminal.dialogue import Desk, Field, Pace, Talk
from hil.terminal.faults import Faults
from hil.terminal.link import Link, LinkBroken, SerialLink
from hil.terminal.payment import Payments
from hil.terminal.points import COMMANDS, Points
from hil.terminal.screen import Screen
from hil.terminal.store import Store
from hil.terminal.switches import Switches
from hil.terminal.tcp import TcpLink

Answer = dict[str, Any]

WAIT_S = 10.0
BITS_PER_CHAR = 11  # 8N2


@dataclass(frozen=True, slots=True)
class Options:
    """How a simulator is started. Either `link` (a pty) or `tcp_port` or both leads to the ECR; the
    last side that speaks is the one that is answered."""

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


class Simulator:
    def __init__(self, options: Options) -> None:
        self.options = options
        self.switches = Switches()
        self.faults = Faults()
        self.points = Points()
        self.store = Store(options.store, options.ledger, options.tid, options.currency)
        self.bank = Bank(self.store, self.switches)
        self.screen = Screen()
        self.field = Field()
        self.powered = True
        desk = Desk(
            store=self.store,
            bank=self.bank,
            switches=self.switches,
            points=self.points,
            screen=self.screen,
            field=self.field,
            pace=Pace(options.speed, options.delay_ms),
            password=options.password,
        )
        self.talk = Talk(desk)
        self.payments = Payments(self.talk)
        self.commands = Commands(self.talk, self.payments)
        self.control = ControlServer(options.control, self._verbs())
        self.line: PtyLine | None = None
        self._links: list[Link] = []
        self._work: asyncio.Task[None] | None = None
        self._taps = 0
        self._failure: asyncio.Future[BaseException] | None = None

    # --- Life -------------------------------------------------------------------------------------

    async def start(self) -> Simulator:
        options = self.options
        self._failure = asyncio.get_running_loop().create_future()
        self.points.hold_link = self._hold_links
        self.points.free_link = self._free_links
        try:
            await self.control.start()
            if options.link is not None:
                self._open_line(options.link)
            if options.tcp_port is not None:
                tcp = TcpLink(options.tcp_port, self._deliver_from, self.faults)
                await tcp.start()
                self._add_link(tcp)
        except (OSError, ControlError) as error:
            await self.close()
            raise OSError(str(error)) from error
        self._power_up()
        return self

    @property
    def tcp_port(self) -> int | None:
        """The TCP port that is listened on, also where the system chose it (port 0)."""
        return next((link.port for link in self._links if isinstance(link, TcpLink)), None)

    def _open_line(self, link: Path) -> None:
        options = self.options
        self.line = PtyLine(link, baud=options.baud, pace=options.pace, bits_per_char=BITS_PER_CHAR)
        self.line.open()
        serial = SerialLink(
            self.line, self.switches, self.faults, self._deliver_from, self._collide
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

    def _hold_links(self) -> None:
        for link in self._links:
            link.hold()

    def _free_links(self, discard: bool) -> None:
        for link in self._links:
            link.go_on(discard=discard)

    async def close(self) -> None:
        await self._stop_work()
        for link in self._links:
            await link.close()
        if self.line is not None:
            self.line.close()
        await self.control.close()

    async def failed(self) -> BaseException:
        assert self._failure is not None
        return await self._failure

    def _power_up(self) -> None:
        """Only the store survives. What the ECR never answered is settled as the switch tells."""
        self.store.reload()
        self.powered = True
        self.payments.forget_card()
        self.screen.welcome()
        if self.switches.forget_registration:
            self.store.memory.registered = False
            self.store.memory.tlv_allowed = False
            self.store.save()
        if self.bank.link_broke():
            self.points.trace.append("auto_reversal")
        self._work = asyncio.ensure_future(self._run())
        self._work.add_done_callback(self._on_work_done)

    def _on_work_done(self, work: asyncio.Task[None]) -> None:
        # An error in the simulator itself must end it loudly, not leave a terminal that is mute.
        error = None if work.cancelled() else work.exception()
        if error and self._failure and not self._failure.done():
            self._failure.set_result(error)

    async def _run(self) -> None:
        while True:
            command = await self.talk.next_command()
            try:
                await self.commands.execute(command)
            except LinkBroken as error:
                self.payments.link_broke(error)

    async def _stop_work(self) -> None:
        if self._work is not None:
            self._work.cancel()
            await asyncio.gather(self._work, return_exceptions=True)
            self._work = None

    # --- Control verbs ----------------------------------------------------------------------------

    def _verbs(self) -> dict[str, Any]:
        return {
            "tap": self.tap,
            "remove_card": self.remove_card,
            "press_stop": self.press_stop,
            "power_off": self.power_off,
            "power_on": self.power_on,
            "unplug": self.unplug,
            "replug": self.replug,
            "hold": self.hold,
            "wait": self.wait,
            "resume": self.resume,
            "fault": self.fault,
            "clear_faults": self.clear_faults,
            "refuse": self.refuse,
            "set": self.set,
            "state": self.state,
            "ledger": self.ledger,
        }

    def tap(self, card: str, stay: bool = False) -> Answer:
        """Hold `card` into the field: for one reading, or with `stay` until it is removed."""
        if card not in CARDS:
            raise ControlError(f"no card {card!r}; known: {', '.join(sorted(CARDS))}")
        self._need_power()
        self._taps += 1
        self.field.card = CARDS[card].presented(self._taps)
        self.field.stays = stay
        self.field.until = asyncio.get_running_loop().time() + self.switches.tap_s
        self.talk.wake()
        return {"reading_card": self.payments.reading_card}

    def remove_card(self) -> None:
        self.field.card = None
        self.field.stays = False

    def press_stop(self) -> Answer:
        """The STOP key; it counts only while the terminal waits for a card."""
        self._need_power()
        waiting = self.payments.reading_card or self.payments.prompting
        if waiting:
            self.field.stop_pressed = True
            self.talk.wake()
        return {"was_waiting": waiting}

    def _need_power(self) -> None:
        if not self.powered:
            raise ControlError("the terminal has no power")

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
        self.payments.reading_card = self.payments.prompting = False
        self.screen.blank()

    async def power_on(self) -> None:
        if self.powered:
            raise ControlError("the terminal has power already")
        if self.line is not None:
            self.line.power_on()
        for link in self._links:
            link.reset()
        self._power_up()

    def unplug(self) -> None:
        self._pty().unplug()

    def replug(self) -> Answer:
        self._pty().replug()
        return {"slave": self._pty().slave_name}

    def _pty(self) -> PtyLine:
        if self.line is None:
            raise ControlError("there is no pty; start with --link")
        return self.line

    def hold(self, at: str) -> None:
        self.points.arm(at)

    async def wait(self, at: str, timeout_s: float = WAIT_S) -> Answer:
        try:
            await self.points.wait(at, timeout_s)
        except TimeoutError:
            passed = ", ".join(list(self.points.trace)[-12:])
            raise ControlError(f"not at {at} after {timeout_s} s; last steps: {passed}") from None
        return {"held_at": at}

    def resume(self, break_link: bool = False) -> None:
        """Go on. What the ECR sent meanwhile is looked at now; with `break_link` it is lost, and the
        dialogue ends as after a broken link."""
        self.points.resume(break_link=break_link)

    def fault(self, name: str, count: int = 1, card: str = "visa") -> Answer:
        if card not in CARDS:
            raise ControlError(f"no card {card!r}")
        self.faults.collision_card = card
        self.faults.set(name, count)
        return {"faults": self.faults.active()}

    def clear_faults(self) -> None:
        self.faults.clear()

    def refuse(self, command: str, code: int, count: int = 1) -> None:
        """The next `count` of `command` (reserve, capture, ...) end with this code."""
        if command not in COMMANDS.values():
            raise ControlError(f"no command {command!r}")
        if not 0 < code <= 0xFF:
            raise ControlError("a code is a number from 1 to 255")
        self.bank.refusals[command] = [code] * count

    def set(self, **switches: Any) -> Answer:
        for name, value in switches.items():
            self.switches.change(name, value)
        return {"switches": self.switches.as_json()}

    def _collide(self, card: str) -> None:
        self.tap(card)

    def state(self) -> Answer:
        memory = self.store.memory
        pending = memory.pending
        card = self.field.present()
        return {
            "powered": self.powered,
            "screen": self.screen.lines,
            "registered": memory.registered,
            "config": f"{memory.config:02x}",
            "status": self.switches.status,
            "tid": memory.tid,
            "turnover": memory.turnover,
            "reading_card": self.payments.reading_card,
            "prompting": self.payments.prompting,
            "card": card.name if card else None,
            "open_holds": [asdict(hold) for hold in memory.holds],
            "pending": None
            if pending is None
            else {"kind": pending.kind, "receipt": pending.receipt},
            "last_receipt": memory.next_receipt - 1,
            "last_result": memory.last_result,
            "auto_reversals": self.bank.auto_reversals,
            "armed": self.points.armed,
            "held_at": self.points.held_at,
            "trace": list(self.points.trace),
            "bytes_in": self.line.received_bytes if self.line else 0,
            "commands": dict(self.talk.received),
            "messages": dict(self.talk.sent),
            "faults": self.faults.active(),
            "switches": self.switches.as_json(),
        }

    def ledger(self) -> Answer:
        """What the acquirer has booked, oldest first."""
        return {"rows": self.store.rows()}
