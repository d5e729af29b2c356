"""Quiet moments: what is forgotten, folded back and looked through, and that nothing else is written."""

from __future__ import annotations

from pathlib import Path

import pytest
from support.damage import crash, overwrite, pages_of, stop
from support.ledger_rows import STATION, event, fill, record
from support.station_world import UTC_MS, World, charge, world

from agent.ledger import AsyncLedger, Ledger, LedgerDamaged
from agent.ledger import open as opening
from agent.ledger.retention import DAY_MS
from agent.session import S
from agent.station import ledger_care


@pytest.fixture
def w(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    with world(tmp_path, monkeypatch) as made:
        yield made


def sizes(w: World) -> dict[str, tuple[int, int]]:
    """Length and time of change of everything in the state directory but the control socket."""
    return {
        file.name: (file.stat().st_size, file.stat().st_mtime_ns)
        for file in w.state.iterdir()
        if file.is_file()
    }


def test_ten_idle_minutes_write_nothing(w: World) -> None:
    w.start()
    charge(w)
    w.plant.unplug()
    w.until_state(S.CLOSED)
    w.run(70)
    before = sizes(w)
    changes = w.agent.ledger._ledger._db.total_changes()
    w.run(600)
    assert sizes(w) == before
    assert w.agent.ledger._ledger._db.total_changes() == changes
    # One session is no reason to fold the log back: that costs four flushes.
    assert w.agent.ledger._ledger.log_pages() > 0


def test_a_session_writes_one_progress_a_minute(w: World) -> None:
    w.start()
    charge(w, seconds=1800)
    names = w.event_names()
    assert 28 <= names.count("progress") <= 32
    assert len(names) <= 40


def test_the_station_forgets_what_both_clocks_let_go(w: World) -> None:
    config = w.folder / "station.yaml"
    config.write_text(config.read_text() + "records: {keep_days: 2}\n")
    w.start()
    first = charge(w)
    w.plant.unplug()
    w.until_state(S.CLOSED)
    ledger = w.agent.ledger._ledger

    def ack(day: float) -> None:
        head = ledger.head()
        time_ms = UTC_MS + w.now_ms + round(day * DAY_MS)
        ledger.apply_ack(head.chain, head.seq, head.hash, asked_ms=time_ms)

    ack(0)
    charge(w, b"card-two")
    w.plant.unplug()
    w.until_state(S.CLOSED)
    ack(3)
    w.run(70)
    assert ledger.session(first.id) is not None  # by our clock minutes have passed
    w.skew_ms += 3 * DAY_MS
    w.run(70)
    assert ledger.session(first.id) is None
    assert w.logged("forgotten") == [w.logged("forgotten")[0] | {"sessions": 1}]
    assert len(w.sessions()) == 1


def test_the_log_is_folded_back_in_a_quiet_moment_and_not_before(
    w: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ledger_care, "LOG_PAGES_QUIET", 10)
    w.start()
    ledger = w.agent.ledger._ledger
    charge(w, seconds=30)
    during = ledger.log_pages()
    assert during > 10
    w.plant.unplug()
    w.until_state(S.CLOSED)
    w.run(70)
    assert ledger.log_pages() == 0


def test_a_large_ledger_is_looked_through_while_the_station_runs(
    w: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Damage in old pages: what runs is ended first, then the file is set aside."""
    w.start()
    ledger = w.agent.ledger._ledger
    for number in range(400):
        name = f"old{number}"
        ledger.append(
            event(name, 1, note="x" * 300, state="closed"), evse="E", terminal="t1", open=False
        )
    pages = pages_of(ledger, "event")
    ledger.checkpoint()
    w.stop()
    (w.state / "ledger.db-wal").unlink()
    overwrite(w.state / "ledger.db", pages[40], b"\xa5" * 1024)
    monkeypatch.setattr(opening, "CHECK_AT_ONCE_BYTES", 0)
    w.start()
    charge(w)
    w.until(lambda: w.logged("ledger_damaged"), 90)
    w.terminal.tap(b"card-two")
    w.run(60)
    assert len([s for s in w.sessions() if not s.id.startswith("old")]) == 1
    w.plant.unplug()
    assert w.ends(400) == 2
    assert any(line["event"] == "part_died" for line in w.log_lines)
    w.start()
    assert w.logged("ledger_begun_anew")[0]["id"] == "LED-003"
    assert not (w.state / "ledger.db-suspect").exists()
    assert not w.logged("session_salvaged")  # it was closed before


def test_looking_through_sees_every_kind_of_damage(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(opening, "CHECK_AT_ONCE_BYTES", 0)
    for number, kind in enumerate(("event", "record", "session", "index", "none")):
        path = tmp_path / f"{number}.db"
        ledger = Ledger.open(path, STATION)
        fill(ledger, 60)
        ledger.append(
            event("last", 1), evse="E", terminal="t", open=False, record=record(ledger, "last")
        )
        db = ledger._db
        page = None
        if kind == "event":
            page = pages_of(ledger, "event")[3]
        elif kind == "session":
            page = pages_of(ledger, "session")[2]
        elif kind == "record":
            db.execute("UPDATE record SET jws = replace(jws, 'e', 'f') WHERE id % 1048576 = 9")
        elif kind == "index":
            page = pages_of(ledger, "sqlite_autoindex_session_1")[-1]
        stop(ledger)
        if page is not None:
            overwrite(path, page, b"\xa5" * 1024)
        again = Ledger.open(path, STATION)
        assert not again.checked
        if kind == "none":
            while again.scrub():
                pass
        else:
            with pytest.raises(LedgerDamaged, match="LED-003"):
                while again.scrub():
                    pass
        crash(again)
        assert opening.suspect(path).exists() is (kind != "none")
        if kind in ("event", "session", "index"):
            # The next opening looks at all of it, whatever its size.
            with pytest.raises(LedgerDamaged):
                Ledger.open(path, STATION)


def test_the_facade_has_it_all(tmp_path: Path) -> None:
    import asyncio

    async def main() -> None:
        ledger = await AsyncLedger.open(tmp_path / "l.db", STATION)
        assert ledger.checked and not ledger.full
        assert await ledger.look_for_room()
        assert await ledger.log_pages() == 0
        assert (await ledger.forget(1, 1)).at is None
        while await ledger.scrub():
            pass
        await ledger.close()

    asyncio.run(main())


def test_a_meter_that_comes_and_goes_does_not_wear_the_flash(w: World) -> None:
    """It falls silent every few seconds for ten minutes: what it said last is kept once a minute."""
    w.start()
    charge(w, seconds=5)
    before = w.event_names().count("progress")
    for _ in range(100):
        w.plant.meter_answers = False
        w.run(3)
        w.plant.meter_answers = True
        w.run(3)
    written = w.event_names().count("progress") - before
    assert 8 <= written <= 21
    assert w.session().state is S.CHARGING
