"""Faults and orders around a terminal's end of day, and holds that somebody else made at it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from hil.terminal.switches import Switches
from simulate.plan import Fault
from simulate.till import SimTerminal
from simulate.world import World

End = Callable[[], Any]

# Where the terminal loses its power while it ends its day.
DAY_POINTS = (
    "end_of_day:received",
    "end_of_day:result_sent",
    "end_of_day:result_answered",
    "end_of_day:completed",
    "totals:received",
    "repeat:received",
    "enquire:received",
)
# No host (A0, A1), not now (9B, 9C), system error (FF), not possible (83).
DAY_REFUSALS = (0xA0, 0xA1, 0x9B, 0x9C, 0xFF, 0x83)
DAY_FAULTS = (
    "day_by_hand",
    "day_due",
    "day_point",
    "day_refused",
    "day_slow",
    "day_update",
    "day_forgets",
    "strange_hold",
)


class DayFaults:
    """A part of simulate.faults.Faults."""

    _world: World

    def terminal(self, fault: Fault) -> SimTerminal:
        raise NotImplementedError

    def _day_by_hand(self, fault: Fault) -> End:
        """A technician orders it, whatever goes on; now and then twice, and with --again."""
        world = self._world
        if world.process is not None:
            name, again = self.terminal(fault).name, bool(fault.amount & 2)
            world.trace("person", f"orders the end of day of {name}{' again' if again else ''}")
            world.process.ask(self._answered, "terminal_end_of_day", terminal=name, again=again)
        return _nothing

    def _answered(self, answer: dict[str, Any]) -> None:
        told = answer["result"]["outcome"] if answer.get("ok") else answer.get("error")
        self._world.trace("person", f"is told: {told}")

    def _day_due(self, fault: Fault) -> End:
        """The terminal wants it, until it is done; some read no card meanwhile."""
        switches = self.terminal(fault).switches
        switches.eod_due, switches.eod_due_blocks_read = True, bool(fault.amount & 2)
        return _nothing

    def _day_point(self, fault: Fault) -> End:
        terminal = self.terminal(fault)
        point = fault.what or DAY_POINTS[fault.amount % len(DAY_POINTS)]
        self._world.trace("fault", f"{terminal.name} will lose its power at {point}")
        terminal.verbs.reboot(at=point, off_s=0.3 + fault.amount % 7)
        return _nothing

    def _day_refused(self, fault: Fault) -> End:
        return self._switch(fault, eod_code=DAY_REFUSALS[fault.amount % len(DAY_REFUSALS)])

    def _day_slow(self, fault: Fault) -> End:
        """It says that it is at work, or says nothing for long."""
        return self._switch(
            fault, eod_s=5.0 + fault.amount % 100, eod_statuses=fault.amount // 128 % 4
        )

    def _day_update(self, fault: Fault) -> End:
        """It has new software or restarts behind its end of day."""
        return self._switch(
            fault,
            eod_completion=("e0", "fc")[fault.amount % 2],
            eod_busy_s=1.0 + fault.amount // 2 % 64,
            eod_busy_style=("aborts", "silent")[fault.amount // 128 % 2],
        )

    def _day_forgets(self, fault: Fault) -> End:
        """What it says of its last result, and whether it counts receipts from 1 again."""
        return self._switch(
            fault,
            repeat_after_eod=("payment", "day", "nothing")[fault.amount % 3],
            receipt_reset_at_eod=bool(fault.amount // 4 % 2),
        )

    def _switch(self, fault: Fault, **values: Any) -> End:
        switches, usual = self.terminal(fault).switches, Switches()

        def end() -> None:
            for name in values:
                setattr(switches, name, getattr(usual, name))

        for name, value in values.items():
            switches.change(name, value)
        self._world.trace("fault", f"{values}")
        return end

    def _strange_hold(self, fault: Fault) -> End:
        terminal = self.terminal(fault)
        # One thing at a time, also at its own keys: while it only waits for a card, somebody may come first.
        if terminal.powered and (terminal.waits_for_card or not terminal.busy):
            self._world.strange_hold(terminal, 500 + fault.amount % 2_000)
        return _nothing


def _nothing() -> None:
    return None
