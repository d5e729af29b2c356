"""The agent is killed at every state and at every step of a dialogue, and starts again on its files."""

from __future__ import annotations

import itertools
from collections.abc import Callable

import pytest
from support.station_world import CARD, OTHER_CARD, TARIFF, UTC_MS, World, charge, one_end_each

from agent.session import S
from agent.values import Quality

Make = Callable[..., World]
MINUTE_S = 60.0
BY_THE_MINUTE = TARIFF.replace("idle_time:", 'charging_time:\n  - price_minute: "0.25"\nidle_time:')

# How a session gets into each state it can be killed in.
_BROKEN: dict[S, tuple[str, str]] = {
    S.HOLD_UNCLEAR: ("authorize", "lost_after"),
    S.CAPTURE_DUE: ("capture", "not_sent"),
    S.CAPTURE_UNCLEAR: ("capture", "lost"),
    S.RELEASE_DUE: ("release", "not_sent"),
    S.RELEASE_UNCLEAR: ("release", "lost"),
}
_TAP_FIRST = (S.HELD, S.RELEASING, S.RELEASE_DUE, S.RELEASE_UNCLEAR)
_STOPPED = (
    S.STOPPING,
    S.ENDING,
    S.RECORDING,
    S.CAPTURING,
    S.CAPTURE_DUE,
    S.CAPTURE_UNCLEAR,
    S.SETTLED,
)
# What raises a hold has tests of its own (test_station_raises.py).
STATES = [s for s in S if s not in (S.NEW, S.CLOSED, S.UNRESOLVED, S.RAISE_OPEN)]


def lead_to(w: World, state: S) -> None:
    """What a driver does on the way into `state`; the agent dies when that is durable."""
    if state in _BROKEN:
        verb, how = _BROKEN[state]
        w.terminal.script[verb].append(how)
    if state not in _TAP_FIRST:
        w.plant.plug()
        w.run(3)
    w.terminal.tap(CARD)
    if state in (S.RELEASING, S.RELEASE_DUE, S.RELEASE_UNCLEAR):
        w.until_state(S.HELD)
        w.terminal.tap(CARD)
    if state in (S.SUSPENDED, *_STOPPED):
        w.until_state(S.CHARGING)
        w.run(30)
        if state is S.SUSPENDED:
            w.plant.draw(0)
        else:
            w.terminal.tap(CARD)
    w.until_killed_in(state)


def finish(w: World) -> None:
    """The driver does what is left to do; in the end nothing is owed."""
    for _ in range(400):
        if not w.sessions():
            return
        state = w.session().state
        if state is S.CLOSED:
            return
        if state is S.CHARGING:
            w.terminal.tap(CARD)
        if state is S.SUSPENDED:
            w.plant.unplug()
        w.run(5)
    raise AssertionError(w.story())


@pytest.mark.parametrize("reboot", [False, True], ids=["kill", "power_cut"])
@pytest.mark.parametrize("state", STATES, ids=str)
def test_killed_in_every_state(make: Make, state: S, reboot: bool) -> None:
    w = make()
    lead_to(w, state)
    delivered = w.plant.delivered_wh
    w.passes(20)
    if reboot:
        w.plant.withdraw()  # the controller lost its power, too
        w.reboot()
    w.start()
    assert state in [row.state for row in w.agent.ledger._ledger.events(w.session().id)]
    finish(w)
    assert w.plant.delivered_wh >= delivered
    assert w.session().energy_wh in (0, w.plant.delivered_wh)
    assert w.terminal.count("hold") == (0 if state is S.AUTHORIZING else 1)
    one_end_each(w)
    assert not w.plant.released


_VERBS = ("authorize", "capture", "release")
_STEPS = ("received", "result_sent", "stored", "answered", "completed")


@pytest.mark.parametrize("step", _STEPS)
@pytest.mark.parametrize("verb", _VERBS)
def test_killed_at_every_step_of_a_dialogue(make: Make, verb: str, step: str) -> None:
    w = make()
    if verb == "capture":
        charge(w)
        w.terminal.tap(CARD)
    else:
        w.terminal.tap(CARD)
        if verb == "release":
            w.until_state(S.HELD)
            w.terminal.tap(CARD)
    w.until_killed(f"{verb}:{step}")
    w.passes(3)
    w.start()
    w.run(10)
    commands = w.terminal.commands
    again = commands.count(verb)
    undone = step in ("received", "result_sent", "stored")
    expected = 2 if undone and verb != "authorize" else 1
    assert again == expected, "asked first, and sent again only where it was not executed"
    if verb == "authorize" and not undone:
        assert w.session().state is S.HELD
        w.run(150)
    w.until_state(S.CLOSED)
    one_end_each(w)


