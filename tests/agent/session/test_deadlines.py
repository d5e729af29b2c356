from dataclasses import replace

import pytest
from support.session_events import reach

from agent.session import E, S, step
from agent.session.deadlines import (
    DAY_MS,
    HOUR_MS,
    MINUTE_MS,
    RETRY_STEPS,
    Deadline,
    Policy,
    age_ms,
    deadlines,
    hold_left_ms,
    retry_after_ms,
    scheme_key,
    waited_ms,
)
from agent.session.session import Session
from agent.values import Quality, Stamp

POLICY = Policy(connection_timeout_ms=120_000, start_timeout_ms=600_000)
EXPIRES = "hold expires"


def deadline(session: Session, policy: Policy) -> Deadline | None:
    """The one that does not come from the hold's validity."""
    found = [d for d in deadlines(session, policy) if d.data.get("reason") != EXPIRES]
    assert len(found) < 2
    return found[0] if found else None


WAITING = {
    S.HOLD_UNCLEAR: (E.VANISHED, 10 * MINUTE_MS, S.UNRESOLVED),
    S.RAISE_OPEN: (E.VANISHED, 10 * MINUTE_MS, S.RECORDING),
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


def test_the_schedule_five_minutes_a_day_of_hours_a_week_of_days_and_then_it_is_listed() -> None:
    pauses = [retry_after_ms(attempt) for attempt in range(1, 60)]
    assert pauses[:5] == [MINUTE_MS] * 5
    assert pauses[5:29] == [HOUR_MS] * 24
    assert pauses[29:36] == [DAY_MS] * 7
    assert pauses[36:] == [None] * (59 - 36)


def test_the_operator_s_schedule() -> None:
    steps = ((2, 10), (1, 20))
    assert [retry_after_ms(n, steps) for n in range(1, 6)] == [10, 10, 20, None, None]
    policy = replace(POLICY, retry_steps=steps)
    session = replace(reach(S.CAPTURE_DUE).session, attempts=3)
    due = deadline(session, policy)
    assert due is not None
    assert (due.event, due.after_ms) == (E.RETRY_DUE, 20)


@pytest.mark.parametrize("state", [S.CAPTURE_DUE, S.RELEASE_DUE])
def test_at_the_end_of_the_schedule_the_session_is_listed_with_what_is_owed(state: S) -> None:
    story = reach(state)
    tries = 0
    while (due := deadline(story.session, POLICY)) is not None and due.event is E.RETRY_DUE:
        tries += 1
        story.all(E.RETRY_DUE, E.NOT_SENT)
    assert tries == 5 + 24 + 7
    assert due is not None
    assert (due.event, due.after_ms) == (E.GAVE_UP, 0)
    story.tell(E.GAVE_UP, due.data)
    s = story.session
    assert (s.state, s.outcome) == (S.UNRESOLVED, "failed")
    assert s.owed_minor == (480 if state is S.CAPTURE_DUE else 0)
    assert "37 tries" in s.why
    story.refuse(E.STILL_OPEN)  # a person's work, as a refusal is


@pytest.mark.parametrize("state", [S.STARTING, S.CHARGING, S.SUSPENDED])
def test_energy_stops_while_the_hold_can_still_be_captured(state: S) -> None:
    story = reach(state)
    (due,) = [d for d in deadlines(story.session, POLICY) if d.data.get("reason") == EXPIRES]
    assert due.event is E.STOP
    assert due.since == story.events[1].stamp, "it counts from the approval"
    assert due.after_ms == POLICY.hold_valid_ms - POLICY.hold_finish_ms
    story.tell(E.STOP, due.data)
    assert story.session.stop_reason == EXPIRES


def test_a_hold_ages_through_suspend_and_by_the_wall_clock_through_a_reboot() -> None:
    story = reach(S.CHARGING).passes(HOUR_MS)
    story.tell(E.PROGRESS)
    now, held_at = story.events[-1].stamp, story.session.held_at
    assert held_at is not None
    assert waited_ms(held_at, now) == now.boot_ms - held_at.boot_ms
    later = replace(now, boot_id="boot-2", boot_ms=5, utc_ms=held_at.utc_ms + 7 * HOUR_MS)
    assert waited_ms(held_at, later) == 7 * HOUR_MS
    assert hold_left_ms(story.session, later, POLICY) == POLICY.hold_valid_ms - 7 * HOUR_MS
    before = replace(later, utc_ms=held_at.utc_ms - DAY_MS)
    assert waited_ms(held_at, before) == 5, "a clock that was set back says nothing, this boot does"
    assert hold_left_ms(replace(story.session, held_minor=0), now, POLICY) is None


@pytest.mark.parametrize("unknown", ["then", "now", "both"])
def test_a_board_that_did_not_know_the_time_does_not_let_a_hold_expire(unknown: str) -> None:
    """Seen in a simulation: a hold stored in 1970, a reboot, the clock comes, and the driver is stopped."""
    story = reach(S.CHARGING)
    held_at = story.session.held_at
    assert held_at is not None
    if unknown != "now":
        held_at = replace(held_at, utc_ms=HOUR_MS, quality=Quality.UNKNOWN)
    quality = Quality.TRUSTED if unknown == "then" else Quality.UNKNOWN
    now = replace(story.events[-1].stamp, boot_id="boot-2", boot_ms=5_000, quality=quality)
    assert waited_ms(held_at, now) == 5_000, "what this boot has seen, and no more"
    left_ms = hold_left_ms(replace(story.session, held_at=held_at), now, POLICY)
    assert left_ms == POLICY.hold_valid_ms - 5_000


def rebooted(held_at: Stamp, hours: int, quality: Quality) -> Stamp:
    """Five seconds after a reboot, `hours` later by the wall clock."""
    utc_ms = held_at.utc_ms + hours * HOUR_MS
    return replace(held_at, boot_id="boot-2", boot_ms=5_000, utc_ms=utc_ms, quality=quality)


@pytest.mark.parametrize(
    ("then", "now", "aged"),
    [
        (Quality.TRUSTED, Quality.TRUSTED, True),
        (Quality.RESTORED, Quality.RESTORED, True),  # no network ever: only a clock chip
        (Quality.RESTORED, Quality.TRUSTED, False),  # days behind until it was set
        (Quality.TRUSTED, Quality.RESTORED, False),
    ],
)
def test_a_hold_ages_through_a_reboot_where_the_clock_is_as_good_as_before(
    then: Quality, now: Quality, aged: bool
) -> None:
    story = reach(S.CHARGING)
    assert story.session.held_at is not None
    held_at = replace(story.session.held_at, quality=then)
    later = rebooted(held_at, 23, now)
    (due,) = deadlines(replace(story.session, held_at=held_at), POLICY)
    assert due.since is not None and due.data["reason"] == EXPIRES
    assert waited_ms(due.since, later) == (23 * HOUR_MS if aged else 5_000)
    assert (waited_ms(due.since, later) >= due.after_ms) is aged
    assert age_ms(held_at, later) == 23 * HOUR_MS, "what a person is told is the likely age"


@pytest.mark.parametrize("then", [Quality.UNKNOWN, Quality.RESTORED])
def test_a_hold_ages_by_what_its_boot_learned_of_the_time(then: Quality) -> None:
    """The clock was set before the next durable reading: from there on the hold's time is known."""
    story = reach(S.CHARGING)
    first = story.session.held_at
    assert first is not None
    s = replace(
        story.session, held_at=replace(first, utc_ms=first.utc_ms - 9 * DAY_MS, quality=then)
    )
    s = step(s, story.event(E.PROGRESS, None, {})).session
    assert s.held_at == first and first.quality is Quality.TRUSTED
    assert waited_ms(s.held_at, rebooted(first, 23, Quality.TRUSTED)) == 23 * HOUR_MS


@pytest.mark.parametrize(
    ("card", "hours"),
    [
        ("VISA", 168),
        ("Visa Debit", 168),
        ("VISA ELECTRON", 48),  # the longer name says more
        ("Debit Mastercard", 720),
        ("girocard", 48),  # not listed: the shortest of all
        ("", 48),
    ],
)
def test_a_hold_is_valid_as_long_as_its_scheme_says(card: str, hours: int) -> None:
    by_scheme = {scheme_key("Visa"): 168, scheme_key("visa electron"): 48, "mastercard": 720}
    policy = replace(
        POLICY,
        hold_valid_ms=96 * HOUR_MS,
        hold_valid_by_scheme={name: n * HOUR_MS for name, n in by_scheme.items()},
    )
    story = reach(S.CHARGING)
    s = replace(story.session, card={"card_name": card} if card else {})
    (due,) = [d for d in deadlines(s, policy) if d.data.get("reason") == EXPIRES]
    assert due.after_ms == hours * HOUR_MS - policy.hold_finish_ms
    assert s.held_at is not None
    assert hold_left_ms(s, s.held_at, policy) == hours * HOUR_MS
    assert hold_left_ms(s, s.held_at, replace(policy, hold_valid_by_scheme={})) == 96 * HOUR_MS


def test_every_failed_try_moves_along_the_schedule() -> None:
    story = reach(S.CAPTURE_DUE)
    pauses = []
    for _ in range(8):
        due = deadline(story.session, POLICY)
        assert due is not None
        assert due.event is E.RETRY_DUE
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
