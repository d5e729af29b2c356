"""The verbs of the control socket: what a test or a person does to the terminal."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from hil.common.control import ControlError
from hil.common.pty_line import PtyLine
from hil.terminal import manual, service
from hil.terminal.cards import CARDS, CHIP, CONTACTLESS, MAGSTRIPE
from hil.terminal.points import NAMES
from hil.terminal.presets import apply_preset
from hil.terminal.store import RECEIPT_MAX, TRACE_MAX, Hold
from hil.terminal.upkeep import ABORTS, SILENT

if TYPE_CHECKING:
    from hil.terminal.simulator import Simulator

Answer = dict[str, Any]

WAIT_S = 10.0
HOW = {"contactless": CONTACTLESS, "chip": CHIP, "swipe": MAGSTRIPE}
KEYS = {"ok": 0x0D, "c": 0x18, "stop": 0x1B, "f1": 0x31, "f2": 0x32, "f3": 0x33, "f4": 0x34}
DAY_S, HOUR_S = 86_400.0, 3_600.0


class Verbs:
    def __init__(self, simulator: Simulator) -> None:
        self._sim = simulator

    def table(self) -> dict[str, Callable[..., Any]]:
        return {name: getattr(self, name) for name in manual.VERBS}

    # --- Card and keys ----------------------------------------------------------------------------

    def tap(self, card: str, stay: bool = False, how: str | None = None) -> Answer:
        """Hold `card` into the field: for one reading, or with `stay` until it is removed."""
        sim = self._sim
        if card not in CARDS:
            raise ControlError(f"no card {card!r}; known: {', '.join(sorted(CARDS))}")
        ways = [name for name, bit in HOW.items() if CARDS[card].technologies & bit]
        if how is not None and how not in ways:
            raise ControlError(f"{card} can be presented {' or '.join(ways)}, not {how!r}")
        self._need_power()
        sim.taps += 1
        sim.field.card = CARDS[card].presented(sim.taps)
        sim.field.technology = HOW[how or ways[0]]
        sim.field.stays = stay
        sim.field.until = sim.field.now() + sim.switches.tap_s
        sim.talk.wake()
        return {"reading_card": sim.commands.reader.reading_card}

    def remove_card(self) -> None:
        self._sim.field.card = None
        self._sim.field.stays = False

    def press_stop(self) -> Answer:
        """The STOP key; it counts only while the terminal waits for a card."""
        self._need_power()
        commands = self._sim.commands
        waiting = commands.reader.reading_card or commands.till.prompting
        if waiting:
            self._sim.field.stop_pressed = True
            self._sim.talk.wake()
        return {"was_waiting": waiting}

    def press_key(self, key: str) -> None:
        """A key while 06 E1 waits for one."""
        self._need_power()
        if key not in KEYS:
            raise ControlError(f"no key {key!r}; known: {', '.join(KEYS)}")
        self._sim.field.key = KEYS[key]
        self._sim.talk.wake()

    # --- Power and line ---------------------------------------------------------------------------

    def _need_power(self) -> None:
        if not self._sim.powered:
            raise ControlError("the terminal has no power")

    async def power_off(self) -> None:
        await self._sim.power_off()

    def power_on(self) -> None:
        if self._sim.powered:
            raise ControlError("the terminal has power already")
        self._sim.power_on()

    def reboot(self, at: str | None = None, off_s: float | None = None) -> None:
        """Now, or when a dialogue comes to the point `at`."""
        if off_s is not None:
            self._sim.switches.change("reboot_s", off_s)
        if at is None:
            self._need_power()
            self._sim.reboot()
        else:
            self._sim.points.arm_reboot(at)

    def unplug(self) -> None:
        self._pty().unplug()

    def replug(self) -> Answer:
        self._pty().replug()
        return {"slave": self._pty().slave_name}

    def _pty(self) -> PtyLine:
        if self._sim.line is None:
            raise ControlError("there is no pty; start with --link")
        return self._sim.line

    def lock(self, for_s: float, code: int = 0xE0, style: str = ABORTS) -> None:
        """Busy with itself for a while, as during an update."""
        if style not in (ABORTS, SILENT) or for_s <= 0 or not 0 < code <= 0xFF:
            raise ControlError(f"for_s above 0, code 1 to 255, style {ABORTS} or {SILENT}")
        self._sim.upkeep.begin(code, for_s, style)

    async def service_call(self, port: int, apdu: str, host: str = "127.0.0.1") -> Answer:
        """Connect to the ECR and send one message there, as terminals on TCP may."""
        self._need_power()
        try:
            message = bytes.fromhex(apdu)
        except (TypeError, ValueError):
            raise ControlError(f"apdu is hexadecimal, not {apdu!r}") from None
        try:
            answer = await service.call(host, port, message, self._sim.switches.t3_ms / 1000)
        except service.NoService as error:
            raise ControlError(str(error)) from error
        return {"answer": answer.hex()}

    # --- Points -----------------------------------------------------------------------------------

    def hold(self, at: str) -> None:
        self._sim.points.arm(at)

    async def wait(self, at: str, timeout_s: float = WAIT_S) -> Answer:
        try:
            await self._sim.points.wait(at, timeout_s)
        except TimeoutError:
            passed = ", ".join(list(self._sim.points.trace)[-12:])
            raise ControlError(f"not at {at} after {timeout_s} s; last steps: {passed}") from None
        return {"held_at": at}

    def resume(self, break_link: bool = False) -> None:
        """Go on. What the ECR sent meanwhile is looked at now; with `break_link` it is lost, and the
        dialogue ends as after a broken link."""
        self._sim.points.resume(break_link=break_link)

    # --- Faults, switches, refusals ---------------------------------------------------------------

    def fault(self, name: str, count: int = 1, card: str = "visa") -> Answer:
        if card not in CARDS:
            raise ControlError(f"no card {card!r}")
        self._sim.faults.collision_card = card
        self._sim.faults.set(name, count)
        return {"faults": self._sim.faults.active()}

    def clear_faults(self) -> None:
        self._sim.faults.clear()

    def refuse(self, command: str, code: int, count: int = 1) -> None:
        """The next `count` of `command` (reserve, capture, ...) end with this code."""
        if command not in NAMES:
            raise ControlError(f"no command {command!r}")
        if not 0 < code <= 0xFF:
            raise ControlError("a code is a number from 1 to 255")
        self._sim.bank.refusals[command] = [code] * count

    def set(self, **switches: Any) -> Answer:
        for name, value in switches.items():
            self._sim.switches.change(name, value)
        self._sim.daily.begin()
        return {"switches": self._sim.switches.as_json()}

    def preset(self, vendor: str) -> Answer:
        apply_preset(vendor, self._sim.switches)
        return {"switches": self._sim.switches.as_json()}

    # --- Time and numbers -------------------------------------------------------------------------

    def advance(self, days: float = 0, hours: float = 0, seconds: float = 0) -> Answer:
        """Everybody's time goes on: the terminal's clock and the acquirer's. Holds may expire."""
        step_s = days * DAY_S + hours * HOUR_S + seconds
        if step_s < 0:
            raise ControlError("time does not go back")
        self._sim.store.memory.world_offset_s += step_s
        self._sim.store.save()
        expired = self._sim.bank.expire()
        self._sim.daily.changed.set()
        return {"expired": [hold.receipt for hold in expired]}

    def numbers(
        self, receipt: int | None = None, trace: int | None = None, turnover: int | None = None
    ) -> Answer:
        """What the next transaction gets."""
        memory = self._sim.store.memory
        for value, most in ((receipt, RECEIPT_MAX), (trace, TRACE_MAX), (turnover, TRACE_MAX)):
            if value is not None and not 1 <= value <= most:
                raise ControlError(f"a number from 1 to {most}, not {value}")
        memory.next_receipt = receipt or memory.next_receipt
        memory.next_trace = trace or memory.next_trace
        memory.turnover = turnover or memory.turnover
        self._sim.store.save()
        return {
            "receipt": memory.next_receipt,
            "trace": memory.next_trace,
            "turnover": memory.turnover,
        }

    def foreign_hold(
        self, card: str, amount_minor: int, trace: int, aid: str, tid: str = "60606060"
    ) -> None:
        """A hold that a terminal which is no longer here made at the acquirer."""
        if card not in CARDS or amount_minor <= 0 or not 0 < trace <= TRACE_MAX:
            raise ControlError("a known card, an amount above 0 and a trace number are needed")
        store = self._sim.store
        now = store.world_now()
        made = Hold(
            receipt=trace % RECEIPT_MAX + 1,
            trace=trace,
            turnover=1,
            amount_minor=amount_minor,
            currency=store.memory.currency,
            card=card,
            aid=aid,
            date=now.strftime("%m%d"),
            time=now.strftime("%H%M%S"),
            born=now.isoformat(),
            tid=tid,
        )
        store.memory.foreign.append(made)
        store.save([store.row("hold", made.receipt, trace, made, amount_minor)])

    # --- Looking ----------------------------------------------------------------------------------

    def help(self) -> Answer:
        return manual.as_json()

    def ledger(self) -> Answer:
        """What the acquirer has booked, oldest first."""
        return {"rows": self._sim.store.rows()}

    def _mode(self) -> str:
        sim = self._sim
        if not sim.powered:
            return "off"
        if lock := sim.upkeep.lock:
            return "silent" if lock.style == SILENT else "locked"
        if sim.commands.reader.reading_card or sim.commands.till.prompting:
            return "reading_card"
        if sim.busy:
            return "busy"
        return "idle" if sim.store.memory.registered else "unregistered"

    def state(self) -> Answer:
        sim = self._sim
        memory = sim.store.memory
        pending = memory.pending
        card = sim.field.present()
        return {
            "mode": self._mode(),
            "powered": sim.powered,
            "boots": sim.boots,
            "screen": sim.screen.lines,
            "registered": memory.registered,
            "config": f"{memory.config:02x}",
            "status": sim.switches.status,
            "status_now": sim.desk.status,
            "setup_due": memory.setup_due,
            "tid": memory.tid,
            "turnover": memory.turnover,
            "clock": sim.store.now().isoformat(timespec="seconds"),
            "language": memory.language,
            "charset": memory.charset,
            "printer_width": memory.printer_width,
            "ecr_commands": memory.ecr_commands,
            "baud": sim.line.baud if sim.line else None,
            "message_numbers": {"active": sim.talk.numbers.active, **sim.talk.numbers.seen},
            "reading_card": sim.commands.reader.reading_card,
            "prompting": sim.commands.till.prompting,
            "card": card.name if card else None,
            "open_holds": [asdict(hold) for hold in memory.holds],
            "foreign_holds": [asdict(hold) for hold in memory.foreign],
            "bookings": [asdict(booking) for booking in memory.bookings],
            "pending": None
            if pending is None
            else {"kind": pending.kind, "receipt": pending.receipt},
            "last_receipt": memory.next_receipt - 1,
            "last_result": memory.last_result,
            "auto_reversals": sim.books.auto_reversals,
            "asked": list(sim.commands.requests.answers),
            "files": memory.files,
            "configuration": memory.configuration,
            "armed": sim.points.armed,
            "held_at": sim.points.held_at,
            "trace": list(sim.points.trace),
            "bytes_in": sim.line.received_bytes if sim.line else 0,
            "commands": dict(sim.talk.received),
            "messages": dict(sim.talk.sent),
            "faults": sim.faults.active(),
            "complaints": dict(sim.desk.complaints),
            "switches": sim.switches.as_json(),
        }
