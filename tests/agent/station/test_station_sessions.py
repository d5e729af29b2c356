"""Whole sessions of a whole station, in virtual time: what a driver does, and what it leads to."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest
from support.station_world import CARD, E1, E2, OTHER_CARD, World, charge, one_end_each

from agent.session import S
from agent.values import Reading, ReadingState

Make = Callable[..., World]


def test_a_healthy_start_logs_no_loss(make: Make) -> None:
    w = make()
    w.run(30)
    assert w.errors() == []
    assert "Tap card to start" in w.terminal.screen
    assert w.plant.commands == ["withdraw"], "once, whatever the controller was left with"


# --- the two ways to begin ----------------------------------------------------------------------------


def test_plug_first(make: Make) -> None:
    w = make()
    charge(w, seconds=600)
    assert "Same card to stop" in w.terminal.screen
    w.terminal.tap(CARD)
    done = w.until_state(S.CLOSED)
    assert done.stop_reason == "tap"
    assert done.end_quality == "confirmed"
    assert done.energy_wh == w.plant.delivered_wh
    assert 1_700 < done.energy_wh < 1_900
    assert w.terminal.amounts("hold") == [5000]
    assert w.terminal.amounts("capture") == [done.cost_minor]
    assert w.records() == [("session", done.id), ("settlement", done.id)]
    one_end_each(w)
    w.run(2)
    assert "Total" in w.terminal.screen and "Please unplug" in w.terminal.screen


def test_tap_first(make: Make) -> None:
    w = make()
    w.terminal.tap(CARD)
    held = w.until_state(S.HELD)
    assert held.evse == "DE*ABC*E1", "the only one that can be meant"
    assert "Plug in now" in w.terminal.screen
    assert not w.plant.released
    w.plant.plug()
    w.until_state(S.CHARGING)
    w.run(30)
    w.plant.unplug()
    done = w.until_state(S.CLOSED)
    assert done.stop_reason == "unplugged"
    one_end_each(w)


def test_the_price_screen_asks_for_the_cable_first_where_configured(make: Make) -> None:
    w = make(first="plug")
    w.run(3)
    assert "Plug in, then tap" in w.terminal.screen
    w.plant.plug()
    w.run(6)
    assert "Tap card to start" in w.terminal.screen


def test_no_release_before_the_hold_is_complete(make: Make) -> None:
    w = make()
    w.plant.plug()
    w.run(3)
    w.terminal.tap(CARD)
    w.until_state(S.AUTHORIZING)
    while w.session().state in (S.AUTHORIZING, S.APPROVED):
        assert not w.plant.released
        w.run(0.25)
    w.until(lambda: w.plant.released)


def test_a_controller_that_releases_by_itself_is_told_otherwise(make: Make) -> None:
    """After its own restart, or by a key switch: without a session there is no energy."""
    w = make()
    w.plant.plug()
    w.run(10)
    w.plant.release()
    w.until(lambda: not w.plant.released, within_s=3)
    w.run(10)
    assert w.plant.delivered_wh == 0
    assert w.plant.commands.count("withdraw") == 2


# --- no session ---------------------------------------------------------------------------------------


def test_declined(make: Make) -> None:
    w = make()
    w.plant.plug()
    w.run(3)
    w.terminal.script["authorize"].append("declined")
    w.terminal.tap(CARD)
    done = w.until_state(S.CLOSED)
    assert done.outcome == "refused" and done.refusal["code"] == "05"
    w.run(1)
    assert "Card was declined" in w.terminal.screen
    assert w.records() == [("settlement", done.id)]
    assert w.terminal.movements == [] and not w.plant.released
    w.run(15)
    assert "Tap card to start" in w.terminal.screen


def test_a_card_that_stays_on_the_reader_is_declined_once(make: Make) -> None:
    w = make()
    w.terminal.script["authorize"].append("declined")
    w.terminal.tap(CARD, hold_s=8)
    w.run(60)
    assert w.terminal.commands.count("authorize") == 1


def test_a_card_that_stays_on_the_reader_does_not_cancel_its_hold(make: Make) -> None:
    w = make()
    w.terminal.tap(CARD, hold_s=8)
    w.run(40)
    assert w.session().state is S.HELD


def test_the_terminal_cannot_be_told_to_hold(make: Make) -> None:
    w = make()
    w.terminal.script["authorize"].append("not_sent")
    w.terminal.tap(CARD)
    done = w.until_state(S.CLOSED)
    assert done.outcome == "not_held"
    assert w.terminal.movements == []


def test_the_car_is_never_plugged_in(make: Make) -> None:
    w = make()
    w.terminal.tap(CARD)
    w.until_state(S.HELD)
    w.run(110)
    assert w.session().state is S.HELD
    done = w.until_state(S.CLOSED, within_s=30)
    assert done.outcome == "cancelled"
    assert w.terminal.count("release") == 1
    assert w.records() == [("settlement", done.id)]
    one_end_each(w)


def test_cancelled_by_the_same_card(make: Make) -> None:
    w = make()
    w.terminal.tap(CARD)
    w.until_state(S.HELD)
    w.run(10)
    w.terminal.tap(CARD)
    done = w.until_state(S.CLOSED)
    assert (done.outcome, done.why) == ("cancelled", "driver")
    one_end_each(w)


def test_a_card_is_heard_right_after_the_terminal_was_busy_for_another_session(make: Make) -> None:
    """Its own hold was made long ago: it cannot be the same touch."""
    w = make(evses=(E1, E2))
    charge(w, card=OTHER_CARD)
    w.evses[E2].plug()
    w.run(3)
    w.terminal.tap(CARD)
    w.until(lambda: len(w.sessions()) == 2 and w.session().state is S.CHARGING)
    w.run(30)
    w.plant.unplug()
    w.until(lambda: w.terminal.count("capture") == 1)
    w.run(1)
    w.terminal.tap(CARD)
    w.run(5)
    assert w.session().stop_reason == "tap"


def test_unplugged_before_the_meter_was_read(make: Make) -> None:
    w = make()
    w.plant.plug()
    w.run(3)
    w.terminal.tap(CARD)
    w.until_state(S.AUTHORIZING)
    w.plant.unplug()
    w.until_state(S.HELD)
    assert not w.session().plugged
    w.until_state(S.CLOSED, within_s=150)
    assert w.terminal.count("release") == 1 and "release" not in w.plant.commands


def test_a_car_that_draws_nothing(make: Make) -> None:
    w = make()
    w.plant.load_w = 0
    w.plant.plug()
    w.run(3)
    w.terminal.tap(CARD)
    w.until_state(S.STARTING)
    done = w.until_state(S.CLOSED, within_s=16 * 60)
    assert done.stop_reason == "car draws nothing" and done.energy_wh == 0
    assert (done.cost_minor, done.outcome) == (0, "released"), "no start fee for 0 Wh"
    assert w.terminal.count("capture") == 0 and w.terminal.count("release") == 1
    one_end_each(w)


def test_a_meter_that_is_silent_at_the_begin(make: Make) -> None:
    w = make()
    w.terminal.tap(CARD)
    w.until_state(S.HELD)
    w.plant.meter_answers = False
    w.plant.plug()
    done = w.until_state(S.CLOSED)
    assert done.outcome == "cancelled" and done.why.startswith("meter: MTR-002")
    assert "release" not in w.plant.commands
    one_end_each(w)


# --- the approved amount counts -----------------------------------------------------------------------


def test_a_partial_approval_stops_at_its_own_limit(make: Make) -> None:
    w = make()
    w.terminal.approves_minor = 200
    charge(w, seconds=0)
    done = w.until_state(S.CLOSED, within_s=3600)
    assert done.stop_reason == "limit" and done.held_minor == 200
    assert 150 < (done.cost_minor or 0) <= 200 and done.shortfall_minor == 0
    assert done.energy_wh == w.plant.delivered_wh
    one_end_each(w)


def test_an_approval_too_small_for_any_energy(make: Make) -> None:
    w = make()
    w.terminal.approves_minor = 36
    w.plant.plug()
    w.run(3)
    w.terminal.tap(CARD)
    done = w.until_state(S.CLOSED)
    assert done.why == "the approved amount is too small to charge"
    assert "release" not in w.plant.commands
    assert w.terminal.amounts("release") == [0]


def test_idle_time_counts_and_a_pause_is_none_of_an_end(make: Make) -> None:
    w = make()
    charge(w, seconds=60)
    w.plant.draw(0)
    w.until_state(S.SUSPENDED)
    w.run(3)
    assert "Car has paused" in w.terminal.screen
    w.run(120)
    w.plant.draw(11_000)
    w.until_state(S.CHARGING)
    w.terminal.tap(CARD)
    done = w.until_state(S.CLOSED)
    assert 118_000 < done.idle_ms < 130_000


# --- what ends a session --------------------------------------------------------------------------------


def test_emergency_stop(make: Make) -> None:
    w = make()
    charge(w)
    w.plant.press_estop()
    w.until(lambda: not w.plant.released, within_s=3)
    done = w.until_state(S.CLOSED)
    assert done.stop_reason == "emergency stop"
    w.run(1)
    assert "Emergency stop" in w.terminal.screen and "STA-030" in w.terminal.screen
    one_end_each(w)
    w.run(40)
    assert "Out of order" in w.terminal.screen, "nobody starts while it is pressed"
    w.terminal.tap(OTHER_CARD)
    w.run(10)
    assert len(w.sessions()) == 1


def test_a_passing_fault_does_not_end_a_session_a_lasting_one_does(make: Make) -> None:
    w = make()
    charge(w)
    w.plant.fault = True
    w.run(20)
    w.plant.fault = False
    w.run(20)
    assert w.session().state is S.CHARGING
    w.plant.fault = True
    done = w.until_state(S.CLOSED)
    assert done.stop_reason == "fault of the charge controller"
    assert done.plugged, "a fault never means unplugged"


def test_the_meter_is_lost_while_charging(make: Make) -> None:
    w = make()
    charge(w, seconds=100)
    w.plant.meter_answers = False
    w.run(55)
    assert w.session().state is S.CHARGING
    assert [e["id"] for e in w.errors()] == ["MTR-002"], "told once"
    stopping = w.until_state(S.STOPPING, within_s=10)
    assert stopping.stop_reason == "meter lost"
    w.until(lambda: not w.plant.released, within_s=0.5)
    done = w.until_state(S.CLOSED, within_s=200)
    assert done.end_quality == "last_durable"
    # Saved when it fell silent, not only once a minute.
    assert 90 * 11_000 // 3600 < done.energy_wh < 105 * 11_000 // 3600
    one_end_each(w)


def test_a_meter_that_comes_back_bills_what_it_counted_meanwhile(make: Make) -> None:
    w = make()
    charge(w, seconds=100)
    w.plant.meter_answers = False
    w.until_state(S.ENDING, within_s=120)
    w.plant.meter_answers = True
    done = w.until_state(S.CLOSED)
    assert done.end_quality == "confirmed" and done.energy_wh == w.plant.delivered_wh


@pytest.mark.parametrize("state", [S.BEGINNING, S.ENDING])
def test_a_register_that_still_moves_is_read_until_it_says_the_same_twice(
    make: Make, state: S
) -> None:
    """It counts three more Wh, one a look, while it is read for the bill."""
    w = make()
    register = w.agent.parts.points["DE*ABC*E1"].register
    read, late_wh = register._meter.read, 0

    async def late() -> Reading:
        nonlocal late_wh
        reading = await read()
        now = w.agent.keeper.on_evse("DE*ABC*E1")
        if now is not None and now.state is state and late_wh < 3:
            late_wh += 1
        return replace(reading, energy_import_wh=(reading.energy_import_wh or 0) + late_wh)

    register._meter.read = late  # type: ignore[method-assign]
    charge(w)
    w.terminal.tap(CARD)
    done = w.until_state(S.CLOSED)
    assert late_wh == 3 and done.end_quality == "confirmed"
    assert done.end_wh == w.plant.register_wh + 3
    assert done.begin_wh == w.plant.begin_wh + (3 if state is S.BEGINNING else 0)


def test_another_meter_at_the_end(make: Make) -> None:
    w = make()
    charge(w, seconds=100)
    w.terminal.tap(CARD)
    w.until_state(S.STOPPING)
    w.plant.serial, w.plant.begin_wh = "SDM-2", 900_000
    done = w.until_state(S.CLOSED)
    assert done.end_quality == "last_durable"
    assert done.end_wh is not None and done.end_wh < 200_000
    assert [e["id"] for e in w.errors()] == ["STA-023"]


def test_the_controller_falls_silent_during_a_stop(make: Make) -> None:
    """UNKNOWN is no proof: neither unplugged nor stopped. Only long silence of the power is."""
    w = make()
    charge(w)
    w.plant.answers = False
    w.terminal.tap(CARD)
    w.until_state(S.STOPPING)
    w.run(100)
    assert w.session().state is S.STOPPING, "energy still flows"
    assert [e["id"] for e in w.errors()] == ["MTR-002", "STA-022"]
    w.plant.answers = True
    w.until(lambda: not w.plant.released, within_s=3)
    done = w.until_state(S.CLOSED)
    assert done.energy_wh == w.plant.delivered_wh, "what flowed meanwhile is measured"
    assert w.plant.delivered_wh > 300


def test_a_controller_that_stays_silent_is_proven_by_the_meter(make: Make) -> None:
    w = make()
    charge(w)
    w.plant.answers = False
    w.run(5)
    w.plant.draw(0)
    w.terminal.tap(CARD)
    w.until_state(S.STOPPING)
    w.run(50)
    assert w.session().state is S.STOPPING
    done = w.until_state(S.CLOSED, within_s=60)
    assert "proof" in str(w.agent.ledger._ledger.events(done.id))
    w.plant.answers = True
    w.run(3)
    assert not w.plant.released, "and as soon as it speaks, the release is taken back"


def test_controller_and_meter_are_gone_for_good(make: Make) -> None:
    """Nothing can be proven any more; after an hour the hold is settled by the last durable reading."""
    w = make()
    charge(w, seconds=100)
    w.plant.answers = w.plant.meter_answers = False
    w.until_state(S.STOPPING, within_s=70)
    w.run(50 * 60)
    assert w.session().state is S.STOPPING
    done = w.until_state(S.CLOSED, within_s=15 * 60)
    assert done.end_quality == "last_durable" and done.energy_wh > 250
    one_end_each(w)
    w.run(60)
    assert "Out of order" in w.terminal.screen


def test_a_controller_lost_while_charging_stops_the_session(make: Make) -> None:
    w = make()
    charge(w)
    w.plant.answers = False
    stopping = w.until_state(S.STOPPING, within_s=70)
    assert stopping.stop_reason == "charge controller lost"
    assert stopping.plugged
    w.plant.unplug()
    w.plant.plug()
    w.plant.answers = True
    w.until_state(S.CLOSED)
    assert w.plant.power_w == 0, "the next car does not charge on this card"


def test_a_lost_release_is_given_again(make: Make) -> None:
    w = make()
    charge(w)
    w.plant.released = False
    w.plant.ended = False
    w.plant._later(0, 0)
    w.until(lambda: w.plant.released, within_s=5)
    assert w.session().state in (S.CHARGING, S.SUSPENDED)


@pytest.mark.parametrize("failsafe_s", [None, 9])
def test_the_release_is_asserted_again_within_its_lease(make: Make, failsafe_s: int | None) -> None:
    """Below half of the controller's fail-safe time, with room for a lost one."""
    w = make()
    w.plant.failsafe_s = failsafe_s
    charge(w, seconds=120)
    given = w.plant.commands.count("release")
    assert given >= 10 if failsafe_s is None else given >= 28
    assert given <= 14 if failsafe_s is None else given <= 45


