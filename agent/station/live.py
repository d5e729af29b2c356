"""What is known of a running session between two durable events: for the screen and for people who ask."""

from __future__ import annotations

from dataclasses import dataclass

from agent.session import Session
from agent.session.acts import usage_at
from agent.tariff import Tariff, Usage, session_price
from agent.values import Reading, Stamp


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
