"""Raising a hold while energy flows: what counts, what is owed, and what is never charged."""

from dataclasses import replace

import pytest
from support.session_events import HOLD, RAISED, Story, reach

from agent.ports import NOT_TOLD
from agent.session import E, Effect, S, step
from agent.session.ask import Answer, Judgement, LastSeen, judge_raise
from agent.session.deadlines import HOLD_UNCLEAR_MS, Policy, deadlines
from agent.session.raises import R, owed_besides, owed_now

POLICY = Policy(connection_timeout_ms=120_000, start_timeout_ms=180_000)
BESIDE = (S.STARTING, S.CHARGING, S.SUSPENDED, S.STOPPING, S.ENDING)


def raising(word: R = R.ORDERED) -> Story:
    """A session that charges while its hold is being raised from 50.00 by 20.00."""
    story = reach(S.CHARGING).tell(E.RAISE)
    if word is R.APPROVED:
        story.tell(E.RAISE_APPROVED)
    elif word is R.UNCLEAR:
        story.tell(E.RAISE_UNCLEAR)
    return story


def test_only_the_completed_raise_counts() -> None:
    story = reach(S.CHARGING)
    assert story.session.held_minor == 5000
    story.tell(E.RAISE)
    assert story.session.held_minor == 5000
    story.tell(E.RAISE_APPROVED)
    assert story.session.held_minor == 5000, "its completion is outstanding"
    story.tell(E.RAISED)
    s = story.session
    assert (s.held_minor, s.raises, s.raising, s.raise_over) == (7000, 1, "", False)
    story.all(E.RAISE, E.UNPLUGGED)
    story.tell(E.RAISE_APPROVED, total_minor=9000, result=RAISED | {"receipt": 240}).tell(E.RAISED)
    assert (story.session.held_minor, story.session.raises) == (9000, 2)


@pytest.mark.parametrize(("total_minor", "held_minor"), [(6000, 6000), (5000, 5000), (4000, 5000)])
def test_less_than_was_asked_for_is_the_last_raise(total_minor: int, held_minor: int) -> None:
    story = raising().tell(E.RAISE_APPROVED, total_minor=total_minor).tell(E.RAISED)
    assert (story.session.held_minor, story.session.raise_over) == (held_minor, True)
    story.refuse(E.RAISE)


def test_a_refusal_for_good_and_one_of_the_moment() -> None:
    story = raising().tell(E.RAISE_FAILED, again=True)
    assert (story.session.raising, story.session.raise_over) == ("", False)
    story.all(E.RAISE, E.RAISE_FAILED)
    assert (story.session.held_minor, story.session.raise_over) == (5000, True)
    story.refuse(E.RAISE)


def test_an_approval_that_is_contradicted_or_names_no_amount_is_asked_for() -> None:
    assert raising(R.APPROVED).tell(E.RAISE_FAILED).session.raising == R.UNCLEAR
    story = raising().tell(E.RAISE_APPROVED, total_minor=None).tell(E.RAISED)
    assert (story.session.raising, story.session.held_minor) == (R.UNCLEAR, 5000)


def test_what_is_owed_beside_the_state() -> None:
    before = reach(S.CHARGING)
    was = before.session
    now = before.tell(E.RAISE).session
    assert owed_besides(was, now) is Effect.RAISE
    assert owed_besides(now, now) is None, "once"
    assert owed_now(now) is Effect.RAISE
    unclear = before.tell(E.RAISE_UNCLEAR).session
    assert owed_besides(now, unclear) is Effect.ASK_RAISE
    assert owed_now(before.tell(E.RAISE_FOUND).session) is None
    assert owed_now(raising(R.APPROVED).session) is None


@pytest.mark.parametrize("state", [S.CHARGING, S.STOPPING, S.ENDING, S.RAISE_OPEN])
@pytest.mark.parametrize("word", [R.ORDERED, R.APPROVED])
def test_no_raise_is_sent_again_after_a_restart(state: S, word: R) -> None:
    story = raising(word)
    if state is not S.CHARGING:
        story.tell(E.STOP)
    if state in (S.ENDING, S.RAISE_OPEN):
        story.tell(E.STOPPED)
    if state is S.RAISE_OPEN:
        story.tell(E.ENDED)
    story.reboot().tell(E.RESTARTED)
    assert owed_now(story.session) is Effect.ASK_RAISE
    assert story.session.raise_minor == 2000


