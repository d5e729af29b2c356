"""Card reads and their abort, word by word; and any words in any order."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.zvt_talk import (
    ABORTED,
    ACK,
    CARD,
    END,
    FAILED,
    HOLD,
    OK,
    PROGRESS,
    READ,
    REPEAT,
    RESULT,
    SHOW,
    UNKNOWN,
    Talk,
    h,
    reading,
)

from drivers.terminal.zvt import phases
from drivers.terminal.zvt.apdu import Apdu
from drivers.terminal.zvt.frames import SENDS_MAX, T1_MS, T2_MS, frame
from drivers.terminal.zvt.outcomes import (
    Aborted,
    Broken,
    Completed,
    Disputed,
    Evidence,
)
from drivers.terminal.zvt.sequences import SEQUENCES

# --- card reads and their abort -------------------------------------------------------------------


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
        talk = Talk(READ, "read_card", deaf=True)
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
    talk.pt(CARD).wait(phases.ABORT_ANSWER_MS)
    assert isinstance(talk.outcome, Completed)


def test_an_abort_that_collides_with_progress_is_sent_again() -> None:
    talk = reading().pt(OK)
    talk.deaf = True
    talk.abort()
    talk.deaf = False
    talk.pt(PROGRESS)
    assert talk.answers == ["06b000", OK, "06b000"]
    talk.pt(OK, ABORTED).wait(phases.ABORT_ANSWER_MS)
    assert isinstance(talk.outcome, Aborted)


def test_aborts_are_bounded() -> None:
    talk = reading().pt(OK)
    talk.deaf = True
    talk.abort()
    for number in range(12):
        talk.pt(f"04ff01{number:02x}")
        talk.link.withdraw()  # our answer is heard, the abort never
        talk.wait(0)
    assert talk.answers.count("06b000") == phases.ABORTS_MAX


def test_an_abort_that_nobody_acknowledges() -> None:
    talk = Talk(READ, "read_card", run_ms=60_000).pt(OK)
    talk.deaf = True
    talk.abort().wait(SENDS_MAX * T2_MS)
    assert talk.outcome == Broken("abort: no acknowledgement, 3 sends")


def test_late_words_after_a_card() -> None:
    talk = reading().pt(OK)
    talk.deaf = True
    talk.abort()
    talk.deaf = False
    talk.pt(CARD, PROGRESS).wait(phases.ABORT_ANSWER_MS)
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
        (HOLD, "reserve"),
        (HOLD, "end_of_day"),
        (REPEAT, "repeat"),
        (REPEAT, "totals"),
        (REPEAT, "card_poll"),
        (READ, "read_card"),
        (SHOW, "display"),
        (SHOW, "display_key"),
    ]
)
deeds = st.one_of(
    words, st.sampled_from(["stored", "rejected", "abort", "deaf", "hears"]), st.integers(0, 60_000)
)


@given(kinds, st.lists(deeds, max_size=15))
def test_any_words_in_any_order(kind: tuple[Apdu, str], script: list[str | int]) -> None:
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
    talk.wait(SEQUENCES[kind[1]].longest_ms + phases.LAST_ANSWER_MS)
    assert talk.dialogue.over
    assert len([e for e in talk.events if isinstance(e, Evidence)]) <= 1
    assert len(talk.events) - len([e for e in talk.events if isinstance(e, Evidence)]) == 1
    if isinstance(talk.outcome, Completed) and SEQUENCES[kind[1]].money and talk.outcome.status:
        assert stored
