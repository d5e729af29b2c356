"""The drain alone: what goes out when, on a clock that is a number."""

from __future__ import annotations

import random
from dataclasses import dataclass, field

import pytest
from support.ledger_rows import KEY, STATION, stamp

from agent.ledger import AckOutcome, AckResult, RecordRow
from agent.trust.chain import GENESIS, seal
from agent.uplink.drain import FETCH_ROWS, MAX_SENT, WINDOW, Drain, DrainTiming, Mode
from agent.uplink.envelope import Message

TIMING = DrainTiming(ack_timeout=1000, probe_first=50, probe=400, probe_max=3000)
CHAIN = "c" * 32


def chain_of(count: int, size: int = 10) -> list[RecordRow]:
    rows, prev = [], GENESIS
    for seq in range(1, count + 1):
        sealed = seal(
            KEY, chain=CHAIN, seq=seq, prev=prev, type="session", station=STATION,
            stamp=stamp(seq), body={"session_id": f"s{seq}", "note": "x" * size},
        )  # fmt: skip
        rows.append(RecordRow.of(sealed, f"s{seq}"))
        prev = sealed.hash
    return rows


@dataclass
class World:
    """The drain between a list that is the ledger and a list that is the wire."""

    rows: list[RecordRow]
    drain: Drain = field(default_factory=lambda: Drain("/abc/S", TIMING))
    now: int = 1000
    mid: int = 0
    wire: list[tuple[int, Message]] = field(default_factory=list)
    acked: set[int] = field(default_factory=set)
    through: int = 0

    def turn(self) -> list[int]:
        """Let everything go out that may; the numbers sent."""
        seqs: list[int] = []
        while (wish := self.drain.wants(self.now)) is not None:
            left = [r for r in self.rows if r.seq > wish.after_seq and r.seq not in self.acked]
            for message in self.drain.fetched(wish, left[: wish.limit], self.now):
                self.mid += 1
                self.drain.sent(self.mid, message, self.now)
                self.wire.append((self.mid, message))
                seqs += message.seqs
        return seqs

    def pubacks(self) -> None:
        for mid, _ in self.wire:
            assert self.drain.puback(mid, True, self.now)
        self.wire.clear()

    def ack(self, through: int, *, holes: tuple[int, ...] = ()) -> None:
        before = len(self.acked)
        self.acked = (self.acked | set(range(1, through + 1))) - set(holes)
        self.through = max(self.through, through)
        newly = max(0, len(self.acked) - before)
        result = AckResult(AckOutcome.APPLIED, self.through, newly, holes)
        self.drain.acked(result, self.now)

    def flow(self) -> None:
        self.drain.up(self.now)
        self.drain.backend(True, self.now)


def test_nothing_goes_out_before_the_link_is_up() -> None:
    world = World(chain_of(3))
    assert world.turn() == []
    assert world.drain.next_deadline() is None
    world.flow()
    assert world.turn() == [1, 2, 3]
    world.drain.down()
    assert world.turn() == []


def test_the_window_and_the_bound_of_unacked_records_hold() -> None:
    world = World(chain_of(MAX_SENT + 200, size=400))
    world.flow()
    sent = world.turn()
    assert len(world.wire) == WINDOW
    while world.wire:
        world.pubacks()
        sent += world.turn()
        assert len(world.wire) <= WINDOW
    assert sent == list(range(1, MAX_SENT + 1))
    world.ack(500)
    more = world.turn()
    assert more[:1] == [MAX_SENT + 1]
    assert max(len(message.seqs) for _, message in world.wire) <= FETCH_ROWS


def test_the_brokers_own_limits_are_kept() -> None:
    world = World(chain_of(300, size=2000))
    world.drain.up(world.now, window=2, max_bytes=20_000)
    world.drain.backend(True, world.now)
    sent: list[int] = []
    while more := world.turn():
        assert len(world.wire) <= 2
        assert all(len(message.payload) <= 20_000 for _, message in world.wire)
        sent += more
        world.pubacks()
    assert sent == list(range(1, 301)), "what did not fit the window at once was left out"


def test_without_an_ack_in_time_one_record_goes_out_again_then_slower_and_slower() -> None:
    world = World(chain_of(30))
    world.flow()
    assert len(world.turn()) == 30
    world.pubacks()
    assert world.drain.next_deadline() == world.now + 1000
    world.now += 999
    assert not world.drain.tick(world.now)
    world.now += 1
    assert world.drain.tick(world.now)
    gaps, last = [], world.now
    assert world.turn() == [1]
    for _ in range(5):
        world.pubacks()
        at = world.drain.next_deadline()
        assert at is not None
        world.now = at - 1
        assert world.turn() == []
        world.now = at
        assert world.turn() == [1]
        gaps.append(world.now - last)
        last = world.now
    assert gaps == [800, 1600, 3000, 3000, 3000]
    assert world.drain.mode is Mode.PROBE
    # Somebody acks the probe: the whole rest flows again.
    world.ack(1)
    assert world.drain.mode is Mode.FLOW
    assert world.turn() == list(range(2, 31))


def test_a_back_end_that_is_away_gets_probes_only_and_its_return_everything() -> None:
    world = World(chain_of(10))
    world.drain.up(world.now)
    assert world.turn() == []
    world.now += 50
    assert world.turn() == [1]
    world.drain.backend(False, world.now)
    world.pubacks()
    world.now += 399
    assert world.turn() == []
    world.now += 1
    assert world.turn() == [1]
    # It says that it is away, but acked the probe: it gets the next one at its interval.
    world.ack(1)
    assert world.drain.mode is Mode.PROBE
    assert world.turn() == []
    world.now += 400
    assert world.turn() == [2]
    world.drain.backend(True, world.now)
    assert world.turn() == [2, 3, 4, 5, 6, 7, 8, 9, 10]


