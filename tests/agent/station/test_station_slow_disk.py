"""What goes on while an event is being stored, on a disk that takes seconds, or has no room."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import pytest
from support.fake_terminal import Hold
from support.station_world import CARD, E1, E2, World, charge, one_end_each

from agent.ledger import LedgerFull
from agent.ports import Evidence, HoldRef, LastResult
from agent.session import S, energy_allowed
from agent.station.requests import Requests

Make = Callable[..., World]
FULL_POWER_W = 22_000
TURN_MS = 1_500  # a look at the connector, and what it takes
TURN_WH = 10


@pytest.fixture
def slow(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """`slow(w, stall_s, *names)`: so long does it take to store these events."""

    def made(w: World, stall_s: float, *names: str) -> None:
        append = w.agent.ledger.append

        async def slowly(event: Any, *given: Any, **named: Any) -> Any:
            if event.name in names:
                await asyncio.sleep(stall_s)
            return await append(event, *given, **named)

        monkeypatch.setattr(w.agent.ledger, "append", slowly)

    return made


# --- A connector is looked at while it waits for the disk -----------------------------------------


@pytest.mark.parametrize("stall_s", [0.0, 2.0, 20.0])
def test_the_release_goes_with_the_plug(make: Make, slow: Any, stall_s: float) -> None:
    """The next car finds no energy that the driver who left would pay for."""
    w = make()
    charge(w)
    slow(w, stall_s, "progress", "unplugged")
    w.run(2)
    w.plant.unplug()
    his_wh = w.plant.delivered_wh
    w.run(TURN_MS / 1000)
    w.plant.plug()
    w.plant.draw(FULL_POWER_W)
    w.until_state(S.CLOSED, within_s=200)
    assert w.plant.delivered_wh == his_wh
    assert his_wh <= w.session().energy_wh <= his_wh + TURN_WH
    one_end_each(w)


@pytest.mark.parametrize("stall_s", [0.0, 5.0, 20.0])
def test_nobody_pays_for_the_time_that_a_commit_takes(
    make: Make, slow: Any, stall_s: float
) -> None:
    w = make()
    charge(w)
    w.plant.draw(0)
    w.run(61)
    before = w.until_state(S.SUSPENDED)
    slow(w, stall_s, "progress", "unplugged")
    assert before.clock_from is not None
    idle_ms = before.idle_ms + (w.agent.clock.stamp().since_ms(before.clock_from) or 0)
    w.plant.unplug()
    w.until_state(S.CLOSED)
    assert idle_ms <= w.session().idle_ms <= idle_ms + TURN_MS


@pytest.mark.parametrize("sign", ["unplugged", "emergency stop"])
@pytest.mark.parametrize("stall_s", [0.0, 5.0, 10.0])
def test_what_is_over_again_when_the_event_is_stored_is_not_missed(
    make: Make, slow: Any, monkeypatch: pytest.MonkeyPatch, stall_s: float, sign: str
) -> None:
    """Another car is plugged in, or the stop unlocked, before the minute's reading is durable."""
    w = make()
    charge(w, seconds=30)
    slow(w, stall_s, "progress")
    stored = w.event_names().count("progress")
    saved_ms = w.agent.parts.points[E1]._saved_ms
    w.until(lambda: w.agent.parts.points[E1]._saved_ms != saved_ms, within_s=90)
    assert stall_s == 0 or w.event_names().count("progress") == stored, "it is being stored"
    his_wh = w.plant.delivered_wh
    if sign == "unplugged":
        w.plant.unplug()
    else:
        w.plant.estop = True
    w.run(max(2.5, stall_s * 0.8))
    if sign == "unplugged":
        w.plant.plug()
    else:
        w.plant.estop = False
    w.plant.draw(FULL_POWER_W)
    w.run(stall_s)
    monkeypatch.undo()
    w.run(60)
    (session,) = w.sessions()
    assert session.stop_reason == sign
    assert session.energy_wh <= his_wh + TURN_WH * 2
    one_end_each(w)


# --- A person, or a deadline, while an event is stored --------------------------------------------


@pytest.mark.parametrize("how", ["tap", "stop", "sigterm"])
def test_a_stop_while_the_begin_is_stored_is_obeyed(make: Make, slow: Any, how: str) -> None:
    """It is called off when it is asked for, and charging when that could be stored."""
    w = make()
    slow(w, 6.0, "began")
    w.plant.plug()
    w.run(3)
    w.terminal.tap(CARD)
    w.until_state(S.BEGINNING)
    w.run(5 if how == "tap" else 1)  # the same card at once would be a lasting tap
    assert w.session().state is S.BEGINNING
    if how == "tap":
        w.terminal.tap(CARD)
    elif how == "stop":
        assert w.request("stop", session=w.session().id)["state"] == "stopping"
    else:
        assert w.stop() == 0
        w.start()
    w.run(30)
    assert w.session().state is S.CLOSED
    assert (
        w.session().stop_reason
        == {
            "tap": "tap",
            "stop": "local",
            "sigterm": "station shuts down",
        }[how]
    )
    one_end_each(w)


