"""What a driver waits for happens at once, not with the next poll of the connector: energy when the begin
reading is durable, its end when a stop is decided. Whatever moment of a poll the driver meets."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from support.station_world import CARD, World, charge, one_end_each

from agent.session import S
from agent.station.charge_point import POLL_S

Make = Callable[..., World]

# One turn of a connector: a snapshot, a reading, a command, each a word on the bus; a commit takes no time.
TURN_MS = 3 * 60
PHASES_S = (0.0, 0.3, 0.55, 0.9)


def noted(w: World, command: str) -> list[int]:
    """When the controller gets this command."""
    seen: list[int] = []
    carried_out = getattr(w.plant, command)

    def noting() -> None:
        seen.append(w.now_ms)
        carried_out()

    setattr(w.plant, command, noting)
    return seen


def entered(w: World, state: S) -> int:
    """When the log said that the session is there."""
    lines = [e for e in w.logged("session") if e["state"] is state]
    return int(lines[-1]["at_ms"])


@pytest.mark.parametrize("phase_s", PHASES_S)
def test_energy_follows_the_begin_reading_and_that_the_hold(make: Make, phase_s: float) -> None:
    w = make()
    released = noted(w, "release")
    w.plant.plug()
    w.run(3 + phase_s)
    w.terminal.tap(CARD)
    w.until_state(S.CHARGING)
    assert released[0] - entered(w, S.STARTING) <= TURN_MS < 1000 * POLL_S
    # Two readings that agree, 0.3 s apart, behind what the bus has under way.
    assert entered(w, S.STARTING) - entered(w, S.BEGINNING) <= 300 + 4 * 60


@pytest.mark.parametrize("phase_s", PHASES_S)
def test_a_stop_by_the_card_is_withdrawn_at_once(make: Make, phase_s: float) -> None:
    w = make()
    charge(w, seconds=20 + phase_s)
    withdrawn = noted(w, "withdraw")
    w.terminal.tap(CARD)
    w.until_state(S.CLOSED)
    assert withdrawn[0] - entered(w, S.STOPPING) <= TURN_MS < 1000 * POLL_S
    one_end_each(w)


def test_no_turn_more_than_the_polls_while_nothing_changes(make: Make) -> None:
    w = make()
    charge(w, seconds=30)
    turns = 0
    evse = w.agent.parts.points["DE*ABC*E1"]._lookout._evse
    snapshot = evse.snapshot

    async def counting() -> object:
        nonlocal turns
        turns += 1
        return await snapshot()

    evse.snapshot = counting  # type: ignore[method-assign,assignment]
    w.run(30)
    assert turns <= 30
