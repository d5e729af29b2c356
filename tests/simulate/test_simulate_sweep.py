"""Death before writes of every named scenario, and whether the sweep would see a bug."""

from __future__ import annotations

import functools
import gc
import os
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from simulate import planted, sweep_run
from simulate.fate import STEPS
from simulate.scenarios import BY_NAME, SCENARIOS, End, Scenario
from simulate.sweep import MODES, POLLS, Doom, NoSuchPoint, Point, Sweep, Swept, Undisturbed, points
from simulate.sweep_run import Order, Report, parts, table, verdict, write_table

ROOT = Path(__file__).resolve().parents[2]
NAMES = tuple(BY_NAME)
FIRST = "first_start"
# How writes of a scenario are died of inside the gate in turn, and every which one, because the gate has ten
# minutes for everything: `./dev simulate --sweep` does each in every way.
TURNS = ("kill", "power", "kill", "torn")
EVERY = 8
# Of each other kind of step: so many, spread over the scenario.
SAMPLED = 1
RECOVERIES_EVERY = 10
COLLECT_EVERY = 20


@pytest.fixture(scope="module")
def sweep(rig: Any) -> Iterator[Sweep]:
    """Garbage is collected by hand: what a world leaves behind is full of cycles."""
    gc.disable()
    yield Sweep(rig.board, rig.places)
    gc.enable()


@pytest.fixture(scope="module")
def undisturbed(sweep: Sweep) -> Any:
    return functools.cache(lambda name: sweep.undisturbed(BY_NAME[name]))


def swept(sweep: Sweep, scenario: Scenario, those: list[Point], steps: Counter[str]) -> Swept:
    done = Swept(scenario.name)
    for n, point in enumerate(those, 1):
        done.take(point, *sweep.run(scenario, point, steps[point.step]))
        if n % COLLECT_EVERY == 0:
            gc.collect()
    gc.collect()
    return done


# --- The promise ----------------------------------------------------------------------------------


@pytest.mark.parametrize("name", NAMES)
def test_undisturbed_a_scenario_is_what_it_is_called(undisturbed: Any, name: str) -> None:
    assert undisturbed(name).differs == ""
    assert all(undisturbed(name).steps[step] for step in STEPS)


@pytest.mark.timeout(300)
@pytest.mark.parametrize("name", NAMES)
def test_a_death_before_a_write_leaves_no_mark(sweep: Sweep, undisturbed: Any, name: str) -> None:
    """Up to where the agent is ready all scenarios write what `first_start` writes: once is enough."""
    steps: Counter[str] = undisturbed(name).steps
    start = undisturbed(FIRST).at_ready["write"]
    assert undisturbed(name).at_ready["write"] == start
    first = 1 if name == FIRST else start + 1
    last = steps["write"] + 1
    # Each scenario begins with another one; the last is always among them.
    chosen = [*range(first + NAMES.index(name) % EVERY, last, EVERY), last]
    those = [Point("write", n, TURNS[k % len(TURNS)]) for k, n in enumerate(chosen)]
    done = swept(sweep, BY_NAME[name], those, steps)
    assert done.found == []
    assert done.deaths["write"] == done.worlds == len(chosen)


@pytest.mark.parametrize("name", NAMES)
def test_a_death_at_some_of_the_other_steps_leaves_no_mark(
    sweep: Sweep, undisturbed: Any, name: str
) -> None:
    steps: Counter[str] = undisturbed(name).steps
    those = []
    for k, kind in enumerate(step for step in STEPS if step != "write"):
        for n in range(SAMPLED):
            # The scenarios look at different ones.
            share = (NAMES.index(name) + 0.5 + n * len(NAMES)) / (SAMPLED * len(NAMES))
            mode = tuple(MODES)[(k + n + NAMES.index(name)) % len(MODES)]
            those.append(Point(kind, 1 + int(share * steps[kind]), mode))
    done = swept(sweep, BY_NAME[name], those, steps)
    assert done.found == []
    assert done.deaths.keys() == set(STEPS) - {"write"}


@pytest.mark.parametrize("name", ["unplug", "increment", "reboot_in_capture"])
def test_a_death_of_the_recovery_leaves_no_mark(sweep: Sweep, undisturbed: Any, name: str) -> None:
    steps: Counter[str] = undisturbed(name).steps
    start = undisturbed(FIRST).at_ready["write"]
    kinds = (("kill", 1), ("torn", 2), ("power", 3))
    those = [
        Point("write", n, *kinds[n % len(kinds)])
        for n in range(start + 5, steps["write"], RECOVERIES_EVERY)
    ]
    done = swept(sweep, BY_NAME[name], those, steps)
    assert done.found == []
    assert done.deaths["write"] == 2 * done.worlds - done.unmet
    assert done.unmet <= done.worlds // 4


