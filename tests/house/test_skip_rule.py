"""The rule of tests/conftest.py itself: a skip must be a listed one, and the counts are right."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from support.tree import ROOT

SUITE = """
import pytest

def test_passes(): pass

def test_fails(): assert FAILS is False

@pytest.mark.skip(reason="{reason}")
def test_skipped(): pass

@pytest.mark.xfail(reason="known")
def test_known(): assert False
"""


def run(
    folder: Path, *, reason: str, fails: bool = False, workers: int = 0
) -> tuple[int, str, dict[str, int]]:
    for name in ("conftest.py", "skips.txt"):
        shutil.copy2(ROOT / "tests" / name, folder / name)
    (folder / "test_it.py").write_text(f"FAILS = {fails}\n" + SUITE.format(reason=reason))
    (folder / "pytest.ini").write_text("[pytest]\n")
    counts = folder / "counts.json"
    environ = {**os.environ, "VOLTILL_TEST_COUNTS": str(counts)}
    words = ["-n", str(workers)] if workers else []
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", *words, str(folder)],
        cwd=folder,
        env=environ,
        capture_output=True,
        text=True,
        check=False,
    )
    return done.returncode, done.stdout, json.loads(counts.read_text())


WORKERS = [0, pytest.param(2, id="xdist")]


@pytest.mark.parametrize("workers", WORKERS)
def test_a_listed_skip_passes_and_stands_in_the_table(tmp_path: Path, workers: int) -> None:
    _need_xdist(workers)
    code, out, counts = run(tmp_path, reason="needs socat: apt-get install socat", workers=workers)
    assert code == 0
    assert "needs socat: apt-get install socat  [listed]" in out
    assert counts == {"passed": 2, "failed": 0, "skipped": 1}


@pytest.mark.parametrize("workers", WORKERS)
def test_an_unlisted_skip_fails_the_run(tmp_path: Path, workers: int) -> None:
    _need_xdist(workers)
    code, out, counts = run(tmp_path, reason="did not feel like it", workers=workers)
    assert code == 1
    assert "did not feel like it  [NOT LISTED in tests/skips.txt: the run fails]" in out
    assert counts == {"passed": 2, "failed": 1, "skipped": 0}


def test_a_failure_is_counted(tmp_path: Path) -> None:
    code, _, counts = run(tmp_path, reason="needs socat: apt-get install socat", fails=True)
    assert code == 1
    assert counts == {"passed": 1, "failed": 1, "skipped": 1}


def test_the_reason_must_match_whole(tmp_path: Path) -> None:
    code, _, _ = run(tmp_path, reason="well, it needs socat: apt-get install socat")
    assert code == 1


def _need_xdist(workers: int) -> None:
    if workers:
        pytest.importorskip("xdist", reason="needs the package index for pytest-xdist")
