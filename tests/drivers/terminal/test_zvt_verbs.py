"""Every verb that moves money, with every way it can end; and what each sends and reads."""

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any

import pytest
from support.zvt_bench import EUR50, Bench, h
from support.zvt_peer import OK, apdu
from support.zvt_stand import Stand, tell

from agent.ports import (
    CanIncrement,
    CanPay,
    CanRefund,
    CanReleaseForeign,
    CanReverse,
    Done,
    Evidence,
    Goods,
    HoldRef,
    NotSent,
    Reason,
    Refused,
    Unknown,
    Verdict,
)
from agent.values import Money

REF = HoldRef("52523535", 231, 12, 975, "0405", "225558", "750071")
PART, ADD = Money(1295, "EUR"), Money(1000, "EUR")
RESULT = "270004000000001295 490978 870232"
Verb = Callable[[Bench], Awaitable[Any]]


@dataclass(frozen=True)
class Case:
    """A verb, what it must send, and what its evidence is about when the terminal tells RESULT."""

    verb: Verb
    sends: str
    amount_minor: int | None = 1295
    options: dict[str, Any] = field(default_factory=dict)
    driver_waits: bool = False


def authorize(b: Bench) -> Awaitable[Any]:
    return b.driver.authorize(EUR50, "S1", b.keep)


def increment(b: Bench) -> Awaitable[Any]:
    return b.driver.increment(REF, EUR50, ADD, b.keep)


def capture(b: Bench) -> Awaitable[Any]:
    return b.driver.capture(REF, EUR50, PART, b.keep)


def capture_all(b: Bench) -> Awaitable[Any]:
    return b.driver.capture(REF, EUR50, EUR50, b.keep)


def capture_nothing(b: Bench) -> Awaitable[Any]:
    return b.driver.capture(REF, EUR50, Money(0, "EUR"), b.keep)


def release(b: Bench) -> Awaitable[Any]:
    return b.driver.release(REF, EUR50, b.keep)


def release_foreign(b: Bench) -> Awaitable[Any]:
    return b.driver.release_foreign(REF, EUR50, b.keep)


def reverse(b: Bench) -> Awaitable[Any]:
    return b.driver.reverse(REF, PART, b.keep)


def refund(b: Bench) -> Awaitable[Any]:
    return b.driver.refund(REF, PART, b.keep)


def pay(b: Bench) -> Awaitable[Any]:
    return b.driver.pay(PART, "S1", b.keep, lambda _: Goods.ISSUED)


def end_of_day(b: Bench) -> Awaitable[Any]:
    return b.driver.end_of_day(b.keep)


BOOK_TOTAL = {"capture_by": "book_total"}
CASES = {
    "authorize": Case(
        authorize,
        "0622 04000000005000 490978 1940",
        options={"reference_tag": ""},
        driver_waits=True,
    ),
    "increment_added": Case(
        increment,
        "0622 04000000001000 490978 1940 0b000975 3b3735303037310000 06041f060103",
        6295,
        {"extension": "added"},
    ),
    "increment_total": Case(increment, "0622", 1295, {"extension": "total"}),
    "capture": Case(capture, "0623 870231 04000000003705 490978 0b000975"),
    "capture_reversed": Case(capture, "0623", 3705, {"capture_amount": "reversed"}),
    "capture_all": Case(capture_all, "0623 870231 04000000000000 490978 0b000975"),
    "capture_nothing": Case(capture_nothing, "0625 870231 490978 0b000975", 0),
    "book_total": Case(
        capture,
        "0624 870231 04000000001295 490978 0b000975 3b3735303037310000 0c225558 0d0405 2952523535",
        options=BOOK_TOTAL,
    ),
    "book_total_all": Case(capture_all, "0624", options=BOOK_TOTAL),
    "book_total_nothing": Case(capture_nothing, "0625", 0, BOOK_TOTAL),
    "release": Case(release, "0625 870231 490978 0b000975"),
    "release_foreign": Case(
        release_foreign, "0626 04000000005000 490978 0b000975 3b3735303037310000 06041f060102"
    ),
    "reverse": Case(reverse, "0630 123456 870231 04000000001295 490978"),
    "refund": Case(refund, "0631 123456 04000000001295 490978 1940", driver_waits=True),
    "pay": Case(pay, "0601 04000000001295 490978 1940 011e 021e", driver_waits=True),
    "end_of_day": Case(end_of_day, "0650 123456", None),
}


