"""A small hold that grows while energy flows: raised in time, by what was approved, and never twice."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import replace

import pytest
from support.fake_terminal import Hold
from support.fake_terminal_money import TerminalDriver
from support.station_world import (
    CARD,
    E1,
    E2,
    OTHER_CARD,
    TARIFF,
    World,
    one_end_each,
    replace_terminal,
)

from agent.ports import EodHolds
from agent.session import S, Session
from agent.session.raises import R
from agent.station.control import ControlRefused
from agent.station.timers import LOOK_EVERY_S

Make = Callable[..., World]
RAISING = ("1.00", "4.50", 4)
WITHOUT_IDLE = TARIFF.replace('idle_time:\n  - price_minute: "0.10"\n', "")


def world(make: Make, raising: tuple[str, str, int] = RAISING, **options: object) -> World:
    w = make(hold="1.50", raising=raising, **options)
    w.plant.load_w = 22_000
    return w


def tap(w: World) -> None:
    w.plant.plug()
    w.run(3)
    w.terminal.tap(CARD)
    w.until_state(S.CHARGING)


def charged(w: World, within_s: float = 10_800) -> Session:
    """Charging until the hold is used up, whatever it grows to."""
    done = w.until_state(S.CLOSED, within_s=within_s)
    one_end_each(w)
    return done


def fits(w: World, done: Session) -> None:
    """Books of both ends: what was held in all covers what was charged, and the rest was freed."""
    held = sum(w.terminal.amounts("hold")) + sum(w.terminal.amounts("increment"))
    assert done.held_minor == held
    assert w.terminal.amounts("capture") == [done.cost_minor]
    assert done.shortfall_minor == 0
    assert (done.cost_minor or 0) <= held


def test_raised_step_by_step_up_to_the_most(make: Make) -> None:
    w = world(make)
    tap(w)
    done = charged(w)
    assert w.terminal.amounts("hold") == [150]
    assert w.terminal.amounts("increment") == [100, 100, 100]
    assert (done.stop_reason, done.held_minor, done.raises) == ("limit", 450, 3)
    assert (done.cost_minor or 0) > 430, "energy went on meanwhile"
    fits(w, done)


def test_the_last_step_is_what_is_left_to_the_most(make: Make) -> None:
    w = world(make, ("1.00", "2.90", 9))
    tap(w)
    done = charged(w)
    assert w.terminal.amounts("increment") == [100, 40]
    fits(w, done)


def test_no_more_often_than_the_count(make: Make) -> None:
    w = world(make, ("1.00", "100.00", 2))
    tap(w)
    done = charged(w)
    assert w.terminal.amounts("increment") == [100, 100]
    fits(w, done)


def test_less_than_was_asked_for_is_the_last(make: Make) -> None:
    w = world(make)
    w.terminal.adds_at_most_minor = 30
    tap(w)
    done = charged(w)
    assert w.terminal.amounts("increment") == [30]
    assert done.held_minor == 180
    fits(w, done)


def test_refused_it_ends_at_the_first_hold(make: Make) -> None:
    w = world(make)
    w.terminal.script["increment"].append("declined")
    tap(w)
    done = charged(w)
    assert (done.stop_reason, done.held_minor, done.raises) == ("limit", 150, 0)
    assert w.terminal.commands.count("increment") == 1
    fits(w, done)


def test_not_reached_it_is_tried_again_while_there_is_time(make: Make) -> None:
    w = world(make, ("1.00", "2.50", 4))
    w.terminal.script["increment"] += ["not_sent", "not_sent"]
    tap(w)
    done = charged(w)
    assert w.terminal.commands.count("increment") == 3
    assert done.held_minor == 250
    fits(w, done)


@pytest.mark.parametrize(
    ("how", "increments"),
    [("lost", []), ("lost_done", [100]), ("lost_after", [100])],
)
def test_a_dialogue_that_breaks_is_asked_for_and_never_repeated(
    make: Make, how: str, increments: list[int]
) -> None:
    w = world(make, ("1.00", "2.50", 1))
    w.terminal.script["increment"].append(how)
    tap(w)
    done = charged(w)
    assert w.terminal.commands.count("increment") == 1
    assert w.terminal.amounts("increment") == increments
    fits(w, done)


def test_without_the_terminal_energy_ends_at_the_hold_and_is_charged_later(make: Make) -> None:
    w = world(make)
    tap(w)
    w.terminal.online = False
    w.until_state(S.CAPTURING, within_s=3600)
    w.run(60)
    w.terminal.online = True
    done = charged(w)
    assert (done.held_minor, done.raises) == (150, 0)
    fits(w, done)


@pytest.mark.parametrize("step", ["received", "result_sent", "stored", "answered", "completed"])
@pytest.mark.parametrize("reboot", [False, True], ids=["kill", "power_cut"])
def test_killed_at_every_step_of_a_raise(make: Make, step: str, reboot: bool) -> None:
    w = world(make, ("1.00", "2.50", 1))
    tap(w)
    w.until_killed(f"increment:{step}")
    w.passes(3)
    if reboot:
        w.plant.withdraw()
        w.reboot()
    w.start()
    assert w.terminal.commands.count("increment") == 1
    done = charged(w)
    assert w.terminal.commands.count("increment") == 1, "never sent again without an order"
    fits(w, done)


def killed_in_a_raise(w: World, *, away_s: float = 3, day_due: bool = False) -> None:
    """Its evidence is stored, its completion is not; after the restart the car is not looked at yet."""
    tap(w)
    w.until_killed("increment:stored")
    w.passes(away_s)
    w.terminal.eod_due = day_due
    w.plant.meter_answers = False
    w.start()


def raise_is_told(w: World) -> None:
    """Asked for before the car is looked at, and charged as it was told."""
    first = w.sessions()[0]
    assert first.state is S.CHARGING and not first.raising, "asked at once"
    w.plant.meter_answers = True
    w.until(lambda: w.logged("session_resumed"))
    w.plant.unplug()
    for plant in w.evses.values():
        plant.unplug()
    w.until(lambda: all(s.state is S.CLOSED for s in w.sessions()))
    done = w.sessions()[0]
    held = sum(w.terminal.amounts("hold")[:1]) + sum(w.terminal.amounts("increment"))
    assert (done.outcome, done.held_minor, done.captured_minor) == (
        "captured",
        held,
        done.cost_minor,
    )
    one_end_each(w)


def test_killed_in_a_raise_and_another_driver_taps(make: Make) -> None:
    w = world(make, ("1.00", "2.50", 1), evses=(E1, E2))
    killed_in_a_raise(w)
    w.evses[E2].plug()
    w.run(3)
    w.terminal.tap(OTHER_CARD)
    w.run(10)
    assert len(w.sessions()) == 2
    raise_is_told(w)


@pytest.mark.parametrize("step", ["received", "result_sent", "stored", "answered", "completed"])
def test_killed_at_every_step_of_a_raise_beside_another_session(make: Make, step: str) -> None:
    """Where it was not executed the last result is the other session's hold: older than the raise, so it
    proves as much as one's own."""
    w = world(make, ("1.00", "2.50", 1), evses=(E1, E2))
    tap(w)
    w.run(5)
    w.evses[E2].load_w = 1_000
    w.evses[E2].plug()
    w.run(3)
    w.terminal.tap(OTHER_CARD)
    w.until(lambda: len(w.sessions()) == 2 and w.session().state is S.CHARGING)
    w.until_killed(f"increment:{step}")
    w.passes(3)
    w.start()
    w.run(5)
    assert not w.sessions()[0].raising
    for plant in w.evses.values():
        plant.unplug()
    w.until(lambda: all(s.state is S.CLOSED for s in w.sessions()))
    assert w.sessions()[0].held_minor == 150 + sum(w.terminal.amounts("increment"))
    costs = [s.cost_minor or 0 for s in w.sessions()]
    assert sorted(w.terminal.amounts("capture")) == sorted(costs)
    one_end_each(w)


