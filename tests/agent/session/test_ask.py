"""What the terminal's answers prove about a session, and what they do not."""

from dataclasses import replace
from typing import Any

import pytest
from support.session_events import HOLD, RESULT, Story, reach

from agent.session import E, Effect, S, Session
from agent.session.ask import (
    Answer,
    LastSeen,
    judge_capture,
    judge_hold,
    judge_release,
    question_of,
    ref_key,
)

TID = HOLD["terminal_id"]
OURS = HOLD["receipt"]
ANOTHER = 17  # a receipt of nobody in these tests


def last(
    amount_minor: int | None, ref: dict[str, Any], result: int = 0, **details: Any
) -> LastSeen:
    return LastSeen(result, amount_minor, ref, details)


def answer(
    open_receipts: tuple[int, ...] = (),
    seen: LastSeen | None = None,
    terminal_id: str | None = TID,
    known: tuple[dict[str, Any], ...] = (),
    known_open: tuple[int, ...] = (),
    complete: bool = True,
    **more: Any,
) -> Answer:
    return Answer(
        terminal_id,
        open_receipts,
        seen,
        frozenset(ref_key(ref) for ref in known),
        frozenset(known_open),
        complete,
        **more,
    )


# The dialogue of the hold broke before any evidence, or after it.
BLIND = Story().all(E.TAPPED, E.UNCLEAR).session
SEEN = reach(S.HOLD_UNCLEAR).session
CAPTURE = reach(S.CAPTURE_UNCLEAR).session  # 4.80 of 50.00
CAPTURE_SEEN = reach(S.CAPTURING).all(E.EVIDENCE, E.UNCLEAR).session
RELEASE = reach(S.RELEASE_UNCLEAR).session
RELEASE_SEEN = reach(S.RELEASING).tell(E.EVIDENCE, amount_minor=0).tell(E.UNCLEAR).session
# A hold that was raised twice: what raised it is no end of it.
RAISE_REF = HOLD | {"receipt": 233, "trace": 977}
RAISED_TO_COST = replace(CAPTURE, raise_refs=((233, 977),), held_minor=480)
RAISED_LAST = replace(CAPTURE, raise_result=RAISE_REF, held_minor=480)
NEW_HOLD = HOLD | {"receipt": 240, "trace": 990}
BEFORE = {"receipt": 230, "trace": 974}  # the last result when the card was tapped

