"""Whole sessions, from the tap to the closed record, and every way they bend."""

from typing import Any

import pytest
from support.session_events import DATA, HOLD, RESULT, Story, reach

from agent.session import FINAL, OWED, E, Effect, S, energy_allowed, fold, step
from agent.session.records import session_record, settlement_record
from agent.session.summary import summary

HELD = (E.TAPPED, E.APPROVED, E.HELD)
CHARGED = (E.BEGAN, E.ENERGY_FLOWS, E.STOP, E.STOPPED, E.ENDED, E.RECORDED)
MONEY = {Effect.AUTHORIZE, Effect.CAPTURE, Effect.RELEASE}
ASKING = {Effect.ASK_HOLD, Effect.ASK_CAPTURE, Effect.ASK_RELEASE}


def money(story: Story) -> dict[str, Any]:
    keys = ("held", "captured", "released", "shortfall", "owed")
    shown = summary(story.session)
    return {key: shown[f"{key}_minor"] for key in keys} | {"payment": shown["payment"]}


def commands(story: Story) -> list[Effect]:
    """The money commands a session has ordered so far, in order."""
    return [e for e in story.effects if e in MONEY]


# --- the usual ways -------------------------------------------------------------------------------


def test_tap_first() -> None:
    story = Story().tell(E.TAPPED, evse=None, plugged=False)
    assert (story.state, story.owed) == (S.AUTHORIZING, Effect.AUTHORIZE)
    story.all(E.APPROVED, E.HELD)
    assert (story.state, story.owed) == (S.HELD, None)
    story.refuse(E.PLUGGED)  # at which connector?
    story.all(E.BOUND, E.PLUGGED)
    assert (story.state, story.owed) == (S.BEGINNING, Effect.METER_BEGIN)
    assert story.session.evse == "DE*ABC*E2"
    story.all(*CHARGED)
    assert (story.state, story.owed) == (S.CAPTURING, Effect.CAPTURE)
    story.tell(E.EVIDENCE)
    assert (story.state, story.owed) == (S.CAPTURING, None)
    story.tell(E.SETTLED).tell(E.RECORDED, seq=8)
    assert story.state is S.CLOSED
    assert story.effects == [
        Effect.AUTHORIZE,
        Effect.METER_BEGIN,
        Effect.METER_END,
        Effect.RECORD_SESSION,
        Effect.CAPTURE,
        Effect.RECORD_SETTLEMENT,
    ]
    assert (story.session.record_seq, story.session.settlement_seq) == (7, 8)
    assert story.session.energy_wh == 112_345 - 104_211
    assert money(story) == {
        "held": 5000,
        "captured": 480,
        "released": 4520,
        "shortfall": 0,
        "owed": 0,
        "payment": "captured",
    }


def test_plug_first() -> None:
    story = Story().all(*HELD)
    assert (story.state, story.owed) == (S.BEGINNING, Effect.METER_BEGIN)


def test_plugged_while_the_terminal_works() -> None:
    story = Story().tell(E.TAPPED, plugged=False).all(E.PLUGGED, E.APPROVED, E.HELD)
    assert story.state is S.BEGINNING


def test_unplugged_again_while_the_terminal_works() -> None:
    story = Story().all(E.TAPPED, E.APPROVED, E.UNPLUGGED, E.HELD)
    assert story.state is S.HELD


def test_declined() -> None:
    story = Story().all(E.TAPPED, E.REFUSED)
    assert (story.state, story.owed) == (S.SETTLED, Effect.RECORD_SETTLEMENT)
    story.tell(E.RECORDED)
    assert story.state is S.CLOSED
    assert money(story)["payment"] == "refused"
    assert set(money(story).values()) == {0, "refused"}
    assert story.session.refusal["code"] == "05"
    assert story.session.record_seq is None, "a refused attempt has no session record"


def test_the_terminal_was_not_reached() -> None:
    story = Story().all(E.TAPPED, E.NOT_SENT, E.RECORDED)
    assert story.state is S.CLOSED
    assert money(story)["payment"] == "not_held"


@pytest.mark.parametrize("event", [E.CANCELLED, E.CONNECTION_TIMEOUT])
def test_given_up_before_the_plug(event: E) -> None:
    story = reach(S.HELD).tell(event)
    assert (story.state, story.owed) == (S.RELEASING, Effect.RELEASE)
    story.tell(E.EVIDENCE, amount_minor=0).all(E.SETTLED, E.RECORDED)
    assert story.state is S.CLOSED
    assert money(story) == {
        "held": 5000,
        "captured": 0,
        "released": 5000,
        "shortfall": 0,
        "owed": 0,
        "payment": "cancelled",
    }
    assert story.session.record_seq is None


