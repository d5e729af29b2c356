"""One command at a time, word by word: what the driver answers, when it gives up, and what it concludes."""

from dataclasses import dataclass, field

import pytest
from hypothesis import given
from hypothesis import strategies as st

from drivers.terminal.zvt import dialogue as d
from drivers.terminal.zvt.apdu import Apdu
from drivers.terminal.zvt.codec import build, encode
from drivers.terminal.zvt.frames import SENDS_MAX, T1_MS, T2_MS, Delivered, Link, Received, frame
from drivers.terminal.zvt.outcomes import (
    Aborted,
    Broken,
    Completed,
    DialogueEvent,
    Disputed,
    Ends,
    Evidence,
    Negative,
    Results,
)

ACK = b"\x06"
OK, UNKNOWN, NO = "800000", "848300", "846600"
HOLD = build("0622", {"payment_type": "40", "currency": "978", "amount_minor": 5000})
READ = build("06c0", {"timeout_s": 5})
SHOW = build("06e0", {"line_1": "hello"})
REPEAT = build("0620", {"password": "123456", "service_byte": "03"})
RESULT = "040f102700040000000050008702310b000975"
FAILED = "040f02276c"
END, ABORTED, PROGRESS = "060f00", "061e016c", "04ff010e"


def h(text: str) -> bytes:
    return bytes.fromhex(text)


@dataclass
class Talk:
    """A dialogue and the terminal's end of a perfect line. `said` is what the driver has said, without
    ACKs; every block of it is acknowledged unless `deaf`."""

    command: Apdu = HOLD
    ends: Ends = Ends.WITH_COMPLETION
    results: Results = Results.EVIDENCE
    run_ms: int = d.T4_MS
    now: int = 0
    deaf: bool = False
    said: list[str] = field(default_factory=list)
    events: list[DialogueEvent] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.link, self.ear = Link(), Link()
        self.dialogue = d.Dialogue(
            self.link, self.command, ends=self.ends, results=self.results, run_ms=self.run_ms
        )
        self.dialogue.start(self.now)
        self._hear()

    def pt(self, *messages: str) -> "Talk":
        for message in messages:
            self._bytes(frame(h(message)))
        return self

    def wait(self, ms: int) -> "Talk":
        """Lets time pass, timer by timer."""
        until = self.now + ms
        while not self.dialogue.over:
            times = [self.link.next_deadline(), self.dialogue.next_deadline()]
            due = min((t for t in times if t is not None), default=until)
            self.now = min(due, until)
            for event in self.link.on_time(self.now):
                self.events += self.dialogue.on_link(event, self.now)
            self.events += self.dialogue.on_time(self.now)
            self._hear()
            if due > until or self.now == until:
                break
        self.now = until
        return self

    def decide(self, stored: bool) -> "Talk":
        self.events += self.dialogue.decide(stored, self.now)
        self._hear()
        return self

    def abort(self) -> "Talk":
        self.dialogue.abort(self.now)
        self._hear()
        return self

    def _bytes(self, data: bytes) -> None:
        for event in self.link.receive(data, self.now):
            self.events += self.dialogue.on_link(event, self.now)
        self._hear()

    def _hear(self) -> None:
        for event in self.ear.receive(self.link.take_output(), self.now):
            if isinstance(event, Received):
                self.said.append(event.apdu.hex())
                self.ear = Link()  # a repeat is heard again
                if not self.deaf:
                    self._bytes(ACK)

    @property
    def outcome(self) -> DialogueEvent | None:
        return self.events[-1] if self.dialogue.over else None

    @property
    def answers(self) -> list[str]:
        return self.said[1:]


# --- money ----------------------------------------------------------------------------------------


def test_a_payment_from_end_to_end() -> None:
    talk = Talk().pt(OK, PROGRESS, RESULT)
    assert talk.said == [encode(HOLD).hex(), OK]
    (evidence,) = talk.events
    assert isinstance(evidence, Evidence)
    assert evidence.apdu.text("receipt") == "0231"
    talk.decide(True).pt(END)
    assert talk.answers == [OK, OK, OK]
    outcome = talk.outcome
    assert isinstance(outcome, Completed)
    assert outcome.status == evidence.apdu


