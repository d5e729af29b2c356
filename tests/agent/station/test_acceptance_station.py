"""What docs/acceptance.md asks of the whole station, where no other test says it in one place."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
from support.fake_terminal import Hold
from support.station_world import CARD, E1, E2, OTHER_CARD, World, charge, one_end_each

from agent.driver_ui import Display, screens
from agent.ports import Card, CardKind, NotSent, Outcome, Reason, Refused
from agent.session import S, Session
from agent.station import build
from agent.tariff import Bill

Make = Callable[..., World]
E3 = "DE*ABC*E3"
SECONDS = 10.0  # within which a hold is freed once it is known that no sale follows
SHOWN = {reason: " ".join(screens.declined(Display(24, 8, "en"), reason)) for reason in Reason}


def answers(w: World, verb: str, outcome: Outcome, times: int = 1) -> list[int]:
    """The terminal says `outcome` to the next commands of a kind; the amounts that it was asked for."""
    terminal: Any = w.agent.parts.desks["t1"]._terminal
    real, asked = getattr(terminal, verb), []

    async def said(*values: Any) -> Outcome:
        amounts = [v.amount_minor for v in values if hasattr(v, "amount_minor")]
        asked.append(amounts[-1])
        if len(asked) <= times:
            return outcome
        done: Outcome = await real(*values)
        return done

    setattr(terminal, verb, said)
    return asked


def nothing_was_held(w: World, done: Session) -> None:
    assert (done.outcome, done.captured_minor, done.begin_wh) == ("refused", 0, None)
    assert w.terminal.movements == []
    assert "release" not in w.plant.commands
    assert [kind for kind, _ in w.records()] == ["settlement"]


# --- the hold -----------------------------------------------------------------------------------------


def test_the_amount_is_shown_before_the_tap_that_holds_it(make: Make) -> None:
    w = make(hold="37.50")
    assert "Hold 37.50" in w.terminal.screen.replace("\u00a0", " ")
    assert w.terminal.holds == [] and not w.plant.released
    w.plant.plug()
    w.run(5)
    assert w.terminal.holds == [], "a plug alone agrees to nothing"
    w.terminal.tap(CARD)
    w.until_state(S.CHARGING)
    assert w.terminal.amounts("hold") == [3750]
    names = w.event_names()
    assert names.index("held") < names.index("began") < names.index("energy_flows")


@pytest.mark.parametrize("kind", list(CardKind), ids=str)
@pytest.mark.parametrize("token", [CARD, None], ids=["token", "no token"])
def test_every_card_gets_the_same_hold_in_the_same_time(
    make: Make, kind: CardKind, token: bytes | None
) -> None:
    w = make()
    w.plant.plug()
    w.run(3)
    terminal: Any = w.agent.parts.desks["t1"]._terminal
    read = terminal._card

    def of_kind() -> Card | None:
        return None if read() is None else Card(kind, token)

    terminal._card = of_kind
    began_ms = w.now_ms
    w.terminal.tap(token)
    w.until_state(S.CHARGING)
    assert w.terminal.amounts("hold") == [5000]
    assert w.now_ms - began_ms <= 1000 * SECONDS


# --- no sale follows ----------------------------------------------------------------------------------


def _cancelled(w: World) -> None:
    w.terminal.tap(CARD)


def _no_car(w: World) -> None:
    w.until_state(S.RELEASING, within_s=125)


def _meter_silent(w: World) -> None:
    w.plant.meter_answers = False
    w.plant.plug()
    w.until_state(S.RELEASING, within_s=60)


def _by_the_operator(w: World) -> None:
    w.request("stop", evse=E1)


@pytest.mark.parametrize("why", [_cancelled, _no_car, _meter_silent, _by_the_operator])
def test_a_hold_is_freed_within_seconds(make: Make, why: Callable[[World], None]) -> None:
    w = make()
    w.terminal.tap(CARD)
    w.until_state(S.HELD)
    w.run(6)
    why(w)
    w.until(lambda: w.terminal.open_holds() == [], within_s=SECONDS)
    w.until_state(S.CLOSED)
    one_end_each(w)


def test_a_hold_computed_from_tariff_and_power_is_shown_and_asked_for(make: Make) -> None:
    w = make(start=False)
    file = w.folder / "station.yaml"
    computed = 'amount: from_tariff, expected_min: 60, least: "5.00", most: "60.00"'
    file.write_text(file.read_text().replace('amount: "50.00"', computed))
    w.start()
    w.run(3)
    # 22 kWh x 0.49 and 0.35: 11.13, rounded up.
    assert "Hold 12.00 EUR" in w.terminal.screen.replace("\xa0", " ")
    done = charge(w)
    assert (done.requested_minor, done.held_minor) == (1200, 1200)
    assert w.terminal.amounts("hold") == [1200]


@pytest.mark.parametrize("end", ["unplug", "tap", "nothing"])
def test_a_start_without_energy_costs_nothing_and_frees_the_hold(make: Make, end: str) -> None:
    w = make()  # with a start fee and an idle fee
    w.plant.load_w = 0
    w.plant.plug()
    w.run(3)
    w.terminal.tap(CARD)
    w.until_state(S.STARTING)
    w.run(20)
    if end == "unplug":
        w.plant.unplug()
    elif end == "tap":
        w.terminal.tap(CARD)
    done = w.until_state(S.CLOSED, within_s=16 * 60)
    assert (done.energy_wh, done.cost_minor, done.outcome) == (0, 0, "released")
    assert w.terminal.count("capture") == 0 and w.terminal.count("release") == 1
    assert w.records() == [("session", done.id), ("settlement", done.id)]
    one_end_each(w)


def test_idle_time_without_energy_costs_nothing_either(make: Make) -> None:
    """A car that draws a watt for a moment: idle time runs after it, is recorded, and is not charged."""
    w = make()
    w.plant.load_w = 1
    w.plant.plug()
    w.run(3)
    w.terminal.tap(CARD)
    w.until_state(S.CHARGING)
    w.plant.draw(0)
    w.until_state(S.SUSPENDED)
    w.run(600)
    live = w.agent.parts.points[E1].live
    assert live is not None and live.cost_minor == 0
    w.plant.unplug()
    done = w.until_state(S.CLOSED)
    assert done.idle_ms > 590_000 and done.energy_wh == 0
    assert (done.cost_minor, done.outcome) == (0, "released")
    assert {line.amount_minor for line in Bill.from_json(done.bill).lines} == {0}
    one_end_each(w)


# --- the capture --------------------------------------------------------------------------------------


def test_a_cost_above_the_hold_is_charged_up_to_it_and_the_rest_is_named(make: Make) -> None:
    """The contactor does not open: what flows then is measured, and not hidden."""
    w = make()
    w.terminal.approves_minor = 150
    w.plant.load_w = 22_000
    charge(w, seconds=250)
    w.plant.answers = False
    stopping = w.until_state(S.STOPPING, within_s=200)
    assert stopping.stop_reason in ("limit", "charge controller lost")
    w.run(200)
    w.plant.answers = True
    done = w.until_state(S.CLOSED)
    over = (done.cost_minor or 0) - 150
    assert over > 0 and done.shortfall_minor == over
    assert w.terminal.amounts("capture") == [150]
    assert done.energy_wh == w.plant.delivered_wh
    one_end_each(w)


def test_refused_and_failed_are_told_apart_and_both_are_owed(
    make: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The terminal said no; or it was never executed, and the schedule has ended, over a restart."""
    policy = build.policy
    short = ((2, 60_000), (1, 600_000))
    monkeypatch.setattr(build, "policy", lambda s: replace(policy(s), retry_steps=short))
    w = make(evses=(E1, E2))
    for plant, card in ((w.evses[E1], CARD), (w.evses[E2], OTHER_CARD)):
        plant.plug()
        w.run(3)
        w.terminal.tap(card)
        w.until_state(S.CHARGING)
        w.run(5)
    answers(w, "capture", Refused(Reason.DECLINED, "05", "declined by the issuer"))
    w.evses[E1].unplug()
    w.until(lambda: w.sessions()[0].state is S.UNRESOLVED)
    w.terminal.script["capture"] += ["not_sent"] * 99
    w.evses[E2].unplug()
    w.until(lambda: w.terminal.commands.count("capture") == 2)
    w.kill()
    w.passes(5)
    w.start()
    w.until(lambda: w.sessions()[1].state is S.UNRESOLVED, within_s=1_000)
    refused, failed = w.sessions()
    assert (refused.outcome, failed.outcome) == ("refused", "failed")
    assert refused.refusal["code"] == "05" and failed.refusal == {}
    for session in (refused, failed):
        assert session.owed_minor == session.cost_minor and session.captured_minor == 0
    listed = {row["id"]: row for row in w.request("status")["open"]}
    assert set(listed) == {refused.id, failed.id}
    assert all(row["owed_minor"] > 0 and row["since"] for row in listed.values())
    tried = w.terminal.commands.count("capture")
    w.run(1_000)
    assert w.terminal.commands.count("capture") == tried, "the schedule has an end"


