"""A whole station for the bench: the shipped service as a process of its own, a broker over TLS, a back end,
and the simulators' chargers and terminals on ptys."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from itertools import cycle
from pathlib import Path
from typing import Any

from hil.broker import WAYS, Broker, BrokerError, Tls, find_broker
from hil.certificates import Authority
from hil.common.control import ask
from hil.common.ports import free_port
from hil.processes import READY_S, AgentLog, Event, Notifications, Process, RigError
from hil.rig import voltill_command

ROOT = Path(__file__).resolve().parents[1]
TARIFF = ROOT / "config/tariffs/adhoc.yaml"
STATION, TENANT = "DE*ABC*S1", "abc"
# One after the other: the same card twice within seconds counts as one tap.
CARDS = ("visa", "mastercard", "girocard", "amex", "visa2")
POLL_S = 0.02
LOAD_W = 11_000
TERMINALS_MOST = 8  # that a station may have
SETTLED_S = 60.0

HEAD = """
station: {{id: {station}, tenant: {tenant}, place: DE, time_zone: Europe/Berlin, languages: [en]}}
evses:
{evses}
buses:
{buses}
terminals:
{terminals}
payment:
  hold: {{strategy: maximum, amount: "50.00"}}
  start: tap
  stop: [tap, unplug]
tariff: {{file: {tariff}}}
keys: {{record: {{file: record-key.pem}}}}
"""
EVSE = """\
  - id: {evse}
    max_power_w: 22000
    max_current_a: 32
    evse: {{driver: phoenix_rtu, bus: bus{n}, unit: 3}}
    meter: {{model: eastron_sdm630, bus: bus{n}, unit: 1}}"""
BUS = "  bus{n}: {{port: bus{n}, baud: 9600, framing: 8N1}}"
TERMINAL = """\
  - id: t{n}
    protocol: zvt
    profile: feig_cvend
    port: terminal{n}
    baud: 115200
    framing: 8N2
    password: {{file: zvt-password}}
    currency: EUR
    serves: [{serves}]"""
UPLINK = """
uplink:
  url: mqtts://localhost:{port}
  root: voltill
  ca: ca.pem
  certificate: station.pem
  key: {{file: station-key.pem}}
  trust: [backend.pem]
