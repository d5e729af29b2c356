"""Limits of one session of the running station: cost, energy, time (docs/acceptance.md, rows 29 to 31)."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from support.station_world import CARD, TARIFF, World, charge, one_end_each

from agent.session import S, Session
from agent.station.control import ControlRefused

Make = Callable[..., World]
POWER_W = 22_000
REACTION_S = 3.0  # a turn, and what the car takes to let go
PLAIN = TARIFF.split("idle_time:")[0]  # energy alone


def limit(w: World, **limits: Any) -> dict[str, Any]:
    answer: dict[str, Any] = w.request("limit", session=w.session().id, **limits)
    return answer


def charging(make: Make, **options: Any) -> World:
    w = make(**options)
    w.plant.load_w = POWER_W
    charge(w, seconds=30)
    return w


def ends(w: World, within_s: float = 1200) -> Session:
    done = w.until_state(S.CLOSED, within_s=within_s)
    one_end_each(w)
    assert w.terminal.amounts("capture") == [done.cost_minor]
    return done


# --- each kind, and the first one that is reached -----------------------------------------------------


def test_a_cost_limit_is_never_passed(make: Make) -> None:
    w = charging(make)
    limit(w, max_cost_minor=120)
    done = ends(w)
    assert done.stop_reason == "cost limit"
    assert 110 <= (done.cost_minor or 0) <= 120, "used up, and not passed"
    assert done.held_minor == 5000 and done.released_minor == 5000 - (done.cost_minor or 0)


def test_an_energy_limit_ends_energy_where_it_is_reached(make: Make) -> None:
    w = charging(make)
    limit(w, max_energy_wh=1000)
    done = ends(w)
    assert done.stop_reason == "energy limit"
    assert 1000 <= done.energy_wh <= 1000 + POWER_W * REACTION_S / 3600


def test_a_time_limit_counts_from_the_begin(make: Make) -> None:
    w = charging(make)
    w.plant.draw(0)
    w.until_state(S.SUSPENDED)
    limit(w, max_time_s=120)
    w.until_state(S.STOPPING, within_s=200)
    began = w.session().began_at
    assert began is not None
    assert 120_000 <= w.boot_ms() - began.boot_ms <= 122_000, "a pause does not hold it up"
    assert ends(w).stop_reason == "time limit"


@pytest.mark.parametrize(
    ("limits", "reason"),
    [
        ({"max_cost_minor": 90, "max_energy_wh": 50_000, "max_time_s": 9000}, "cost limit"),
        ({"max_cost_minor": 4000, "max_energy_wh": 700, "max_time_s": 9000}, "energy limit"),
        ({"max_cost_minor": 4000, "max_energy_wh": 50_000, "max_time_s": 90}, "time limit"),
        ({"max_cost_minor": 9000}, "limit"),
    ],
    ids=["cost", "energy", "time", "the hold"],
)
def test_the_first_one_reached_names_itself(
    make: Make, limits: dict[str, int], reason: str
) -> None:
    w = make()
    w.terminal.approves_minor = 150
    w.plant.load_w = POWER_W
    charge(w, seconds=5)
    limit(w, **limits)
    assert ends(w, 2400).stop_reason == reason


# --- a new limit --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "limits",
    [{"max_cost_minor": 40}, {"max_energy_wh": 1}, {"max_time_s": 1}],
    ids=lambda v: next(iter(v)),
)
def test_below_the_present_value_it_binds_at_once(make: Make, limits: dict[str, int]) -> None:
    w = charging(make)
    before = w.plant.delivered_wh
    limit(w, **limits)
    w.until(lambda: not w.plant.released, within_s=3)
    done = ends(w)
    assert done.energy_wh - before <= POWER_W * REACTION_S / 3600
    assert (done.cost_minor or 0) > 40, "what flowed before is owed all the same"


def test_the_lower_of_driver_and_back_end_binds(make: Make) -> None:
    w = charging(make)
    limit(w, by="back_end", max_energy_wh=800)
    answer = limit(w, by="driver", max_energy_wh=9000)
    assert answer["limits"] == {"max_energy_wh": 800}, "a driver's limit is no way past the other"
    done = ends(w)
    assert done.stop_reason == "energy limit" and 800 <= done.energy_wh < 900


def test_raised_before_it_is_reached_energy_goes_on(make: Make) -> None:
    w = charging(make)
    limit(w, max_energy_wh=700)
    w.run(60)
    assert w.session().state is S.CHARGING
    limit(w, max_energy_wh=1500)
    done = ends(w)
    assert done.energy_wh >= 1500


def test_a_limit_below_the_hold_raises_no_hold(make: Make) -> None:
    w = make(hold="1.10", raising=("1.00", "4.50", 4))
    w.plant.load_w = POWER_W
    charge(w, seconds=5)
    limit(w, max_cost_minor=140)
    done = ends(w, 3600)
    assert w.terminal.amounts("increment") == [30], "no more than may be spent"
    assert done.stop_reason == "cost limit" and (done.cost_minor or 0) <= 140


def test_a_limit_too_small_for_any_energy_begins_none(make: Make) -> None:
    w = make(tariff=PLAIN)
    w.terminal.tap(CARD)
    w.until_state(S.HELD)
    limit(w, max_cost_minor=1)
    w.plant.plug()
    done = w.until_state(S.CLOSED)
    assert done.why == "the cost limit is too small to charge"
    assert "release" not in w.plant.commands and w.terminal.count("release") == 1
    one_end_each(w)


# --- confirmed once, durable, and only what can be kept -----------------------------------------------


def test_a_limit_is_confirmed_and_stored_once(make: Make) -> None:
    w = charging(make)
    first = limit(w, max_time_s=9000)
    assert first["changed"] and first["limits"] == {"max_time_s": 9000}
    again = limit(w, max_time_s=9000)
    assert not again["changed"] and again["limits"] == {"max_time_s": 9000}
    assert w.event_names().count("limited") == 1
    assert w.errors() == [], "asking twice is no error"
    shown = w.request("session", id=w.session().id)
    assert shown["limits"] == {"max_time_s": 9000}


def test_a_limit_outlives_the_agent(make: Make) -> None:
    w = charging(make)
    limit(w, max_energy_wh=900)
    w.kill()
    w.passes(5)
    w.start()
    done = ends(w)
    assert done.stop_reason == "energy limit" and 900 <= done.energy_wh < 1000


@pytest.mark.parametrize("limits", [{"max_soc": 80}, {"max_time_s": 0}, {}], ids=str)
def test_what_cannot_be_kept_is_refused_and_changes_nothing(
    make: Make, limits: dict[str, int]
) -> None:
    w = charging(make)
    with pytest.raises(ControlRefused, match=r"STA-050: .*expected"):
        limit(w, max_energy_wh=1, **limits) if "max_soc" in limits else limit(w, **limits)
    w.run(5)
    assert w.session().state is S.CHARGING and "limited" not in w.event_names()


def test_too_late_for_a_limit(make: Make) -> None:
    w = charging(make)
    w.terminal.tap(CARD)
    done = w.until_state(S.CLOSED)
    with pytest.raises(ControlRefused, match=r"STA-050: .* is closed"):
        w.request("limit", session=done.id, max_time_s=5)
    with pytest.raises(ControlRefused, match="STA-012"):
        w.request("limit", session="NOBODY", max_time_s=5)
    w.terminal.script["capture"].append("declined")
    w.plant.unplug()
    w.run(10)
    charge(w)
    w.terminal.tap(CARD)
    w.until_state(S.UNRESOLVED)
    with pytest.raises(ControlRefused, match=r"STA-050: .* is unresolved; expected one whose"):
        limit(w, max_time_s=5)
