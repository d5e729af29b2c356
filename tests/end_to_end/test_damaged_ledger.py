"""The real agent on a damaged ledger, with the real broker and the reference back end: a new chain, its gap
record first, then what was salvaged of the old one; nothing is charged or released by itself."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path

import pytest
from support.station_rig import (
    booked,
    broker,
    charge,
    closed,
    nobody_there,
    outbox,
    station,
    status,
    unplug,
    wait_event,
)

from hil.broker import Broker

__all__ = ["broker"]  # the fixture
pytestmark = pytest.mark.timeout(180)


def types_at_the_back_end(path: Path) -> list[tuple[str, int, str]]:
    """(chain, seq, type) in the order of arrival."""
    with closing(sqlite3.connect(path)) as db:
        return db.execute("SELECT chain, seq, type FROM record ORDER BY received, seq").fetchall()


def test_a_new_chain_begins_and_what_was_salvaged_arrives(tmp_path: Path, broker: Broker) -> None:
    with station(tmp_path, broker) as rig:
        first = charge(rig, "visa")
        unplug(rig)
        closed(rig, first)
        rig.until(lambda: outbox(rig)["unacked"] == 0, "the first session to be acknowledged")
        nobody_there(rig)
        # No broker: the records of the next session wait; the one after that is charging when the power goes.
        rig.tell("netproxy", "cut")
        second = charge(rig, "mastercard")
        unplug(rig)
        closed(rig, second)
        nobody_there(rig)
        third = charge(rig, "girocard")
        rig.kill_agent()
        ledger = rig.state / "ledger.db"
        with ledger.open("r+b") as file:
            file.write(bytes(100))
        with (rig.state / "ledger.db-wal").open("r+b") as log:
            log.write(bytes(32))
        moved = len(booked(rig))
        rig.tell("netproxy", "restore")
        rig.start_agent()
        line = wait_event(rig, "ledger_begun_anew")
        assert line["id"] == "LED-003"
        assert line["open"] == [third]
        assert line["old_seq"] == 4
        rig.until(lambda: outbox(rig)["unacked"] == 0, "the gap and the old records", 60)
        seen = types_at_the_back_end(rig.backend_db)
        assert [kind for _, _, kind in seen] == [
            "session",
            "settlement",
            "gap",
            "session",
            "settlement",
        ]
        assert len({chain for chain, _, _ in seen}) == 2
        # The running session is listed; its hold stands as it stood; no energy flows.
        assert third in status(rig)["set_aside"]
        assert len(booked(rig)) == moved
        rig.until(lambda: not rig.tell("charger", "state")["released"], "the release to end")
        # The agent's own check of all it keeps: both chains, without a complaint.
        report = rig.voltill_json(
            "verify",
            "--state",
            str(rig.state),
            "--config",
            str(rig.config),
            "--trust",
            str(rig.station_key),
        )
        assert report["ok"] and report["records"] == 5
        # And it goes on selling.
        nobody_there(rig)
        fourth = charge(rig, "amex")
        unplug(rig)
        assert closed(rig, fourth)["captured_minor"] > 0
