"""One connector: its charge controller, its meter, and the session on it.

Everything is level-triggered. Each turn takes a whole snapshot, compares it with what the session
believes, and tells the difference; the release is re-asserted or withdrawn from the session's state alone.
A lost, repeated or late snapshot therefore cannot leave energy on."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from agent.ports import Evse, EvseSnapshot, EvseState, Meter
from agent.session import E, S, Session, energy_allowed
from agent.session.limits import cost_reason
from agent.session.states import BEFORE_ENERGY
from agent.station.context import Context
from agent.station.limit import Limit, limit_reached
from agent.station.live import Live
from agent.station.live import live as live_now
from agent.station.lookout import Lookout, ends_energy
from agent.station.meant import CAR_THERE, Car
from agent.station.meter_ends import MeterEnds
from agent.station.patience import nap
from agent.station.register import PROGRESS_EVERY_MS, READ_SLACK_MS, Health, Register
from agent.station.release import Release
from agent.station.stop_proof import StopProof
from agent.station.top_up import TopUp, TopUpRules
from agent.values import Reading, ReadingState

POLL_S = 1.0  # one snapshot a second: a plug is seen within the time a driver looks up
RESUME_WAIT_MS = 20_000  # after a restart: so long for controller and meter to answer
FAULT_BOUND_MS = 30_000  # a controller's passing fault does not end a session
# Silent for longer, the controller may hold another car than the one that was released.
EVSE_LOST_MS = 60_000
TURN_BOUND_MS = 60_000  # a turn that lasts longer is stuck (see Progress)


@dataclass(frozen=True, slots=True)
class PointRules:
    """`idle_poll_s`: between two snapshots while there is neither car nor session."""

    max_power_w: int
    max_current_ma: int
    meter_lost_ms: int
    resumption_timeout_ms: int
    top_up: Mapping[str, TopUpRules] = field(default_factory=dict)  # by terminal
    idle_poll_s: float = POLL_S


class ChargePoint:
    def __init__(
        self, evse_id: str, evse: Evse, meter: Meter, rules: PointRules, context: Context
    ) -> None:
        self.id = evse_id
        self.rules = rules
        self._tariffs = context.tariffs
        self._keeper, self._log = context.keeper, context.log
        self._clock, self._progress = context.clock, context.progress
        now = context.clock.boot_ms()
        self.snapshot = EvseSnapshot(EvseState.UNKNOWN, now)
        self._seen = context.clock.stamp()  # when
        self.register = Register(evse_id, meter, rules.max_power_w, context)
        self.live: Live | None = None
        self.wake = asyncio.Event()  # the next turn comes at once
        self._desks: dict[str, Callable[[], None]] = {}
        self._health = Health("evse", evse_id, context)
        self._release = Release(evse_id, evse, rules.max_current_ma, self._health, context)
        self._lookout = Lookout(evse, self._release, context)
        self._tell = self._lookout.tell
        self._limit = Limit(context.tariffs, rules.max_power_w)
        self._top_up = TopUp(rules.top_up, self._limit)
        self._raise_wish: tuple[Session, dict[str, object]] | None = None
        self._ends = MeterEnds(
            evse_id, meter, self.register, self._limit, rules.meter_lost_ms, context
        )
        self._stop: StopProof | None = None
        self._evse_ok_ms = now
        self._fault_since_ms: int | None = None
        self._saved_ms = 0
        self._silence_ms = -PROGRESS_EVERY_MS  # when a silence was last worth a durable reading
        self._meter_answers = True
        self._resume_until_ms: int | None = None
        self.car = Car()

    # --- the loop ---------------------------------------------------------------------------------

    async def run(self) -> None:
        while True:
            self._progress.beat(f"evse {self.id}", TURN_BOUND_MS)
            await self.turn()
            idle = self.snapshot.state is EvseState.UNPLUGGED and self.session() is None
            await nap(self.wake, self.rules.idle_poll_s if idle else POLL_S)

    async def turn(self) -> None:
        before = (self.snapshot.state, self.snapshot.estop)
        snapshot, self._seen = await self._lookout.snapshot()
        self.snapshot = snapshot
        known = snapshot.state is not EvseState.UNKNOWN
        why = " ".join((*snapshot.fault_codes, "no valid answer"))
        self._health.note(known, "STA-020", why)
        if known:
            self._evse_ok_ms = snapshot.boot_ms
        if ends_energy(snapshot):
            await self._release.turn(False, snapshot)
        self._look_for_car()
        await self._read_when_due()
        if await self._resuming():
            return
        await self._tell_plug()
        await self._tell_energy()
        # After what was told: a stop decided in this turn is withdrawn in this turn.
        allowed = self._keeper.may_charge(self.id) and self._lookout.quiet
        await self._release.turn(allowed, snapshot)
        await self._tell_stop()
        if not self._lookout.quiet:
            self.wake.set()
        if before != (snapshot.state, snapshot.estop):
            for changed in self._desks.values():
                changed()

    def serve(self, terminal: str, changed: Callable[[], None]) -> None:
        """`terminal` takes payment for this connector; `changed` is called when there is news."""
        self._desks[terminal] = changed

    def raise_wish(self, terminal: str) -> tuple[str, dict[str, object]] | None:
        """A session of the terminal whose hold is to be raised, and the data of the order."""
        if self._raise_wish is None or self._raise_wish[0].terminal != terminal:
            return None
        session, more = self._raise_wish
        return session.id, more

    def forget_wish(self) -> None:
        self._raise_wish = None

    @property
    def terminals(self) -> frozenset[str]:
        """Those that take payment for this connector."""
        return frozenset(self._desks)

    def session(self) -> Session | None:
        return self._keeper.on_evse(self.id)

    def ready_for_session(self) -> str:
        """Empty when a hold may be placed for this connector, else why not."""
        if self._keeper.taken(self.id):
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

    @property
    def release_ends_by_itself(self) -> bool:
        return self._release.ends_by_itself

    async def withdraw(self) -> None:
        """Take the release back now and for good, whatever the session says: the station is going
        down."""
        await self._release.bar()

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

    @property
    def _meter_lost(self) -> bool:
        return self._clock.boot_ms() - self.register.ok_ms >= self.rules.meter_lost_ms

    async def meter_begin(self, session_id: str) -> None:
        """Effect METER_BEGIN."""
        await self._ends.begin(session_id)

    async def meter_end(self, session_id: str) -> None:
        """Effect METER_END."""
        await self._ends.end(session_id)

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
            stands = self.snapshot.estop or self.snapshot.state is EvseState.UNPLUGGED
            if not (seen or stands) and self._clock.boot_ms() < self._resume_until_ms:
                return True
            resume = seen and self._may_resume(session)
            data = {"resume": resume, "reason": "restart"}
            await self._tell(session.id, E.RESTARTED, data)
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

    # --- plug -------------------------------------------------------------------------------------

    def _look_for_car(self) -> None:
        draws, stayed = self._keeper.may_charge(self.id), self._keeper.stayed.get(self.id, False)
        self.car.see(self.snapshot.state, self._clock.stamp(), draws=draws, stayed=stayed)

    async def _tell_plug(self) -> None:
        session = self.session()
        if session is None:
            session = await self._bind()
        if session is None or not self._lookout.quiet:
            return
        state = self.snapshot.state
        ending = session.state in (S.STOPPING, S.ENDING)
        if state is EvseState.UNPLUGGED and session.plugged and not ending:
            await self._save(session)  # all that he pays if this process dies before energy is off
            await self._tell(session.id, E.UNPLUGGED, at=self._seen)
        waits = session.state in BEFORE_ENERGY and (not session.plugged or session.state is S.HELD)
        if self.car_there and waits:
            await self._tell(session.id, E.PLUGGED)

    async def _bind(self) -> Session | None:
        """A car that comes after a tap for no connector in particular is the one that was meant."""
        if self.car.came is None or self.ready_for_session():
            return None
        found = [s for t in self._desks if (s := self._keeper.unbound(t)) is not None]
        if len(found) > 1:
            self.car.came = None  # whose car it is will not be clearer when one of them has gone
            return None
        if not found or found[0].started is None:
            return None
        since_ms = self.car.came.since_ms(found[0].started)
        if since_ms is None or since_ms < 0:
            return None
        await self._tell(found[0].id, E.BOUND, {"evse": self.id})
        return self.session()

    # --- energy -----------------------------------------------------------------------------------

    async def _tell_energy(self) -> None:
        session = self.session()
        if session is None or not energy_allowed(session.state):
            self.live = None
            self._limit.rest()
            return
        state = self.snapshot.state
        if state is EvseState.CHARGING and session.state is not S.CHARGING:
            await self._tell(session.id, E.ENERGY_FLOWS)
        elif session.state is S.CHARGING and state in CAR_THERE and state is not EvseState.CHARGING:
            await self._tell(session.id, E.SUSPENDED)
        session = self.session()
        if session is None or not energy_allowed(session.state):
            return
        # What a meter said last before it fell silent may become the end reading.
        fell_silent = self._meter_answers and not self.reading.ok
        self._meter_answers = self.reading.ok
        now = self._clock.boot_ms()
        if fell_silent and now - self._silence_ms >= PROGRESS_EVERY_MS:
            self._silence_ms = now
            await self._save(session)
        good = self.register.good
        reason = self._reason_to_stop() or limit_reached(session, good, self._clock.stamp())
        if reason:
            await self._order_stop(session, {"reason": reason})
        else:
            await self._follow(session)

    def _reason_to_stop(self) -> str:
        now = self._clock.boot_ms()
        faulty = self.snapshot.state is EvseState.FAULT
        if not faulty:
            self._fault_since_ms = None
        elif self._fault_since_ms is None:
            self._fault_since_ms = now
        if self.snapshot.estop:
            return "emergency stop"
        if self._fault_since_ms is not None and now - self._fault_since_ms >= FAULT_BOUND_MS:
            return "fault of the charge controller"
        if self.reading.state in (ReadingState.WRONG_SERIAL, ReadingState.WRONG_MODEL):
            return "meter exchanged"
        if self._meter_lost:
            return "meter lost"
        if now - self._evse_ok_ms >= EVSE_LOST_MS:
            return "charge controller lost"
        return ""

    async def _order_stop(self, session: Session, data: dict[str, object]) -> None:
        """The last good reading is made durable first: it may be the end reading."""
        at = self._clock.stamp()
        await self._save(session)
        await self._tell(session.id, E.STOP, data, at)

    async def _follow(self, session: Session) -> None:
        """Running cost, the limit of the hold, and a durable reading now and then."""
        good = self.register.good
        if good is None or good.energy_import_wh is None or session.begin_wh is None:
            return
        now, wh = self._clock.stamp(), good.energy_import_wh
        found = self._limit.ask(session, good, now)
        if found.reached:
            data = {"reason": cost_reason(session), "energy_wh": wh, "margin": found.json()}
            await self._order_stop(session, data)
            return
        more = self._top_up.wanted(session, good, now)
        if more is not None:
            self._raise_wish = (session, more)
            self._desks.get(session.terminal, _nobody)()
        self.live = live_now(
            session, good, self.reading.power_w or 0, self._tariffs.of(session), now
        )
        if now.boot_ms - self._saved_ms >= PROGRESS_EVERY_MS:
            await self._save(session)

    async def _save(self, session: Session) -> None:
        """Make the last good reading durable, if it can be true. An old one was saved when the meter fell
        silent."""
        now = self._saved_ms = self._clock.boot_ms()
        good = self.register.good
        if good is None or good.energy_import_wh is None or now - good.boot_ms > READ_SLACK_MS:
            return
        if self.register.fits(session, good):
            data = {"energy_wh": good.energy_import_wh, "read_boot_ms": good.boot_ms}
            await self._tell(session.id, E.PROGRESS, data | {"power_w": good.power_w or 0})

    # --- stop -------------------------------------------------------------------------------------

    async def _tell_stop(self) -> None:
        session = self.session()
        if session is None or session.state is not S.STOPPING:
            self._stop = None
            return
        now = self._clock.boot_ms()
        if self._stop is None:
            self._stop = StopProof(now)
        proof = self._stop.see(
            now,
            self.snapshot,
            self.reading,
            off_since_ms=self._release.off_since_ms,
            evse_silent_ms=now - self._evse_ok_ms,
            silent_bound_ms=self._release.silent_bound_ms,
            meter_lost=self._meter_lost,
        )
        if proof:
            await self._save(session)
            await self._tell(session.id, E.STOPPED, {"proof": proof})
            return
        if now - self._saved_ms >= PROGRESS_EVERY_MS:
            await self._save(session)
        if self._stop.overdue(now):
            self._log(
                "stop_not_effective",
                level="error",
                id="STA-022",
                evse=self.id,
                session=session.id,
                seen=f"{self.snapshot.state}, {self.reading.power_w} W",
                expected="no release and no power",
                remedy="switch the connector off and have it looked at",
            )


def _nobody() -> None:
    """A terminal that does not serve this connector any more."""