@pytest.mark.parametrize(
    ("event", "held_minor"),
    [(E.RAISE_FOUND, 7000), (E.RAISE_ABSENT, 5000)],
)
def test_the_record_waits_for_the_amount_held(event: E, held_minor: int) -> None:
    story = raising(R.UNCLEAR).all(E.STOP, E.STOPPED, E.ENDED)
    assert story.state is S.RAISE_OPEN
    story.tell(event)
    assert (story.state, story.session.held_minor) == (S.RECORDING, held_minor)
    story.tell(E.RECORDED)
    assert story.state is S.CAPTURING


def test_nothing_is_charged_from_a_hold_whose_amount_nobody_knows() -> None:
    story = raising(R.UNCLEAR).all(E.STOP, E.STOPPED, E.ENDED, E.VANISHED, E.RECORDED)
    s = story.session
    assert (s.state, s.outcome, s.captured_minor, s.record_seq) == (S.UNRESOLVED, "unknown", 0, 7)
    assert owed_now(s) is Effect.ASK_RAISE
    story.refuse(E.STILL_OPEN)
    story.tell(E.RECORDED).tell(E.RAISE_FOUND)
    s = story.session
    assert (s.state, s.held_minor, s.outcome, s.settlement_seq) == (S.CAPTURING, 7000, "", None)


def test_a_session_without_cost_is_released_whatever_was_raised() -> None:
    story = raising(R.UNCLEAR).all(E.STOP, E.STOPPED).tell(E.ENDED, cost_minor=0)
    story.all(E.VANISHED, E.RECORDED)
    assert story.state is S.RELEASING


def last(**changes: object) -> LastSeen:
    given = {"result": 0, "amount_minor": 2000, "ref": RAISED, "details": {}} | changes
    return LastSeen(**given)  # type: ignore[arg-type]


def answer(seen: LastSeen | None, **changes: object) -> Answer:
    found = Answer("52523535", (231,), seen, frozenset(), frozenset())
    return replace(found, **changes)  # type: ignore[arg-type]


FOUND = Judgement(E.RAISE_FOUND, {"total_minor": 7000, "result": RAISED})


def test_asking_how_a_raise_ended() -> None:
    session = raising(R.UNCLEAR).session
    assert judge_raise(session, answer(last())) == FOUND
    total = answer(last(amount_minor=7000), raise_reports="total")
    assert judge_raise(session, total) == FOUND
    absent = judge_raise(session, answer(last(ref=HOLD, amount_minor=5000)))
    assert absent is not None
    assert absent.event is E.RAISE_ABSENT


@pytest.mark.parametrize(
    "seen",
    [
        answer(None),
        answer(last(result=NOT_TOLD)),
        answer(last(amount_minor=None)),
        answer(last(amount_minor=0)),
        answer(last(amount_minor=2001)),
        answer(last(amount_minor=2000), raise_reports="total"),
        answer(last(), terminal_id="99999999"),
        answer(last(ref=RAISED | {"terminal_id": "99999999"})),
        answer(last(), known=frozenset({(233, 977)})),
        answer(last(), known_open=frozenset({231})),
        answer(last(details={"card_name": "VISA"})),
    ],
)
def test_what_does_not_tell(seen: Answer) -> None:
    assert judge_raise(raising(R.UNCLEAR).session, seen) is None


def test_another_session_s_result_from_before_the_raise_is_proof_too() -> None:
    story = reach(S.CHARGING).tell(E.RAISE, before=[[240, 990], [241, None]]).tell(E.RAISE_UNCLEAR)
    others = last(ref=HOLD | {"receipt": 240, "trace": 990}, details={"card_name": "VISA"})
    seen = answer(others, known=frozenset({(240, 990)}))
    found = judge_raise(story.session, seen)
    assert found is not None
    assert found.event is E.RAISE_ABSENT
    later = answer(last(ref=HOLD | {"receipt": 241, "trace": 991}), known=frozenset({(241, 991)}))
    assert judge_raise(story.session, later) is None, "booked since: it may have replaced it"


