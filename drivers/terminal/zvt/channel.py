"""The line to one terminal, and what is known of the other end: whether it is registered, and how fast it
talks. Runs one command at a time on it, over RS-232 or TCP.

A serial line that is lost has to be connected anew by the caller: another terminal may be at its end. Over
TCP a registration stands in the terminal and outlives the connection (PA00P016), so that a connection which
ended between two commands is made again before the first byte of the next one, and nothing else is."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field, replace

from agent.ports import DeviceUnavailable, DriverEnv, LineSpec, TerminalSpec
from drivers.line import Line, LineLost, is_tcp, with_port
from drivers.terminal.zvt import outcomes as o
from drivers.terminal.zvt.apdu import Apdu
from drivers.terminal.zvt.dialogue import Dialogue
from drivers.terminal.zvt.drive import Drive, Store
from drivers.terminal.zvt.frames import SENDS_MAX, T2_MS, Link
from drivers.terminal.zvt.links import AnyLink
from drivers.terminal.zvt.numbering import Numbering
from drivers.terminal.zvt.profile import Profile
from drivers.terminal.zvt.progress import progress_key
from drivers.terminal.zvt.recorder import Recorder
from drivers.terminal.zvt.sequences import Sequence
from drivers.terminal.zvt.tcp_link import StreamLink
from drivers.terminal.zvt.transfer import Files

Opener = Callable[[LineSpec], Awaitable[Line]]

NOT_REGISTERED = 0x6B
LINK_DOWN = "the link to the terminal is down"
# An abort whose answer did not come when the card did (both sides spoke at once) may be answered until the
# terminal has given up its repeats.
ABORT_LATE_MS = SENDS_MAX * T2_MS
# Lines of a printout that are handed on.
LINES_MAX = 500


@dataclass(frozen=True, slots=True)
class Ran:
    """How a command ended, and what the terminal said on the way: printed lines, masked, and what it
    asked for."""

    outcome: o.Outcome
    lines: tuple[str, ...] = ()
    asked: Mapping[str, Mapping[str, int | str]] = field(default_factory=dict)

    @property
    def code(self) -> int:
        return code_of(self.outcome)


def code_of(outcome: o.Outcome) -> int:
    """The terminal's code; 00 for success, FF where there is none."""
    if isinstance(outcome, o.Negative | o.Aborted):
        return outcome.code
    return 0 if isinstance(outcome, o.Completed) else o.NO_CODE


