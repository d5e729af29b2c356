"""A driver who stops a session before the restarted agent has looked at it does not pay for the outage.
Found by the simulator: seed 48 of its first run with kills."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from support.station_world import CARD, E1, World, charge, one_end_each

from agent.session import E, S

Make = Callable[..., World]
OUTAGE_S = 70


@pytest.mark.parametrize("how", ["tap", "control socket"])
def test_the_outage_is_not_charged_when_the_driver_stops_first(make: Make, how: str) -> None:
    w = make()
    charge(w, seconds=30)
    w.plant.draw(0)
    w.until_state(S.SUSPENDED)
    w.run(5)
    w.kill()
    w.passes(OUTAGE_S)
    w.plant.answers = w.plant.meter_answers = False  # so that it cannot look at once
    w.start()
    if how == "tap":
        w.run(1)
        w.terminal.tap(CARD)
    else:
        w.request("stop", evse=E1)
    w.until_state(S.STOPPING)
    w.plant.answers = w.plant.meter_answers = True
    session = w.until_state(S.CLOSED)
    assert session.idle_ms < 10_000
    assert session.stop_reason == ("tap" if how == "tap" else "local")
    names = w.event_names()
    assert E.RESTARTED in names and E.STOP not in names
    one_end_each(w)


def test_the_outage_is_not_charged_when_a_limit_comes_first(make: Make) -> None:
    w = make()
    charge(w, seconds=30)
    w.plant.draw(0)
    before = w.until_state(S.SUSPENDED)
    w.kill()
    w.passes(OUTAGE_S)
    w.plant.answers = False
    w.start()
    w.request("limit", session=before.id, max_energy_wh=50_000)
    w.plant.answers = True
    w.run(5)
    w.kill()  # what is folded from the ledger says the same
    w.start()
    w.run(5)
    w.terminal.tap(CARD)
    session = w.until_state(S.CLOSED)
    assert session.idle_ms < before.idle_ms + 25_000
    assert w.event_names().count(E.RESTARTED) == 2


def test_the_outage_is_not_charged_when_an_answer_about_a_raise_comes_first(make: Make) -> None:
    w = make(hold="5.00", raising=("5.00", "20.00", 3), max_power_w=22_000)
    w.plant.load_w = 22_000
    w.plant.plug()
    w.run(3)
    w.terminal.script["increment"].append("lost_done")
    w.terminal.tap(CARD)
    w.until_state(S.CHARGING)
    w.until(lambda: E.RAISE_UNCLEAR in w.event_names(), within_s=2_400)
    before = w.session()
    w.kill()
    w.passes(OUTAGE_S)
    w.plant.answers = False
    w.start()
    w.until(lambda: E.RAISE_FOUND in w.event_names(), within_s=60)
    assert E.RESTARTED not in w.event_names()
    w.plant.answers = True
    w.run(5)
    assert w.session().charging_ms < before.charging_ms + 15_000
