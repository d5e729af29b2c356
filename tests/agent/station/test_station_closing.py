"""The end of day by itself: when the terminal asks for it and by the clock, with sessions running, with what
cannot be settled, with the agent killed at every step of it; and a terminal's own restart."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from support.fake_terminal import Hold
from support.station_world import CARD, E1, E2, OTHER_CARD, UTC_MS, World, charge, one_end_each

from agent.ports import EodHolds, HoldRef
from agent.session import S
from agent.session.states import OCCUPIES_EVSE
from agent.station.closing import TASK
from agent.values import Quality

Make = Callable[..., World]
MINUTE_S, HOUR_S, HOUR_MS = 60.0, 3600.0, 3_600_000
DRAIN = "end_of_day: {drain_min: 6}"
# The world begins at 19:56:40 in Berlin.
AT_2000 = 'end_of_day: {at: "20:00", drain_min: 6}'
KINDS = list(EodHolds)


def steps(w: World) -> list[str]:
    found = w.agent.ledger._ledger.upkeep(TASK)
    return [row.step for row in found[0].steps] if found else []


def closed(w: World) -> Callable[[], bool]:
    return lambda: w.terminal.count("end_of_day") == 1


def total_is_what_was_captured(w: World) -> None:
    captured = sum(s.captured_minor for s in w.sessions())
    assert sum(w.terminal.amounts("end_of_day")) == captured


# --- who wants it -----------------------------------------------------------------------------------


def test_an_idle_terminal_that_asks_is_closed_and_opened_again(make: Make) -> None:
    w = make(terminal_more=DRAIN)
    w.terminal.eod_due = True
    w.until(closed(w))
    w.until(lambda: "Tap card" in w.terminal.screen)
    assert steps(w) == ["begun", "over"]
    assert w.request("status")["ends_of_day"][0]["outcome"] == "done"
    charge(w)


def test_a_refusal_that_only_a_days_end_cures_is_one(make: Make) -> None:
    """Its status still says ready; the refused hold is what tells."""
    w = make(terminal_more=DRAIN)
    w.terminal.full = True
    w.plant.plug()
    w.run(3)
    w.terminal.tap(CARD)
    w.until(closed(w))
    assert w.session().outcome == "refused"
    w.run(10)
    w.terminal.tap(OTHER_CARD)
    w.until_state(S.CHARGING)


def test_by_the_clock_once_a_day(make: Make) -> None:
    w = make(terminal_more=AT_2000)
    w.run(3 * MINUTE_S)
    assert w.terminal.count("end_of_day") == 0
    w.until(closed(w))
    w.skew_ms += 23 * HOUR_MS
    w.run(10 * MINUTE_S)
    assert w.terminal.count("end_of_day") == 1
    w.skew_ms += HOUR_MS
    w.run(MINUTE_S)
    assert w.terminal.count("end_of_day") == 2
    w.skew_ms -= 12 * HOUR_MS  # the clock is set back: that day is ended already
    w.run(MINUTE_S)
    w.skew_ms += 12 * HOUR_MS
    w.run(MINUTE_S)
    assert w.terminal.count("end_of_day") == 2


@pytest.mark.parametrize("restart", [False, True], ids=["running", "restarted"])
@pytest.mark.parametrize("days", [2, 400])
def test_a_clock_that_was_far_ahead_for_a_while_stops_no_later_day(
    make: Make, days: int, restart: bool
) -> None:
    w = make(terminal_more=AT_2000)
    w.run(MINUTE_S)
    w.skew_ms += days * 24 * HOUR_MS
    w.until(closed(w))
    w.skew_ms -= days * 24 * HOUR_MS
    if restart:
        w.kill()
        w.start()
    w.run(5 * MINUTE_S)
    assert w.terminal.count("end_of_day") == 2, "this day's own"
    for day in (1, 2):
        w.skew_ms += 24 * HOUR_MS
        w.run(5 * MINUTE_S)
        assert w.terminal.count("end_of_day") == 2 + day


def test_a_time_that_went_by_while_the_station_was_off_is_made_up_for_once(make: Make) -> None:
    w = make(terminal_more=AT_2000)
    w.until(closed(w), within_s=10 * MINUTE_S)
    w.kill()
    w.passes(3 * 24 * HOUR_S)
    w.start()
    w.until(lambda: w.terminal.count("end_of_day") == 2)
    w.run(10 * MINUTE_S)
    assert w.terminal.count("end_of_day") == 2


def test_without_a_clock_no_time_has_come(make: Make) -> None:
    w = make(terminal_more=AT_2000, start=False)
    w.quality = Quality.UNKNOWN
    w.skew_ms = -UTC_MS  # 1970
    w.start()
    w.run(10 * MINUTE_S)
    assert w.terminal.count("end_of_day") == 0
    w.quality, w.skew_ms = Quality.TRUSTED, 0
    w.run(10 * MINUTE_S)
    assert w.terminal.count("end_of_day") == 0, "the time that was set is no time that came"
    w.skew_ms += 24 * HOUR_MS
    w.run(MINUTE_S)
    assert w.terminal.count("end_of_day") == 1


@pytest.mark.parametrize("restart", [False, True], ids=["running", "restarted"])
def test_a_day_that_was_ended_without_a_clock_is_not_ended_again_when_it_is_set(
    make: Make, restart: bool
) -> None:
    """The terminal wanted it, in 1970. Since then no time of day has come; a driver charges on."""
    w = make(terminal_more=AT_2000, start=False)
    w.quality, w.skew_ms = Quality.UNKNOWN, -UTC_MS
    w.terminal.eod_due = True
    w.start()
    w.until(closed(w))
    w.run(10)
    charge(w, seconds=10)
    w.quality, w.skew_ms = Quality.TRUSTED, HOUR_MS
    if restart:
        w.kill()
        w.start()
    w.run(10 * MINUTE_S)
    assert w.terminal.count("end_of_day") == 1 and not w.logged("day_closing")[restart ^ 1 :]
    assert w.session().state is S.CHARGING
    w.terminal.tap(CARD)
    w.until_state(S.CLOSED)
    w.skew_ms += 24 * HOUR_MS
    w.until(lambda: w.terminal.count("end_of_day") == 2)


# --- with sessions ----------------------------------------------------------------------------------


@pytest.mark.parametrize("by", ["terminal", "clock"])
@pytest.mark.parametrize("kind", KINDS)
def test_a_running_session_is_drained_or_left_alone(make: Make, kind: EodHolds, by: str) -> None:
    """Where the terminal keeps its holds nobody waits; elsewhere no new one begins, the running one may
    end by itself, and the driver can still stop it."""
    w = make(terminal_more=AT_2000 if by == "clock" else DRAIN, evses=(E1, E2))
    w.terminal.eod_open_holds = kind
    charge(w)
    first = w.session().id
    w.terminal.eod_due = by == "terminal"
    w.until(lambda: steps(w) == ["begun"] or closed(w)(), within_s=10 * MINUTE_S)
    if kind is EodHolds.KEEPS:
        w.until(closed(w), within_s=MINUTE_S)
        assert w.session().state is S.CHARGING
        w.terminal.tap(CARD)
        w.until_state(S.CLOSED)
        one_end_each(w)
        return
    w.run(3 * MINUTE_S)
    w.terminal.tap(OTHER_CARD)
    w.run(3)
    assert "Back in a moment" in w.terminal.screen
    assert len(w.sessions()) == 1 and w.session().state is S.CHARGING
    w.terminal.tap(CARD)
    w.until_state(S.CLOSED)
    w.until(closed(w))
    total_is_what_was_captured(w)
    assert w.session().id == first and w.session().stop_reason == "tap"
    one_end_each(w)
    w.run(10)
    w.plant.unplug()
    w.run(5)
    w.plant.plug()
    w.run(3)
    w.terminal.tap(OTHER_CARD)
    w.until_state(S.CHARGING)


@pytest.mark.parametrize("kind", [k for k in KINDS if k is not EodHolds.KEEPS])
def test_at_the_deadline_it_is_ended_charged_and_closed(make: Make, kind: EodHolds) -> None:
    w = make(terminal_more=DRAIN)
    w.terminal.eod_open_holds = kind
    charge(w)
    w.terminal.eod_due = True
    w.run(6 * MINUTE_S)
    assert w.session().state is S.CHARGING
    done = w.until_state(S.CLOSED, within_s=3 * MINUTE_S)
    assert done.stop_reason == "end of day" and done.energy_wh == w.plant.delivered_wh > 0
    w.until(closed(w))
    total_is_what_was_captured(w)
    assert done.captured_minor == done.cost_minor
    one_end_each(w)


def test_a_hold_that_waits_for_its_car_ends_too(make: Make) -> None:
    w = make(terminal_more="end_of_day: {drain_min: 0}")
    w.terminal.tap(CARD)
    w.until_state(S.HELD)
    w.terminal.eod_due = True
    done = w.until_state(S.CLOSED, within_s=100)
    assert (done.outcome, done.why) == ("cancelled", "end of day")
    w.until(closed(w))
    one_end_each(w)


@pytest.mark.parametrize("kind", [k for k in KINDS if k is not EodHolds.KEEPS])
def test_what_cannot_be_charged_is_listed_as_owed(make: Make, kind: EodHolds) -> None:
    """The day is ended where that can only cancel the hold; where it would charge all of it, or be
    refused, it waits for a person, and nobody is charged for what was not delivered."""
    w = make(terminal_more="end_of_day: {drain_min: 1}")
    w.terminal.eod_open_holds = kind
    w.terminal.script["capture"].extend(["not_sent"] * 50)
    charge(w)
    w.terminal.eod_due = True
    listed = w.until_state(S.UNRESOLVED, within_s=20 * MINUTE_S)
    assert (listed.outcome, listed.owed_minor) == ("failed", listed.cost_minor)
    assert listed.owed_minor > 0
    w.run(5 * MINUTE_S)
    if kind is EodHolds.CANCELS:
        assert w.terminal.count("end_of_day") == w.terminal.count("cancelled_by_day") == 1
    else:
        assert w.terminal.count("end_of_day") == 0
        assert "STA-041" in {e["id"] for e in w.errors()}
        w.terminal.holds[0].open = False  # a person ends it there
        w.until(closed(w), within_s=2 * HOUR_S)
    assert w.terminal.count("capture") == 0 and w.session().owed_minor == listed.owed_minor


def test_an_outage_over_the_deadline_takes_no_tries_from_a_capture(make: Make) -> None:
    """The terminal is not at once what it was, either; the day that cancels what is open waits for it."""
    w = make(terminal_more="end_of_day: {drain_min: 1}")
    w.terminal.eod_open_holds = EodHolds.CANCELS
    w.terminal.script["capture"].extend(["not_sent"] * 3)
    charge(w)
    w.terminal.eod_due = True
    w.until_state(S.CAPTURE_DUE, within_s=5 * MINUTE_S)
    w.kill()
    w.passes(HOUR_S)
    w.plant.withdraw()
    w.reboot()
    w.start()
    w.until(closed(w), within_s=5 * MINUTE_S)
    assert w.session().outcome == "captured"
    total_is_what_was_captured(w)
    one_end_each(w)


@pytest.mark.parametrize("kind", [k for k in KINDS if k is not EodHolds.KEEPS])
def test_what_cannot_be_told_is_listed_and_goes_on_when_it_can(make: Make, kind: EodHolds) -> None:
    w = make(terminal_more="end_of_day: {drain_min: 1}")
    w.terminal.eod_open_holds = kind
    w.terminal.script["capture"].append("lost")
    charge(w)
    w.terminal.script["last_result"].extend(["lost"] * 100)
    w.terminal.eod_due = True
    listed = w.until_state(S.UNRESOLVED, within_s=20 * MINUTE_S)
    assert listed.outcome == "unknown" and w.terminal.count("end_of_day") == 0
    w.terminal.script.clear()
    w.until(closed(w), within_s=5 * MINUTE_S)
    assert w.session().outcome == "captured", "it is asked before the day is ended"
    total_is_what_was_captured(w)
    one_end_each(w, settlements=2)


def test_a_hold_of_nobody_is_not_put_at_risk(make: Make) -> None:
    w = make(terminal_more=AT_2000)
    w.terminal.eod_open_holds = EodHolds.CHARGES_FULL
    w.terminal.holds.append(Hold(HoldRef("52523535", 17), 5000))
    w.run(12 * MINUTE_S)
    assert w.terminal.count("end_of_day") == 0
    assert "STA-041" in {e["id"] for e in w.errors()}
    assert steps(w) == ["begun", "over"], "by the clock it is not tried for ever"
    w.run(3)
    charge(w)  # and payments go on


def test_a_refused_end_is_tried_again(make: Make) -> None:
    w = make(terminal_more=DRAIN)
    w.terminal.script["end_of_day"].extend(["declined", "declined"])
    w.terminal.eod_due = True
    w.until(closed(w), within_s=5 * MINUTE_S)
    assert w.terminal.commands.count("end_of_day") == 3
    assert len(w.logged("day_not_closed")) == 1, "the same trouble is told once"


def test_a_person_who_closes_it_meanwhile_ends_the_wait(make: Make) -> None:
    w = make(terminal_more=DRAIN)
    charge(w)
    w.terminal.eod_due = True
    w.until(lambda: steps(w) == ["begun"], within_s=2 * MINUTE_S)
    w.terminal.eod_due = False  # closed in the terminal's own menu
    w.until(lambda: steps(w) == ["begun", "over"], within_s=2 * MINUTE_S)
    assert w.session().state is S.CHARGING


# --- killed -----------------------------------------------------------------------------------------

POINTS = ["received", "result_sent", "stored", "answered", "completed"]


@pytest.mark.parametrize("reboot", [False, True], ids=["kill", "power_cut"])
@pytest.mark.parametrize("kind", KINDS)
def test_killed_while_it_drains_it_goes_on_with_the_same_deadline(
    make: Make, kind: EodHolds, reboot: bool
) -> None:
    w = make(terminal_more=DRAIN)
    w.terminal.eod_open_holds = kind
    charge(w)
    w.terminal.eod_due = True
    w.until(lambda: steps(w) == ["begun"], within_s=2 * MINUTE_S)
    w.run(3 * MINUTE_S if kind is not EodHolds.KEEPS else 0.0)
    w.kill()
    w.passes(60)
    if reboot:
        w.plant.withdraw()
        w.reboot()
    w.start()
    if kind is EodHolds.KEEPS:
        w.until(closed(w), within_s=2 * MINUTE_S)
        w.run(2)
        w.plant.unplug()
        w.until_state(S.CLOSED)
        one_end_each(w)
        return
    w.until_state(S.CLOSED, within_s=5 * MINUTE_S)
    w.until(closed(w), within_s=2 * MINUTE_S)
    total_is_what_was_captured(w)
    one_end_each(w)


@pytest.mark.parametrize("point", POINTS)
def test_killed_in_the_middle_of_closing(make: Make, point: str) -> None:
    w = make(terminal_more="end_of_day: {drain_min: 1}")
    charge(w)
    w.terminal.eod_due = True
    w.until_killed(f"end_of_day:{point}")
    w.passes(5)
    w.start()
    w.until(lambda: steps(w)[-1:] == ["over"], within_s=5 * MINUTE_S)
    assert w.terminal.count("end_of_day") == 1, "closed once"
    assert w.terminal.commands.count("end_of_day") == (2 if point == "received" else 1)
    total_is_what_was_captured(w)
    one_end_each(w)


# --- the terminal's own restart ---------------------------------------------------------------------


def test_before_its_own_restart_a_terminal_begins_nothing_and_may_then_be_lost(make: Make) -> None:
    w = make(terminal_more='reboot: {at: "20:07", lasts_min: 10}', evses=(E1, E2))
    charge(w)
    w.run(2 * MINUTE_S)
    w.terminal.tap(OTHER_CARD)
    w.until(lambda: len(w.sessions()) == 2)
    w.run(130)
    first = w.sessions()[0]
    assert first.state is S.CHARGING, "a running session goes on"
    w.terminal.tap(b"third")
    w.run(3)
    assert "Out of order" in w.terminal.screen
    assert len(w.sessions()) == 2
    w.run(3 * MINUTE_S)
    w.terminal.online = False
    w.run(3 * MINUTE_S)
    assert not [e for e in w.errors() if e["event"] == "device_lost"]
    assert len(w.logged("device_restarts")) == 1
    w.terminal.online = True
    w.run(MINUTE_S)
    w.terminal.tap(b"third")
    w.until(lambda: len(w.sessions()) == 3, within_s=20)
    assert w.sessions()[0].state in OCCUPIES_EVSE


def test_one_that_does_not_come_back_is_a_fault(make: Make) -> None:
    w = make(terminal_more='reboot: {at: "20:00", lasts_min: 5}')
    w.run(4 * MINUTE_S)
    w.terminal.online = False
    w.run(2 * MINUTE_S)
    assert "TRM-006" not in {e["id"] for e in w.errors()}
    w.run(3 * MINUTE_S)
    assert "TRM-006" in {e["id"] for e in w.errors()}
