"""Sessions that were set aside, on the command line: listed by `status`, taken off by `sessions close`."""

from __future__ import annotations

from typing import Any

import pytest
from support.past_station import Past, running

from agent.ledger import Ledger
from agent.station import aside
from agent.station.clock import SystemClock
from agent.trust.keys import RecordKey

WORD = {"how": "written_off", "note": "ended at the terminal", "by": "jana"}


@pytest.mark.parametrize("way", ["stopped", "running"])
def test_by_command(voltill: Any, past: Past, monkeypatch: pytest.MonkeyPatch, way: str) -> None:
    ledger = Ledger.open(past.state / "ledger.db", None, create=False)
    ledger._db.execute("UPDATE session SET salvaged = 1 WHERE id = ?", (past.open,))
    ledger.close()
    where = ("--state", past.state, "--config", past.config)
    close = ("sessions", "close", past.open, "--as", "written-off", "--note", "ended there", *where)

    def check() -> None:
        text = voltill("status", "--state", past.state).out
        assert f"session {past.open} set aside: salvaged, last known unresolved\n" in text
        assert "its hold: receipt 2" in text and "50.00 EUR; left alone\n" in text
        assert f"voltill sessions close {past.open}\n" in text
        done = voltill(*close)
        assert done.code == 0, done.err
        assert "was neither charged nor released" in done.out
        assert "ended at the terminal or the acquirer" in done.out and "Free it" not in done.out
        if way == "running":
            free = voltill("sessions", "free", past.open, "--state", past.state)
            assert free.code == 2 and "is set aside, and nothing is sent" in free.err
        found = voltill("status", "--state", past.state, "--json").json
        assert (found["set_aside"], found["aside"], found["open"]) == ({}, [], [])
        shown = voltill("sessions", "show", past.open, "--state", past.state, "--json").json
        assert (shown["state"], shown["aside"], shown["payment"]) == (
            *("closed", "salvaged"),
            "written_off",
        )
        assert shown["closed_by"], "the user of the command"
        assert shown["closed_minor"] > 0, "what was priced and refused"
        again = voltill(*close)
        assert again.code == 2 and again.err.startswith("STA-044")

    if way == "running":
        with running(past, monkeypatch):
            check()
    else:
        check()


def test_what_is_left_of_the_events_names_the_hold(past: Past) -> None:
    """The first events are lost: what came later still says whose hold it is."""
    ledger = Ledger.open(past.state / "ledger.db", None, create=False)
    try:
        ledger._db.execute("UPDATE session SET salvaged = 1 WHERE id = ?", (past.open,))
        (n,) = ledger._db.execute("SELECT n FROM session WHERE id = ?", (past.open,)).fetchone()
        ledger._db.execute("DELETE FROM event WHERE id = ?", ((n << 20) + 1,))
        (row,) = aside.listed(ledger)
        assert row["hold"]["receipt"] > 230 and row["held_minor"] == 5000
        key = RecordKey.load(past.world.folder / "record-key.pem")
        now = SystemClock().stamp()
        assert aside.close(ledger, key, past.paid, WORD, now) is None, "not one of these"
        done = aside.close(ledger, key, past.open, WORD, now)
        assert done is not None and done.held_minor == 5000
        assert aside.listed(ledger) == []
    finally:
        ledger.close()
