"""A damaged ledger is set aside whole; what can be proven goes on in a new chain that begins with a gap."""

from __future__ import annotations

import random
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from support.damage import (
    PAGE,
    by_name,
    crash,
    cut_at,
    log_of,
    overwrite,
    pages_of,
    plan,
    stop,
    zeroed,
)
from support.ledger_rows import KEY, STATION, event, fill, record, stamp

from agent.ledger import (
    AckOutcome,
    Ledger,
    LedgerDamaged,
    LedgerError,
    LedgerForeign,
    UpkeepRow,
    rescue,
)
from agent.trust import jws
from agent.trust.chain import record_hash, verify_records
from agent.trust.keys import KeySet

PAST = 60  # closed sessions with a record each


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "ledger.db"


def busy(path: Path) -> Ledger:
    """Closed sessions, one that holds a card, one with a hold that nobody knows the end of."""
    ledger = Ledger.open(path, STATION, new_chain=lambda: "c" * 32)
    fill(ledger, PAST)
    head = ledger.head()
    ledger.apply_ack(
        head.chain, 20, ledger.records(20, 1)[0].hash, [], [(7, "schema")], asked_ms=50
    )
    ledger.meta_set("colour", "blue")
    ledger.add_upkeep(UpkeepRow("t1", "end_of_day", "intent", {}, stamp(1)))
    for n in range(1, 6):
        ledger.append(
            event("charging", n, f"step{n}", note="x" * 300),
            evse="E1",
            terminal="t1",
            open=True,
            card_mac=b"mac" if n == 1 else None,
        )
    ledger.append(
        event("unclear", 1, state="capturing", receipt=231),
        evse="E2",
        terminal="t1",
        open=True,
        record=record(ledger, "unclear"),
    )
    return ledger


Harm = Callable[[Path, Ledger], None]


def zero_pages(path: Path, ledger: Ledger) -> None:
    events = pages_of(ledger, "event")
    records = pages_of(ledger, "record")
    stop(ledger)
    zeroed(path, [events[1], events[2], records[5]])