# --- refusals -----------------------------------------------------------------------------------------


def test_every_cause_has_words_of_its_own() -> None:
    assert len(set(SHOWN.values())) == len(Reason)


@pytest.mark.parametrize("reason", list(Reason), ids=str)
def test_a_refused_driver_reads_why_and_what_to_do(make: Make, reason: Reason) -> None:
    w = make()
    w.plant.plug()
    w.run(3)
    answers(w, "authorize", Refused(reason, "xx", "the terminal's own text"))
    w.terminal.tap(CARD)
    done = w.until_state(S.CLOSED)
    w.run(1)
    assert w.terminal.screen == SHOWN[reason]
    assert "No charge was made" in w.terminal.screen
    assert done.refusal["reason"] == str(reason)
    nothing_was_held(w, done)


def test_a_host_that_is_not_reached_refuses_this_tap_and_not_the_next(make: Make) -> None:
    w = make()
    w.plant.plug()
    w.run(3)
    asked = answers(w, "authorize", Refused(Reason.TRY_LATER, "a1", "no answer of the host"), 2)
    for card in (CARD, OTHER_CARD):
        w.terminal.tap(card)
        w.until(lambda: "Bank not reached" in w.terminal.screen)
        assert "Try in a minute" in w.terminal.screen
        done = w.until_state(S.CLOSED)
        assert (done.outcome, done.refusal["code"]) == ("refused", "a1")
        w.run(12)
    assert w.terminal.movements == [] and not w.plant.released
    assert "Tap card to start" in w.terminal.screen, "the station is not out of order"
    w.terminal.tap(CARD)
    w.until_state(S.CHARGING)
    assert asked == [5000] * 3