"""


def evse_name(n: int) -> str:
    return f"DE*ABC*E{n}"


@dataclass(slots=True)
class Seen:
    """What /proc has of a process: CPU time of all its threads, times they were woken, bytes it made the
    disk write."""

    cpu_ns: int
    wakes: int
    written: int
    wakes_of: dict[str, int] = field(default_factory=dict)


def look_at(pid: int) -> Seen:
    cpu = wakes = 0
    by_thread: dict[str, int] = {}
    for task in Path(f"/proc/{pid}/task").iterdir():
        cpu += int((task / "schedstat").read_text().split()[0])
        name = (task / "comm").read_text().strip()
        for line in (task / "status").read_text().splitlines():
            if line.startswith("voluntary_ctxt_switches"):
                count = int(line.split()[1])
                wakes += count
                by_thread[f"{name} {task.name}"] = count
    io = dict(line.split(": ") for line in Path(f"/proc/{pid}/io").read_text().splitlines())
    return Seen(cpu, wakes, int(io["write_bytes"]), by_thread)


def memory_kib(pid: int) -> tuple[int, int]:
    """Resident, and private dirty."""
    rows = (line.split() for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()[1:])
    found = {row[0]: int(row[1]) for row in rows}
    return found["Rss:"], found["Private_Dirty:"]


class Station:
    """Files in `folder`. Each connector has a bus with meter and controller of its own, and a terminal of its
    own as far as a station may have so many. `devices=False`: nothing is on the lines."""

    def __init__(
        self, folder: Path, connectors: int, *, uplink: bool = True, devices: bool = True
    ) -> None:
        self.folder, self.connectors = folder, connectors
        self.state = folder / "state"
        self.log = AgentLog(folder / "agent.log")
        self.agent: Process | None = None
        self.terminals = min(connectors, TERMINALS_MOST)
        self._uplink, self._devices = uplink, devices
        self._undo = contextlib.ExitStack()
        self._thread: threading.Thread | None = None
        self._cards = cycle(CARDS)

    def __enter__(self) -> Station:
        self.folder.mkdir()
        try:
            self._make()
        except BaseException:
            self._undo.close()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self.kill()
        self._undo.close()

    def _make(self) -> None:
        secret = self.folder / "zvt-password"
        secret.touch(mode=0o600)
        secret.write_text("123456")
        self._command("keys", "new", str(self.folder / "record-key.pem"))
        shown = self._command("keys", "show", str(self.folder / "record-key.pem"), "--json")
        (self.folder / "station-public.pem").write_text(json.loads(shown)["public_key"])
        port = self._start_backend() if self._uplink else 0
        numbers = range(1, self.connectors + 1)
        names = {n: {"n": n, "evse": evse_name(n), "serves": self._served(n)} for n in numbers}
        text = HEAD.format(
            station=STATION,
            tenant=TENANT,
            tariff=TARIFF,
            evses="\n".join(EVSE.format(**names[n]) for n in numbers),
            buses="\n".join(BUS.format(**names[n]) for n in numbers),
            terminals="\n".join(TERMINAL.format(**names[n]) for n in numbers[: self.terminals]),
        )
        (self.folder / "station.yaml").write_text(
            text + (UPLINK.format(port=port) if self._uplink else "")
        )
        if self._devices:
            self._start_devices()

    def _served(self, terminal: int) -> str:
        served = range(terminal, self.connectors + 1, self.terminals)
        return ", ".join(evse_name(n) for n in served)

    def _command(self, *words: str) -> str:
        done = subprocess.run(
            [*voltill_command(), *words], capture_output=True, text=True, check=True
        )
        return done.stdout

    def _start_backend(self) -> int:
        port = free_port()
        authority = Authority(self.folder)
        server = authority.issue("broker", server=True)
        authority.issue("station", server=False)
        tls = Tls(authority.certificate, server.certificate, server.key, client_certificates=False)
        process = broker().start(port, self.folder / "broker", tls)
        self._undo.callback(process.stop)
        self._hil(
            "backend",
            *("--url", f"mqtts://127.0.0.1:{port}", "--protocol", "5"),
            *("--ca", str(authority.certificate), "--root", "voltill", "--tenant", TENANT),
            *("--db", str(self.folder / "backend.db"), "--key", str(self.folder / "b-key.pem")),
            *("--public-key-out", str(self.folder / "backend.pem")),
            *("--station-key", str(self.folder / "station-public.pem")),
        ).await_ready()
        return port

    def _start_devices(self) -> None:
        started = []
        for n in range(1, self.terminals + 1):
            link = str(self.folder / f"terminal{n}")
            store, ledger = f"{link}.store", str(self.folder / f"acquirer{n}.jsonl")
            words = ("--link", link, "--store", store, "--ledger", ledger, "--delay-ms", "0")
            started.append(self._hil("terminal", *words, name=f"terminal{n}"))
        for n in range(1, self.connectors + 1):
            line = ("--link", str(self.folder / f"bus{n}"), "--load-w", str(LOAD_W))
            started.append(self._hil("charger", *line, name=f"charger{n}"))
        for process in started:
            process.await_ready()

    def _hil(self, kind: str, *words: str, name: str = "") -> Process:
        name = name or kind
        control = ("--control", str(self.folder / f"{name}.sock"))
        command = [sys.executable, "-m", "hil", kind, *control, *words]
        process = Process(name, command, self.folder / f"{name}.log")
        self._undo.callback(process.stop)
        return process

    # --- the service ------------------------------------------------------------------------------

    def start(self) -> float:
        """`voltill run` until READY; how many seconds that took."""
        heard = Notifications(self.folder / "notify.sock")
        env = os.environ | {"NOTIFY_SOCKET": str(heard.path)}
        # As installed: what a developer's shell may say would have every module compiled at every start.
        env.pop("PYTHONDONTWRITEBYTECODE", None)
        where = ("--config", str(self.folder / "station.yaml"), "--state", str(self.state))
        command = [*voltill_command(), "run", *where]
        began = time.perf_counter()
        agent = self.agent = Process(
            "agent", command, self.log.path, env, follow=True, orphaned=signal.SIGKILL
        )
        self._thread = threading.Thread(
            target=self.log.feed, args=(agent.popen.stderr,), daemon=True
        )
        self._thread.start()
        ready = heard.wait_for("READY=1", agent.pid, READY_S)
        took = time.perf_counter() - began
        heard.close()
        if not ready:
            raise RigError(f"the service did not get ready; its last words:\n{self.log.tail()}")
        return took

    def kill(self) -> None:
        """SIGKILL: as a power cut for the process."""
        self._end(lambda process: process.kill())

    def stop(self) -> None:
        """SIGTERM, as systemd does."""
        self._end(lambda process: process.stop())

    def _end(self, how: Callable[[Process], int]) -> None:
        agent, self.agent = self.agent, None
        if agent is None:
            return
        how(agent)
        if self._thread is not None:
            self._thread.join(READY_S)
        if agent.popen.stderr is not None:
            agent.popen.stderr.close()

    @property
    def pid(self) -> int:
        assert self.agent is not None
        return self.agent.pid

    # --- the world --------------------------------------------------------------------------------

    def tell(self, part: str, do: str, /, **request: Any) -> dict[str, Any]:
        return ask(self.folder / f"{part}.sock", do=do, **request)

    def wait(self, name: str, since: int = 0, **values: object) -> Event:
        """The first line of the log after `since` with this name and these values."""
        return self.log.wait(
            lambda e: e.get("event") == name and all(e.get(k) == v for k, v in values.items()),
            SETTLED_S,
            since,
        )

    def until(self, holds: Callable[[], bool], what: str) -> None:
        limit = time.monotonic() + SETTLED_S
        while not holds():
            if time.monotonic() > limit:
                raise RigError(f"waited in vain for {what}\n{self.log.tail()}")
            time.sleep(POLL_S)

    def wait_idle(self, since: int = 0) -> None:
        """Connected to everything since then, and every terminal asks for a card."""
        if self._uplink:
            self.wait("uplink_up", since)
        for n in range(1, self.terminals + 1):
            self._await_reader(n)

    def _await_reader(self, n: int) -> None:
        name = f"terminal{n}"
        self.until(lambda: bool(self.tell(name, "state")["reading_card"]), f"{name} to be idle")

    def charge(self) -> None:
        """A car on each connector draws energy. One after the other where they share a terminal: it is the
        car that came last whom a tap is for."""
        for first in range(1, self.connectors + 1, self.terminals):
            since = len(self.log.events)
            turn = range(first, min(first + self.terminals, self.connectors + 1))
            for n in turn:
                self.tell(f"charger{n}", "plug")
            for n in turn:
                self.wait_plugged(n)
                self._await_reader(1 + (n - 1) % self.terminals)
                self.tell(f"terminal{1 + (n - 1) % self.terminals}", "tap", card=next(self._cards))
            for n in turn:
                self.wait("session", since, evse=evse_name(n), state="charging")

    def wait_plugged(self, n: int) -> None:
        """The service has looked at the bus since the car came."""
        before = sum_of(self.tell(f"charger{n}", "state")["requests"])
        self.tell(f"charger{n}", "wait", requests=before + 2, timeout_s=SETTLED_S)

    def unplug(self) -> None:
        """Every car leaves; until all is settled and the terminals ask for cards."""
        since = len(self.log.events)
        for n in range(1, self.connectors + 1):
            self.tell(f"charger{n}", "unplug")
        for n in range(1, self.connectors + 1):
            self.wait("session", since, evse=evse_name(n), state="closed")
        for n in range(1, self.terminals + 1):
            self._await_reader(n)


def sum_of(requests: dict[str, dict[str, int]]) -> int:
    return sum(count for functions in requests.values() for count in functions.values())


def broker() -> Broker:
    """mosquitto as installed; a bench fetches none. Raises BrokerError."""
    return find_broker(Path(), ways=WAYS[:1])


def have_broker() -> str:
    """Empty, or why there is none."""
    try:
        broker()
    except BrokerError as error:
        return str(error).splitlines()[0]
    return ""


@contextlib.contextmanager
def station(folder: Path, connectors: int = 1) -> Iterator[Station]:
    """A running one, connected, idle."""
    with Station(folder, connectors) as found:
        found.start()
        found.wait_idle()
        yield found