def test_nothing_is_answered_before_it_is_stored() -> None:
    talk = Talk().pt(OK, RESULT)
    assert talk.answers == []
    talk.wait(d.DECIDE_MS - 1)
    assert talk.answers == []
    assert talk.pt(RESULT).answers == [], "a repeat changes nothing"
    assert len(talk.events) == 1


def test_evidence_that_is_not_stored_is_refused() -> None:
    talk = Talk().pt(OK, RESULT).decide(False)
    assert talk.answers == [NO]
    talk.pt(FAILED, ABORTED)
    assert talk.answers == [NO, OK, OK]
    assert isinstance(talk.outcome, Disputed)


def test_a_decision_that_comes_too_late_is_a_no() -> None:
    talk = Talk().pt(OK, RESULT).wait(d.DECIDE_MS)
    assert talk.answers == [NO]
    talk.decide(True)
    assert talk.answers == [NO]
    talk.pt(END)
    assert isinstance(talk.outcome, Disputed), "it completed although it was refused"


def test_the_same_result_again_is_answered_the_same_and_offered_once() -> None:
    less = "040f052700870231"
    talk = Talk().pt(OK, RESULT).decide(True).pt(RESULT, less, "040f03870231", END)
    assert [type(e).__name__ for e in talk.events] == ["Evidence", "Completed"]
    assert talk.answers == [OK] * 5


@pytest.mark.parametrize(
    "other", ["040f05270087 0232", "040f0927000400000000 4999", "040f0627000b000976"]
)
def test_another_result_in_the_same_command_is_refused(other: str) -> None:
    talk = Talk().pt(OK, RESULT).decide(True).pt(other.replace(" ", ""))
    assert talk.answers == [OK, NO]
    talk.pt(END)
    assert isinstance(talk.outcome, Disputed)
    assert len([e for e in talk.events if isinstance(e, Evidence)]) == 1


def test_a_result_again_after_it_was_refused() -> None:
    talk = Talk().pt(OK, RESULT).decide(False).pt(RESULT)
    assert talk.answers == [NO, NO]


@pytest.mark.parametrize("last", [ABORTED, "061e00"])
def test_an_abort_after_stored_evidence_is_not_believed(last: str) -> None:
    talk = Talk().pt(OK, RESULT).decide(True).pt(last)
    assert isinstance(talk.outcome, Disputed)


def test_success_and_then_failure_is_not_believed() -> None:
    for last in ((FAILED, END), ("060f02276c",)):
        talk = Talk().pt(OK, RESULT).decide(True).pt(*last)
        assert talk.outcome == Disputed("success and then result 6c")


@pytest.mark.parametrize(
    ("messages", "code"),
    [
        ((FAILED, END), 0x6C),
        ((FAILED, ABORTED), 0x6C),
        ((ABORTED,), 0x6C),
        (("061e00",), 0xFF),
        (("060f022705",), 0x05),
        (("061e03 6f0978".replace(" ", ""),), 0x6F),
    ],
)
def test_a_definite_no(messages: tuple[str, ...], code: int) -> None:
    talk = Talk().pt(OK, *messages)
    assert isinstance(talk.outcome, Aborted)
    assert talk.outcome.code == code
    assert talk.answers == [OK] * len(messages)


@pytest.mark.parametrize(
    ("answer", "code"),
    [
        ("849c00", 0x9C),
        ("848300", 0x83),
        ("841e017d", 0x7D),
        ("841e036f0978", 0x6F),
        ("841e00", 0x1E),
    ],
)
def test_a_refused_command(answer: str, code: int) -> None:
    talk = Talk().pt(answer)
    assert talk.outcome == Negative(code)
    assert talk.answers == []


def test_84_00_is_a_yes() -> None:
    assert Talk().pt("840000").pt(RESULT).events != []


