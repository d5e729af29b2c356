"""The wiring of `./dev bench core`: that its parts run and what they print. Figures are for people."""

import math
import re
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest
from support.tree import ROOT

from bench import core
from bench.__main__ import MISSED_EXIT
from bench.core_growth import Growth

ROWS = {
    "release": (
        r"completion to the release command +4 ",
        r"bare SQLite commit, FULL +4 ",
        r"p99 while another session commits +[\d.]+ x idle p99",
    ),
    "ready": (
        r"ended in order +\d+ +\d+ +[\d.]+",
        r"killed before +\d+ +\d+ +[\d.]+",
        r"READY with an old ledger, killed before +[\d.]+ x empty +1.5 x empty +(met|MISSED)",
    ),
    "growth": (
        r"sessions looked at +\d+",
        r"bytes a session, slope +-?[\d.]+ ± ([\d.]+|inf)",
        r"memory grown over 100,000 sessions +-?[\d.]+ % +1 % +(met|MISSED)",
    ),
}


@pytest.mark.parametrize("part", ROWS)
def test_a_part_runs_alone_and_leaves_nothing(part: str) -> None:
    with tempfile.TemporaryDirectory() as folder:  # short: sockets lie in it
        _runs_alone(part, folder)
        assert list(Path(folder).iterdir()) == []


def _runs_alone(part: str, folder: str) -> None:
    command = [sys.executable, "-m", "bench", "core", "--quick", "--only", part]
    done = subprocess.run(
        [*command, "--folder", folder],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=55,
        check=False,
    )
    assert done.returncode in (0, MISSED_EXIT), done.stderr
    assert done.stderr == ""
    for row in (*ROWS[part], r"others +\d+ % of the processors during the run"):
        assert re.search(row, done.stdout), f"{row} is not in\n{done.stdout}"
    assert ("MISSED" in done.stdout) == (done.returncode == MISSED_EXIT)


def test_every_part_can_be_asked_for() -> None:
    assert set(ROWS) < set(core.PARTS)
    assert {"commits", "device", "old", "budgets", "many", "cuts", "kills"} < set(core.PARTS)


def test_a_slope_is_told_with_its_doubt() -> None:
    leaks = Growth([(0, 1_000), (10, 1_500), (20, 2_000), (30, 2_500)])
    assert (leaks.sessions, leaks.slope, leaks.doubt) == (30, 50.0, 0.0)
    wavers = Growth([(0, 1_000), (10, 1_200), (20, 1_000), (30, 1_200)])
    assert 0 < wavers.slope < wavers.doubt
    assert Growth([(0, 1_000), (10, 1_000)]).doubt == math.inf
