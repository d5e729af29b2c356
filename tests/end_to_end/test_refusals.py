"""Holds that do not come about, one after the other on one station: the driver reads why on the terminal,
no energy flows, and no hold is left. Afterwards all four books agree."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from support.station_rig import (
    STEP_S,
    booked,
    broker,
    check_books,
    check_captured,
    check_no_energy,
    closed,
    draw,
    moved,
    nobody_there,
    reach,
    station,
    tap,
    truth_mwh,
    unplug,
)

from hil.broker import Broker
from hil.rig import Rig

__all__ = ["broker"]  # the fixture
pytestmark = pytest.mark.timeout(120)

NO_CARD = "6C"
FOR_EVER = 1_000


@pytest.fixture(scope="module")
def station_of_the_module(
    tmp_path_factory: pytest.TempPathFactory, broker: Broker
) -> Iterator[Rig]:
    with station(tmp_path_factory.mktemp("refusals"), broker) as rig:
        yield rig
        rig.tell("terminal", "clear_faults")
        nobody_there(rig)
        check_books(rig)


@pytest.fixture
def rig(station_of_the_module: Rig) -> Rig:
    """With a car plugged in and a healthy terminal."""
    rig = station_of_the_module
    rig.tell("terminal", "clear_faults")
    rig.tell("terminal", "set", read_valid_s=60, card_wait_s=30)
    nobody_there(rig)
    rig.tell("charger", "plug")
    return rig


def check_refused(rig: Rig, session: str, before_mwh: int) -> str:
    """Nothing was held and nothing flowed; the terminal's code."""
    found = closed(rig, session)
    assert found["payment"] == "refused"
    assert (found["held_minor"], found["captured_minor"]) == (0, 0)
    assert [record["type"] for record in found["records"]] == ["settlement"]
    assert moved(rig, found) == []
    assert rig.tell("terminal", "state")["open_holds"] == []
    check_no_energy(rig, before_mwh)
    return str(found["refusal"]["code"])


@pytest.mark.parametrize(
    ("card", "code", "why", "what_to_do"),
    [
        ("decline", "05", "Card was declined", "Try another card"),
        ("expired", "78", "Card has expired", "Try another card"),
        ("pin", "EC", "PIN not possible", "Pay with your phone"),
    ],
)
def test_a_declined_card(rig: Rig, card: str, code: str, why: str, what_to_do: str) -> None:
    before, holds = truth_mwh(rig), len(booked(rig))
    session = tap(rig, card)
    screen = rig.wait_screen(why)
    assert what_to_do in screen
    assert "No charge was made" in screen
    assert check_refused(rig, session, before).upper() == code
    assert len(booked(rig)) == holds


def test_no_card_in_time(rig: Rig) -> None:
    """The card was read, then taken away: the reservation asks for it again and nobody is there."""
    before = truth_mwh(rig)
    rig.tell("terminal", "set", read_valid_s=0, card_wait_s=1)
    session = tap(rig, "visa")
    rig.until(lambda: rig.tell("terminal", "state")["prompting"], "the terminal to want the card")
    rig.tell("terminal", "remove_card")
    screen = rig.wait_screen("No card seen")
    assert "Please tap again" in screen
    assert check_refused(rig, session, before).upper() == NO_CARD


def test_the_stop_key(rig: Rig) -> None:
    before = truth_mwh(rig)
    rig.tell("terminal", "set", read_valid_s=0)
    session = tap(rig, "visa")
    rig.until(lambda: rig.tell("terminal", "press_stop")["was_waiting"], "the terminal to wait")
    rig.wait_screen("No card seen")
    assert check_refused(rig, session, before).upper() == NO_CARD


def test_nothing_but_garbage_during_the_reservation(rig: Rig) -> None:
    """The dialogue breaks; the terminal is registered anew and asked, and holds nothing."""
    before = truth_mwh(rig)
    rig.tell("terminal", "hold", at="reserve:received")
    session = tap(rig, "visa")
    rig.tell("terminal", "wait", at="reserve:received", timeout_s=STEP_S)
    rig.tell("terminal", "fault", name="bad_crc", count=FOR_EVER)
    rig.tell("terminal", "resume")
    reach(rig, session, "hold_unclear")
    assert not rig.tell("charger", "state")["released"]
    rig.tell("terminal", "clear_faults")
    rig.wait_screen("No charge was made")
    found = closed(rig, session)
    assert found["payment"] == "not_held"
    assert moved(rig, found) == []
    assert rig.tell("terminal", "state")["open_holds"] == []
    check_no_energy(rig, before)


def test_a_little_garbage_does_no_harm_and_the_next_driver_charges(rig: Rig) -> None:
    """Two bad blocks of a kind are repeated, as PA00P016 has it; the third one counts."""
    rig.tell("terminal", "hold", at="reserve:result_due")
    session = tap(rig, "visa2")
    rig.tell("terminal", "wait", at="reserve:result_due", timeout_s=STEP_S)
    rig.tell("terminal", "fault", name="bad_crc", count=2)
    rig.tell("terminal", "resume")
    reach(rig, session, "charging")
    assert rig.tell("terminal", "state")["faults"] == {}
    draw(rig, 100)
    unplug(rig)
    check_captured(rig, session)
