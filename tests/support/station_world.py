"""The whole station with fake devices on a virtual clock: real ledger, keys, table, tariff, screens.

A `World` outlives the agent's processes. `start` runs a new one on the same files, `kill` ends it without
any clean-up, `reboot` also begins another boot."""

from __future__ import annotations

import asyncio
import base64
import json
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from support.fake_charger import EvseDriver, MeterDriver
from support.fake_plant import Plant
from support.fake_process import Points, Process
from support.fake_terminal import FakeTerminal
from support.virtual_loop import Killed, VirtualLoop

from agent.ledger.rows import SessionRow
from agent.session import S, Session
from agent.settings.load import Loaded, load_station
from agent.station import build
from agent.station.queries import refold
from agent.station.station import Paths, Station
from agent.trust.chain import verify_records
from agent.trust.keys import KeySet, RecordKey
from agent.values import Quality, Stamp
from drivers.meter.rtu import open_bus

UTC_MS = 1_795_200_000_000  # November 2026
E1, E2 = "DE*ABC*E1", "DE*ABC*E2"
CARD, OTHER_CARD = b"card-one", b"card-two"
STEP_S = 0.25
LONG_S = 600.0  # who waits for longer looks less often

CONFIG = """
station:
  id: DE*ABC*S1
  tenant: abc
  place: DE
  time_zone: Europe/Berlin
  languages: [en]
  operator:
    name: Example CPO
    address: [Main Street 1, 10115 Berlin]
    vat_id: DE123456789
    helpline: "+49 30 1234567"
evses:
{evses}
buses:
  rs485: {{port: /dev/null, baud: 9600, framing: 8N1}}
terminals:
{terminals}
payment:
  hold: {{strategy: {strategy}, amount: "{hold}"{more}}}
  start: {start}
  stop: [{stop}]
  connection_timeout_s: 120
  on_sigterm: {on_sigterm}
  resumption_timeout_s: 300
  meter_lost_s: 60
tariff: {{file: tariff.yaml}}
keys: {{record: {{file: record-key.pem}}}}
"""
EVSE = """  - id: {id}
    max_power_w: {power}
    evse: {{driver: phoenix_rtu, bus: rs485, unit: {evse_unit}}}
    meter: {{model: eastron_sdm630, bus: rs485, unit: {meter_unit}}}"""
TERMINAL = """  - id: {id}
    protocol: zvt
    profile: generic
    port: /dev/{port}
    baud: 115200
    framing: 8N2
    password: {{file: zvt-password}}
    currency: EUR
    serves: [{serves}]
    {more}"""
TARIFF = """
id: adhoc
currency: EUR
prices: including_vat
vat_percent: "19"
rounding: half_up
energy:
  - price_kwh: "0.4900"
idle_time:
  - price_minute: "0.10"
fixed:
  - price: "0.35"
"""


class WorldClock:
    """The board's clocks as the world says them; `skew_ms` moves the wall clock alone."""

    def __init__(self, world: World) -> None:
        self._world = world

    def boot_ms(self) -> int:
        return self._world.now_ms - self._world.booted_ms

    def stamp(self) -> Stamp:
        world = self._world
        utc = UTC_MS + world.now_ms + world.skew_ms
        return Stamp(utc, self.boot_ms(), world.boot_id, world.quality)