def test_a_payment_that_failed_since_is_proof_as_long_as_nothing_else_is_booked() -> None:
    """It may be the raise itself, or one before it: a raise that was executed would be the last result."""
    failed = answer(last(result=5, amount_minor=None, ref=HOLD | {"receipt": 0, "trace": None}))
    session = raising(R.UNCLEAR).session
    found = judge_raise(session, failed)
    assert found is not None
    assert found.event is E.RAISE_ABSENT
    given_up = replace(session, raising=R.LOST)
    assert judge_raise(given_up, failed) is None, "others may have paid since"
    seen = replace(session, raise_result=RAISED)
    assert judge_raise(seen, failed) is None, "it was approved, and something has failed since"
    taken_back = replace(seen, raise_before=((0, None),))
    assert judge_raise(taken_back, failed) == found, "as it was before the order"
    assert judge_raise(given_up, answer(last())) == FOUND


@pytest.mark.parametrize(
    ("word", "rivals", "tells"),
    [
        (R.UNCLEAR, set(), True),
        (R.UNCLEAR, {R.LOST}, True),
        (R.UNCLEAR, {R.UNCLEAR}, False),
        (R.LOST, set(), True),
        (R.LOST, {R.ORDERED}, False),
        (R.LOST, {R.LOST}, False),
    ],
)
def test_what_may_be_another_session_s_raise_is_not_taken(
    word: R, rivals: set[R], tells: bool
) -> None:
    """One that was ordered later knows what was the last result before."""
    session = replace(raising(R.UNCLEAR).session, raising=word)
    seen = answer(last(), rivals=frozenset(rivals))
    assert judge_raise(session, seen) == (FOUND if tells else None)
    stored = replace(session, raise_result=RAISED)
    assert judge_raise(stored, seen) == FOUND, "its own evidence"


def test_a_raise_that_is_given_up_may_be_told_later() -> None:
    story = raising(R.UNCLEAR).tell(E.VANISHED)
    assert (story.state, story.session.raising) == (S.CHARGING, R.LOST)
    assert owed_now(story.session) is Effect.ASK_RAISE
    story.refuse(E.RAISE)
    story.tell(E.RAISE_FOUND)
    assert (story.state, story.session.held_minor, story.session.raising) == (S.CHARGING, 7000, "")


def test_after_a_restart_a_doubt_has_its_time_anew() -> None:
    story = raising(R.UNCLEAR).all(E.STOP, E.STOPPED, E.ENDED).reboot().tell(E.RESTARTED)
    since = story.session.raising_since
    assert since is not None and since.boot_id == story.boot_id
    (due,) = deadlines(story.session, POLICY)
    assert (due.event, due.after_ms, due.since) == (E.VANISHED, HOLD_UNCLEAR_MS, since)


@pytest.mark.parametrize("state", BESIDE)
def test_a_doubt_is_given_up_in_any_state(state: S) -> None:
    session = replace(reach(state).session, raising=R.UNCLEAR)
    assert E.VANISHED in [due.event for due in deadlines(session, POLICY)]
    for word in ("", R.ORDERED, R.LOST):
        quiet = replace(session, raising=word)
        assert E.VANISHED not in [due.event for due in deadlines(quiet, POLICY)]


def test_the_raise_before_is_not_taken_for_this_one() -> None:
    story = raising().all(E.RAISE_APPROVED, E.RAISED, E.RAISE, E.RAISE_UNCLEAR)
    found = judge_raise(story.session, answer(last()))
    assert found is not None
    assert found.event is E.RAISE_ABSENT


def test_a_raise_never_moves_the_state_beside_which_it_runs() -> None:
    for state in BESIDE:
        story = reach(state)
        for word in R:
            session = replace(story.session, raising=word)
            for event in E:
                if event.startswith("raise"):
                    after = step(session, story.event(event, None, {})).session
                    assert after.state is state
