"""Message numbers (1F73): offered, agreed, counted, told again."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.zvt_talk import ABORTED, CARD, END, HOLD, NO, OK, RESULT, Talk

from drivers.terminal.zvt.apdu import Apdu
from drivers.terminal.zvt.codec import build, decode, encode, tag
from drivers.terminal.zvt.numbering import LAST, Numbering, number_of, with_tag
from drivers.terminal.zvt.outcomes import Completed, Evidence, Later, Negative, Printed

REGISTER = build(
    "0600",
    {"password": "123456", "config_byte": "de", "currency": "978"},
    (tag("1f73", hex_value="000000"),),
)
ECHO = "060f0a 1900 0606 1f7303000000".replace(" ", "")


def n(message: str, number: int, after: str | None = None) -> str:
    """`message` with its number."""
    return encode(with_tag(decode(bytes.fromhex(message), after), number)).hex()


def numbers(talk: Talk) -> list[int | None]:
    return [number_of(decode(bytes.fromhex(said))) for said in talk.said]


def agreed(last: int = 0) -> Numbering:
    numbering = Numbering()
    Talk(REGISTER, "registration", numbering=numbering).pt(OK, ECHO)
    assert numbering.active
    numbering._last = last
    return numbering


def test_numbers_are_agreed_on() -> None:
    numbering = Numbering()
    talk = Talk(REGISTER, "registration", numbering=numbering).pt(OK)
    assert not numbering.active
    talk.pt(ECHO)
    assert isinstance(talk.outcome, Completed)
    assert numbering.active
    assert talk.answers == [OK], "the completion is still answered without"


@pytest.mark.parametrize(
    "completion", [END, "060f021900", ECHO.replace("000000", "000001"), "061e016c"]
)
def test_a_terminal_that_does_not_agree(completion: str) -> None:
    numbering = Numbering()
    Talk(REGISTER, "registration", numbering=numbering).pt(OK, completion)
    assert not numbering.active
    talk = Talk(HOLD, numbering=numbering).pt(OK, n(RESULT, 2)).decide(True).pt(END)
    assert numbers(talk) == [None] * 3


def test_a_payment_in_numbers() -> None:
    talk = Talk(HOLD, numbering=agreed())
    assert numbers(talk) == [1]
    talk.pt(n(OK, 1), n("04ff010e", 2), n(RESULT, 3)).decide(True).pt(n(END, 4))
    assert numbers(talk) == [1, 2, 3, 4]
    assert isinstance(talk.outcome, Completed)
    again = Talk(HOLD, numbering=talk.numbering)
    assert numbers(again) == [5]


def test_numbers_begin_again_at_one() -> None:
    assert numbers(Talk(HOLD, numbering=agreed(LAST - 1))) == [LAST]
    assert numbers(Talk(HOLD, numbering=agreed(LAST))) == [1]


def test_a_message_told_again_is_answered_again_and_done_once() -> None:
    talk = Talk(HOLD, numbering=agreed()).pt(n(OK, 1), n("06d10200c1", 2), n("06d10200c1", 2))
    talk.pt(n("06d10200c1", 3), n(RESULT, 4)).decide(True).pt(n(RESULT, 4), n(RESULT, 4), n(END, 5))
    assert numbers(talk) == [1, 2, 2, 3, 4, 4, 4, 5]
    assert [type(e) for e in talk.events] == [Evidence, Completed]
    (paper,) = talk.told
    assert isinstance(paper, Printed)
    assert len(paper.lines) == 2, "two equal lines are two, one line sent twice is one"


def test_a_result_told_again_while_it_is_stored() -> None:
    talk = Talk(HOLD, numbering=agreed()).pt(n(OK, 1), n(RESULT, 2), n(RESULT, 2))
    assert numbers(talk) == [1]
    talk.pt(n("04ff010e", 3), n(RESULT, 2))
    talk.decide(False)
    assert talk.said[1:] == [n(NO, 2), n(OK, 3), n(NO, 2)]
    assert len(talk.events) == 1


@pytest.mark.parametrize("number", [2, 3])
def test_asking_for_a_result_again_brings_it_under_any_number(number: int) -> None:
    pay = build("0601", {"amount_minor": 5000})
    talk = Talk(pay, "payment", numbering=agreed()).pt(n(OK, 1), n(RESULT, 2)).decide(Later())
    talk.pt(n(RESULT, number))
    assert len(talk.events) == 2
    talk.decide(True)
    assert numbers(talk) == [1, 2, number]


def test_an_answer_with_another_number_is_not_ours() -> None:
    talk = Talk(HOLD, numbering=agreed(10)).pt(n("848300", 9))
    assert talk.outcome is None, "it refused something before"
    talk.pt(n(OK, 11), n(RESULT, 12))
    assert len(talk.events) == 1


def test_an_answer_to_the_command_before_is_not_ours_either() -> None:
    """That number was asked for, once."""
    before = Talk(HOLD, numbering=agreed(10)).pt(n(OK, 11), n(RESULT, 12)).decide(True)
    before.pt(n(END, 13))
    talk = Talk(HOLD, numbering=before.numbering).pt(n("848300", 11))
    assert talk.outcome is None
    assert isinstance(talk.pt(n("848300", 14)).outcome, Negative)


def test_what_is_left_from_before_keeps_its_number() -> None:
    talk = Talk(HOLD, numbering=agreed(10)).pt(n(RESULT, 9), n(OK, 11), n(RESULT, 12))
    assert numbers(talk) == [11, 9]
    assert talk.said[1] == n(NO, 9)
    assert len(talk.events) == 1


def test_a_terminal_that_forgets_its_numbers_is_believed() -> None:
    talk = Talk(HOLD, numbering=agreed()).pt(OK, RESULT).decide(True).pt(END)
    assert isinstance(talk.outcome, Completed)
    assert numbers(talk) == [1, None, None]


def test_an_abort_has_a_number_of_its_own() -> None:
    read = build("06c0", {"timeout_s": 5})
    talk = Talk(read, "read_card", 7_000, numbering=agreed()).pt(n(OK, 1)).abort()
    assert numbers(talk) == [1, 2]
    talk.pt(n(OK, 2), n(ABORTED, 3))
    assert numbers(talk) == [1, 2, 3]
    assert talk.dialogue.over


def test_an_abort_that_collides_with_numbers() -> None:
    read = build("06c0", {"timeout_s": 5})
    talk = Talk(read, "read_card", 7_000, numbering=agreed()).pt(n(OK, 1))
    talk.deaf = True
    talk.abort()
    talk.deaf = False
    talk.pt(n(CARD, 2))
    assert numbers(talk) == [1, 2, 2], "both were the next one"
    talk.pt(n("848300", 2))
    assert isinstance(talk.outcome, Completed)


def test_log_off_and_registration_end_the_numbers() -> None:
    numbering = agreed(5)
    talk = Talk(build("0602", {}), "log_off", numbering=numbering)
    assert numbers(talk) == [6]
    talk.pt(n(OK, 6))
    assert not numbering.active
    again = Talk(REGISTER, "registration", numbering=agreed(5))
    assert again.said == [encode(REGISTER).hex()]


def test_answers_and_completions_that_have_a_form_of_their_own() -> None:
    for after, message in (
        ("0501", "060f01dc"),
        ("0501", "060f0bf0f0f7322e31342e313500"),
        (
            "0fa1",
            "060f2531374644314533434745522d4150502d76322e302e39202020353235323335333532342e34",
        ),
        ("06e1", "8000010d"),
        (None, "849d0704000000002200"),
        (None, "06d1020041"),
        (None, "04ff010e"),
        (None, "04ff020e01"),
    ):
        plain = decode(bytes.fromhex(message), after)
        told = decode(bytes.fromhex(n(message, 7, after)), after)
        assert number_of(told) == 7, message
        assert (told.parts, told.raw) == (plain.parts, plain.raw), message
    told = decode(encode(with_tag(build("0830", {"language": "00"}), 1)))
    assert told.text("language") == "00"


@pytest.mark.parametrize("value", ["", "00", "00000a", "00000001"])
def test_a_number_that_is_none(value: str) -> None:
    assert number_of(build("060f", {}, (tag("1f73", hex_value=value),))) is None
    assert number_of(Apdu("060f")) is None


@given(st.integers(1, LAST), st.lists(st.sampled_from([RESULT, "04ff010e", END, "06d1020041"])))
def test_any_message_carries_its_number_back(start: int, messages: list[str]) -> None:
    talk = Talk(HOLD, numbering=agreed(start - 1))
    mine = number_of(decode(bytes.fromhex(talk.said[0])))
    assert mine == start
    talk.pt(n(OK, start))
    number = start
    for message in messages:
        if talk.dialogue.over:
            break
        number = number % LAST + 1
        talk.pt(n(message, number)).decide(True)
        assert number_of(decode(bytes.fromhex(talk.said[-1]))) == number