@pytest.mark.parametrize("event", [E.BEGIN_FAILED, E.UNPLUGGED, E.CANCELLED])
def test_given_up_before_the_begin_reading(event: E) -> None:
    story = reach(S.BEGINNING).tell(event).all(E.SETTLED, E.RECORDED)
    assert money(story)["released"] == 5000
    assert story.session.begin_wh is None
    assert not any(energy_allowed(fold("S1", story.events[:n]).state) for n in range(9))


@pytest.mark.parametrize("before", [S.STARTING, S.CHARGING, S.SUSPENDED])
@pytest.mark.parametrize(
    ("event", "reason"),
    [
        (E.UNPLUGGED, "unplugged"),
        (E.STOP, "tap"),
        (E.STOP, "emergency stop"),
        (E.STOP, "limit"),
        (E.STOP, "meter lost"),
    ],
)
def test_every_end_of_energy_is_measured_and_billed(before: S, event: E, reason: str) -> None:
    story = reach(before).tell(event, reason=reason)
    assert story.state is S.STOPPING
    assert not energy_allowed(story.state)
    assert story.session.stop_reason == reason
    assert story.session.plugged is (event is E.STOP)
    story.all(E.STOPPED, E.ENDED, E.RECORDED, E.EVIDENCE, E.SETTLED, E.RECORDED)
    assert story.state is S.CLOSED
    assert money(story)["captured"] == 480


UNPLUGGED_LEADS_TO = {
    S.AUTHORIZING: S.AUTHORIZING,
    S.APPROVED: S.APPROVED,
    S.HOLD_UNCLEAR: S.HOLD_UNCLEAR,
    S.HELD: S.HELD,
    S.BEGINNING: S.RELEASING,
    S.STARTING: S.STOPPING,
    S.CHARGING: S.STOPPING,
    S.SUSPENDED: S.STOPPING,
}


@pytest.mark.parametrize("state", S)
def test_unplugged_in_every_state(state: S) -> None:
    story = reach(state)
    if state not in UNPLUGGED_LEADS_TO:
        story.refuse(E.UNPLUGGED)
        return
    story.tell(E.UNPLUGGED)
    assert story.state is UNPLUGGED_LEADS_TO[state]
    if state in (S.AUTHORIZING, S.APPROVED, S.HOLD_UNCLEAR, S.HELD):
        assert story.session.plugged is False


# --- amounts --------------------------------------------------------------------------------------


def charged(approved_minor: int | None, cost_minor: int) -> Story:
    story = Story().tell(E.TAPPED).tell(E.APPROVED, approved_minor=approved_minor)
    story.all(E.HELD, E.BEGAN, E.ENERGY_FLOWS, E.STOP, E.STOPPED)
    return story.tell(E.ENDED, cost_minor=cost_minor).tell(E.RECORDED)


def test_the_approved_amount_counts_not_the_requested_one() -> None:
    story = charged(approved_minor=2000, cost_minor=1500)
    assert story.session.to_capture_minor == 1500
    story.tell(E.EVIDENCE, amount_minor=1500).tell(E.SETTLED)
    assert (money(story)["captured"], money(story)["released"]) == (1500, 500)


def test_a_cost_above_the_hold_is_a_named_shortfall() -> None:
    story = charged(approved_minor=2000, cost_minor=2345)
    assert (story.session.to_capture_minor, story.session.shortfall_minor) == (2000, 345)
    assert session_record(story.session)["shortfall_minor"] == 345
    story.tell(E.EVIDENCE, amount_minor=2000).tell(E.SETTLED)
    assert (money(story)["captured"], money(story)["released"]) == (2000, 0)
    assert settlement_record(story.session)["shortfall_minor"] == 345


def test_nothing_to_pay_releases_the_hold() -> None:
    story = charged(approved_minor=5000, cost_minor=0)
    assert (story.state, story.owed) == (S.RELEASING, Effect.RELEASE)
    story.all(E.SETTLED, E.RECORDED)
    assert money(story)["payment"] == "released"
    assert money(story)["released"] == 5000
    assert commands(story) == [Effect.AUTHORIZE, Effect.RELEASE]


@pytest.mark.parametrize("amount_minor", [None, 0])
def test_an_approval_without_an_amount_gives_no_energy(amount_minor: int | None) -> None:
    story = Story().tell(E.TAPPED).tell(E.APPROVED, approved_minor=amount_minor).tell(E.HELD)
    assert (story.state, story.owed) == (S.RELEASING, Effect.RELEASE)
    story.all(E.SETTLED, E.RECORDED)
    assert settlement_record(story.session)["reason"] == "the terminal did not say what it approved"


