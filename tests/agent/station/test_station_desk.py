"""What a driver meets at the terminal: who may tap when, which connector is meant, what is shown."""

from __future__ import annotations

import itertools
from collections.abc import Callable

import pytest
from support.fake_terminal_money import TerminalDriver
from support.station_world import CARD, E1, E2, OTHER_CARD, World, charge, one_end_each

from agent.ledger import LedgerError
from agent.ports import LastResult
from agent.session import S
from agent.station import room as room_module

Make = Callable[..., World]
THIRD_CARD = b"card-three"


def shown(w: World, words: str) -> bool:
    return any(words in " ".join(lines) for lines in w.terminal.screens)


# --- taps that start nothing --------------------------------------------------------------------------


def test_another_card_while_charging_is_told_so(make: Make) -> None:
    w = make()
    charge(w)
    w.terminal.screens.clear()
    w.terminal.tap(OTHER_CARD)
    w.run(3)
    assert "Other card in use" in w.terminal.screen and "No charge was made" in w.terminal.screen
    w.run(10)
    assert "Same card to stop" in w.terminal.screen, "the running session is shown again"
    assert w.session().state is S.CHARGING and len(w.sessions()) == 1


def test_a_card_without_any_token_starts_but_does_not_stop(make: Make) -> None:
    w = make()
    w.plant.plug()
    w.run(3)
    w.terminal.tap(None)
    w.until_state(S.CHARGING)
    w.run(10)
    w.terminal.tap(None)
    w.run(10)
    assert w.session().state is S.CHARGING, "nobody can say that it is the same card"
    w.plant.unplug()
    w.until_state(S.CLOSED)


def test_the_card_does_not_stop_where_only_the_plug_does(make: Make) -> None:
    w = make(stop="unplug")
    charge(w)
    assert "Unplug to stop" in w.terminal.screen
    w.terminal.tap(CARD)
    w.run(10)
    assert w.session().state is S.CHARGING
    w.plant.unplug()
    w.until_state(S.CLOSED)


def test_a_card_held_for_long_is_one_tap(make: Make) -> None:
    w = make()
    charge(w)
    w.terminal.tap(CARD, hold_s=20)
    done = w.until_state(S.CLOSED)
    w.run(30)
    assert done.stop_reason == "tap"
    assert len(w.sessions()) == 1, "it does not begin the next session"


