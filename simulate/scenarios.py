"""Named scenarios for the kill sweep (simulate/sweep.py): one or two visits each, the same every time. Each
says what must come of it when nothing is killed, so that one which quietly does something else is found."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace
from typing import Any

from hil.charger.faults import REPLY_FAULTS
from simulate.make import RAISING
from simulate.place import Variant
from simulate.plan import Fault, Plan, Visit

# A meter that never answers: the fault's name by its place, and bit 7 for "until it is taken away".
SILENT = next(n for n in range(128, 256) if REPLY_FAULTS[n % len(REPLY_FAULTS)] == "timeout")
ALL_DAY_S = 3_600.0
# Twice what a station of the simulation waits for its meter (meter_lost_s).
METER_GONE_S = 40.0


@dataclass(frozen=True, slots=True)
class End:
    """How one session ends undisturbed. `events`: some that it must have met, in this order.
    `stopped`: its reason to stop."""

    payment: str
    events: tuple[str, ...] = ()
    stopped: str = ""


@dataclass(frozen=True, slots=True)
class Scenario:
    """`ends`: of its sessions, in their order. `also`: classes that the judge has to name."""

    name: str
    shows: str
    plan: Plan
    ends: tuple[End, ...]
    also: tuple[str, ...] = ()

    def differs(self, sessions: Sequence[dict[str, Any]], classes: Collection[str]) -> str:
        """What the agent told of its sessions, newest first, and what the judge named, against what must
        come of it; empty when it fits."""
        if unnamed := [name for name in self.also if name not in classes]:
            return f"nothing was named {unnamed[0]!r}, expected once"
        told = list(reversed(sessions))
        if len(told) != len(self.ends):
            return f"{len(told)} sessions, expected {len(self.ends)}"
        for session, end in zip(told, self.ends, strict=True):
            where = f"session {session['id']}"
            if session["payment"] != end.payment:
                return f"{where} is {session['payment']}, expected {end.payment}"
            if end.stopped and session["stop_reason"] != end.stopped:
                return f"{where} stopped by {session['stop_reason']}, expected {end.stopped}"
            names = iter([event["name"] for event in session["events"]])
            if missing := [name for name in end.events if name not in names]:
                return f"{where} has no {missing[0]} where one is due"
        return ""


def visit(**differs: Any) -> Visit:
    """A driver who plugs in, taps, charges for two seconds and leaves."""
    usual: dict[str, Any] = {
        "connector": 0,
        "card": "visa",
        "order": "plug_first",
        "end": "unplug",
        "load_w": 22_000,
        "charge_s": 2.0,
        "gap_s": 1.0,
    }
    return Visit(**usual | differs)


def plan(*visits: Visit, variant: Variant | None = None, faults: tuple[Fault, ...] = ()) -> Plan:
    return Plan(1, variant or Variant(), visits, faults)


def reboot(point: str) -> Fault:
    """The terminal loses its power there, once."""
    return Fault("terminal_point", 1, 0.0, ALL_DAY_S, what=point)


# A world begins at 13:16:40: energy flows at 13:17, and nobody waits for a session.
DAY = Variant(end_at="13:17", drain_min=0, eod_holds="charges_full")
CAPTURED = ("energy_flows", "stopped", "ended", "settled")

SCENARIOS = (
    Scenario(
        "first_start",
        "A new board starts for the first time, makes its ledger, and nobody comes.",
        plan(),
        (),
    ),
    Scenario(
        "by_tap",
        "Happy path by tap: card, plug, charge until the car is full, pull the plug.",
        plan(visit(order="tap_first", end="full")),
        (End("captured", ("held", "plugged", "suspended", "unplugged", "settled")),),
    ),
    Scenario(
        "by_plug",
        "Happy path by plug at a station that asks for the card when a car is there; stopped at the station.",
        plan(visit(end="control"), variant=Variant(start="plug")),
        (End("captured", CAPTURED, "local"),),
    ),
    Scenario(
        "declined",
        "The card is declined: no hold, no energy.",
        plan(visit(card="decline")),
        (End("refused", ("tapped", "recorded")),),
    ),
    Scenario(
        "partial",
        "The acquirer approves less than was asked for; energy stops before that is used up.",
        plan(visit(card="low", end="limit")),
        (End("captured", ("held", *CAPTURED), "limit"),),
    ),
    Scenario(
        "increment",
        "A small hold is raised while energy flows.",
        plan(visit(charge_s=30.0), variant=RAISING),
        (End("captured", ("energy_flows", "raise", "raise_approved", "raised", "settled")),),
    ),
    Scenario(
        "increment_beside",
        "A small hold is raised twice; between the two a card is declined at the connector beside.",
        plan(
            visit(charge_s=70.0),
            visit(connector=1, card="decline", gap_s=9.0),
            variant=replace(RAISING, connectors=2),
        ),
        (
            End("captured", ("raise", "raised", "raise", "raised", "settled")),
            End("refused", ("tapped", "recorded")),
        ),
    ),
    Scenario(
        "tap_to_stop",
        "The same card stops the session.",
        plan(visit(end="tap", stays_s=6.0)),
        (End("captured", CAPTURED, "tap"),),
    ),
    Scenario(
        "unplug",
        "The plug is pulled while energy flows.",
        plan(visit()),
        (End("captured", ("energy_flows", "unplugged", "settled")),),
    ),
    Scenario(
        "emergency_stop",
        "The emergency stop is pressed while energy flows.",
        plan(visit(end="estop", stays_s=6.0)),
        (End("captured", CAPTURED, "emergency stop"),),
    ),
    Scenario(
        "meter_lost",
        "The meter is silent for longer than a session may go on without it.",
        plan(visit(charge_s=40.0), faults=(Fault("meter_fault", 1, 9.0, METER_GONE_S, SILENT),)),
        (End("captured", CAPTURED, "meter lost"),),
    ),
    Scenario(
        "reboot_in_hold",
        "The terminal reboots in the middle of a hold and takes it back; the agent has to find out.",
        plan(visit(), faults=(reboot("reserve:result_due"),)),
        (End("not_held", ("unclear", "hold_absent")),),
        ("hold_taken_back",),
    ),
    Scenario(
        "reboot_in_capture",
        "The terminal reboots when it has said what it will charge and before it has charged.",
        plan(visit(end="tap", stays_s=9.0), faults=(reboot("capture:result_sent"),)),
        (End("captured", ("energy_flows", "unclear", "still_open", "settled")),),
    ),
    Scenario(
        "offline_day",
        "The back end is gone from before the first driver until after the last one.",
        plan(
            visit(),
            visit(end="tap", gap_s=12.0),
            faults=(Fault("backend_gone", 1, 0.0, ALL_DAY_S),),
        ),
        (End("captured", CAPTURED, "unplugged"), End("captured", CAPTURED, "tap")),
    ),
    Scenario(
        "end_of_day",
        "The terminal's day is due while energy flows, and its end would charge open holds in full.",
        plan(visit(charge_s=40.0), variant=DAY),
        (End("captured", CAPTURED, "end of day"),),
        ("day closed",),
    ),
)
BY_NAME = {scenario.name: scenario for scenario in SCENARIOS}
