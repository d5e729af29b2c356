"""The judge is judged: each bug of tests/planted, applied to a copy of the tree, must be found."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
PATCHES = ROOT / "tests" / "planted"
COPIED = ("agent", "drivers", "hil", "simulate")
DOCUMENT = ROOT / "docs" / "simulation.md"
BEGIN, END = "<!-- planted: begin -->", "<!-- planted: end -->"
RUN_S = 3_600
FIRST_SEED = 0


class PatchFails(Exception):
    """The patch does not fit the tree any more, or breaks it in another way than it means to."""


@dataclass(frozen=True, slots=True)
class Planted:
    """`sessions`: how many it took; None when it was not found."""

    name: str
    module: str
    what: str
    sessions: int | None
    seed: int
    code: str
    seconds: float


def patches(only: str = "") -> list[Path]:
    return [path for path in sorted(PATCHES.glob("*.patch")) if only in path.stem]


def describe(patch: Path) -> tuple[str, str]:
    """Module and first sentence: what stands before the diff."""
    head, _, diff = patch.read_text().partition("\n--- ")
    module = diff.split("\n+++ b/")[1].split()[0]
    return module, " ".join(head.split())


def plant(patch: Path, folder: Path) -> None:
    """A copy of the tree in `folder` with the bug in it. Raises PatchFails."""
    copy(folder)
    _apply(patch, folder)


def copy(folder: Path) -> None:
    for name in COPIED:
        ignored = shutil.ignore_patterns("__pycache__")
        shutil.copytree(ROOT / name, folder / name, ignore=ignored, dirs_exist_ok=True)


def _apply(patch: Path, folder: Path, *words: str) -> None:
    done = subprocess.run(
        ["git", "apply", *words, "--unsafe-paths", f"--directory={folder}", str(patch)],
        cwd="/",
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode != 0:
        raise PatchFails(f"{patch.name}: {done.stderr.strip()}")


def check_all(folder: Path) -> None:
    """Each patch fits the tree as it is, one by one. Raises PatchFails."""
    copy(folder)
    for patch in patches():
        _apply(patch, folder, "--check")


def find(patch: Path, sessions: int, jobs: int) -> Planted:
    """Simulate with the bug until something is found. Raises PatchFails."""
    module, what = describe(patch)
    with tempfile.TemporaryDirectory(prefix="voltill-planted-") as name:
        folder = Path(name)
        plant(patch, folder)
        told = folder / "totals.json"
        command = [sys.executable, "-m", "simulate", "--sessions", str(sessions), "--stop-at", "1"]
        command += [
            "--jobs",
            str(jobs),
            "--seed",
            str(FIRST_SEED),
            "--no-shrink",
            "--json",
            str(told),
        ]
        environ = {**os.environ, "PYTHONPATH": str(folder), "PYTHONHASHSEED": "0"}
        began = time.monotonic()
        done = subprocess.run(
            command, cwd=folder, env=environ, capture_output=True, text=True, timeout=RUN_S, check=False
        )  # fmt: skip
        seconds = time.monotonic() - began
        if not told.exists():
            last = (done.stderr.strip().splitlines() or ["nothing"])[-1]
            raise PatchFails(f"{patch.name}: the simulator itself failed: {last}")
        totals = json.loads(told.read_text())
    if not totals["found"]:
        return Planted(patch.stem, module, what, None, 0, "", seconds)
    first = totals["found"][0]
    return Planted(
        patch.stem, module, what, totals["sessions"], first["seed"], first["code"], seconds
    )


def rows(found: list[Planted]) -> list[str]:
    lines = [
        "| planted bug | module | found after sessions | seed | by |",
        "|---|---|---|---|---|",
    ]
    for each in found:
        after = "**not found**" if each.sessions is None else f"{each.sessions:,}"
        lines.append(f"| {each.what} | `{each.module}` | {after} | {each.seed} | `{each.code}` |")
    return lines


def run_planted(only: str, sessions: int, jobs: int) -> int:
    """Prints one line a bug and the verdict; writes the table into docs/simulation.md after a whole run."""
    found: list[Planted] = []
    failed: list[str] = []
    for patch in patches(only):
        try:
            each = find(patch, sessions, jobs)
        except PatchFails as error:
            failed.append(str(error))
            print(f"{patch.stem:32} FAILS", flush=True)
            continue
        found.append(each)
        word = "NOT FOUND" if each.sessions is None else f"{each.sessions} sessions"
        where = f"{each.code} seed {each.seed}" if each.code else ""
        print(f"{each.name:32} {word:16} {where} ({each.seconds:.0f} s)", flush=True)
    missed = [each.name for each in found if each.sessions is None]
    if not only and not failed:
        write_table(rows(found))
    for text in failed:
        print(text)
    modules = len({each.module for each in found})
    ok = not missed and not failed
    word = "all found" if ok else f"MISSED: {', '.join(missed) or 'none'}; {len(failed)} fail"
    print(f"{word}: {len(found) - len(missed)} of {len(found)} planted bugs in {modules} modules")
    return 0 if ok else 1


def write_table(lines: list[str]) -> None:
    text = DOCUMENT.read_text()
    before, _, rest = text.partition(BEGIN)
    _, _, after = rest.partition(END)
    DOCUMENT.write_text(f"{before}{BEGIN}\n\n" + "\n".join(lines) + f"\n\n{END}{after}")