def test_a_terminal_that_cannot_send_refuses_too(make: Make) -> None:
    w = make()
    w.plant.plug()
    w.run(3)
    answers(w, "authorize", NotSent("the link to the terminal is down"))
    w.terminal.tap(CARD)
    done = w.until_state(S.CLOSED)
    assert done.outcome == "not_held" and "release" not in w.plant.commands


def test_a_pin_is_asked_for_and_the_hold_stays_what_the_policy_says(make: Make) -> None:
    w = make()
    w.plant.plug()
    w.run(3)
    asked = answers(w, "authorize", Refused(Reason.PIN_REQUIRED, "33", "PIN required"))
    w.terminal.tap(CARD)
    nothing_was_held(w, w.until_state(S.CLOSED))
    w.run(1)
    assert "PIN is needed" in w.terminal.screen and "Insert card or phone" in w.terminal.screen
    w.run(8)
    w.terminal.tap(CARD)
    w.until_state(S.CHARGING)
    assert asked == [5000, 5000], "neither lowered below a PIN limit nor raised"


# --- several drivers ----------------------------------------------------------------------------------


def test_a_terminal_that_takes_no_further_hold_harms_no_running_session(make: Make) -> None:
    w = make(evses=(E1, E2, E3))
    for plant, card in ((w.evses[E1], CARD), (w.evses[E2], OTHER_CARD)):
        plant.plug()
        w.run(3)
        w.terminal.tap(card)
        w.until_state(S.CHARGING)
        w.run(5)
    answers(w, "authorize", Refused(Reason.OPERATOR, "b1", "memory full", "day_closing"))
    w.evses[E3].plug()
    w.run(3)
    w.terminal.tap(b"card-three")
    w.until(lambda: len(w.sessions()) == 3 and w.session().state is S.CLOSED)
    w.run(1)
    assert "Terminal closes day" in w.terminal.screen
    assert w.session().outcome == "refused" and not w.evses[E3].released
    assert [s.state for s in w.sessions()[:2]] == [S.CHARGING] * 2
    for plant in w.evses.values():
        plant.unplug()
    w.until(lambda: all(s.state is S.CLOSED for s in w.sessions()), within_s=60)
    assert [s.outcome for s in w.sessions()] == ["captured", "captured", "refused"]
    assert w.terminal.open_holds() == []


