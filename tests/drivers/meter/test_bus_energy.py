"""`./dev bench meter` in small: the energy that is billed is the energy that flowed."""

from __future__ import annotations

import pytest

from bench.meter_energy import KINDS, Tally, measure
from drivers.meter.master import Master
from simulate.loop import VirtualLoop


def run(faults: int) -> Tally:
    loop = VirtualLoop()
    try:
        return loop.run_until_complete(measure(faults))
    finally:
        loop.close()


def test_a_bad_bus_costs_no_watt_hour() -> None:
    found = run(1_000)
    assert set(found.faults) == set(KINDS)
    assert found.wrong == 0
    assert found.sessions > 30
    assert found.billed_wh == found.delivered_wh > 1_000


def test_without_quarantine_it_does(monkeypatch: pytest.MonkeyPatch) -> None:
    soil = Master._soil
    monkeypatch.setattr(Master, "_soil", lambda self, base_us, _quiet_us: soil(self, base_us, 0))
    assert run(1_000).wrong > 0
