"""Energy stops before the cost can exceed what was approved, at the worst the devices can do."""

from __future__ import annotations

import random
from collections.abc import Callable

import pytest
from support.station_world import CARD, TARIFF, World

from agent.session import S, Session
from agent.station.limit import STOP_MS, TURN_MS, Limit
from agent.station.tariffs import Tariffs
from agent.tariff import Usage, price
from agent.values import Quality, Reading, ReadingState, Stamp

Make = Callable[..., World]

PER_MINUTE = TARIFF.replace("idle_time:", 'charging_time:\n  - price_minute: "0.25"\nidle_time:')


def worst_cost(w: World, done: Session) -> int:
    """By the truth of the plant, not by the register."""
    usage = Usage(w.plant.delivered_wh, done.charging_ms, done.idle_ms)
    return price(w.agent.tariff, usage).total_minor


@pytest.mark.parametrize("seed", range(20))
def test_the_cost_never_exceeds_the_hold(make: Make, seed: int) -> None:
    """Full power and its tolerance, slow cars and contactors, a slow bus, a coarse register, a meter
    that falls silent, a car that pauses."""
    print(f"seed {seed}")
    rng = random.Random(seed)
    power_w = rng.choice([3_700, 22_000, 150_000])
    w = make(max_power_w=power_w, tariff=rng.choice([TARIFF, PER_MINUTE]))
    w.terminal.approves_minor = rng.randint(100, 130 + power_w // 250)  # some ten minutes
    w.plant.load_w = power_w * rng.randint(50, 110) // 100
    w.plant.bus_ms = rng.randint(10, 600)
    w.plant.fall_ms = rng.randint(0, 5_000)
    w.plant.meter_step_wh = rng.choice([1, 10, 100])
    w.plant.plug()
    w.run(3)
    w.terminal.tap(CARD)
    w.until(lambda: w.sessions() != [] and w.session().state not in (S.AUTHORIZING, S.APPROVED))
    for _ in range(2_000):
        if w.session().state in (S.CLOSED, S.UNRESOLVED):
            break
        w.plant.meter_answers = rng.random() < 0.7
        if rng.random() < 0.05:
            w.plant.draw(rng.choice([0, power_w * 110 // 100]))
        w.run(rng.uniform(1, 20))
    w.plant.meter_answers = True
    done = w.until_state(S.CLOSED, within_s=3600)
    assert done.shortfall_minor == 0
    assert worst_cost(w, done) <= done.held_minor
    assert w.terminal.amounts("capture") in ([done.cost_minor], [])


def test_the_limit_uses_the_hold_up(make: Make) -> None:
    """With a meter that answers it stops close to the hold, not a euro too early."""
    w = make()
    w.terminal.approves_minor = 500
    w.plant.load_w = 22_000
    w.plant.plug()
    w.run(3)
    w.terminal.tap(CARD)
    done = w.until_state(S.CLOSED, within_s=7200)
    assert done.stop_reason == "limit"
    assert 490 <= (done.cost_minor or 0) <= 500
    assert w.request("session", id=done.id)["shortfall_minor"] == 0


@pytest.mark.parametrize("kills", [1, 3])
def test_the_limit_holds_after_a_resume(make: Make, kills: int) -> None:
    """A session that goes on after the agent died is watched as before."""
    w = make()
    w.terminal.approves_minor = 250
    w.plant.load_w = 22_000
    w.plant.plug()
    w.run(3)
    w.terminal.tap(CARD)
    w.until_state(S.CHARGING)
    for _ in range(kills):
        w.run(70)
        w.kill()
        w.passes(10)
        w.start()
        w.run(10)
        assert w.session().state is S.CHARGING and w.logged("session_resumed")
    done = w.until_state(S.CLOSED, within_s=900)
    assert (done.stop_reason, done.shortfall_minor) == ("limit", 0)
    assert 230 < worst_cost(w, done) <= 250
    assert w.terminal.amounts("capture") == [done.cost_minor]


def test_a_silent_meter_stops_in_time_for_the_hold(make: Make) -> None:
    """Long before the meter counts as lost, when the hold would be used up by then."""
    w = make(max_power_w=150_000)
    w.terminal.approves_minor = 100
    w.plant.load_w = 150_000
    w.plant.plug()
    w.run(3)
    w.terminal.tap(CARD)
    w.until_state(S.CHARGING)
    w.run(3)
    w.plant.meter_answers = False
    stopping = w.until_state(S.STOPPING, within_s=30)
    assert stopping.stop_reason == "limit"
    w.plant.meter_answers = True
    done = w.until_state(S.CLOSED)
    assert worst_cost(w, done) <= 100


# --- the question itself ------------------------------------------------------------------------------


def _limit(make: Make) -> tuple[Limit, Session]:
    w = make(start=False)
    from agent.settings.load import load_tariff

    tariff = load_tariff(w.folder / "tariff.yaml")
    session = Session("S1", S.CHARGING, held_minor=5000, begin_wh=1000, last_wh=1000)
    return Limit(Tariffs(tariff), 22_000), session


def _stamp(boot_ms: int) -> Stamp:
    return Stamp(1_795_200_000_000 + boot_ms, boot_ms, "boot-1", Quality.TRUSTED)


def test_the_margin_is_full_power_for_the_whole_reaction(make: Make) -> None:
    limit, session = _limit(make)
    good = Reading(ReadingState.OK, 9_000, 2000, 22_000)
    found = limit.ask(session, good, _stamp(10_000))
    reaction_ms = 1_000 + TURN_MS + STOP_MS
    assert found.margin_ms == reaction_ms
    assert found.margin_wh == -(-24_200 * reaction_ms // 3_600_000) + 10


def test_a_station_that_was_slow_is_expected_to_be_slow_again(make: Make) -> None:
    limit, session = _limit(make)
    good = Reading(ReadingState.OK, 10_000, 2000, 22_000)
    limit.ask(session, good, _stamp(10_000))
    fresh = Reading(ReadingState.OK, 30_000, 2000, 22_000)
    assert limit.ask(session, fresh, _stamp(30_000)).margin_ms == 20_000 + STOP_MS
    limit.rest()
    assert limit.ask(session, fresh, _stamp(90_000)).margin_ms == 60_000 + TURN_MS + STOP_MS
