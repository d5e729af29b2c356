"""Nothing is forgotten before a signed ack covers it and its time is over; then the file grows no further."""

from __future__ import annotations

import random
from pathlib import Path

import pytest
from support.ledger_rows import KEY, STATION, event, record

from agent.ledger import AckOutcome, Ledger, LedgerError
from agent.ledger.retention import BATCH, DAY_MS
from agent.trust.chain import verify_records
from agent.trust.keys import KeySet

KEEP_MS = 30 * DAY_MS
NOW_MS = 1_800_000_000_000


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "ledger.db"


@pytest.fixture
def ledger(path: Path):
    opened = Ledger.open(path, STATION)
    yield opened
    opened.close()


def sell(ledger: Ledger, name: str, *, open: bool = False, events: int = 4) -> None:
    """A session of some events, the last with its record."""
    for n in range(1, events + 1):
        last = n == events
        ledger.append(
            event(name, n, note="x" * 250),
            evse="E1",
            terminal="t1",
            open=open or not last,
            record=record(ledger, name, note="y" * 700) if last else None,
            card_mac=b"m" * 32 if n == 1 else None,
        )


def ack(ledger: Ledger, day: float, through: int | None = None, **more: object) -> AckOutcome:
    head = ledger.head()
    seq = head.seq if through is None else through
    digest = ledger.records(seq, 1)[0].hash
    time_ms = NOW_MS + round(day * DAY_MS)
    return ledger.apply_ack(head.chain, seq, digest, asked_ms=time_ms, **more).outcome  # type: ignore[arg-type]


def forget(ledger: Ledger, day: float) -> int:
    """All that may go when the station's clock says `day`."""
    gone = 0
    while True:
        done = ledger.forget(KEEP_MS, NOW_MS + round(day * DAY_MS))
        gone += done.sessions
        if done.at is None:
            return gone


def names(ledger: Ledger) -> list[str]:
    return [row.id for row in reversed(ledger.sessions(limit=1000))]


def consistent(ledger: Ledger) -> None:
    assert ledger._db.execute("PRAGMA foreign_key_check").fetchall() == []
    assert ledger._db.execute("PRAGMA integrity_check").get == "ok"


def test_acked_and_old_enough_and_not_before(ledger: Ledger) -> None:
    for n in range(3):
        sell(ledger, f"s{n}")
    assert forget(ledger, 400) == 0  # old, but no ack
    ack(ledger, 0)
    assert forget(ledger, 400) == 0  # acked, but by the back end's clock a moment ago
    sell(ledger, "later")
    ack(ledger, 29)
    assert forget(ledger, 400) == 0
    ack(ledger, 30)
    assert forget(ledger, 29) == 0  # our own clock does not agree
    assert forget(ledger, 30) == 3
    assert names(ledger) == ["later"]
    assert ledger.events("s1") == [] and ledger.card_mac("s1") is None
    assert [row.seq for row in ledger.records(1, 10)] == [4]
    consistent(ledger)


def test_the_time_runs_from_the_ack_not_from_the_session(ledger: Ledger) -> None:
    """A month offline is a month longer: the back end may ask again within the time it had the record."""
    sell(ledger, "old")
    sell(ledger, "older")
    ack(ledger, 100)
    ack(ledger, 129)
    assert forget(ledger, 129) == 0
    ack(ledger, 130)
    assert forget(ledger, 130) == 1


def test_what_is_open_asked_for_or_refused_stays(ledger: Ledger) -> None:
    for name in ("a", "open", "asked", "refused", "z"):
        sell(ledger, name, open=name == "open")
    sell(ledger, "newest")
    ack(ledger, 0, holes=[3], refused=[(4, "schema")])
    sell(ledger, "n2")
    ack(ledger, 31, holes=[3], refused=[])
    assert forget(ledger, 31) == 3
    assert names(ledger) == ["open", "asked", "refused", "n2"]
    # The one that was asked for is acked now, the open one ends.
    ledger.append(
        event("open", 5),
        evse="E1",
        terminal="t1",
        open=False,
        record=record(ledger, "open", "settlement"),
    )
    ack(ledger, 32)
    ack(ledger, 63)
    sell(ledger, "n3")
    ack(ledger, 64)
    assert forget(ledger, 64) >= 2
    assert "asked" not in names(ledger)
    assert "refused" in names(ledger)  # parked: for people
    consistent(ledger)