def test_a_raise_is_ordered_behind_another_session_s_capture_and_never_in_doubt_for_it(
    make: Make,
) -> None:
    """Killed when that capture is stored: the terminal's last result is one that no order could name."""
    w = world(make, ("1.00", "2.50", 1), evses=(E1, E2))
    tap(w)
    w.evses[E2].load_w = 1_000
    w.evses[E2].plug()
    w.run(3)
    w.terminal.tap(OTHER_CARD)
    w.until(lambda: len(w.sessions()) == 2 and w.session().state is S.CHARGING)
    w.terminal.settle_s = 170.0  # a slow host: the raise becomes due meanwhile
    w.run(60)
    w.evses[E2].unplug()
    w.until_killed("capture:answered")
    w.passes(3)
    w.terminal.settle_s = 2.0
    w.start()
    w.plant.unplug()
    w.until(lambda: all(s.state is S.CLOSED for s in w.sessions()), within_s=60)
    assert not w.logged("outcome_still_unknown")
    one_end_each(w)


def test_killed_in_a_raise_and_the_day_is_ended(make: Make) -> None:
    w = world(make, ("1.00", "2.50", 1))
    w.terminal.eod_open_holds = EodHolds.KEEPS
    killed_in_a_raise(w, day_due=True)
    w.run(15)
    assert w.terminal.commands.count("end_of_day") == 1
    raise_is_told(w)