@pytest.mark.parametrize("seed", range(12))
def test_killed_again_and_again(make: Make, seed: int) -> None:
    """At random moments, five times in one session."""
    import random

    print(f"seed {seed}")
    rng = random.Random(seed)
    w = make()
    w.plant.plug()
    w.run(3)
    w.terminal.tap(CARD)
    for _ in range(5):
        w.run(rng.uniform(0.01, 12.0))
        if w.sessions() and w.session().state is S.CHARGING and rng.random() < 0.4:
            w.terminal.tap(CARD)
            w.run(rng.uniform(0.01, 12.0))
        w.kill()
        w.passes(rng.uniform(0.5, 30.0))
        w.start()
    w.run(30)
    finish(w)
    assert w.terminal.count("hold") <= 1
    one_end_each(w)


# --- resume ---------------------------------------------------------------------------------------


def test_a_short_outage_is_charged_as_energy_not_as_time(make: Make) -> None:
    w = make()
    charge(w, seconds=100)
    w.plant.draw(0)
    w.until_state(S.SUSPENDED)
    w.run(10)
    w.kill()
    w.plant.draw(11_000)
    w.passes(120)
    w.start()
    w.run(10)
    resumed = w.session()
    assert resumed.state is S.CHARGING
    w.terminal.tap(CARD)
    done = w.until_state(S.CLOSED)
    assert done.energy_wh == w.plant.delivered_wh, "by the register"
    assert done.idle_ms < 20_000 and done.charging_ms < 130_000
    one_end_each(w)


def test_time_after_a_resume_is_charged_again(make: Make) -> None:
    """Only the outage is free: charging before and after it, and the idle time behind that, are not."""
    w = make(tariff=BY_THE_MINUTE)
    charge(w, seconds=100)
    before_ms = w.session().charging_ms
    w.kill()
    w.passes(120)
    w.start()
    w.run(200)
    assert w.session().state is S.CHARGING
    w.plant.draw(0)
    w.until_state(S.SUSPENDED)
    w.run(300)
    w.plant.unplug()
    done = w.until_state(S.CLOSED)
    assert 195_000 < done.charging_ms - before_ms < 215_000
    assert 295_000 < done.idle_ms < 315_000
    minutes = done.charging_ms * 0.25 / 60_000 + done.idle_ms * 0.10 / 60_000
    cost_minor = 35 + round(100 * minutes + done.energy_wh * 49 / 1000)
    assert abs((done.cost_minor or 0) - cost_minor) <= 1
    one_end_each(w)


def test_the_first_look_commands_nothing(make: Make) -> None:
    """A running charge is neither interrupted nor released again before it was looked at."""
    w = make()
    charge(w)
    w.kill()
    w.plant.commands.clear()
    w.plant.answers = False
    w.start()
    w.run(15)
    assert w.plant.commands == []
    w.plant.answers = True
    w.run(3)
    assert w.session().state is S.CHARGING and w.plant.commands == ["release"]


def test_a_controller_that_does_not_come_back_ends_the_session(make: Make) -> None:
    w = make()
    charge(w)
    w.kill()
    w.plant.answers = False
    w.start()
    stopping = w.until_state(S.STOPPING, within_s=30)
    assert stopping.stop_reason == "restart"


@pytest.mark.parametrize("case", ["long", "unplugged", "meter", "jump", "fall", "estop", "reboot"])
def test_what_does_not_resume(make: Make, case: str) -> None:
    w = make()
    charge(w, seconds=70)
    w.kill()
    w.passes(400 if case == "long" else 20)
    if case == "unplugged":
        w.plant.unplug()
    if case == "meter":
        w.plant.serial = "SDM-2"
    if case == "jump":
        w.plant.begin_wh += 5_000  # more than the connector can deliver
    if case == "fall":
        w.plant.begin_wh -= 5_000
    if case == "estop":
        w.plant.press_estop()
    if case == "reboot":
        w.reboot()
    w.start()
    done = w.until_state(S.CLOSED, within_s=200)
    assert done.stop_reason == "restart"
    doubtful = case in ("meter", "jump", "fall")
    assert done.end_quality == ("last_durable" if doubtful else "confirmed")
    one_end_each(w)


CLOCKS = {
    "trusted": (Quality.TRUSTED, 0),
    "restored": (Quality.RESTORED, 0),
    "unknown": (Quality.UNKNOWN, -UTC_MS),
    "set back": (Quality.RESTORED, -3_600_000),
}


