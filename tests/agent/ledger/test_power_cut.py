"""The ledger on a disk that is full, fails, or is cut in the middle of a call."""

from __future__ import annotations

import random
from pathlib import Path

import apsw
import pytest
from support import powercut
from support.ledger_rows import STATION, event

from agent.ledger import Ledger, LedgerFailed, LedgerFull


def test_a_full_disk_refuses_the_step_and_keeps_the_rest(tmp_path: Path) -> None:
    path = tmp_path / "ledger.db"
    with powercut.mounted() as vfs:
        ledger = Ledger.open(path, STATION)
        ledger.append(event("s", 1), evse=None, terminal="t", open=True)
        vfs.disk.full_at = vfs.disk.used()
        with pytest.raises(LedgerFull, match="LED-008"):
            for n in range(2, 500):
                ledger.append(event("s", n, note="z" * 900), evse=None, terminal="t", open=True)
        stored = len(ledger.events("s"))
        vfs.disk.full_at = None
        ledger.append(event("s", stored + 1), evse=None, terminal="t", open=True)
        ledger.close()
        again = Ledger.open(path, STATION)
        assert [row.n for row in again.events("s")] == list(range(1, stored + 2))
        again.close()


def test_after_the_disk_failed_nothing_is_believed_until_it_is_reopened(tmp_path: Path) -> None:
    """The kernel may have dropped what it could not write: the next sync would lie."""
    path = tmp_path / "ledger.db"
    with powercut.mounted() as vfs:
        ledger = Ledger.open(path, STATION)
        ledger.append(event("s", 1), evse=None, terminal="t", open=True)

        def fail(number: int, kind: str, name: str) -> None:
            if kind == "sync":
                raise apsw.IOError("the card is worn out")

        vfs.disk.on_operation = fail
        with pytest.raises(LedgerFailed, match="LED-007"):
            ledger.append(event("s", 2), evse=None, terminal="t", open=True)
        vfs.disk.on_operation = None
        with pytest.raises(LedgerFailed, match="since then every call is refused"):
            ledger.events("s")
        with pytest.raises(LedgerFailed):
            ledger.append(event("s", 2), evse=None, terminal="t", open=True)
        ledger.close()
        again = Ledger.open(path, STATION)
        assert [row.n for row in again.events("s")] in ([1], [1, 2])
        again.close()


def test_a_live_cut_stops_the_ledger_where_it_stands(tmp_path: Path) -> None:
    """The mode a simulator uses: the cut is raised out of the running call."""
    path = tmp_path / "ledger.db"
    with powercut.mounted() as vfs:
        ledger = Ledger.open(path, STATION)
        ledger.append(event("s", 1), evse=None, terminal="t", open=True)
        at = vfs.disk.operations + 2

        def cut(number: int, kind: str, name: str) -> None:
            if number == at:
                raise powercut.PowerCut

        vfs.disk.on_operation = cut
        with pytest.raises(powercut.PowerCut):
            ledger.append(event("s", 2), evse=None, terminal="t", open=True)
        ledger.close()
        vfs.disk = vfs.disk.after_cut(random.Random(1), 0.5, True)
        again = Ledger.open(path, STATION)
        assert [row.n for row in again.events("s")] in ([1], [1, 2])
        again.close()
