"""`voltill terminal status|show|read-card|open-holds|end-of-day` with the real driver: through the running
service, which has the port, and while it is stopped, over the serial line and over TCP."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import pytest
import serial
from support.station_rig import (
    STEP_S,
    broker,
    charge,
    closed,
    mark,
    movements,
    nobody_there,
    station,
    unplug,
    wait_event,
)

from hil.broker import Broker
from hil.common.ports import free_port
from hil.rig import Rig, voltill_command

__all__ = ["broker"]  # the fixture
pytestmark = pytest.mark.timeout(120)

TID = "52523535"
PASSWORD = "123456"
WAYS = ("service", "serial", "tcp")


@dataclass(frozen=True)
class Said:
    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        return json.loads(self.out)


class Technician:
    """Somebody at the charger with a shell."""

    def __init__(self, rig: Rig, tcp_port: int) -> None:
        self.rig, self._tcp_port = rig, tcp_port

    def options(self, way: str) -> list[str]:
        rig = self.rig
        if way != "tcp":
            return ["--config", str(rig.config), "--state", str(rig.state)]
        return [
            *("--port", f"socket://127.0.0.1:{self._tcp_port}", "--currency", "EUR"),
            *("--password-file", str(rig.path("zvt-password")), "--profile", "feig_cvend"),
            *("--state", str(rig.state)),
        ]

    def start(self, way: str, verb: str, *args: str) -> subprocess.Popen[str]:
        command = [*voltill_command(), "terminal", verb, *args, *self.options(way)]
        return subprocess.Popen(
            command,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            stdin=subprocess.DEVNULL,
            text=True,
        )

    def says(self, way: str, verb: str, *args: str) -> Said:
        return self.ends(self.start(way, verb, *args))

    def ends(self, started: subprocess.Popen[str]) -> Said:
        out, err = started.communicate(timeout=STEP_S)
        assert PASSWORD not in out + err
        return Said(started.returncode, out, err)


@pytest.fixture(scope="module")
def technician(tmp_path_factory: pytest.TempPathFactory, broker: Broker) -> Iterator[Technician]:
    port = free_port()
    with station(
        tmp_path_factory.mktemp("terminal"),
        broker,
        terminal_options=("--tcp", str(port)),
        without=("broker", "network", "backend"),
        edit=lambda text: text[: text.index("uplink:")],
        start_agent=False,
    ) as rig:
        yield Technician(rig, port)


@pytest.fixture(params=WAYS, scope="module")
def way(request: pytest.FixtureRequest, technician: Technician) -> str:
    """The service runs, or it does not."""
    rig = technician.rig
    if request.param == "service" and rig.agent is None:
        rig.start_agent()
        wait_event(rig, "terminal_connected")
    elif request.param != "service" and rig.agent is not None:
        assert rig.stop_agent() == 0
    return str(request.param)


def test_who_is_there(technician: Technician, way: str) -> None:
    rig = technician.rig
    ready = technician.says(way, "status")
    assert ready.code == 0, ready.err
    assert ready.out.splitlines()[0].endswith(": ready") and f"TID       {TID}" in ready.out
    assert "feig_cvend (zvt), EUR" in ready.out
    rig.tell("terminal", "set", eod_due=True)
    wants = technician.says(way, "status", "--json")
    rig.tell("terminal", "set", eod_due=False)
    assert wants.code == 1
    found = wants.json
    assert (found["tid"], found["status_code"], found["needs"]) == (TID, "f0", ["end_of_day"])
    assert found["through"] == ("service" if way == "service" else "direct")
    assert "voltill terminal end-of-day" in found["next"][0]


def test_a_text_is_shown(technician: Technician, way: str) -> None:
    said = technician.says(way, "show", "Out for repair", f"by {way}", "--for", "5")
    assert (said.code, said.out) == (0, "Shown for 5 s.\n"), said.err
    words = " ".join(line.strip() for line in technician.rig.screen())
    assert f"Out for repair by {way}" in words


def test_a_card_is_read(technician: Technician, way: str) -> None:
    rig = technician.rig
    asking = technician.start(way, "read-card", "--json")
    if way == "service":
        rig.wait_screen("Card test")
    rig.until(lambda: bool(rig.tell("terminal", "state")["reading_card"]), "the reader to be on")
    rig.tell("terminal", "tap", card="visa")
    said = technician.ends(asking)
    assert said.code == 0, said.err
    assert (said.json["card"], said.json["kind"], said.json["token"]) == (True, "bank", True)
    assert (said.json["hmac"] is None) == (way != "service")
    assert rig.tell("terminal", "state")["open_holds"] == [], "it began nothing"


def test_a_killed_service_leaves_a_hold_that_is_explained_and_kept(technician: Technician) -> None:
    """Hold, kill, look from outside, start, settle, close the day: what belongs to a session is never
    put at risk by a technician."""
    rig = technician.rig
    if rig.agent is None:
        rig.start_agent()
    session = charge(rig, wh=20)
    for way in WAYS:
        if way == "serial":
            rig.kill_agent()
        holds = technician.says(way, "open-holds", "--json")
        assert holds.code == 0, holds.err
        assert [(h["session"], h["held_minor"]) for h in holds.json["holds"]] == [(session, 5000)]
        refused = technician.says(way, "end-of-day", "--yes")
        assert refused.code == 2 and refused.err.startswith("STA-034") and session in refused.err
    assert movements(rig, "end_of_day") == []
    rig.start_agent()
    unplug(rig)
    cost = closed(rig, session)["captured_minor"]
    assert cost > 0
    nobody_there(rig)
    done = technician.says("service", "end-of-day", "--json")
    assert done.code == 0, done.err
    totals = done.json["totals"]
    assert (totals["total_minor"], sum(b["count"] for b in totals["brands"])) == (cost, 1)
    assert [row["amount_minor"] for row in movements(rig, "end_of_day")] == [cost]
    told = rig.voltill_json("status", "--state", str(rig.state))["ends_of_day"]
    assert told == [done.json]
    assert "No open holds" in technician.says("service", "open-holds").out
    assert rig.stop_agent() == 0
    for nr, way in enumerate(("serial", "tcp"), 2):
        said = technician.says(way, "end-of-day", "--yes")
        assert said.code == 0 and "The batch was empty." in said.out, said.err
        assert len(movements(rig, "end_of_day")) == nr


def test_a_port_that_somebody_has(technician: Technician) -> None:
    rig = technician.rig
    if rig.agent is None:
        rig.start_agent()
        wait_event(rig, "terminal_connected")
    alone = [
        *("--port", str(rig.path("terminal")), "--currency", "EUR", "--state", str(rig.state)),
        *("--password-file", str(rig.path("zvt-password"))),
    ]

    def straight() -> Said:
        return technician.ends(
            subprocess.Popen(
                [*voltill_command(), "terminal", "status", *alone],
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                text=True,
            )
        )

    service = straight()
    assert (
        service.code == 2 and service.err.startswith("STA-033") and "--terminal t1" in service.err
    )
    rig.stop_agent()
    with serial.Serial(str(rig.path("terminal")), exclusive=True):
        other = straight()
    assert other.code == 2 and "TRM-001" in other.out and "held by another process" in other.out


def test_a_cable_that_is_pulled_in_the_middle_of_the_end_of_day(technician: Technician) -> None:
    """Not known how it ended; asked as soon as the terminal is back; not sent again by itself."""
    rig = technician.rig
    if rig.agent is None:
        rig.start_agent()
    nobody_there(rig)
    before, at = len(movements(rig, "end_of_day")), mark(rig)
    sent = rig.tell("terminal", "state")["commands"].get("0650", 0)
    rig.tell("terminal", "set", eod_due=True)
    rig.tell("terminal", "hold", at="end_of_day:received")
    asking = technician.start("service", "end-of-day", "--yes")
    rig.tell("terminal", "wait", at="end_of_day:received")
    rig.tell("terminal", "unplug")
    said = technician.ends(asking)
    assert said.code == 2 and "How it ended is not known" in said.err, said
    rig.tell("terminal", "resume", break_link=True)
    rig.tell("terminal", "replug")
    wait_event(rig, "day_end", step="not_done", since=at)
    assert rig.tell("terminal", "state")["commands"]["0650"] == sent + 1
    assert len(movements(rig, "end_of_day")) == before
    assert technician.says("service", "end-of-day", "--json").json["outcome"] == "done"
    assert len(movements(rig, "end_of_day")) == before + 1


def test_a_terminal_that_is_out_of_order(technician: Technician) -> None:
    rig = technician.rig
    if rig.agent is None:
        rig.start_agent()
    wait_event(rig, "terminal_connected")
    at = mark(rig)
    rig.tell("terminal", "unplug")
    try:
        wait_event(rig, "device_lost", device="terminal", since=at)
        said = technician.says("service", "status")
        assert said.code == 2 and "Terminal t1: out of order" in said.out and "TRM-" in said.out
        for verb in (("show", "x"), ("read-card",), ("open-holds",), ("end-of-day", "--yes")):
            refused = technician.says("service", *verb)
            assert refused.code == 2 and refused.err.splitlines()[-1].startswith("TRM-"), refused
    finally:
        rig.tell("terminal", "replug")
