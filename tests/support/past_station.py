"""A stopped station and what it did, and the same station as a running service, for the command line."""

from __future__ import annotations

import asyncio
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from support.station_world import World

from agent.settings.load import load_station
from agent.station.clock import SystemClock
from agent.station.control import control_path
from agent.station.station import Paths, Station


@dataclass(frozen=True)
class Answer:
    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        return json.loads(self.out)


@dataclass(frozen=True)
class Past:
    """A stopped station and what it did."""

    world: World
    paid: str
    declined: str
    open: str

    @property
    def state(self) -> Path:
        return self.world.state

    @property
    def config(self) -> Path:
        return self.world.folder / "station.yaml"


@contextmanager
def running(past: Past, monkeypatch: pytest.MonkeyPatch) -> Iterator[Station]:
    """The same station as a service on the system's own loop and clock, with its control socket."""
    clock = SystemClock()
    for plant in past.world.evses.values():
        plant.clock_ms = clock.boot_ms
        plant._at_ms = clock.boot_ms()
    monkeypatch.setattr(Station, "_listen_for_signals", lambda _: None)
    ready = threading.Event()
    found: list[tuple[Station, asyncio.AbstractEventLoop]] = []

    def log(event: str, **_: Any) -> None:
        if event == "station_ready":
            ready.set()

    async def serve() -> None:
        loaded = load_station(past.config)
        station = Station(loaded.settings, loaded.tariff, Paths(past.state), log, clock)
        found.append((station, asyncio.get_running_loop()))
        await station.run()

    thread = threading.Thread(target=asyncio.run, args=(serve(),))
    thread.start()
    try:
        assert ready.wait(20), "the service did not get ready"
        yield found[0][0]
    finally:
        if found:
            found[0][1].call_soon_threadsafe(found[0][0].stopping.set)
        thread.join(30)
    assert not thread.is_alive()
    assert not control_path(past.state).exists()