def test_a_completion_without_any_result() -> None:
    talk = Talk().pt(OK, END)
    assert isinstance(talk.outcome, Completed)
    assert talk.outcome.status is None


def test_failure_first_and_success_after_it() -> None:
    talk = Talk().pt(OK, FAILED, RESULT).decide(True).pt(END)
    assert isinstance(talk.outcome, Completed)


@pytest.mark.parametrize(
    "result",
    [
        "040f0704000000 00a000".replace(" ", ""),  # no BCD
        "040f0e270087",  # cut off
        "040f03870231",  # a receipt, and no word on how it went
    ],
)
def test_a_result_that_cannot_be_told_is_refused(result: str) -> None:
    talk = Talk().pt(OK, result)
    assert talk.answers == [NO]
    talk.pt(ABORTED)
    assert isinstance(talk.outcome, Disputed), "whether it was taken back has to be asked"


def test_messages_while_evidence_is_stored_wait_for_it() -> None:
    talk = Talk().pt(OK, RESULT, END)
    assert talk.answers == []
    talk.decide(True)
    assert talk.answers == [OK, OK]
    assert isinstance(talk.outcome, Completed)
    refused = Talk().pt(OK, RESULT, END).decide(False)
    assert isinstance(refused.outcome, Disputed)


def test_too_many_messages_while_evidence_is_stored() -> None:
    talk = Talk().pt(OK, RESULT)
    for number in range(d.HELD_MAX + 1):
        talk.pt(f"04ff01{number:02x}")
    assert isinstance(talk.outcome, Broken)


def test_prints_are_taken_and_their_text_is_not_kept() -> None:
    talk = Talk().pt(OK, "06d106403431313131", "06d300", "06d1020041")
    assert set(talk.answers) == {OK}
    assert "1111" not in repr(talk.events)


def test_what_was_not_offered_is_unknown() -> None:
    for message in ("040105aa230101", "06d000", "123400"):
        talk = Talk().pt(OK, message)
        assert talk.answers == [UNKNOWN], message


# --- before the answer ----------------------------------------------------------------------------


def test_a_result_left_from_before_is_refused() -> None:
    """Registration after a broken payment: a yes to its 04 0F would book it."""
    command = build("0600", {"password": "123456", "config_byte": "de", "currency": "978"})
    talk = Talk(command, results=Results.NONE).pt(RESULT)
    assert talk.answers == [NO]
    assert talk.pt(OK, END).outcome is not None
    running = Talk(command, results=Results.NONE).pt(OK, RESULT)
    assert running.answers == [NO]


def test_what_is_left_from_before_says_nothing_about_us() -> None:
    talk = Talk().pt(END, PROGRESS, RESULT, "06d000")
    assert talk.answers == [OK, OK, NO, UNKNOWN]
    assert talk.events == []
    talk.pt(OK, RESULT).decide(True).pt(END)
    assert isinstance(talk.outcome, Completed)


def test_an_answer_to_a_message_of_before_waits_for_our_command() -> None:
    talk = Talk(deaf=True).pt(END)
    assert talk.said == [encode(HOLD).hex()]
    talk.deaf = False
    talk._bytes(ACK)
    assert talk.answers == [OK]


def test_an_abort_instead_of_an_answer() -> None:
    assert isinstance(Talk().pt(ABORTED).outcome, Disputed)
    asked = Talk(REPEAT, results=Results.REPORT).pt(ABORTED)
    assert isinstance(asked.outcome, Aborted)


def test_end_of_day_totals_are_no_payment() -> None:
    body = "2700040000000009580b00098260f0f5f3" + "00" * 53
    totals = f"040f{len(body) // 2:02x}{body}"
    talk = Talk(build("0501", {"password": "123456"}), results=Results.NONE).pt(OK, totals)
    assert talk.answers == [OK]


# --- time -----------------------------------------------------------------------------------------


def test_no_acknowledgement_at_all() -> None:
    talk = Talk(deaf=True).wait(SENDS_MAX * T2_MS)
    assert talk.said == [encode(HOLD).hex()] * 3
    assert talk.outcome == Broken("no acknowledgement, 3 sends")