def test_a_car_in_time_whose_connector_is_being_stored(make: Make, slow: Any) -> None:
    w = make(evses=(E1, E2))
    slow(w, 2.0, "bound")
    w.terminal.tap(CARD)
    held = w.until_state(S.HELD)
    assert held.evse is None and held.entered is not None
    timeout_ms = w.agent.timers._policy.connection_timeout_ms
    w.run((held.entered.boot_ms + timeout_ms - 2_000 - w.boot_ms()) / 1000)
    w.evses[E1].plug()
    w.run(30)
    assert energy_allowed(w.session().state)


def test_energy_flows_as_the_start_times_out(make: Make, slow: Any) -> None:
    w = make()
    slow(w, 2.0, "energy_flows")
    w.plant.load_w = 0
    w.plant.plug()
    w.run(3)
    w.terminal.tap(CARD)
    starting = w.until_state(S.STARTING)
    assert starting.entered is not None
    timeout_ms = w.agent.timers._policy.start_timeout_ms
    w.run((starting.entered.boot_ms + timeout_ms - 1_500 - w.boot_ms()) / 1000)
    w.plant.draw(11_000)
    w.run(20)
    assert w.session().state is S.CHARGING


def test_a_hold_is_freed_once_however_often_it_is_asked_for(make: Make, slow: Any) -> None:
    w = make()
    w.terminal.script["capture"] += ["declined"]
    charge(w)
    w.plant.unplug()
    w.until_state(S.UNRESOLVED)
    w.run(5)
    closed = w.session().id
    w.request("close", id=closed, how="paid", note="cash")
    w.run(10)
    slow(w, 1.0, "foreign", "free")
    free = Requests(w.agent).handlers["free"]

    async def both() -> list[Any]:
        first = asyncio.ensure_future(free({"id": closed}))
        await asyncio.sleep(0.5)
        return await asyncio.gather(first, free({"id": closed}), return_exceptions=True)

    first, second = w.loop.run_until_complete(both())
    w.run(60)
    assert first["payment"] == "cancelled"
    assert str(second).startswith(f"STA-045: session {closed} is being freed already")
    assert len(w.sessions()) == 2
    assert [m.kind for m in w.terminal.movements].count("release") == 1


# --- What could not be stored, or was stored too late ---------------------------------------------


def test_a_strange_hold_is_listed_when_the_disk_has_room_again(
    make: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    w = make(start=False)
    w.terminal.holds.append(
        Hold(HoldRef("52523535", 17, 12, 717, "1121", "120400", "000017"), 5000)
    )
    w.start(ready=False)
    w.until(lambda: hasattr(w.agent, "ledger"))
    append = w.agent.ledger.append

    async def refuse(event: Any, *given: Any, **named: Any) -> Any:
        if event.name == "foreign":
            raise LedgerFull("LED-008", "full")
        return await append(event, *given, **named)

    with monkeypatch.context() as full:
        full.setattr(w.agent.ledger, "append", refuse)
        w.run(30)
        assert w.logged("care_put_off")
        assert w.sessions() == []
    w.run(120)
    assert [s.outcome for s in w.sessions()] == ["foreign"]


@pytest.mark.parametrize("named", [True, False], ids=["as the raise", "as something else"])
def test_a_raise_that_was_told_no_because_its_evidence_came_late(
    make: Make, slow: Any, named: bool
) -> None:
    """Evidence that is not durable in time is rejected (design §2 rule 14), and a terminal may remember that
    as a payment that failed. That the evidence was stored in the end contradicts nothing."""
    w = make(hold="1.50", raising=("1.00", "2.50", 1))
    w.plant.load_w = FULL_POWER_W
    slow(w, 4.0, "raise_approved")
    charge(w, seconds=0)
    w.until(lambda: "raise_approved" in w.event_names(), within_s=900)
    (told,) = (
        row.data["result"]
        for row in w.agent.ledger._ledger.events(w.session().id)
        if row.name == "raise_approved"
    )
    made = HoldRef(
        "52523535", told["receipt"] if named else 0, 12, told["trace"] if named else None
    )
    w.terminal.last = LastResult(0x6C, Evidence(made, None))
    w.run(30)
    assert w.logged("commit_late")
    assert w.session().raising == ""
    w.plant.unplug()
    w.until_state(S.CLOSED, within_s=200)
    assert w.session().outcome == "captured"
    one_end_each(w)