@pytest.mark.parametrize("after", CLOCKS)
def test_what_flowed_since_the_last_durable_reading_is_billed_after_a_power_cut(
    make: Make, after: str
) -> None:
    """At full power almost until the next reading is due; the board comes back with whatever clock it has."""
    w = make()
    w.plant.load_w = 22_000
    charge(w, seconds=115)
    w.plant.advance()
    durable_wh = w.session().last_wh
    w.kill()
    w.plant.withdraw()
    w.passes(20)
    w.reboot()
    w.quality, w.skew_ms = CLOCKS[after]
    w.start()
    done = w.until_state(S.CLOSED, within_s=300)
    assert durable_wh is not None and w.plant.register_wh - durable_wh > 300
    assert (done.end_quality, done.end_wh) == ("confirmed", w.plant.register_wh)
    w.run(30)
    assert [p for p in w.payloads() if p["type"] == "unmeasured"] == []
    one_end_each(w)


@pytest.mark.parametrize("jump_wh", [600, 50_000])
@pytest.mark.parametrize("after", CLOCKS)
@pytest.mark.parametrize("before", CLOCKS)
def test_a_register_that_jumped_is_not_billed_whatever_the_clocks_say(
    make: Make, before: str, after: str, jump_wh: int
) -> None:
    """More than the connector can deliver in the minute until a reading is due and the seconds since."""
    w = make(start=False)
    w.quality, w.skew_ms = CLOCKS[before]
    w.start()
    w.run(3)
    charge(w, seconds=70)
    w.kill()
    w.passes(20)
    w.plant.begin_wh += jump_wh
    w.reboot()
    w.quality, w.skew_ms = CLOCKS[after]
    w.start()
    done = w.until_state(S.CLOSED, within_s=300)
    # Clocks of one kind are believed, also where they say that an hour has passed.
    an_hour_on = (before, after) == ("set back", "restored")
    billed = jump_wh == 600 and an_hour_on
    assert done.end_quality == ("confirmed" if billed else "last_durable")


def test_the_estop_is_obeyed_while_the_meter_is_waited_for(make: Make) -> None:
    w = make()
    charge(w)
    w.kill()
    w.plant.meter_answers = False
    w.plant.estop = True
    w.start()
    w.until(lambda: not w.plant.released, within_s=3)


# --- deadlines ------------------------------------------------------------------------------------


def test_a_deadline_goes_on_after_a_restart(make: Make) -> None:
    w = make()
    w.terminal.tap(CARD)
    w.until_state(S.HELD)
    w.run(60)
    w.kill()
    w.passes(30)
    w.start()
    w.run(20)
    assert w.session().state is S.HELD
    w.until_state(S.CLOSED, within_s=30)
    one_end_each(w)


def test_a_deadline_begins_anew_after_a_reboot(make: Make) -> None:
    """How long the board was off is not known."""
    w = make()
    w.terminal.tap(CARD)
    w.until_state(S.HELD)
    w.run(60)
    w.kill()
    w.reboot()
    w.start()
    w.run(110)
    assert w.session().state is S.HELD
    w.until_state(S.CLOSED, within_s=30)


def test_a_retry_goes_on_after_a_restart(make: Make) -> None:
    w = make()
    w.terminal.script["capture"].append("not_sent")
    charge(w)
    w.terminal.tap(CARD)
    w.until_state(S.CAPTURE_DUE)
    w.run(30)
    w.kill()
    w.passes(5)
    w.start()
    w.until_state(S.CLOSED, within_s=40)
    one_end_each(w)


# --- what does not fit ----------------------------------------------------------------------------


def test_the_card_still_stops_after_a_restart_and_is_forgotten_at_the_end(make: Make) -> None:
    w = make()
    charge(w)
    w.kill()
    w.passes(2)
    w.start()
    w.run(5)
    session_id = w.session().id
    w.terminal.tap(OTHER_CARD)
    w.run(6)
    assert w.session().state is S.CHARGING
    ledger = w.agent.ledger._ledger
    assert ledger.card_mac(session_id) is not None
    assert CARD not in b"".join(f.read_bytes() for f in w.state.iterdir())
    w.terminal.tap(CARD)
    w.until_state(S.CLOSED)
    w.run(1)
    assert ledger.card_mac(session_id) is None


def test_a_session_of_another_table_is_shown_and_not_touched(make: Make) -> None:
    w = make()
    charge(w)
    ledger = w.agent.ledger._ledger
    ledger._db.execute("UPDATE session SET state = 'held'")
    w.kill()
    w.start()
    w.run(10)
    assert list(w.agent.keeper.set_aside.values()) == ["held"]
    assert [e["id"] for e in w.errors()] == ["STA-002"]
    assert not w.plant.released, "nobody answers for it, so it gets no energy"
    assert w.terminal.commands.count("capture") == 0