class World:
    def __init__(
        self,
        folder: Path,
        monkeypatch: pytest.MonkeyPatch,
        *,
        evses: tuple[str, ...] = (E1,),
        max_power_w: int = 22_000,
        hold: str = "50.00",
        raising: tuple[str, str, int] | None = None,
        partial: str = "accept",
        valid_h: int = 24,
        start: str = "tap",
        stop: str = "tap, unplug",
        on_sigterm: str = "end",
        tariff: str = TARIFF,
        terminals: dict[str, tuple[str, ...]] | None = None,
        terminal_more: str = "",
    ) -> None:
        """`terminals`: which connectors each serves; one for all unless given. `terminal_more`: further
        settings of every terminal, on one line."""
        self.folder, self.state = folder, folder / "state"
        self.state.mkdir(parents=True)
        self.now_s, self.booted_ms, self.boot_id, self.skew_ms = 1_000.0, 0, "boot-1", 0
        self.quality = Quality.TRUSTED
        self.slept_ms = 0
        self.loop: VirtualLoop | None = None
        self.station: Station | None = None
        self.process = Process()
        self.exit_code: int | None = None
        self.log_lines: list[dict[str, Any]] = []
        self.points = Points()
        self._read_from: tuple[bytes, ...] = ()
        self._read: Loaded
        self._folded_of: object = None
        self._folded: dict[str, tuple[SessionRow, Session | None]] = {}
        serves = terminals or {"t1": evses}
        self.terminals = {
            name: FakeTerminal(self.points, name, terminal_id=str(52523535 + n))
            for n, name in enumerate(serves)
        }
        self.terminal = self.terminals[next(iter(serves))]
        self.evses = {name: Plant(self.boot_ms) for name in evses}
        payment = {"hold": hold, "start": start, "stop": stop, "on_sigterm": on_sigterm}
        payment |= {"strategy": "maximum", "more": f", partial: {partial}, valid_h: {valid_h}"}
        if raising is not None:
            step, most, count = raising
            payment["strategy"] = "increment"
            payment["more"] += f', step: "{step}", most: "{most}", raises: {count}'
        payment["terminals"] = "\n".join(
            TERMINAL.format(
                id=name,
                port=f"pay{n}" if n else "zero",
                serves=", ".join(points),
                more=terminal_more,
            )
            for n, (name, points) in enumerate(serves.items())
        )
        self._write_config(evses, max_power_w, payment, tariff)
        monkeypatch.setattr(build, "load", self._load)

    # --- time ---------------------------------------------------------------------------------------

    @property
    def now_ms(self) -> int:
        awake_s = self.now_s if self.loop is None else self.loop.now_s
        return round(1000 * awake_s) + self.slept_ms

    def boot_ms(self) -> int:
        return self.now_ms - self.booted_ms

    def passes(self, seconds: float) -> None:
        """Time while no agent runs."""
        assert self.loop is None
        self.now_s += seconds

    def suspend(self, seconds: float) -> None:
        """The board sleeps: the world, the wall clock and the boot-time clock go on, no timer does."""
        self.slept_ms += round(1000 * seconds)

    # --- the agent ------------------------------------------------------------------------------------

    def start(self, *, ready: bool = True) -> None:
        """A new process on the same files."""
        assert self.loop is None
        self.loop = VirtualLoop(self.now_s)
        self.process = Process()
        self.exit_code = None
        self._main = self.loop.create_task(self._run())
        if ready:
            self.until(lambda: self.logged("station_ready"))

    async def _run(self) -> None:
        loaded = self._loaded()
        clock = WorldClock(self)
        self.station = Station(loaded.settings, loaded.tariff, Paths(self.state), self._log, clock)
        self._ready_from = len(self.log_lines)
        self.exit_code = await self.station.run()

    def _loaded(self) -> Loaded:
        """As from the files; what has not changed since the last start is not read again."""
        written = tuple((self.folder / n).read_bytes() for n in ("station.yaml", "tariff.yaml"))
        if written != self._read_from:
            self._read_from, self._read = written, load_station(self.folder / "station.yaml")
        return self._read

    def _log(self, event: str, level: str = "info", **values: Any) -> None:
        self.log_lines.append({"event": event, "level": level, "at_ms": self.now_ms} | values)

    def run(self, seconds: float) -> None:
        assert self.loop is not None
        self.loop.run_until_complete(asyncio.sleep(seconds))
        self._no_trouble()

    def until(self, wanted: Callable[[], object], within_s: float = 120.0) -> None:
        """Let time pass until `wanted()`; fails after `within_s`."""
        loop = self.loop
        assert loop is not None

        async def wait() -> bool:
            limit = loop.time() + within_s
            step_s = STEP_S if within_s < LONG_S else 8 * STEP_S
            while not wanted():
                if self._main.done() and not self._main.cancelled():
                    self._main.result()
                if loop.time() > limit:
                    return False
                await asyncio.sleep(step_s)
            return True

        came = loop.run_until_complete(wait())
        self._no_trouble()
        assert came, f"not within {within_s} s; {self.story()}"

    def _no_trouble(self) -> None:
        assert self.loop is not None
        assert not self.loop.troubles, self.loop.troubles

    def until_killed(self, point: str, within_s: float = 600.0) -> None:
        """Run until the agent is killed at `point` of a dialogue (see fake_process.Points)."""
        self.points.kill_at = point
        with pytest.raises(Killed):
            self.until(lambda: False, within_s)
        self._bury()

    def until_killed_in(self, state: S, within_s: float = 600.0) -> None:
        """Run until the agent is killed right after a session's way into `state` was durable."""
        loop = self.loop
        assert loop is not None

        def watch(session: Session) -> None:
            if session.state is state:
                loop.doom(session.id)

        self.agent.keeper.watch(watch)
        with pytest.raises(Killed):
            self.until(lambda: False, within_s)
        self._bury()

    def kill(self) -> None:
        """SIGKILL now, wherever every task stands."""
        self._bury()

    def _bury(self) -> None:
        assert self.loop is not None
        self.process.alive = False
        self.now_s = self.loop.now_s
        for terminal in self.terminals.values():
            terminal.break_link()
            terminal.tapped = None
        self.loop.bury()
        self.loop = None
        # The kernel closes a dead process's files; every commit was synced before.
        if self.station is not None and hasattr(self.station, "ledger"):
            self.station.ledger._ledger.close()

    def reboot(self) -> None:
        """Between two processes: the board restarts, its boot-time clock begins anew."""
        assert self.loop is None
        for plant in self.evses.values():
            plant.advance()
            plant.rebase(-self.boot_ms())
        self.booted_ms, self.boot_id = self.now_ms, self.boot_id + "+"

    def stop(self) -> int:
        """SIGTERM, and its end."""
        assert self.loop is not None
        self.loop.signals[signal.SIGTERM]()
        return self.ends()

    def ends(self, within_s: float = 200.0) -> int:
        assert self.loop is not None
        self.until(self._main.done, within_s)
        self.now_s = self.loop.now_s
        self.loop.run_until_complete(self.loop.shutdown_asyncgens())
        self.loop.close()
        self.loop = None
        self._main.result()
        assert self.exit_code is not None
        return self.exit_code

    def close(self) -> None:
        if self.loop is not None:
            self._bury()

    # --- what is known --------------------------------------------------------------------------------

    @property
    def agent(self) -> Station:
        assert self.station is not None
        return self.station

    @property
    def plant(self) -> Plant:
        return self.evses[E1]

    def logged(self, event: str) -> list[dict[str, Any]]:
        """Log lines of this process."""
        return [line for line in self.log_lines[self._ready_from :] if line["event"] == event]

    def errors(self) -> list[dict[str, Any]]:
        return [line for line in self.log_lines if line["level"] in ("warning", "error")]

    def sessions(self) -> list[Session]:
        """Every session of the ledger, oldest first."""
        ledger = self.agent.ledger._ledger
        if self._folded_of is not ledger:
            self._folded_of, self._folded = ledger, {}
        found = []
        for row in reversed(ledger.sessions()):
            # Asked in every step of a wait, and folding is most of what a test costs.
            known = self._folded.get(row.id)
            if known is None or known[0] != row:
                known = self._folded[row.id] = row, refold(row.id, ledger.events(row.id))
            if known[1] is not None:
                found.append(known[1])
        return found

    def session(self) -> Session:
        """The only one, or the newest."""
        return self.sessions()[-1]

    def state_is(self, *states: S) -> Callable[[], bool]:
        def is_in_one() -> bool:
            sessions = self.sessions()
            return bool(sessions) and sessions[-1].state in states

        return is_in_one

    def until_state(self, *states: S, within_s: float = 120.0) -> Session:
        self.until(self.state_is(*states), within_s)
        return self.session()

    def event_names(self, session_id: str | None = None) -> list[str]:
        which = session_id or self.session().id
        return [row.name for row in self.agent.ledger._ledger.events(which)]

    def records(self) -> list[tuple[str, str | None]]:
        """(type, session) of every record, after its signature and chain were verified."""
        rows = self.agent.ledger._ledger.records(1, 1000)
        key = RecordKey.load(self.folder / "record-key.pem").public
        report = verify_records([row.jws for row in rows], KeySet([key]), anchored=True)
        assert report.ok, report.json()
        return [(row.type, row.session_id) for row in rows]

    def payloads(self) -> list[dict[str, Any]]:
        """Of every record, after its signature and chain were verified."""
        self.records()
        texts = [row.jws.split(".")[1] for row in self.agent.ledger._ledger.records(1, 1000)]
        return [json.loads(base64.urlsafe_b64decode(t + "=" * (-len(t) % 4))) for t in texts]

    def request(self, do: str, **request: Any) -> Any:
        """As over the control socket."""
        from agent.station.requests import Requests

        assert self.loop is not None
        return self.loop.run_until_complete(Requests(self.agent).handlers[do](request))

    def story(self) -> str:
        known = [f"{s.id} {s.state} {self.event_names(s.id)}" for s in self.sessions()]
        return "\n".join(
            [*known, f"screen {self.terminal.screen}", *map(str, self.log_lines[-12:])]
        )

    # --- making ---------------------------------------------------------------------------------------

    def _load(self, kind: str, name: str) -> Callable[..., Any]:
        process = self.process
        if kind == "bus":
            return open_bus  # nobody asks it, but it tells its status
        if kind == "evse":
            return lambda spec, *_: EvseDriver(self.evses[spec.id], process)
        if kind == "meter":
            plants = list(self.evses.values())
            return lambda spec, *_: MeterDriver(plants[spec.unit - 1], process)
        return lambda spec, *_: self.terminals.get(spec.id, self.terminal).driver(process)

    def _write_config(
        self,
        evses: tuple[str, ...],
        max_power_w: int,
        payment: dict[str, str],
        tariff: str,
    ) -> None:
        points = [
            EVSE.format(id=name, power=max_power_w, evse_unit=100 + i, meter_unit=i)
            for i, name in enumerate(evses, 1)
        ]
        text = CONFIG.format(
            evses="\n".join(points),
            **payment,
        )
        (self.folder / "station.yaml").write_text(text)
        (self.folder / "tariff.yaml").write_text(tariff)
        password = self.folder / "zvt-password"
        password.write_text("123456")
        password.chmod(0o600)
        RecordKey.generate().save(self.folder / "record-key.pem")


