"""Who is next at the terminal: the decision, the waiting, and a capture that comes while a card is read."""

import asyncio
import itertools
import random
from collections.abc import Callable
from typing import Any

import pytest
from support.virtual_loop import VirtualLoop
from support.zvt_bench import EUR50, HELD, Bench, unavailable
from support.zvt_peer import Manners

from agent.ports import Done, NotSent
from agent.values import Money
from drivers.terminal.zvt.cards import STATUS_EVERY_MS, UNABORTABLE_S_MAX
from drivers.terminal.zvt.turns import (
    STATUS_PATIENCE_MS,
    WAITING_MAX,
    Crowded,
    Rank,
    Turns,
    Turnstile,
)

# The two answers of an abort over the bench's cable, and what follows it.
ABORT_S = 0.2


# --- the decision ---------------------------------------------------------------------------------


def order(turns: Turns, now: int = 0) -> list[Rank]:
    """Lets everybody in, one after the other."""
    found = []
    while (ticket := turns.next(now)) is not None:
        found.append(ticket.rank)
        turns.leave(ticket)
    return found


def test_the_more_urgent_goes_first_whatever_came_first() -> None:
    rng = random.Random(4)
    for _ in range(50):
        ranks = rng.sample(list(Rank), len(Rank))
        turns = Turns()
        for rank in ranks:
            turns.enter(rank, 0)
        assert order(turns) == sorted(Rank), ranks


def test_equals_go_in_the_order_they_came() -> None:
    turns = Turns()
    tickets = [turns.enter(Rank.MONEY, 0) for _ in range(5)]
    for expected in tickets:
        assert turns.next(0) == expected
        assert turns.next(0) is None, "one at a time"
        turns.leave(expected)


def test_a_status_enquiry_waits_for_a_while_and_not_for_ever() -> None:
    """Whoever comes again and again, the enquiry is next before its minute is over."""
    turns = Turns()
    turns.enter(Rank.STATUS, 0)
    now = 0
    for _ in range(1_000):
        turns.enter(Rank.MONEY, now)
        ticket = turns.next(now)
        assert ticket is not None
        turns.leave(ticket)
        if ticket.rank is Rank.STATUS:
            break
        now += 1_000
    assert now == STATUS_PATIENCE_MS
    assert now < STATUS_EVERY_MS


def test_other_care_has_no_such_right() -> None:
    turns = Turns()
    turns.enter(Rank.CARE, 0)
    turns.enter(Rank.SHOW, 10**9)
    ticket = turns.next(10**9)
    assert ticket is not None
    assert ticket.rank is Rank.SHOW


def test_the_queue_is_bounded() -> None:
    turns = Turns()
    tickets = [turns.enter(Rank.SHOW, 0) for _ in range(WAITING_MAX)]
    with pytest.raises(Crowded):
        turns.enter(Rank.MONEY, 0)
    turns.leave(tickets[3])
    turns.enter(Rank.MONEY, 0)
    assert turns.waiting == WAITING_MAX


# --- the waiting ----------------------------------------------------------------------------------


def played(case: Callable[[Turnstile], Any]) -> None:
    loop = VirtualLoop()

    async def main() -> None:
        await case(Turnstile(lambda: int(loop.time() * 1000), lambda: None))

    try:
        loop.run_until_complete(main())
        assert not loop.troubles, loop.troubles
    finally:
        loop.close()


def test_whoever_is_cancelled_leaves_the_turn_to_the_next() -> None:
    """Cancelled while waiting, at the moment of being let in, and inside."""

    async def case(turns: Turnstile) -> None:
        rng = random.Random(7)
        inside = served = 0

        async def visit() -> None:
            nonlocal inside, served
            async with turns.at(rng.choice(list(Rank))):
                inside += 1
                assert inside == 1, "two at once"
                try:
                    await asyncio.sleep(rng.choice((0, 0.001)))
                finally:
                    inside -= 1
                served += 1

        for _ in range(100):
            visits = [asyncio.ensure_future(visit()) for _ in range(8)]
            for visit_ in rng.sample(visits, 4):
                for _ in range(rng.randrange(4)):
                    await asyncio.sleep(0)
                visit_.cancel()
            await asyncio.gather(*visits, return_exceptions=True)
        assert served >= 400
        async with asyncio.timeout(1), turns.at(Rank.CARD):
            pass

    played(case)