def test_an_event_of_a_newer_version_does_not_keep_the_station_down(make: Make) -> None:
    w = make()
    charge(w)
    ledger = w.agent.ledger._ledger
    ledger._db.execute("UPDATE event SET name = 'of_tomorrow' WHERE name = 'began'")
    w.kill()
    w.start()
    w.run(10)
    assert len(w.agent.keeper.set_aside) == 1
    (listed,) = w.request("sessions")
    assert (listed["state"], listed["readable"]) == ("charging", False)


def test_a_session_whose_connector_is_gone_from_the_configuration_still_ends(make: Make) -> None:
    w = make()
    charge(w, seconds=70)
    w.kill()
    text = (w.folder / "station.yaml").read_text()
    (w.folder / "station.yaml").write_text(text.replace("DE*ABC*E1", "DE*ABC*E9"))
    w.evses["DE*ABC*E9"] = w.evses.pop("DE*ABC*E1")
    w.start()
    done = w.until_state(S.CLOSED)
    assert done.end_quality == "last_durable" and done.energy_wh > 150
    assert "STA-006" in {e["id"] for e in w.errors()}
    one_end_each(w)


def test_a_begin_on_a_connector_that_is_gone_frees_the_hold(make: Make) -> None:
    w = make()
    lead_to(w, S.BEGINNING)
    text = (w.folder / "station.yaml").read_text()
    (w.folder / "station.yaml").write_text(text.replace("DE*ABC*E1", "DE*ABC*E9"))
    w.evses["DE*ABC*E9"] = w.evses.pop("DE*ABC*E1")
    w.start()
    done = w.until_state(S.CLOSED)
    assert done.outcome == "cancelled"
    one_end_each(w)


def rename_terminal(w: World, to: str) -> None:
    path = w.folder / "station.yaml"
    now = "t2" if to == "t1" else "t1"
    path.write_text(path.read_text().replace(f"id: {now}", f"id: {to}"))
    w.terminals[to] = w.terminals[now]


@pytest.mark.parametrize("how", ["back", "by hand"])
def test_what_a_terminal_owes_that_is_gone_is_listed_and_goes_on_with_it(
    make: Make, how: str
) -> None:
    w = make()
    charge(w)
    w.kill()
    rename_terminal(w, "t2")
    w.start()
    w.run(5)
    w.plant.unplug()
    away = w.until_state(S.UNRESOLVED)
    w.run(60)
    assert (away.outcome, away.owed_minor) == ("away", away.cost_minor) and away.owed_minor > 0
    assert "t1 is not in the configuration" in away.why
    (row,) = w.request("status")["open"]
    assert (row["kind"], row["amount_minor"]) == ("receivable", away.owed_minor)
    assert [e["session"] for e in w.errors() if e["id"] == "STA-005"] == [away.id]
    assert len(w.sessions()) == 1 and "capture" not in w.terminal.commands
    if how == "by hand":
        found = w.request("close", id=away.id, how="paid", note="by transfer")
        assert found["closed_minor"] == away.cost_minor
        return
    w.stop()
    rename_terminal(w, "t1")
    w.start()
    w.until_state(S.CLOSED)
    one_end_each(w, settlements=2)


@pytest.mark.parametrize("state", _BROKEN)
def test_what_waited_for_a_terminal_that_is_gone_can_be_closed(make: Make, state: S) -> None:
    w = make()
    lead_to(w, state)
    rename_terminal(w, "t2")
    w.start()
    w.run(30)
    listed = w.session()
    assert listed.state is S.UNRESOLVED
    assert listed.outcome == ("away" if state in (S.CAPTURE_DUE, S.RELEASE_DUE) else "unknown")
    w.request("close", id=listed.id, how="written_off", note="terminal gone")
    assert w.request("status")["open"] == []


def test_after_a_restart_no_car_counts_as_just_come(make: Make) -> None:
    """Which of two cars came after the tap cannot be known any more."""
    w = make(evses=("DE*ABC*E1", "DE*ABC*E2"))
    for plant in w.evses.values():
        plant.plug()
    w.run(5)
    w.terminal.tap(CARD)
    w.until_state(S.HELD)
    w.kill()
    w.start()
    w.run(60)
    assert w.session().evse is None
    w.until_state(S.CLOSED)
    one_end_each(w)


def test_every_seq_is_used_once_over_restarts(make: Make) -> None:
    w = make()
    for card, _ in zip(itertools.cycle((CARD, OTHER_CARD)), range(3), strict=False):
        charge(w, card, seconds=5)
        w.terminal.tap(card)
        w.until_state(S.CLOSED)
        w.plant.unplug()
        w.run(8)
        w.kill()
        w.start()
        w.run(5)
    assert len(w.records()) == 6