HOLDS: list[tuple[str, Session, Answer, E | None]] = [
    # evidence stored: the list of open holds decides
    ("seen, listed", SEEN, answer((OURS,)), E.HOLD_FOUND),
    ("seen, listed with others", SEEN, answer((5, OURS, 9)), E.HOLD_FOUND),
    ("seen, not listed", SEEN, answer(), E.VANISHED),
    ("seen, only others listed", SEEN, answer((5, 9)), E.VANISHED),
    ("seen, nothing booked after it", SEEN, answer((), last(5000, HOLD)), E.HOLD_ABSENT),
    ("seen, claimed by another session too", SEEN, answer((OURS,), known_open=(OURS,)), None),
    ("seen, claimed but not listed", SEEN, answer((), known_open=(OURS,)), E.VANISHED),
    ("seen, another terminal", SEEN, answer((OURS,), terminal_id="99"), None),
    ("seen, another terminal without it", SEEN, answer((), terminal_id="99"), None),
    ("seen, a terminal without a name", SEEN, answer((OURS,), terminal_id=None), E.HOLD_FOUND),
    # nothing stored: absent only when the terminal lists no stranger
    ("blind, nothing listed", BLIND, answer(), E.HOLD_ABSENT),
    ("blind, only known listed", BLIND, answer((5, 9), known_open=(5, 9)), E.HOLD_ABSENT),
    ("blind, a stranger, no last result", BLIND, answer((240,)), None),
    ("blind, adopted", BLIND, answer((240,), last(5000, NEW_HOLD)), E.HOLD_FOUND),
    ("blind, partly approved", BLIND, answer((240,), last(1, NEW_HOLD)), E.HOLD_FOUND),
    (
        "blind, adopted among known ones",
        BLIND,
        answer((5, 240), last(5000, NEW_HOLD), known_open=(5,)),
        E.HOLD_FOUND,
    ),
    ("blind, more than asked", BLIND, answer((240,), last(5001, NEW_HOLD)), None),
    ("blind, amount nothing", BLIND, answer((240,), last(0, NEW_HOLD)), None),
    ("blind, amount not said", BLIND, answer((240,), last(None, NEW_HOLD)), None),
    ("blind, the last try failed", BLIND, answer((240,), last(5000, NEW_HOLD, result=5)), None),
    ("blind, the result is another receipt", BLIND, answer((241,), last(5000, NEW_HOLD)), None),
    (
        "blind, the result is another session's",
        BLIND,
        answer((240,), last(5000, NEW_HOLD), known=(NEW_HOLD,)),
        None,
    ),
    (
        "blind, the receipt was used before",
        BLIND,
        answer((240,), last(5000, NEW_HOLD), known=(NEW_HOLD | {"trace": 12},)),
        E.HOLD_FOUND,
    ),
    (
        "blind, the receipt is a known open hold",
        BLIND,
        answer((240, 5), last(5000, NEW_HOLD), known_open=(240,)),
        None,
    ),
    (
        "blind, the result is of another terminal",
        BLIND,
        answer((240,), last(5000, NEW_HOLD | {"terminal_id": "99"})),
        None,
    ),
    # a result that was there before the intent is somebody else's
    (
        "blind, the result from before the tap",
        BLIND,
        answer((230,), last(5000, HOLD | BEFORE)),
        None,
    ),
    (
        "blind, the receipt from before the tap, used again",
        BLIND,
        answer((230,), last(5000, HOLD | BEFORE | {"trace": 990})),
        E.HOLD_FOUND,
    ),
    (
        "blind, the terminal had no result before the tap",
        replace(BLIND, before=ref_key({})),
        answer((240,), last(5000, NEW_HOLD)),
        E.HOLD_FOUND,
    ),
    (
        "blind, what was there before the tap is not known",
        replace(BLIND, before=None),
        answer((240,), last(5000, NEW_HOLD)),
        None,
    ),
    # who cannot be read may have made it
    (
        "blind, something is set aside",
        BLIND,
        answer((240,), last(5000, NEW_HOLD), set_aside=True),
        None,
    ),
    ("blind, something is set aside, nothing listed", BLIND, answer(set_aside=True), E.HOLD_ABSENT),
    ("seen, listed, something is set aside", SEEN, answer((OURS,), set_aside=True), E.HOLD_FOUND),
    # what a person took off the list may still be open, and is nobody's claim
    (
        "blind, only what was closed by hand",
        BLIND,
        answer((5,), by_hand=frozenset({5})),
        E.HOLD_ABSENT,
    ),
    (
        "seen, its receipt is of one closed by hand",
        SEEN,
        answer((OURS,), by_hand=frozenset({OURS})),
        E.HOLD_FOUND,
    ),
    ("blind, another terminal than at the tap", BLIND, answer((), terminal_id="99"), None),
    (
        "blind, the terminal at the tap not known",
        replace(BLIND, terminal_id=None),
        answer((), terminal_id="99"),
        E.HOLD_ABSENT,
    ),
]


@pytest.mark.parametrize(
    ("session", "said", "event"), [h[1:] for h in HOLDS], ids=[h[0] for h in HOLDS]
)
def test_hold(session: Session, said: Answer, event: E | None) -> None:
    judged = judge_hold(session, said)
    assert (None if judged is None else judged.event) == event


