"""The whole station on a ledger that is damaged, lost or full."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest
from support.station_world import CARD, World, charge, world

from agent.ledger import LedgerForeign
from agent.session import S
from agent.station import in_force
from agent.trust import jws


@pytest.fixture
def w(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    with world(tmp_path, monkeypatch) as made:
        yield made


def ledger_file(w: World) -> Path:
    return w.state / "ledger.db"


def log_file(w: World) -> Path:
    return w.state / "ledger.db-wal"


def newest_record(w: World) -> dict[str, object]:
    ledger = w.agent.ledger._ledger
    (row,) = ledger.records(1, 1)
    return jws.parse(row.jws, jws.RECORD_TYP).unchecked_body()


def destroy_first_page(w: World) -> None:
    with ledger_file(w).open("r+b") as file:
        file.write(bytes(1024))


def test_a_running_session_is_listed_and_nothing_is_done_for_it_by_itself(w: World) -> None:
    w.start()
    first = charge(w)
    w.plant.unplug()
    w.until_state(S.CLOSED)
    held = charge(w, b"card-two")
    w.kill()
    log_file(w).unlink()  # it holds the first page too, and would heal it
    destroy_first_page(w)
    holds, moves = len(w.terminal.open_holds()), len(w.terminal.movements)
    w.start()
    # Set aside whole, a new chain, a gap record that names the old one's last number.
    assert (w.state / "ledger.db.damaged-1").exists()
    gap = newest_record(w)
    assert gap["type"] == "gap"
    assert (gap["old_seq"], gap["open"]) == (2, [held.id])
    assert w.logged("ledger_begun_anew")[0]["id"] == "LED-003"
    (line,) = w.logged("session_salvaged")
    assert (line["id"], line["session"]) == ("LED-018", held.id)
    # Hours later: listed, no energy, and its hold untouched.
    w.run(3 * 3600)
    status = w.request("status")
    assert held.id in status["set_aside"]
    assert not w.plant.released
    assert len(w.terminal.open_holds()) == holds
    assert len(w.terminal.movements) == moves
    shown = w.request("session", id=held.id)
    assert shown["held_minor"] == 5000
    assert w.request("session", id=first.id)["captured_minor"] > 0
    # The station goes on: the same connector takes the next driver.
    w.plant.unplug()
    w.run(5)
    charge(w, b"card-three")
    w.plant.unplug()
    w.until(lambda: any(s.state is S.CLOSED and s.id not in (first.id,) for s in w.sessions()))
    assert w.agent.ledger._ledger.head().seq == 3
    assert len(w.terminal.open_holds()) == holds


def test_a_ledger_whose_log_is_gone_is_begun_anew(w: World) -> None:
    w.start()
    session = charge(w)
    w.agent.ledger._ledger._db.close()  # killed: nothing is written any more
    w.kill()
    log_file(w).unlink()
    w.start()
    gap = newest_record(w)
    assert (gap["type"], gap["reason"]) == ("gap", "log_lost")
    assert session.state is S.CHARGING


def test_a_ledger_that_is_gone_leaves_a_gap_that_names_nothing(w: World) -> None:
    w.start()
    charge(w)
    w.kill()
    ledger_file(w).unlink()
    log_file(w).unlink(missing_ok=True)
    w.start()
    gap = newest_record(w)
    assert (gap["type"], gap["reason"], gap["old_chain"]) == ("gap", "lost", None)
    assert w.logged("ledger_begun_anew")[0]["id"] == "LED-019"


def test_the_first_start_of_a_station_leaves_no_gap(w: World) -> None:
    w.start()
    assert w.agent.ledger._ledger.head().seq == 0
    assert not w.logged("ledger_begun_anew")


def test_a_newer_file_is_neither_set_aside_nor_touched(w: World) -> None:
    import apsw

    w.start()
    w.stop()
    newer = apsw.Connection(str(ledger_file(w)))
    newer.pragma("user_version", 99)
    newer.close()
    before = ledger_file(w).read_bytes()
    with pytest.raises(LedgerForeign, match="LED-005"):
        w.start()
    assert ledger_file(w).read_bytes() == before
    assert not list(w.state.glob("*.damaged-*"))


def test_a_full_disk_lets_the_running_session_end_and_takes_the_next_when_it_has_room(
    w: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    import apsw

    w.start()
    session = charge(w)
    ledger = w.agent.ledger._ledger
    ballast = ledger._ballast
    assert ballast is not None and ballast.held
    room = {"bytes": 0}
    real_fallocate, real_statvfs = os.posix_fallocate, os.statvfs

    class Commit:
        """Every commit fails while neither ballast nor other room is free."""

        def __call__(self, *_: object) -> bool:
            if not (room["bytes"] or not ballast.held):
                raise apsw.FullError("the simulated disk is full")
            return False

    ledger._db.set_commit_hook(Commit())

    def fallocate(file: int, at: int, size: int) -> None:
        if not room["bytes"]:
            raise OSError(errno.ENOSPC, "no space left")
        real_fallocate(file, at, size)

    def statvfs(path: object) -> os.statvfs_result:
        found = list(real_statvfs(str(path)))
        if not room["bytes"]:
            found[4] = 0
        return os.statvfs_result(found)

    monkeypatch.setattr(os, "posix_fallocate", fallocate)
    monkeypatch.setattr(os, "statvfs", statvfs)
    w.plant.unplug()
    w.until(lambda: w.sessions()[0].state is S.CLOSED)
    assert not ballast.held
    assert w.sessions()[0].id == session.id and w.sessions()[0].captured_minor > 0
    # A new session is refused, with an error a person reads.
    w.plant.plug()
    w.run(70)
    w.terminal.tap(b"card-two")
    w.run(10)
    assert len(w.sessions()) == 1
    told = [line for line in w.errors() if line.get("id") in ("LED-008", "STA-029", "STA-003")]
    assert told
    # Space is back: it goes on by itself.
    room["bytes"] = 1
    w.terminal.tapped = None
    w.run(70)
    assert ballast.held
    w.terminal.tap(CARD)
    w.until(lambda: len(w.sessions()) == 2)


def test_a_full_disk_does_not_keep_the_service_from_starting(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The configuration that was good last stays in force for the outside hand."""
    config, state = tmp_path / "station.yaml", tmp_path / "state"
    state.mkdir()
    config.write_text("one")
    in_force.keep(config, state)
    before = (state / in_force.NAME).read_text()

    def full(_: int) -> None:
        raise OSError(errno.ENOSPC, "no space left")

    monkeypatch.setattr(os, "fsync", full)
    config.write_text("two")
    in_force.keep(config, state)
    assert (state / in_force.NAME).read_text() == before
    assert [file.name for file in state.iterdir()] == [in_force.NAME]
    monkeypatch.undo()
    in_force.keep(config, state)
    assert "two" in (state / in_force.NAME).read_text()
    stamp = (state / in_force.NAME).stat().st_mtime_ns
    in_force.keep(config, state)
    assert (state / in_force.NAME).stat().st_mtime_ns == stamp, "nothing is written for nothing"
