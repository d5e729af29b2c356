"""The ways a session goes, one after the other on one station. Afterwards all four books agree."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from support.station_rig import (
    HOLD_MINOR,
    booked,
    broker,
    charge,
    check_books,
    check_captured,
    check_no_energy,
    check_released,
    mark,
    nobody_there,
    reach,
    station,
    tap,
    tap_until,
    truth_mwh,
    unplug,
    wait_event,
)

from hil.broker import Broker
from hil.rig import Rig

__all__ = ["broker"]  # the fixture
pytestmark = pytest.mark.timeout(120)

LOAD_W = 360_000
CONNECTION_TIMEOUT_S = 10  # the least that the settings allow


@pytest.fixture(scope="module")
def station_of_the_module(
    tmp_path_factory: pytest.TempPathFactory, broker: Broker
) -> Iterator[Rig]:
    directory = tmp_path_factory.mktemp("paths")
    with station(directory, broker, connection_timeout_s=CONNECTION_TIMEOUT_S) as rig:
        yield rig
        check_books(rig)


@pytest.fixture
def rig(station_of_the_module: Rig) -> Rig:
    nobody_there(station_of_the_module)
    return station_of_the_module


def test_plug_first_and_only_the_same_card_stops(rig: Rig) -> None:
    session = charge(rig, "visa")
    assert "Same card to stop" in rig.wait_screen("kWh")
    holds = len(booked(rig))
    rig.tap("mastercard")
    rig.wait_screen("No charge")
    assert rig.session(session)["state"] == "charging"
    assert len(booked(rig)) == holds
    tap_until(rig, session, "visa", "stopping")
    found = check_captured(rig, session)
    assert found["stop_reason"] == "tap"
    assert "Please unplug" in rig.wait_screen("Total")
    assert not rig.tell("charger", "state")["released"]


def test_tap_first_and_a_pause_and_unplugging_stops(rig: Rig) -> None:
    session = tap(rig, "mastercard")
    reach(rig, session, "held")
    rig.wait_screen("Plug in now")
    rig.tell("charger", "plug")
    reach(rig, session, "charging")
    rig.wait_screen("kWh")
    rig.tell("charger", "load", w=0)
    reach(rig, session, "suspended")
    rig.wait_screen("paused")
    at = mark(rig)
    rig.tell("charger", "load", w=LOAD_W)
    wait_event(rig, "session", since=at, session=session, state="charging")
    unplug(rig)
    found = check_captured(rig, session)
    assert found["stop_reason"] == "unplugged"
    assert found["held_minor"] == HOLD_MINOR
    assert found["idle_ms"] > 0


def test_the_same_card_before_the_plug_cancels(rig: Rig) -> None:
    before = truth_mwh(rig)
    session = tap(rig, "girocard")
    reach(rig, session, "held")
    rig.wait_screen("Plug in now")
    tap_until(rig, session, "girocard", "releasing")
    rig.wait_screen("No charge")
    check_released(rig, session)
    check_no_energy(rig, before)


def test_a_car_that_never_comes_frees_the_hold(rig: Rig) -> None:
    before = truth_mwh(rig)
    session = tap(rig, "amex")
    reach(rig, session, "held")
    reach(rig, session, "releasing", timeout_s=2 * CONNECTION_TIMEOUT_S)
    rig.wait_screen("Hold is freed")
    found = check_released(rig, session)
    assert found["why"] == "no car"
    check_no_energy(rig, before)


def test_the_emergency_stop_ends_and_bills_what_flowed(rig: Rig) -> None:
    session = charge(rig, "visa2")
    rig.tell("charger", "estop")
    rig.tell("charger", "wait", power_w=0, timeout_s=1)
    found = check_captured(rig, session)
    assert found["stop_reason"] == "emergency stop"