def test_a_hold_for_which_there_is_no_room_is_refused_before_the_terminal_is_asked(
    make: Make,
) -> None:
    w = make(evses=(E1, E2, E3), terminal_more="holds_most: 2")
    for plant, card in ((w.evses[E1], CARD), (w.evses[E2], OTHER_CARD)):
        plant.plug()
        w.run(3)
        w.terminal.tap(card)
        w.until_state(S.CHARGING)
        w.run(5)
    w.evses[E3].plug()
    w.run(3)
    asked = w.terminal.commands.count("authorize")
    w.terminal.tap(b"card-three")
    w.run(3)
    assert "Full, try later" in w.terminal.screen and len(w.sessions()) == 2
    assert w.terminal.commands.count("authorize") == asked, "the terminal was not asked"
    assert [line["id"] for line in w.logged("session_refused")] == ["STA-046"]
    assert [s.state for s in w.sessions()] == [S.CHARGING] * 2
    # The card of a running session still stops it, and then there is room.
    w.run(10)
    w.terminal.tap(CARD)
    w.until(lambda: sum(s.state is S.CLOSED for s in w.sessions()) == 1)
    w.evses[E1].unplug()
    w.run(40)
    w.terminal.tap(b"card-three")
    w.until(lambda: len(w.sessions()) == 3 and w.session().state is S.CHARGING)
    assert len(w.terminal.open_holds()) == 2


def test_the_display_asks_for_no_card_while_there_is_no_room(make: Make) -> None:
    """A hold of nobody here is one, too."""
    w = make(start=False, terminal_more="holds_most: 1")
    w.terminal.holds.append(Hold(w.terminal.next_ref(), 5000))
    w.start()
    w.run(20)
    assert "Full, try later" in w.terminal.screen
    w.terminal.holds[0].open = False
    w.run(11 * 60)  # somebody ended it there: the terminal is asked again
    assert "Tap card" in w.terminal.screen


# --- what is gone -------------------------------------------------------------------------------------


@pytest.mark.parametrize("terminal", [True, False], ids=["terminal", "no terminal"])
@pytest.mark.parametrize("meter", [True, False], ids=["meter", "no meter"])
def test_whatever_is_gone_is_named_and_the_session_ends_well(
    make: Make, terminal: bool, meter: bool
) -> None:
    w = make()
    charge(w, seconds=70)
    w.terminal.online, w.plant.meter_answers = terminal, meter
    w.run(30)
    status = w.request("status")
    assert bool(status["terminals"][0]["trouble"]) is not terminal
    assert status["evses"][0]["meter"] == ("ok" if meter else "no_answer")
    gone = {name for name, there in (("terminal", terminal), ("meter", meter)) if not there}
    assert {line["device"] for line in w.logged("device_lost")} == gone
    assert w.session().state is S.CHARGING
    w.run(60)
    assert (w.session().state is S.CHARGING) is meter, "no energy that cannot be measured"
    w.terminal.online = w.plant.meter_answers = True
    w.run(40)
    if w.session().state is S.CHARGING:
        w.terminal.tap(CARD)
    done = w.until_state(S.CLOSED, within_s=200)
    assert done.energy_wh == w.plant.delivered_wh
    assert w.terminal.amounts("capture") == [done.cost_minor]
    one_end_each(w)
