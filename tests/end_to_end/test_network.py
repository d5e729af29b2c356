"""Broker away from the start, broker killed in the middle, broker of another authority: charging goes on,
records wait, and arrive when it is repaired."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from support.mosquitto import Mosquitto
from support.station_rig import (
    STATION,
    STEP_S,
    broker,
    charge,
    check_books,
    check_captured,
    draw,
    outbox,
    station,
    status,
    unplug,
    wait_event,
)

from hil.broker import Broker, Tls
from hil.rig import Rig

__all__ = ["broker"]  # the fixture
pytestmark = pytest.mark.timeout(120)


def events(rig: Rig, name: str) -> list[dict[str, object]]:
    return [e for e in rig.log.events if e.get("event") == name]


def test_no_broker_then_a_false_one_then_ours(tmp_path: Path, broker: Broker) -> None:
    """A whole session without any broker. Then one answers whose certificate another authority signed:
    nothing is sent to it. With the right authority in its place the records go out by themselves."""
    ours, other = (Mosquitto(tmp_path / name, tls=True) for name in ("ours", "other"))
    tls = Tls(ours.ca, *ours.server(), client_certificates=False)
    directory = tmp_path / "rig"
    directory.mkdir()
    ca = directory / "ca.pem"
    shutil.copy(other.ca, ca)
    with station(
        directory, broker, tls=tls, edit=lambda text: f"{text}  ca: {ca}\n", start_agent=False
    ) as rig:
        rig.tell("netproxy", "cut")
        rig.start_agent()
        down = wait_event(rig, "uplink_down")
        assert down["id"] == "UPL-001", down
        session = charge(rig)
        unplug(rig)
        check_captured(rig, session)
        waiting = outbox(rig)
        assert [r["seq"] for r in waiting["records"]] == [1, 2]
        assert len(events(rig, "uplink_down")) == 1, "a loss is logged once"

        rig.tell("netproxy", "restore")
        rig.until(lambda: "UPL-002" in rig.log.path.read_text(), "the certificate to be refused")
        assert "certificate" in str(status(rig)["uplink"])
        assert rig.tell("backend", "state")["messages"] == 0
        assert outbox(rig)["unacked"] == 2
        shutil.copy(ours.ca, ca)
        check_books(rig)


def test_broker_killed_in_the_middle_with_mqtt_3_1_1(tmp_path: Path, broker: Broker) -> None:
    with station(tmp_path / "rig", broker, protocol="3.1.1") as rig:
        rig.tell("backend", "wait", station=STATION, online=True, timeout_s=STEP_S)
        session = charge(rig)
        assert rig.broker_process is not None
        rig.broker_process.kill()
        draw(rig, 100)
        assert rig.session(session)["state"] == "charging"
        unplug(rig)
        check_captured(rig, session)
        assert outbox(rig)["unacked"] == 2
        rig.start_broker()
        check_books(rig)