def all_cases(run: Any, what: str, story: Callable[[Bench, Case, str], Awaitable[None]]) -> None:
    chosen = CASES[what]
    control = chosen.sends[:4]

    async def case(b: Bench) -> None:
        await b.linked()
        await story(b, chosen, control)

    run(case, profile="generic", options=chosen.options)


def messages(control: str) -> bytes:
    """A good 04 0F for the command."""
    if control == "0650":
        return apdu("040f", h("2700 60f0f5f3 0231 0234 02 000000002590") + bytes(6 * 7))
    return apdu("040f", h(RESULT))


@pytest.mark.parametrize("what", CASES)
def test_done(run: Any, what: str) -> None:
    async def story(b: Bench, case: Case, control: str) -> None:
        b.peer.scripts[control] = [OK, messages(control), h("060f00")]
        outcome = await case.verb(b)
        assert isinstance(outcome, Done), outcome
        assert b.kept == [outcome.evidence], "kept once, and before the answer"
        if case.amount_minor is not None:
            assert outcome.evidence.amount == Money(case.amount_minor, "EUR")
        assert b.heard() == [control]
        data = h(case.sends)[2:]
        assert not data or b.peer.heard[0] == apdu(control, data)

    all_cases(run, what, story)


@pytest.mark.parametrize("what", CASES)
@pytest.mark.parametrize(
    ("said", "code"),
    [
        ([h("848300")], "83"),
        ([OK, h("061e01b5")], "b5"),
        ([OK, h("040f0427058702"), h("061e0105")], "05"),
    ],
)
def test_refused(run: Any, what: str, said: list[bytes], code: str) -> None:
    async def story(b: Bench, case: Case, control: str) -> None:
        script = [m if m[2] == len(m) - 3 else m[:2] + bytes([len(m) - 3]) + m[3:] for m in said]
        if code == "05":
            script[1] = apdu("040f", h("2705"))
        b.peer.scripts[control] = script
        outcome = await case.verb(b)
        assert isinstance(outcome, Refused), outcome
        assert outcome.code == code
        assert (b.kept, b.heard()) == ([], [control])

    all_cases(run, what, story)


@pytest.mark.parametrize("what", CASES)
@pytest.mark.parametrize("how", ["busy", "unplugged", "unregistered", "host"])
def test_not_sent(run: Any, what: str, how: str) -> None:
    async def story(b: Bench, case: Case, control: str) -> None:
        if how == "unplugged":
            b.cable.unplug()
        busy = {"busy": [h("849c00")], "unregistered": [OK, h("061e016b")]}
        b.peer.scripts[control] = busy.get(how, [OK, h("061e01a1")])
        outcome = await case.verb(b)
        if how == "host" and case.driver_waits:
            assert isinstance(outcome, Refused), "the driver is told at once"
        else:
            assert isinstance(outcome, NotSent), outcome
        expected = {"unplugged": [], "unregistered": [control, "0600"]}.get(how, [control])
        assert (b.kept, b.heard()) == ([], expected)

    all_cases(run, what, story)


@pytest.mark.parametrize("what", CASES)
@pytest.mark.parametrize(
    "how", ["no answer", "no end", "unplugged", "rejected", "aborted after success"]
)
def test_unknown(run: Any, what: str, how: str) -> None:
    async def story(b: Bench, case: Case, control: str) -> None:
        if how == "rejected":

            async def reject() -> Verdict:
                return Verdict.REJECT

            b.keep_does = reject
        b.peer.scripts[control] = {
            "no answer": [],
            "no end": [OK],
            "unplugged": [OK],
            "rejected": [OK, messages(control), h("061e016c")],
            "aborted after success": [OK, messages(control), h("061e016c")],
        }[how]
        pulled = asyncio.ensure_future(b.unplug_after(1 if how == "unplugged" else 10_000))
        outcome = await case.verb(b)
        pulled.cancel()
        assert isinstance(outcome, Unknown), outcome
        assert b.heard() == [control], "and never a second time"
        assert len(b.kept) == (1 if how in ("rejected", "aborted after success") else 0)
        assert b.cable.closed >= 1, "both ends begin anew"

    all_cases(run, what, story)


