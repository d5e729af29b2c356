"""The simulated world: calm weather is green, a seed replays to the letter."""

from __future__ import annotations

from typing import Any

import pytest

from simulate.make import Menu, make_plan
from simulate.place import Variant
from simulate.plan import Plan, Visit

CALM = Menu(faults=(), kills=False)


def visit(**differs: Any) -> Visit:
    usual: dict[str, Any] = {
        "connector": 0,
        "card": "visa",
        "order": "plug_first",
        "end": "unplug",
        "load_w": 11_000,
        "charge_s": 15.0,
        "gap_s": 1.0,
    }
    return Visit(**usual | differs)


def one(**differs: Any) -> Plan:
    return Plan(1, Variant(), (visit(**differs),))


@pytest.mark.parametrize("seed", range(12))
def test_calm_weather_is_green(rig: Any, seed: int) -> None:
    result = rig.run(make_plan(seed, CALM))
    assert result.verdict.violations == []


def test_a_seed_replays_to_the_letter(rig: Any) -> None:
    plan = make_plan(5, CALM)
    first, other, again = (rig.run(p, True) for p in (plan, make_plan(6, CALM), plan))
    assert first.lines == again.lines
    assert first.lines != other.lines
    assert any(who == "agent" for _, who, _ in first.lines)


@pytest.mark.parametrize(
    ("plan", "ended"),
    [
        (one(), "captured"),
        (one(end="tap"), "captured"),
        (one(order="tap_first", end="estop"), "captured"),
        (one(end="control"), "captured"),
        (one(end="limit", load_w=22_000), "captured"),
        (one(order="no_plug"), "cancelled"),
        (one(card="decline"), "refused"),
    ],
    ids=lambda value: value if isinstance(value, str) else value.visits[0].end,
)
def test_each_way_a_visit_ends(rig: Any, plan: Plan, ended: str) -> None:
    verdict = rig.run(plan).verdict
    assert verdict.violations == []
    assert verdict.classes == {ended: 1}


def test_a_partial_approval_is_the_limit(rig: Any) -> None:
    episode = rig.episode(one(card="low", end="limit", load_w=22_000))
    assert episode.run().verdict.violations == []
    captured = [r for r in episode.world.terminal.acquirer.rows() if r["kind"] == "capture"]
    assert [row["amount_minor"] <= 1500 for row in captured] == [True]


def test_who_never_taps_gets_no_energy(rig: Any) -> None:
    episode = rig.episode(one(order="no_tap"))
    assert episode.run().verdict.sessions == 0
    assert episode.world.charger.connectors[0].plant.energy_mwh == 0


@pytest.mark.parametrize("seed", range(100, 112))
def test_kills_and_power_cuts_leave_no_mark(rig: Any, seed: int) -> None:
    plan = make_plan(seed, Menu(faults=(), calm_permille=0))
    result = rig.run(plan)
    assert result.verdict.violations == []
    # The moment that a kill waits for may not come any more, at the end of the last visit.
    assert sum(result.killed.values()) >= max(1, len(plan.visits) - 1)


def test_a_seed_with_kills_and_faults_replays_to_the_letter(rig: Any) -> None:
    plan = make_plan(7, Menu(calm_permille=0))
    first, again = rig.run(plan, True), rig.run(plan, True)
    assert first.lines == again.lines
    assert first.starts > 1
