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
