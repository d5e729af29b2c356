"""The station: builds everything from the settings, runs it, and brings it down safely.

Crash-only: a part that dies takes the service down, after the release was withdrawn; the service manager
starts it again, and recovery by replay is the normal start."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Coroutine
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from agent.session import E, Effect, S, Session, Step, energy_allowed
from agent.session.ask import question_of
from agent.session.raises import UNDER_WAY
from agent.session.states import IN_MOTION, OCCUPIES_EVSE
from agent.settings.models import Settings
from agent.station import build, no_terminal
from agent.station.charge_point import POLL_S
from agent.station.clock import Clock, SystemClock
from agent.station.context import Context
from agent.station.control import ControlServer, control_path
from agent.station.keeper import Keeper, Log
from agent.station.key_source import record_key
from agent.station.ledger_care import LedgerCare, forget_card
from agent.station.meter_ends import ended_by_last
from agent.station.notify import Progress, notify, watchdog_interval_ms
from agent.station.opening import Opening
from agent.station.requests import Requests
from agent.station.room import Room
from agent.station.signing import Signing
from agent.station.tariffs import Tariffs
from agent.station.till import MONEY_EFFECTS
from agent.station.timers import Timers
from agent.station.unmeasured import Unmeasured
from agent.station.wishes import Wishes, end
from agent.tariff import Tariff
from agent.trust import known_keys

# On SIGTERM running sessions are stopped, recorded and captured; systemd's TimeoutStopSec is longer.
END_BOUND_S = 60.0
UNKNOWN_ASK_S = 3600.0  # a terminal learns of an outcome at its next batch at the earliest
FEED_S = 5.0  # watchdog check without systemd, for the log alone
CHECKPOINT_S = 60.0  # the write-ahead log is folded back when nothing is going on
WIND_DOWN_S = 5.0  # for parts to let go of their devices, before the releases are taken back anyway
# What a connector has to do when one of these is entered, a driver waits for.
WAKES_CONNECTOR = (S.HELD, S.STARTING, S.STOPPING)


@dataclass(frozen=True, slots=True)
class Paths:
    state: Path

    @property
    def ledger(self) -> Path:
        return self.state / "ledger.db"

    @property
    def card_key(self) -> Path:
        return self.state / "card.key"

    @property
    def control(self) -> Path:
        return control_path(self.state)


class Station:
    def __init__(
        self,
        settings: Settings,
        tariff: Tariff,
        paths: Paths,
        log: Log,
        clock: Clock | None = None,
        idle_poll_s: float = POLL_S,  # simulations look less often where nobody is
    ) -> None:
        self.settings, self.tariff, self.paths, self.log = settings, tariff, paths, log
        self.clock, self._idle_poll_s = clock or SystemClock(), idle_poll_s
        self.stopping, self._hurry, self._moved = asyncio.Event(), asyncio.Event(), asyncio.Event()
        self._handing_over = False
        self._stuck: list[str] = []
        self._asking: dict[str, asyncio.TimerHandle] = {}
        self._jobs: set[asyncio.Task[None]] = set()
        self._failed: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    async def run(self) -> int:
        """Until SIGTERM or SIGINT. Exit code 0, or 2 when a part died."""
        self._listen_for_signals()
        key = record_key(self.settings)
        opening = Opening(self.paths.ledger, self.settings.station.id, key, self.clock, self.log)
        self.ledger = await opening.open(was_here=self.paths.card_key.exists())
        book = self.paths.state / known_keys.NAME
        self.signing = Signing(key, book, self.clock, self.log)
        try:
            await self.signing.start()
            return await self._run()
        finally:
            await self.signing.close()
            await self.ledger.close()

    async def _run(self) -> int:
        self.keeper = Keeper(self.ledger, self.clock, self.log)
        # The loop's clock stands still while the board is suspended, as systemd's watchdog does: nobody is
        # stuck who could not run.
        loop = asyncio.get_running_loop()
        self.progress = Progress(lambda: round(loop.time() * 1000))
        self.tariffs = Tariffs(self.tariff)
        zone = build.zone_of(self.settings)
        self.context = Context(self.clock, self.keeper, self.progress, self.tariffs, self.log, zone)
        self.parts = build.parts(
            self.settings, self.paths.card_key, self.context, self.ledger, self._idle_poll_s
        )
        self.recorder = build.recorder(self.settings, self.context, self.ledger, self.signing)
        self.recorder.stored = self._records_stored
        self.unmeasured = Unmeasured(self.parts.points, self.recorder, self.context)
        state, desks = self.paths.state, self.parts.desks.values()
        self.room = Room(self.ledger, state, desks, self.signing, self.tariffs, self.log)
        self.signing.changed = self.room.tell
        self.timers = Timers(build.policy(self.settings), self.context, self._start)
        self.keeper.perform = self._perform
        control = ControlServer(self.paths.control, Requests(self).handlers)
        try:
            await control.start()
            await self._recover()
            await self.room.look()
            for name, work in self._loops():
                self._start(name, work)
            notify(f"READY=1\nSTATUS={self._status_line()}")
            self.log("station_ready", station=self.settings.station.id)
            return await self._until_told()
        finally:
            await control.stop()
            await self._wind_down()

    def _listen_for_signals(self) -> None:
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self._told_to_stop)

    def _told_to_stop(self) -> None:
        """Told once: in order. Told twice: at once; the next start settles what is left."""
        if self.stopping.is_set():
            self._hurry.set()
            self._moved.set()
        self.stopping.set()

    def _loops(self) -> list[tuple[str, Coroutine[Any, Any, None]]]:
        loops: list[tuple[str, Coroutine[Any, Any, None]]] = []
        loops += [(f"evse {p.id}", p.run()) for p in self.parts.points.values()]
        loops += [(f"terminal {d.id}", d.run()) for d in self.parts.desks.values()]
        if self.parts.uplink is not None:
            loops.append(("uplink", self.parts.uplink.run()))
        if self.signing.watches:
            loops.append(("record key", self.signing.run()))
        loops.append(("unmeasured energy", self.unmeasured.run()))
        loops += [("watchdog", self._watch()), ("housekeeping", self._keep_house())]
        return loops

    def _start(self, name: str, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.create_task(work, name=name)
        self._jobs.add(task)
        task.add_done_callback(self._ended)

    def _ended(self, task: asyncio.Task[None]) -> None:
        self._jobs.discard(task)
        error = None if task.cancelled() else task.exception()
        if error is not None and not self._failed.done():
            self._failed.set_exception(error)
            self._failed.exception()  # looked at later, or never when the station is going down anyway
            self._moved.set()

    async def _until_told(self) -> int:
        told = asyncio.ensure_future(self.stopping.wait())
        waiting: set[asyncio.Future[Any]] = {told, self._failed}
        await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
        told.cancel()
        notify("STOPPING=1")
        if not self._failed.done():
            hand_over = self.settings.payment.on_sigterm == "hand_over"
            self.log("stopping", how="hand over" if hand_over else "end")
            if not hand_over:
                await self._end_sessions()
            self._handing_over = hand_over and not self._failed.done()
        if self._failed.done():
            error = self._failed.exception()
            self.log("part_died", level="error", id="STA-004", why=repr(error))
            return 2
        return 0

    # --- recovery ---------------------------------------------------------------------------------

    async def _recover(self) -> None:
        """Replay, then order what each state owes. Charging sessions are first looked at."""
        await self.tariffs.load(self.ledger)
        sessions = await self.keeper.load(self.tariffs.knows)
        await self._keep_tariff()
        for session in sessions:
            await self._remember_card(session)
        self.keeper.watch(self.timers.watch)
        self.keeper.watch(self._changed)
        self.keeper.watch(Wishes(self.keeper, self._start).watch)
        self.keeper.watch(self.unmeasured.watch)
        for session in sessions:
            point = self.parts.points.get(session.evse or "")
            if energy_allowed(session.state) and point is not None:
                point.await_resume()
                if session.raising in UNDER_WAY:
                    await self.keeper.tell(session.id, E.RAISE_UNCLEAR, {"why": "restart"})
                if session.raising:  # asked before anything is booked
                    self._perform(session, Effect.ASK_RAISE)
                continue
            step = await self.keeper.tell(session.id, E.RESTARTED, {"resume": False})
            if session.evse is not None and point is None:
                step = await self._end_orphan(step)
            if step.owed is None:
                self.keeper.owe(step.session)
            self.timers.watch(step.session)
            self._ask_again(step.session)
            if session.terminal not in self.parts.desks:
                await no_terminal.list_it(self.context, session.id)
        if sessions:
            self.log("recovered", sessions=[s.id for s in sessions])

    async def _keep_tariff(self) -> None:
        sessions, all_of = self.keeper.sessions.values(), bool(self.keeper.set_aside)
        await self.tariffs.keep(self.ledger, sessions, self.log, all_of=all_of)

    async def _end_orphan(self, step: Step) -> Step:
        """Its connector is no longer configured: nobody can stop or read it, but its hold must end.
        It is billed by the last durable reading."""
        tell, session = self.keeper.tell, step.session
        why = f"{session.evse} is no longer configured"
        if session.state is S.BEGINNING:
            step = await tell(session.id, E.BEGIN_FAILED, {"why": why})
        if session.state is S.STOPPING:
            step = await tell(session.id, E.STOPPED, {"proof": why})
        if step.session.state is S.ENDING:
            data = ended_by_last(step.session, self.tariffs.of(step.session))
            step = await tell(session.id, E.ENDED, data)
        if step.session.state is not session.state:
            self.log("orphan_ended", level="error", id="STA-006", session=session.id, why=why)
        return step

    async def _remember_card(self, session: Session) -> None:
        desk = self.parts.desks.get(session.terminal)
        mac = await self.ledger.card_mac(session.id)
        if desk is not None and mac is not None:
            desk.taps.remember(session.id, mac)

    # --- effects ----------------------------------------------------------------------------------

    def _perform(self, session: Session, effect: Effect) -> None:
        if effect in MONEY_EFFECTS:
            desk = self.parts.desks.get(session.terminal)
            if desk is None:
                away = no_terminal.list_it(self.context, session.id)
                self._start(f"no terminal {session.id}", away)
                return
            if effect is Effect.RAISE and not desk.linked:
                # Nothing was sent: better known now than in doubt at the session's end.
                data = {"why": desk.trouble, "again": True}
                self._start(f"raise {session.id}", self._not_raised(session.id, data))
                return
            desk.order(session.id, effect)
        elif effect in (Effect.RECORD_SESSION, Effect.RECORD_SETTLEMENT):
            self._start(f"{effect} {session.id}", self.recorder.record(session.id, effect))
        else:
            point = self.parts.points.get(session.evse or "")
            if point is None:
                return  # ended by _end_orphan
            work = point.meter_begin if effect is Effect.METER_BEGIN else point.meter_end
            self._start(f"{effect} {session.id}", work(session.id))

    async def _not_raised(self, session_id: str, data: dict[str, object]) -> None:
        await self.keeper.tell(session_id, E.RAISE_FAILED, data)

    def _records_stored(self) -> None:
        if self.parts.uplink is not None:
            self.parts.uplink.wake()

    def _changed(self, session: Session) -> None:
        self._moved.set()
        self._ask_again(session)
        desk = self.parts.desks.get(session.terminal)
        if desk is not None:
            if session.state not in OCCUPIES_EVSE:
                desk.taps.forget(session.id)
            desk.refresh()
        point = self.parts.points.get(session.evse or "")
        if point is not None and session.state in WAKES_CONNECTOR:
            point.wake.set()
        if session.state is S.UNRESOLVED:  # the ledger forgets that of a closed one by itself
            self._start(f"forget {session.id}", forget_card(self.ledger, session.id, self.log))
        self._records_stored()

    def _ask_again(self, session: Session) -> None:
        """An outcome that nobody knows is worked on: the terminal is asked every hour."""
        desk = self.parts.desks.get(session.terminal)
        if session.state is not S.UNRESOLVED or session.outcome != "unknown" or desk is None:
            return
        pending = self._asking.pop(session.id, None)
        if pending is not None:
            pending.cancel()

        def ask() -> None:
            now = self.keeper.sessions.get(session.id)
            if now is None or now.state is not S.UNRESOLVED:
                self._asking.pop(session.id, None)
                return
            desk.order(session.id, question_of(now))
            self._asking[session.id] = loop.call_later(UNKNOWN_ASK_S, ask)

        loop = asyncio.get_running_loop()
        self._asking[session.id] = loop.call_later(UNKNOWN_ASK_S, ask)

    # --- watching ---------------------------------------------------------------------------------

    async def _watch(self) -> None:
        """Feed systemd's watchdog, only while every loop makes progress."""
        interval_ms = watchdog_interval_ms()
        while True:
            stuck = self.progress.stuck()
            if stuck != self._stuck:
                self._stuck = stuck
                if stuck:
                    self.log("stuck", level="error", id="STA-007", loops=stuck)
                else:
                    self.log("not_stuck_any_more")
            if not stuck and interval_ms is not None:
                notify(f"WATCHDOG=1\nSTATUS={self._status_line()}")
            await asyncio.sleep(FEED_S if interval_ms is None else interval_ms / 1000)

    async def _keep_house(self) -> None:
        care = LedgerCare(self.ledger, self.settings.records.keep_days, self.clock, self.log)
        while True:
            await asyncio.sleep(CHECKPOINT_S)
            states = {s.state for s in self.keeper.sessions.values()}
            quiet = not states & IN_MOTION
            await care.turn(quiet=quiet, ended=quiet and not states & OCCUPIES_EVSE)
            if not self.tariffs.name:
                await self._keep_tariff()
            await self.room.look(care.trouble)

    def _status_line(self) -> str:
        troubles = [self.signing.trouble] if self.signing.trouble else []
        troubles += [f"{d.id}: {d.trouble}" for d in self.parts.desks.values() if d.trouble]
        return "; ".join(troubles) or f"{len(self.keeper.sessions)} open sessions"

    # --- going down -------------------------------------------------------------------------------

    async def _end_sessions(self) -> None:
        """Stop running sessions and give them time to be recorded and settled."""
        for desk in self.parts.desks.values():
            desk.accepting = False
            desk.refresh()
        try:
            async with asyncio.timeout(END_BOUND_S):
                while not (self._hurry.is_set() or self._failed.done()):
                    await self._end_each()
                    if not any(s.state in IN_MOTION for s in self.keeper.sessions.values()):
                        return
                    self._moved.clear()
                    await self._moved.wait()
        except TimeoutError:
            pass
        left = [s.id for s in self.keeper.sessions.values()]
        self.log("ended_with_open_sessions", level="warning", id="STA-008", sessions=left)

    async def _end_each(self) -> None:
        why = "station shuts down"
        for session in list(self.keeper.sessions.values()):
            if energy_allowed(session.state) or session.state in (S.HELD, S.BEGINNING):
                await end(self.keeper, session.id, stop=why, cancel=why)

    async def _wind_down(self) -> None:
        """Nothing runs on, and energy is off, whatever ended the station. Only a hand-over leaves a
        release to the next start, and only where the controller ends it when no start follows."""
        self.timers.stop()
        for handle in self._asking.values():
            handle.cancel()
        jobs = list(self._jobs)
        for task in jobs:
            task.cancel()
        if jobs:
            await asyncio.wait(jobs, timeout=WIND_DOWN_S)
        for point in self.parts.points.values():
            if not (self._handing_over and point.release_ends_by_itself):
                await point.withdraw()
        await self.keeper.settle_commits()
        for bus in self.parts.buses.values():
            await bus.close()