def test_what_a_profile_does_not_allow_is_no_capability(run: Any) -> None:
    every = (CanIncrement, CanRefund, CanReverse, CanReleaseForeign, CanPay)

    async def has_all(b: Bench) -> None:
        assert all(isinstance(b.driver, ability) for ability in every)

    async def has_few(b: Bench) -> None:
        found = [ability for ability in every if isinstance(b.driver, ability)]
        assert found == [CanReleaseForeign, CanPay]

    run(has_all, options={"extension": "added", "refund": True, "reversal": "last"})
    run(has_few, options={"extension": "none", "refund": False, "reversal": "none"})


def test_what_cannot_be_asked_for(run: Any) -> None:
    bad = [Money(0, "EUR"), Money(-1, "EUR"), Money(5, "USD")]

    async def case(b: Bench) -> None:
        await b.linked()
        d = b.driver
        for amount in bad:
            for verb in (
                lambda a: d.increment(REF, EUR50, a, b.keep),
                lambda a: d.reverse(REF, a, b.keep),
                lambda a: d.refund(REF, a, b.keep),
                lambda a: d.release_foreign(REF, a, b.keep),
                lambda a: d.pay(a, "S1", b.keep, lambda _: Goods.ISSUED),
            ):
                with pytest.raises(ValueError, match="expected an amount"):
                    await verb(amount)
        with pytest.raises(ValueError, match="its trace number and its AID"):
            await d.release_foreign(HoldRef("52523535", 231), EUR50, b.keep)
        refused = await d.increment(HoldRef("52523535", 231), EUR50, ADD, b.keep)
        assert isinstance(refused, Refused)
        assert refused.reason is Reason.NOT_SUPPORTED
        assert b.heard() == []

    run(case, options={"extension": "added"})


def test_an_amount_below_the_smallest_is_not_asked_for(run: Any) -> None:
    async def case(b: Bench) -> None:
        await b.linked()
        for outcome in (
            await b.driver.authorize(Money(99, "EUR"), "S1", b.keep),
            await b.driver.pay(Money(99, "EUR"), "S1", b.keep, lambda _: Goods.ISSUED),
        ):
            assert isinstance(outcome, Refused)
            assert (outcome.reason, outcome.code) == (Reason.AMOUNT, "c8")
        assert b.heard() == []

    run(case, options={"min_amount_minor": 100})


# --- an end of day --------------------------------------------------------------------------------


def test_the_totals_of_a_day(run: Any) -> None:
    async def case(b: Bench) -> None:
        await b.linked()
        brands = h("01 000000001295") + bytes(7) + h("03 000000004500") + bytes(4 * 7)
        result = apdu("040f", h("2700 870235 88000012 2952523535 60f0f5f3 0231 0234") + brands)
        b.peer.scripts["0650"] = [OK, result, h("060f00")]
        outcome = await b.driver.end_of_day(b.keep)
        assert outcome == Done(
            Evidence(
                HoldRef("52523535", 235, 12),
                Money(5795, "EUR"),
                {
                    "receipt_first": 231,
                    "receipt_last": 234,
                    "total_girocard_count": 1,
                    "total_girocard_minor": 1295,
                    "total_mastercard_count": 3,
                    "total_mastercard_minor": 4500,
                },
            )
        )

    run(case)


def test_a_total_that_is_no_amount_makes_no_sum(run: Any) -> None:
    """What was cleared is not known then; a sum of the rest would pass for it."""

    async def case(b: Bench) -> None:
        await b.linked()
        brands = h("01 000000001295") + bytes(7) + h("03 0000000045EE") + bytes(4 * 7)
        result = apdu("040f", h("2700 870235 60f0f5f3 0231 0234") + brands)
        b.peer.scripts["0650"] = [OK, result, h("060f00")]
        outcome = await b.driver.end_of_day(b.keep)
        assert isinstance(outcome, Done)
        assert outcome.evidence.amount is None
        assert outcome.evidence.details["total_mastercard_count"] == 3

    run(case)