def test_scenarios_have_names_that_say_what_they_are() -> None:
    assert len(BY_NAME) == len(SCENARIOS) >= 13
    page = sweep_run.DOCUMENT.read_text()
    for scenario in SCENARIOS:
        assert f"| `{scenario.name}` | {scenario.shows} |" in page
        assert scenario.plan.kills == ()
        assert scenario.ends or scenario.name == FIRST


# --- Where a death comes --------------------------------------------------------------------------


def deaths(point: Point, total: int, met: list[str], *then: str) -> list[int]:
    """At which of the steps that are met, from 1. `then`: what the next process meets."""
    doom = Doom(point, total, set)
    steps = [*met, *then]
    return [n for n, step in enumerate(steps, 1) if doom.meets(step) is not None]


def test_a_death_comes_right_before_its_step() -> None:
    met = ["write", "sync", "write", "bus_send", "write"]
    assert deaths(Point("write", 1, "kill"), 3, met) == [1]
    assert deaths(Point("write", 2, "kill"), 3, met) == [3]
    assert deaths(Point("sync", 1, "kill"), 1, met) == [2]
    # After the last: before whatever comes behind it.
    assert deaths(Point("write", 4, "kill"), 3, [*met, "bus_send", "write"]) == [6]


def test_a_second_death_counts_the_writes_of_its_own_process() -> None:
    met = ["write", "write", "write"]
    then = ("sync", "write", "bus_send", "write", "write")
    assert deaths(Point("write", 3, "kill", 2), 9, met, *then) == [3, 7]
    assert deaths(Point("write", 3, "kill", 9), 9, met, *then) == [3]


def test_points_read_as_they_are_written() -> None:
    for text in ("write:17:power", "bus_send:1:kill", "write:3:torn:2"):
        assert str(Point.parse(text)) == text
    for text in ("write", "write:x:kill", "write:1:shot", "rite:1:kill", "write:1:kill:2:3", ""):
        with pytest.raises(NoSuchPoint, match=r"write:17:power"):
            Point.parse(text)


def test_every_step_has_its_points() -> None:
    steps = Counter({"write": 3, "bus_send": 2})
    assert [str(p) for p in points(steps, "write", ("kill",))][-1] == "write:4:kill"
    assert len(list(points(steps, "write", ("kill", "torn"), 3))) == 4 * 2 * 3
    assert [p.nth for p in points(steps, "bus_send", ("kill",))] == [1, 2]


def test_a_point_that_is_not_there_is_refused(sweep: Sweep) -> None:
    with pytest.raises(NoSuchPoint, match="has 5 steps sync, not 7"):
        sweep.run(BY_NAME[FIRST], Point("sync", 7, "kill"), 5)


def test_a_death_that_does_not_come_is_a_violation(sweep: Sweep) -> None:
    point = Point("mqtt_send", 900, "kill")
    result, died = sweep.run(BY_NAME[FIRST], point, 1_000)
    assert died == 0
    assert [code for code, _ in result.verdict.violations] == ["not_met"]
    # After the last step nothing may come but the end.
    result, died = sweep.run(BY_NAME[FIRST], point, 899)
    assert (died, result.verdict.violations) == (0, [])


# --- Whether the sweep would see it ---------------------------------------------------------------


@pytest.mark.parametrize(
    ("ends", "also", "said"),
    [
        ((End("released"),), (), "is captured, expected released"),
        ((), (), "1 sessions, expected 0"),
        ((End("captured", stopped="tap"),), (), "stopped by unplugged, expected tap"),
        ((End("captured", ("settled", "held")),), (), "has no held"),
        ((End("captured"),), ("day closed",), "'day closed'"),
    ],
)
def test_a_scenario_that_does_something_else_is_seen(
    sweep: Sweep, ends: tuple[End, ...], also: tuple[str, ...], said: str
) -> None:
    odd = Scenario("odd", "", BY_NAME["unplug"].plan, ends, also)
    assert said in sweep.undisturbed(odd).differs


@pytest.mark.parametrize(
    ("patch", "scenario", "steps", "mode"),
    [
        ("skip_sync", "unplug", "mqtt_send", "power"),
        ("recompute_after_restart", "tap_to_stop", "mqtt_send", "kill"),
    ],
)
def test_a_planted_bug_is_found(
    tmp_path: Path, patch: str, scenario: str, steps: str, mode: str
) -> None:
    planted.plant(planted.PATCHES / f"{patch}.patch", tmp_path)
    words = ("--scenario", scenario, "--steps", steps, "--modes", mode, "--stop-at", "1")
    done = simulate(tmp_path, *words)
    assert done.returncode == 1, done.stdout + done.stderr
    assert f"./dev simulate --sweep --scenario {scenario} --at {steps}:" in done.stdout
    assert "VIOLATIONS" in done.stdout.splitlines()[-1]