# Listed before it could be told, with and without evidence of the hold.
LATE = reach(S.HOLD_UNCLEAR).all(E.VANISHED, E.RECORDED).session
LATE_BLIND = Story().all(E.TAPPED, E.UNCLEAR, E.VANISHED, E.RECORDED).session
LISTED: list[tuple[str, Session, Answer, E | None]] = [
    ("blind, nothing listed", LATE_BLIND, answer(), E.HOLD_ABSENT),
    ("blind, adopted", LATE_BLIND, answer((240,), last(5000, NEW_HOLD)), E.HOLD_FOUND),
    ("blind, a stranger", LATE_BLIND, answer((240,)), None),
    ("blind, another terminal", LATE_BLIND, answer(terminal_id="99"), None),
    ("seen, listed", LATE, answer((OURS,)), E.HOLD_FOUND),
    ("seen, nothing booked after it", LATE, answer((), last(5000, HOLD)), E.HOLD_ABSENT),
    ("seen, released since", LATE, answer((), last(5000, RESULT)), E.CONFIRMED),
    ("seen, gone", LATE, answer((), last(17, RESULT)), E.VANISHED),
    ("seen, not listed in part", LATE, answer((5,), complete=False), None),
]


@pytest.mark.parametrize(
    ("session", "said", "event"), [e[1:] for e in LISTED], ids=[e[0] for e in LISTED]
)
def test_a_hold_that_was_listed_in_doubt(session: Session, said: Answer, event: E | None) -> None:
    assert question_of(session) is Effect.ASK_HOLD
    judged = judge_hold(session, said)
    assert (None if judged is None else judged.event) == event


PART: list[tuple[str, Session, Answer, E | None]] = [
    ("seen, listed", SEEN, answer((OURS,), complete=False), E.HOLD_FOUND),
    ("seen, not listed", SEEN, answer((5,), complete=False), None),
    ("blind, nothing listed", BLIND, answer((), complete=False), None),
    ("blind, only known listed", BLIND, answer((5,), known_open=(5,), complete=False), None),
    (
        "blind, adopted",
        BLIND,
        answer((240,), last(5000, NEW_HOLD), complete=False),
        E.HOLD_FOUND,
    ),
    ("capture, listed", CAPTURE, answer((OURS,), complete=False), E.STILL_OPEN),
    ("capture, not listed", CAPTURE, answer((5,), complete=False), None),
    ("capture, not listed, evidence stored", CAPTURE_SEEN, answer((5,), complete=False), None),
    (
        "capture, not listed, confirmed",
        CAPTURE,
        answer((5,), last(480, RESULT), complete=False),
        E.CONFIRMED,
    ),
    ("release, not listed", RELEASE, answer((), complete=False), None),
]


@pytest.mark.parametrize(
    ("session", "said", "event"), [p[1:] for p in PART], ids=[p[0] for p in PART]
)
def test_a_list_that_is_not_whole_proves_no_absence(
    session: Session, said: Answer, event: E | None
) -> None:
    judge = {
        S.HOLD_UNCLEAR: judge_hold,
        S.CAPTURE_UNCLEAR: judge_capture,
        S.RELEASE_UNCLEAR: judge_release,
    }[session.state]
    judged = judge(session, said)
    assert (None if judged is None else judged.event) == event


def test_a_hold_that_was_found_keeps_what_its_evidence_said() -> None:
    judged = judge_hold(SEEN, answer((OURS,)))
    assert judged is not None
    assert judged.data["approved_minor"] == SEEN.held_minor
    assert judged.data["hold"] == HOLD
    after = reach(S.HOLD_UNCLEAR).tell(judged.event, judged.data).session
    assert (after.held_minor, after.hold, after.card) == (5000, HOLD, dict(SEEN.card))


def test_an_adopted_hold_is_known_by_all_its_parts_and_its_own_amount() -> None:
    judged = judge_hold(BLIND, answer((240,), last(3000, NEW_HOLD, card_name="girocard")))
    assert judged is not None
    assert judged.data == {
        "approved_minor": 3000,
        "hold": NEW_HOLD,
        "details": {"card_name": "girocard"},
    }
    after = Story(BLIND).tell(judged.event, judged.data).session
    assert (after.state, after.held_minor, after.hold) == (S.HELD, 3000, NEW_HOLD)


