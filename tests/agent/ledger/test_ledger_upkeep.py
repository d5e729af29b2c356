"""What was ordered of a terminal beside payments: intent first, then its steps; nothing is rewritten."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest
from support.ledger_rows import STATION, first_version, stamp

from agent.ledger import Ledger, LedgerError, UpkeepOrder, UpkeepRow

DAY = "end_of_day"


def row(step: str, terminal: str = "t1", n: int = 1, **data: int | str) -> UpkeepRow:
    return UpkeepRow(terminal, DAY, step, dict(data), stamp(n))


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "ledger.db"


def test_steps_are_there_after_reopening_and_the_newest_order_counts(path: Path) -> None:
    ledger = Ledger.open(path, STATION)
    assert ledger.upkeep(DAY) == []
    old = ledger.add_upkeep(row("intent"))
    ledger.add_upkeep(row("refused", code="77"), old)
    other = ledger.add_upkeep(row("intent", "t2"))
    new = ledger.add_upkeep(row("intent", n=2, terminal_id="52523535"))
    ledger.add_upkeep(row("evidence", n=3, total_minor=111), new)
    ledger.close()

    again = Ledger.open(path, STATION, create=False)
    first = row("intent", n=2, terminal_id="52523535")
    assert again.upkeep(DAY) == [
        UpkeepOrder(new, (first, row("evidence", n=3, total_minor=111))),
        UpkeepOrder(other, (row("intent", "t2"),)),
    ]
    assert again.upkeep("initialisation") == []
    again.close()


def test_a_step_continues_an_order_of_its_own_terminal(path: Path) -> None:
    ledger = Ledger.open(path, STATION)
    order = ledger.add_upkeep(row("intent"))
    step = row("done")
    number = ledger.add_upkeep(step, order)
    assert number == order
    for wrong, to in (
        (step, order + 1),  # a step, not an intent
        (step, 99),
        (dataclasses.replace(step, terminal="t2"), order),
        (dataclasses.replace(step, task="initialisation"), order),
        (dataclasses.replace(step, step=""), order),
    ):
        with pytest.raises(LedgerError, match="LED-010"):
            ledger.add_upkeep(wrong, to)
    assert [s.step for s in ledger.upkeep(DAY)[0].steps] == ["intent", "done"]
    ledger.close()


@pytest.mark.parametrize(
    ("data", "code"),
    [
        ({"text": "card 4111 1111 1111 1111"}, "LED-012"),
        ({"text": "x" * 17_000}, "LED-014"),
        ({"share": 0.5}, "LED-014"),
    ],
)
def test_what_may_not_be_stored_is_not(path: Path, data: dict[str, object], code: str) -> None:
    ledger = Ledger.open(path, STATION)
    with pytest.raises(LedgerError, match=code):
        ledger.add_upkeep(UpkeepRow("t1", DAY, "intent", data, stamp(1)))  # type: ignore[arg-type]
    assert ledger.upkeep(DAY) == []
    ledger.close()


def test_a_ledger_of_the_first_version_gets_the_table(path: Path) -> None:
    first_version(path)
    ledger = Ledger.open(path, STATION)
    assert ledger.upkeep(DAY) == []
    ledger.add_upkeep(row("intent"))
    assert len(ledger.upkeep(DAY)) == 1
    ledger.close()
