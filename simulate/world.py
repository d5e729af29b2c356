"""The simulated world: a board that runs the agent, the devices around it, and one time for all."""

from __future__ import annotations

import functools
import json
import random
from collections.abc import Callable, Coroutine
from typing import Any

from agent.ledger.ballast import BALLAST_BYTES
from agent.ports import LineSpec
from agent.station.charge_point import POLL_S
from agent.values import Quality
from hil.verify import Movement
from hil.verify.gather import movements
from simulate.backend import Backend
from simulate.cable import Cable, Noise
from simulate.charger import make_charger
from simulate.chronicle import Chronicle
from simulate.disk import Disk
from simulate.fate import DAY_END, NO_SESSION, Fate, Kill
from simulate.loop import Conductor, SharedLoop, Time
from simulate.place import BUS_PORT, NAMES, TERMINAL_PORTS, TERMINALS, Place
from simulate.process import BoardClock, Process
from simulate.seams import Board
from simulate.till import TIDS, SimTerminal
from simulate.troubles import Trouble, Troubles
from simulate.watch import Watch

UTC_MS = 1_795_176_000_000  # 20 November 2026, 12:00
NO_CLOCK_UTC_MS = 1_000_000  # a board without a battery begins in 1970
RESTART_S = 3.0  # what the service manager waits before it starts a dead service again
START_FAILED_S = 30.0
LOG_LINES_MAX = 20_000
# The chance that a piece which was not synced outlives a power cut.
CUT_KEEPS = (0.0, 0.5, 0.95)
# States of a session in which nothing is said to a terminal of itself.
QUIET = ("held", "beginning", "starting", "suspended", "stopping", "ending", "recording", "settled")
APART = 1_000_003  # between the chances of two terminals
# A dead process' dialogue may go on at a terminal whose host is slow.
LATE_HOLD_MS = 120_000


class Broken(Exception):
    """The agent did what no agent may do: its process ended with an error of its own."""


