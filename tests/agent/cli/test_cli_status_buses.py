"""The buses in `voltill status`: what a technician reads in front of a bad cable."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from support.past_station import Answer, Past, running
from support.rtu_slave import Port, Registers, driver_env

from agent.cli import status_buses
from agent.ports import LineSpec
from agent.settings.load import load_settings
from agent.station import bus_status
from drivers.meter.counters import RECENT
from drivers.meter.modbus import BusError
from drivers.meter.rtu import Bus
from drivers.meter.timing import DeviceTiming

Voltill = Callable[..., Answer]
REPO = Path(__file__).parents[3]
METER, CONTROLLER, NOBODY = 1, 3, 9
QUICK = DeviceTiming(20, 20, 0)
COUNTED = {
    "sent", "answered", "timeouts", "bad_frames", "exceptions", "cancelled", "late_replies",
    "recent", "recent_answered",
}  # fmt: skip


async def asked(units: list[int], port: Port, script: Any = None) -> dict[str, Any]:
    """The status of a bus after it asked `units` in this order, the first of them once unharmed."""
    env, _, _ = driver_env()
    bus = Bus(LineSpec("/dev/energy-bus", 115_200), env, port)
    good = port.script
    try:
        for n, unit in enumerate(units):
            port.script = script if n and script is not None else good
            with contextlib.suppress(BusError):
                await bus.read_input(unit, 0, 2, timing=QUICK)
        (told,) = bus_status.described(load_settings(REPO / "config/station.yaml"), {"rs485": bus})
        return told
    finally:
        await bus.close()


def two() -> Port:
    return Port(*(Registers(unit, inputs={0: 1, 1: 2}) for unit in (METER, CONTROLLER)))


def printed(capsys: pytest.CaptureFixture[str], told: dict[str, Any]) -> list[str]:
    status_buses.print_bus(told)
    return capsys.readouterr().out.splitlines()


def test_a_bus_that_is_well_is_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    told = asyncio.run(asked([METER, CONTROLLER] * 3, two()))
    assert printed(capsys, told) == [
        "  bus rs485 (/dev/energy-bus 115200 8N1): all of the last 6 requests answered"
    ]
    assert not status_buses.bus_needs_attention(told)
    assert set(told["units"]) == {"1", "3"}
    assert told["units"]["1"]["device"] == "meter of DE*ABC*E1"
    assert told["units"]["3"]["device"] == "controller of DE*ABC*E1"
    for counted in (told, *told["units"].values()):
        assert set(counted) >= COUNTED


def test_the_unit_with_the_bad_cable_is_named_with_what_to_look_at(
    capsys: pytest.CaptureFixture[str],
) -> None:
    def damaged(frame: bytes, reply: bytes) -> list[tuple[float, bytes]]:
        return [(0.001, reply if frame[0] == CONTROLLER else reply[:-1] + b"\xff")]

    told = asyncio.run(asked([METER, *[METER, CONTROLLER] * 10], two(), damaged))
    lines = printed(capsys, told)
    # Each damaged reply to a read is asked for once more.
    assert " ".join(line.strip() for line in lines) == (
        "bus rs485 (/dev/energy-bus 115200 8N1): 11 of the last 31 requests answered (35 %) "
        "unit 1, meter of DE*ABC*E1: 1 of the last 21 requests answered (4 %); since the start "
        "20 damaged or not ours, of 21 look at: termination, shield, an address used twice, a second "
        "master (MTR-003)"
    )
    assert max(map(len, lines)) <= 80
    assert told["quarantines"] >= 20
    assert status_buses.bus_needs_attention(told)


def test_a_device_that_was_never_heard_is_told_from_a_loose_wire(
    capsys: pytest.CaptureFixture[str],
) -> None:
    told = asyncio.run(asked([METER, NOBODY], two()))
    lines = printed(capsys, told)
    assert any("unit 9, nobody of ours:" in line for line in lines)
    assert any("A and B swapped" in line for line in lines)
    silent = asyncio.run(asked([METER] * 3, two(), lambda *_: []))
    assert silent["timeouts"] == 3, "one is tried again, then its device is known to be silent"
    assert any("loose wires" in line for line in printed(capsys, silent))


def test_a_late_reply_says_how_late(capsys: pytest.CaptureFixture[str]) -> None:
    told = asyncio.run(asked([METER] * 3, two(), lambda _, reply: [(0.07, reply)]))
    late_ms = told["units"]["1"]["latest_late_ms"]
    assert told["late_replies"] >= 1 and late_ms >= 60
    text = " ".join(line.strip() for line in printed(capsys, told))
    assert f"late up to {late_ms} ms after the request" in text


def test_a_lost_line_says_since_when_and_why(capsys: pytest.CaptureFixture[str]) -> None:
    port = two()
    port.missing = "no such file"
    told = asyncio.run(asked([METER], port))
    lines = printed(capsys, told)
    assert lines[0] == "  bus rs485 (/dev/energy-bus 115200 8N1): line lost for 0 s"
    assert "/dev/energy-bus: no such file: check adapter" in lines[1]
    assert status_buses.bus_needs_attention(told)


def test_the_latest_requests_count_not_those_of_yesterday() -> None:
    told = asyncio.run(asked([METER] * 3, two(), lambda *_: []))
    assert told["units"]["1"]["recent_answered"] < told["units"]["1"]["recent"]
    well = asyncio.run(asked([NOBODY, *[METER] * (RECENT + 5)], two()))
    assert well["units"]["1"] | {"device": ""} == {
        **dict.fromkeys(COUNTED, 0), "device": "", "latest_late_ms": 0,
        "sent": RECENT + 5, "answered": RECENT + 5, "recent": RECENT, "recent_answered": RECENT,
    }  # fmt: skip


def test_a_running_station_tells_its_buses(
    voltill: Voltill, past: Past, monkeypatch: pytest.MonkeyPatch
) -> None:
    stopped = voltill("status", "--state", past.state, "--json").json
    with running(past, monkeypatch):
        told = voltill("status", "--state", past.state, "--json").json
        text = voltill("status", "--state", past.state).out
    assert stopped["buses"] == []
    (bus,) = told["buses"]
    assert (bus["name"], bus["port"], bus["sent"]) == ("rs485", "/dev/null", 0)
    assert "  bus rs485 (/dev/null 9600 8N1): nothing asked yet\n" in text
