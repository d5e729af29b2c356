"""Limits of a session that its driver or the back end sets: a cost, an energy, a time. Pure.

They bind beside the hold and never widen it. Each side has limits of its own, and of each kind the lower one
binds. The names follow `transactionLimit` of OCPP 2.1 (use case E16)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from agent.session.deadlines import waited_ms
from agent.session.events import Event
from agent.session.session import Session
from agent.session.states import BEFORE_ENERGY, S
from agent.values import Stamp

COST, ENERGY, TIME = "max_cost_minor", "max_energy_wh", "max_time_s"
KINDS = (COST, ENERGY, TIME)
SIDES = ("driver", "back_end")
# The reason that a session which was stopped by a limit is recorded with.
COST_REACHED, ENERGY_REACHED, TIME_REACHED = "cost limit", "energy limit", "time limit"
# Beyond a month of energy at a megawatt in Wh, of seconds, and of any hold in minor units.
MOST = 10**9
TAKES_LIMITS = frozenset({*BEFORE_ENERGY, S.BEGINNING, S.STARTING, S.CHARGING, S.SUSPENDED})


def binding(s: Session) -> dict[str, int]:
    """The limits that bind: of each kind the lowest that a side has set."""
    found: dict[str, int] = {}
    for limits in s.limits.values():
        for kind, value in limits.items():
            found[kind] = min(value, found.get(kind, value))
    return found


def spendable_minor(s: Session) -> int:
    """What the session may cost: its hold, or its limit where that is lower."""
    return min(s.held_minor or 0, binding(s).get(COST, s.held_minor or 0))


def cost_reason(s: Session) -> str:
    """Which of the two is spent when nothing is left: the limit that was set, or the hold."""
    capped = binding(s).get(COST)
    return COST_REACHED if capped is not None and capped <= (s.held_minor or 0) else "limit"


def reached(s: Session, energy_wh: int, now: Stamp) -> str:
    """Why energy must stop now; empty while it may flow. `energy_wh`: delivered in this session. What it
    costs is asked with a margin, so elsewhere (agent.station.limit)."""
    limits = binding(s)
    if ENERGY in limits and energy_wh >= limits[ENERGY]:
        return ENERGY_REACHED
    since = s.offered_at
    over = TIME in limits and since is not None and waited_ms(since, now) >= 1000 * limits[TIME]
    return TIME_REACHED if over else ""


def changes(s: Session, e: Event) -> bool:
    """It sets at least one limit to another value than that side has set so far."""
    before = s.limits.get(e.text("by"), {})
    return any(before.get(kind) != value for kind, value in _named(e.data).items())


def limited(s: Session, e: Event) -> Session:
    """A limit is raised or lowered, never taken away."""
    side = e.text("by")
    return replace(s, limits={**s.limits, side: {**s.limits.get(side, {}), **_named(e.data)}})


def _named(data: Mapping[str, object]) -> dict[str, int]:
    """The limits among the data of an event."""
    return {kind: value for kind in KINDS if isinstance(value := data.get(kind), int)}


def asked(request: Mapping[str, object]) -> dict[str, object]:
    """The data of the event that a request for limits becomes. Raises ValueError with what is wrong: a kind
    that this station cannot watch is refused, not ignored."""
    by = request.get("by", "driver")
    if by not in SIDES:
        raise ValueError(f"by is {by!r}; expected one of {', '.join(SIDES)}")
    limits = {k: v for k, v in request.items() if k not in ("do", "session", "by")}
    unknown = [kind for kind in limits if kind not in KINDS]
    if unknown or not limits:
        seen = f"{', '.join(unknown)} cannot be limited here" if unknown else "no limit is named"
        raise ValueError(f"{seen}; expected one or more of {', '.join(KINDS)}")
    for kind, value in limits.items():
        if isinstance(value, bool) or not isinstance(value, int) or not 0 < value <= MOST:
            raise ValueError(f"{kind} is {value!r}; expected a whole number from 1 to {MOST}")
    return {"by": by, **limits}
