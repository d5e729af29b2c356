"""Goods that come later or in part (06 01), the end of a day (06 50), and the key of 06 E1, word by word."""

import pytest
from support.zvt_talk import ABORTED, END, FAILED, NO, OK, PROGRESS, RESULT, UNKNOWN, Talk

from drivers.terminal.zvt import phases
from drivers.terminal.zvt.codec import build
from drivers.terminal.zvt.outcomes import (
    Aborted,
    Broken,
    Completed,
    Disputed,
    Evidence,
    Later,
    Negative,
    Partly,
)

PAY = build("0601", {"payment_type": "40", "currency": "978", "amount_minor": 5000})
AGAIN, PART = "849c00", "849d0704000000001295"
BOOKED_PART = "040f102700040000000012958702310b000975"


def paying() -> Talk:
    return Talk(PAY, "payment").pt(OK, RESULT)


# --- the vending handshake ------------------------------------------------------------------------


def test_goods_that_come_later() -> None:
    talk = paying().decide(Later())
    assert talk.answers == [AGAIN]
    talk.pt(RESULT)
    assert len(talk.events) == 2, "the result told again is evidence again"
    talk.decide(Later()).pt(RESULT).decide(True).pt(END)
    assert talk.answers == [AGAIN, AGAIN, OK, OK]
    assert [type(e) for e in talk.events] == [Evidence, Evidence, Evidence, Completed]


def test_a_terminal_that_waits_no_longer() -> None:
    talk = paying().decide(Later()).pt(FAILED, END)
    assert isinstance(talk.outcome, Aborted)
    assert talk.outcome.code == 0x6C
    assert talk.answers == [AGAIN, OK, OK]


def test_goods_that_do_not_come_at_last() -> None:
    talk = paying().decide(Later()).pt(RESULT).decide(False).pt(FAILED, ABORTED)
    assert talk.answers == [AGAIN, NO, OK, OK]
    assert isinstance(talk.outcome, Disputed)


@pytest.mark.parametrize("told", [(), (BOOKED_PART,), (BOOKED_PART, BOOKED_PART)])
def test_a_part_of_the_goods(told: tuple[str, ...]) -> None:
    talk = paying().decide(Partly(1295)).pt(*told, END)
    assert talk.answers == [PART] + [OK] * (len(told) + 1)
    outcome = talk.outcome
    assert isinstance(outcome, Completed)
    assert outcome.issued_minor == 1295
    assert outcome.status is not None
    assert outcome.status.text("receipt") == "0231"


def test_a_result_told_again_gets_the_same_part() -> None:
    talk = paying().decide(Partly(1295)).pt(RESULT)
    assert talk.answers == [PART, PART]
    assert len(talk.events) == 1


def test_another_part_than_was_issued() -> None:
    talk = paying().decide(Partly(1295)).pt(BOOKED_PART.replace("1295", "1296"))
    assert talk.answers == [PART, NO]
    assert isinstance(talk.pt(END).outcome, Disputed)


def test_a_part_that_the_terminal_takes_back() -> None:
    assert isinstance(paying().decide(Partly(1295)).pt(FAILED, ABORTED).outcome, Disputed)


@pytest.mark.parametrize("word", [Later(), Partly(1)])
def test_no_goods_with_a_hold(word: Later | Partly) -> None:
    talk = Talk().pt(OK, RESULT)
    with pytest.raises(ValueError, match="0622 hands out no goods"):
        talk.decide(word)
    assert talk.answers == [], "and it still waits"
    talk.decide(True)
    assert talk.answers == [OK]


# --- the end of a day -----------------------------------------------------------------------------

CLOSE = build("0650", {"password": "123456"})
DAY = "270004000000012345" + "0b000982" + "60f0f5f3" + "02310234" + "05000000012345" + "00" * 42
TOTALS = f"040f{len(DAY) // 2:02x}{DAY}"


def closing() -> Talk:
    return Talk(CLOSE, "end_of_day").pt(OK, PROGRESS)