ENDS: list[tuple[str, Session, Answer, E | None]] = [
    ("capture, listed", CAPTURE, answer((OURS,)), E.STILL_OPEN),
    ("capture, gone, nothing known", CAPTURE, answer(), E.VANISHED),
    ("capture, gone, confirmed", CAPTURE, answer((), last(480, RESULT)), E.CONFIRMED),
    ("capture, others open, confirmed", CAPTURE, answer((9,), last(480, RESULT)), E.CONFIRMED),
    # the list outweighs everything: an open hold was not captured
    ("capture, listed despite a result", CAPTURE, answer((OURS,), last(480, RESULT)), E.STILL_OPEN),
    ("capture, listed despite evidence", CAPTURE_SEEN, answer((OURS,)), E.STILL_OPEN),
    # evidence alone is not enough: a dialogue that broke before its answer is undone by the terminal
    ("capture, gone, evidence stored", CAPTURE_SEEN, answer(), E.VANISHED),
    (
        "capture, gone, evidence, other last",
        CAPTURE_SEEN,
        answer((), last(9, NEW_HOLD)),
        E.VANISHED,
    ),
    ("capture, a cent less", CAPTURE, answer((), last(479, RESULT)), E.VANISHED),
    ("capture, a cent more", CAPTURE, answer((), last(481, RESULT)), E.VANISHED),
    ("capture, the whole hold", CAPTURE, answer((), last(5000, RESULT)), E.VANISHED),
    ("capture, amount nothing", CAPTURE, answer((), last(0, RESULT)), E.VANISHED),
    ("capture, amount not said", CAPTURE, answer((), last(None, RESULT)), E.VANISHED),
    ("capture, the last try failed", CAPTURE, answer((), last(480, RESULT, result=1)), E.VANISHED),
    ("capture, the last result is the hold", CAPTURE, answer((), last(480, HOLD)), E.VANISHED),
    ("capture, what raised it", RAISED_TO_COST, answer((), last(480, RAISE_REF)), E.VANISHED),
    ("capture, what raised it last", RAISED_LAST, answer((), last(480, RAISE_REF)), E.VANISHED),
    (
        "capture, its result tells the rest of the hold",
        CAPTURE,
        answer((), last(5000 - 480, RESULT), capture_reports="reversed"),
        E.CONFIRMED,
    ),
    (
        "capture, the amount where its result tells the rest",
        CAPTURE,
        answer((), last(480, RESULT), capture_reports="reversed"),
        E.VANISHED,
    ),
    (
        "capture, seen, its result tells the rest of the hold",
        CAPTURE_SEEN,
        answer((), last(5000 - 480, RESULT)),
        E.CONFIRMED,
    ),
    (
        "capture, seen, and it was booked otherwise",
        replace(CAPTURE_SEEN, booked_minor=470),
        answer((), last(470, RESULT)),
        E.VANISHED,
    ),
    (
        "capture, the result is another session's",
        CAPTURE,
        answer((), last(480, RESULT), known=(RESULT,)),
        E.VANISHED,
    ),
    (
        "capture, the result's receipt was used before",
        CAPTURE,
        answer((), last(480, RESULT), known=(RESULT | {"trace": 3},)),
        E.CONFIRMED,
    ),
    (
        "capture, the result carries the hold's receipt and a new trace",
        CAPTURE,
        answer((), last(480, HOLD | {"trace": 976})),
        E.CONFIRMED,
    ),
    (
        "capture, the result is of another terminal",
        CAPTURE,
        answer((), last(480, RESULT | {"terminal_id": "99"})),
        E.VANISHED,
    ),
    ("capture, another terminal", CAPTURE, answer((), last(480, RESULT), "99"), None),
    ("capture, another terminal lists it", CAPTURE, answer((OURS,), terminal_id="99"), None),
    (
        "capture, a terminal without a name",
        CAPTURE,
        answer((OURS,), terminal_id=None),
        E.STILL_OPEN,
    ),
    ("capture, claimed by another too", CAPTURE, answer((OURS,), known_open=(OURS,)), None),
    ("release, listed", RELEASE, answer((OURS,)), E.STILL_OPEN),
    ("release, gone, nothing known", RELEASE, answer(), E.VANISHED),
    ("release, reported as nothing", RELEASE, answer((), last(0, RESULT)), E.CONFIRMED),
    ("release, reported as freed", RELEASE, answer((), last(5000, RESULT)), E.CONFIRMED),
    ("release, another amount", RELEASE, answer((), last(4999, RESULT)), E.VANISHED),
    ("release, gone, evidence stored", RELEASE_SEEN, answer(), E.VANISHED),
    ("release, claimed by another too", RELEASE, answer((OURS,), known_open=(OURS,)), None),
    (
        "release, the result is another session's",
        RELEASE,
        answer((), last(0, RESULT), known=(RESULT,)),
        E.VANISHED,
    ),
]


