"""The shipped agent with its real drivers and uplink while what it works with is gone: the back end, the
terminal, the meter, each alone and together (docs/acceptance.md, rows 75 and 109)."""

from __future__ import annotations

from itertools import product
from typing import Any

import pytest

from hil.charger.faults import REPLY_FAULTS
from simulate.place import Variant
from simulate.plan import Fault, Plan, Visit

BEGINS_S, LASTS_S = 12.0, 40.0
LOOK_S = 35.0  # into the run: all that is gone was noticed, and is still gone
HOST_SILENT = 0  # A1
# Never answers: the fault's name by its place, and bit 7 for "until it is taken away".
SILENT = next(n for n in range(128, 256) if REPLY_FAULTS[n % len(REPLY_FAULTS)] == "timeout")
GONE = {"back end": "backend_gone", "terminal": "terminal_unplugged", "meter": "meter_fault"}


def plan(*faults: Fault, card: str = "visa") -> Plan:
    visit = Visit(0, card, "plug_first", "unplug", 11_000, charge_s=45.0, gap_s=1.0)
    return Plan(1, Variant(), (visit,), faults)


@pytest.mark.parametrize("gone", list(product((False, True), repeat=len(GONE))), ids=str)
def test_gone_alone_or_together_it_is_named_and_the_books_agree(
    rig: Any, gone: tuple[bool, ...]
) -> None:
    kinds = [kind for kind, is_gone in zip(GONE.values(), gone, strict=True) if is_gone]
    faults = [Fault(kind, 1, BEGINS_S, LASTS_S, SILENT) for kind in kinds]
    episode = rig.episode(plan(*faults))
    heard: list[dict[str, Any]] = []
    episode.world.loop.call_later(LOOK_S, lambda: episode.world.process.ask(heard.append, "status"))
    result = episode.run()
    (status,) = (answer["result"] for answer in heard)
    seen = (
        not status["uplink"]["connected"],
        bool(status["terminals"][0]["trouble"]),
        status["evses"][0]["meter"] != "ok",
    )
    assert seen == gone, status
    assert result.faults.keys() == set(kinds)
    assert result.verdict.violations == []
    assert result.verdict.classes == {"captured": 1}


def test_an_unreachable_host_takes_no_hold_and_gives_no_energy(rig: Any) -> None:
    episode = rig.episode(plan(Fault("host_offline", 1, 0.0, 200.0, HOST_SILENT)))
    result = episode.run()
    assert result.verdict.violations == []
    assert result.verdict.classes == {"refused": 1}
    assert episode.world.terminal.acquirer.rows() == []
    assert episode.world.charger.connectors[0].plant.energy_mwh == 0
