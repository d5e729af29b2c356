"""Puts a trace (trace.py) between a dialogue and its link, where `options: {trace: PATH}` asks for one."""

from __future__ import annotations

from pathlib import Path

from agent.ports import DeviceUnavailable, DriverEnv, TerminalSpec
from drivers.terminal.zvt.frames import Link, LinkEvent, Received
from drivers.terminal.zvt.links import AnyLink
from drivers.terminal.zvt.trace import Trace

OPTION = "trace"


class Recorder:
    """The file is made before the first command. One that cannot be written ends the trace with a word
    in the log (TRM-021), and nothing else."""

    def __init__(self, path: Path, terminal: str, env: DriverEnv) -> None:
        self._path, self._terminal, self._env = path, terminal, env
        self._trace: Trace | None = None
        self._ended = False

    def around(self, link: AnyLink) -> AnyLink:
        """The link whose messages are written down; `link` itself when there is no file."""
        if self._trace is None and not self._ended:
            serial = isinstance(link, Link)
            try:
                self._trace = Trace(self._path, self._env.boot_ms(), serial=serial, tell=self._end)
            except OSError as error:
                self._end(f"{self._path}: {error.strerror}")
        return link if self._trace is None else TracedLink(link, self._trace)

    def close(self) -> None:
        if self._trace is not None:
            self._trace.close()
            self._trace = None

    def _end(self, why: str) -> None:
        self._ended, self._trace = True, None
        self._env.log(
            "zvt_trace_ended", level="warning", id="TRM-021", terminal=self._terminal, why=why
        )


def recorder(spec: TerminalSpec, env: DriverEnv) -> Recorder | None:
    """What option `trace` asks for. Raises DeviceUnavailable TRM-010 for one that is no path."""
    path = spec.options.get(OPTION)
    if path is None:
        return None
    if not isinstance(path, str) or not path:
        raise DeviceUnavailable(
            "TRM-010", f"terminal option trace: {path!r}", "the path of a file", "correct `options`"
        )
    return Recorder(Path(path), spec.id, env)


class TracedLink:
    """Any link, overheard: a message of ours when it is handed to the link, theirs when it is whole and
    no repeat."""

    def __init__(self, link: AnyLink, trace: Trace) -> None:
        self._link, self._trace = link, trace

    @property
    def busy(self) -> bool:
        return self._link.busy

    @property
    def pending(self) -> bytes | None:
        return self._link.pending

    @property
    def receiving(self) -> bool:
        return self._link.receiving

    def begin(self, command: bytes, now: int) -> None:
        self._link.begin(command, now)
        self._trace.sent(command, now)

    def send(self, apdu: bytes, now: int) -> None:
        self._link.send(apdu, now)
        self._trace.sent(apdu, now)

    def withdraw(self) -> None:
        self._link.withdraw()

    def receive(self, data: bytes, now: int) -> list[LinkEvent]:
        return self._heard(self._link.receive(data, now), now)

    def on_time(self, now: int) -> list[LinkEvent]:
        return self._heard(self._link.on_time(now), now)

    def next_deadline(self) -> int | None:
        return self._link.next_deadline()

    def take_output(self) -> bytes:
        return self._link.take_output()

    def _heard(self, events: list[LinkEvent], now: int) -> list[LinkEvent]:
        for event in events:
            if isinstance(event, Received):
                self._trace.received(event.apdu, now)
        return events
