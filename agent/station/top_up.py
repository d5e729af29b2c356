"""When a hold is raised: early enough that the terminal's answer comes before energy would have to stop."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from agent.session import Session
from agent.session.limits import COST, binding
from agent.station.limit import Limit
from agent.values import Reading, Stamp

# Two dialogues with a slow host fit into it at full power; a driver pays no fee for a hold that is raised
# a minute earlier.
LEAD_MS = 120_000
# After a try that never reached the terminal.
AGAIN_MS = 30_000


@dataclass(frozen=True, slots=True)
class TopUpRules:
    """Minor units. `most_minor`: no hold is raised above it; `count`: nor more often."""

    step_minor: int
    most_minor: int
    count: int


class TopUp:
    def __init__(self, rules: Mapping[str, TopUpRules], limit: Limit) -> None:
        """`rules` by terminal; a terminal that is not in it raises nothing."""
        self._rules, self._limit = rules, limit
        self._tried: tuple[str, int] = ("", 0)

    def wanted(self, session: Session, good: Reading, now: Stamp) -> dict[str, object] | None:
        """The data of the order; None where nothing is to be raised now."""
        rules = self._rules.get(session.terminal)
        if rules is None or session.raising or session.raise_over or session.raises >= rules.count:
            return None
        most_minor = min(rules.most_minor, binding(session).get(COST, rules.most_minor))
        add_minor = min(rules.step_minor, most_minor - (session.held_minor or 0))
        if add_minor <= 0 or self._just_tried(session, now):
            return None
        short = self._limit.short_of_time(session, good, now, LEAD_MS)
        if short is None:
            return None
        self._tried = (session.id, now.boot_ms)
        return {"add_minor": add_minor, "margin": short.json()}

    def _just_tried(self, session: Session, now: Stamp) -> bool:
        session_id, at_ms = self._tried
        return session_id == session.id and now.boot_ms - at_ms < AGAIN_MS
