"""The last step: the same session as four parties have it, side by side. Whether they agree is judged by the
independent check (`python -m hil verify`); the table only shows it."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

from hil.demo.views import Views, kwh, money
from hil.rig import Rig, voltill_command

NONE = "-"
_AMOUNT = re.compile(r"(\d+)\.(\d\d)$")
_ENERGY = re.compile(r"(\d+)\.(\d{3}) kWh")


def table(views: Views, session: dict[str, Any], receipt: str) -> list[list[str]]:
    """A heading and four rows: energy, held, charged, released."""
    payloads = {row["type"]: row["payload"] for row in views.records()}
    theirs, settled = payloads.get("session", {}), payloads.get("settlement", {})
    hold = next(iter(views.booked("hold")), {})
    capture = next(iter(views.booked("capture")), {})
    return [
        ["", "acquirer", "back end", "agent's ledger", "receipt"],
        ["energy", NONE, _kwh(theirs, "energy_wh"), _kwh(session, "energy_wh"), _energy(receipt)],
        [
            "held",
            _money(hold, "amount_minor"),
            _money(settled, "held_minor"),
            _money(session, "held_minor"),
            _printed(receipt, "Held"),
        ],
        [
            "charged",
            _money(capture, "amount_minor"),
            _money(settled, "captured_minor"),
            _money(session, "captured_minor"),
            _printed(receipt, "Charged"),
        ],
        [
            "released",
            _money(capture, "released_minor"),
            _money(settled, "released_minor"),
            _money(session, "released_minor"),
            _printed(receipt, "Released"),
        ],
    ]


def judge(rig: Rig, tariff: Path) -> tuple[bool, list[str]]:
    """The independent check's verdict, and what it found."""
    command = [
        *(sys.executable, "-m", "hil", "verify", "--json"),
        *("--ledger", str(rig.acquirer_ledger), "--db", str(rig.backend_db)),
        *("--voltill", " ".join(voltill_command()), "--state", str(rig.state)),
        *("--config", str(rig.config), "--tariff", str(tariff)),
        *("--trust", str(rig.station_key), "--all-closed"),
        *("--energy-truth", str(rig.socket("charger"))),
    ]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    try:
        report = json.loads(done.stdout)
    except ValueError:
        return False, [(done.stdout + done.stderr).strip()]
    found = [f"{f['code']}: {f['where']}: {f['text']}" for f in report["findings"]]
    return done.returncode == 0 and report["ok"] is True, found


def _money(row: dict[str, Any], key: str) -> str:
    return money(row[key]) if isinstance(row.get(key), int) else NONE


def _kwh(row: dict[str, Any], key: str) -> str:
    return kwh(row[key]) if isinstance(row.get(key), int) else NONE


def _printed(receipt: str, label: str) -> str:
    for line in receipt.splitlines():
        amount = _AMOUNT.search(line)
        if line.strip().startswith(label) and amount:
            return f"{amount[1]}.{amount[2]} EUR"
    return NONE


def _energy(receipt: str) -> str:
    for line in receipt.splitlines():
        energy = _ENERGY.search(line)
        if line.strip().startswith("Energy") and energy:
            return energy[0]
    return NONE
