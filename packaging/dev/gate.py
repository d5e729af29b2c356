"""./dev test: every check runs, even after one failed; the last line counts passed, failed, skipped."""

import json
import subprocess
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path

from dev import extras, system
from dev.environment import BIG_PAGES, ROOT, Spec
from dev.say import DevError, say, step

GATE_TIMEOUT_S = 2700
"""Far above the whole run (ten minutes on two idle cores; some machines are three times slower): a
check that hangs ends in a failure, not in silence."""

WORKERS = 4
"""pytest processes: four even on two cores, as many tests wait for processes; more only heat."""

SLOWEST = 40
"""Tests that are named with their time: where the ten minutes go."""

_ZVT = "drivers/terminal/zvt"
WHOLLY_COVERED = tuple(
    f"{_ZVT}/{name}.py"
    for name in (
        *("frames", "tcp_link", "codec", "reader", "primitives", "apdu"),
        *("tables", "messages", "sequences", "dialogue"),
    )
)
"""What reads and writes a terminal's bytes: a branch nobody has run is one a terminal will find."""

COUNTS_VARIABLE = "VOLTILL_TEST_COUNTS"
"""Names the file into which tests/conftest.py writes what it counted."""


def run(spec: Spec, arguments: Sequence[str], environ: Mapping[str, str]) -> int:
    """The whole gate, or with arguments (paths, -k ...) only pytest with them. Returns the exit status."""
    with tempfile.TemporaryDirectory(prefix="voltill-test-") as folder:
        gate = _Gate(spec, dict(environ), Path(folder))
        if arguments:
            gate.tests(["-m", "pytest", *arguments])
            say("    only the named tests ran; the gate is ./dev test without arguments")
        else:
            gate.everything()
        return gate.close()


class _Gate:
    def __init__(self, spec: Spec, environ: dict[str, str], folder: Path) -> None:
        self.spec = spec
        self.counts = folder / "counts.json"
        self.environ = {
            **BIG_PAGES,
            **environ,
            COUNTS_VARIABLE: str(self.counts),
            "COVERAGE_FILE": str(folder / "coverage"),
        }
        self.failed: list[str] = []

    def everything(self) -> None:
        with step("system packages"):
            system.install_missing()
        with step("libraries of the extras"):
            extras.ensure()
        self.check("format", ["-m", "ruff", "format", "--check", ".", "dev"])
        self.check("lint", ["-m", "ruff", "check", ".", "dev"])
        self.check("types", ["-m", "mypy"])
        pytest = ["-m", "pytest", "-n", str(WORKERS), "--dist", "loadfile"]
        pytest += ["--no-loadscope-reorder", f"--durations={SLOWEST}", "--durations-min=2"]
        self.tests(["-m", "coverage", "run", *pytest])
        self.check("coverage: join", ["-m", "coverage", "combine", "--quiet"])
        report = ["-m", "coverage", "report"]
        self.check("coverage: agent and drivers, branches", report)
        whole = ["--fail-under=100", "--include=" + ",".join(WHOLLY_COVERED)]
        self.check("coverage: ZVT's framing and codec, every branch", [*report, *whole])

    def check(self, name: str, words: Sequence[str]) -> None:
        try:
            with step(name):
                if self._call(words) != 0:
                    raise DevError(name)
        except DevError:
            self.failed.append(name)

    def tests(self, words: Sequence[str]) -> None:
        self.check("tests", words)

    def _call(self, words: Sequence[str]) -> int:
        try:
            return subprocess.run(
                [str(self.spec.python), *words],
                cwd=ROOT,
                env=self.environ,
                stdin=subprocess.DEVNULL,
                timeout=GATE_TIMEOUT_S,
                check=False,
            ).returncode
        except subprocess.TimeoutExpired:
            say(f"    stopped: not done after {GATE_TIMEOUT_S} s")
            return 1

    def close(self) -> int:
        """Print the closing line, in which a failed check other than the tests counts as one failure each."""
        counts = {"passed": 0, "failed": 0, "skipped": 0}
        if self.counts.exists():
            counts.update(json.loads(self.counts.read_text()))
        others = [name for name in self.failed if name != "tests"]
        failed = counts["failed"] + len(others)
        if "tests" in self.failed and not failed:
            failed = 1  # pytest itself ended badly: no test to blame, still a failure
        for name in self.failed:
            say(f"FAILED: {name}")
        say(f"{counts['passed']} passed, {failed} failed, {counts['skipped']} skipped")
        return 1 if self.failed else 0
