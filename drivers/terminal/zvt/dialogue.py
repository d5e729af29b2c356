"""One ZVT command from its first byte to its end, without I/O: the command, the closed set of messages it
accepts, and the times of PA00P015 (T3, T4). Link events and the clock in; link sends and events out.

The rule of the money commands lives here: a Status-Information with result 00 is handed out as `Evidence`
and the dialogue waits; only `decide(True)` answers it positively. A result that nobody asked for (left from
a dialogue that broke) is never answered positively, because the terminal books on that answer."""

from __future__ import annotations

from collections.abc import Callable

from drivers.terminal.zvt.answers import ABORT, POSITIVE, REFUSED, UNKNOWN_COMMAND
from drivers.terminal.zvt.apdu import Apdu
from drivers.terminal.zvt.codec import decode, encode
from drivers.terminal.zvt.frames import (
    ANSWERS,
    Delivered,
    LinkEvent,
    SendFailed,
)
from drivers.terminal.zvt.links import AnyLink
from drivers.terminal.zvt.outcomes import (
    NO_CODE,
    Aborted,
    Broken,
    Completed,
    DialogueEvent,
    Disputed,
    Ends,
    Evidence,
    Negative,
    Outcome,
    Results,
    abort_code,
    is_booking,
    negative_code,
    result_code,
    same_booking,
)
from drivers.terminal.zvt.phases import (
    ABORT_ANSWER_MS,
    ABORTS_MAX,
    ANSWER_MS,
    DECIDE_MS,
    DIALOGUE_MS_MAX,
    ENDED,
    HELD_MAX,
    LAST_ANSWER_MS,
    At,
)
from drivers.terminal.zvt.primitives import Malformed
from drivers.terminal.zvt.sequences import FULL, Sequence