def test_acknowledged_and_never_answered() -> None:
    talk = Talk().wait(d.ANSWER_MS - 1)
    assert talk.outcome is None
    talk.wait(1)
    assert talk.outcome == Broken("timed out waiting for an answer (T3)")
    assert len(talk.said) == 1, "never sent again by the application"


def test_a_busy_terminal_and_t4() -> None:
    talk = Talk().pt(OK).wait(d.T4_MS - 1)
    talk.pt(PROGRESS).wait(30_000)
    assert talk.outcome is None
    assert Talk().pt(OK).wait(d.T4_MS).outcome == Broken(
        "timed out waiting for the terminal's end (T4)"
    )


def test_a_new_t4_in_minutes() -> None:
    talk = Talk().pt(OK, "04ff020e01").wait(60_000)
    assert isinstance(talk.outcome, Broken)
    for nothing in ("04ff020e00", "04ff020eff"):
        talk = Talk().pt(OK, nothing).wait(100_000)
        assert talk.outcome is None


def test_no_dialogue_is_endless() -> None:
    talk = Talk().pt(OK)
    for _ in range(30):
        talk.pt("04ff020e99").wait(10_000)
    assert talk.outcome == Broken("no end after 220 s")


def test_the_last_answer_may_get_lost() -> None:
    talk = Talk().pt(OK, RESULT).decide(True)
    talk.deaf = True
    talk.pt(END)
    assert talk.outcome is None
    talk.wait(d.LAST_ANSWER_MS)
    assert isinstance(talk.outcome, Completed)


def test_the_end_told_again() -> None:
    talk = Talk().pt(OK, RESULT).decide(True)
    talk.deaf = True
    talk.pt(END)
    talk.link.receive(ACK, talk.now)  # the ACK comes, and our answer was for nothing
    talk.deaf = False
    for event in talk.link.receive(frame(h(END)), talk.now):
        talk.events += talk.dialogue.on_link(event, talk.now)
    talk._hear()
    assert isinstance(talk.outcome, Completed)


@pytest.mark.parametrize(
    "message", [RESULT, "040f03870231", "040f0e27", "04ff010e", "06d1", "040f02276c"]
)
def test_after_the_end_nothing_changes_it(message: str) -> None:
    talk = Talk().pt(OK, RESULT).decide(True)
    talk.deaf = True
    talk.pt(END, message).wait(d.LAST_ANSWER_MS + T2_MS)
    assert isinstance(talk.outcome, Completed)
    assert [type(e).__name__ for e in talk.events] == ["Evidence", "Completed"]


def test_our_answer_to_a_result_is_never_heard() -> None:
    talk = Talk().pt(OK, RESULT)
    talk.deaf = True
    talk.decide(True).wait(SENDS_MAX * T2_MS)
    assert talk.answers == [OK] * 3
    assert talk.outcome == Broken("no acknowledgement, 3 sends")


def test_a_lost_line_at_every_point() -> None:
    words = [OK, PROGRESS, RESULT, END]
    for count in range(len(words)):
        talk = Talk().pt(*words[:count])
        assert talk.dialogue.lost("unplugged") == [Broken("unplugged")]
        assert talk.dialogue.lost("again") == []
        assert talk.dialogue.on_time(10**9) == []
        assert talk.dialogue.on_link(Delivered(), 0) == []
        assert talk.dialogue.next_deadline() is None
        assert not talk.link.busy


# --- commands that end otherwise ------------------------------------------------------------------


def test_a_command_that_ends_with_its_answer() -> None:
    shown = Talk(SHOW, Ends.WITH_ANSWER, Results.NONE).pt(OK)
    assert isinstance(shown.outcome, Completed)
    assert isinstance(Talk(SHOW, Ends.WITH_ANSWER, Results.NONE).pt(UNKNOWN).outcome, Negative)
    odd = Talk(SHOW, Ends.WITH_ANSWER, Results.NONE).pt("800005")
    assert isinstance(odd.outcome, Completed), "a yes whose length is wrong is a yes"


