"""Who comes with a good card is served, unless the world says why not."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from agent.station.keeper import Keeper
from agent.station.taps import Taps
from simulate.fate import Kill
from simulate.place import Variant
from simulate.plan import Fault, Plan, Visit


def visit(**changes: Any) -> Visit:
    usual = Visit(0, "visa", "plug_first", "unplug", 11_000, charge_s=20.0, gap_s=4.0)
    return replace(usual, **changes)


def codes(rig: Any, *visits: Visit, variant: Variant | None = None, **more: Any) -> list[str]:
    result = rig.run(Plan(1, variant or Variant(), visits, **more))
    return sorted({code for code, _ in result.verdict.violations})


# --- A tap ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("word", ["wait_check", "busy", "occupied", "out_of_order", "other_card"])
def test_nobody_is_sent_away_for_nothing(
    rig: Any, monkeypatch: pytest.MonkeyPatch, word: str
) -> None:
    monkeypatch.setattr(Taps, "_refusal", lambda self: word)
    assert codes(rig, visit(), visit(card="amex")) == ["not_served"]


def test_who_comes_second_is_served_as_well(rig: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """An agent that has served one and then sends everybody away."""
    real = Taps._refusal

    def refusal(self: Taps) -> str:
        return "busy" if self._about else real(self)

    two = (visit(), visit(card="amex", gap_s=12.0))
    assert codes(rig, *two) == []
    monkeypatch.setattr(Taps, "_refusal", refusal)
    assert codes(rig, *two) == ["not_served"]


@pytest.mark.parametrize(
    ("visits", "connectors"),
    [
        ((visit(charge_s=30.0, stray_tap="visa2"),), 1),  # the connector has a session
        ((visit(charge_s=30.0, stray_tap="same", end="tap"),), 1),  # it is his own
        ((visit(order="tap_twice"),), 1),
        ((visit(card="unreadable"), visit(card="rfid")), 1),
        # Somebody waits for his car: the next one could be either's.
        ((visit(order="no_plug"), visit(connector=1, card="amex", gap_s=9.0)), 2),
        ((visit(), visit(connector=1, card="amex")), 2),  # both at the same moment
    ],
)
def test_who_cannot_be_served_is_not_missed(
    rig: Any, visits: tuple[Visit, ...], connectors: int
) -> None:
    assert codes(rig, *visits, variant=Variant(connectors=connectors)) == []


def test_trouble_may_send_people_away(rig: Any) -> None:
    gone = Fault("bus_unplugged", 1, 0.5, 9.0)
    assert codes(rig, visit(gap_s=6.0), faults=(gone,)) == []


# --- Energy ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("order", ["plug_first", "tap_first"])
def test_a_hold_and_a_car_are_enough_for_energy(
    rig: Any, monkeypatch: pytest.MonkeyPatch, order: str
) -> None:
    assert codes(rig, visit(order=order)) == []
    monkeypatch.setattr(Keeper, "may_charge", lambda self, evse: False)
    assert codes(rig, visit(order=order)) == ["no_energy"]


@pytest.mark.parametrize(
    "one",
    [
        visit(order="tap_stop"),
        visit(order="tap_first", early="tap"),
        visit(order="no_plug"),
        visit(load_w=0),
    ],
)
def test_who_does_not_want_it_gets_none(
    rig: Any, monkeypatch: pytest.MonkeyPatch, one: Visit
) -> None:
    monkeypatch.setattr(Keeper, "may_charge", lambda self, evse: False)
    assert "no_energy" not in codes(rig, replace(one, charge_s=2.0))


def test_trouble_may_keep_energy_away(rig: Any) -> None:
    silent = Fault("meter_fault", 1, 6.0, 60.0, amount=130)
    died = Kill(1, "starting", "bus_send", 1, False, 40.0)
    assert codes(rig, visit(), faults=(silent,)) == []
    assert codes(rig, visit(), kills=(died,)) == []


# --- Stops ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "reason", ["meter lost", "charge controller lost", "restart", "unplugged", "emergency stop"]
)
def test_nobody_is_stopped_for_nothing(rig: Any, reason: str) -> None:
    episode = rig.episode(Plan(1, Variant(), (visit(end="tap", stays_s=8.0),)))
    ask = episode._ask_all

    def told() -> Any:
        answer = ask()
        answer.sessions[0]["stop_reason"] = reason
        return answer

    episode._ask_all = told
    assert "stopped_for_nothing" in {code for code, _ in episode.run().verdict.violations}


@pytest.mark.parametrize("end", ["unplug", "estop", "tap", "control", "full"])
def test_who_stops_has_his_reason(rig: Any, end: str) -> None:
    assert codes(rig, visit(end=end, stays_s=6.0)) == []
