"""Children of the rig: started, followed through what they say, ended in order."""

from __future__ import annotations

import contextlib
import json
import os
import select
import signal
import socket
import subprocess
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from hil.common.tied import tied

READY_S = 30.0  # two busy cores
STOP_S = 75.0  # the agent ends running sessions within 60 s when told to stop
POLL_S = 0.05
LOG_LINES_MAX = 100_000
TAIL_LINES = 8

Event = dict[str, Any]


class RigError(Exception):
    """A part of the rig did not do what it must; the text says which and what it said."""


class Process:
    """One child in a process group of its own: a Ctrl-C at the terminal is for the rig, which ends
    its children in order."""

    def __init__(
        self,
        name: str,
        command: Sequence[str],
        log: Path,
        env: dict[str, str] | None = None,
        *,
        follow: bool = False,
        orphaned: int = signal.SIGTERM,
    ) -> None:
        """Its stderr goes to the file `log`; with `follow` it is a pipe for the caller to read.
        `orphaned`: the signal it gets when we die first."""
        self.name, self._log = name, log
        with log.open("ab") as sink:
            self.popen = subprocess.Popen(
                tied(command, orphaned),
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE if follow else sink,
                env=env,
                process_group=0,
            )

    @property
    def pid(self) -> int:
        return self.popen.pid

    def running(self) -> bool:
        return self.popen.poll() is None

    def await_ready(self) -> None:
        """Until its `ready` line."""
        assert self.popen.stdout is not None
        line = self.popen.stdout.readline().decode()
        if not line.startswith("ready"):
            self.stop()
            raise RigError(f"{self.name} did not get ready: {line}{self.tail()}")

    def tail(self) -> str:
        return "\n".join(self._log.read_text(errors="replace").splitlines()[-TAIL_LINES:])

    def stop(self) -> int:
        """SIGTERM, then SIGKILL after STOP_S."""
        if self.running():
            # A stopped process takes no SIGTERM.
            self.popen.send_signal(signal.SIGCONT)
            self.popen.terminate()
            try:
                self.popen.wait(STOP_S)
            except subprocess.TimeoutExpired:
                self.popen.kill()
        return self._reap()

    def wait(self) -> int:
        """Until it ends by itself; raises RigError after STOP_S."""
        try:
            self.popen.wait(STOP_S)
        except subprocess.TimeoutExpired:
            raise RigError(f"{self.name} did not end within {STOP_S:.0f} s") from None
        return self._reap()

    def kill(self) -> int:
        """SIGKILL; the exit status, -9 when that is what it died of."""
        self.popen.kill()
        return self._reap()

    def _reap(self) -> int:
        code = self.popen.wait()
        if self.popen.stdout is not None:
            self.popen.stdout.close()
        return code


class Notifications:
    """systemd's end of the notification socket."""

    def __init__(self, path: Path) -> None:
        self.path = path
        path.unlink(missing_ok=True)
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._socket.bind(str(path))

    def wait_for(self, word: str, pid: int, timeout_s: float) -> bool:
        """True when process `pid` said it; False when the time is over or the process has ended."""
        limit = time.monotonic() + timeout_s
        ended = os.pidfd_open(pid)
        try:
            while (left := limit - time.monotonic()) > 0:
                readable, _, _ = select.select([self._socket.fileno(), ended], [], [], left)
                if self._socket.fileno() in readable:
                    if word in self._socket.recv(4096).decode():
                        return True
                elif readable:
                    return False
            return False
        finally:
            os.close(ended)

    def close(self) -> None:
        self._socket.close()
        self.path.unlink(missing_ok=True)


class AgentLog:
    """Follows the agent's JSON lines; waits for one without sleeping."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.events: list[Event] = []
        self._changed = threading.Condition()

    def feed(self, pipe: Any) -> None:
        """Runs in a thread: keeps each line in the file and in memory."""
        with self.path.open("ab") as sink:
            for line in pipe:
                sink.write(line)
                sink.flush()
                with contextlib.suppress(ValueError), self._changed:
                    event = json.loads(line)
                    if isinstance(event, dict) and len(self.events) < LOG_LINES_MAX:
                        self.events.append(event)
                    self._changed.notify_all()

    def tail(self) -> str:
        """The agent's last words."""
        lines = self.path.read_text(errors="replace").splitlines() if self.path.exists() else []
        return "\n".join(lines[-TAIL_LINES:]) or "(it said nothing)"

    def wait(
        self, wanted: Callable[[Event], bool], timeout_s: float = READY_S, since: int = 0
    ) -> Event:
        """The first event after the `since`-th that `wanted` likes. Raises RigError after the time."""
        seen = since

        def found() -> Event | None:
            nonlocal seen
            while seen < len(self.events):
                seen += 1
                if wanted(self.events[seen - 1]):
                    return self.events[seen - 1]
            return None

        with self._changed:
            event = self._changed.wait_for(found, timeout_s)
        if event is None:
            raise RigError(f"not within {timeout_s} s; the agent's last words:\n{self.tail()}")
        return event