def test_repeating_a_result() -> None:
    talk = Talk(REPEAT, results=Results.REPORT).pt(OK, RESULT, FAILED, END)
    assert talk.answers == [OK, OK, OK]
    assert isinstance(talk.outcome, Completed)
    assert talk.outcome.status is not None
    assert talk.outcome.status.text("receipt") == "0231"


def test_repeating_a_result_that_cannot_be_read() -> None:
    talk = Talk(REPEAT, results=Results.REPORT).pt(OK, "040f0e27", END)
    assert talk.outcome == Disputed("its result cannot be read")
    asked = Talk(REPEAT, results=Results.NONE).pt(OK, "040f0e27", END)
    assert isinstance(asked.outcome, Completed)


# --- card reads and their abort -------------------------------------------------------------------

CARD = "040f1027000 60c4c0a00000000000008 1ca72f".replace(" ", "")


def reading(**more: int) -> Talk:
    return Talk(READ, Ends.WITH_STATUS, Results.NONE, run_ms=7_000, **more)  # type: ignore[arg-type]


def test_a_card() -> None:
    talk = reading().pt(OK, "04ff020a01", CARD)
    assert isinstance(talk.outcome, Completed)
    assert talk.outcome.completion.tag_text("4c") == "000000000000081ca72f"
    assert talk.answers == [OK, OK]


def test_no_card() -> None:
    assert reading().pt(OK, ABORTED).outcome == Aborted(0x6C, Apdu("061e", {"error": "6c"}))
    assert isinstance(reading().pt(OK, END).outcome, Aborted)
    assert isinstance(reading().pt(OK, "040f0e27").outcome, Disputed)
    assert isinstance(reading().pt(OK, "04ff020a09").wait(7_000).outcome, Broken)


def test_an_abort_ends_a_read() -> None:
    talk = reading().pt(OK).abort()
    assert talk.answers == ["06b000"]
    talk.abort().pt(OK, ABORTED)
    assert talk.answers == ["06b000", OK]
    assert isinstance(talk.outcome, Aborted)


@pytest.mark.parametrize("point", ["sending", "answer"])
def test_an_abort_waits_until_the_read_has_begun(point: str) -> None:
    talk = reading()
    if point == "sending":
        talk = Talk(READ, Ends.WITH_STATUS, Results.NONE, deaf=True)
    talk.abort()
    assert talk.answers == []
    talk.deaf = False
    if point == "sending":
        talk._bytes(ACK)
        assert talk.answers == []
    talk.pt(OK)
    assert talk.answers == ["06b000"]


def test_an_abort_waits_for_the_middle_of_a_block() -> None:
    talk = reading().pt(OK)
    talk._bytes(frame(h(PROGRESS))[:6])
    talk.abort()
    assert talk.answers == []
    talk._bytes(frame(h(PROGRESS))[6:])
    assert talk.answers == [OK, "06b000"]


def test_an_abort_goes_out_after_garbage_too() -> None:
    talk = reading().pt(OK)
    talk._bytes(b"\x10\x02\x10\x99")
    talk.abort().wait(T1_MS)
    assert talk.answers == ["06b000"]


def test_an_abort_that_is_refused_lets_the_read_go_on() -> None:
    talk = reading().pt(OK).abort().pt(UNKNOWN)
    assert talk.wait(1_000).answers == ["06b000"]
    talk.pt(CARD)
    assert isinstance(talk.outcome, Completed)


def test_an_abort_collides_with_the_card() -> None:
    """The terminal's word goes first. Whether it heard the abort is not known: its answer may come yet,
    and must not be taken for one to the next command."""
    talk = reading().pt(OK)
    talk.deaf = True
    talk.abort()
    talk.deaf = False
    talk.pt(CARD)
    assert talk.answers == ["06b000", OK]
    assert talk.outcome is None
    talk.pt(UNKNOWN)
    assert isinstance(talk.outcome, Completed)