@pytest.mark.parametrize("again", [False, True], ids=["", "killed once more"])
def test_what_is_asked_before_the_look_shortens_no_outage(make: Make, again: bool) -> None:
    """Whether a session goes on is decided by what was stored before the agent went away, also when it
    goes away once more before it has looked."""
    w = world(make, ("1.00", "2.50", 1))
    killed_in_a_raise(w, away_s=280 if again else 310)
    w.run(10)
    assert not w.session().raising
    if again:
        w.kill()
        w.passes(20)
        w.start()
    w.plant.meter_answers = True
    w.until(lambda: w.logged("session_not_resumed"))
    done = charged(w)
    assert done.stop_reason == "restart"
    assert done.captured_minor == done.held_minor, "the car drew on meanwhile"


def in_doubt(w: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """A raise whose dialogue broke, at a terminal that tells nothing about it."""
    tap(w)
    w.terminal.script["increment"].append("lost_done")

    async def forgets(self: TerminalDriver) -> None:
        return None

    monkeypatch.setattr(TerminalDriver, "last_result", forgets)
    w.until(lambda: w.session().raising == R.UNCLEAR, within_s=3600)
    w.run(15)


def test_a_raise_in_doubt_lets_others_wait_for_ten_minutes_at_most(
    make: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    w = world(make, evses=(E1, E2), tariff=WITHOUT_IDLE)
    in_doubt(w, monkeypatch)
    w.plant.draw(0)  # it stays for hours
    w.evses[E2].plug()
    w.run(3)
    w.terminal.screens.clear()
    w.terminal.tap(OTHER_CARD)
    w.run(5)
    assert len(w.sessions()) == 1
    assert any("Payment check, wait" in " ".join(lines) for lines in w.terminal.screens)
    w.run(600)
    w.terminal.tap(OTHER_CARD)
    w.run(10)
    assert len(w.sessions()) == 2, (
        "nobody could tell: the terminal is not kept from others for hours"
    )


def test_a_raise_in_doubt_at_an_exchanged_terminal_keeps_nobody_waiting(
    make: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Only the terminal that was asked for it can tell, and that one is in a box."""
    w = world(make, evses=(E1, E2), tariff=WITHOUT_IDLE)
    in_doubt(w, monkeypatch)
    w.plant.draw(0)
    strange = replace(w.terminal.next_ref(), terminal_id="99999999", receipt=17)
    w.terminal.holds.append(Hold(strange, 5000))
    replace_terminal(w, "99999999")
    w.run(10)
    assert w.logged("holds_matched")[-1]["foreign"], "it is looked at as any terminal"
    w.evses[E2].plug()
    w.run(3)
    w.terminal.tap(OTHER_CARD)
    w.run(10)
    assert [s.evse for s in w.sessions() if s.evse == E2]


def test_a_raise_in_doubt_is_not_replaced_by_what_the_station_does_itself(
    make: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Neither by an end of day at a terminal that keeps its holds, nor by freeing a hold of nobody here."""
    w = world(make, start=False, tariff=WITHOUT_IDLE)
    w.terminal.eod_open_holds = EodHolds.KEEPS
    w.terminal.holds.append(Hold(replace(w.terminal.next_ref(), receipt=17), 5000))
    w.start()
    w.until(lambda: w.sessions() and w.sessions()[0].settlement_seq is not None)
    told = TerminalDriver.last_result
    in_doubt(w, monkeypatch)
    w.plant.draw(0)
    with pytest.raises(ControlRefused, match="STA-034"):
        w.request("terminal_end_of_day", terminal="t1")
    w.agent.parts.desks["t1"]._matching._release = True  # as the operator may set it
    w.run(100)
    assert w.terminal.holds[0].open
    monkeypatch.setattr(TerminalDriver, "last_result", told)
    w.until(lambda: not w.session().raising)
    assert w.session().held_minor == 250
    w.until(lambda: not w.terminal.holds[0].open)
    assert w.request("terminal_end_of_day", terminal="t1")["outcome"] == "done"


def test_a_day_that_is_due_waits_for_a_raise_in_doubt_and_ends_nobodys_charging(
    make: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    w = world(make, start=False, tariff=WITHOUT_IDLE)
    w.terminal.eod_open_holds = EodHolds.KEEPS
    w.start()
    told = TerminalDriver.last_result
    in_doubt(w, monkeypatch)
    w.plant.draw(0)
    w.terminal.eod_due = True
    w.run(60)
    assert "end_of_day" not in w.terminal.commands
    assert w.logged("day_closing") and not w.logged("day_not_closed"), "no try is spent on it"
    assert w.session().state is S.SUSPENDED, "it is not told to end"
    monkeypatch.setattr(TerminalDriver, "last_result", told)
    w.until(lambda: "end_of_day" in w.terminal.commands)
    assert not w.session().raising


@pytest.mark.parametrize("seed", range(8))
def test_killed_at_any_moment_while_holds_grow(make: Make, seed: int) -> None:
    print(f"seed {seed}")
    rng = random.Random(seed)
    w = world(make)
    tap(w)
    for _ in range(6):
        if rng.random() < 0.4:
            how = rng.choice(["lost", "lost_done", "lost_after", "not_sent", "declined"])
            w.terminal.script["increment"].append(how)
        w.run(rng.uniform(1, 300))
        if w.session().state is S.CLOSED:
            break
        w.kill()
        w.passes(rng.uniform(0, 20))
        if rng.random() < 0.3:
            w.plant.withdraw()
            w.reboot()
        w.start()
        w.run(30)
    if w.session().state in (S.CHARGING, S.SUSPENDED, S.STARTING):
        w.plant.unplug()
    done = charged(w)
    fits(w, done)


def test_a_partial_approval_is_released_where_the_operator_wants_all_or_nothing(make: Make) -> None:
    w = make(partial="release")
    w.terminal.approves_minor = 1500
    w.plant.plug()
    w.run(3)
    w.terminal.tap(CARD)
    done = w.until_state(S.CLOSED)
    assert (done.outcome, done.begin_wh) == ("cancelled", None)
    assert w.terminal.count("release") == 1
    one_end_each(w)


def test_a_cost_below_the_acquirer_s_minimum_is_waived_and_released(make: Make) -> None:
    w = make()
    w.terminal.least_amount_minor = 500
    tap(w)
    w.run(3)  # sooner it would be the same tap once more
    w.terminal.tap(CARD)
    done = w.until_state(S.CLOSED)
    assert 0 < (done.cost_minor or 0) < 500
    assert (done.outcome, done.waived_minor, done.captured_minor) == (
        "released",
        done.cost_minor,
        0,
    )
    assert w.terminal.count("capture") == 0
    one_end_each(w)


@pytest.mark.parametrize(
    ("valid_h", "schemes"), [(3, "{}"), (24, "{girocard: 3, visa: 9}"), (24, "{visa: 3}")]
)
def test_energy_stops_before_the_hold_expires_with_an_alarm_before(
    make: Make, valid_h: int, schemes: str
) -> None:
    """The terminal names the card, a girocard, with the hold."""
    w = make(hold="500.00", valid_h=valid_h, partial=f"accept, valid_h_by_scheme: {schemes}")
    tap(w)
    w.plant.draw(0)
    w.run(10)
    w.suspend(3_540)
    assert not w.logged("hold_expires")
    w.until(lambda: w.logged("hold_expires"), within_s=LOOK_EVERY_S + 60)
    assert w.session().state is S.SUSPENDED
    w.suspend(3_540)
    w.until(lambda: w.session().state is S.CLOSED, within_s=LOOK_EVERY_S + 120)
    assert w.session().stop_reason == "hold expires"
    one_end_each(w)
