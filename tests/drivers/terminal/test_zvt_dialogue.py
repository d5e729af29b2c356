"""One command at a time, word by word: what the driver answers, when it gives up, and what it concludes."""

import pytest
from support.zvt_talk import (
    ABORTED,
    ACK,
    CARD,
    END,
    FAILED,
    HOLD,
    NO,
    OK,
    PROGRESS,
    REPEAT,
    RESULT,
    SHOW,
    UNKNOWN,
    Talk,
    h,
    reading,
)

from drivers.terminal.zvt import phases
from drivers.terminal.zvt.codec import build, encode
from drivers.terminal.zvt.frames import SENDS_MAX, T1_MS, T2_MS, Delivered, frame
from drivers.terminal.zvt.outcomes import (
    Aborted,
    Broken,
    Completed,
    Disputed,
    Evidence,
    Negative,
)

NAK = b"\x15"

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
    talk.wait(phases.DECIDE_MS - 1)
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
    talk = Talk().pt(OK, RESULT).wait(phases.DECIDE_MS)
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
    for number in range(phases.HELD_MAX + 1):
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
    talk = Talk(command, "registration").pt(RESULT)
    assert talk.answers == [UNKNOWN]
    assert talk.pt(OK, END).outcome is not None
    running = Talk(command, "registration").pt(OK, RESULT)
    assert running.answers == [UNKNOWN]
    for name in ("status", "totals", "card_poll"):
        known = Talk(command, name).pt(RESULT, OK, RESULT, FAILED)
        assert known.answers == [NO, NO, OK], name


def test_a_result_left_from_before_is_no_card() -> None:
    talk = reading().pt(OK, RESULT)
    assert talk.answers == [NO]
    assert talk.outcome is None
    assert isinstance(talk.pt(CARD).outcome, Completed)


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
    asked = Talk(REPEAT, "repeat").pt(ABORTED)
    assert isinstance(asked.outcome, Aborted)


def test_end_of_day_totals_are_no_payment() -> None:
    body = "2700040000000009580b00098260f0f5f3" + "00" * 53
    totals = f"040f{len(body) // 2:02x}{body}"
    talk = Talk(build("0501", {"password": "123456"}), "status").pt(OK, totals)
    assert talk.answers == [OK]


# --- time -----------------------------------------------------------------------------------------


def test_no_acknowledgement_at_all() -> None:
    talk = Talk(deaf=True).wait(SENDS_MAX * T2_MS)
    assert talk.said == [encode(HOLD).hex()] * 3
    assert talk.outcome == Broken("no acknowledgement, 3 sends")


def test_acknowledged_and_never_answered() -> None:
    talk = Talk().wait(phases.ANSWER_MS - 1)
    assert talk.outcome is None
    talk.wait(1)
    assert talk.outcome == Broken("timed out waiting for an answer (T3)")
    assert len(talk.said) == 1, "never sent again by the application"


def test_a_busy_terminal_and_t4() -> None:
    talk = Talk().pt(OK).wait(phases.T4_MS - 1)
    talk.pt(PROGRESS).wait(30_000)
    assert talk.outcome is None
    assert Talk().pt(OK).wait(phases.T4_MS).outcome == Broken(
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
    talk.wait(phases.LAST_ANSWER_MS)
    assert isinstance(talk.outcome, Completed)


def test_the_last_answer_may_be_refused() -> None:
    talk = Talk().pt(OK, RESULT).decide(True)
    talk.deaf = True
    talk.pt(END)
    for _ in range(SENDS_MAX):
        talk._bytes(NAK)
        talk.wait(T1_MS)
    assert isinstance(talk.outcome, Completed)


def test_the_end_told_again() -> None:
    talk = Talk().pt(OK, RESULT).decide(True)
    talk.deaf = True
    talk.pt(END)
    talk.link.receive(ACK, talk.now)  # the ACK comes, and our answer was for nothing
    talk.deaf = False
    for event in talk.link.receive(frame(h(END)), talk.now):
        talk.keep(talk.dialogue.on_link(event, talk.now))
    talk._hear()
    assert isinstance(talk.outcome, Completed)


@pytest.mark.parametrize(
    "message", [RESULT, "040f03870231", "040f0e27", "04ff010e", "06d1", "040f02276c"]
)
def test_after_the_end_nothing_changes_it(message: str) -> None:
    talk = Talk().pt(OK, RESULT).decide(True)
    talk.deaf = True
    talk.pt(END, message).wait(phases.LAST_ANSWER_MS + T2_MS)
    assert isinstance(talk.outcome, Completed)
    assert [type(e).__name__ for e in talk.events] == ["Evidence", "Completed"]


def test_an_end_just_before_the_bound() -> None:
    talk = Talk().pt(OK, RESULT).decide(True)
    for _ in range(3):
        talk.wait(phases.DIALOGUE_MS_MAX // 3 - 1_000).pt(PROGRESS)
    talk.deaf = True
    talk.pt(END).wait(4_000)
    assert isinstance(talk.outcome, Completed)


def test_a_line_lost_after_the_end_changes_nothing() -> None:
    talk = Talk().pt(OK, RESULT).decide(True)
    talk.deaf = True
    talk.pt(END)
    (outcome,) = talk.dialogue.lost("unplugged")
    assert isinstance(outcome, Completed)


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
    shown = Talk(SHOW, "display").pt(OK)
    assert isinstance(shown.outcome, Completed)
    assert isinstance(Talk(SHOW, "display").pt(UNKNOWN).outcome, Negative)
    odd = Talk(SHOW, "display").pt("800005")
    assert isinstance(odd.outcome, Completed), "a yes whose length is wrong is a yes"


def test_repeating_a_result() -> None:
    talk = Talk(REPEAT, "repeat").pt(OK, RESULT, FAILED, END)
    assert talk.answers == [OK, OK, OK]
    assert isinstance(talk.outcome, Completed)
    assert talk.outcome.status is not None
    assert talk.outcome.status.text("receipt") == "0231"


def test_repeating_a_result_that_cannot_be_read() -> None:
    talk = Talk(REPEAT, "repeat").pt(OK, "040f0e27", END)
    assert talk.outcome == Disputed("its result cannot be read")
    assert talk.answers == [NO, OK]
    ended = Talk(REPEAT, "repeat").pt(OK, "040f0e27", ABORTED)
    assert ended.outcome == Disputed("its result cannot be read")
    asked = Talk(REPEAT, "totals").pt(OK, "040f0e27", END)
    assert isinstance(asked.outcome, Completed)
