"""What a technician asks of a terminal through the running service, beside its own work."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import pytest
from support.fake_terminal import Hold
from support.station_world import CARD, OTHER_CARD, World, charge

from agent.ports import HoldRef
from agent.session import S
from agent.station.control import ControlRefused
from agent.station.errands import ERRANDS_MAX
from agent.station.requests import Requests

Make = Callable[..., World]


def begin(w: World, do: str, **request: Any) -> asyncio.Task[Any]:
    """A request whose answer is not waited for."""
    assert w.loop is not None
    return w.loop.create_task(Requests(w.agent).handlers[do](request))  # type: ignore[arg-type]


# --- state ------------------------------------------------------------------------------------------


def test_the_state_is_asked_anew(make: Make) -> None:
    w = make()
    found = w.request("terminal_status")
    assert (found["terminal"], found["tid"], found["ready"]) == ("t1", "52523535", True)
    assert (found["port"], found["profile"], found["through"]) == (
        "/dev/zero",
        "generic",
        "service",
    )
    assert (found["needs"], found["next"], found["trouble"]) == ([], [], "")
    w.terminal.eod_due = True
    found = w.request("terminal_status", terminal="t1")
    assert (found["ready"], found["status_code"]) == (False, "f0")
    assert found["needs"] == ["end_of_day"] and "voltill terminal end-of-day" in found["next"][0]
    session = charge_on(w)
    assert w.request("terminal_status")["sessions"] == [session]


def charge_on(w: World) -> str:
    w.terminal.eod_due = False
    w.run(15)
    return charge(w).id


def test_a_terminal_that_is_out_of_order_says_why(make: Make) -> None:
    w = make()
    w.terminal.online = False
    w.run(90)
    found = w.request("terminal_status")
    assert found["trouble"].startswith("TRM-") and found["ready"] is False
    assert found["tid"] == "52523535", "what it last said"
    for do, more in (
        ("terminal_show", {"lines": ["x"], "for_s": 5}),
        ("terminal_read_card", {"timeout_s": 5}),
        ("terminal_open_holds", {}),
        ("terminal_end_of_day", {}),
    ):
        with pytest.raises(ControlRefused, match="TRM-"):
            w.request(do, **more)


def test_before_the_first_link_it_is_waited_for(make: Make) -> None:
    w = make(start=False)
    w.start()
    assert not w.agent.parts.desks["t1"].linked
    assert w.request("terminal_status")["ready"] is True
    w.stop()
    w.terminal.online = False
    w.start()
    found = w.request("terminal_status")
    assert found["trouble"].startswith("TRM-006") and found["tid"] is None


def test_a_link_that_breaks_ends_every_wait(make: Make) -> None:
    w = make()
    w.terminal.settle_s = 5.0
    asking = [begin(w, "terminal_read_card", timeout_s=100)]
    asking += [begin(w, "terminal_open_holds") for _ in range(2)]
    w.terminal.online = False
    w.until(lambda: all(task.done() for task in asking))
    for task in asking:
        with pytest.raises(ControlRefused, match="TRM-"):
            task.result()


def test_an_unknown_terminal(make: Make) -> None:
    w = make()
    with pytest.raises(ControlRefused, match=r"STA-032: no terminal 't9'; .* t1"):
        w.request("terminal_status", terminal="t9")


def test_more_than_it_can_do_soon_is_refused(make: Make) -> None:
    w = make()
    asking = [begin(w, "terminal_open_holds") for _ in range(ERRANDS_MAX + 1)]
    w.until(lambda: all(task.done() for task in asking))
    busy = [task for task in asking if task.exception() is not None]
    assert len(busy) == 1 and "STA-037" in str(busy[0].exception())


# --- text -------------------------------------------------------------------------------------------


def test_a_text_stays_for_its_time(make: Make) -> None:
    w = make()
    found = w.request("terminal_show", lines=["Out for", "repair"], for_s=20)
    assert found["lines"] == ["Out for", "repair"]
    w.run(15)
    assert w.terminal.screen == "Out for repair"
    w.run(10)
    assert "Tap card" in w.terminal.screen


# --- cards ------------------------------------------------------------------------------------------


def test_a_card_test_starts_no_session(make: Make) -> None:
    w = make()
    w.plant.plug()
    w.run(3)
    asking = begin(w, "terminal_read_card", timeout_s=60)
    w.run(2)
    assert "Card test" in w.terminal.screen and "No charge" in w.terminal.screen
    w.terminal.tap(CARD)
    w.until(asking.done)
    found = asking.result()
    assert (found["card"], found["kind"], found["token"]) == (True, "bank", True)
    assert (
        len(found["hmac"]) == 8 and CARD.hex() not in str(found) and CARD.decode() not in str(found)
    )
    again = begin(w, "terminal_read_card", timeout_s=60)
    w.terminal.tap(CARD)
    w.until(again.done)
    assert again.result() == found, "the same card, at once"
    w.run(10)
    assert w.sessions() == [] and "Tap card" in w.terminal.screen
    w.terminal.tap(OTHER_CARD)
    w.until_state(S.CHARGING)


def test_a_card_without_token_and_no_card(make: Make) -> None:
    w = make()
    asking = begin(w, "terminal_read_card", timeout_s=60)
    w.terminal.tap(None)
    w.until(asking.done)
    assert (asking.result()["token"], asking.result()["hmac"]) == (False, None)
    none = begin(w, "terminal_read_card", timeout_s=7)
    busy = begin(w, "terminal_read_card", timeout_s=7)
    w.until(lambda: none.done() and busy.done())
    assert none.result()["card"] is False
    assert "STA-037" in str(busy.exception())


def test_a_driver_may_stop_while_a_technician_waits(make: Make) -> None:
    w = make()
    charge(w)
    asking = begin(w, "terminal_read_card", timeout_s=100)
    w.run(1)
    w.terminal.tap(CARD)
    w.until_state(S.CLOSED)
    assert not asking.done(), "the card of a session is the driver's"
    w.terminal.tap(OTHER_CARD)
    w.until(asking.done)
    assert asking.result()["card"] is True and len(w.sessions()) == 1


def test_money_goes_before_a_card_test(make: Make) -> None:
    w = make()
    charge(w)
    begin(w, "terminal_read_card", timeout_s=100)
    w.plant.unplug()
    assert w.until_state(S.CLOSED, within_s=60).captured_minor > 0


# --- holds ------------------------------------------------------------------------------------------


def test_open_holds_and_whose_they_are(make: Make) -> None:
    w = make()
    session = charge(w)
    w.terminal.holds.append(Hold(HoldRef("52523535", 17), 5000))
    found = w.request("terminal_open_holds")
    ours, strange = found["holds"]
    assert (ours["receipt"], ours["session"]) == (session.hold["receipt"], session.id)
    assert (ours["held_minor"], ours["currency"], ours["state"]) == (5000, "EUR", "charging")
    assert (strange["receipt"], strange["session"], strange["maybe"]) == (17, None, [])
    assert (found["unexplained"], found["missing"], found["complete"]) == ([17], [], True)
    w.terminal.holds[0].open = False
    assert w.request("terminal_open_holds")["missing"] == [
        {"session": session.id, "receipt": session.hold["receipt"]}
    ]
