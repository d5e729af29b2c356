"""What is known of a running session between two durable events: for the screen and for people who ask."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from agent.session import Session
from agent.session.acts import usage_at
from agent.tariff import Tariff, Usage, session_price
from agent.values import Reading, Stamp

if TYPE_CHECKING:
    from agent.station.charge_point import ChargePoint


@dataclass(frozen=True, slots=True)
class Live:
    session_id: str
    energy_wh: int
    power_w: int
    charging_ms: int
    idle_ms: int
    cost_minor: int


def live(session: Session, good: Reading, power_w: int, tariff: Tariff, now: Stamp) -> Live:
    """`good`: the last reading that can be billed; `power_w`: of the last reading, whatever it says."""
    wh = max(good.energy_import_wh or 0, session.last_wh or 0) - (session.begin_wh or 0)
    charging_ms, idle_ms = usage_at(session, now)
    cost = session_price(tariff, Usage(wh, charging_ms, idle_ms))
    return Live(session.id, wh, power_w, charging_ms, idle_ms, cost.total_minor)


def described(point: ChargePoint) -> dict[str, object]:
    """What a person sees of a connector."""
    session, now, seen = point.session(), point.live, point.snapshot
    return {
        "id": point.id,
        "state": str(seen.state),
        "estop": seen.estop,
        "faults": list(seen.fault_codes),
        "meter": str(point.reading.state),
        "register_wh": point.reading.energy_import_wh,
        "power_w": point.reading.power_w,
        "session": None if session is None else session.id,
        "session_state": None if session is None else str(session.state),
        "energy_wh": None if now is None else now.energy_wh,
        "cost_minor": None if now is None else now.cost_minor,
    }