@pytest.mark.parametrize(
    ("session", "said", "event"), [e[1:] for e in ENDS], ids=[e[0] for e in ENDS]
)
def test_end_of_a_hold(session: Session, said: Answer, event: E | None) -> None:
    judge = judge_release if session.state is S.RELEASE_UNCLEAR else judge_capture
    judged = judge(session, said)
    assert (None if judged is None else judged.event) == event


def test_a_confirmed_capture_carries_the_terminal_s_word() -> None:
    judged = judge_capture(CAPTURE, answer((), last(480, RESULT, card_name="girocard")))
    assert judged is not None
    after = Story(CAPTURE).tell(judged.event, judged.data).session
    assert (after.state, after.captured_minor, after.result) == (S.SETTLED, 480, RESULT)


def test_a_repeated_result_confirms_the_evidence_that_was_stored() -> None:
    judged = judge_capture(CAPTURE_SEEN, answer((), last(480, RESULT)))
    assert judged is not None
    after = Story(CAPTURE_SEEN).tell(judged.event, judged.data).session
    assert (after.captured_minor, after.result) == (480, RESULT)


def test_two_captures_of_one_amount_cannot_share_one_result() -> None:
    """Once a result confirmed one session it is known, and confirms no other."""
    other = replace(CAPTURE, id="S2", hold=HOLD | {"receipt": 300, "trace": 1})
    first = judge_capture(CAPTURE, answer((), last(480, RESULT)))
    second = judge_capture(other, answer((), last(480, RESULT), known=(RESULT, HOLD)))
    assert first is not None
    assert second is not None
    assert (first.event, second.event) == (E.CONFIRMED, E.VANISHED)


@pytest.mark.parametrize("state", [S.UNRESOLVED])
def test_an_unresolved_session_is_judged_like_an_unclear_one(state: S) -> None:
    session = reach(state).session
    for said, event in (
        (answer((OURS,)), E.STILL_OPEN),
        (answer((), last(480, RESULT)), E.CONFIRMED),
        (answer((OURS,), known_open=(OURS,)), None),
    ):
        judged = judge_capture(session, said)
        assert (None if judged is None else judged.event) == event


def test_a_reference_without_numbers_is_like_no_other() -> None:
    assert ref_key({}) == (-1, None)
    assert ref_key({"receipt": "231"}) == (-1, None)
    assert ref_key({"receipt": 231}) == (231, None)
    assert ref_key(HOLD) == (231, 975)


def test_an_equal_amount_on_another_card_confirms_nothing() -> None:
    ours = replace(CAPTURE, card={"card_name": "Visa", "card_last4": "1111"})
    other = judge_capture(ours, answer((), last(480, RESULT, card_last4="9999")))
    same = judge_capture(ours, answer((), last(480, RESULT, card_last4="1111")))
    assert other is not None
    assert other.event is E.VANISHED
    assert same is not None
    assert same.event is E.CONFIRMED


def test_an_end_of_a_hold_that_was_never_known_is_not_judged() -> None:
    assert judge_release(replace(RELEASE, hold={}), answer((), last(0, RESULT))) is None
