"""For the whole suite: hypothesis' settings and seed, and the rule that a skip must be a known one.

Helpers that tests share are modules in tests/support (imported as `from support.x import y`).
"""

import gc
import json
import os
import random
import re
import sys
import threading
from collections import Counter
from collections.abc import Generator, Iterable
from pathlib import Path

import coverage
import hypothesis
import pytest

SKIPS = Path(__file__).with_name("skips.txt")
COUNTS_VARIABLE = "VOLTILL_TEST_COUNTS"
# By this one processes that are started are measured, too.
PROCESS_VARIABLE = "COVERAGE_PROCESS_CONFIG"
SEED_BITS = 32
LONGEST_FIRST = ("end_to_end", "simulate")
# How many cases of one test coverage sees, and the folders where it sees all: packaging/dev/gate.py wants
# every branch of what reads a terminal's bytes, and the others are quick.
MEASURED_CASES = 2
WHOLLY_MEASURED = frozenset({"terminal", "trust", "settings"})
_measured: Counter[str] = Counter()
# Folders and modules whose volume is not measured, nor the processes they start.
UNMEASURED = frozenset(
    {
        *("simulate", "end_to_end", "hil", "house", "bench"),
        *("test_ledger_cuts", "test_bus_never_wrong", "test_bus_energy"),
        *("test_signing_crashes", "test_properties"),
        *("test_zvt_card_data", "test_zvt_peer_simulator"),
    }
)

# No deadline: the machines of a CI stall now and then, and a slow example is no failure.
hypothesis.settings.register_profile("voltill", deadline=None, print_blob=True)
hypothesis.settings.load_profile("voltill")


class SkipRules:
    """The list of skips that may happen: a regular expression for the reason, " # ", why it is all right."""

    def __init__(self, lines: Iterable[str]) -> None:
        self.patterns: list[re.Pattern[str]] = []
        for line in lines:
            if not line.strip() or line.startswith("#"):
                continue
            pattern, separator, why = line.partition(" # ")
            if not separator or not why.strip():
                raise ValueError(f"{SKIPS.name}: {line!r} lacks its ' # why'")
            self.patterns.append(re.compile(pattern.strip()))

    def allow(self, reason: str) -> bool:
        return any(pattern.fullmatch(reason) for pattern in self.patterns)


class SkipTable:
    """Collects every skip, prints them as a table, and fails the run for one that is not listed."""

    def __init__(self, rules: SkipRules) -> None:
        self.rules = rules
        self.reasons: Counter[str] = Counter()
        self.outcomes: Counter[str] = Counter()

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        if hasattr(report, "wasxfail"):
            return  # a known fault, strictly watched by pytest itself; neither passed nor failed
        if report.skipped:
            self._skip(report)
        elif report.failed:
            self.outcomes["failed"] += 1
        elif report.when == "call":
            self.outcomes["passed"] += 1

    def pytest_collectreport(self, report: pytest.CollectReport) -> None:
        if report.skipped:
            self._skip(report)
        elif report.failed:
            self.outcomes["failed"] += 1

    def _skip(self, report: pytest.TestReport | pytest.CollectReport) -> None:
        text = report.longrepr[2] if isinstance(report.longrepr, tuple) else str(report.longrepr)
        self.outcomes["skipped"] += 1
        self.reasons[text.removeprefix("Skipped: ")] += 1

    def unlisted(self) -> int:
        return sum(count for reason, count in self.reasons.items() if not self.rules.allow(reason))

    @pytest.hookimpl(trylast=True)
    def pytest_sessionfinish(self, session: pytest.Session) -> None:
        unlisted = self.unlisted()
        if unlisted and session.exitstatus in (
            pytest.ExitCode.OK,
            pytest.ExitCode.NO_TESTS_COLLECTED,
        ):
            session.exitstatus = pytest.ExitCode.TESTS_FAILED
        target = os.environ.get(COUNTS_VARIABLE)
        if target:
            counts = {
                "passed": self.outcomes["passed"],
                "failed": self.outcomes["failed"] + unlisted,
                "skipped": self.outcomes["skipped"] - unlisted,
            }
            Path(target).write_text(json.dumps(counts))

    def pytest_terminal_summary(self, terminalreporter: pytest.TerminalReporter) -> None:
        if not self.reasons:
            return
        terminalreporter.section("skips")
        for reason, count in sorted(self.reasons.items()):
            listed = self.rules.allow(reason)
            note = "listed" if listed else f"NOT LISTED in tests/{SKIPS.name}: the run fails"
            terminalreporter.write_line(f"{count:5}  {reason}  [{note}]", red=not listed)


@pytest.hookimpl(tryfirst=True)  # before hypothesis' own plugin reads the option
def pytest_configure(config: pytest.Config) -> None:
    if hasattr(config, "workerinput"):
        return  # an xdist worker: the controller sees every report and has handed its options down
    if config.getoption("hypothesis_seed", None) is None:
        config.option.hypothesis_seed = str(random.SystemRandom().getrandbits(SEED_BITS))
    config.pluginmanager.register(
        SkipTable(SkipRules(SKIPS.read_text().splitlines())), "voltill-skips"
    )


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """What mostly waits for processes begins first, and other workers compute meanwhile: begun last, it would
    leave the cores idle at the end. The gate keeps this order (--no-loadscope-reorder)."""
    items.sort(key=lambda item: item.path.parent.name not in LONGEST_FIRST)


def pytest_collection_finish() -> None:
    """Thousands of tests are there to stay: the collector need not look at them each time."""
    gc.collect()
    gc.freeze()


@pytest.hookimpl(wrapper=True)
def pytest_runtest_protocol(item: pytest.Item) -> Generator[None, object, object]:
    """Thousands of runs over what other tests cover take more than twice as long while coverage looks on, and
    tell it nothing new."""
    if coverage.Coverage.current() is None or _tells_coverage_something(item):
        return (yield)
    # Its own stop and start cost as much as measuring: it finds out about each file anew.
    looks_on, in_threads = sys.gettrace(), threading.gettrace()
    sys.settrace(None)
    threading.settrace(None)  # type: ignore[arg-type]  # takes None as sys.settrace does
    try:
        with pytest.MonkeyPatch.context() as patch:
            patch.delenv(PROCESS_VARIABLE, raising=False)
            return (yield)
    finally:
        sys.settrace(looks_on)
        threading.settrace(in_threads)  # type: ignore[arg-type]  # what it was, None too


def _tells_coverage_something(item: pytest.Item) -> bool:
    """Of one test with many parameters the first few do, except where every branch counts."""
    if item.path.parent.name in UNMEASURED or item.path.stem in UNMEASURED:
        return False
    if item.path.parent.name in WHOLLY_MEASURED:
        return True
    function = f"{item.path}::{getattr(item, 'originalname', item.name)}"
    _measured[function] += 1
    return _measured[function] <= MEASURED_CASES


def pytest_report_header(config: pytest.Config) -> str:
    seed = config.option.hypothesis_seed
    return f"hypothesis seed: {seed} (again: --hypothesis-seed={seed})"
