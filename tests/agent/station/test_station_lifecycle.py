"""Start, watchdog, SIGTERM and death of the station: energy is never left on by a station that goes."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Callable

import pytest
from support.station_world import CARD, E1, OTHER_CARD, World, charge, one_end_each

from agent.ledger import Ledger, LedgerBusy, LedgerError
from agent.session import E, S
from agent.station import station as station_module
from agent.station.control import ControlRefused

Make = Callable[..., World]


# --- SIGTERM --------------------------------------------------------------------------------------


def test_sigterm_with_nothing_to_do(make: Make) -> None:
    w = make()
    assert w.stop() == 0
    assert w.plant.commands[-1] == "withdraw"
    assert w.errors() == []


def test_sigterm_ends_a_charging_session_in_order(make: Make) -> None:
    w = make()
    charge(w)
    assert w.stop() == 0
    w.start()
    done = w.session()
    assert done.state is S.CLOSED and done.stop_reason == "station shuts down"
    assert not w.plant.released
    one_end_each(w)


@pytest.mark.parametrize("moment", [1.0, 3.1, 3.4, 3.7, 4.5, 7.0])
def test_sigterm_at_any_moment_of_a_start(make: Make, moment: float) -> None:
    """The hold under way becomes complete, and is freed; no energy begins meanwhile."""
    w = make()
    w.plant.plug()
    w.run(3)
    w.terminal.tap(CARD)
    w.until_state(S.AUTHORIZING)
    w.run(moment)
    assert w.stop() == 0
    assert not w.plant.released
    w.start()
    w.run(5)
    assert w.session().state is S.CLOSED
    one_end_each(w)


def test_sigterm_while_held(make: Make) -> None:
    w = make()
    w.terminal.tap(CARD)
    w.until_state(S.HELD)
    w.stop()
    assert w.terminal.count("release") == 1


def test_sigterm_does_not_wait_for_ever(make: Make) -> None:
    w = make()
    charge(w)
    w.plant.answers = False
    began_ms = w.now_ms
    assert w.stop() == 0
    assert 55_000 < w.now_ms - began_ms < 75_000
    assert "STA-008" in {e["id"] for e in w.errors()}
    assert "STA-024" in {e["id"] for e in w.errors()}, "energy may be on, and somebody must know"


def test_told_twice_ends_at_once(make: Make) -> None:
    w = make()
    charge(w)
    w.terminal.settle_s = 50
    assert w.loop is not None
    w.loop.signals[signal.SIGTERM]()
    w.run(15)
    began_ms = w.now_ms
    assert w.stop() == 0
    assert w.now_ms - began_ms < 6_000
    assert not w.plant.released
    w.terminal.break_link()
    w.terminal.settle_s = 2
    w.start()
    w.until_state(S.CLOSED)
    one_end_each(w)


def test_no_new_session_while_going_down(make: Make) -> None:
    w = make()
    charge(w)
    w.terminal.settle_s = 20
    assert w.loop is not None
    w.loop.signals[signal.SIGTERM]()
    w.run(5)
    w.terminal.tap(OTHER_CARD)
    w.ends()
    assert w.terminal.count("hold") == 1


def test_a_hand_over_leaves_the_release_to_a_controller_that_ends_it_by_itself(make: Make) -> None:
    w = make(on_sigterm="hand_over")
    w.plant.failsafe_s = 30
    charge(w)
    w.plant.commands.clear()
    assert w.stop() == 0
    assert w.plant.released and w.plant.commands == []
    w.start()
    w.run(10)
    assert w.session().state is S.CHARGING and "withdraw" not in w.plant.commands


def test_a_hand_over_leaves_the_session_to_the_next_start(make: Make) -> None:
    w = make(on_sigterm="hand_over")
    charge(w)
    began_ms = w.now_ms
    assert w.stop() == 0
    # This controller never withdraws by itself: nobody may come back, so energy pauses meanwhile.
    assert not w.plant.released and w.now_ms - began_ms < 6_000
    w.passes(20)
    w.start()
    w.run(10)
    assert w.session().state is S.CHARGING
    assert len(w.logged("session_resumed")) == 1
    w.terminal.tap(CARD)
    w.until_state(S.CLOSED)
    one_end_each(w)


def test_a_release_that_is_barred_is_never_given_again(make: Make) -> None:
    """Also by a loop that could not be ended in time."""
    w = make()
    charge(w)
    point = w.agent.parts.points[E1]
    assert w.loop is not None

    before = len(w.plant.commands)
    w.loop.run_until_complete(point.withdraw())
    w.run(20)
    assert not w.plant.released
    assert "release" not in w.plant.commands[before:]
    assert w.session().state in (S.CHARGING, S.SUSPENDED), "only the release is gone"


# --- a part dies --------------------------------------------------------------------------------------


def test_a_part_that_dies_takes_the_station_down_without_energy(
    make: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    w = make()
    charge(w)

    async def broken() -> None:
        raise RuntimeError("a fault of the software")

    monkeypatch.setattr(w.agent.parts.desks["t1"], "_paint", broken)
    assert w.ends() == 2
    assert not w.plant.released and w.plant.commands[-1] == "withdraw"
    assert [e["id"] for e in w.errors()] == ["STA-004"]
    w.start()
    w.run(10)
    w.plant.unplug()
    w.until_state(S.CLOSED)
    one_end_each(w)


@pytest.mark.parametrize(
    "event", [E.HELD, E.BEGAN, E.ENERGY_FLOWS, E.STOPPED, E.RECORDED, E.SETTLED]
)
def test_the_disk_fails_at_any_event(make: Make, monkeypatch: pytest.MonkeyPatch, event: E) -> None:
    """What is not durable did not happen: the station goes down, and the next start asks."""
    w = make()
    real = w.agent.ledger.append

    async def append(row: object, **more: object) -> None:
        if getattr(row, "name", "") == event:
            raise LedgerError("LED-007", "the disk failed")
        await real(row, **more)  # type: ignore[arg-type]

    monkeypatch.setattr(w.agent.ledger, "append", append)
    w.plant.plug()
    w.run(3)
    w.terminal.tap(CARD)
    w.run(20)
    if w._main.done() is False:
        w.terminal.tap(CARD)
    assert w.ends() == 2
    assert not w.plant.released
    w.start()
    w.run(30)
    if w.session().state is not S.CLOSED:
        w.plant.unplug()
    w.until_state(S.CLOSED, within_s=200)
    one_end_each(w)


def test_a_deadline_that_cannot_be_stored_is_not_lost(
    make: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    w = make()
    w.terminal.tap(CARD)
    w.until_state(S.HELD)

    async def full(*_: object, **__: object) -> None:
        raise LedgerError("LED-008", "full")

    monkeypatch.setattr(w.agent.ledger, "append", full)
    w.run(1)
    assert w.ends(within_s=130) == 2
    w.start()
    w.until_state(S.CLOSED)
    one_end_each(w)


def test_a_start_that_fails_leaves_no_energy(make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    w = make()
    charge(w)
    w.kill()
    w.plant.commands.clear()

    async def fails(*_: object) -> None:
        raise LedgerError("LED-008", "full")

    monkeypatch.setattr(station_module.Station, "_recover", fails)
    w.start(ready=False)
    with pytest.raises(LedgerError):
        w.ends()
    assert w.plant.commands == ["withdraw"] and not w.plant.released


def test_a_second_agent_on_the_same_ledger_is_refused(make: Make) -> None:
    w = make()
    charge(w)
    with pytest.raises(LedgerBusy, match="in use by another process"):
        Ledger.open(w.state / "ledger.db", "DE*ABC*S1")
    w.run(5)
    assert w.session().state is S.CHARGING


# --- watchdog -------------------------------------------------------------------------------------


@pytest.fixture
def fed(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    messages: list[str] = []
    monkeypatch.setattr(station_module, "notify", messages.append)
    monkeypatch.setenv("WATCHDOG_USEC", "30000000")
    return messages


def test_the_watchdog_is_fed_while_there_is_progress(make: Make, fed: list[str]) -> None:
    w = make()
    assert fed[0].startswith("READY=1")
    fed.clear()
    w.run(150)
    assert len([m for m in fed if m.startswith("WATCHDOG=1")]) == 10, "every half of 30 s"
    w.terminal.online = False
    fed.clear()
    w.run(600)
    assert len(fed) == 40, "a terminal that is away is no reason to restart"
    assert "t1: TRM-006" in fed[-1]


@pytest.mark.parametrize("part", ["evse", "terminal"])
def test_the_watchdog_starves_when_a_part_hangs(make: Make, fed: list[str], part: str) -> None:
    w = make()
    hang = asyncio.Event()

    async def hangs(*_: object) -> None:
        await hang.wait()

    if part == "evse":
        w.agent.parts.points[E1].turn = hangs  # type: ignore[method-assign]
    else:
        w.agent.parts.desks["t1"]._paint = hangs  # type: ignore[method-assign]
    w.run(300)
    fed.clear()
    w.run(60)
    assert fed == []
    stuck = w.logged("stuck")
    name = f"evse {E1}" if part == "evse" else "terminal t1"
    assert [(e["id"], e["loops"]) for e in stuck] == [("STA-007", [name])], "told once"
    assert w.request("status")["stuck"] == [name]
    w.kill()


@pytest.mark.parametrize("verb", ["identify", "connect", "read_card"])
def test_a_terminal_that_runs_its_own_jobs_is_not_stuck(
    make: Make, fed: list[str], verb: str
) -> None:
    """In a status enquiry it closes its day or loads an update, for minutes, and says so (04 FF)."""
    w = make()
    w.run(5)
    terminal = w.agent.parts.desks["t1"]._terminal
    quick = getattr(terminal, verb)
    began: list[str] = []

    async def slow(*given: object) -> object:
        began.append(verb)
        await asyncio.sleep(600 if len(began) == 1 else 0)
        return await quick(*given)

    setattr(terminal, verb, slow)
    if verb == "connect":
        w.terminal.online = False
        w.run(70)
        w.terminal.online = True
    fed.clear()
    w.run(700)
    assert began
    assert w.logged("stuck") == [] and len(fed) > 40
    w.kill()


def test_a_part_that_hangs_from_the_first_moment_is_noticed(
    make: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    hang = asyncio.Event()

    async def hangs(_: object) -> None:
        await hang.wait()

    monkeypatch.setattr("agent.station.charge_point.ChargePoint.turn", hangs)
    w = make()
    w.run(100)
    assert w.agent.progress.stuck() == [f"evse {E1}"]
    w.kill()


# --- control requests ---------------------------------------------------------------------------------


def test_status_tells_everything_at_a_glance(make: Make) -> None:
    w = make()
    charge(w)
    found = w.request("status")
    assert found["running"] is True and found["station"] == "DE*ABC*S1"
    assert found["terminals"] == [
        {
            "id": "t1",
            "port": "/dev/zero",
            "tid": "52523535",
            "trouble": "",
            "closing": "",
            "strange_holds": [],
        }
    ]
    evse = found["evses"][0]
    assert evse["state"] == "charging" and evse["session"] == w.session().id
    assert evse["energy_wh"] > 100 and evse["cost_minor"] > 35
    assert found["open"][0]["payment"] == "held"
    assert (found["set_aside"], found["stuck"], found["uplink"]) == ({}, [], None)


def test_a_person_at_the_station_stops_a_session(make: Make) -> None:
    w = make()
    charge(w)
    answer = w.request("stop", evse=E1)
    assert answer == {"session": w.session().id, "state": "stopping"}
    with pytest.raises(ControlRefused, match=r"STA-018.*nothing to stop"):
        w.request("stop", evse=E1)
    done = w.until_state(S.CLOSED)
    assert done.stop_reason == "local"
    with pytest.raises(ControlRefused, match="STA-018: no session on"):
        w.request("stop", evse=E1)


def test_a_person_at_the_station_cancels_a_hold(make: Make) -> None:
    w = make()
    w.terminal.tap(CARD)
    w.until_state(S.HELD)
    assert w.request("stop", evse=E1)["state"] == "releasing"
    w.until_state(S.CLOSED)


def test_the_lists_of_the_running_service(make: Make) -> None:
    w = make()
    charge(w)
    w.terminal.tap(CARD)
    done = w.until_state(S.CLOSED)
    listed = w.request("sessions")
    assert [s["id"] for s in listed] == [done.id]
    shown = w.request("session", id=done.id)
    assert [e["name"] for e in shown["events"]] == w.event_names()
    assert [r["type"] for r in shown["records"]] == ["session", "settlement"]
    assert w.request("outbox")["unacked"] == 2
    assert len(w.request("records")) == 2
    assert w.request("sessions", limit=-1) == []
    with pytest.raises(ControlRefused, match="STA-012"):
        w.request("session", id="nobody")
    with pytest.raises(ControlRefused, match="STA-012"):
        w.request("events", id="nobody")


def test_the_meter_through_the_service(make: Make) -> None:
    w = make()
    answer = w.request("meter_read", evse=E1)
    assert answer["state"] == "ok" and answer["energy_import_wh"] == 104_211
    assert answer["serial"] == "SDM-1"
    with pytest.raises(ControlRefused, match=r"STA-013.*expected one of DE"):
        w.request("meter_read", evse="nobody")
