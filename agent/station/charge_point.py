"""One connector: its charge controller, its meter, and the session on it.

Everything is level-triggered. Each turn takes a whole snapshot, compares it with what the session
believes, and tells the difference; the release is re-asserted or withdrawn from the session's state alone.
A lost, repeated or late snapshot therefore cannot leave energy on."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass

from agent.ports import DeviceUnavailable, Evse, EvseSnapshot, EvseState, Meter
from agent.session import E, S, Session, energy_allowed
from agent.session.acts import usage_at
from agent.session.states import BEFORE_ENERGY
from agent.station.context import Context
from agent.station.register import METER_STEP_WH, REACTION_MS, Health, Register
from agent.tariff import Price, Usage, limit_reached, price
from agent.values import Reading, ReadingState

POLL_S = 1.0  # one snapshot a second: a plug is seen within the time a driver looks up
LEASE_S = 30  # for controllers without a fail-safe of their own
PROGRESS_EVERY_MS = 60_000  # at most one durable reading a minute (flash wear)
POWER_ZERO_W = 100  # contactor coils and meters' creep stay below; a charging car does not
QUIET_READS = 2  # a single zero may be a torn moment
STOP_ALARM_MS = 30_000
STOP_BY_METER_MS = 10_000  # controller silent: so long without power proves the stop
END_TRIES = 4  # reads of one try for the end reading; tried until the meter counts as lost
RESUME_WAIT_MS = 20_000  # after a restart: so long for controller and meter to answer
FAULT_BOUND_MS = 30_000  # a controller's passing fault does not end a session
TURN_BOUND_MS = 60_000  # a turn that lasts longer is stuck (see Progress)

RELEASED_STATES = (EvseState.READY, EvseState.CHARGING)
CAR_THERE = (
    EvseState.PLUGGED,
    EvseState.READY,
    EvseState.CHARGING,
    EvseState.SUSPENDED,
    EvseState.FINISHED,
)


@dataclass(frozen=True, slots=True)
class PointRules:
    max_power_w: int
    max_current_ma: int
    meter_lost_ms: int
    resumption_timeout_ms: int


@dataclass(frozen=True, slots=True)
class Live:
    """What is known of a running session between two durable events."""

    session_id: str
    energy_wh: int
    power_w: int
    charging_ms: int
    idle_ms: int
    cost_minor: int


class ChargePoint:
    def __init__(
        self, evse_id: str, evse: Evse, meter: Meter, rules: PointRules, context: Context
    ) -> None:
        self.id = evse_id
        self.rules = rules
        self.tariff = context.tariff
        self._evse = evse
        self._keeper, self._log = context.keeper, context.log
        self._clock, self._progress = context.clock, context.progress
        clock = context.clock
        self.snapshot = EvseSnapshot(EvseState.UNKNOWN, clock.boot_ms())
        self.register = Register(evse_id, meter, rules.max_power_w, context)
        self.live: Live | None = None
        self.changed: Callable[[], None] = lambda: None
        self._released: bool | None = None
        self._release_due_ms = 0
        self._evse_ok_ms = clock.boot_ms()
        self._fault_since_ms: int | None = None
        self._stop_since_ms: int | None = None
        self._stop_alarmed = False
        self._quiet = 0
        self._saved_ms = 0
        self._resume_until_ms: int | None = None
        self._health = Health("evse", evse_id, context)

    # --- the loop ---------------------------------------------------------------------------------

    async def run(self) -> None:
        while True:
            await self.turn()
            self._progress.beat(f"evse {self.id}", TURN_BOUND_MS)
            await asyncio.sleep(POLL_S)

    async def turn(self) -> None:
        before = self.snapshot.state
        self.snapshot = await self._evse.snapshot()
        self._health.note(
            self.snapshot.state is not EvseState.UNKNOWN, "EVS-001", "no valid answer"
        )
        if self.snapshot.state is not EvseState.UNKNOWN:
            self._evse_ok_ms = self.snapshot.boot_ms
        await self._read_when_due()
        if await self._resuming():
            return
        await self._assert_release()
        await self._tell_plug()
        await self._tell_energy()
        await self._tell_stop()
        if before is not self.snapshot.state:
            self.changed()

    def session(self) -> Session | None:
        return self._keeper.on_evse(self.id)

    def ready_for_session(self) -> str:
        """Empty when a hold may be placed for this connector, else why not."""
        if self.session() is not None:
            return "occupied"
        if self.snapshot.estop:
            return "emergency stop"
        if self.snapshot.state in (EvseState.UNKNOWN, EvseState.FAULT):
            return f"charge controller {self.snapshot.state}"
        if not self.reading.ok:
            return f"meter {self.reading.state}"
        return ""

    @property
    def car_there(self) -> bool:
        return self.snapshot.state in CAR_THERE

    def describe(self) -> dict[str, object]:
        """What a person sees of this connector."""
        session = self.session()
        live = self.live
        return {
            "id": self.id,
            "state": str(self.snapshot.state),
            "estop": self.snapshot.estop,
            "faults": list(self.snapshot.fault_codes),
            "meter": str(self.reading.state),
            "register_wh": self.reading.energy_import_wh,
            "power_w": self.reading.power_w,
            "session": None if session is None else session.id,
            "session_state": None if session is None else str(session.state),
            "energy_wh": None if live is None else live.energy_wh,
            "cost_minor": None if live is None else live.cost_minor,
        }

    async def withdraw(self) -> None:
        """Take the release back now, whatever the session says: the station is going down."""
        try:
            await self._evse.withdraw()
        except DeviceUnavailable as error:
            self._log("withdraw_failed", level="error", id=error.code, evse=self.id, why=str(error))

    # --- meter ------------------------------------------------------------------------------------

    @property
    def reading(self) -> Reading:
        return self.register.reading

    async def _read_when_due(self) -> None:
        session = self.session()
        running = session is not None and (
            energy_allowed(session.state) or session.state is S.STOPPING
        )
        await self.register.read_when_due(running)

    async def meter_begin(self, session_id: str) -> None:
        """Effect METER_BEGIN."""
        reading = await self.register.confirmed()
        if reading is None or reading.energy_import_wh is None:
            await self._keeper.tell(
                session_id, E.BEGIN_FAILED, {"why": f"meter {self.reading.why}"}
            )
            return
        data = {
            "energy_wh": reading.energy_import_wh,
            "serial": reading.serial,
            "model": self.register.model,
        }
        await self._keeper.tell(session_id, E.BEGAN, data)

    async def meter_end(self, session_id: str) -> None:
        """Effect METER_END: the confirmed register if it fits the session, else the last durable
        reading, and the record says which."""
        deadline_ms = self._clock.boot_ms() + self.rules.meter_lost_ms
        while True:
            session = self._keeper.sessions.get(session_id)
            if session is None or session.state is not S.ENDING:
                return
            reading = await self.register.confirmed(END_TRIES)
            if reading is not None and self.register.fits(session, reading):
                await self._end(session, reading.energy_import_wh or 0, "confirmed")
                return
            if reading is not None or self._clock.boot_ms() >= deadline_ms:
                last_wh = session.last_wh if session.last_wh is not None else session.begin_wh
                self._log("end_unconfirmed", level="error", id="MTR-002", session=session_id)
                await self._end(session, last_wh or 0, "last_durable")
                return
            self._progress.beat(f"end {self.id}", TURN_BOUND_MS)

    async def _end(self, session: Session, end_wh: int, quality: str) -> None:
        begin_wh = session.begin_wh if session.begin_wh is not None else end_wh
        cost = self.price_of(end_wh - begin_wh, session.charging_ms, session.idle_ms)
        data = {
            "energy_wh": end_wh,
            "quality": quality,
            "cost_minor": cost.total_minor,
            "price": cost.json(),
            "bill": cost.bill.to_json(),
        }
        self._progress.leave(f"end {self.id}")
        await self._keeper.tell(session.id, E.ENDED, data)

    def price_of(self, energy_wh: int, charging_ms: int, idle_ms: int) -> Price:
        usage = Usage(energy_wh=energy_wh, charging_ms=charging_ms, idle_ms=idle_ms)
        return price(self.tariff, usage)

    # --- after a restart --------------------------------------------------------------------------

    def await_resume(self) -> None:
        """A session was charging when the agent went away: look before anything is commanded."""
        self._resume_until_ms = self._clock.boot_ms() + RESUME_WAIT_MS

    async def _resuming(self) -> bool:
        """True while it is not yet decided; until then energy is neither released nor withdrawn."""
        if self._resume_until_ms is None:
            return False
        session = self.session()
        if session is not None and energy_allowed(session.state):
            seen = self.snapshot.state is not EvseState.UNKNOWN and self.reading.ok
            if not seen and self._clock.boot_ms() < self._resume_until_ms:
                return True
            resume = seen and self._may_resume(session)
            data = {"resume": resume, "reason": "restart"}
            await self._keeper.tell(session.id, E.RESTARTED, data)
            word = "session_resumed" if resume else "session_not_resumed"
            self._log(word, session=session.id, evse=self.id)
        self._resume_until_ms = None
        return False

    def _may_resume(self, session: Session) -> bool:
        now, last = self._clock.stamp(), self._keeper.last_stamp(session.id)
        outage_ms = None if last is None else now.since_ms(last)
        return (
            self.car_there
            and not self.snapshot.estop
            and outage_ms is not None
            and outage_ms <= self.rules.resumption_timeout_ms
            and self.register.fits(session, self.reading)
        )

    # --- release ----------------------------------------------------------------------------------

    async def _assert_release(self) -> None:
        allowed = self._keeper.may_charge(self.id)
        now = self._clock.boot_ms()
        try:
            if allowed:
                lost = self.snapshot.state in (EvseState.PLUGGED, EvseState.FINISHED)
                if self._released is not True or lost or now >= self._release_due_ms:
                    lease_s = self._evse.abilities.failsafe_s or LEASE_S
                    await self._evse.release(self.rules.max_current_ma, lease_s)
                    self._released = True
                    self._release_due_ms = now + lease_s * 1000 // 3
            elif self._released is not False or self.snapshot.state in RELEASED_STATES:
                await self._evse.withdraw()
                self._released = False
        except DeviceUnavailable as error:
            self._released = None
            self._health.note(False, error.code, str(error))

    # --- what the session is told -----------------------------------------------------------------

    async def _tell_plug(self) -> None:
        session = self.session()
        if session is None:
            return
        state = self.snapshot.state
        ending = session.state in (S.STOPPING, S.ENDING)
        if state is EvseState.UNPLUGGED and session.plugged and not ending:
            await self._keeper.tell(session.id, E.UNPLUGGED)
        waits = session.state in BEFORE_ENERGY and (not session.plugged or session.state is S.HELD)
        if self.car_there and waits:
            await self._keeper.tell(session.id, E.PLUGGED)

    async def _tell_energy(self) -> None:
        session = self.session()
        if session is None or not energy_allowed(session.state):
            self.live = None
            return
        state = self.snapshot.state
        if state is EvseState.CHARGING and session.state is not S.CHARGING:
            await self._keeper.tell(session.id, E.ENERGY_FLOWS)
        elif session.state is S.CHARGING and state in CAR_THERE and state is not EvseState.CHARGING:
            await self._keeper.tell(session.id, E.SUSPENDED)
        session = self.session()
        if session is None or not energy_allowed(session.state):
            return
        if await self._must_stop(session):
            return
        await self._follow(session)

    async def _must_stop(self, session: Session) -> bool:
        now = self._clock.boot_ms()
        faulty = self.snapshot.state is EvseState.FAULT
        self._fault_since_ms = (self._fault_since_ms or now) if faulty else None
        reason = ""
        if self.snapshot.estop:
            reason = "emergency stop"
        elif self._fault_since_ms is not None and now - self._fault_since_ms >= FAULT_BOUND_MS:
            reason = "fault of the charge controller"
        elif now - self.register.ok_ms >= self.rules.meter_lost_ms:
            reason = "meter lost"
        elif self.reading.state is ReadingState.WRONG_SERIAL:
            reason = "meter exchanged"
        if reason:
            await self._keeper.tell(session.id, E.STOP, {"reason": reason})
        return bool(reason)

    async def _follow(self, session: Session) -> None:
        """Running cost, the limit of the hold, and a durable reading now and then."""
        wh = self.reading.energy_import_wh
        if not self.reading.ok or wh is None or session.begin_wh is None:
            return
        if wh < (session.last_wh or 0):
            return
        charging_ms, idle_ms = usage_at(session, self._clock.stamp())
        usage = Usage(energy_wh=wh - session.begin_wh, charging_ms=charging_ms, idle_ms=idle_ms)
        self.live = Live(
            session.id,
            usage.energy_wh,
            self.reading.power_w or 0,
            charging_ms,
            idle_ms,
            price(self.tariff, usage).total_minor,
        )
        limit = limit_reached(
            self.tariff,
            usage,
            hold_minor=session.held_minor or 0,
            max_power_w=self.rules.max_power_w,
            reaction_ms=REACTION_MS,
            meter_step_wh=METER_STEP_WH,
        )
        if limit is not None:
            data = {"reason": "limit", "energy_wh": wh, "margin": limit.json()}
            await self._keeper.tell(session.id, E.PROGRESS, self._reading_data(wh))
            await self._keeper.tell(session.id, E.STOP, data)
        elif self._clock.boot_ms() - self._saved_ms >= PROGRESS_EVERY_MS:
            self._saved_ms = self._clock.boot_ms()
            await self._keeper.tell(session.id, E.PROGRESS, self._reading_data(wh))

    def _reading_data(self, wh: int) -> dict[str, int]:
        return {"energy_wh": wh, "power_w": self.reading.power_w or 0}

    async def _tell_stop(self) -> None:
        """A stop is proven by the controller's state and by the meter, not by our command."""
        session = self.session()
        if session is None or session.state is not S.STOPPING:
            self._stop_since_ms, self._quiet, self._stop_alarmed = None, 0, False
            return
        now = self._clock.boot_ms()
        if self._stop_since_ms is None:
            self._stop_since_ms = now
        waited_ms = now - self._stop_since_ms
        no_power = self.reading.ok and (self.reading.power_w or 0) <= POWER_ZERO_W
        self._quiet = self._quiet + 1 if no_power else 0
        proof = self._stop_proof(now)
        if proof:
            if self.reading.ok and self.reading.energy_import_wh is not None:
                data = self._reading_data(self.reading.energy_import_wh)
                await self._keeper.tell(session.id, E.PROGRESS, data)
            await self._keeper.tell(session.id, E.STOPPED, {"proof": proof})
        elif waited_ms >= STOP_ALARM_MS and not self._stop_alarmed:
            self._stop_alarmed = True
            self._log(
                "stop_not_effective",
                level="error",
                id="EVS-002",
                evse=self.id,
                session=session.id,
                seen=f"{self.snapshot.state}, {self.reading.power_w} W",
            )

    def _stop_proof(self, now: int) -> str:
        standing = self.snapshot.state not in (EvseState.CHARGING, EvseState.UNKNOWN)
        if standing and self._quiet >= QUIET_READS:
            return "controller and meter"
        if standing and now - self.register.ok_ms >= self.rules.meter_lost_ms:
            return "controller; meter lost"
        silent_ms = now - self._evse_ok_ms
        if silent_ms >= STOP_BY_METER_MS and self._quiet * POLL_S * 1000 >= STOP_BY_METER_MS:
            return "meter; controller lost"
        return ""