@pytest.mark.parametrize("amount_minor", [None, 0])
def test_a_hold_found_again_without_an_amount_gives_no_energy(amount_minor: int | None) -> None:
    story = Story().all(E.TAPPED, E.UNCLEAR).tell(E.HOLD_FOUND, approved_minor=amount_minor)
    assert (story.state, story.owed) == (S.RELEASING, Effect.RELEASE)
    assert story.session.hold == HOLD, "it must be known what to release"


def test_the_booked_amount_counts_not_the_one_asked_for() -> None:
    story = charged(approved_minor=5000, cost_minor=480).tell(E.EVIDENCE, amount_minor=470)
    story.tell(E.SETTLED)
    assert money(story) == {
        "held": 5000,
        "captured": 470,
        "released": 4530,
        "shortfall": 0,
        "owed": 10,
        "payment": "captured",
    }


def test_a_terminal_that_does_not_say_what_it_booked() -> None:
    story = charged(approved_minor=5000, cost_minor=480).tell(E.EVIDENCE, amount_minor=None)
    story.tell(E.SETTLED)
    assert (money(story)["captured"], money(story)["owed"]) == (480, 0)


def test_a_completion_without_any_evidence() -> None:
    story = charged(approved_minor=5000, cost_minor=480).tell(E.SETTLED)
    assert money(story)["captured"] == 480


# --- settlement that does not go through ----------------------------------------------------------


def test_a_refused_capture_is_owed_and_stays_listed() -> None:
    story = reach(S.CAPTURING).tell(E.REFUSED)
    assert (story.state, story.owed) == (S.UNRESOLVED, Effect.RECORD_SETTLEMENT)
    assert story.state not in FINAL
    assert money(story) == {
        "held": 5000,
        "captured": 0,
        "released": 0,
        "shortfall": 0,
        "owed": 480,
        "payment": "refused",
    }
    story.tell(E.RECORDED, seq=8)
    assert story.owed is None
    for event in (E.STILL_OPEN, E.CONFIRMED, E.RETRY_DUE, E.SETTLED):
        story.refuse(event)  # no unchanged retry


def test_not_sent_is_tried_again_on_the_schedule() -> None:
    story = reach(S.CAPTURING)
    for attempt in range(1, 4):
        story.tell(E.NOT_SENT)
        assert (story.state, story.session.attempts) == (S.CAPTURE_DUE, attempt)
        story.tell(E.RETRY_DUE)
        assert (story.state, story.owed) == (S.CAPTURING, Effect.CAPTURE)
    story.all(E.EVIDENCE, E.SETTLED, E.RECORDED)
    assert story.state is S.CLOSED


@pytest.mark.parametrize(
    ("now", "command", "asking", "due"),
    [
        (S.CAPTURING, Effect.CAPTURE, Effect.ASK_CAPTURE, S.CAPTURE_DUE),
        (S.RELEASING, Effect.RELEASE, Effect.ASK_RELEASE, S.RELEASE_DUE),
    ],
)
def test_an_unknown_outcome_found_open_is_sent_again(
    now: S, command: Effect, asking: Effect, due: S
) -> None:
    story = reach(now).tell(E.UNCLEAR)
    assert story.owed is asking
    story.tell(E.STILL_OPEN)
    assert (story.state, story.owed) == (now, command)
    story.tell(E.UNCLEAR).tell(E.STILL_OPEN)  # a terminal that breaks every dialogue
    assert (story.state, story.owed) == (due, None)
    story.tell(E.RETRY_DUE)
    assert (story.state, story.owed) == (now, command)


@pytest.mark.parametrize(
    ("now", "payment"), [(S.CAPTURING, "captured"), (S.RELEASING, "cancelled")]
)
def test_an_unknown_outcome_confirmed_by_asking(now: S, payment: str) -> None:
    amount_minor = 480 if now is S.CAPTURING else 5000
    story = reach(now).tell(E.UNCLEAR).tell(E.CONFIRMED, amount_minor=amount_minor)
    assert (story.state, story.owed) == (S.SETTLED, Effect.RECORD_SETTLEMENT)
    assert money(story)["payment"] == payment
    assert story.session.result == RESULT
    assert len(commands(story)) == 2


def test_confirmed_by_evidence_that_was_stored_before() -> None:
    story = reach(S.CAPTURING).tell(E.EVIDENCE).tell(E.UNCLEAR)
    story.tell(E.CONFIRMED, {"how": "evidence stored before the dialogue broke"})
    assert story.session.result == RESULT
    assert money(story)["captured"] == 480