def test_a_foreign_hold_freed_without_a_receipt_has_not_the_foreign_number(run: Any) -> None:
    async def case(b: Bench) -> None:
        await b.linked()
        b.peer.scripts["0626"] = [OK, apdu("040f", h("2700 04000000005000 490978")), h("060f00")]
        outcome = await release_foreign(b)
        assert isinstance(outcome, Done)
        assert (outcome.evidence.ref.receipt, REF.receipt) == (0, 231)

    run(case)


@pytest.mark.parametrize("stored", [True, False])
def test_a_day_without_totals_is_closed_all_the_same(run: Any, stored: bool) -> None:
    async def case(b: Bench) -> None:
        await b.linked()
        b.peer.scripts["0650"] = [OK, h("060f00")]

        async def keep() -> Verdict:
            return Verdict.STORED if stored else Verdict.REJECT

        b.keep_does = keep
        outcome = await b.driver.end_of_day(b.keep)
        assert b.kept == [Evidence(HoldRef("52523535", 0), None)]
        assert isinstance(outcome, Done if stored else Unknown)

    run(case)


def test_a_day_against_the_simulator(monkeypatch: pytest.MonkeyPatch) -> None:
    async def story(s: Stand) -> None:
        await s.driver.connect()
        open_one = await s.held()
        refused = await s.driver.end_of_day(s.keep)
        assert isinstance(refused, Refused)
        assert refused.code == "b8"
        assert isinstance(await s.driver.capture(open_one.ref, EUR50, PART, s.keep), Done)
        s.set(eod_statuses=3, eod_t4_min=5)
        closed = await s.driver.end_of_day(s.keep)
        assert isinstance(closed, Done)
        assert closed.evidence.amount == PART
        assert closed.evidence.details["total_visa_count"] == 1
        assert [kind for kind, _ in s.booked()].count("end_of_day") <= 1

    tell(story, monkeypatch)


@pytest.mark.parametrize("verb", ["capture", "release"])
@pytest.mark.parametrize("tid", ["11112222", "52523535"])
def test_a_terminal_that_did_not_make_the_hold_books_nothing(run: Any, verb: str, tid: str) -> None:
    """Swapped while nobody looked: its receipt 231 is somebody else's hold."""

    async def case(b: Bench) -> None:
        await b.linked()
        result = apdu("040f", h(f"2700870232 29{tid} 04000000001295 490978"))
        b.peer.scripts |= {key: [OK, result, h("060f00")] for key in ("0623", "0625")}
        given = (REF, EUR50) if verb == "release" else (REF, EUR50, PART)
        outcome = await getattr(b.driver, verb)(*given, b.keep)
        if tid == REF.terminal_id:
            assert isinstance(outcome, Done) and len(b.kept) == 1
            return
        assert isinstance(outcome, Unknown) and b.kept == []
        assert [e["id"] for e in b.log if e["event"] == "evidence_refused"] == ["TRM-012"]
        assert h("846600") in b"".join(b.cable.sent)

    run(case)


@pytest.mark.parametrize(("told", "taken"), [(4999, True), (5000, True), (5001, False)])
def test_more_than_was_asked_for_is_not_approved(run: Any, told: int, taken: bool) -> None:
    """A result left over from somebody else, or a hold that the driver has not agreed to. Stored with
    another amount than it has, its rest would be charged with the capture."""

    async def case(b: Bench) -> None:
        await b.linked()
        result = apdu("040f", h(f"2700 04{told:012d} 490978 870231"))
        b.peer.scripts |= {key: [OK, result, h("060f00")] for key in ("0601", "0622")}
        verbs = [b.hold]
        if taken:  # the link is made anew after the other
            verbs.append(lambda: b.driver.pay(EUR50, "S1", b.keep, lambda _: Goods.ISSUED))
        for verb in verbs:
            outcome = await verb()
            if taken:
                assert isinstance(outcome, Done)
                assert outcome.evidence.amount == Money(told, "EUR")
            else:
                assert isinstance(outcome, Unknown) and b.kept == []
                assert [e["id"] for e in b.log if "id" in e] == ["TRM-012"]

    run(case)