def test_the_totals_are_evidence() -> None:
    talk = closing().pt(TOTALS)
    (evidence,) = talk.events
    assert isinstance(evidence, Evidence)
    assert evidence.apdu.integer("amount_minor") == 12345
    assert talk.answers == [OK]
    talk.decide(True).pt(TOTALS, "06d300", END)
    assert talk.answers == [OK] * 5
    assert isinstance(talk.outcome, Completed)
    assert talk.outcome.status == evidence.apdu


def test_several_hosts_have_several_totals() -> None:
    talk = closing().pt(TOTALS).decide(True).pt(TOTALS.replace("000982", "000983"), END)
    assert len(talk.events) == 2
    assert isinstance(talk.outcome, Completed)


def test_totals_that_cannot_be_stored() -> None:
    talk = closing().pt(TOTALS).decide(False).pt(TOTALS, END)
    assert talk.answers == [OK, NO, NO, OK]
    assert isinstance(talk.outcome, Disputed)


def test_a_single_booking_is_no_day() -> None:
    talk = closing().pt(RESULT)
    assert talk.answers == [OK, NO]
    assert talk.events == []
    talk.pt(FAILED, ABORTED)
    assert isinstance(talk.outcome, Aborted)


def test_a_day_without_totals_by_brand() -> None:
    talk = closing().pt("040f09270004000000001234").decide(True).pt(END)
    assert [type(e) for e in talk.events] == [Evidence, Completed]


@pytest.mark.parametrize("what_next", ["060f0227e0", "060f0227fc", "060f00"])
def test_a_day_that_ends_with_an_update(what_next: str) -> None:
    talk = closing().pt(TOTALS).decide(True).pt(what_next)
    assert isinstance(talk.outcome, Completed)


def test_days_that_fail() -> None:
    assert closing().pt("061e01b8").outcome == closing().pt("061e01b8").outcome
    assert isinstance(closing().pt("061e01b8").outcome, Aborted)
    assert isinstance(closing().pt("060f022777").outcome, Aborted)
    assert isinstance(closing().pt(TOTALS).decide(True).pt(ABORTED).outcome, Disputed)


def test_a_day_may_take_longer_than_a_payment() -> None:
    talk = closing()
    for _ in range(5):
        talk.wait(100_000).pt(PROGRESS)
    assert talk.outcome is None
    talk.wait(phases.T4_MS)
    assert talk.outcome == Broken("timed out waiting for the terminal's end (T4)"), "but not silent"
    chatty = closing()
    for _ in range(10):
        chatty.wait(100_000).pt(PROGRESS)
    assert chatty.outcome == Broken("no end after 900 s")


# --- the key of 06 E1 -----------------------------------------------------------------------------

ASK = build("06e1", {"display_s": 30, "line_1": "OK?"})


def asking() -> Talk:
    return Talk(ASK, "display_key", 30_000 + phases.ANSWER_MS)


@pytest.mark.parametrize("key", ["0d", "18", "1b", "6c", "dc", "31", "06"])
def test_a_key(key: str) -> None:
    outcome = asking().pt(f"800001{key}").outcome
    assert isinstance(outcome, Completed)
    assert outcome.completion.text("key") == key


def test_a_key_takes_its_time() -> None:
    talk = asking().wait(30_000 + phases.ANSWER_MS - 1)
    assert talk.outcome is None
    assert isinstance(talk.wait(1).outcome, Broken)


@pytest.mark.parametrize("answer", [OK, UNKNOWN])
def test_a_question_taken_back(answer: str) -> None:
    """The answer to the abort has no key; the question still has its own end."""
    talk = asking().abort()
    assert talk.answers == ["06b000"]
    talk.pt(answer)
    assert talk.outcome is None
    outcome = talk.pt("8000016c").outcome
    assert isinstance(outcome, Completed)
    assert outcome.completion.text("key") == "6c"


def test_a_key_and_an_abort_at_once() -> None:
    talk = asking().abort().pt("8000010d")
    assert talk.outcome is None, (
        "the answer to the abort would be taken for one to the next command"
    )
    assert isinstance(talk.pt(UNKNOWN).outcome, Completed)


def test_a_question_that_is_refused() -> None:
    assert asking().pt(UNKNOWN).outcome == Negative(0x83)


def test_a_text_is_not_aborted() -> None:
    talk = Talk(build("06e0", {"line_1": "hello"}), "display").abort()
    assert talk.answers == []
