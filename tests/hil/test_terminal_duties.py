"""docs/simulators.md names a test for everything the simulated terminal can do: each of them exists."""

import re
import subprocess
import sys

from support.tree import ROOT

from hil.terminal.faults import FAULT_HELP
from hil.terminal.manual import VERBS

PAGE = (ROOT / "docs" / "simulators.md").read_text()
ROW = re.compile(r"^\| (.+) \| (\w+) `(test_\w+)` \|$", re.MULTILINE)
ROWS_MIN = 50


def test_every_line_has_its_test() -> None:
    rows = ROW.findall(PAGE)
    assert len(rows) >= ROWS_MIN
    for what, file, test in rows:
        source = (ROOT / "tests" / "hil" / f"test_terminal_{file}.py").read_text()
        assert f"\ndef {test}(" in source, f"{what}: no {test} in {file}"


def test_every_row_of_the_duties_is_read() -> None:
    duties = PAGE[PAGE.index("## What it can do") :]
    rows = [line for line in duties.splitlines() if line.startswith("|") and "---" not in line]
    heads = [line for line in rows if line.endswith("| test |")]
    assert len(rows) - len(heads) == len(ROW.findall(duties))


def test_the_verbs_and_the_start_are_those_of_the_program() -> None:
    table = PAGE[PAGE.index("| verbs | |") : PAGE.index("## What it can do")]
    first = [row.split("|")[1] for row in table.splitlines() if row.startswith("| `")]
    named = {name for cell in first for name in re.findall(r"`(\w+)`", cell)}
    assert named == set(VERBS)
    told = subprocess.run(
        [sys.executable, "-m", "hil", "terminal", "--help"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
        timeout=30,
    ).stdout
    start = PAGE[PAGE.index("```sh") : PAGE.index("It prints `ready")]
    for option in re.findall(r"--[a-z-]+", start):
        assert f"  {option} " in told, option
    assert all(f"  {name}" in told for name in FAULT_HELP)