class Dialogue:
    def __init__(
        self,
        link: AnyLink,
        command: Apdu,
        sequence: Sequence | None = None,
        *,
        ends: Ends = Ends.WITH_COMPLETION,
        results: Results = Results.NONE,
        run_ms: int | None = None,
    ) -> None:
        """`run_ms`: how long the terminal may be silent before it is broken, unless it asks for more."""
        self._link, self._command = link, command
        if sequence is None:
            sequence = Sequence(command.command, ends, results, FULL)
        self._sequence, self._ends, self._results = sequence, sequence.ends, sequence.results
        self._run_ms = sequence.run_ms if run_ms is None else run_ms
        self.name = command.name
        self._at = At.SENDING
        self._deadline: int | None = None
        self._until: int | None = None
        self._queue: list[bytes] = []  # answers that wait for the link
        self._held: list[bytes] = []  # messages that wait for `decide`
        self._offered: Apdu | None = None  # the evidence that waits for `decide`
        self._kept: Apdu | None = None  # the evidence that was stored
        self._status: Apdu | None = None  # the last other 04 0F
        self._refused = False  # we said no to a result
        self._result: Outcome | None = None
        self._abort_wanted = False
        self._aborts = 0  # sent
        self._abort_answers = 0  # that may still come
        self._collided = False  # the last abort may not have been heard
        self._accepts: dict[str, Callable[[Apdu, int], list[DialogueEvent]]] = {
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

    def start(self, now: int) -> None:
        self._until = now + DIALOGUE_MS_MAX
        self._link.begin(encode(self._command), now)

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
            return self._break(f"no end after {DIALOGUE_MS_MAX // 1000} s")
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

    def decide(self, stored: bool, now: int) -> list[DialogueEvent]:
        """The word on the evidence that was handed out. Ignored when it comes too late."""
        if self._at is not At.DECIDING:
            return []
        if stored:
            self._kept = self._offered
        else:
            self._refused = True
        self._at = At.RUNNING
        self._deadline = now + self._run_ms
        self._answer(POSITIVE if stored else REFUSED, now)
        held, self._held = self._held, []
        events: list[DialogueEvent] = []
        for message in held:
            events += self._received(message, now)
        return events

    def abort(self, now: int) -> None:
        """Ask the terminal to end a card read (06 B0). Its own end still decides what happened."""
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
            self._deadline = now + ANSWER_MS
        if self._queue:
            self._link.send(self._queue.pop(0), now)
        elif self._at is At.LAST_ANSWER:
            return self._conclude(now)
        return []

    def _send_failed(self, event: SendFailed, now: int) -> list[DialogueEvent]:
        if self._at is At.LAST_ANSWER:
            # The terminal has said its last word; that it does not hear ours changes nothing.
            return self._conclude(now)
        if event.apdu == ABORT:
            return self._break(f"abort: {event.why}")
        return self._break(event.why)

    def _answer(self, apdu: bytes, now: int) -> None:
        if self._link.pending == ABORT:
            # Both sent at once (PA00P016, collision): the terminal's word goes first.
            self._link.withdraw()
            self._collided = True
        if self._link.busy:
            self._queue.append(apdu)
        else:
            self._link.send(apdu, now)

    def _try_abort(self, now: int) -> None:
        free = not self._link.busy and not self._link.receiving
        if not self._abort_wanted or self._at is not At.RUNNING or not free:
            return
        if (self._abort_answers == 0 or self._collided) and self._aborts < ABORTS_MAX:
            self._collided = False
            self._aborts += 1
            self._abort_answers += 1
            self._link.send(ABORT, now)

    def _received(self, data: bytes, now: int) -> list[DialogueEvent]:
        if data[0] in ANSWERS:
            return self._answered(data, now)
        if self._at is At.DECIDING:
            self._held.append(data)
            if len(self._held) > HELD_MAX:
                return self._break("messages instead of patience while its result was stored")
            return []
        apdu, whole = self._read(data)
        if self._at is At.ANSWER and apdu.command == "061e":
            return self._ended_unanswered(apdu, now)
        if self._at is not At.RUNNING:
            self._answer(self._not_ours(apdu), now)
            return []
        handler = self._accepts.get(apdu.command)
        if handler is None:
            self._answer(UNKNOWN_COMMAND, now)
            return []
        if not whole and apdu.command == "040f":
            return self._unreadable_status(now)
        return handler(apdu, now)

    def _read(self, data: bytes) -> tuple[Apdu, bool]:
        """A message, and whether it could be read. An end is an end even where its fields are not."""
        try:
            return decode(data, self._command.command), True
        except Malformed:
            return Apdu(data[:2].hex()), False

    def _not_ours(self, apdu: Apdu) -> bytes:
        """The answer to a message that comes before our command was answered, or after its end: it
        belongs to something else, and says nothing about us."""
        if apdu.command not in self._accepts:
            return UNKNOWN_COMMAND
        return REFUSED if is_booking(apdu) else POSITIVE

    def _ended_unanswered(self, apdu: Apdu, now: int) -> list[DialogueEvent]:
        """An abort instead of an answer: of our command, or left over from the one before."""
        code = abort_code(apdu)
        if self._results is Results.EVIDENCE:
            self._result = Disputed(f"ended with {code:02x} before it was answered")
        else:
            self._result = Aborted(code, apdu)
        return self._last(now)

    def _answered(self, data: bytes, now: int) -> list[DialogueEvent]:
        if self._at not in (At.SENDING, At.ANSWER):
            self._abort_answers = max(0, self._abort_answers - 1)
            self._abort_wanted = False
            return self._finish() if self._at is At.ABORT_ANSWER else []
        if data[0] == 0x84 and data[1] != 0x00:
            self._result = Negative(negative_code(data))
            return self._finish()
        if self._ends is Ends.WITH_ANSWER:
            self._result = Completed(self._read(data)[0])
            return self._finish()
        self._at = At.RUNNING
        self._deadline = now + self._run_ms
        return []

    # --- messages of the terminal -----------------------------------------------------------------

    def _status_information(self, apdu: Apdu, now: int) -> list[DialogueEvent]:
        self._deadline = now + self._run_ms
        if self._ends is Ends.WITH_STATUS:
            self._result = Completed(apdu, apdu)
            return self._last(now)
        if self._results is Results.EVIDENCE:
            return self._claim(apdu, now)
        if self._results is Results.NONE and is_booking(apdu):
            self._answer(REFUSED, now)
            return []
        if self._status is None or self._status.get("result") != 0:
            self._status = apdu
        self._answer(POSITIVE, now)
        return []

    def _claim(self, apdu: Apdu, now: int) -> list[DialogueEvent]:
        """What a money command's 04 0F says. Evidence is offered once; the same booking told again,
        perhaps with more fields, is answered as before; another one is refused."""
        if not is_booking(apdu):
            self._status = apdu
            self._answer(POSITIVE, now)
            return []
        if self._kept is not None and same_booking(self._kept, apdu):
            self._answer(POSITIVE, now)
            return []
        if self._kept is not None or self._refused or apdu.get("result") is None:
            self._refused = True
            self._answer(REFUSED, now)
            return []
        self._offered, self._status = apdu, None
        self._at = At.DECIDING
        self._deadline = now + DECIDE_MS
        return [Evidence(apdu)]

    def _unreadable_status(self, now: int) -> list[DialogueEvent]:
        self._deadline = now + self._run_ms
        if self._results is Results.EVIDENCE:
            self._refused = True
        elif self._ends is Ends.WITH_STATUS:
            self._result = Disputed("its result cannot be read")
            return self._last(now)
        elif self._results is Results.REPORT:
            self._result = Disputed("its result cannot be read")
        self._answer(REFUSED, now)
        return []

    def _progress(self, apdu: Apdu, now: int) -> list[DialogueEvent]:
        minutes = apdu.integer("timeout_min")
        if minutes and self._ends is not Ends.WITH_STATUS:
            self._run_ms = minutes * 60_000
        self._deadline = now + self._run_ms
        self._answer(POSITIVE, now)
        return []

    def _printing(self, _: Apdu, now: int) -> list[DialogueEvent]:
        """Receipts are made from the results. A print command that is not taken would keep a payment
        from being stored, so it is, and its text is dropped."""
        self._deadline = now + self._run_ms
        self._answer(POSITIVE, now)
        return []

    def _completion(self, apdu: Apdu, now: int) -> list[DialogueEvent]:
        if self._result is None:
            self._result = self._completed(apdu)
        return self._last(now)

    def _completed(self, apdu: Apdu) -> Outcome:
        if self._ends is Ends.WITH_STATUS:
            return Aborted(NO_CODE, apdu)  # an end without the card that was asked for
        if self._results is not Results.EVIDENCE:
            return Completed(apdu, self._status)
        told = [a for a in (self._status, apdu) if a is not None]
        failed = next((a for a in told if a.get("result") not in (0, None)), None)
        if self._refused:
            return Disputed("its result was not accepted, and it completed")
        if self._kept is not None and failed is not None:
            return Disputed(f"success and then result {result_code(failed):02x}")
        if failed is not None:
            return Aborted(result_code(failed), failed)
        return Completed(apdu, self._kept)

    def _abort_message(self, apdu: Apdu, now: int) -> list[DialogueEvent]:
        code = abort_code(apdu)
        if self._result is None:
            if self._refused:
                self._result = Disputed(f"its result was not accepted; it ended with {code:02x}")
            elif self._kept is not None:
                self._result = Disputed(f"ended with {code:02x} after its result was stored")
            else:
                self._result = Aborted(code, apdu)
        return self._last(now)

    # --- the end ----------------------------------------------------------------------------------

    def _last(self, now: int) -> list[DialogueEvent]:
        """Our last answer. Whatever the terminal says after it says that it was heard."""
        self._at = At.LAST_ANSWER
        self._deadline = now + LAST_ANSWER_MS
        self._queue.clear()
        self._answer(POSITIVE, now)
        return []

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
        return [self._result]
