"""A person cancels before any energy, whatever the terminal is doing: what is held in the end is released."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from support.station_world import CARD, E1, E2, World, one_end_each

from agent.session import E, S, fold
from agent.station.control import ControlRefused
from agent.station.keeper import event_of

Make = Callable[..., World]


def typing_a_pin(w: World, *, for_s: float = 60) -> None:
    w.plant.plug()
    w.run(3)
    w.terminal.authorize_s = for_s
    w.terminal.tap(CARD)
    w.until(w.state_is(S.AUTHORIZING))


def released_without_energy(w: World) -> None:
    done = w.until_state(S.CLOSED)
    assert (done.outcome, done.why) == ("cancelled", "local")
    assert E.BEGAN not in w.event_names() and w.plant.delivered_wh == 0
    assert not w.plant.released
    one_end_each(w)


@pytest.mark.parametrize("by", ["connector", "session"])
def test_while_a_pin_is_typed(make: Make, by: str) -> None:
    w = make()
    typing_a_pin(w)
    name = {"evse": E1} if by == "connector" else {"session": w.session().id}
    told = w.request("stop", **name)
    assert told == {"session": w.session().id, "state": "authorizing", "pending": True}
    assert w.request("stop", **name) == told, "asked again it changes nothing"
    assert w.event_names().count(E.CANCELLED) == 1
    w.run(30)
    assert w.session().state is S.AUTHORIZING, "the terminal is not interrupted"
    released_without_energy(w)


def test_the_same_card_while_the_begin_reading_is_waited_for(make: Make) -> None:
    w = make()
    w.terminal.tap(CARD)
    w.until_state(S.HELD)
    w.plant.meter_answers = False
    w.plant.plug()
    w.until_state(S.BEGINNING)
    w.run(5)
    w.terminal.tap(CARD)
    done = w.until_state(S.CLOSED)
    assert (done.outcome, done.why) == ("cancelled", "driver")
    assert w.event_names().count(E.CANCELLED) == 1
    assert w.plant.delivered_wh == 0 and not w.plant.released
    one_end_each(w)


def test_a_wish_outlives_the_process(make: Make) -> None:
    """Also where the hold is complete when it dies: between that and the release."""
    w = make()
    typing_a_pin(w, for_s=10)
    w.request("stop", evse=E1)
    w.until_killed_in(S.BEGINNING)
    w.passes(20)
    w.start()
    released_without_energy(w)


def test_while_nobody_knows_whether_a_hold_was_made(make: Make) -> None:
    """Found by asking, it is released; the car that is there begins nothing."""
    w = make()
    w.terminal.script["authorize"].append("lost_done")
    typing_a_pin(w, for_s=1)
    w.until_state(S.HOLD_UNCLEAR)
    assert w.request("stop", evse=E1)["pending"]
    released_without_energy(w)
    assert E.HOLD_FOUND in w.event_names()


def test_a_hold_without_a_connector_is_named_by_its_session(make: Make) -> None:
    w = make(evses=(E1, E2))
    w.terminal.tap(CARD)
    held = w.until_state(S.HELD)
    assert held.evse is None
    told = w.request("stop", session=held.id)
    assert told == {"session": held.id, "state": "releasing"}
    done = w.until_state(S.CLOSED)
    assert done.outcome == "cancelled"
    one_end_each(w)


def test_a_declined_card_after_the_wish_is_no_cancel(make: Make) -> None:
    w = make()
    w.terminal.script["authorize"].append("declined")
    typing_a_pin(w, for_s=5)
    w.request("stop", evse=E1)
    done = w.until_state(S.CLOSED)
    assert done.outcome == "refused"


def test_what_is_listed_is_not_stopped(make: Make) -> None:
    w = make()
    for name in ("NOSUCHID", None):
        with pytest.raises(ControlRefused, match="STA-018"):
            w.request("stop", **({"session": name} if name else {"evse": E1}))


def test_a_version_that_does_not_know_the_wish_reads_the_session(make: Make) -> None:
    """Its table passes the early cancel over and comes to the same states."""
    w = make()
    typing_a_pin(w, for_s=5)
    w.request("stop", evse=E1)
    done = w.until_state(S.CLOSED)
    rows = w.agent.ledger._ledger.events(done.id)
    early = next(row for row in rows if row.name == E.CANCELLED)
    assert early.state == S.AUTHORIZING
    assert fold(done.id, [event_of(row) for row in rows if row is not early]).state is S.CLOSED
