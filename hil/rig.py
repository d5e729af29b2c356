"""A whole station on this machine: broker, back end, network, terminal, charger and the unchanged agent,
each a process of its own. The demo and the end-to-end tests stand on it.

Nothing here looks into the agent: it is started as a user would start it, told through its command line,
and watched through its log, its notification socket and its control socket."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hil.broker import Broker, BrokerProcess, Tls
from hil.common.control import ask
from hil.processes import POLL_S, READY_S, AgentLog, Event, Notifications, Process, RigError

__all__ = ["Event", "Ports", "Rig", "RigError", "voltill_command"]


def voltill_command() -> list[str]:
    """The installed console script, else the module it points to."""
    script = Path(sys.executable).with_name("voltill")
    return [str(script)] if script.exists() else [sys.executable, "-m", "agent.cli.main"]


@dataclass(frozen=True, slots=True)
class Ports:
    broker: int
    proxy: int


class Rig:
    """Everything lies in `directory`; `config` is the agent's configuration file, which names
    `terminal` and `bus` in that directory as its ports."""

    def __init__(
        self,
        directory: Path,
        config: Path,
        ports: Ports,
        tenant: str,
        broker: Broker,
        *,
        protocol: str = "5",
        tls: Tls | None = None,
        terminal_options: Sequence[str] = (),
        charger_options: Sequence[str] = (),
    ) -> None:
        self.directory, self.config, self.ports, self.tenant = directory, config, ports, tenant
        self.state = directory / "state"
        self._broker, self._protocol, self._tls = broker, protocol, tls
        self._terminal_options = list(terminal_options)
        self._charger_options = list(charger_options)
        self._processes: list[Process] = []
        self.broker_process: BrokerProcess | None = None
        self.agent: Process | None = None
        self.log = AgentLog(directory / "agent.log")
        self._notifications: Notifications | None = None
        self._thread: threading.Thread | None = None

    # --- files ------------------------------------------------------------------------------------

    def path(self, name: str) -> Path:
        return self.directory / name

    @property
    def acquirer_ledger(self) -> Path:
        return self.path("acquirer.jsonl")

    @property
    def backend_db(self) -> Path:
        return self.path("backend.db")

    @property
    def station_key(self) -> Path:
        return self.path("station-public.pem")

    def make_secrets(self, password: str) -> None:
        """What a technician lays down before the first start."""
        self.directory.mkdir(parents=True, exist_ok=True)
        secret = self.path("zvt-password")
        secret.touch(mode=0o600)
        secret.write_text(password)
        key = self.path("record-key.pem")
        if not key.exists():
            self.voltill("keys", "new", str(key))
        self.station_key.write_text(self.voltill_json("keys", "show", str(key))["public_key"])

    # --- parts ------------------------------------------------------------------------------------

    def start(self) -> None:
        """Broker, network and back end first, then the devices. The agent is started by itself."""
        self.start_broker()
        self.start_network()
        self.start_backend()
        self.start_terminal()
        self.start_charger()

    def start_broker(self) -> None:
        if self.broker_process is None:
            folder = self.path("broker")
            self.broker_process = self._broker.start(self.ports.broker, folder, self._tls)
        else:
            self.broker_process.restart()

    def start_network(self) -> None:
        self._start("netproxy", "--listen", str(self.ports.proxy), "--to", str(self.ports.broker))

    def start_backend(self) -> None:
        scheme, ca = ("mqtt", ()) if self._tls is None else ("mqtts", ("--ca", str(self._tls.ca)))
        self._start(
            "backend",
            *("--url", f"{scheme}://127.0.0.1:{self.ports.broker}", "--protocol", self._protocol),
            *ca,
            *("--root", "voltill", "--tenant", self.tenant),
            *("--db", str(self.backend_db), "--key", str(self.path("backend-key.pem"))),
            *("--public-key-out", str(self.path("backend.pem"))),
            *("--station-key", str(self.station_key)),
        )

    def start_terminal(self, name: str = "terminal") -> None:
        """Its port is the path `name`. All terminals have the same acquirer."""
        self._start(
            "terminal",
            *("--link", str(self.path(name)), "--store", str(self.path(f"{name}.store"))),
            *("--ledger", str(self.acquirer_ledger)),
            *self._terminal_options,
            name=name,
        )

    def start_charger(self) -> None:
        self._start(
            "charger",
            *("--link", str(self.path("bus")), "--store", str(self.path("charger.store"))),
            *self._charger_options,
        )

    def _start(self, kind: str, *options: str, name: str = "") -> None:
        name = name or kind
        control = ("--control", str(self.socket(name)))
        command = [sys.executable, "-m", "hil", kind, *control, *options]
        process = Process(name, command, self.path(f"{name}.log"))
        self._processes.append(process)
        process.await_ready()

    def socket(self, name: str) -> Path:
        return self.path(f"{name}.sock")

    def tell(self, part: str, do: str, /, **request: Any) -> dict[str, Any]:
        """One request to a simulator's control socket."""
        return ask(self.socket(part), do=do, **request)

    def stop_part(self, name: str) -> None:
        """End one simulator in order."""
        for process in [p for p in self._processes if p.name == name]:
            process.stop()
            self._processes.remove(process)

    def screen(self, terminal: str = "terminal") -> list[str]:
        """What the terminal shows now."""
        lines: list[str] = self.tell(terminal, "state")["screen"]
        return lines

    def wait_screen(
        self, words: str, timeout_s: float = READY_S, terminal: str = "terminal"
    ) -> list[str]:
        """Until the terminal shows `words`; what it shows then."""
        seen: list[str] = []

        def shown() -> bool:
            seen[:] = self.screen(terminal)
            return words in " ".join(line.strip() for line in seen)

        self.until(shown, f"the terminal to show {words!r}", timeout_s)
        return seen

    def tap(self, card: str, timeout_s: float = READY_S) -> None:
        """A driver taps while the terminal asks for a card."""
        self.until(
            lambda: bool(self.tell("terminal", "state")["reading_card"]),
            "the terminal to ask for a card",
            timeout_s,
        )
        self.tell("terminal", "tap", card=card)

    def until(self, holds: Callable[[], bool], what: str, timeout_s: float = READY_S) -> None:
        """Look again until it holds. For what has no event of its own to wait for."""
        limit = time.monotonic() + timeout_s
        while not holds():
            if time.monotonic() > limit:
                raise RigError(f"waited {timeout_s:.0f} s for {what}\n{self.log.tail()}")
            time.sleep(POLL_S)

    # --- the agent --------------------------------------------------------------------------------

    def start_agent(self) -> None:
        """`voltill run`, as systemd would start it; returns when it says READY. Raises RigError with
        its last words when it ends instead."""
        if self.agent is not None:
            raise RigError("the agent is running already")
        self._notifications = Notifications(self.path("notify.sock"))
        env = os.environ | {"NOTIFY_SOCKET": str(self._notifications.path)}
        # Killed, not told to end, when we die: without devices it could settle nothing.
        self.agent = agent = Process(
            "agent", self.run_command(), self.log.path, env, follow=True, orphaned=signal.SIGKILL
        )
        self._thread = threading.Thread(
            target=self.log.feed, args=(agent.popen.stderr,), daemon=True
        )
        self._thread.start()
        if not self._notifications.wait_for("READY=1", agent.pid, READY_S):
            running = agent.running()
            code = self._end_agent(lambda process: process.kill())
            why = f"did not get ready within {READY_S:.0f} s" if running else f"ended ({code})"
            raise RigError(f"the agent {why}; its last words:\n{self.log.tail()}")

    def run_command(self) -> list[str]:
        """How the agent is started."""
        where = ("--config", str(self.config), "--state", str(self.state))
        return [*voltill_command(), "run", *where]

    def signal_agent(self, number: int) -> None:
        """A signal, and nothing else: `await_agent` tells how it ended."""
        if self.agent is None:
            raise RigError("the agent is not running")
        self.agent.popen.send_signal(number)

    def await_agent(self) -> int:
        """Until the agent has ended by itself; its exit status."""
        return self._end_agent(lambda process: process.wait())

    def stop_agent(self) -> int:
        return self._end_agent(lambda process: process.stop())

    def kill_agent(self) -> int:
        """SIGKILL: -9 when it died of that."""
        return self._end_agent(lambda process: process.kill())

    def _end_agent(self, how: Callable[[Process], int]) -> int:
        process, self.agent = self.agent, None
        if process is None:
            raise RigError("the agent is not running")
        code = how(process)
        if self._thread is not None:
            self._thread.join(READY_S)
        if process.popen.stderr is not None:
            process.popen.stderr.close()
        if self._notifications is not None:
            self._notifications.close()
        return code

    def voltill(self, *arguments: str) -> str:
        """Run the command line as a technician would; its output. Raises RigError on exit code 2 up."""
        done = subprocess.run(
            [*voltill_command(), *arguments], capture_output=True, text=True, check=False
        )
        if done.returncode > 1:
            raise RigError(f"voltill {' '.join(arguments)}: {done.stdout}{done.stderr}")
        return done.stdout

    def voltill_json(self, *arguments: str) -> Any:
        return json.loads(self.voltill(*arguments, "--json"))

    def sessions(self) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = self.voltill_json(
            "sessions", "list", "--state", str(self.state)
        )
        return found

    def session(self, session_id: str) -> dict[str, Any]:
        found: dict[str, Any] = self.voltill_json(
            "sessions", "show", session_id, "--state", str(self.state)
        )
        return found

    def receipt(self, session_id: str, width: int = 40) -> str:
        where = ("--state", str(self.state), "--config", str(self.config))
        return self.voltill("sessions", "receipt", session_id, "--width", str(width), *where)

    # --- the end ----------------------------------------------------------------------------------

    def close(self) -> None:
        """End every process, the agent first. Leaves the files, so that they can be looked at."""
        with contextlib.suppress(RigError):
            self.stop_agent()
        for process in reversed(self._processes):
            process.stop()
        self._processes.clear()
        if self.broker_process is not None:
            self.broker_process.stop()
            self.broker_process = None

    def kill_all(self) -> None:
        """End every process at once; simulators are told, so that they remove their ptys."""
        with contextlib.suppress(RigError):
            self.kill_agent()
        self.close()

    def __enter__(self) -> Rig:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
