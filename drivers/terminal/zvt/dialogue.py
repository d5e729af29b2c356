"""One ZVT command from its first byte to its end, without I/O: the command, the closed set of messages it
accepts, and the times of PA00P015 (T3, T4). Link events and the clock in; link sends and events out.

The rule of the money commands lives here: a Status-Information with result 00 is handed out as `Evidence`
and the dialogue waits; only `decide(True)` answers it positively."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum, auto

from drivers.terminal.zvt.codec import Apdu, decode, encode
from drivers.terminal.zvt.frames import Delivered, Link, LinkEvent, Received, SendFailed
from drivers.terminal.zvt.primitives import CHARSET, Malformed

T3_MS = 5_000  # command to its answer
T4_MS = 180_000  # answer to Completion, restarted by every 04 FF and 04 0F
T4_MINUTES_MAX = 30  # a terminal may ask for more time, not for ever
CARD_GRACE_MS = 2_000  # a card read ends by itself; this much later it is broken
PRINT_LINES_MAX = 500  # a system printout has 118 lines

POSITIVE = encode(Apdu("8000"))
UNKNOWN_COMMAND = encode(Apdu("8483"))
# The evidence could not be stored: any error but 9C and 9D makes the terminal reverse (06 01, 06 22).
REFUSED = encode(Apdu("8466"))
ABORT = encode(Apdu("06b0"))


class Ends(Enum):
    """What ends a command."""

    WITH_COMPLETION = auto()  # 06 0F or 06 1E
    WITH_ANSWER = auto()  # the 80 00 itself (06 02, 06 B0, 06 E0 ...)
    WITH_STATUS = auto()  # 04 0F without a Completion (06 C0)


@dataclass(frozen=True, slots=True)
class Evidence:
    """A 04 0F with result 00 that waits for `decide`."""

    apdu: Apdu


@dataclass(frozen=True, slots=True)
class Progress:
    """A 04 FF: what the terminal is doing."""

    apdu: Apdu


@dataclass(frozen=True, slots=True)
class Completed:
    """06 0F, or for 06 C0 its 04 0F. `status` is the last 04 0F with result 00 that was stored, or the
    last one that failed."""

    completion: Apdu
    status: Apdu | None
    printed: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Aborted:
    """06 1E, or a Completion after a 04 0F that failed. `code` is the terminal's."""

    code: int
    apdu: Apdu


@dataclass(frozen=True, slots=True)
class Negative:
    """84 xx to the command itself: nothing was started."""

    code: int


@dataclass(frozen=True, slots=True)
class Broken:
    """The dialogue ended without a word. Our command's bytes had left, so its outcome is unknown."""

    why: str


Outcome = Completed | Aborted | Negative | Broken
DialogueEvent = Evidence | Progress | Completed | Aborted | Negative | Broken


class _At(Enum):
    SENDING = auto()
    ANSWER = auto()
    RUNNING = auto()
    DECIDING = auto()
    LAST_ANSWER = auto()  # our last answer is on its way
    OVER = auto()