class Channel:
    def __init__(
        self,
        spec: TerminalSpec,
        env: DriverEnv,
        profile: Profile,
        open_line: Opener,
        recorder: Recorder | None = None,
    ) -> None:
        self._spec, self._env, self._profile = spec, env, profile
        self._address = with_port(spec.line.port, profile.tcp_port)
        self._open_line, self._recorder = open_line, recorder
        self._line: Line | None = None
        self._link: AnyLink = Link()
        self._dialogue: Dialogue | None = None
        self._abortable = False
        self._closings = 0
        self._wake = asyncio.Event()
        self.is_tcp = is_tcp(spec.line.port)
        self._numbering = Numbering()  # of the registration, which outlives a connection
        self._abort_late_until = 0
        self.registered = False
        # Connected again since the registration: whoever answers at this address may be another.
        self.met_anew = False
        self.baud = spec.line.baud
        self.garbage = ""  # what the last command met instead of ZVT

    @property
    def usable(self) -> bool:
        """There is a line, or one can be had without asking anybody."""
        return self._line is not None or (self.is_tcp and self.registered)

    # --- the line ---------------------------------------------------------------------------------

    async def open(self, baud: int | None = None) -> None:
        """A line, anew; who is there is not known. Raises DeviceUnavailable TRM-001."""
        await self.close()
        self.baud = self._spec.line.baud if baud is None else baud
        await self._dial()

    async def close(self) -> None:
        """Whoever waits ends as when the line is lost."""
        self._closings += 1
        self.registered = False
        await self._hang_up()

    def lost(self) -> str | None:
        """Why the line cannot be used now; None when it can. What nobody has asked for is thrown away,
        except that half a message on a stream makes the rest of the stream useless."""
        if self._line is None:
            return LINK_DOWN
        try:
            unasked = self._line.discard()
            self._line.write(b"")
        except LineLost as error:
            return str(error)
        if isinstance(self._link, StreamLink):
            self._link.receive(unasked, self._env.boot_ms())
            if self._link.receiving:
                return "half a message that nobody asked for"
        return None

    async def ready(self) -> Line:
        """The line, before the first byte of a command. Raises DeviceUnavailable TRM-009, or TRM-001
        where a connection cannot be made again; nothing was sent then."""
        why = self.lost()
        if why is not None and self.is_tcp and self.registered:
            await self._hang_up()
            await self._dial()
            self.met_anew = True
        elif why is not None:
            await self.close()
            raise DeviceUnavailable("TRM-009", why)
        assert self._line is not None
        return self._line

    async def _dial(self) -> None:
        closings = self._closings
        try:
            line = await self._open_line(
                replace(self._spec.line, port=self._address, baud=self.baud)
            )
        except LineLost as error:
            raise DeviceUnavailable("TRM-001", str(error)) from None
        if self._closings != closings:
            # Closed while it was being opened: nobody would close it any more.
            await line.close()
            raise DeviceUnavailable("TRM-009", LINK_DOWN)
        self._line = line
        self._link = StreamLink() if self.is_tcp else Link()

    async def _hang_up(self) -> None:
        line, self._line = self._line, None
        if line is not None:
            await line.close()

    # --- commands ---------------------------------------------------------------------------------

    async def run(
        self,
        command: Apdu,
        sequence: Sequence,
        *,
        extra_ms: int = 0,
        store: Store | None = None,
        files: Files | None = None,
    ) -> Ran:
        """One command to its end. `extra_ms`: how much longer than usual the terminal may be silent.
        `files`: what the terminal may ask for. Raises DeviceUnavailable when there is no line before
        the first byte."""
        line = await self.ready()
        link = self._link if self._recorder is None else self._recorder.around(self._link)
        dialogue = Dialogue(
            link,
            command,
            sequence,
            run_ms=sequence.run_ms + extra_ms,
            numbering=self._numbering,
            charset=self._profile.charset,
            files=files,
        )
        drive = Drive(self._env, line, link, dialogue, store, self._wake)
        self._dialogue, self._abortable, self.garbage = dialogue, sequence.abortable, ""
        started = self._env.boot_ms()
        try:
            outcome = await drive.run()
        except asyncio.CancelledError:
            await self.close()  # the terminal is in the middle of something
            raise
        finally:
            self._dialogue = None
        if sequence.money and started < self._abort_late_until:
            outcome = _without_late_answer(outcome)
        if dialogue.abort_unanswered:
            self._abort_late_until = self._env.boot_ms() + ABORT_LATE_MS
        self._log(dialogue.name, outcome, drive.told, self._env.boot_ms() - started)
        if isinstance(self._link, StreamLink):
            self.garbage = self._link.garbage
        if isinstance(outcome, o.Broken | o.Disputed):
            # Both ends must begin anew: registration on a fresh link.
            await self.close()
        elif self.is_tcp and self._profile.tcp_idle == "close":
            await self._hang_up()
        if code_of(outcome) == NOT_REGISTERED:
            self.registered = False
        return _ran(outcome, drive.told)

    def abort(self) -> None:
        """Ask the terminal to end the command that runs (06 B0), where the document allows it."""
        if self._dialogue is not None and self._abortable:
            self._dialogue.abort(self._env.boot_ms())
            self._wake.set()

    def _log(self, name: str, outcome: o.Outcome, told: list[o.Told], after_ms: int) -> None:
        said = (progress_key(event.code) for event in told if isinstance(event, o.Progress))
        self._env.log(
            "zvt_command",
            level="debug",
            terminal=self._spec.id,
            command=name,
            outcome=type(outcome).__name__.lower(),
            code=f"{code_of(outcome):02x}",
            said=list(dict.fromkeys(said)),
            after_ms=after_ms,
        )


def _without_late_answer(outcome: o.Outcome) -> o.Outcome:
    """A no to a money command, which may have been meant for the abort before it: then the terminal went
    on to do what it was asked."""
    if not isinstance(outcome, o.Negative):
        return outcome
    return o.Disputed(f"{outcome.code:02x}: to it, or to the abort before it")


def _ran(outcome: o.Outcome, told: list[o.Told]) -> Ran:
    lines = tuple(line for event in told if isinstance(event, o.Printed) for line in event.lines)
    asked = {event.command: event.values for event in told if isinstance(event, o.Asked)}
    return Ran(outcome, lines[:LINES_MAX], asked)
