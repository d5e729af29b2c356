"""A terminal that goes away while the station runs: pulled out, switched off, without power in the middle of
a hold or of a capture. It comes back by itself, and every hold ends exactly once."""

from __future__ import annotations

from pathlib import Path

import pytest
from support.station_rig import (
    STEP_S,
    booked,
    broker,
    charge,
    check_books,
    check_captured,
    check_no_energy,
    check_out_of_order,
    check_recovered,
    closed,
    draw,
    losses,
    mark,
    moved,
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


def test_pulled_out_while_charging(tmp_path: Path, broker: Broker) -> None:
    """Energy goes on; the loss is said once, and the session is captured when the terminal is back."""
    with station(tmp_path / "rig", broker) as rig:
        session = charge(rig)
        at = mark(rig)
        rig.tell("terminal", "unplug")
        wait_event(rig, "device_lost", since=at, device="terminal")
        before = truth_mwh(rig)
        unplug(rig)
        reach(rig, session, "capturing", "capture_due")
        assert truth_mwh(rig) >= before
        rig.tell("terminal", "replug")
        wait_event(rig, "device_back", since=at, device="terminal")
        check_captured(rig, session)
        assert len(losses(rig)) == 1
        check_books(rig)


def test_switched_off_and_on(tmp_path: Path, broker: Broker) -> None:
    """The port stays, nobody answers: found out by asking."""
    with station(tmp_path / "rig", broker) as rig:
        rig.wait_screen("Tap card")
        rig.tell("terminal", "power_off")
        check_out_of_order(rig, "the card read broke")
        rig.tell("terminal", "power_on")
        check_recovered(rig)


def cut_power(rig: Rig) -> None:
    """Off and on again in the middle of whatever it does. It hangs on USB, so the port goes with it and
    the agent need not wait for the end of T4 (three minutes) to find out."""
    rig.tell("terminal", "power_off")
    rig.tell("terminal", "unplug")
    rig.tell("terminal", "power_on")
    rig.tell("terminal", "replug")


@pytest.mark.parametrize(
    ("at", "kinds"),
    [("reserve:received", []), ("reserve:result_sent", ["hold", "auto_reversal"])],
)
def test_no_power_before_the_hold_is_complete(
    tmp_path: Path, broker: Broker, at: str, kinds: list[str]
) -> None:
    with station(tmp_path / "rig", broker) as rig:
        rig.tell("charger", "plug")
        rig.tell("terminal", "hold", at=at)
        session = tap(rig)
        rig.tell("terminal", "wait", at=at, timeout_s=STEP_S)
        cut_power(rig)
        found = closed(rig, session)
        assert [row["kind"] for row in booked(rig)] == kinds
        assert (found["payment"], found["captured_minor"]) == ("not_held", 0)
        assert rig.tell("terminal", "state")["open_holds"] == []
        check_no_energy(rig, 0)
        check_books(rig)


def test_no_power_once_the_hold_is_booked(tmp_path: Path, broker: Broker) -> None:
    """Its completion never came, but the terminal lists the hold: the driver gets what was paid for."""
    with station(tmp_path / "rig", broker) as rig:
        rig.tell("charger", "plug")
        rig.tell("terminal", "hold", at="reserve:result_answered")
        session = tap(rig)
        rig.tell("terminal", "wait", at="reserve:result_answered", timeout_s=STEP_S)
        check_no_energy(rig, 0)
        cut_power(rig)
        reach(rig, session, "charging")
        draw(rig, 100)
        unplug(rig)
        check_captured(rig, session)
        check_books(rig)


@pytest.mark.parametrize("at", ["capture:received", "capture:result_sent", "capture:completed"])
def test_no_power_during_the_capture(tmp_path: Path, broker: Broker, at: str) -> None:
    with station(tmp_path / "rig", broker) as rig:
        session = charge(rig)
        rig.tell("terminal", "hold", at=at)
        unplug(rig)
        rig.tell("terminal", "wait", at=at, timeout_s=STEP_S)
        cut_power(rig)
        found = check_captured(rig, session)
        assert len(moved(rig, found)) == len(booked(rig)) == 2
        check_books(rig)
