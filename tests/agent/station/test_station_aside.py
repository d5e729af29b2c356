"""A session that the station could not go on with is listed until a person takes it off the list; nothing is
sent for it by itself, before and after."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from support.station_world import World, charge, world

from agent.session import S
from agent.station.control import ControlRefused
from agent.trust import jws
from agent.trust.chain import verify_records
from agent.trust.keys import KeySet, RecordKey

WORD = {"how": "written_off", "note": "ended at the terminal", "by": "jana"}


@pytest.fixture(params=["salvaged", "not_reproduced", "of_tomorrow"])
def alone(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """A killed station with one session that it cannot go on with: (world, id, why)."""
    with world(tmp_path, monkeypatch) as w:
        w.start()
        session = charge(w)
        ledger = w.agent.ledger._ledger
        if request.param == "not_reproduced":
            ledger._db.execute("UPDATE session SET state = 'held'")
        elif request.param == "of_tomorrow":
            ledger._db.execute("UPDATE event SET name = 'of_tomorrow' WHERE name = 'began'")
        w.kill()
        if request.param == "salvaged":
            w.state.joinpath("ledger.db-wal").unlink()
            with w.state.joinpath("ledger.db").open("r+b") as file:
                file.write(bytes(1024))
        why = "salvaged" if request.param == "salvaged" else "not_reproduced"
        yield w, session.id, why


def bodies(w: World) -> list[dict[str, Any]]:
    ledger = w.agent.ledger._ledger
    return [jws.parse(row.jws, jws.RECORD_TYP).unchecked_body() for row in ledger.records(1, 100)]


def test_it_is_listed_with_its_hold_and_left_alone(alone: tuple[World, str, str]) -> None:
    w, session_id, why = alone
    w.start()
    w.run(3 * 3600)
    (row,) = w.request("status")["aside"]
    assert (row["id"], row["aside"], row["terminal"]) == (session_id, why, "t1")
    assert (row["hold"]["receipt"], row["held_minor"], row["currency"]) == (231, 5000, "EUR")
    assert session_id in w.request("status")["set_aside"]
    assert w.terminal.open_holds() and "release" not in w.terminal.commands
    with pytest.raises(ControlRefused, match=r"STA-045.*set aside"):
        w.request("free", id=session_id)


def test_a_person_takes_it_off_the_list(alone: tuple[World, str, str]) -> None:
    w, session_id, why = alone
    w.start()
    w.run(10)
    moved, before = list(w.terminal.movements), len(bodies(w))
    done = w.request("close", id=session_id, **WORD)
    assert (done["state"], done["payment"], done["aside"]) == ("closed", "written_off", why)
    # The event and the record say who, why, and what is known of the hold.
    row = w.agent.ledger._ledger.events(session_id)[-1]
    assert row.name == "closed_unread"
    assert row.data["by"] == "jana" and row.data["hold"]["receipt"] == 231  # type: ignore[index,call-overload]
    (record,) = bodies(w)[before:]
    assert (record["type"], record["session_id"]) == ("settlement", session_id)
    assert (record["outcome"], record["reason"]) == ("written_off", "ended at the terminal")
    assert (record["closed_by"], record["set_aside"]) == ("jana", why)
    assert (record["hold"]["receipt"], record["held_minor"]) == (231, 5000)
    assert record["captured_minor"] == record["released_minor"] == 0
    assert record["refers_seq"] is None
    # Off the list, for good, and nothing was sent.
    for _ in range(2):
        status = w.request("status")
        assert (status["set_aside"], status["aside"], status["open"]) == ({}, [], [])
        w.run(60)
        w.stop()
        w.start()
        w.run(60)
    assert w.terminal.movements == moved and w.terminal.open_holds()
    with pytest.raises(ControlRefused, match=r"STA-044|STA-012"):
        w.request("close", id=session_id, **WORD)


def test_the_chain_goes_on_behind_it(alone: tuple[World, str, str]) -> None:
    w, session_id, _ = alone
    w.start()
    w.run(10)
    w.request("close", id=session_id, **WORD)
    w.plant.unplug()
    w.run(5)
    charge(w, b"card-two")
    w.plant.unplug()
    w.until(lambda: any(s.state is S.CLOSED and s.id != session_id for s in w.sessions()))
    rows = w.agent.ledger._ledger.records(1, 100)
    key = RecordKey.load(w.folder / "record-key.pem").public
    report = verify_records([row.jws for row in rows], KeySet([key]), anchored=True)
    assert report.ok, report.json()


def test_its_hold_is_still_explained_after_it_is_off_the_list(
    alone: tuple[World, str, str],
) -> None:
    """It is neither called nobody's nor freed where the terminal is ours alone."""
    w, session_id, _ = alone
    text = (w.folder / "station.yaml").read_text()
    one = "    currency: EUR\n"
    assert one in text
    (w.folder / "station.yaml").write_text(text.replace(one, f"{one}    foreign_holds: release\n"))
    w.start()
    w.run(10)
    w.request("close", id=session_id, **WORD)
    w.terminal.online = False
    w.run(30)
    w.terminal.online = True
    w.run(120)
    assert w.terminal.open_holds() and "release" not in w.terminal.commands
    assert not [s for s in w.sessions() if s.outcome == "foreign"]


def test_a_killed_agent_has_closed_it_or_not(alone: tuple[World, str, str]) -> None:
    """Event and record are one commit: there is no state in between."""
    w, session_id, _ = alone
    w.start()
    w.run(10)
    w.request("close", id=session_id, **WORD)
    w.kill()
    w.start()
    w.run(10)
    assert w.request("status")["set_aside"] == {}
    assert [b["session_id"] for b in bodies(w) if b["type"] == "settlement"] == [session_id]
