"""The faults of a plan: when each begins, what it does, how it ends."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

from hil.charger.faults import REPLY_FAULTS
from hil.charger.faults import Fault as ReplyFault
from hil.common.control import ControlError
from simulate.day_faults import DayFaults
from simulate.plan import Fault
from simulate.till import SimTerminal
from simulate.troubles import Trouble, is_trouble
from simulate.world import World

End = Callable[[], Any]

# Where the terminal loses its power: PA00P015's commands as hil names them, and steps of a dialogue.
POINTS = (
    "reserve:received",
    "reserve:host_asked",
    "reserve:result_due",
    "reserve:result_sent",
    "reserve:result_answered",
    "reserve:completed",
    "capture:received",
    "capture:host_asked",
    "capture:result_due",
    "capture:result_sent",
    "capture:result_answered",
    "capture:completed",
    "cancel:received",
    "cancel:result_due",
    "cancel:result_sent",
    "cancel:result_answered",
    "cancel:completed",
    "read_card:received",
    "enquire:received",
    "repeat:received",
    "register:received",
)
LINE_FAULTS = (
    "bad_crc",
    "gap",
    "gap_below",
    "byte_loss",
    "duplicate",
    "noise",
    "lone_dle",
    "nak",
    "no_ack",
    "no_answer",
    "ignored",
    "collision",
    "silent",
    "lost_result",
)
MONEY_COMMANDS = ("reserve", "capture", "cancel")
# Not now (9B, 9C, A3, E0), aborted (6C), not possible (83), system error (FF), declined (05), no hold (B8).
REFUSALS = (0x9B, 0x9C, 0xA3, 0xE0, 0x6C, 0x83, 0xFF, 0x05, 0xB8)
OTHER_TID = "60606060"
HOST_OFFLINE = (0xA1, 0x9B, 0xA3)
AT_TERMINAL = frozenset({"terminal", "host", "day", "strange"})
# What a kind of fault excuses in the end: see simulate.oracle.
EXCUSES = {
    "bus": ("meter", "evse"),
    "meter": ("meter",),
    "evse": ("evse",),
    "disk": ("disk",),
    "clock": ("clock",),
    "terminal": ("terminal",),
    "day": ("terminal",),
    "strange": (),
    "host": ("terminal",),
    "backend": ("backend",),
    "broker": ("backend",),
    "tariff": (),
}


class Faults(DayFaults):
    def __init__(self, world: World, faults: tuple[Fault, ...]) -> None:
        self._world = world
        self.begun: list[str] = []
        self._due: dict[int, list[Fault]] = {}
        for fault in faults:
            self._due.setdefault(fault.visit, []).append(fault)
        self._timers: list[asyncio.TimerHandle] = []
        self._ends: list[End] = []
        world.visit_begins = self._visit_begins

    def _visit_begins(self, number: int) -> None:
        for fault in self._due.pop(number, ()):
            self._later(fault.after_s, self._begin, fault)

    def _later(self, after_s: float, what: Callable[..., Any], *given: Any) -> None:
        self._timers.append(self._world.loop.call_later(after_s, what, *given))

    def _begin(self, fault: Fault) -> None:
        self.begun.append(fault.kind)
        # Behind replies that come late the bus is kept quiet, and a car may be changed unseen.
        hides = fault.kind == "meter_late" or "evse" in EXCUSES[fault.kind.partition("_")[0]]
        self._world.bus_troubled |= hides
        self._world.trace("fault", f"{fault.kind} ({fault.amount}) for {fault.for_s:g} s")
        trouble = self._trouble(fault)
        undo: End = getattr(self, f"_{fault.kind}")(fault)

        def end() -> None:
            if trouble is not None:
                self._world.troubles.end(trouble)
            undo()

        self._ends.append(end)
        self._later(fault.for_s, self._end, fault.kind, end)

    def _trouble(self, fault: Fault) -> Trouble | None:
        if not is_trouble(fault.kind):
            return None
        at_terminal = AT_TERMINAL & {fault.kind.partition("_")[0]}
        where = self.terminal(fault).name if at_terminal else ""
        return self._world.troubles.begin(fault.kind, where)

    def _end(self, kind: str, end: End) -> None:
        if end in self._ends:
            self._ends.remove(end)
            self._world.trace("fault", f"{kind} ends")
            end()

    def end_all(self) -> None:
        """Peace: everything works again, and what never came is dropped."""
        self._due.clear()
        self.stop()
        while self._ends:
            self._ends.pop()()
        world = self._world
        world.charger.heal()
        world.backend.heal()
        for terminal in world.terminals:
            terminal.faults.clear()
            terminal.bank.refusals.clear()
            terminal.points._reboot_at = None

    def stop(self) -> None:
        for timer in self._timers:
            timer.cancel()
        self._timers.clear()

    def disturbed(self) -> frozenset[str]:
        found = {name for kind in self.begun for name in EXCUSES[kind.partition("_")[0]]}
        if self._world.outages:
            found.add("outage")
        return frozenset(found)

    def terminal(self, fault: Fault) -> SimTerminal:
        """Which one is meant."""
        terminals = self._world.terminals
        return terminals[fault.amount // 4096 % len(terminals)]

    # --- the terminal -----------------------------------------------------------------------------

    def _terminal_noise(self, fault: Fault) -> End:
        noise = self.terminal(fault).cable.noise
        noise.permille = 20 + fault.amount % 400
        return lambda: setattr(noise, "permille", 0)

    def _terminal_flips(self, fault: Fault) -> End:
        """Single bits, and many of them: whether anything looks right that is not."""
        noise = self.terminal(fault).cable.noise
        noise.flips_permille = 100 + fault.amount % 300
        return lambda: setattr(noise, "flips_permille", 0)

    def _terminal_reboot(self, fault: Fault) -> End:
        terminal = self.terminal(fault)
        if terminal.powered:
            terminal.reboot(off_s=0.3 + fault.amount % 15)
        return _nothing

    def _terminal_off(self, fault: Fault) -> End:
        world, terminal = self._world, self.terminal(fault)
        world.spawn(terminal.power_off())
        return lambda: world.spawn(_power_on(terminal))

    def _terminal_point(self, fault: Fault) -> End:
        """`what`: the point, and for how long it is off."""
        point, _, off_s = (fault.what or POINTS[fault.amount % len(POINTS)]).partition(" ")
        self._world.trace("fault", f"the terminal will lose its power at {point}")
        self.terminal(fault).verbs.reboot(at=point, off_s=float(off_s or 0.3 + fault.amount % 7))
        return _nothing

    def _terminal_lock(self, fault: Fault) -> End:
        style = "silent" if fault.amount % 2 else "aborts"
        self.terminal(fault).verbs.lock(for_s=fault.for_s, style=style)
        return _nothing

    def _terminal_fault(self, fault: Fault) -> End:
        name = LINE_FAULTS[fault.amount % len(LINE_FAULTS)]
        faults = self.terminal(fault).faults
        count = -1 if name == "silent" else 1 + fault.amount // 64 % 3
        self._world.trace("fault", f"{name} x {count}")
        faults.set(name, count)
        return lambda: faults.set(name, 0)

    def _terminal_refuses(self, fault: Fault) -> End:
        command = MONEY_COMMANDS[fault.amount % len(MONEY_COMMANDS)]
        code = REFUSALS[fault.amount // 8 % len(REFUSALS)]
        what = fault.what or f"{command} {code:02x} {1 + fault.amount // 64 % 3}"
        self._world.trace("fault", f"refused: {what}")
        command, digits, count = what.split()
        self.terminal(fault).verbs.refuse(command, int(digits, 16), int(count))
        return _nothing

    def _terminal_loses(self, fault: Fault) -> End:
        """What it does stands at the acquirer, and it tells nobody."""
        switches = self.terminal(fault).switches
        switches.lost_result_permille = 1000
        return lambda: setattr(switches, "lost_result_permille", 0)

    def _host_offline(self, fault: Fault) -> End:
        switches = self.terminal(fault).switches
        switches.host_offline = HOST_OFFLINE[fault.amount % len(HOST_OFFLINE)]
        return lambda: setattr(switches, "host_offline", None)

    def _host_slow(self, fault: Fault) -> End:
        switches = self.terminal(fault).switches
        switches.host_s = float(fault.what or 4 + fault.amount % 60)
        return lambda: setattr(switches, "host_s", None)

    def _terminal_slow(self, fault: Fault) -> End:
        """Each word of it takes a moment: states that last for milliseconds last for seconds."""
        cable = self.terminal(fault).cable
        cable.lag_s = float(fault.what or 0.1 + fault.amount % 8 / 10)
        return lambda: setattr(cable, "lag_s", 0.0)

    def _terminal_replaced(self, fault: Fault) -> End:
        """Another device behind the same cable; some come back from repair with their holds."""
        world, terminal = self._world, self.terminal(fault)
        tid = terminal.acquirer.memory.tid
        world.spawn(terminal.replace(OTHER_TID))
        if fault.amount & 1:
            return lambda: world.spawn(terminal.replace(tid))
        return _nothing

    def _terminal_unplugged(self, fault: Fault) -> End:
        cable = self.terminal(fault).cable
        cable.unplug()
        return cable.replug

    def _host_approves_less(self, fault: Fault) -> End:
        """Not trouble at all: whoever wants more gets a part of it."""
        switches = self.terminal(fault).switches
        switches.approve_at_most_minor = 100 + fault.amount % 800
        return lambda: setattr(switches, "approve_at_most_minor", None)

    # --- the bus ----------------------------------------------------------------------------------

    def _bus_noise(self, fault: Fault) -> End:
        noise = self._world.bus_noise
        noise.permille = 20 + fault.amount % 500
        return lambda: setattr(noise, "permille", 0)

    def _bus_flips(self, fault: Fault) -> End:
        noise = self._world.bus_noise
        noise.flips_permille = 50 + fault.amount % 300
        return lambda: setattr(noise, "flips_permille", 0)

    def _bus_unplugged(self, fault: Fault) -> End:
        self._world.bus_cable.unplug()
        return self._world.bus_cable.replug

    def _meter_fault(self, fault: Fault) -> End:
        return self._reply_fault("meter", fault)

    def _meter_late(self, fault: Fault) -> End:
        """Replies that come when they are no longer waited for."""
        station = self._world.charger.station("meter0")
        made = ReplyFault("late", None, ms=320 + fault.amount % 800)
        station.faults.append(made)

        def end() -> None:
            if made in station.faults:
                station.faults.remove(made)

        return end

    def _evse_fault(self, fault: Fault) -> End:
        return self._reply_fault("evse", fault)

    def _reply_fault(self, device: str, fault: Fault) -> End:
        connectors = len(self._world.charger.connectors)
        station = self._world.charger.station(f"{device}{fault.amount // 256 % connectors}")
        name = REPLY_FAULTS[fault.amount % len(REPLY_FAULTS)]
        late_ms = (250, 350, 700, 1_200, 3_000)[fault.amount // 16 % 5]
        count = None if fault.amount // 128 % 2 else 1 + fault.amount // 512 % 4
        self._world.trace("fault", f"{station.name}: {name} {late_ms} x {count}")
        made = ReplyFault(name, count, ms=late_ms)
        station.faults.append(made)

        def end() -> None:
            if made in station.faults:
                station.faults.remove(made)

        return end

    def _meter_nan(self, fault: Fault) -> End:
        meter = self._world.charger.connectors[0].meter
        meter.nan = True
        return lambda: setattr(meter, "nan", False)

    # --- broker and back end ----------------------------------------------------------------------

    def _backend_gone(self, fault: Fault) -> End:
        backend = self._world.backend
        backend.reachable = False
        backend.drop()
        return lambda: setattr(backend, "reachable", True)

    def _backend_cut(self, fault: Fault) -> End:
        self._world.backend.drop()
        return _nothing

    def _backend_slow(self, fault: Fault) -> End:
        backend = self._world.backend
        backend.ack_delay_s = 1.0 + fault.amount % 90
        return lambda: setattr(backend, "ack_delay_s", 0.0)

    def _backend_refuses(self, fault: Fault) -> End:
        backend = self._world.backend
        backend.refuses = True
        return lambda: setattr(backend, "refuses", False)

    def _backend_lies(self, fault: Fault) -> End:
        backend = self._world.backend
        backend.lies = True
        return lambda: setattr(backend, "lies", False)

    def _backend_forgets(self, fault: Fault) -> End:
        self._world.backend.forget()
        return self._world.backend.forget

    def _broker_drops(self, fault: Fault) -> End:
        backend = self._world.backend
        backend.publishes_lost_permille = 300 + fault.amount % 700
        return lambda: setattr(backend, "publishes_lost_permille", 0)

    # --- the board --------------------------------------------------------------------------------

    def _tariff_changes(self, fault: Fault) -> End:
        """Somebody writes another one into its file; the next life of the agent reads it."""
        self._world.tariff = 1
        return _nothing

    def _clock_jump(self, fault: Fault) -> End:
        world = self._world
        days = (-400, -1, 0, 1, 30)[fault.amount % 5]
        world.skew_ms += days * 86_400_000 + (fault.amount - 32_768) * 100
        return _nothing

    def _clock_lost(self, fault: Fault) -> End:
        """A power cut; the board comes back without knowing the time."""
        world = self._world
        world.clock_set = False
        world.kill_now(True, 3.0 + fault.amount % 5)
        return lambda: setattr(world, "clock_set", True)

    def _disk_full(self, fault: Fault) -> End:
        world = self._world
        world.disk.full_at = world.disk.used() + fault.amount % 12_000
        return lambda: setattr(world.disk, "full_at", None)

    def _disk_stall(self, fault: Fault) -> End:
        world = self._world
        world.stall_s = float(fault.what or (0.1, 0.6, 2.0, 3.5, 6.0)[fault.amount % 5])
        return lambda: setattr(world, "stall_s", 0.0)


def _nothing() -> None:
    return None


async def _power_on(terminal: Any) -> None:
    try:
        terminal.verbs.power_on()
    except ControlError:
        return  # somebody did