@pytest.mark.parametrize("now", [S.CAPTURING, S.RELEASING])
def test_a_vanished_hold_stays_unknown_until_it_is_cleared_up(now: S) -> None:
    story = reach(now).tell(E.UNCLEAR).tell(E.VANISHED)
    assert (story.state, story.owed) == (S.UNRESOLVED, Effect.RECORD_SETTLEMENT)
    assert story.state not in FINAL
    assert money(story)["payment"] == "unknown"
    assert (money(story)["captured"], money(story)["released"]) == (0, 0)
    story.tell(E.RECORDED, seq=8)
    assert story.state is S.UNRESOLVED
    story.tell(E.CONFIRMED, amount_minor=480 if now is S.CAPTURING else 0)
    assert (story.state, story.owed) == (S.SETTLED, Effect.RECORD_SETTLEMENT)
    assert story.session.settlement_seq is None, "the new outcome wants a record of its own"
    story.tell(E.RECORDED, seq=12)
    assert (story.state, story.session.settlement_seq) == (S.CLOSED, 12)


def test_a_vanished_hold_that_shows_up_again_is_captured() -> None:
    story = reach(S.UNRESOLVED).tell(E.RECORDED, seq=8).tell(E.STILL_OPEN)
    assert (story.state, story.owed) == (S.CAPTURING, Effect.CAPTURE)
    story.all(E.EVIDENCE, E.SETTLED)
    assert story.session.settlement_seq is None
    story.tell(E.RECORDED, seq=9)
    assert (story.state, story.session.settlement_seq) == (S.CLOSED, 9)


def test_a_receipt_the_terminal_does_not_know_is_asked_about() -> None:
    story = reach(S.CAPTURING).tell(E.REFUSED, reason="unknown_hold")
    assert (story.state, story.owed) == (S.CAPTURE_UNCLEAR, Effect.ASK_CAPTURE)
    story.tell(E.CONFIRMED)
    assert settlement_record(story.session)["outcome"] == "captured"
    assert settlement_record(story.session)["reason"] == ""


@pytest.mark.parametrize("word", [E.REFUSED, E.NOT_SENT])
@pytest.mark.parametrize(
    ("now", "asking"), [(S.CAPTURING, Effect.ASK_CAPTURE), (S.RELEASING, Effect.ASK_RELEASE)]
)
def test_a_no_after_stored_evidence_is_asked_about(now: S, asking: Effect, word: E) -> None:
    story = reach(now).tell(E.EVIDENCE).tell(word)
    assert story.owed is asking


def test_evidence_of_an_undone_try_does_not_confirm_a_later_one() -> None:
    story = reach(S.CAPTURING).tell(E.EVIDENCE).tell(E.UNCLEAR).tell(E.STILL_OPEN)
    assert (story.session.result, story.session.booked_minor) == ({}, None)


@pytest.mark.parametrize("word", [E.REFUSED, E.NOT_SENT, E.UNCLEAR])
def test_a_no_after_the_approval_is_asked_about(word: E) -> None:
    story = reach(S.APPROVED).tell(word)
    assert (story.state, story.owed) == (S.HOLD_UNCLEAR, Effect.ASK_HOLD)
    story.tell(E.HOLD_ABSENT)
    assert money(story)["payment"] == "cancelled"
    assert money(story)["held"] == money(story)["released"] > 0


def test_an_unclear_hold_is_found_and_used() -> None:
    story = Story().all(E.TAPPED, E.UNCLEAR).tell(E.HOLD_FOUND, approved_minor=3000)
    assert (story.state, story.session.held_minor) == (S.HELD, 3000)
    story.tell(E.PLUGGED)
    assert story.state is S.BEGINNING
    assert commands(story) == [Effect.AUTHORIZE], "found, not made a second time"


# --- restarts -------------------------------------------------------------------------------------

AFTER_RESTART = {
    S.AUTHORIZING: S.HOLD_UNCLEAR,
    S.APPROVED: S.HOLD_UNCLEAR,
    S.STARTING: S.STOPPING,
    S.CHARGING: S.STOPPING,
    S.SUSPENDED: S.STOPPING,
    S.CAPTURING: S.CAPTURE_UNCLEAR,
    S.RELEASING: S.RELEASE_UNCLEAR,
}


