"""One ZVT command from its first byte to its end, without I/O: the command, the closed set of messages it
accepts, and the times of PA00P015 (T3, T4). Link events and the clock in; link sends and events out.

The rule of the money commands lives here: a Status-Information with result 00 is handed out as `Evidence`
and the dialogue waits; only `decide(True)` answers it positively. What it means stands in reckoning.py."""

from __future__ import annotations

from collections.abc import Callable

from drivers.terminal.zvt.answers import ABORT, AGAIN, POSITIVE, REFUSED, UNKNOWN_COMMAND
from drivers.terminal.zvt.apdu import Apdu
from drivers.terminal.zvt.codec import decode, encode
from drivers.terminal.zvt.frames import ANSWERS, Delivered, LinkEvent, SendFailed
from drivers.terminal.zvt.links import AnyLink
from drivers.terminal.zvt.numbering import Numbering
from drivers.terminal.zvt.outcomes import (
    NO_CODE,
    Asked,
    Broken,
    Completed,
    Decision,
    DialogueEvent,
    Ends,
    Evidence,
    Negative,
    Outcome,
    Progress,
    is_booking,
    is_of_the_day,
    negative_code,
)
from drivers.terminal.zvt.paper import Paper, text_lines
from drivers.terminal.zvt.phases import (
    ABORT_ANSWER_MS,
    ABORTS_MAX,
    ANSWER_MS,
    ANSWERS_MAX,
    DECIDE_MS,
    ENDED,
    HELD_MAX,
    LAST_ANSWER_MS,
    At,
)
from drivers.terminal.zvt.primitives import CHARSET, Malformed
from drivers.terminal.zvt.reckoning import Reckoning
from drivers.terminal.zvt.sequences import END, Sequence
from drivers.terminal.zvt.transfer import Files

ABORT_HEAD = bytes.fromhex(ABORT.command)


