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


def test_no_broker_from_the_start(tmp_path: Path, broker: Broker) -> None:
    missing = ("broker", "network", "backend")
    with station(tmp_path / "rig", broker, without=missing, start_agent=False) as rig:
        # The key that acknowledgements are checked with was laid down long before.
        rig.start_broker()
        rig.start_network()
        rig.start_backend()
        rig.stop_part("backend")
        rig.stop_part("netproxy")
        rig.start_agent()
        session = charge(rig)
        unplug(rig)
        check_captured(rig, session)
        waiting = outbox(rig)
        assert waiting["unacked"] == 2
        assert [r["seq"] for r in waiting["records"]] == [1, 2]
        assert len(events(rig, "uplink_down")) == 1, "a loss is logged once"
        rig.start_backend()
        rig.start_network()
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


def test_broker_of_another_authority(tmp_path: Path, broker: Broker) -> None:
    """Nothing is sent to it; with the right authority in its place the records go out by themselves."""
    (tmp_path / "ours").mkdir()
    (tmp_path / "other").mkdir()
    ours = Mosquitto(tmp_path / "ours", tls=True)  # for its certificates
    certificate, key = ours.server()
    tls = Tls(ours.ca, certificate, key, client_certificates=False)
    directory = tmp_path / "rig"
    directory.mkdir()
    ca = directory / "ca.pem"
    shutil.copy(Mosquitto(tmp_path / "other", tls=True).ca, ca)
    with station(directory, broker, tls=tls, edit=lambda text: f"{text}  ca: {ca}\n") as rig:
        refused = wait_event(rig, "uplink_down")
        assert refused["id"] == "UPL-002", refused
        assert "certificate" in str(refused["text"])
        session = charge(rig)
        unplug(rig)
        check_captured(rig, session)
        assert outbox(rig)["unacked"] == 2
        assert rig.tell("backend", "state")["messages"] == 0
        assert len(events(rig, "uplink_down")) == 1
        assert "UPL-002" in str(status(rig)["uplink"])
        shutil.copy(ours.ca, ca)
        check_books(rig)
