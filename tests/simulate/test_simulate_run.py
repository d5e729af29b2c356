"""The command, its report, and the bounded run inside the gate."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from simulate import planted
from simulate.kills import PAIRS
from simulate.make import Menu, make_plan
from simulate.run import Totals, report
from simulate.shrink import shrink

ROOT = Path(__file__).resolve().parents[2]
# As many sessions as fit into this much time of one core; the seeds are never those of a shorter run, so
# that the gate goes on where it stopped on a faster machine.
BUDGET_S = 24.0
FIRST_SEED = 1_000_000
LEAST_SESSIONS = 60


def simulate(*words: str) -> subprocess.CompletedProcess[str]:
    environ = {**os.environ, "PYTHONHASHSEED": "0"}
    command = [sys.executable, "-m", "simulate", *words]
    return subprocess.run(
        command, cwd=ROOT, env=environ, capture_output=True, text=True, timeout=55, check=False
    )


@pytest.mark.timeout(180)
def test_as_many_sessions_as_fit(rig: Any, capsys: pytest.CaptureFixture[str]) -> None:
    totals, began, seed = Totals(), time.process_time(), FIRST_SEED
    while time.process_time() - began < BUDGET_S:
        # A world with a day of peace would take half of the time alone; test_simulate_judge has one of hours.
        totals.take(rig.run(make_plan(seed, Menu(long_of=0))))
        seed += 1
    with capsys.disabled():
        print(f"\nsimulated: {totals.sessions} sessions, seeds {FIRST_SEED} to {seed - 1}")
    assert totals.found == []
    assert totals.sessions >= LEAST_SESSIONS
    assert len([pair for pair in PAIRS if totals.killed[pair]]) > len(PAIRS) // 3


def test_the_command_ends_with_its_verdict(tmp_path: Path) -> None:
    told = tmp_path / "totals.json"
    done = simulate("--sessions", "12", "--jobs", "2", "--seed", "300", "--json", str(told))
    assert done.returncode == 0, done.stdout + done.stderr
    last = done.stdout.splitlines()[-1]
    assert last.startswith("no violation in ") and "sessions/s" in last
    totals = json.loads(told.read_text())
    assert totals["sessions"] >= 12 and totals["killed"]


def test_a_trace_is_the_same_in_another_process() -> None:
    first, again = (simulate("--seed", "11", "--trace").stdout for _ in range(2))
    assert first == again
    assert "board    start 1" in first and "agent " in first


def test_an_unknown_fault_is_refused() -> None:
    done = simulate("--faults", "earthquake")
    assert done.returncode == 2 and "earthquake" in done.stderr


# --- The judge is judged --------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["ignore_approved_amount", "plug_is_permission", "skip_sync"])
def test_a_planted_bug_is_found(name: str) -> None:
    found = planted.find(planted.PATCHES / f"{name}.patch", 200, 1)
    assert found.sessions is not None and found.code


def test_every_planted_bug_fits_the_tree(tmp_path: Path) -> None:
    patches = planted.patches()
    assert len(patches) >= 20
    assert len({planted.describe(patch)[0] for patch in patches}) >= 8
    for patch in patches:
        module, what = planted.describe(patch)
        assert (ROOT / module).exists() and what.endswith(".")
    planted.check_all(tmp_path)


def test_the_table_names_every_planted_bug() -> None:
    text = planted.DOCUMENT.read_text()
    missing = [p.stem for p in planted.patches() if planted.describe(p)[1] not in text]
    assert missing == []
    assert "not found" not in text.partition(planted.BEGIN)[2].partition(planted.END)[0]


def test_a_violation_is_made_small() -> None:
    """Everything that is not needed for it goes; what is needed stays."""

    class Shown:
        def __init__(self, found: bool) -> None:
            self.verdict = self
            self.violations = [("odd", "")] if found else []

    plan = make_plan(1_003, Menu(calm_permille=0, visits=(4, 4)))
    needed = plan.visits[2]
    small = shrink(plan, {"odd"}, lambda p: Shown(needed in p.visits))  # type: ignore[arg-type,return-value]
    assert small.visits == (needed,)
    assert small.faults == () and small.kills == ()


def test_the_report_tells_what_was_not_met() -> None:
    lines = report(Totals(sessions=1, seeds=1), 5, 1.0)
    assert any("not met: write in" in line for line in lines)
    assert lines[-1].startswith("no violation in 1 sessions")