# --- The command ----------------------------------------------------------------------------------


def simulate(folder: Path, *words: str) -> subprocess.CompletedProcess[str]:
    environ = {**os.environ, "PYTHONPATH": str(folder), "PYTHONHASHSEED": "0"}
    command = [sys.executable, "-m", "simulate", "--sweep", "--jobs", "1", *words]
    return subprocess.run(
        command, cwd=folder, env=environ, capture_output=True, text=True, timeout=55, check=False
    )


def test_the_command_ends_with_its_verdict() -> None:
    done = simulate(ROOT, "--scenario", FIRST, "--steps", "mqtt_send,mqtt_receive")
    assert done.returncode == 0, done.stdout + done.stderr
    lines = done.stdout.splitlines()
    assert any(line.startswith(f"| `{FIRST}` | no session |") for line in lines)
    assert lines[-1].startswith("no violation in ") and "1 scenarios" in lines[-1]


def test_one_point_is_shown_again_to_the_letter() -> None:
    words = ("--scenario", "unplug", "--at", "write:140:torn")
    first, again = (simulate(ROOT, *words) for _ in range(2))
    assert first.returncode == 0, first.stdout + first.stderr
    assert first.stdout == again.stdout
    assert "power cut before write" in first.stdout
    assert first.stdout.splitlines()[-1].startswith("no violation at unplug write:140:torn of ")


def test_a_point_that_is_none_is_wrong_use() -> None:
    wrong = {
        ("--at", "write:1:kill"): "one --scenario",
        ("--scenario", "flood"): "known: first_start",
        ("--steps", "walk"): "known: write",
        ("--scenario", FIRST, "--at", "write:1"): "expected STEP:NUMBER:MODE",
    }
    for words, said in wrong.items():
        done = simulate(ROOT, *words)
        assert (done.returncode, said in done.stderr) == (2, True), done.stderr


# --- The report -----------------------------------------------------------------------------------


def test_an_order_is_everything_but_polls() -> None:
    order = Order.of("", "", "", 0)
    assert order == Order(NAMES, tuple(s for s in STEPS if s not in POLLS), tuple(MODES))
    (word, writes), (_, others) = parts(order)
    assert (word, writes.steps) == ("writes", ("write",))
    assert others.steps == order.steps[1:]
    assert [word for word, _ in parts(Order.of("", "", "", 2))] == ["twice"]
    assert Order.of("", "all", "", 0).steps == STEPS


def made_up(*found: tuple[Point, str, str]) -> Report:
    calm = Undisturbed("unplug", Counter(write=2), Counter(), "", None)  # type: ignore[arg-type]
    done = Swept("unplug", worlds=3, sessions=3, deaths=Counter(write=3), found=list(found))
    done.bad = Counter(point.step for point, _, _ in found)
    order = Order(("unplug",), ("write",), ("kill",))
    return Report(order, {"unplug": calm}, {"unplug": done})


def test_a_violation_stands_in_table_and_verdict(monkeypatch: Any) -> None:
    monkeypatch.setattr(sweep_run, "_came", lambda _: "1 captured")
    report = made_up((Point("write", 2, "power"), "hold_open", "never ended"))
    assert report.failed and not made_up().failed
    assert "| `unplug` | 1 captured | 3 (**1 bad**) | 3 | 3 | 1 |" in table(report)
    assert "  ./dev simulate --sweep --scenario unplug --at write:2:power" in verdict(report)
    assert verdict(report)[-1].startswith("1 VIOLATIONS in 3 worlds with 3 deaths")
    assert verdict(made_up())[-1].startswith("no violation in 3 worlds")


def test_a_table_is_written_between_its_marks(tmp_path: Path, monkeypatch: Any) -> None:
    page = tmp_path / "page.md"
    page.write_text("a\n<!-- writes: begin -->\nold\n<!-- writes: end -->\nb\n")
    monkeypatch.setattr(sweep_run, "DOCUMENT", page)
    monkeypatch.setattr(sweep_run, "_came", lambda _: "1 captured")
    write_table("writes", made_up())
    text = page.read_text()
    assert text.startswith("a\n<!-- writes: begin -->\n\n| scenario |") and text.endswith(
        "-->\nb\n"
    )
    assert "old" not in text and "no violation in 3 worlds" in text


def test_the_page_tells_of_no_violation() -> None:
    page = sweep_run.DOCUMENT.read_text()
    assert "VIOLATIONS" not in page and "bad**" not in page
    for part in ("writes", "steps", "twice"):
        told = page.partition(f"<!-- {part}: begin -->")[2].partition(f"<!-- {part}: end -->")[0]
        assert "no violation in " in told
        rows = [name for name in NAMES if f"| `{name}` |" in told]
        assert rows == list(NAMES) if part != "twice" else len(rows) >= 6
