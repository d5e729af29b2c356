"""A driver who pulled the plug does not pay for the next car, also where the agent died before the withdrawal
reached the controller."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from support.station_world import World, charge, one_end_each

from agent.session import S

Make = Callable[..., World]


def pulled_and_dead(w: World, *, other_car_s: float) -> int:
    """The plug is pulled, the agent dies before a withdrawal arrives, and another car draws on what still
    stands. What the first driver had."""
    charge(w, seconds=90)
    w.plant.takes_withdrawals = False
    w.plant.unplug()
    his_wh = w.plant.delivered_wh
    w.until_killed_in(S.STOPPING)
    assert w.plant.released
    w.plant.plug()
    w.plant.draw(11_000)
    w.passes(other_car_s)
    w.plant.takes_withdrawals = True
    return his_wh


def test_the_next_car_is_not_billed_to_the_driver_who_left(make: Make) -> None:
    w = make()
    his_wh = pulled_and_dead(w, other_car_s=180)
    w.start()
    done = w.until_state(S.CLOSED)
    assert w.plant.delivered_wh > his_wh + 500
    assert done.stop_reason == "unplugged"
    assert done.energy_wh == his_wh, "made durable before it was told that the plug is gone"
    assert done.end_quality == "last_durable"
    assert [line["id"] for line in w.errors() if line["level"] == "error"] == ["STA-051"]
    one_end_each(w)
    w.run(60)
    (named,) = [body for body in w.payloads() if body["type"] == "unmeasured"]
    assert named["energy_wh"] == w.plant.delivered_wh - his_wh, "of nobody who pays"


@pytest.mark.parametrize("state", [S.STOPPING, S.ENDING])
def test_nor_is_what_the_meter_counts_while_the_stop_is_being_proven(make: Make, state: S) -> None:
    """Durable readings of the new life are not his either, nor are those after another death."""
    w = make()
    his_wh = pulled_and_dead(w, other_car_s=30)
    w.plant.answers = False  # the withdrawal does not arrive
    w.start()
    more_wh = w.plant.begin_wh + his_wh + 200
    w.until(lambda: (w.session().last_wh or 0) > more_wh, within_s=300)
    assert w.session().state is S.STOPPING
    w.plant.answers = True
    w.until_killed_in(state) if state is S.ENDING else w.kill()
    w.plant.meter_answers = False
    w.start()
    done = w.until_state(S.CLOSED, within_s=300)
    assert (done.energy_wh, done.end_quality) == (his_wh, "last_durable")


def test_a_register_that_says_the_same_is_billed_as_confirmed(make: Make) -> None:
    w = make()
    charge(w, seconds=90)
    w.plant.unplug()
    w.until_killed_in(S.STOPPING)
    w.passes(60)
    w.start()
    done = w.until_state(S.CLOSED)
    assert (done.energy_wh, done.end_quality) == (w.plant.delivered_wh, "confirmed")
    assert not [line for line in w.errors() if line["level"] == "error"]


def test_the_life_that_saw_the_plug_go_bills_the_register(make: Make) -> None:
    """It has watched the connector all the time."""
    w = make()
    charge(w, seconds=90)
    w.plant.meter_answers = False
    w.run(20)
    w.plant.unplug()
    w.run(2)
    w.plant.meter_answers = True
    done = w.until_state(S.CLOSED)
    assert (done.energy_wh, done.end_quality) == (w.plant.delivered_wh, "confirmed")
