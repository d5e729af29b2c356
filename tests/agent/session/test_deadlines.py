from dataclasses import replace

import pytest
from support.session_events import reach

from agent.session import E, S, step
from agent.session.deadlines import (
    DAY_MS,
    HOUR_MS,
    MINUTE_MS,
    RETRY_STEPS,
    Policy,
    deadline,
    retry_after_ms,
)

POLICY = Policy(connection_timeout_ms=120_000, start_timeout_ms=600_000)
WAITING = {
    S.HOLD_UNCLEAR: (E.VANISHED, 10 * MINUTE_MS, S.UNRESOLVED),
    S.HELD: (E.CONNECTION_TIMEOUT, 120_000, S.RELEASING),
    S.STARTING: (E.STOP, 600_000, S.STOPPING),
    S.CAPTURE_DUE: (E.RETRY_DUE, MINUTE_MS, S.CAPTURING),
    S.RELEASE_DUE: (E.RETRY_DUE, MINUTE_MS, S.RELEASING),
}


@pytest.mark.parametrize("state", S)
def test_only_waiting_states_have_a_deadline(state: S) -> None:
    due = deadline(reach(state).session, POLICY)
    if state not in WAITING:
        assert due is None
        return
    event, after_ms, _ = WAITING[state]
    assert due is not None
    assert (due.event, due.after_ms) == (event, after_ms)


@pytest.mark.parametrize("state", WAITING)
def test_a_deadline_s_event_is_taken_where_it_arises(state: S) -> None:
    story = reach(state)
    due = deadline(story.session, POLICY)
    assert due is not None
    result = step(story.session, story.event(due.event, due.data, {}))
    assert result.taken
    assert result.session.state is WAITING[state][2]


def test_the_schedule_five_minutes_a_day_of_hours_a_week_of_days_and_never_less() -> None:
    pauses = [retry_after_ms(attempt) for attempt in range(1, 60)]
    assert pauses[:5] == [MINUTE_MS] * 5
    assert pauses[5:29] == [HOUR_MS] * 24
    assert pauses[29:36] == [DAY_MS] * 7
    assert pauses[36:] == [DAY_MS] * (59 - 36), "nothing is dropped"
    assert sum(pauses[:29]) == 5 * MINUTE_MS + DAY_MS


def test_the_operator_s_schedule() -> None:
    steps = ((2, 10), (1, 20))
    assert [retry_after_ms(n, steps) for n in range(1, 6)] == [10, 10, 20, 20, 20]
    policy = replace(POLICY, retry_steps=steps)
    session = replace(reach(S.CAPTURE_DUE).session, attempts=3)
    due = deadline(session, policy)
    assert due is not None
    assert due.after_ms == 20


def test_every_failed_try_moves_along_the_schedule() -> None:
    story = reach(S.CAPTURE_DUE)
    pauses = []
    for _ in range(8):
        due = deadline(story.session, POLICY)
        assert due is not None
        pauses.append(due.after_ms)
        story.all(E.RETRY_DUE, E.NOT_SENT)
    assert pauses == [MINUTE_MS] * 5 + [HOUR_MS] * 3
    assert RETRY_STEPS[0] == (5, MINUTE_MS)


def test_waiting_again_after_unclear_tries_goes_on_where_the_schedule_was() -> None:
    story = reach(S.CAPTURE_DUE)
    for _ in range(5):
        story.all(E.RETRY_DUE, E.UNCLEAR, E.STILL_OPEN)
    due = deadline(story.session, POLICY)
    assert due is not None
    assert (story.session.attempts, due.after_ms) == (6, HOUR_MS)


def test_a_session_record_starts_the_count_anew() -> None:
    story = reach(S.RECORDING)
    session = replace(story.session, attempts=4)
    assert step(session, story.event(E.RECORDED, None, {})).session.attempts == 0