def test_the_newest_record_stays_for_the_next_ones_hash(ledger: Ledger) -> None:
    sell(ledger, "only")
    ack(ledger, 0)
    ack(ledger, 99)
    assert forget(ledger, 99) == 0
    head = ledger.head()
    assert head.seq == 1
    sell(ledger, "second")
    ack(ledger, 100)
    ack(ledger, 131)
    assert forget(ledger, 131) == 1
    assert (names(ledger), ledger.head().seq) == (["second"], 2)


def test_an_ack_or_a_wish_for_what_is_forgotten_does_no_harm(ledger: Ledger) -> None:
    for n in range(6):
        sell(ledger, f"s{n}")
    early = ledger.records(2, 1)[0]
    ack(ledger, 0)
    sell(ledger, "last")
    ack(ledger, 31)
    assert forget(ledger, 31) == 6
    chain = ledger.head().chain
    late = ledger.apply_ack(chain, 2, early.hash, asked_ms=NOW_MS)
    assert late.outcome is AckOutcome.APPLIED
    wish = ledger.apply_ack(chain, 7, ledger.head().hash, [1, 3], asked_ms=NOW_MS + 40 * DAY_MS)
    assert (wish.outcome, wish.holes) == (AckOutcome.APPLIED, ())
    assert ledger.unacked(10) == []
    other = ledger.apply_ack(chain, 7, "ab" * 32, asked_ms=NOW_MS + 41 * DAY_MS)
    assert other.outcome is AckOutcome.FORK
    consistent(ledger)


def test_within_its_time_everything_can_be_asked_for_again(ledger: Ledger) -> None:
    for n in range(6):
        sell(ledger, f"s{n}")
    ack(ledger, 0)
    ack(ledger, 29)
    assert forget(ledger, 29) == 0
    ack(ledger, 29.5, holes=[1, 2, 3])
    assert [row.seq for row in ledger.unacked(10)] == [1, 2, 3]
    report = verify_records([row.jws for row in ledger.unacked(10)], KeySet([KEY.public]))
    assert report.ok


def test_batches_are_small_and_a_restart_in_between_loses_nothing(path: Path) -> None:
    ledger = Ledger.open(path, STATION)
    for n in range(3 * BATCH):
        sell(ledger, f"s{n}", events=2)
    ack(ledger, 0)
    sell(ledger, "last")
    ack(ledger, 31)
    done = ledger.forget(KEEP_MS, NOW_MS + 31 * DAY_MS)
    assert (done.sessions, done.at is None) == (BATCH, False)
    ledger.close()
    ledger = Ledger.open(path, STATION)
    assert len(names(ledger)) == 2 * BATCH + 1
    assert forget(ledger, 31) == 0  # after a start an ack must come first
    ack(ledger, 31.1)
    assert forget(ledger, 31) == 2 * BATCH
    consistent(ledger)
    ledger.close()


def test_the_file_grows_no_further_than_what_is_kept(path: Path) -> None:
    """A day's sessions again and again: the pages of what is forgotten are used again."""
    seed = random.randrange(2**32)
    rng = random.Random(seed)
    ledger = Ledger.open(path, STATION)
    sizes = []
    for day in range(90):
        for n in range(rng.randint(3, 5)):
            sell(ledger, f"d{day}n{n}", events=rng.randint(3, 6))
        ack(ledger, day)
        forget(ledger, day)
        ledger.checkpoint()
        sizes.append(path.stat().st_size)
    print(f"seed {seed}: {sizes[30]} bytes after 30 days, {sizes[-1]} after 90")
    assert sizes[35] > 3 * sizes[5]
    assert sizes[-1] < 1.25 * sizes[40], f"seed {seed}"
    assert 30 * 3 <= len(names(ledger)) <= 32 * 5
    consistent(ledger)
    ledger.close()


def test_marks_of_acks_are_one_a_day_and_go_with_their_time(ledger: Ledger) -> None:
    for step in range(200):
        sell(ledger, f"s{step}", events=1)
        ack(ledger, step / 4)
    count = "SELECT count(*) FROM ack_mark"
    assert ledger._db.execute(count).get == 50
    forget(ledger, 50)
    assert ledger._db.execute(count).get == 31


def test_a_name_that_was_forgotten_can_be_used_again_but_not_while_it_is_kept(
    ledger: Ledger,
) -> None:
    sell(ledger, "x")
    sell(ledger, "y")
    with pytest.raises(LedgerError, match="LED-010"):
        sell(ledger, "x")
    ack(ledger, 0)
    sell(ledger, "z")
    ack(ledger, 31)
    forget(ledger, 31)
    sell(ledger, "x")
    assert len(ledger.events("x")) == 4
