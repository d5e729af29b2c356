"""Every named state of a reading ends energy in its time, and is never billed."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from support.station_world import CARD, World, charge, one_end_each

from agent.session import S
from agent.values import ReadingState

Make = Callable[..., World]
AT_ONCE = {ReadingState.WRONG_SERIAL, ReadingState.WRONG_MODEL}
AFTER_A_WHILE = [state for state in ReadingState if state not in {ReadingState.OK, *AT_ONCE}]
METER_LOST_S = 60  # as configured


@pytest.mark.parametrize("state", AFTER_A_WHILE)
def test_a_state_that_is_no_number_ends_energy_after_a_while_and_is_not_billed(
    make: Make, state: ReadingState
) -> None:
    w = make()
    charge(w, seconds=100)
    good = w.plant.delivered_wh
    w.plant.meter_claims = state
    w.run(METER_LOST_S - 5)
    assert w.session().state is S.CHARGING, "a moment is no reason"
    stopping = w.until_state(S.STOPPING, within_s=10)
    assert stopping.stop_reason == "meter lost"
    done = w.until_state(S.CLOSED, within_s=300)
    assert done.end_quality == "last_durable"
    assert good - 10 <= done.energy_wh <= good + 10, "the bill ends at the last good register"
    assert w.plant.delivered_wh > done.energy_wh
    one_end_each(w)


@pytest.mark.parametrize("state", AFTER_A_WHILE)
def test_no_session_begins_on_such_a_meter(make: Make, state: ReadingState) -> None:
    w = make()
    w.run(5)
    w.plant.meter_claims = state
    w.plant.plug()
    w.run(40)
    w.terminal.tap(CARD)
    w.run(60)
    assert not w.plant.released and w.plant.delivered_wh == 0