def test_whoever_is_cancelled_when_its_turn_comes_lets_the_next_one_in() -> None:
    async def case(turns: Turnstile) -> None:
        leave = asyncio.get_running_loop().create_future()

        async def visit(until: asyncio.Future[None] | None = None) -> None:
            async with turns.at(Rank.SHOW):
                if until is not None:
                    await until

        first = asyncio.ensure_future(visit(leave))
        await asyncio.sleep(0)
        second, third = asyncio.ensure_future(visit()), asyncio.ensure_future(visit())
        await asyncio.sleep(0)
        leave.set_result(None)  # the first goes before the second knows that it is cancelled
        second.cancel()
        async with asyncio.timeout(1):
            await asyncio.gather(first, third)
        assert second.cancelled()

    played(case)


# --- the driver -----------------------------------------------------------------------------------


def test_a_capture_waits_for_a_card_read_no_longer_than_for_its_abort(run: Any) -> None:
    async def case(b: Bench) -> None:
        await b.linked()
        b.peer.holds[HELD.receipt] = 5000
        b.peer.manners = Manners(card_after_s=None, progress=0, host_s=0.0)
        reading = asyncio.ensure_future(b.driver.read_card(15))
        await asyncio.sleep(5)
        asked = asyncio.ensure_future(b.driver.open_holds())
        shown = asyncio.ensure_future(b.driver.show(["x"]))
        status = asyncio.ensure_future(b.driver.identify())
        start = asyncio.get_running_loop().time()
        captured = await b.driver.capture(HELD, EUR50, Money(1295, "EUR"), b.keep)
        assert isinstance(captured, Done)
        # `heard` tells the order; the capture's own dialogue takes as long as the abort.
        assert asyncio.get_running_loop().time() - start < 2 * ABORT_S
        await asyncio.gather(asked, shown, status)
        assert await reading is None
        assert b.heard() == ["06c0", "0623", "0623", "06e0", "0501"]
        assert b.peer.heard[1][3:6] != bytes.fromhex("87ffff"), "the capture was first"

    run(case)


def test_a_terminal_that_takes_no_abort_reads_shortly(run: Any) -> None:
    async def case(b: Bench) -> None:
        await b.linked()
        b.peer.holds[HELD.receipt] = 5000
        b.peer.manners = Manners(card_after_s=None, abortable=False, progress=0, host_s=0.0)
        reading = asyncio.ensure_future(b.driver.read_card(15))
        await asyncio.sleep(0.5)
        start = asyncio.get_running_loop().time()
        captured = await b.driver.capture(HELD, EUR50, Money(1295, "EUR"), b.keep)
        assert isinstance(captured, Done)
        assert asyncio.get_running_loop().time() - start < UNABORTABLE_S_MAX + ABORT_S
        assert await reading is None
        sent = b"".join(b.cable.sent)
        assert b"\x10\x02\x06\xb0" not in sent, "and it is not told to abort"

    run(case, options={"abort": "never"})


def test_too_many_commands_end_at_once(run: Any) -> None:
    async def case(b: Bench) -> None:
        await b.linked()
        shown = [asyncio.ensure_future(b.driver.show(["x"])) for _ in range(WAITING_MAX + 1)]
        await asyncio.sleep(0)
        refused = await b.hold()
        assert isinstance(refused, NotSent)
        assert "commands wait" in refused.why
        for verb in (b.driver.identify, lambda: b.driver.read_card(5), b.driver.last_result):
            with unavailable("TRM-014"):
                await verb()
        await asyncio.gather(*shown)
        assert b.heard() == ["06e0"] * (WAITING_MAX + 1)

    run(case)


def test_the_status_is_asked_every_minute_though_only_cards_are_read(run: Any) -> None:
    async def case(b: Bench) -> None:
        await b.linked()
        b.peer.manners.card_after_s = None
        loop = asyncio.get_running_loop()
        asked = [loop.time()]
        while loop.time() < 300:
            before = b.heard().count("0501")
            await b.driver.read_card(15)
            if b.heard().count("0501") > before:
                asked.append(loop.time() - 15)
        gaps = [later - earlier for earlier, later in itertools.pairwise(asked)]
        assert len(gaps) >= 4
        assert max(gaps) <= STATUS_EVERY_MS / 1000

    run(case)


def test_a_status_enquiry_before_a_card_read_is_not_aborted(run: Any) -> None:
    """06 B0 in it would be against the document; the read is given up instead."""

    async def case(b: Bench) -> None:
        await b.linked()
        b.peer.manners.card_after_s = None
        await asyncio.sleep(59)
        reading = asyncio.ensure_future(b.driver.read_card(15))
        await asyncio.sleep(0.02)
        assert b.heard() == ["0501"]
        await b.driver.show(["x"])
        assert await reading is None
        assert b.heard() == ["0501", "06e0"]
        assert b"\x10\x02\x06\xb0" not in b"".join(b.cable.sent)

    run(case)