def test_after_a_collision_a_silent_terminal_is_not_waited_for_long() -> None:
    talk = reading().pt(OK)
    talk.deaf = True
    talk.abort()
    talk.deaf = False
    talk.pt(CARD).wait(d.ABORT_ANSWER_MS)
    assert isinstance(talk.outcome, Completed)


def test_an_abort_that_collides_with_progress_is_sent_again() -> None:
    talk = reading().pt(OK)
    talk.deaf = True
    talk.abort()
    talk.deaf = False
    talk.pt(PROGRESS)
    assert talk.answers == ["06b000", OK, "06b000"]
    talk.pt(OK, ABORTED).wait(d.ABORT_ANSWER_MS)
    assert isinstance(talk.outcome, Aborted)


def test_aborts_are_bounded() -> None:
    talk = reading().pt(OK)
    talk.deaf = True
    talk.abort()
    for number in range(12):
        talk.pt(f"04ff01{number:02x}")
        talk.link.withdraw()  # our answer is heard, the abort never
        talk.wait(0)
    assert talk.answers.count("06b000") == d.ABORTS_MAX


def test_an_abort_that_nobody_acknowledges() -> None:
    talk = Talk(READ, Ends.WITH_STATUS, Results.NONE, run_ms=60_000).pt(OK)
    talk.deaf = True
    talk.abort().wait(SENDS_MAX * T2_MS)
    assert talk.outcome == Broken("abort: no acknowledgement, 3 sends")


def test_late_words_after_a_card() -> None:
    talk = reading().pt(OK)
    talk.deaf = True
    talk.abort()
    talk.deaf = False
    talk.pt(CARD, PROGRESS).wait(d.ABORT_ANSWER_MS)
    assert isinstance(talk.outcome, Completed)


# --- anything -------------------------------------------------------------------------------------

words = st.one_of(
    st.sampled_from(
        [OK, UNKNOWN, RESULT, FAILED, END, ABORTED, PROGRESS, CARD, "849c00", "06d100"]
    ),
    st.binary(min_size=3, max_size=20).map(bytes.hex),
    st.tuples(
        st.sampled_from(["040f", "04ff", "060f", "061e", "06d3"]), st.binary(max_size=20)
    ).map(lambda p: p[0] + f"{len(p[1]):02x}" + p[1].hex()),
)
kinds = st.sampled_from(
    [
        (HOLD, Ends.WITH_COMPLETION, Results.EVIDENCE),
        (REPEAT, Ends.WITH_COMPLETION, Results.REPORT),
        (REPEAT, Ends.WITH_COMPLETION, Results.NONE),
        (READ, Ends.WITH_STATUS, Results.NONE),
        (SHOW, Ends.WITH_ANSWER, Results.NONE),
    ]
)
deeds = st.one_of(
    words, st.sampled_from(["stored", "rejected", "abort", "deaf", "hears"]), st.integers(0, 60_000)
)


@given(kinds, st.lists(deeds, max_size=15))
def test_any_words_in_any_order(kind: tuple[Apdu, Ends, Results], script: list[str | int]) -> None:
    """It never crashes, ends at last, offers evidence once, and completes a payment only with evidence
    that was stored."""
    talk = Talk(*kind)
    stored = False
    for deed in script:
        if talk.dialogue.over:
            break
        if isinstance(deed, int):
            talk.wait(deed)
        elif deed in ("stored", "rejected"):
            offered = any(isinstance(e, Evidence) for e in talk.events)
            stored |= offered and deed == "stored"
            talk.decide(deed == "stored")
        elif deed in ("deaf", "hears"):
            talk.deaf = deed == "deaf"
        elif deed == "abort":
            talk.abort()
        else:
            talk.pt(deed)
    talk.wait(d.DIALOGUE_MS_MAX + d.LAST_ANSWER_MS)
    assert talk.dialogue.over
    assert len([e for e in talk.events if isinstance(e, Evidence)]) <= 1
    assert len(talk.events) - len([e for e in talk.events if isinstance(e, Evidence)]) == 1
    if isinstance(talk.outcome, Completed) and kind[2] is Results.EVIDENCE and talk.outcome.status:
        assert stored