@pytest.mark.parametrize("state", [s for s in S if s not in (S.NEW, S.CLOSED)])
def test_restarted_in_every_state(state: S) -> None:
    """Recovery is replay: the same events give the same session, and the state alone says what is
    owed. No command that moves money follows from a restart; it asks."""
    story = reach(state)
    found = fold("S1", story.events)
    assert found == story.session
    restarted = step(found, story.reboot().event(E.RESTARTED, None, {}))
    assert restarted.taken
    assert restarted.session.state is AFTER_RESTART.get(state, state)
    owed = restarted.owed or OWED.get(restarted.session.state)
    assert owed not in MONEY
    if story.owed in MONEY or state is S.APPROVED:
        assert owed in ASKING, "a command may be under way at the terminal"
    again = step(restarted.session, story.event(E.RESTARTED, None, {}))
    assert again.taken, "a second crash right after the first"
    assert again.session.state is restarted.session.state


@pytest.mark.parametrize("state", [S.NEW, S.CLOSED])
def test_a_restart_means_nothing_before_and_after(state: S) -> None:
    reach(state).refuse(E.RESTARTED)


@pytest.mark.parametrize("state", [s for s in S if s not in (S.NEW, S.CLOSED)])
def test_restarted_anywhere_the_session_still_ends(state: S) -> None:
    """A restart in any state, then everything goes well: closed, and the hold has ended once."""
    story = reach(state).reboot().tell(E.RESTARTED)
    answers = {
        S.HOLD_UNCLEAR: E.HOLD_FOUND,
        S.HELD: E.PLUGGED,
        S.BEGINNING: E.BEGAN,
        S.STARTING: E.STOP,
        S.STOPPING: E.STOPPED,
        S.ENDING: E.ENDED,
        S.RAISE_OPEN: E.RAISE_ABSENT,
        S.RECORDING: E.RECORDED,
        S.CAPTURE_DUE: E.RETRY_DUE,
        S.RELEASE_DUE: E.RETRY_DUE,
        S.CAPTURE_UNCLEAR: E.CONFIRMED,
        S.RELEASE_UNCLEAR: E.CONFIRMED,
        S.CAPTURING: E.SETTLED,
        S.RELEASING: E.SETTLED,
        S.SETTLED: E.RECORDED,
        S.UNRESOLVED: E.CONFIRMED,
    }
    for _ in range(12):
        if story.state is S.CLOSED:
            break
        story.tell(answers[story.state])
    assert story.state is S.CLOSED
    shown = money(story)
    assert shown["payment"] in ("captured", "cancelled")
    assert shown["captured"] + shown["released"] == 5000
    assert fold("S1", story.events) == story.session


@pytest.mark.parametrize("state", [S.STARTING, S.CHARGING, S.SUSPENDED])
def test_charging_goes_on_after_a_restart_when_the_station_says_so(state: S) -> None:
    story = reach(state).reboot().tell(E.RESTARTED, resume=True)
    assert story.state is state
    assert story.owed is None
    assert story.session.begin_wh == DATA[E.BEGAN]["energy_wh"], "one session, one begin reading"


# --- exceptions -----------------------------------------------------------------------------------

SPOILT: list[tuple[S, E, dict[str, Any]]] = [
    (S.NEW, E.TAPPED, {"amount_minor": 50.0}),
    (S.NEW, E.TAPPED, {"amount_minor": True}),
    (S.AUTHORIZING, E.APPROVED, {"approved_minor": "5000"}),
    (S.AUTHORIZING, E.APPROVED, {"hold": "231"}),
    (S.BEGINNING, E.BEGAN, {"energy_wh": None}),
    (S.CHARGING, E.PROGRESS, {"energy_wh": 105_000.5}),
    (S.ENDING, E.ENDED, {"cost_minor": 4.8}),
    (S.ENDING, E.ENDED, {"energy_wh": None}),
    (S.RECORDING, E.RECORDED, {"seq": None}),
    (S.CAPTURING, E.EVIDENCE, {"amount_minor": 4.8}),
    (S.CAPTURE_UNCLEAR, E.CONFIRMED, {"result": [1]}),
]


@pytest.mark.parametrize(
    ("state", "event", "spoilt"), SPOILT, ids=[f"{s}-{e}" for s, e, _ in SPOILT]
)
def test_an_exception_in_an_act_leaves_everything_as_it_was(
    state: S, event: E, spoilt: dict[str, Any]
) -> None:
    story = reach(state)
    before, shown = story.session, repr(story.session)
    with pytest.raises(TypeError):
        step(before, story.event(event, None, spoilt))
    assert repr(before) == shown
    assert before.state is state
    story.tell(event)  # the machine keeps nothing of the failed step
    assert story.session.id == "S1"


def test_data_that_is_missing_raises_before_the_state_moves() -> None:
    story = reach(S.ENDING)
    with pytest.raises(KeyError, match="energy_wh"):
        step(story.session, story.event(E.ENDED, {}, {}))
    assert story.state is S.ENDING