class Dialogue:
    def __init__(
        self,
        link: AnyLink,
        command: Apdu,
        sequence: Sequence,
        *,
        run_ms: int | None = None,
        numbering: Numbering | None = None,
        charset: str = CHARSET,
        files: Files | None = None,
    ) -> None:
        """`run_ms`: how long the terminal may be silent before it is broken, unless it asks for more.
        `numbering` is that of the registration. `charset`: of the terminal's texts. `files`: what a 08 14
        sends."""
        self._link, self._command, self._sequence = link, command, sequence
        self._run_ms = sequence.run_ms if run_ms is None else run_ms
        self._numbering = Numbering() if numbering is None else numbering
        self._charset, self._files, self._paper = charset, files, Paper()
        self._reckoning = Reckoning(command.command, sequence.results, sequence.ends)
        self.name = command.name
        self._at = At.SENDING
        self._deadline: int | None = None
        self._until: int | None = None
        self._queue: list[bytes] = []  # answers that wait for the link
        self._held: list[bytes] = []  # messages that wait for `decide`
        self._answered_last: bytes | None = None  # our last answer, for a message told again
        self._told: Apdu = command  # the message that is being answered
        self._result: Outcome | None = None
        self._abort_wanted = False
        self._aborts = 0  # sent
        self._abort_answers = 0  # that may still come
        self._collided = False  # the last abort may not have been heard
        self._handlers: dict[str, Callable[[Apdu, int], list[DialogueEvent]]] = {
            "0401": self._clock,
            "040c": self._file,
            "040f": self._status_information,
            "04ff": self._progress,
            "060f": self._completion,
            "061e": self._abort_message,
            "06d1": self._printing,
            "06d3": self._printing,
        }

    @property
    def over(self) -> bool:
        return self._at is At.OVER

    @property
    def abort_unanswered(self) -> bool:
        """An answer to our abort may still come, and would be taken for one to the next command."""
        return self._abort_answers > 0

    def start(self, now: int) -> None:
        self._until = now + self._sequence.longest_ms
        self._link.begin(encode(self._numbering.command(self._command)), now)

    def next_deadline(self) -> int | None:
        if self.over:
            return None
        times = [t for t in (self._deadline, self._until) if t is not None]
        return min(times, default=None)

    # --- inputs -----------------------------------------------------------------------------------

    def on_link(self, event: LinkEvent, now: int) -> list[DialogueEvent]:
        if self.over:
            return []
        if isinstance(event, Delivered):
            events = self._delivered(now)
        elif isinstance(event, SendFailed):
            events = self._send_failed(event, now)
        else:
            events = self._received(event.apdu, now)
        self._try_abort(now)
        return events

    def on_time(self, now: int) -> list[DialogueEvent]:
        if self.over:
            return []
        if self._until is not None and now >= self._until:
            if self._at in ENDED:
                return self._finish()
            return self._break(f"no end after {self._sequence.longest_ms // 1000} s")
        if self._deadline is None or now < self._deadline:
            self._try_abort(now)
            return []
        if self._at is At.DECIDING:
            return self.decide(False, now)
        if self._at is At.LAST_ANSWER:
            return self._conclude(now)
        if self._at is At.ABORT_ANSWER:
            return self._finish()
        waited = "an answer (T3)" if self._at is At.ANSWER else "the terminal's end (T4)"
        return self._break(f"timed out waiting for {waited}")

    def decide(self, decision: Decision, now: int) -> list[DialogueEvent]:
        """The word on the evidence that was handed out. Ignored when it comes too late. Raises ValueError
        for a word on goods where there are none."""
        if self._at is not At.DECIDING:
            return []
        assert self._reckoning.offered is not None
        self._told = self._reckoning.offered
        answer = self._reckoning.decided(decision)
        if answer == AGAIN:
            self._numbering.forget()
        self._at = At.RUNNING
        self._deadline = now + self._run_ms
        self._answer(answer, now)
        held, self._held = self._held, []
        events: list[DialogueEvent] = []
        for message in held:
            events += self._received(message, now)
        return events

    def abort(self, now: int) -> None:
        """Ask the terminal to end what it does (06 B0). Its own end still decides what happened."""
        self._abort_wanted = True
        self._try_abort(now)

    def lost(self, why: str) -> list[DialogueEvent]:
        """The line is gone. After the terminal's last word that changes nothing."""
        if self.over:
            return []
        return self._finish() if self._at in ENDED else self._break(why)

    # --- link -------------------------------------------------------------------------------------

    def _delivered(self, now: int) -> list[DialogueEvent]:
        if self._at is At.SENDING:
            self._at = At.ANSWER
            answers = self._sequence.ends is Ends.WITH_ANSWER
            self._deadline = now + (self._run_ms if answers else ANSWER_MS)
        if self._queue:
            self._link.send(self._queue.pop(0), now)
        elif self._at is At.LAST_ANSWER:
            return self._conclude(now)
        return []

    def _send_failed(self, event: SendFailed, now: int) -> list[DialogueEvent]:
        if self._at is At.LAST_ANSWER:
            # The terminal has said its last word; that it does not hear ours changes nothing.
            return self._conclude(now)
        if event.apdu[:2] == ABORT_HEAD:
            return self._break(f"abort: {event.why}")
        return self._break(event.why)

    def _answer(self, apdu: Apdu, now: int) -> None:
        """To the message that is being answered."""
        self._answered_last = encode(self._numbering.answer(apdu, self._told))
        self._send_answer(self._answered_last, now)

    def _send_answer(self, data: bytes, now: int) -> None:
        pending = self._link.pending
        if pending is not None and pending[:2] == ABORT_HEAD:
            # Both sent at once (PA00P016, collision): the terminal's word goes first.
            self._link.withdraw()
            self._collided = True
        if not self._link.busy:
            self._link.send(data, now)
        elif len(self._queue) < ANSWERS_MAX:
            self._queue.append(data)

    def _try_abort(self, now: int) -> None:
        free = not self._link.busy and not self._link.receiving
        # 06 E1 is master without having answered.
        waits = self._at is At.ANSWER and self._sequence.ends is Ends.WITH_ANSWER
        runs = self._at is At.RUNNING or (waits and self._sequence.abortable)
        if not self._abort_wanted or not runs or not free:
            return
        if (self._abort_answers == 0 or self._collided) and self._aborts < ABORTS_MAX:
            self._collided = False
            self._aborts += 1
            self._abort_answers += 1
            self._link.send(encode(self._numbering.within(ABORT)), now)

    def _received(self, data: bytes, now: int) -> list[DialogueEvent]:
        if data[0] in ANSWERS:
            return self._answered(data, now)
        if self._at is At.DECIDING:
            self._held.append(data)
            if len(self._held) > HELD_MAX:
                return self._break("messages instead of patience while its result was stored")
            return []
        apdu, whole = self._read(data)
        if self._numbering.is_repeat(apdu) and self._answered_last is not None:
            self._send_answer(self._answered_last, now)
            return []
        self._told = apdu
        if self._at is At.ANSWER and apdu.command == "061e":
            self._result = self._reckoning.unanswered(apdu)
            return self._last(now)
        if self._at is not At.RUNNING:
            self._answer(self._not_ours(apdu, whole), now)
            return []
        if apdu.command not in self._sequence.accepts:
            self._answer(UNKNOWN_COMMAND, now)
            return []
        if not whole and apdu.command == "040f":
            return self._unreadable_status(now)
        return self._handlers[apdu.command](apdu, now)

    def _read(self, data: bytes) -> tuple[Apdu, bool]:
        """A message, and whether it could be read. An end is an end even where its fields are not."""
        try:
            return decode(data, self._command.command, self._charset), True
        except Malformed:
            return Apdu(data[:2].hex()), False

    def _not_ours(self, apdu: Apdu, whole: bool) -> Apdu:
        """The answer to a message that comes before our command was answered, or after its end: it
        belongs to something else, and says nothing about us."""
        if apdu.command not in self._sequence.accepts | END:
            return UNKNOWN_COMMAND
        is_result = is_booking(apdu) or is_of_the_day(apdu)
        unreadable = apdu.command == "040f" and not whole
        return REFUSED if is_result or unreadable else POSITIVE

    def _answered(self, data: bytes, now: int) -> list[DialogueEvent]:
        apdu = self._read(data)[0]
        if not self._numbering.is_answer(apdu):
            return []
        if self._at not in (At.SENDING, At.ANSWER):
            self._abort_answers = max(0, self._abort_answers - 1)
            self._abort_wanted = False
            return self._finish() if self._at is At.ABORT_ANSWER else []
        if self._abort_answers and apdu.get("key") is None:
            self._abort_answers -= 1
            self._abort_wanted = False
            return []
        if data[0] == 0x84 and data[1] != 0x00:
            self._result = Negative(negative_code(data))
            return self._finish()
        if self._sequence.ends is Ends.WITH_ANSWER:
            self._result = Completed(apdu)
            return self._conclude(now)
        self._at = At.RUNNING
        self._deadline = now + self._run_ms
        return []

    # --- messages of the terminal -----------------------------------------------------------------

    def _goes_on(self, answer: Apdu, now: int) -> None:
        self._deadline = now + self._run_ms
        self._answer(answer, now)

    def _status_information(self, apdu: Apdu, now: int) -> list[DialogueEvent]:
        answer = self._reckoning.status(apdu)
        if answer is None:
            self._at = At.DECIDING
            self._deadline = now + DECIDE_MS
            return [Evidence(apdu)]
        if self._sequence.ends is Ends.WITH_STATUS and answer == POSITIVE:
            self._result = self._reckoning.card()
            return self._last(now)
        self._goes_on(answer, now)
        return []

    def _unreadable_status(self, now: int) -> list[DialogueEvent]:
        answer = self._reckoning.unreadable()
        if self._sequence.ends is Ends.WITH_STATUS:
            self._result = self._reckoning.card()
            return self._last(now, answer)
        self._goes_on(answer, now)
        return []

    def _progress(self, apdu: Apdu, now: int) -> list[DialogueEvent]:
        minutes = apdu.integer("timeout_min")
        if minutes and self._sequence.ends is not Ends.WITH_STATUS:
            self._run_ms = minutes * 60_000
        self._goes_on(POSITIVE, now)
        code = apdu.text("status")
        lines = [line for raw in apdu.values("07") for line in text_lines(raw, apdu.charset)]
        return [Progress(int(code, 16) if code else NO_CODE, minutes, tuple(lines))]

    def _printing(self, apdu: Apdu, now: int) -> list[DialogueEvent]:
        """A print command that is not taken would keep a payment from being stored, so it is, whatever
        becomes of its text."""
        self._goes_on(POSITIVE, now)
        return [*self._paper.take(apdu)]

    def _clock(self, apdu: Apdu, now: int) -> list[DialogueEvent]:
        self._goes_on(POSITIVE, now)
        told = {"date": apdu.text("date_full"), "time": apdu.text("time")}
        return [Asked(apdu.command, {n: v for n, v in told.items() if v and v.isdecimal()})]

    def _file(self, apdu: Apdu, now: int) -> list[DialogueEvent]:
        block = None if self._files is None else self._files.block(apdu)
        self._goes_on(REFUSED if block is None else block[0], now)
        return [] if block is None else [Asked(apdu.command, block[1])]

    def _completion(self, apdu: Apdu, now: int) -> list[DialogueEvent]:
        self._result = self._reckoning.completed(apdu)
        return self._last(now)

    def _abort_message(self, apdu: Apdu, now: int) -> list[DialogueEvent]:
        self._result = self._reckoning.aborted(apdu)
        return self._last(now)

    # --- the end ----------------------------------------------------------------------------------

    def _last(self, now: int, answer: Apdu = POSITIVE) -> list[DialogueEvent]:
        """Our last answer. Whatever the terminal says after it says that it was heard."""
        self._at = At.LAST_ANSWER
        self._deadline = now + LAST_ANSWER_MS
        self._queue.clear()
        self._answer(answer, now)
        return [*self._paper.rest()]

    def _conclude(self, now: int) -> list[DialogueEvent]:
        if self._abort_answers == 0:
            return self._finish()
        # Left alone, a late refusal of the abort would be taken for one of the next command.
        self._link.withdraw()
        self._at = At.ABORT_ANSWER
        self._deadline = now + ABORT_ANSWER_MS
        return []

    def _break(self, why: str) -> list[DialogueEvent]:
        self._result = Broken(why)
        return self._finish()

    def _finish(self) -> list[DialogueEvent]:
        self._at, self._deadline = At.OVER, None
        self._link.withdraw()
        assert self._result is not None
        if isinstance(self._result, Completed):
            self._numbering.ended(self._command.command, self._result.completion)
        return [self._result]
