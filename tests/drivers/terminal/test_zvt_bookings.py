"""The verbs that move money against the simulator: what the acquirer has booked in the end."""

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import replace
from typing import Any

import pytest
from support.zvt_bench import EUR50, Bench
from support.zvt_stand import Stand, tell

from agent.ports import Done, Evidence, Goods, HoldRef, PartIssued, Refused, Unknown
from agent.values import Money
from drivers.terminal.zvt.goods import GOODS_WAITS_MAX
from drivers.terminal.zvt.goods import Goods as GoodsOfOne
from drivers.terminal.zvt.outcomes import Later
from drivers.terminal.zvt.profile import load_profile

PART, ADD = Money(1295, "EUR"), Money(1000, "EUR")

# --- goods ----------------------------------------------------------------------------------------


def vending(run: Any, story: Callable[[Stand], Awaitable[None]], mp: Any, **options: Any) -> None:
    del run

    async def linked(s: Stand) -> None:
        await s.driver.connect()
        s.sim.verbs.tap("visa")
        await story(s)

    tell(linked, mp, profile="generic", options=options)


def test_goods_that_take_their_time(run: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    async def story(s: Stand) -> None:
        asked: list[float] = []

        def goods(evidence: Evidence) -> Goods:
            assert evidence.amount == EUR50
            assert not s.kept, "nothing is booked before they are out"
            asked.append(s.now())
            return Goods.ISSUED if len(asked) > 3 else Goods.WAITING

        outcome = await s.driver.pay(EUR50, "S1", s.keep, goods)
        assert isinstance(outcome, Done)
        assert len(asked) == 4
        assert s.now() - asked[0] > 1, "the terminal asks every two seconds, at its speed"
        assert s.booked() == [("payment", 5000)]
        assert len(s.kept) == 1

    vending(run, story, monkeypatch)


def test_a_part_of_the_goods(run: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    async def story(s: Stand) -> None:
        for part, tells in ((1295, "books"), (1300, "books_and_tells")):
            s.set(partial_issue=tells)
            s.sim.verbs.tap("visa")
            word = PartIssued(Money(part, "EUR"))
            outcome = await s.driver.pay(EUR50, "S1", s.keep, lambda _, word=word: word)
            assert isinstance(outcome, Done), outcome
            assert outcome.evidence.amount == Money(part, "EUR")
            assert s.kept[-1] == outcome.evidence
        charged = [minor if kind == "payment" else -minor for kind, minor in s.booked()]
        assert [sum(charged[:2]), sum(charged[2:])] == [1295, 1300]

    vending(run, story, monkeypatch)


@pytest.mark.parametrize(
    ("word", "options"),
    [
        (Goods.FAILED, {}),
        (Goods.WAITING, {"vending_wait": False}),
        (PartIssued(PART), {"partial_issue": False}),
        (PartIssued(Money(5001, "EUR")), {}),
        (PartIssued(Money(0, "EUR")), {}),
        (PartIssued(Money(1, "USD")), {}),
    ],
)
def test_goods_that_do_not_come_are_not_charged(
    run: Any, word: Any, options: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    async def story(s: Stand) -> None:
        outcome = await s.driver.pay(EUR50, "S1", s.keep, lambda _: word)
        assert isinstance(outcome, Unknown), outcome
        assert s.kept == []
        await asyncio.sleep(60)
        charged = sum(minor if kind == "payment" else -minor for kind, minor in s.booked())
        assert charged == 0

    vending(run, story, monkeypatch, **options)


def test_goods_that_never_come_end(run: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    async def story(s: Stand) -> None:
        asked = 0

        def goods(_: Evidence) -> Goods:
            nonlocal asked
            asked += 1
            return Goods.WAITING

        outcome = await s.driver.pay(EUR50, "S1", s.keep, goods)
        assert isinstance(outcome, Unknown | Refused), outcome
        assert asked <= GOODS_WAITS_MAX + 1
        assert s.kept == []

    vending(run, story, monkeypatch)


def test_a_terminal_that_asks_for_ever_is_told_no_in_the_end() -> None:
    goods = GoodsOfOne(lambda _: Goods.WAITING, load_profile("generic", {}), 3)
    approved = Evidence(HoldRef("52523535", 231), EUR50)
    words = [goods.decide(approved)[0] for _ in range(5)]
    assert words == [Later(), Later(), Later(), False, False]


# --- against the simulator ------------------------------------------------------------------------


@pytest.mark.parametrize("reports", ["added", "total"])
@pytest.mark.parametrize("receipt", ["new", "same"])
def test_a_hold_that_was_raised(
    reports: str, receipt: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def story(s: Stand) -> None:
        s.set(increment_reports=reports, increment_receipt=receipt)
        await s.driver.connect()
        held = await s.held()
        raised = await s.driver.increment(held.ref, EUR50, ADD, s.keep)
        assert isinstance(raised, Done), raised
        assert raised.evidence.amount == Money(6000, "EUR")
        s.set(increment_at_most_minor=300)
        again = await s.driver.increment(held.ref, Money(6000, "EUR"), ADD, s.keep)
        assert isinstance(again, Done)
        assert again.evidence.amount == Money(6300, "EUR"), "less was approved"
        whole = again.evidence.amount
        open_ones = (await s.driver.open_holds()).receipts
        assert len(open_ones) == 1
        ref = replace(held.ref, receipt=open_ones[0])
        captured = await s.driver.capture(ref, whole, Money(6200, "EUR"), s.keep)
        assert isinstance(captured, Done), captured
        assert captured.evidence.amount == Money(6200, "EUR")

    tell(story, monkeypatch, options={"extension": reports})


@pytest.mark.parametrize("by", ["partial_reversal", "book_total"])
@pytest.mark.parametrize("amount_minor", [0, 1, 1295, 4999, 5000])
def test_a_capture_charges_exactly_its_amount(
    by: str, amount_minor: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def story(s: Stand) -> None:
        s.set(
            trace_required=True,
            aid_required=True,
            partial_reversal=by == "partial_reversal",
            book_total=by == "book_total",
            cancel_amount="reversed",
        )
        await s.driver.connect()
        held = await s.held()
        amount = Money(amount_minor, "EUR")
        captured = await s.driver.capture(held.ref, EUR50, amount, s.keep)
        assert isinstance(captured, Done), captured
        assert captured.evidence.amount == amount
        ended = ("capture", amount_minor) if amount_minor else ("release", 5000)
        assert s.booked() == [("hold", 5000), ended]
        assert (await s.driver.open_holds()).receipts == ()

    tell(story, monkeypatch, profile="generic", options={"capture_by": by})


def test_a_capture_undone_as_a_whole_and_one_given_back(monkeypatch: pytest.MonkeyPatch) -> None:
    async def story(s: Stand) -> None:
        await s.driver.connect()
        held = await s.held()
        captured = await s.driver.capture(held.ref, EUR50, PART, s.keep)
        wrong = await s.driver.reverse(captured.evidence.ref, Money(1294, "EUR"), s.keep)
        assert isinstance(wrong, Refused), "the whole amount, or nothing"
        undone = await s.driver.reverse(captured.evidence.ref, PART, s.keep)
        assert isinstance(undone, Done), undone
        again = await s.driver.reverse(captured.evidence.ref, PART, s.keep)
        assert isinstance(again, Refused)
        s.sim.verbs.tap("visa")
        given = await s.driver.refund(captured.evidence.ref, PART, s.keep)
        assert isinstance(given, Done), given
        assert given.evidence.amount == PART
        assert [minor for _, minor in s.booked()] == [5000, 1295, 1295, 1295]

    tell(story, monkeypatch, profile="generic")


def test_a_hold_of_a_defective_terminal_is_freed(monkeypatch: pytest.MonkeyPatch) -> None:
    async def story(s: Stand) -> None:
        await s.driver.connect()
        s.sim.verbs.foreign_hold("visa", 5000, trace=4711, aid="750075", tid="99998888")
        ref = HoldRef("99998888", 17, trace=4711, aid="750075")
        freed = await s.driver.release_foreign(ref, EUR50, s.keep)
        assert isinstance(freed, Done), freed
        again = await s.driver.release_foreign(ref, EUR50, s.keep)
        assert isinstance(again, Refused)

    tell(story, monkeypatch, profile="generic")


@pytest.mark.parametrize(
    ("form", "receipts", "complete"),
    [("list", 2, True), ("one", 1, False), ("list_only", 2, True), ("no_receipt", 0, False)],
)
def test_open_holds_in_every_form(
    form: str, receipts: int, complete: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def story(s: Stand) -> None:
        await s.driver.connect()
        held = [await s.held(), await s.held()]
        s.set(enquiry=form)
        found = await s.driver.open_holds()
        known = [evidence.ref.receipt for evidence in held]
        assert sorted(found.receipts) == known[:receipts]
        assert found.complete is complete

    tell(story, monkeypatch, profile="generic")


def test_a_terminal_that_tells_no_last_result_is_not_asked(run: Any) -> None:
    async def case(b: Bench) -> None:
        await b.linked()
        assert await b.driver.last_result() is None
        assert b.heard() == []

    run(case, options={"repeat_result": False})
