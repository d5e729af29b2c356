"""An update that is rolled back: the code of the first schema, as the repository's history has it, opens the
file of this one, finishes its session and leaves it whole."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from support.damage import crash
from support.ledger_rows import STATION, event
from support.tree import ROOT

from agent.ledger import Ledger

FIRST_SCHEMA = "b68f7f4"  # the last commit whose ledger knew one migration

OLD = """
import pathlib, sys
from agent.ledger import EventRow, Ledger, schema
from agent.values import Quality, Stamp
assert len(schema.MIGRATIONS) == 1 and pathlib.Path(schema.__file__).is_relative_to(sys.argv[2])
ledger = Ledger.open(sys.argv[1], "DE*ABC*S1")
assert [row.id for row in ledger.sessions(open_only=True)] == ["s1"], ledger.sessions()
stamp = Stamp(1_790_000_000_500, 5500, "boot-2", Quality.TRUSTED)
n = len(ledger.events("s1"))
ledger.append(EventRow("s1", n + 1, "stop", {}, "closed", 1, stamp), evse="E1", terminal="t1", open=False)
ledger.append(EventRow("s2", 1, "tap", {}, "holding", 1, stamp), evse="E1", terminal="t1", open=True)
ledger.close()
"""


@pytest.fixture(scope="module")
def old_agent(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("old")
    archive = ["git", "-C", str(ROOT), "archive", FIRST_SCHEMA, "agent"]
    try:
        tar = subprocess.run(archive, check=True, capture_output=True).stdout
    except (OSError, subprocess.CalledProcessError):
        pytest.skip("needs the repository's history: a clone that is not shallow")
    subprocess.run(["tar", "-x", "-C", str(folder)], input=tar, check=True)
    return folder


@pytest.mark.parametrize("killed", [False, True], ids=["ended in order", "killed"])
def test_the_version_before_goes_on_where_this_one_stopped(
    tmp_path: Path, old_agent: Path, killed: bool
) -> None:
    path = tmp_path / "ledger.db"
    ledger = Ledger.open(path, STATION)
    for n in range(1, 4):
        ledger.append(event("s1", n), evse="E1", terminal="t1", open=True)
    if killed:
        crash(ledger)
    else:
        ledger.close()
    environ = {**os.environ, "PYTHONPATH": str(old_agent)}
    command = [sys.executable, "-c", OLD, str(path), str(old_agent)]
    done = subprocess.run(
        command, env=environ, cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    # The next update finds all of it, and nothing to complain about.
    again = Ledger.open(path, STATION)
    assert [row.n for row in again.events("s1")] == [1, 2, 3, 4]
    assert [row.id for row in again.sessions(open_only=True)] == ["s2"]
    again.close()
