"""Which model a scan takes a meter for, in memory: every simulated meter, at an address nobody told."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from support.rtu_slave import Port, crc, driver_env

from agent.ports import DeviceUnavailable, DriverEnv, LineSpec
from drivers.meter import catalogue, scan
from drivers.meter.catalogue import known_models
from drivers.meter.rtu import Bus
from drivers.meter.timing import DeviceTiming
from hil.charger.plant import Plant
from hil.charger.rtu import answer
from hil.meter import wordmap
from hil.meter.slave import Slave

SURE = {
    "abb_b21_b23_b24", "bauer_bsm_ws36a", "carlogavazzi_em24_rs485", "carlogavazzi_em340_family",
    "iskra_wm3m4",
}  # fmt: skip
# These share every register, so reading cannot tell them apart.
ALIKE = [{"eastron_sdm630", "eastron_sdm72dm_v2"}]


class Peer:
    def __init__(self, name: str, unit: int) -> None:
        found = wordmap.load(name)
        plant = Plant(bare=True, load_w=7360)
        plant.advance(0)
        self.slave, self.unit = Slave(plant, found, found.serial, 104_211), unit
        self.functions: set[int] = set()

    def answer(self, frame: bytes) -> bytes:
        self.functions.add(frame[1])
        return crc(frame[:1] + answer(self.slave, frame[1:-2]))


async def scanned(
    monkeypatch: pytest.MonkeyPatch, *peers: Peer, **options: Any
) -> tuple[list[scan.Told], list[scan.Told], Port]:
    """Finds, progress, and the line. The models' pauses are left out: they are the bus's business."""
    env, _, _ = driver_env()
    port = Port(*peers)  # type: ignore[arg-type]  # they answer like its units
    quick = DeviceTiming(60, 60, 0)
    models = {n: replace(m, timing=quick) for n, m in catalogue.load_all()[0].items()}

    def open_bus(line: LineSpec, env: DriverEnv) -> Bus:
        return Bus(line, env, port)

    def load_all(models_dir: Path | None = None) -> tuple[dict[str, catalogue.Model], list[Any]]:
        return models, []

    monkeypatch.setattr(scan, "open_bus", open_bus)
    monkeypatch.setattr(scan, "load_all", load_all)
    progress: list[scan.Told] = []
    given: dict[str, Any] = {"lines": [(9600, "8N1")], "units": [3], "wait_ms": 20, **options}
    found = await scan.scan("/dev/bus", env, progress.append, **given)
    return found, progress, port


@pytest.mark.parametrize("name", known_models())
def test_every_meter_is_recognised(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    peer = Peer(name, 3)
    found, _, _ = asyncio.run(scanned(monkeypatch, peer))
    (entry,) = found
    expected = next((group for group in ALIKE if name in group), {name})
    assert set(entry["models"]) == expected, entry
    assert entry["sure"] is (name in SURE)
    assert entry["serial"] == (peer.slave.serial or None)
    assert entry["trouble"] == ""
    assert peer.functions <= {3, 4}


def test_several_addresses_on_one_line_and_none_on_the_next(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    peers = (Peer("abb_b21_b23_b24", 2), Peer("eastron_sdm120_sdm230", 4))
    lines = [(9600, "8N1"), (19200, "8N1")]
    found, progress, port = asyncio.run(
        scanned(monkeypatch, *peers, lines=lines, units=[1, 2, 3, 4])
    )
    assert [(e["unit"], e["models"]) for e in found] == [
        (2, ["abb_b21_b23_b24"]),
        (4, ["eastron_sdm120_sdm230"]),
    ]
    assert len(port.opened) == 1  # a bus has one speed
    assert [(p["done"], p["of"], p["unit"], p["found"]) for p in progress] == [
        (0, 8, 1, 0), (1, 8, 2, 0), (2, 8, 3, 1), (3, 8, 4, 1),
    ]  # fmt: skip
    found, _, port = asyncio.run(
        scanned(monkeypatch, *peers, lines=lines, units=[2], every_line=True)
    )
    assert [(e["baud"], e["unit"]) for e in found] == [(9600, 2), (19200, 2)]
    assert len(port.opened) == 2


def test_a_device_that_is_no_meter_answers_and_is_told_as_such(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    peer = Peer("eastron_sdm630", 3)
    peer.answer = lambda frame: crc(bytes([3, frame[1] | 0x80, 2]))  # type: ignore[method-assign]
    found, _, _ = asyncio.run(scanned(monkeypatch, peer))
    assert [(e["unit"], e["models"], e["trouble"]) for e in found] == [(3, [], "")]


def test_a_gateway_without_a_device_is_nobody(monkeypatch: pytest.MonkeyPatch) -> None:
    peer = Peer("eastron_sdm630", 3)
    peer.answer = lambda frame: crc(bytes([3, frame[1] | 0x80, 11]))  # type: ignore[method-assign]
    assert asyncio.run(scanned(monkeypatch, peer))[0] == []


def test_two_at_one_address_are_told_as_trouble(monkeypatch: pytest.MonkeyPatch) -> None:
    peer = Peer("eastron_sdm630", 3)
    peer.answer = lambda frame: crc(bytes([frame[0] ^ 1, 4, 4, 1, 2, 3, 4]))  # type: ignore[method-assign]
    found, _, _ = asyncio.run(scanned(monkeypatch, peer))
    assert [e["models"] for e in found] == [[]]
    assert "unit 2" in found[0]["trouble"]


def test_a_port_that_is_not_there_ends_the_scan(monkeypatch: pytest.MonkeyPatch) -> None:
    env, _, _ = driver_env()
    port = Port()
    port.missing = "no such port"
    monkeypatch.setattr(scan, "open_bus", lambda line, env: Bus(line, env, port))
    with pytest.raises(DeviceUnavailable, match="MTR-001"):
        asyncio.run(scan.scan("/dev/bus", env, lambda _: None, lines=[(9600, "8N1")], units=[1, 2]))