def test_a_tap_waits_while_another_s_hold_is_in_doubt(
    make: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its own hold would replace the last result, which is all that tells of the other one."""
    w = make(evses=(E1, E2))
    forgets = False
    told = TerminalDriver.last_result

    async def last_result(self: TerminalDriver) -> LastResult | None:
        return None if forgets else await told(self)

    monkeypatch.setattr(TerminalDriver, "last_result", last_result)
    w.terminal.script["authorize"].append("lost_done")
    w.plant.plug()
    w.run(3)
    w.terminal.tap(CARD)
    w.until(lambda: len(w.terminal.holds) == 1)
    forgets = True
    w.until_state(S.HOLD_UNCLEAR)
    w.run(20)
    forgets = False
    w.evses[E2].plug()
    w.run(5)
    w.terminal.screens.clear()
    w.terminal.tap(OTHER_CARD)
    w.run(3)
    assert shown(w, "Payment check, wait") and len(w.sessions()) == 1
    w.until_state(S.CHARGING)
    assert w.session().evse == E1, "asked again a minute later it is found"
    w.run(5)
    w.terminal.tap(OTHER_CARD)
    w.until(lambda: len(w.sessions()) == 2 and w.session().state is S.CHARGING)
    for plant in w.evses.values():
        plant.unplug()
    w.until(lambda: all(s.state is S.CLOSED for s in w.sessions()))
    one_end_each(w)


def test_a_meter_that_is_silent_takes_no_card(make: Make) -> None:
    w = make()
    w.plant.meter_answers = False
    w.run(40)
    assert "Out of order" in w.terminal.screen
    w.terminal.tap(CARD)
    w.run(5)
    assert w.sessions() == []
    w.terminal.on_reader.clear()
    w.plant.meter_answers = True
    w.run(10)
    assert "Tap card to start" in w.terminal.screen


# --- the terminal's own state -------------------------------------------------------------------------


def test_no_terminal_is_one_line_and_its_return_another(make: Make) -> None:
    w = make(start=False)
    w.terminal.online = False
    w.start()
    w.run(300)
    lost = w.logged("device_lost")
    assert [(e["id"], e["effect"]) for e in lost] == [("TRM-006", "out of order for payment")]
    assert w.agent.parts.desks["t1"].trouble.startswith("TRM-006")
    w.terminal.online = True
    w.until(lambda: w.logged("device_back"), within_s=40)
    assert 290_000 < w.logged("device_back")[0]["after_ms"] < 340_000
    w.run(2)
    assert "Tap card to start" in w.terminal.screen


def test_the_pause_between_tries_grows(make: Make) -> None:
    w = make(start=False)
    w.terminal.online = False
    w.start()
    tries: list[int] = []
    connect = w.agent.parts.desks["t1"]._terminal.connect

    async def counted() -> object:
        tries.append(w.now_ms)
        return await connect()

    w.agent.parts.desks["t1"]._terminal.connect = counted  # type: ignore[method-assign,assignment]
    w.run(300)
    gaps = [round((b - a) / 1000) for a, b in itertools.pairwise(tries)]
    assert gaps[:4] == [2, 4, 8, 16] and set(gaps[4:]) == {30}


def test_a_terminal_that_breaks_again_and_again_is_not_hammered(make: Make) -> None:
    w = make()
    w.terminal.script["capture"].append("lost")
    charge(w)
    desk = w.agent.parts.desks["t1"]
    before = len(w.logged("device_lost"))

    async def broken(lines: object, hold_s: int = 0) -> None:
        from agent.ports import DeviceUnavailable

        raise DeviceUnavailable("TRM-007", "display text")

    desk._terminal.show = broken  # type: ignore[method-assign,assignment]
    w.run(300)
    assert len(w.logged("device_lost")) - before < 20


def test_a_terminal_that_is_not_ready(make: Make) -> None:
    w = make()
    w.terminal.ready = False
    w.run(70)
    assert "Out of order" in w.terminal.screen and "STA-028" in w.terminal.screen
    # It cannot be told to initialise itself either; that is tried again and told once a try.
    assert [e["id"] for e in w.errors()] == ["STA-028", "STA-043"]
    w.terminal.tap(CARD)
    w.run(5)
    assert w.sessions() == []
    w.terminal.on_reader.clear()
    w.terminal.ready = True
    w.run(15)
    assert "Tap card to start" in w.terminal.screen, "looked at every ten seconds"
    assert len(w.logged("terminal_ready")) == 1


# --- the disk -----------------------------------------------------------------------------------------


def test_a_full_disk_refuses_new_sessions(make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    w = make()
    real = w.agent.ledger.append

    async def full(*_: object, **__: object) -> None:
        raise LedgerError("LED-008", "the disk is full")

    monkeypatch.setattr(w.agent.ledger, "append", full)
    w.terminal.tap(CARD)
    w.run(5)
    assert [e["id"] for e in w.errors()] == ["STA-003"]
    assert "Out of order" in w.terminal.screen and "LED-008" in w.terminal.screen
    assert w.terminal.commands.count("authorize") == 0
    monkeypatch.setattr(w.agent.ledger, "append", real)
    w.run(70)
    assert "Tap card to start" in w.terminal.screen, "looked at again every minute"


def test_a_disk_that_is_nearly_full_lets_running_sessions_end(
    make: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    w = make()
    charge(w)
    monkeypatch.setattr(room_module, "ROOM_BYTES", 1 << 60)
    w.run(70)
    assert [e["id"] for e in w.errors()] == ["STA-029"]
    w.terminal.tap(CARD)
    w.until_state(S.CLOSED)
    w.run(40)
    assert "Out of order" in w.terminal.screen and "STA-029" in w.terminal.screen
    w.terminal.tap(OTHER_CARD)
    w.run(10)
    assert len(w.sessions()) == 1
    monkeypatch.setattr(room_module, "ROOM_BYTES", 1)
    w.run(70)
    assert len(w.logged("disk_has_room")) == 1


# --- two connectors, one terminal ---------------------------------------------------------------------


@pytest.fixture
def two(make: Make) -> World:
    return make(evses=(E1, E2))


def test_the_plugged_one_is_meant(two: World) -> None:
    two.evses[E2].plug()
    two.run(3)
    two.terminal.tap(CARD)
    held = two.until_state(S.CHARGING)
    assert held.evse == E2
    assert not two.evses[E1].released


def test_a_car_that_comes_after_the_tap_names_the_connector(two: World) -> None:
    two.terminal.tap(CARD)
    held = two.until_state(S.HELD)
    assert held.evse is None
    two.terminal.tap(OTHER_CARD)
    two.run(3)
    assert shown(two, "Please wait a turn"), "one hold without a connector at a time"
    two.evses[E2].plug()
    charging = two.until_state(S.CHARGING)
    assert charging.evse == E2
    assert two.event_names()[:6] == ["tapped", "approved", "held", "bound", "plugged", "began"]
    two.evses[E2].unplug()
    two.until_state(S.CLOSED)
    one_end_each(two)


def test_a_car_that_comes_while_the_card_is_checked(two: World) -> None:
    two.terminal.authorize_s = 10
    two.terminal.tap(CARD)
    two.until_state(S.AUTHORIZING)
    two.run(2)
    two.evses[E1].plug()
    charging = two.until_state(S.CHARGING)
    assert charging.evse == E1


def test_a_car_that_was_there_before_is_not_meant(two: World) -> None:
    for plant in two.evses.values():
        plant.plug()
    two.run(5)
    two.terminal.tap(CARD)
    two.until_state(S.HELD)
    two.run(60)
    assert two.session().evse is None, "two cars: nobody can say which"
    two.evses[E1].unplug()
    two.run(3)
    two.evses[E1].plug()
    assert two.until_state(S.CHARGING).evse == E1


def test_an_occupied_connector_does_not_take_a_second_hold(two: World) -> None:
    two.evses[E1].plug()
    two.run(3)
    two.terminal.tap(CARD)
    two.until_state(S.CHARGING)
    two.run(5)
    two.terminal.tap(OTHER_CARD)
    second = two.until_state(S.HELD)
    assert second.evse == E2, "the only free one"
    two.evses[E1].fault = True
    two.run(2)
    two.evses[E1].fault = False
    two.run(2)
    assert two.session().state is S.HELD
    two.evses[E2].plug()
    two.until_state(S.CHARGING)
    two.run(5)
    two.terminal.screens.clear()
    two.terminal.tap(THIRD_CARD)
    two.run(3)
    assert shown(two, "Other card in use")
    two.terminal.tap(CARD)
    two.until(lambda: two.sessions()[0].state is S.CLOSED)
    assert two.session().state is S.CHARGING
    two.run(5)
    two.terminal.tap(OTHER_CARD)
    two.until(lambda: two.sessions()[1].state is S.CLOSED)
    one_end_each(two)
    assert two.evses[E1].delivered_wh == two.sessions()[0].energy_wh
    assert two.evses[E2].delivered_wh == two.sessions()[1].energy_wh


def ended_by_card(w: World) -> None:
    """A session at E1 whose car stays."""
    charge(w)
    w.terminal.tap(CARD)
    w.until_state(S.CLOSED)
    w.run(60)


def start_again(w: World) -> None:
    w.kill()
    w.passes(5)
    w.start()
    w.run(5)


@pytest.mark.parametrize("restart", [False, True], ids=["", "agent starts again"])
def test_the_car_of_the_session_before_names_no_connector(two: World, restart: bool) -> None:
    """Its driver may be gone: who taps next has another connector in mind, and pays for that one alone."""
    ended_by_card(two)
    if restart:
        start_again(two)
    delivered_wh = two.plant.delivered_wh
    two.terminal.tap(OTHER_CARD)
    two.until_state(S.HELD)
    two.run(8)
    assert two.session().evse is None and not two.plant.released
    assert "Or unplug, replug" in two.terminal.screen
    two.evses[E2].plug()
    assert two.until_state(S.CHARGING).evse == E2
    two.run(60)
    two.evses[E2].unplug()
    done = two.until(lambda: two.session().state is S.CLOSED) or two.session()
    assert two.plant.delivered_wh == delivered_wh
    assert two.evses[E2].delivered_wh == done.energy_wh > 0
    one_end_each(two)


@pytest.mark.parametrize("restart", [False, True], ids=["", "agent starts again"])
def test_a_car_that_was_plugged_in_again_is_meant(two: World, restart: bool) -> None:
    """The driver who goes on, or the next one."""
    ended_by_card(two)
    if restart:
        start_again(two)
    two.terminal.tap(CARD)
    two.until_state(S.HELD)
    two.plant.unplug()
    two.run(5)
    two.plant.plug()
    assert two.until_state(S.CHARGING).evse == E1
    two.plant.unplug()
    two.until_state(S.CLOSED)
    two.run(5)
    two.plant.plug()
    two.run(40)
    assert "Connector E1" in two.terminal.screen
    two.terminal.tap(OTHER_CARD)
    assert two.until_state(S.CHARGING).evse == E1, "named before the tap"


def test_a_card_that_was_declined_is_followed_by_another_at_the_same_car(two: World) -> None:
    two.plant.plug()
    two.run(3)
    two.terminal.script["authorize"].append("declined")
    two.terminal.tap(CARD)
    two.until_state(S.CLOSED)
    two.run(5)
    two.terminal.tap(OTHER_CARD)
    assert two.until_state(S.CHARGING).evse == E1


def test_it_names_none_either_while_the_others_are_in_use(two: World) -> None:
    ended_by_card(two)
    two.evses[E2].plug()
    two.run(3)
    two.terminal.tap(OTHER_CARD)
    assert two.until_state(S.CHARGING).evse == E2, "the one that came since"
    two.run(10)
    two.terminal.tap(THIRD_CARD)
    two.until_state(S.HELD)
    two.run(10)
    assert two.session().evse is None and not two.plant.released
    two.plant.unplug()
    two.run(3)
    two.plant.plug()
    assert two.until_state(S.CHARGING).evse == E1


@pytest.mark.parametrize("restart", [False, True], ids=["", "agent starts again"])
def test_at_the_only_connector_the_driver_goes_on_without_unplugging(
    make: Make, restart: bool
) -> None:
    w = make()
    ended_by_card(w)
    if restart:
        start_again(w)
    w.terminal.tap(CARD)
    w.until(lambda: len(w.sessions()) == 2 and w.session().state is S.CHARGING)
    assert w.session().evse == E1
    assert not shown(w, "Connector"), "there is but one"


def test_the_screen_says_which_connector_is_meant(two: World) -> None:
    assert "Connector" not in two.terminal.screen
    two.evses[E2].plug()
    two.run(3)
    assert "Connector E2 Tap card to start" in two.terminal.screen
    two.terminal.screens.clear()
    two.terminal.tap(CARD)
    two.until_state(S.CHARGING)
    two.run(5)
    texts = [" ".join(lines) for lines in two.terminal.screens]
    for words in ("Connector E2 Starting", "Connector E2 Charging"):
        assert any(words in text for text in texts), (words, texts)


def test_a_car_that_could_be_one_of_two_drivers_is_nobodys(make: Make) -> None:
    """Two holds without a connector at terminals that share connectors since the configuration changed."""
    third, fourth = "DE*ABC*E3", "DE*ABC*E4"
    every = (E1, E2, third, fourth)
    w = make(evses=every, terminals={"t1": (E1, E2), "t2": (third, fourth)})
    for terminal, card in zip(w.terminals.values(), (CARD, OTHER_CARD), strict=True):
        terminal.tap(card)
        w.until_state(S.HELD)
        w.run(5)
    w.kill()
    path = w.folder / "station.yaml"
    text = path.read_text()
    for serves in (f"{E1}, {E2}", f"{third}, {fourth}"):
        text = text.replace(f"serves: [{serves}]", f"serves: [{', '.join(every)}]")
    path.write_text(text)
    w.start()
    w.run(3)
    assert [s.state for s in w.sessions()] == [S.HELD, S.HELD]
    w.plant.plug()
    w.run(10)
    assert [s.evse for s in w.sessions()] == [None, None], "whose car it is nobody can say"
    w.run(180)
    assert [s.outcome for s in w.sessions()] == ["cancelled", "cancelled"]
    assert w.plant.delivered_wh == 0, "nor when one of them has gone"
    one_end_each(w)


def test_an_unbound_hold_is_released_when_no_car_comes(two: World) -> None:
    two.terminal.tap(CARD)
    two.until_state(S.HELD)
    done = two.until_state(S.CLOSED, within_s=150)
    assert done.evse is None and done.outcome == "cancelled"
    one_end_each(two)


def test_records_of_two_sessions_at_once_stay_one_chain(two: World) -> None:
    for plant, card in zip(two.evses.values(), (CARD, OTHER_CARD), strict=True):
        plant.plug()
        two.run(3)
        two.terminal.tap(card)
        two.until_state(S.CHARGING)
        two.run(5)
    for plant in two.evses.values():
        plant.unplug()
    two.until(lambda: all(s.state is S.CLOSED for s in two.sessions()))
    assert len(two.records()) == 4, "verified: gap-free, each with the hash of the one before"
    one_end_each(two)


def test_many_records_wanted_at_once_are_made_one_after_the_other(make: Make) -> None:
    import asyncio

    from agent.session import E, Effect

    w = make()
    keeper = w.agent.keeper
    keeper.perform = lambda session, effect: None
    tap = {
        "evse": None,
        "terminal": "t1",
        "amount_minor": 5000,
        "currency": "EUR",
        "tariff_id": "adhoc",
    }

    async def all_at_once() -> None:
        names = [f"S{i}" for i in range(12)]
        for name in names:
            await keeper.tell(name, E.TAPPED, tap)
            await keeper.tell(name, E.NOT_SENT, {"why": "test"})
        work = [w.agent.recorder.record(name, Effect.RECORD_SETTLEMENT) for name in names * 2]
        await asyncio.gather(*work)

    assert w.loop is not None
    w.loop.run_until_complete(all_at_once())
    assert len(w.records()) == 12, "verified: one chain, and none twice"
    assert all(s.state is S.CLOSED for s in w.sessions())


# --- screens ------------------------------------------------------------------------------------------


def test_the_screens_of_one_session(make: Make) -> None:
    w = make()
    w.terminal.tap(CARD)
    w.until_state(S.AUTHORIZING)
    w.until_state(S.HELD)
    w.run(1)
    w.plant.plug()
    w.until_state(S.CHARGING)
    w.run(30)
    w.terminal.tap(CARD)
    w.until_state(S.CLOSED)
    w.run(1)
    w.plant.unplug()
    w.run(40)
    words = [
        "Tap card to start",
        "OK. Plug in now",
        "Starting",
        "Charging",
        "Calculating",
        "Total",
        "Tap card to start",
    ]
    texts = [" ".join(lines) for lines in w.terminal.screens]
    for word in words:
        while texts and word not in texts[0]:
            texts.pop(0)
        assert texts, f"{word!r} was not shown in its turn: {w.terminal.screens}"


def test_the_running_cost_is_on_the_screen_and_fits_the_bill(make: Make) -> None:
    w = make()
    charge(w, seconds=300)
    live = w.agent.parts.points[E1].live
    assert live is not None
    w.terminal.tap(CARD)
    done = w.until_state(S.CLOSED)
    assert live.cost_minor <= (done.cost_minor or 0) <= live.cost_minor + 3