@contextmanager
def world(folder: Path, monkeypatch: pytest.MonkeyPatch, **options: Any) -> Iterator[World]:
    made = World(folder, monkeypatch, **options)
    try:
        yield made
    finally:
        made.close()


# --- usual ways -----------------------------------------------------------------------------------


def charge(w: World, card: bytes = CARD, seconds: float = 60.0) -> Session:
    """Plug, tap, charge for a while."""
    w.plant.plug()
    w.run(3)
    w.terminal.tap(card)
    w.until_state(S.CHARGING)
    w.run(seconds)
    return w.session()


def one_end_each(w: World, *, settlements: int = 1) -> None:
    """Every hold ended exactly once, every session is closed and has its records; `settlements`: each
    outcome has one, so a session that was unresolved for a while has two."""
    for terminal in w.terminals.values():
        for hold in terminal.holds:
            ends = [
                m
                for m in terminal.movements
                if m.kind not in ("hold", "increment") and m.receipt == hold.ref.receipt
            ]
            assert len(ends) == 1, (hold, terminal.movements)
        assert not terminal.open_holds()
    for s in w.sessions():
        assert s.state is S.CLOSED, w.story()
        kinds = sorted(k for k, owner in w.records() if owner == s.id and k != "unmeasured")
        billed = s.cost_minor is not None
        assert kinds == ["session"] * billed + ["settlement"] * settlements, kinds


def replace_terminal(w: World, tid: str) -> None:
    """Another terminal on the same cable: it knows nothing of what the old one did."""
    w.terminal.online = False
    w.until(lambda: bool(w.agent.parts.desks["t1"].trouble), within_s=90)
    w.terminal.terminal_id = tid
    w.terminal.last = None
    w.terminal.online = True
    w.until(lambda: not w.agent.parts.desks["t1"].trouble, within_s=60)
    w.run(5)