class Dialogue:
    def __init__(
        self,
        link: Link,
        command: Apdu,
        *,
        ends: Ends = Ends.WITH_COMPLETION,
        money: bool = False,
        run_ms: int = T4_MS,
    ) -> None:
        """`money`: status informations with result 00 are evidence. `run_ms`: how long the terminal
        may be busy before it is broken, unless it says otherwise."""
        self._link, self._command, self._ends, self._money = link, command, ends, money
        self._run_ms = run_ms
        self._at = _At.SENDING
        self._deadline: int | None = None
        self._queue: list[bytes] = []  # answers that wait for the link
        self._decided: list[tuple[Apdu, bytes]] = []
        self._status: Apdu | None = None
        self._printed: list[str] = []
        self._result: Outcome | None = None
        self._aborting = False
        self._accepts: dict[str, Callable[[Apdu, int], list[DialogueEvent]]] = {
            "040f": self._status_information,
            "04ff": self._progress,
            "060f": self._completion,
            "061e": self._abort,
            "06d1": self._print_line,
            "06d3": self._print_block,
            "0401": self._ignore,
        }

    @property
    def over(self) -> bool:
        return self._at is _At.OVER

    def start(self, now: int) -> None:
        self._link.send(encode(self._command), now)

    def next_deadline(self) -> int | None:
        return self._deadline

    # --- inputs -----------------------------------------------------------------------------------

    def on_link(self, event: LinkEvent, now: int) -> list[DialogueEvent]:
        if self.over:
            return []
        if isinstance(event, Delivered):
            return self._delivered(now)
        if isinstance(event, SendFailed):
            return self._send_failed(event, now)
        return self._received(event, now)

    def on_time(self, now: int) -> list[DialogueEvent]:
        if self.over or self._deadline is None or now < self._deadline:
            return []
        if self._at is _At.LAST_ANSWER:
            return self._finish()
        waited = "an answer (T3)" if self._at is _At.ANSWER else "the terminal's end (T4)"
        return self._break(f"timed out waiting for {waited}")

    def decide(self, stored: bool, now: int) -> None:
        """The word on the evidence that was handed out."""
        if self._at is not _At.DECIDING or self._status is None:
            return
        answer = POSITIVE if stored else REFUSED
        self._decided.append((self._status, answer))
        if not stored:
            self._status = None
        self._at = _At.RUNNING
        self._deadline = now + self._run_ms
        self._answer(answer, now)

    def abort(self, now: int) -> None:
        """Ask the terminal to end a card read (06 B0). Its own end still decides what happened."""
        if self._aborting or self._at not in (_At.RUNNING, _At.ANSWER):
            return
        self._aborting = True
        if not self._link.busy and not self._link.receiving and self._at is _At.RUNNING:
            self._link.send(ABORT, now)
        else:
            self._queue.append(ABORT)

    def lost(self, why: str) -> list[DialogueEvent]:
        """The line is gone."""
        return [] if self.over else self._break(why)

    # --- link -------------------------------------------------------------------------------------

    def _delivered(self, now: int) -> list[DialogueEvent]:
        if self._at is _At.SENDING:
            self._at = _At.ANSWER
            self._deadline = now + T3_MS
        if self._queue:
            self._link.send(self._queue.pop(0), now)
        elif self._at is _At.LAST_ANSWER:
            return self._finish()
        return []

    def _send_failed(self, event: SendFailed, now: int) -> list[DialogueEvent]:
        if self._at is _At.LAST_ANSWER:
            # The terminal has said its last word; that it does not hear ours changes nothing.
            return self._finish()
        if self._aborting and self._at is _At.RUNNING:
            return []  # collided with the terminal's own end, which comes or times out
        return self._break(event.why)

    def _answer(self, apdu: bytes, now: int) -> None:
        if self._link.busy:
            if self._aborting and self._at in (_At.RUNNING, _At.LAST_ANSWER):
                # Both sent at once: the terminal's word goes first, our abort is no longer needed.
                self._link.withdraw()
            else:
                self._queue.append(apdu)
                return
        self._link.send(apdu, now)

    def _received(self, event: Received, now: int) -> list[DialogueEvent]:
        first = event.apdu[0]
        if first in (0x80, 0x84):
            return self._answered(event.apdu, now)
        if self._at in (_At.SENDING, _At.ANSWER):
            # It runs already: its positive answer was lost.
            self._at = _At.RUNNING
            self._deadline = now + self._run_ms
        try:
            apdu = decode(event.apdu, self._command.command)
        except Malformed:
            self._answer(UNKNOWN_COMMAND, now)
            return []
        handler = self._accepts.get(apdu.command)
        if handler is None:
            self._answer(UNKNOWN_COMMAND, now)
            return []
        return handler(apdu, now)

    def _answered(self, apdu: bytes, now: int) -> list[DialogueEvent]:
        if self._at not in (_At.SENDING, _At.ANSWER):
            return []  # to our abort
        positive = apdu[0] == 0x80 or apdu[1] == 0x00
        if not positive:
            self._result = Negative(apdu[1])
            return self._finish()
        if self._ends is Ends.WITH_ANSWER:
            self._result = Completed(decode(apdu), None, ())
            return self._finish()
        self._at = _At.RUNNING
        self._deadline = now + self._run_ms
        if self._queue and not self._link.busy:
            self._link.send(self._queue.pop(0), now)
        return []

    # --- messages of the terminal -----------------------------------------------------------------

    def _status_information(self, apdu: Apdu, now: int) -> list[DialogueEvent]:
        self._deadline = now + self._run_ms
        if self._ends is Ends.WITH_STATUS:
            self._result = Completed(apdu, apdu, tuple(self._printed))
            self._at = _At.LAST_ANSWER
            self._answer(POSITIVE, now)
            return []
        known = next((answer for seen, answer in self._decided if seen == apdu), None)
        if known is not None:
            # The same status again: answered as before, booked once.
            self._answer(known, now)
            return []
        if self._money and apdu.get("result") == 0:
            self._status = apdu
            self._at = _At.DECIDING
            self._deadline = None
            return [Evidence(apdu)]
        if self._status is None or self._status.get("result") != 0:
            self._status = apdu
        self._answer(POSITIVE, now)
        return []

    def _progress(self, apdu: Apdu, now: int) -> list[DialogueEvent]:
        minutes = apdu.integer("timeout_min")
        if minutes:
            self._run_ms = min(minutes, T4_MINUTES_MAX) * 60_000
        self._deadline = now + self._run_ms
        self._answer(POSITIVE, now)
        return [Progress(apdu)]

    def _completion(self, apdu: Apdu, now: int) -> list[DialogueEvent]:
        failed = self._status is not None and self._status.get("result") not in (0, None)
        if failed and self._money:
            assert self._status is not None
            self._result = Aborted(int(self._status.get("result") or 0xFF), self._status)
        else:
            self._result = Completed(apdu, self._status, tuple(self._printed))
        return self._last(now)

    def _abort(self, apdu: Apdu, now: int) -> list[DialogueEvent]:
        code = apdu.text("error")
        self._result = Aborted(int(code, 16) if code else 0xFF, apdu)
        return self._last(now)

    def _last(self, now: int) -> list[DialogueEvent]:
        self._at = _At.LAST_ANSWER
        self._deadline = now + T3_MS
        self._queue.clear()
        self._answer(POSITIVE, now)
        return []

    def _print_line(self, apdu: Apdu, now: int) -> list[DialogueEvent]:
        self._keep_print([apdu.raw.decode(CHARSET)])
        return self._ignore(apdu, now)

    def _print_block(self, apdu: Apdu, now: int) -> list[DialogueEvent]:
        texts = [t.value.decode(CHARSET) for t in apdu.find("07") if isinstance(t.value, bytes)]
        self._keep_print(texts)
        return self._ignore(apdu, now)

    def _keep_print(self, lines: list[str]) -> None:
        self._printed += lines[: PRINT_LINES_MAX - len(self._printed)]

    def _ignore(self, _: Apdu, now: int) -> list[DialogueEvent]:
        self._deadline = now + self._run_ms
        self._answer(POSITIVE, now)
        return []

    # --- the end ----------------------------------------------------------------------------------

    def _break(self, why: str) -> list[DialogueEvent]:
        self._result = Broken(why)
        return self._finish()

    def _finish(self) -> list[DialogueEvent]:
        self._at, self._deadline = _At.OVER, None
        self._link.withdraw()
        assert self._result is not None
        return [self._result]
