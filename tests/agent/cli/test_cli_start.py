"""What a start loads, and what it leaves behind."""

from __future__ import annotations

import gc
import os
import subprocess
import sys
from pathlib import Path

from agent.cli.run import _collect_from_now

REPO = Path(__file__).resolve().parents[3]
# Each is megabytes for as long as the agent runs, or tens of milliseconds of every start.
NOT_ON_A_BOARD = ("pydantic", "rich", "jsonschema", "pytest", "unittest", "xml", "tkinter")


def test_a_service_loads_no_heavy_module() -> None:
    code = (
        "import sys, agent.cli.main, agent.cli.run, agent.settings.load, agent.station.station;"
        "from agent.station.drivers import known, load; known();"
        "[load(kind, name) for kind, name in (('terminal', 'zvt'), ('meter', 'modbus_rtu'),"
        " ('evse', 'phoenix_rtu'), ('bus', 'rtu'))];"
        f"print([name for name in {NOT_ON_A_BOARD} if name in sys.modules])"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        check=False,
        cwd=REPO,
        # Measured for coverage, a process loads what measures it.
        env={name: value for name, value in os.environ.items() if "COVERAGE" not in name},
    )
    assert (done.stdout.strip(), done.stderr) == ("[]", "")


def test_garbage_is_looked_for_after_a_start() -> None:
    gc.disable()
    try:
        _collect_from_now()
        assert gc.isenabled()
        assert gc.get_freeze_count() > 1000
    finally:
        gc.unfreeze()
        gc.enable()
