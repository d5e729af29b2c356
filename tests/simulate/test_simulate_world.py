"""The simulated world: calm weather is green, a seed replays to the letter."""

from __future__ import annotations

from typing import Any

import pytest

from simulate.disk import Disk, Inode
from simulate.make import Menu, make_plan
from simulate.place import Variant
from simulate.plan import Fault, Plan, Visit

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
    aimed = {kill.visit for kill in plan.kills}
    assert sum(result.killed.values()) >= max(1, len(aimed) - 1)


def test_a_seed_with_kills_and_faults_replays_to_the_letter(rig: Any) -> None:
    plan = make_plan(7, Menu(calm_permille=0))
    first, again = rig.run(plan, True), rig.run(plan, True)
    assert first.lines == again.lines
    assert first.starts > 1


# --- The end of a terminal's day ------------------------------------------------------------------


def day(*visits: Visit, faults: tuple[Fault, ...] = (), **differs: Any) -> Plan:
    usual: dict[str, Any] = {"end_at": "13:18", "drain_min": 0, "eod_holds": "charges_full"}
    return Plan(1, Variant(**usual | differs), visits, faults)


@pytest.mark.parametrize("holds", ["charges_full", "cancels", "refuses", "keeps"])
def test_a_day_ends_by_the_clock_while_a_session_runs(rig: Any, holds: str) -> None:
    """A world begins at 13:16:40: the session is at work at 13:18."""
    running = visit(charge_s=120.0, load_w=3_700)
    episode = rig.episode(day(running, visit(gap_s=30.0), eod_holds=holds))
    verdict = episode.run().verdict
    assert verdict.violations == []
    assert verdict.classes == {"captured": 2, "day closed": 1}
    kinds = [row["kind"] for row in episode.world.terminal.acquirer.rows()]
    # Whoever keeps its holds waits for nobody; all others close behind the capture.
    first = ["hold", "end_of_day"] if holds == "keeps" else ["hold", "capture", "end_of_day"]
    assert kinds[: len(first)] == first


def test_a_day_by_hand_is_refused_while_money_is_held(rig: Any) -> None:
    by_hand = Fault("day_by_hand", 1, 10.0, 1.0)
    episode = rig.episode(day(visit(charge_s=25.0), faults=(by_hand,), end_at=""))
    result = episode.run()
    assert result.verdict.violations == []
    assert result.verdict.classes == {"captured": 1}
    assert any("STA-034" in what for who, _, what in _who(result.lines) if who == "person")


def test_a_hold_of_somebody_else_is_listed_and_stays(rig: Any) -> None:
    stranger, again = Fault("strange_hold", 1, 1.0, 1.0), Fault("terminal_unplugged", 1, 10.0, 3.0)
    episode = rig.episode(day(visit(), faults=(stranger, again), end_at=""))
    verdict = episode.run().verdict
    assert verdict.violations == []
    assert verdict.classes["unresolved: foreign"] == verdict.classes["hold of somebody else"] == 1
    assert len(episode.world.terminal.acquirer.memory.holds) == 1


def test_the_judge_sees_a_hold_that_an_end_of_day_wiped(rig: Any) -> None:
    """The terminal charges what is open, whoever has ordered its end of day."""
    episode = rig.episode(day(visit(charge_s=25.0), end_at=""))
    desk = episode.world.terminal.desk
    episode.world.loop.call_later(20.0, desk.batch.close)
    codes = {code for code, _ in episode.run().verdict.violations}
    assert {"hold_wiped", "day_unordered"} <= codes


def test_a_terminal_restarts_at_its_time(rig: Any) -> None:
    episode = rig.episode(day(visit(gap_s=200.0), end_at="", reboot_at="13:18"))
    assert episode.run().verdict.violations == []
    assert episode.world.terminal.boots == 2


def _who(lines: Any) -> Any:
    return ((who, at_ms, what) for at_ms, who, what in lines)


# --- Several terminals, and another one behind the cable ------------------------------------------


def test_two_terminals_serve_two_connectors_each_at_once(rig: Any) -> None:
    # The same card a second time at one terminal would end what it has begun.
    cards = ("visa", "mastercard", "visa", "mastercard")
    visits = tuple(
        visit(connector=n, card=card, gap_s=1.0 + 8 * (n % 2)) for n, card in enumerate(cards)
    )
    episode = rig.episode(Plan(1, Variant(connectors=4, terminals=2), visits))
    verdict = episode.run().verdict
    assert verdict.violations == []
    assert verdict.classes == {"captured": 4}
    for terminal in episode.world.terminals:
        kinds = sorted(row["kind"] for row in terminal.acquirer.rows())
        assert kinds == ["capture", "capture", "hold", "hold"]
        # Both count from the same number: only the terminal tells their holds apart.
        assert {row["tid"] for row in terminal.acquirer.rows()} == {terminal.acquirer.memory.tid}


@pytest.mark.parametrize("comes_back", [False, True])
def test_a_replaced_terminal_takes_its_holds_with_it(rig: Any, comes_back: bool) -> None:
    replaced = Fault("terminal_replaced", 1, 12.0, 60.0, amount=int(comes_back))
    plan = Plan(1, Variant(), (visit(charge_s=25.0), visit(gap_s=70.0)), (replaced,))
    episode = rig.episode(plan)
    verdict = episode.run().verdict
    assert verdict.violations == []
    assert verdict.sessions == 2
    (former,) = episode.world.terminal.former
    if comes_back:
        assert verdict.classes["captured"] == 2
    else:
        assert verdict.classes["unresolved: away"] == verdict.classes["captured"] == 1
        assert [hold.receipt for hold in former.holds] == [231]


@pytest.mark.parametrize(
    "limit",
    ["max_cost_minor 500", "max_energy_wh 120", "max_time_s 20"],
    ids=lambda v: v.split()[0],
)
def test_a_limit_of_the_driver_ends_the_session(rig: Any, limit: str) -> None:
    episode = rig.episode(one(end="limit", load_w=22_000, limit=limit))
    result = episode.run()
    assert result.verdict.violations == []
    assert result.verdict.classes == {"captured": 1}
    kind, value = limit.split()
    assert list(episode.world.limits.values()) == [(kind, int(value))]
    (captured,) = [r for r in episode.world.terminal.acquirer.rows() if r["kind"] == "capture"]
    assert captured["amount_minor"] < 1_000  # the hold of 20 would have been used up otherwise


def test_the_judge_sees_a_limit_that_was_passed(rig: Any) -> None:
    episode = rig.episode(one(end="limit", load_w=22_000, limit="max_cost_minor 500"))
    agreed = episode.world.limits

    class Lower(dict):  # type: ignore[type-arg]
        def __setitem__(self, session: str, limit: tuple[str, int]) -> None:
            super().__setitem__(session, (limit[0], 100))

    episode.world.limits = Lower(agreed)
    assert [code for code, _ in episode.run().verdict.violations] == ["limit_passed"]


def test_a_directory_that_is_synced_keeps_what_was_deleted_in_it_before(rig: Any) -> None:
    vfs, before = rig.board.vfs, rig.board.vfs.disk
    vfs.disk = disk = Disk()
    disk.files = {name: Inode(named=True) for name in ("/a/x", "/a/y", "/b/z")}
    for name, synced in (("/a/x", False), ("/b/z", False), ("/a/y", True)):
        vfs.xDelete(name, synced)
    vfs.disk = before
    assert set(disk.unlinked) == {"/b/z"}