def test_a_controller_with_a_fail_safe_is_believed_sooner(make: Make) -> None:
    w = make()
    w.plant.failsafe_s = 10
    charge(w)
    w.plant.answers = False
    w.plant.draw(0)
    w.terminal.tap(CARD)
    w.until_state(S.STOPPING)
    w.until_state(S.CLOSED, within_s=30)


@pytest.mark.parametrize("state", [S.STARTING, S.CHARGING, S.SUSPENDED])
def test_unplugged_in_every_running_state(make: Make, state: S) -> None:
    w = make()
    w.plant.load_w = 0 if state is S.STARTING else 11_000
    w.plant.plug()
    w.run(3)
    w.terminal.tap(CARD)
    w.until_state(S.STARTING if state is S.STARTING else S.CHARGING)
    if state is S.SUSPENDED:
        w.plant.draw(0)
    w.until_state(state)
    w.plant.unplug()
    done = w.until_state(S.CLOSED)
    assert done.stop_reason == "unplugged" and not done.plugged
    one_end_each(w)


@pytest.mark.parametrize("state", [S.STOPPING, S.ENDING, S.CAPTURING])
def test_unplugged_while_the_session_ends(make: Make, state: S) -> None:
    w = make()
    charge(w)
    w.terminal.tap(CARD)
    w.until_state(state)
    w.plant.unplug()
    done = w.until_state(S.CLOSED)
    assert done.stop_reason == "tap"
    one_end_each(w)


