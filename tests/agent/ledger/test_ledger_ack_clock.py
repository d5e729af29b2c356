"""One signed ack of a back end whose clock was far ahead leaves nothing behind: what it asked for again is
met like any other request, and records are forgotten when their time is over."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from support.ledger_rows import STATION, fill

from agent.ledger import Ledger
from agent.ledger.retention import DAY_MS

NOW_MS = 1_800_000_000_000
AHEAD_MS = NOW_MS + 50 * 365 * DAY_MS
KEEP_MS = 30 * DAY_MS


@pytest.fixture
def ledger(tmp_path: Path) -> Iterator[Ledger]:
    opened = Ledger.open(tmp_path / "ledger.db", STATION)
    fill(opened, 20)
    yield opened
    opened.close()


def ack(
    ledger: Ledger, told_ms: int, through: int, *, day: float | None = 0, **more: object
) -> None:
    """`day`: what our clock says; None while it is not set."""
    now_ms = None if day is None else NOW_MS + round(day * DAY_MS)
    digest = ledger.records(through, 1)[0].hash
    chain = ledger.head().chain
    ledger.apply_ack(chain, through, digest, asked_ms=told_ms, now_ms=now_ms, **more)  # type: ignore[arg-type]


def on(day: float) -> int:
    return NOW_MS + round(day * DAY_MS)


def forgotten(ledger: Ledger, day: float) -> int:
    gone = 0
    while True:
        done = ledger.forget(KEEP_MS, on(day))
        gone += done.sessions
        if done.at is None:
            return gone


def asked_for(ledger: Ledger) -> list[int]:
    return [row.seq for row in ledger.unacked(30)]


def test_a_hole_it_asked_for_is_met_by_the_next_ack(ledger: Ledger) -> None:
    ack(ledger, AHEAD_MS, 20, holes=[5])
    assert asked_for(ledger) == [5]
    ack(ledger, on(0.001), 20, day=0.001)
    assert asked_for(ledger) == []


def test_while_our_clock_is_not_set_it_takes_one_ack_more(ledger: Ledger) -> None:
    """A single one could be an old ack that arrives late."""
    ack(ledger, AHEAD_MS, 20, day=None, holes=[5])
    ack(ledger, on(0.001), 20, day=None)
    assert asked_for(ledger) == [5]
    ack(ledger, on(0.002), 20, day=None)
    assert asked_for(ledger) == []


def test_an_ack_of_the_same_day_that_comes_late_cancels_nothing(ledger: Ledger) -> None:
    ack(ledger, on(0.5), 20, day=0.5, holes=[5])
    for _ in range(3):
        ack(ledger, on(0), 20, day=0.5)
    assert asked_for(ledger) == [5]


@pytest.mark.parametrize("day", [0, None])
def test_what_it_refused_can_be_asked_for_again(ledger: Ledger, day: float | None) -> None:
    ack(ledger, AHEAD_MS, 20, day=day, refused=[(5, "schema")])
    assert asked_for(ledger) == []
    ack(ledger, on(0.001), 20, day=day, holes=[5])
    assert asked_for(ledger) == [5]


@pytest.mark.parametrize("day", [0, None])
def test_records_are_forgotten_in_time(ledger: Ledger, day: float | None) -> None:
    ack(ledger, AHEAD_MS, 10, day=day)
    for later in range(1, 60):
        fill(ledger, 1)
        ack(ledger, on(later), ledger.head().seq, day=later)
    assert forgotten(ledger, 31.5) == 21, "what the first good ack said was there"
    assert forgotten(ledger, 59) > 20


def test_alone_it_lets_nothing_go_early(ledger: Ledger) -> None:
    """Both clocks have to agree, also after it."""
    ack(ledger, on(0), 10)
    ack(ledger, AHEAD_MS, 20, day=1)
    assert forgotten(ledger, 400) == 0, "the back end's clock has not come so far"