def cut_short(path: Path, ledger: Ledger) -> None:
    stop(ledger)
    log_of(path).write_bytes(b"")
    cut_at(path, path.stat().st_size // PAGE * 2 // 3)


def no_header(path: Path, ledger: Ledger) -> None:
    stop(ledger)
    overwrite(path, 1, random.Random(1).randbytes(PAGE))


def broken_index(path: Path, ledger: Ledger) -> None:
    index = pages_of(ledger, "sqlite_autoindex_session_1")
    stop(ledger)
    overwrite(path, index[0], b"\xa5" * PAGE)


def index_without_rows(path: Path, ledger: Ledger) -> None:
    """Its structure is whole: only a comparison with the table shows that it is not."""
    index = pages_of(ledger, "session_open")
    stop(ledger)
    overwrite(path, index[-1], b"\x0a\0\0\0\0\x04\0\0")


def no_log(path: Path, ledger: Ledger) -> None:
    ledger.checkpoint()
    ledger.append(event("charging", 6), evse="E1", terminal="t1", open=True)
    crash(ledger)
    log_of(path).unlink()


def broken_log(path: Path, ledger: Ledger) -> None:
    ledger.checkpoint()
    for n in range(6, 12):
        ledger.append(event("charging", n), evse="E1", terminal="t1", open=True)
    crash(ledger)
    with log_of(path).open("r+b") as file:
        file.seek(32 + 24 + 100)
        file.write(b"\xff\xff\xff")


HARMS = [zero_pages, cut_short, no_header, broken_index, index_without_rows, no_log, broken_log]


def rescued(path: Path) -> tuple[Ledger, dict[str, bytes]]:
    """The new ledger, and the files that were set aside as they were before."""
    before = {"": path.read_bytes()}
    if log_of(path).exists() and log_of(path).stat().st_size:
        before["-wal"] = log_of(path).read_bytes()
    kept = rescue.set_aside(path)
    assert not path.exists() and not log_of(path).exists()
    rescue.replace(path, kept, plan(set_aside=kept.name))
    after = {suffix: Path(f"{kept}{suffix}").read_bytes() for suffix in before}
    assert after == before, "what is set aside is never written to"
    return Ledger.open(path, STATION), before


@pytest.mark.parametrize("harm", HARMS, ids=lambda harm: harm.__name__)
def test_damage_is_seen_and_what_can_be_proven_goes_on(path: Path, harm: Harm) -> None:
    harm(path, busy(path))
    with pytest.raises(LedgerDamaged, match=r"LED-003|LED-016"):
        Ledger.open(path, STATION)
    ledger, _ = rescued(path)
    head = ledger.head()
    assert (head.chain, head.seq) == ("d" * 32, 1)
    (gap,) = ledger.records(1, 10)
    told = jws.verify(gap.jws, KeySet([KEY.public]), jws.RECORD_TYP)
    assert (gap.type, told["type"], told["reason"]) == ("gap", "gap", "damaged")
    assert told["set_aside"] == "ledger.db.damaged-1"
    if harm is not cut_short:
        assert (told["old_chain"], told["old_seq"]) == ("c" * 32, PAST + 1)
    # Every record that is there verifies, and every one that is not is named as lost.
    old = ledger.records(1, 1000, "c" * 32)
    report = verify_records([row.jws for row in old], KeySet([KEY.public]), partial=True)
    assert report.ok, report.json()
    lost = {n for first, last in told["lost"] for n in range(first, last + 1)}
    assert {row.seq for row in old} == set(range(1, told["old_seq"] + 1)) - lost
    assert len(old) >= PAST // 3
    # Open sessions are listed as salvaged, with every event that could be read; closed ones are history.
    opened = {row.id: row for row in ledger.sessions(open_only=True)}
    if harm is not cut_short:
        assert set(opened) == {"charging", "unclear"}
        assert [row.n for row in ledger.events("charging")] == [1, 2, 3, 4, 5]
        assert ledger.card_mac("charging") == b"mac"
        assert ledger.meta_get("colour") == "blue"
        assert len(ledger.upkeep("end_of_day")) == 1
    assert all(row.salvaged for row in opened.values())
    assert sum(not row.open for row in ledger.sessions(limit=1000)) >= PAST // 3
    # It is a ledger like any other.
    last = record(ledger, "next")
    ledger.append(event("next", 1), evse="E1", terminal="t1", open=False, record=last)
    assert ledger.head().seq == 2
    ledger.close()
    again = Ledger.open(path, STATION)
    assert again.head().seq == 2
    again.close()


def test_what_each_harm_costs(path: Path) -> None:
    """One page of events or records costs what stood on it, and nothing else."""
    zero_pages(path, busy(path))
    ledger, _ = rescued(path)
    (gap,) = ledger.records(1, 10)
    told = jws.verify(gap.jws, KeySet([KEY.public]), jws.RECORD_TYP)
    lost = sum(last - first + 1 for first, last in told["lost"])
    assert 1 <= lost <= 2
    assert told["records"] == PAST + 1 - lost
    assert told["open"] == ["charging", "unclear"]
    ledger.close()


def test_commits_of_the_log_are_salvaged_too(path: Path) -> None:
    """Nothing was moved into the file since the start: all there is stands in the log."""
    ledger = busy(path)
    crash(ledger)
    overwrite(path, 1, b"\0" * 100)
    ledger, before = rescued(path)
    assert "-wal" in before
    assert len(ledger.records(1, 1000, "c" * 32)) == PAST + 1
    assert len(ledger.events("charging")) == 5
    ledger.close()


def test_commits_of_a_log_without_its_header_are_salvaged_too(path: Path) -> None:
    ledger = busy(path)
    crash(ledger)
    with log_of(path).open("r+b") as file:
        file.write(bytes(32))
    with pytest.raises(LedgerDamaged, match=r"LED-016.*destroyed"):
        Ledger.open(path, STATION)
    ledger, _ = rescued(path)
    assert len(ledger.records(1, 1000, "c" * 32)) == PAST + 1
    assert len(ledger.events("charging")) == 5
    ledger.close()


def test_a_session_whose_row_is_lost_is_found_by_its_events_and_records(path: Path) -> None:
    ledger = busy(path)
    rows = pages_of(ledger, "session")
    stop(ledger)
    zeroed(path, rows)
    again, _ = rescued(path)
    names = {row.id: row for row in again.sessions(limit=1000)}
    assert names["unclear"].open and names["unclear"].salvaged
    assert names["s1"].open  # its last state is not final for this judge
    without_record = [row for name, row in names.items() if name.startswith("LOST-")]
    assert len(without_record) == 1 and without_record[0].salvaged
    assert len(again.events(without_record[0].id)) == 5
    again.close()


def test_closed_sessions_whose_rows_are_lost_stay_closed_if_their_events_say_so(path: Path) -> None:
    ledger = Ledger.open(path, STATION)
    for n, (state, last) in enumerate(
        (("holding", False), ("charging", False), ("closed", True)), 1
    ):
        signed = record(ledger, "s1") if last else None
        ledger.append(
            event("s1", n, state=state), evse="E1", terminal="t1", open=not last, record=signed
        )
    rows = pages_of(ledger, "session")
    stop(ledger)
    zeroed(path, rows)
    again, _ = rescued(path)
    (row,) = again.sessions()
    assert (row.id, row.open, row.salvaged, row.terminal) == ("s1", False, False, "t1")
    again.close()


def test_a_record_that_was_changed_is_no_record(path: Path) -> None:
    ledger = busy(path)
    text = ledger.records(5, 1)[0].jws
    ledger._db.execute(
        "UPDATE record SET jws = ? WHERE id % 1048576 = 5", (text[:-8] + "AAAAAAA" + text[-1],)
    )
    crash(ledger)
    again, _ = rescued(path)
    (gap,) = again.records(1, 10)
    told = jws.verify(gap.jws, KeySet([KEY.public]), jws.RECORD_TYP)
    assert told["lost"] == [[5, 5]]
    assert again.records(5, 1, "c" * 32)[0].seq == 6
    again.close()


def test_a_record_that_our_key_did_not_sign_is_no_record(path: Path) -> None:
    """Its hash is that of its text, its number is its place; only the signature is not ours."""
    ledger = busy(path)
    row = ledger.records(6, 1)[0]
    first = ledger.records(1, 1)[0]
    forged = row.jws.rpartition(".")[0] + "." + first.jws.rpartition(".")[2]
    ledger._db.execute(
        "UPDATE record SET jws = ?, hash = ? WHERE id % 1048576 = 6",
        (forged, bytes.fromhex(record_hash(forged))),
    )
    crash(ledger)
    again, _ = rescued(path)
    assert forged not in {r.jws for r in again.every_record(0, 1000)[0]}
    assert len(again.records(1, 1000, "c" * 32)) == PAST
    again.close()


def test_what_was_not_delivered_goes_out_after_the_gap_record(path: Path) -> None:
    """The back end learns of the gap first; then the old chain is taken up where it was acked."""
    zero_pages(path, busy(path))
    ledger, _ = rescued(path)
    status = ledger.outbox_status()
    assert status.chain == "d" * 32
    assert [(row.chain, row.type) for row in ledger.unacked(100)] == [("d" * 32, "gap")]
    head = ledger.head()
    ledger.apply_ack(head.chain, 1, head.hash, asked_ms=100)
    status = ledger.outbox_status()
    assert status.chain == "c" * 32
    old = ledger.unacked(100)
    assert {row.chain for row in old} == {"c" * 32} and len(old) == status.unacked
    assert all(row.seq > 20 for row in old)
    assert ledger.outbox_status().parked == 1
    # The back end may have more of the old chain than was salvaged; it may ask for what is lost.
    done = ledger.apply_ack("c" * 32, PAST + 9, "ab" * 32, [PAST + 3, 4], asked_ms=101)
    assert (done.outcome, done.acked_through) == (AckOutcome.APPLIED, PAST + 1)
    assert [row.seq for row in ledger.unacked(100)] == [4]
    assert ledger.unacked(100)[0].chain == "c" * 32
    ledger.close()


def test_a_lost_ledger_begins_with_a_gap_that_names_nothing(path: Path) -> None:
    rescue.replace(path, None, plan(reason="lost", set_aside=None))
    ledger = Ledger.open(path, STATION)
    (gap,) = ledger.records(1, 10)
    told = jws.verify(gap.jws, KeySet([KEY.public]), jws.RECORD_TYP)
    assert (told["reason"], told["old_chain"], told["old_seq"], told["lost"]) == (
        "lost",
        None,
        None,
        [],
    )
    assert ledger.sessions() == []
    ledger.close()


def test_a_second_damage_is_set_aside_beside_the_first(path: Path) -> None:
    for number in (1, 2):
        ledger = Ledger.open(path, STATION)
        for name in (f"a{number}", f"b{number}"):
            signed = record(ledger, name)
            ledger.append(event(name, 1), evse="E", terminal="t", open=False, record=signed)
        stop(ledger)
        overwrite(path, 1, bytes(PAGE))
        kept = rescue.set_aside(path)
        assert kept.name == f"ledger.db.damaged-{number}"
        rescue.replace(path, kept, plan(set_aside=kept.name, chain=str(number) * 32))
    ledger = Ledger.open(path, STATION)
    assert len({row.chain for row in ledger.every_record(0, 100)[0]}) == 3
    assert len(ledger.sessions()) == 4
    ledger.close()


@pytest.mark.parametrize("stop", range(12))
def test_a_rescue_that_is_cut_anywhere_is_taken_up_by_the_next_start(
    path: Path, monkeypatch: pytest.MonkeyPatch, stop: int
) -> None:
    """Killed at each renaming, removal and sync of a directory in turn."""
    no_header(path, busy(path))
    original = path.read_bytes()
    steps = 0

    class Killed(BaseException):
        pass

    def counted(name: str) -> None:
        nonlocal steps
        real = getattr(Path, name)

        def step(self: Path, *args: object, **named: object) -> object:
            nonlocal steps
            if steps == stop:
                raise Killed
            steps += 1
            return real(self, *args, **named)

        monkeypatch.setattr(Path, name, step)

    with monkeypatch.context():
        for name in ("rename", "unlink"):
            counted(name)
        try:
            kept = rescue.set_aside(path)
            rescue.replace(path, kept, plan(set_aside=kept.name))
        except Killed:
            pass
        monkeypatch.undo()
    # The next start.
    source = rescue.interrupted(path)
    if source is None and not rescue.exists(path):
        pytest.fail("neither a ledger nor one that was set aside")
    if source is None:
        try:
            Ledger.open(path, STATION).close()
        except LedgerError:
            source = rescue.set_aside(path)
    if source is not None:
        rescue.replace(path, source, plan(set_aside=source.name))
    ledger = Ledger.open(path, STATION)
    assert {row.id for row in ledger.sessions(open_only=True)} == {"charging", "unclear"}
    assert ledger.records(1, 1)[0].type == "gap"
    ledger.close()
    asides = [p for p in path.parent.glob("ledger.db.damaged-*") if not p.name.endswith("-wal")]
    assert [p.name for p in asides] == ["ledger.db.damaged-1"]
    assert asides[0].read_bytes() == original


def test_random_damage_never_stops_the_rescue_and_no_record_is_invented(
    path: Path, tmp_path: Path
) -> None:
    seed = random.randrange(2**32)
    print(f"seed {seed}")
    rng = random.Random(seed)
    ledger = busy(path)
    ledger.checkpoint()
    truth_records = {row.jws for row in ledger.records(1, 1000)}
    crash(ledger)
    log_of(path).write_bytes(b"")
    whole = path.read_bytes()
    for round_ in range(12):
        content = bytearray(whole)
        for _ in range(rng.randint(1, 12)):
            at = rng.randrange(len(content))
            content[at : at + rng.choice((1, 4, 64, 1500))] = rng.randbytes(
                rng.choice((1, 4, 64, 1500))
            )
        source = tmp_path / f"r{round_}"
        source.write_bytes(content)
        target = tmp_path / f"t{round_}.db"
        rescue.replace(target, source, plan())
        try:
            made = Ledger.open(target, STATION)
        except LedgerForeign:
            # Its name was hit, and no record is left that says whose it is: see the next test.
            made = Ledger.open(target, "")
            assert [r.type for r in made.every_record(0, 1000)[0]] == ["gap"]
        assert {r.jws for r in made.every_record(0, 1000)[0] if r.type != "gap"} <= truth_records
        assert all(row.salvaged for row in made.sessions(open_only=True, limit=1000))
        assert made.records(1, 1)[0].type == "gap"
        made.close()


@pytest.mark.parametrize("signed", [True, False])
def test_a_stations_name_that_was_damaged(path: Path, tmp_path: Path, signed: bool) -> None:
    """Bytes in the middle of the name break no page; our own signed records say whose ledger it is."""
    ledger = busy(path) if signed else Ledger.open(path, STATION)
    ledger.checkpoint()
    crash(ledger)
    content = path.read_bytes()
    assert content.count(STATION.encode()) >= 1
    source, target = tmp_path / "source", tmp_path / "target.db"
    source.write_bytes(
        content.replace(b"station" + STATION.encode(), b"stationXX" + STATION[2:].encode())
    )
    assert source.read_bytes() != content
    rescue.replace(target, source, plan())
    if signed:
        Ledger.open(target, STATION).close()
    else:
        with pytest.raises(LedgerForeign):
            Ledger.open(target, STATION)


def test_an_emptied_file_is_not_taken_for_a_new_one(path: Path) -> None:
    ledger = busy(path)
    crash(ledger)
    cut_at(path, 0)
    assert rescue.emptied(path)
    shutil.copy(log_of(path), path.with_name("kept"))
    again, _ = rescued(path)
    assert len(again.events("charging")) == 5
    again.close()


def test_the_judge_of_the_tests_refuses_a_gap() -> None:
    assert by_name("s", [event("s", 2)]) is None
