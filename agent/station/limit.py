"""Energy stops before the cost can exceed the hold (design §2 rule 4), also while the meter is silent.

The question is asked in every turn. What the last good reading cannot say, its age included, is assumed at
the worst: full power all the time, tolerance included."""

from __future__ import annotations

from agent.session import Session
from agent.session.acts import usage_at
from agent.session.limits import reached, spendable_minor
from agent.station.register import MARGIN_PERCENT, step_of
from agent.station.tariffs import Tariffs
from agent.tariff import Usage
from agent.tariff import limit as tariff_limit
from agent.tariff.limit import Headroom, headroom
from agent.values import Reading, Stamp

# From one question to the next: a poll, the bus with a lost reply and its quarantine, a commit. What the
# station really needed last time counts when that was longer.
TURN_MS = 4_000
# From the decision until nothing flows: the command on a bus in quarantine (2 s), then the car, which may
# take some seconds to let go before the contactor opens under load.
STOP_MS = 7_000


def limit_reached(session: Session, good: Reading | None, now: Stamp) -> str:
    """Why a limit of energy or time stops the session; empty while none does. Without a margin: what flows
    until the contactor opens comes on top."""
    if session.begin_wh is None:
        return ""
    register_wh = (good and good.energy_import_wh) or 0
    return reached(session, max(register_wh, session.last_wh or 0) - session.begin_wh, now)


class Limit:
    def __init__(self, tariffs: Tariffs, max_power_w: int) -> None:
        self._tariffs = tariffs
        self._power_w = -(-max_power_w * (100 + MARGIN_PERCENT) // 100)
        self._asked_ms: int | None = None
        self._turn_ms = TURN_MS

    def ask(self, session: Session, good: Reading, now: Stamp) -> Headroom:
        """How far the session is at worst from its hold, or from a lower limit of its cost, by the last
        good reading."""
        if self._asked_ms is not None:
            self._turn_ms = max(TURN_MS, now.boot_ms - self._asked_ms)
        self._asked_ms = now.boot_ms
        begin_wh, wh = session.begin_wh or 0, max(good.energy_import_wh or 0, session.last_wh or 0)
        charging_ms, idle_ms = usage_at(session, now)
        age_ms = max(0, now.boot_ms - good.boot_ms)
        return headroom(
            self._tariffs.of(session),
            Usage(energy_wh=wh - begin_wh, charging_ms=charging_ms, idle_ms=idle_ms),
            spendable_minor(session),
            max_power_w=self._power_w,
            reaction_ms=age_ms + self._turn_ms + STOP_MS,
            meter_step_wh=step_of(good),
        )

    def short_of_time(
        self, session: Session, good: Reading, now: Stamp, lead_ms: int
    ) -> Headroom | None:
        """What the hold would be at worst `lead_ms` from now, where that is more than is held."""
        begin_wh, wh = session.begin_wh or 0, max(good.energy_import_wh or 0, session.last_wh or 0)
        charging_ms, idle_ms = usage_at(session, now)
        age_ms = max(0, now.boot_ms - good.boot_ms)
        return tariff_limit.limit_reached(
            self._tariffs.of(session),
            Usage(energy_wh=wh - begin_wh, charging_ms=charging_ms, idle_ms=idle_ms),
            session.held_minor or 0,
            max_power_w=self._power_w,
            reaction_ms=age_ms + self._turn_ms + STOP_MS + lead_ms,
            meter_step_wh=step_of(good),
        )

    def rest(self) -> None:
        """No session is running: the time until the next question counts for nothing."""
        self._asked_ms, self._turn_ms = None, TURN_MS

    def covers_start(self, session: Session, good: Reading | None) -> bool:
        """Whether its hold lets energy flow at all."""
        found = headroom(
            self._tariffs.of(session),
            Usage(energy_wh=0),
            spendable_minor(session),
            max_power_w=self._power_w,
            reaction_ms=TURN_MS + STOP_MS,
            meter_step_wh=step_of(good),
        )
        return not found.reached