def test_a_broker_without_retained_words_is_drained_once_a_probe_is_acked() -> None:
    world = World(chain_of(5))
    world.drain.up(world.now)
    world.now += 50
    assert world.turn() == [1]
    world.ack(1)
    assert world.turn() == [2, 3, 4, 5]


def test_holes_are_filled_once_although_an_older_ack_names_them_again() -> None:
    world = World(chain_of(20))
    world.flow()
    world.turn()
    world.pubacks()
    world.ack(20, holes=(3, 7))
    assert world.turn() == [3, 7]
    world.ack(20, holes=(3, 7))
    assert world.turn() == []
    world.now += 1000
    world.ack(20, holes=(7,))
    assert world.turn() == [7]
    world.ack(20)
    assert world.turn() == []
    assert world.drain.next_deadline() is None


def test_a_refused_publication_stops_the_flow() -> None:
    world = World(chain_of(200, size=3000))
    world.flow()
    world.turn()
    mid = world.wire[0][0]
    assert not world.drain.puback(mid, False, world.now)
    assert world.drain.puback(9999, False, world.now), "not one of ours"
    assert world.drain.mode is Mode.PROBE
    assert world.turn() == []
    world.pubacks()
    world.now += 400
    assert world.turn() == [1]


def test_a_record_stored_while_the_ledger_was_being_read_is_not_forgotten() -> None:
    rows = chain_of(3)
    world = World(rows[:2])
    world.flow()
    wish = world.drain.wants(world.now)
    assert wish is not None
    assert world.drain.wants(world.now) is None
    world.drain.wake()
    world.drain.sent(1, world.drain.fetched(wish, rows[:2], world.now)[0], world.now)
    world.rows = rows
    assert world.turn() == [3]


def test_rows_read_before_the_link_broke_are_dropped() -> None:
    world = World(chain_of(4))
    world.flow()
    wish = world.drain.wants(world.now)
    assert wish is not None
    world.drain.down()
    world.flow()
    assert world.drain.fetched(wish, world.rows, world.now) == []
    assert world.turn() == [1, 2, 3, 4]


def test_an_ack_that_was_not_applied_changes_nothing() -> None:
    world = World(chain_of(3))
    world.flow()
    world.turn()
    due = world.drain.next_deadline()
    for outcome in (AckOutcome.FORK, AckOutcome.UNKNOWN_CHAIN):
        world.drain.acked(AckResult(outcome, 0), world.now + 5)
    assert world.drain.next_deadline() == due


@pytest.mark.parametrize("attempt", range(30))
def test_whatever_is_lost_everything_arrives_in_the_end(attempt: int) -> None:
    """A random world: messages and acks get lost, links break, the back end goes and comes."""
    seed = random.randrange(2**32)
    rng = random.Random(seed)
    world = World(chain_of(120, size=rng.choice((10, 3000))))
    have: set[int] = set()
    world.flow()
    for step in range(4000):
        calm = step > 400
        for mid, message in list(world.wire):
            if calm or rng.random() < 0.8:
                have |= {seq for seq in message.seqs if calm or rng.random() < 0.7}
            if calm or rng.random() < 0.9:
                world.drain.puback(mid, calm or rng.random() < 0.95, world.now)
                world.wire.remove((mid, message))
        if have and (calm or rng.random() < 0.5):
            top = max(have)
            holes = tuple(seq for seq in range(1, top) if seq not in have)
            world.ack(top, holes=holes)
        chance = 1.0 if calm else rng.random()
        if chance < 0.03:
            world.drain.down()
            world.wire.clear()
            world.flow()
        elif chance < 0.06:
            world.drain.backend(rng.random() < 0.5, world.now)
        elif step == 401:
            world.drain.backend(True, world.now)
        world.now += rng.choice((1, 50, 700))
        world.drain.tick(world.now)
        world.turn()
        assert len(world.drain._sent) <= MAX_SENT
        if len(have) == 120 and len(world.acked) == 120:
            return
    pytest.fail(f"seed {seed}: {120 - len(have)} records never arrived")


def test_another_chain_begins_with_its_own_first_number() -> None:
    """After a gap the new chain goes out first, then what is left of the old one."""
    old, new = chain_of(6), chain_of(2)
    world = World(new)
    world.drain.turn_to("new")
    world.flow()
    assert world.turn() == [1, 2]
    world.pubacks()
    world.ack(2)
    world.rows, world.acked, world.through = old, {1, 2, 3}, 3
    world.drain.turn_to("old")
    assert world.turn() == [4, 5, 6]
    world.drain.turn_to("old")
    assert world.turn() == [], "the same chain: nothing goes out twice"
    # A record that was on its way when the chain changed is confirmed without harm.
    world.drain.turn_to("new")
    world.pubacks()


def test_rows_fetched_before_the_chain_changed_are_not_sent_as_the_new_ones() -> None:
    world = World(chain_of(3))
    world.drain.turn_to("new")
    world.flow()
    wish = world.drain.wants(world.now)
    assert wish is not None
    world.drain.turn_to("old")
    assert world.drain.fetched(wish, world.rows, world.now) == []
    assert world.turn() == [1, 2, 3]
