"""A terminal that loses its power in the middle of a hold or of a capture, one after the other on one
station: it comes back, and every hold ends exactly once. Afterwards all four books agree."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from support.station_rig import (
    PRICE,
    STEP_S,
    booked,
    broker,
    charge,
    check_captured,
    check_no_energy,
    closed,
    draw,
    losses,
    mark,
    moved,
    nobody_there,
    reach,
    station,
    tap,
    truth_mwh,
    unplug,
    wait_event,
)

from hil.broker import Broker
from hil.rig import Rig

__all__ = ["broker"]  # the fixture
pytestmark = pytest.mark.timeout(120)


@pytest.fixture(scope="module")
def station_of_the_module(
    tmp_path_factory: pytest.TempPathFactory, broker: Broker
) -> Iterator[Rig]:
    with station(tmp_path_factory.mktemp("lost"), broker) as rig:
        yield rig


@pytest.fixture
def rig(station_of_the_module: Rig) -> Rig:
    """With nobody there."""
    nobody_there(station_of_the_module)
    return station_of_the_module


def test_switched_off_and_on_while_idle(rig: Rig) -> None:
    """The port stays and nobody answers: found out by asking."""
    at = mark(rig)
    rig.tell("terminal", "power_off")
    lost = wait_event(rig, "device_lost", since=at, device="terminal")
    assert lost["effect"] == "out of order for payment"
    rig.tell("terminal", "power_on")
    wait_event(rig, "device_back", since=at, device="terminal")
    rig.wait_screen(PRICE)


def cut_power(rig: Rig) -> None:
    """Off and on again in the middle of whatever it does. It hangs on USB, so the port goes with it and
    the agent need not wait for the end of T4 (three minutes) to find out."""
    rig.tell("terminal", "power_off")
    rig.tell("terminal", "unplug")
    rig.tell("terminal", "power_on")
    rig.tell("terminal", "replug")


def test_before_the_hold_is_booked(rig: Rig) -> None:
    before, rows = truth_mwh(rig), len(booked(rig))
    rig.tell("charger", "plug")
    rig.tell("terminal", "hold", at="reserve:received")
    session = tap(rig)
    rig.tell("terminal", "wait", at="reserve:received", timeout_s=STEP_S)
    cut_power(rig)
    found = closed(rig, session)
    assert booked(rig)[rows:] == []
    assert (found["payment"], found["captured_minor"]) == ("not_held", 0)
    assert rig.tell("terminal", "state")["open_holds"] == []
    check_no_energy(rig, before)


def test_an_approved_hold_that_vanished_is_listed(tmp_path: Path, broker: Broker) -> None:
    """The approval was stored, its answer was lost, and the terminal has taken it back without a result
    that says so: nobody can tell it from a hold that was charged, so a person is told."""
    with station(tmp_path / "rig", broker) as rig:
        rig.tell("charger", "plug")
        rig.tell("terminal", "hold", at="reserve:result_sent")
        session = tap(rig)
        rig.tell("terminal", "wait", at="reserve:result_sent", timeout_s=STEP_S)
        reach(rig, session, "approved")
        cut_power(rig)
        reach(rig, session, "unresolved")
        found = rig.session(session)
        assert [row["kind"] for row in booked(rig)] == ["hold", "auto_reversal"]
        assert (found["payment"], found["held_minor"], found["captured_minor"]) == (
            "unknown",
            5000,
            0,
        )
        check_no_energy(rig, 0)
        # The connector is free for the next driver.
        assert reach(rig, tap(rig), "charging")


def test_once_the_hold_is_booked(rig: Rig) -> None:
    """Its completion never came, but the terminal lists the hold: the driver gets what was paid for."""
    before = truth_mwh(rig)
    rig.tell("charger", "plug")
    rig.tell("terminal", "hold", at="reserve:result_answered")
    session = tap(rig)
    rig.tell("terminal", "wait", at="reserve:result_answered", timeout_s=STEP_S)
    check_no_energy(rig, before)
    cut_power(rig)
    reach(rig, session, "charging")
    draw(rig, 100)
    unplug(rig)
    check_captured(rig, session)


@pytest.mark.parametrize("at", ["capture:received", "capture:result_sent"])
def test_during_the_capture(rig: Rig, at: str) -> None:
    before = mark(rig)
    session = charge(rig)
    rig.tell("terminal", "hold", at=at)
    unplug(rig)
    rig.tell("terminal", "wait", at=at, timeout_s=STEP_S)
    cut_power(rig)
    found = check_captured(rig, session)
    assert len(moved(rig, found)) == 2
    wait_event(rig, "device_back", since=before, device="terminal")
    assert len([e for e in losses(rig) if e in rig.log.events[before:]]) == 1