def test_two_sessions_one_after_the_other(make: Make) -> None:
    w = make()
    for card in (CARD, OTHER_CARD):
        charge(w, card)
        w.terminal.tap(card)
        w.until_state(S.CLOSED)
        w.plant.unplug()
        w.run(10)
    assert w.terminal.count("capture") == 2
    one_end_each(w)
    assert len(w.records()) == 4


def test_what_the_terminal_booked_counts(make: Make) -> None:
    w = make()
    charge(w)
    w.terminal.books_less_minor = 7
    w.terminal.tap(CARD)
    done = w.until_state(S.UNRESOLVED)  # money moved, but not as told: a person looks
    assert done.cost_minor is not None
    assert done.captured_minor == done.cost_minor - 7 and done.owed_minor == 7
    assert [e["id"] for e in w.errors()] == ["TRM-002"]


def test_card_data_in_a_text_of_the_terminal_goes_nowhere(make: Make) -> None:
    w = make()
    w.terminal.decline_text = "card 4111 1111 1111 1111 is blocked"
    w.terminal.script["authorize"].append("declined")
    w.terminal.tap(CARD)
    done = w.until_state(S.CLOSED)
    assert done.refusal["text"] == "*"
    assert "1111" not in str(w.log_lines)
    assert b"4111" not in b"".join(f.read_bytes() for f in w.state.iterdir())


@pytest.mark.parametrize("claims", [ReadingState.WRONG_SERIAL, ReadingState.WRONG_MODEL])
def test_a_meter_that_claims_to_be_another_one_ends_energy_at_once(
    make: Make, claims: ReadingState
) -> None:
    w = make()
    charge(w, seconds=60)
    before = w.session()
    w.plant.meter_claims = claims
    w.run(3)
    assert not w.plant.released
    session = w.until_state(S.CLOSED, within_s=300)
    assert (session.stop_reason, session.end_quality) == ("meter exchanged", "last_durable")
    assert session.end_wh is not None and session.end_wh >= (before.last_wh or 0)
    one_end_each(w)