class World:
    """`trace(who, what)` is told what happens, in the order of time."""

    def __init__(
        self, board: Board, place: Place, seed: int, kills: list[Kill],
        idle_poll_s: float = POLL_S,
    ) -> None:  # fmt: skip
        self.board, self.place, self.seed = board, place, seed
        self.rng = random.Random(seed ^ 0x5EED)
        self.cut_keeps: tuple[float, ...] = CUT_KEEPS
        board.random.seed(seed)
        assert board.vfs is not None
        board.vfs.noise.seed(seed)
        self.time = Time(1_000.0)
        self.loop = SharedLoop(self.time)
        self.conductor = Conductor(self.time)
        self.conductor.loops = [self.loop]
        self.conductor.after_turn = self._after_turn
        self.lines: list[tuple[int, str, str]] = []
        self.logs: list[dict[str, Any]] = []
        self.verbose = False
        self.troubles = Troubles(self.time)
        self.chronicle = Chronicle(self.time, len(place.evses))
        self._devices(place, seed)
        self.disk = board.vfs.disk = Disk()
        ballast = place.state / "ballast"
        self.disk.extra = lambda: 0 if ballast.exists() else BALLAST_BYTES
        self.fate = Fate(kills, self.moments)
        self.process: Process | None = None
        self.starts = self.power_cuts = self.starts_failed = 0
        self._corpse: Kill | None = None
        self._ready = self.bus_troubled = self._by_hand = False
        self.limits: dict[str, tuple[str, int]] = {}  # by session, as the agent has agreed
        self.tariff = 0  # which of the place's tariffs lies in its file
        self.peace_ms = 0  # since when everything works again
        self._aimed_at: Kill | None = None
        self.outages: list[tuple[int, int]] = []
        self.violations: list[tuple[str, str]] = []
        # Clocks
        self.booted, self.skew_ms = [0], 0  # when each boot began
        self.clock_set = True
        self._idle_poll_s = idle_poll_s
        self.stall_s = 0.0
        self.visit_begins: Callable[[int], None] = lambda _: None
        board.open_line = self._open_line
        board.pipe = self._open_pipe
        board.free_bytes = lambda: 0 if self.disk.full_at is not None else 1 << 40
        self._clock = BoardClock(self)

    def _devices(self, place: Place, seed: int) -> None:
        self.bus_noise = Noise(seed * 2 + 1)
        bus = Cable("bus", self.loop, 9600, self.bus_noise)
        self.bus_cable = bus
        self.charger = make_charger(self.time, self.loop, bus, place.evses)
        self.watch = Watch(self)
        self.charger.on_look = self.watch.look
        self.charger.on_plug, self.charger.on_load = self.chronicle.plug, self.chronicle.load
        self.terminals = [self._terminal(n, seed) for n in range(place.variant.terminals)]
        self.backend = Backend(
            self.time, self.loop, place.backend_key, place.station_pem, NAMES, seed
        )
        self.spawn(self._start_terminals())

    def _terminal(self, n: int, seed: int) -> SimTerminal:
        """Each is its own: line, number, acquirer's ledger, luck."""
        cable = Cable("terminal", self.loop, 115200, Noise(seed * 2 + 2 + n * APART))
        settings = self.place.variant.terminal_settings
        made = SimTerminal(self.time, cable, seed + n * APART, settings, TERMINALS[n], TIDS[n])
        made.acquirer.on_hold = functools.partial(self._held, made.name)
        made.on_refusal = lambda command: self.troubles.note(f"refused {command}", made.name)
        down: list[Trouble] = []

        def power(on: bool) -> None:
            if not on:
                down.append(self.troubles.begin("down", made.name))
            while on and down:
                self.troubles.end(down.pop())

        made.on_power = power
        return made

    async def _start_terminals(self) -> None:
        for terminal in self.terminals:
            await terminal.start()

    @property
    def terminal(self) -> SimTerminal:
        """The first, where there is one only."""
        return self.terminals[0]

    def terminal_of(self, connector: int) -> SimTerminal:
        return self.terminals[self.place.variant.terminal_of(connector)]

    def movements(self) -> list[Movement]:
        """All that was booked, at all acquirers, in the order of time."""
        booked = [
            (at_ms, row)
            for terminal in self.terminals
            for at_ms, row in zip(
                terminal.acquirer.booked_ms, terminal.acquirer.booked, strict=True
            )
        ]
        booked.sort(key=lambda each: each[0])
        return movements("".join(json.dumps(row) + "\n" for _, row in booked))

    # --- time -------------------------------------------------------------------------------------

    def boot_ms(self) -> int:
        return self.time.ms - self.booted[-1]

    def utc_ms(self) -> int:
        if not self.clock_set:
            return NO_CLOCK_UTC_MS + self.boot_ms()
        return UTC_MS + self.time.ms + self.skew_ms

    @property
    def boot_id(self) -> str:
        return f"boot-{len(self.booted)}"

    def quality(self) -> Quality:
        return Quality.TRUSTED if self.clock_set else Quality.UNKNOWN

    def run_until(self, done: Callable[[], bool], within_s: float) -> bool:
        return self.conductor.until(done, self.time.now_s + within_s)

    def spawn(self, work: Coroutine[Any, Any, None]) -> Any:
        """Something that happens in the world."""
        return self.loop.create_task(work)

    # --- the board --------------------------------------------------------------------------------

    def start(self) -> None:
        """A new process of the agent."""
        if self.process is not None:
            return
        assert self.board.vfs is not None
        self.board.vfs.disk = self.disk
        self.starts += 1
        self._ready = False
        self.trace("board", f"start {self.starts}")
        self.watch.starts()
        self.chronicle.lives.append((self.time.ms, self.tariff))
        self.process = Process(
            self.time,
            self.place.tariffs[self.tariff].loaded,
            self.place.paths,
            self.disk,
            self.fate,
            self._clock,
            self._log,
            self._killed,
            self._idle_poll_s,
        )
        self.process.loop.work_s = lambda: self.stall_s
        self.conductor.loops.append(self.process.loop)

    def _killed(self, process: Process, kill: Kill) -> None:
        """In the middle of a turn of some loop."""
        states = ", ".join(sorted(self.states())) or "no session"
        what = "power cut" if kill.power else "kill"
        self.trace("board", f"{what} before {kill.step} ({states}), away {kill.away_s:g} s")
        self._corpse = kill

    def _after_turn(self, _: SharedLoop) -> None:
        if self._corpse is not None:
            kill, self._corpse = self._corpse, None
            self._bury(kill)
        elif self.process is not None and self.process.main.done():
            self._ended(self.process)

    def _bury(self, kill: Kill) -> None:
        assert self.process is not None
        self._remove(self.process)
        if kill.power:
            self.power_cuts += 1
            self.disk = self.disk.after_cut(self.rng, self.rng.choice(self.cut_keeps), True)
            self.booted.append(self.time.ms)
        else:
            self.disk = self.disk.after_kill()
        self._outage(kill.away_s)
        self.loop.call_later(kill.away_s, self.start)

    def _remove(self, process: Process) -> None:
        process.bury()
        self.conductor.loops.remove(process.loop)
        self.process = None
        if self.backend.pipe is not None:
            self.backend.pipe = None

    def _ended(self, process: Process) -> None:
        """By itself: stopped, failed to start, or a part died; the service manager starts it again."""
        error, code = process.error, process.exit_code
        troubles = process.loop.troubles
        self._remove(process)
        self.disk = self.disk.after_kill()
        self.trace("board", f"process ended: {code if error is None else repr(error)}")
        if error is not None:
            self.starts_failed += 1
        if troubles:
            self.trace("board", f"unhandled: {troubles[0]}")
        self._outage(RESTART_S)
        self.loop.call_later(START_FAILED_S if error is not None else RESTART_S, self.start)

    def _outage(self, away_s: float) -> None:
        self.outages.append((self.time.ms, round(away_s * 1000)))
        self.troubles.outage()
        self.watch.dies()

    def terminate(self) -> None:
        """Somebody stops the service."""
        if self.process is not None:
            self.troubles.outage()
            self.process.terminate()

    def kill_now(self, power: bool, away_s: float) -> None:
        if self.process is not None:
            self.process.die(Kill(0, "", "plan", 1, power, away_s))

    def close(self) -> None:
        if self.process is not None:
            self._remove(self.process)
        self.loop.discard()
        self.backend.close()

    # --- what the seams ask -----------------------------------------------------------------------

    async def _open_line(self, spec: LineSpec) -> Any:
        assert self.process is not None
        if spec.port == BUS_PORT:
            cable = self.bus_cable
        else:
            cable = self.terminals[TERMINAL_PORTS.index(spec.port)].cable
        return await cable.open(spec, self.process)

    def _open_pipe(self, config: Any, *given: Any) -> Any:
        assert self.process is not None
        return self.backend.open_pipe(self.process, config, *given)

    # --- what is seen -----------------------------------------------------------------------------

    def states(self) -> set[str]:
        keeper = self._part("keeper")
        return set() if keeper is None else {str(s.state) for s in keeper.sessions.values()}

    def moments(self) -> set[str]:
        """Where a kill may wait: states of sessions, and an end of day that is under way."""
        found = self.states()
        if self.place.variant.ends_days and any(d.errands.day.unclear for d in self._desks()):
            found.add(DAY_END)
        return found

    def draining(self) -> list[str]:
        """Terminals whose day is being ended."""
        return [desk.id for desk in self._desks() if desk.closing.draining]

    def untold(self) -> bool:
        """Some bill ended by the last durable reading, and what came behind it has no record yet."""
        unmeasured = self._part("unmeasured")
        return unmeasured is not None and bool(unmeasured.open)

    def _desks(self) -> list[Any]:
        parts = self._part("parts")
        return [] if parts is None else list(parts.desks.values())

    def _part(self, name: str) -> Any:
        """Of the station that runs; None before it has it."""
        return getattr(None if self.process is None else self.process.station, name, None)

    @property
    def ready(self) -> bool:
        """The agent has said so in this life."""
        return self.process is not None and self._ready

    def _log(self, event: str, level: str, **values: Any) -> None:
        line = {"event": event, "level": level, "at_ms": self.time.ms, **values}
        if len(self.logs) < LOG_LINES_MAX:
            self.logs.append(line)
        if event == "station_ready" and not self._ready:
            self._ready = True
            self.troubles.back()
            self.watch.is_back()
        if event == "day_end" and values["step"] == "intent":
            self._poke(DAY_END)
        if event == "zvt_command" and values.get("command") == "Repeat Receipt":
            self.chronicle.asked.setdefault(str(values.get("terminal")), []).append(self.time.ms)
        if event == "session":
            step = values["session"], values["event_name"], str(values["state"])
            self.chronicle.told(*step, values.get("evse"))
            self._poke(str(values["state"]))
            self.trace("agent", f"{values['session']} {values['event_name']} -> {values['state']}")
        elif level in ("warning", "error") or (self.verbose and event != "zvt_command"):
            told = " ".join(f"{k}={v}" for k, v in values.items())
            self.trace("agent", f"{level} {event} {told}")
        elif self.verbose:
            self.trace("agent", f"zvt {values.get('command')} {values.get('outcome')}")

    def _poke(self, state: str) -> None:
        """Messages come and go seldom; a kill that waits for one in this state gets one."""
        kill = self.fate.next
        if kill is None or kill.state != state:
            return
        if kill.step == "mqtt_receive":
            self.loop.call_soon(self.backend.greet)
        elif kill.step == "mqtt_send":
            self.loop.call_soon(self.backend.open_door)  # it comes in with its birth
        elif kill.step.startswith("terminal") and state in QUIET:
            self.loop.call_soon(self._look_at_terminals)

    def _look_at_terminals(self) -> None:
        """A technician asks for the state of each."""
        for terminal in self.terminals:
            if self.process is not None:
                self.process.ask(lambda _: None, "terminal_status", terminal=terminal.name)

    def aim(self) -> None:
        """Called now and then: what a kill needs that is waited for. A message goes out at once where a
        connection comes up."""
        kill = self.fate.next
        wanted = (
            kill is not None and kill.step == "mqtt_send" and kill.state not in ("", NO_SESSION)
        )
        if wanted and kill is not self._aimed_at:
            self.backend.shut_door()
        elif not wanted and self._aimed_at is not None:
            self.backend.open_door()
        self._aimed_at = kill if wanted else None

    def trace(self, who: str, what: str) -> None:
        self.lines.append((self.time.ms, who, what))

    def violated(self, code: str, text: str) -> None:
        """Found while it happened."""
        if all(code != known for known, _ in self.violations):
            self.violations.append((code, text))
            self.trace("ORACLE", f"{code}: {text}")

    @property
    def has_strange_holds(self) -> bool:
        return any(terminal.strange for terminal in self.terminals)

    def _held(self, name: str) -> None:
        """No new hold while a day is being ended. What a dead process had asked for may still come."""
        dead = any(at_ms > self.time.ms - LATE_HOLD_MS for at_ms, _ in self.outages)
        if name in self.draining() and not dead and not self._by_hand:
            self.violated("hold_while_draining", f"{name} holds although its day is being ended")

    def strange_hold(self, terminal: SimTerminal, amount_minor: int) -> None:
        """Somebody reserves at the terminal's own keys: it is open there, and no session's."""
        self._by_hand = True
        hold = terminal.strange_hold(amount_minor)
        self._by_hand = False
        self.trace("person", f"holds {hold.amount_minor} by hand, receipt {hold.receipt}")
