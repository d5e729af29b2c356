"""A card for which less is approved than was asked: the lower amount is the limit, and energy stops before
the cost can exceed it."""

from __future__ import annotations

from pathlib import Path

import pytest
from support.station_rig import TARIFF, broker, charge, check_books, check_captured, moved, station

from hil.broker import Broker

__all__ = ["broker"]  # the fixture
pytestmark = pytest.mark.timeout(120)

LOW_MINOR = 1500  # what the simulated bank approves for the card "low"
POWER_W = 36_000
PRICE = "90.00"  # 0.90 EUR a second at this power: the limit comes soon


def test_a_partial_approval_is_the_limit(tmp_path: Path, broker: Broker) -> None:
    tariff = tmp_path / "dear.yaml"
    tariff.write_text(TARIFF.read_text().replace('price_kwh: "0.4900"', f'price_kwh: "{PRICE}"'))
    assert PRICE in tariff.read_text()
    with station(
        tmp_path / "rig",
        broker,
        tariff=tariff,
        load_w=POWER_W,
        edit=lambda text: text.replace("max_power_w: 360000", f"max_power_w: {POWER_W}"),
    ) as rig:
        session = charge(rig, "low", wh=20)
        found = check_captured(rig, session)  # nobody stops it
        assert found["stop_reason"] == "limit"
        assert found["held_minor"] == LOW_MINOR
        assert LOW_MINOR // 10 < found["cost_minor"] <= LOW_MINOR
        assert found["shortfall_minor"] == 0
        assert moved(rig, found)[0]["amount_minor"] == LOW_MINOR
        assert "Please unplug" in rig.wait_screen("Total")
        state = rig.tell("charger", "state")
        assert (state["power_w"], state["released"]) == (0, False)
        assert state["plugged"]
        check_books(rig, tariff=tariff)
