"""The terminal port. Verbs that move money: how each can end."""

import asyncio
from typing import Any

import pytest
from support.zvt_bench import EUR50, HELD, Bench, h, unavailable
from support.zvt_peer import OK, apdu, frame

from agent.ports import (
    Done,
    Evidence,
    HoldRef,
    NotSent,
    Reason,
    Refused,
    Unknown,
    Verdict,
)
from agent.values import Money
from drivers.terminal.zvt import drive as zvt_drive


def test_hold_capture_and_release(run: Any) -> None:
    async def case(b: Bench) -> None:
        await b.linked()
        held = await b.hold()
        assert isinstance(held, Done)
        assert held.evidence == Evidence(HoldRef("52523535", 231, trace=931), EUR50)
        assert b.peer.heard[-1] == h(
            "06221a 04000000005000 490978 1940 060ce90a1f620241431f63025331"
        )
        assert (await b.driver.open_holds()).receipts == (231,)
        captured = await b.driver.capture(held.evidence.ref, EUR50, Money(1295, "EUR"), b.keep)
        assert b.peer.heard[-1] == h("06230f 870231 04000000003705 490978 1940")
        assert captured == Done(Evidence(HoldRef("52523535", 232, trace=932), Money(1295, "EUR")))
        last = await b.driver.last_result()
        assert last is not None
        assert (last.result, last.evidence) == (0, captured.evidence)
        again = await b.hold()
        assert isinstance(again, Done)
        released = await b.driver.release(again.evidence.ref, EUR50, b.keep)
        assert isinstance(released, Done)
        assert b.peer.heard[-1] == h("0625088702334909781940")
        assert (await b.driver.open_holds()).receipts == ()
        assert len(b.kept) == 4

    run(case)


def test_the_traces_of_a_generic_terminal(run: Any) -> None:
    async def case(b: Bench) -> None:
        await b.linked()
        b.peer.scripts["0625"] = [OK, h("061e01b8")]
        await b.driver.release(HELD, EUR50, b.keep)
        assert b.peer.heard[-1] == h("06250a8702314909780b000931")
        await b.driver.release(HoldRef("52523535", 8, trace=10015008), EUR50, b.keep)
        assert b.peer.heard[-1] == h("06250f8700084909780607 1f2b0410015008")
        await b.driver.release(HoldRef("52523535", 8), EUR50, b.keep)
        assert b.peer.heard[-1] == h("0625068700084909 78")

    run(case, profile="generic")


@pytest.mark.parametrize(
    ("answers", "expected"),
    [
        (
            [h("848300")],
            Refused(Reason.NOT_SUPPORTED, "83", "function not possible", "not_possible"),
        ),
        ([h("841e036f0978")], Refused(Reason.OPERATOR, "6f", "wrong currency", "operator")),
        ([h("849c00")], NotSent("not now: 9c, please wait")),
        ([h("84e000")], NotSent("not now: e0, remote maintenance")),
        (
            [OK, h("061e016c")],
            Refused(Reason.CARD_REMOVED, "6c", "aborted, or no card in time", "card_removed"),
        ),
        (
            [OK, h("040f022705"), h("061e0105")],
            Refused(Reason.DECLINED, "05", "declined by the issuer", "declined"),
        ),
        (
            [OK, h("060f022705")],
            Refused(Reason.DECLINED, "05", "declined by the issuer", "declined"),
        ),
        (
            [OK, h("040f022713"), h("060f00")],
            Refused(Reason.PIN_REQUIRED, "13", "contactless limit reached", "tap_limit"),
        ),
        ([OK, h("061e00")], Refused(Reason.TRY_LATER, "ff", "system error", "not_possible")),
        (
            [OK, h("061e1464060f1f170c") + b"41111111111111"[:12]],
            Refused(Reason.CARD_NOT_ACCEPTED, "64", "*", "card_unreadable"),
        ),
        ([OK, h("060f00")], Unknown("the terminal completed without a result")),
        ([h("061e016c")], Unknown("ended with 6c before it was answered")),
    ],
)
def test_how_a_hold_can_end_without_one(run: Any, answers: list[bytes], expected: object) -> None:
    async def case(b: Bench) -> None:
        await b.linked()
        script = [m if m[2] == len(m) - 3 else m[:2] + bytes([len(m) - 3]) + m[3:] for m in answers]
        b.peer.scripts["0622"] = script
        assert await b.hold() == expected
        assert b.kept == []

    run(case)


@pytest.mark.parametrize("code", [0x9B, 0xA3, 0xE0])
def test_where_only_the_moment_is_wrong_a_capture_was_not_sent(run: Any, code: int) -> None:
    """It can be tried again. The driver at the charger is told at once."""

    async def case(b: Bench) -> None:
        await b.linked()
        script = [OK, bytes([0x06, 0x1E, 1, code])]
        b.peer.scripts |= {"0622": script, "0623": script, "0625": script}
        held = await b.hold()
        assert isinstance(held, Refused)
        assert held.reason is Reason.TRY_LATER
        captured = await b.driver.capture(HELD, EUR50, Money(1, "EUR"), b.keep)
        released = await b.driver.release(HELD, EUR50, b.keep)
        assert isinstance(captured, NotSent)
        assert isinstance(released, NotSent)

    run(case)


@pytest.mark.parametrize(
    "result",
    [
        "270004000000005000490978",  # no receipt
        "2700870231490840",  # dollars
        "270087023149 0999",  # no currency at all
        "270087ffff",
    ],
)
def test_a_result_that_is_no_evidence_is_refused(run: Any, result: str) -> None:
    async def case(b: Bench) -> None:
        await b.linked()
        body = h(result)
        b.peer.scripts["0622"] = [OK, apdu("040f", body), h("061e016c")]
        outcome = await b.hold()
        assert isinstance(outcome, Unknown)
        assert b.kept == []
        assert [e["id"] for e in b.log if e["event"] == "evidence_refused"] == ["TRM-012"]
        assert bytes.fromhex("846600") in b"".join(b.cable.sent)
        with unavailable("TRM-009"):
            await b.driver.identify()

    run(case)


@pytest.mark.parametrize("how", ["rejects", "raises", "late", "cancelled"])
def test_evidence_that_is_not_stored(run: Any, how: str) -> None:
    async def case(b: Bench) -> None:
        async def fail() -> Verdict:
            if how == "raises":
                raise OSError("disk full")
            if how == "cancelled":
                raise asyncio.CancelledError
            if how == "late":
                await asyncio.sleep(4.5)
                return Verdict.STORED
            return Verdict.REJECT

        await b.linked()
        b.keep_does = fail
        assert isinstance(await b.hold(), Unknown)
        assert len(b.kept) == 1
        await asyncio.sleep(60)
        assert b.peer.booked == []
        assert len(b.peer.reversed) == 1
        assert b.cable.closed == 1

    run(case)


def test_the_links_ack_does_not_wait_for_the_store(run: Any) -> None:
    """The terminal repeats a block after T2 (5 s), and a disk may take as long. Only our answer waits."""

    async def case(b: Bench) -> None:
        await b.linked()
        meanwhile: list[bytes] = []

        async def slow() -> Verdict:
            await asyncio.sleep(0.1)  # the ACK is on its way by now, or it waits for this
            meanwhile.extend(b.cable.sent[before:])
            await asyncio.sleep(2.5)
            assert len(b.cable.sent) == before + len(meanwhile), "and nothing else is said"
            return Verdict.STORED

        b.keep_does = slow
        b.peer.scripts["0622"] = [OK, apdu("040f", h("270004000000005000870231")), h("060f00")]
        before = len(b.cable.sent)
        assert isinstance(await b.hold(), Done)
        assert meanwhile[1:] == [b"\x06", b"\x06"], (
            "for the 80 00 00 and for the 04 0F, behind the command"
        )

    run(case)


def test_a_line_lost_while_evidence_is_stored_lets_it_be_stored(run: Any) -> None:
    async def case(b: Bench) -> None:
        done = False

        async def slow() -> Verdict:
            nonlocal done
            b.cable.unplug()
            await asyncio.sleep(2)
            done = True
            return Verdict.STORED

        await b.linked()
        b.keep_does = slow
        assert await b.hold() == Unknown("hung up")
        assert done
        assert len(b.kept) == 1

    run(case)


def test_a_store_that_never_ends_is_not_waited_for(run: Any) -> None:
    async def case(b: Bench) -> None:
        cancelled = False

        async def stuck() -> Verdict:
            nonlocal cancelled
            b.cable.unplug()
            try:
                await asyncio.sleep(10_000)
            except asyncio.CancelledError:
                cancelled = True
                raise
            raise AssertionError

        await b.linked()
        b.keep_does = stuck
        start = asyncio.get_running_loop().time()
        assert isinstance(await b.hold(), Unknown)
        assert asyncio.get_running_loop().time() - start < zvt_drive.STORE_S + 3
        assert cancelled

    run(case)


@pytest.mark.parametrize("seconds", [0.0, 0.012, 0.4, 2.0])
def test_a_cancelled_verb_leaves_nothing_behind(run: Any, seconds: float) -> None:
    """Cancelled anywhere, also while its evidence is stored: no task, no open line, no late answer."""

    async def case(b: Bench) -> None:
        async def slow() -> Verdict:
            await asyncio.sleep(3)
            return Verdict.STORED

        await b.linked()
        b.keep_does = slow
        verb = asyncio.ensure_future(b.hold())
        await asyncio.sleep(seconds)
        verb.cancel()
        with pytest.raises(asyncio.CancelledError):
            await verb
        assert asyncio.all_tasks() == {asyncio.current_task(), b.serving}
        sent = len(b.cable.sent)
        assert b.cable.closed == 1
        await asyncio.sleep(60)
        assert len(b.cable.sent) == sent
        assert b.peer.booked == []
        await b.linked()

    run(case)


def test_a_verb_cancelled_in_the_queue_disturbs_nobody(run: Any) -> None:
    async def case(b: Bench) -> None:
        await b.linked()
        first = asyncio.ensure_future(b.hold())
        await asyncio.sleep(0)
        second = asyncio.ensure_future(b.driver.show(["x"]))
        await asyncio.sleep(0.1)
        second.cancel()
        assert isinstance(await first, Done)
        await asyncio.gather(second, return_exceptions=True)
        assert await b.driver.read_card(5) is not None, "nobody is waiting any more"

    run(case)


def test_close_while_a_verb_waits(run: Any) -> None:
    async def case(b: Bench) -> None:
        await b.linked()
        b.peer.manners.host_s = 20.0
        verb = asyncio.ensure_future(b.hold())
        await asyncio.sleep(1)
        await b.driver.close()
        await b.driver.close()
        assert await verb == Unknown("closed")
        await asyncio.sleep(60)  # until the terminal has noticed
        await b.linked()

    run(case)


def test_one_lost_answer_is_no_unknown_outcome(run: Any) -> None:
    """The terminal's link brings its 80 00 00 again after T2, and that long the driver waits."""

    async def case(b: Bench) -> None:
        await b.linked()
        lost = []

        def losing(data: bytes) -> None:
            if data == frame(OK) and not lost:
                lost.append(data)
            else:
                carried(data)

        carried = b.cable.to_ecr
        b.cable.to_ecr = losing  # type: ignore[method-assign]
        assert isinstance(await b.hold(), Done)
        assert lost
        assert b.heard() == ["0622"]

    run(case)


def test_no_answer_and_no_second_command(run: Any) -> None:
    async def case(b: Bench) -> None:
        await b.linked()
        b.peer.scripts["0622"] = []
        assert await b.hold() == Unknown("timed out waiting for an answer (T3)")
        assert b.heard() == ["0622"]

    run(case)


def test_amounts_that_cannot_be_asked_for(run: Any) -> None:
    async def case(b: Bench) -> None:
        await b.linked()
        for amount in (Money(0, "EUR"), Money(-1, "EUR"), Money(5, "USD")):
            with pytest.raises(ValueError, match="expected an amount"):
                await b.driver.authorize(amount, "S1", b.keep)
        with pytest.raises(ValueError, match="more than the hold"):
            await b.driver.capture(HELD, EUR50, Money(5001, "EUR"), b.keep)
        assert b.heard() == []

    run(case)


@pytest.mark.parametrize(("told", "amount"), [(3705, 1295), (5000, 0), (5001, None)])
def test_a_terminal_that_tells_the_part_given_back(run: Any, told: int, amount: int | None) -> None:
    async def case(b: Bench) -> None:
        await b.linked()
        result = apdu("040f", h(f"270004{told:012d}870232"))
        b.peer.scripts["0623"] = [OK, result, h("060f00")]
        outcome = await b.driver.capture(HELD, EUR50, Money(1295, "EUR"), b.keep)
        assert isinstance(outcome, Done)
        assert outcome.evidence.amount == (None if amount is None else Money(amount, "EUR"))

    run(case, options={"capture_amount": "reversed"})


def test_what_a_result_says_for_the_receipt(run: Any) -> None:
    async def case(b: Bench) -> None:
        await b.linked()
        body = h("270004000000005000 490978 0c225558 0d0405 22f0f8559883eeeeee8074 870231")
        body += b"\x3b750071\0\0\x0b\x00\x00\x00\x29" + h("52523535") + h("19608a06880000 12")
        body += b"\x8b\xf1\xf1MasterCard\0\x2a804011926      \x3c\xf0\xf0\xf8ok 4111 "
        tlv = h("1f2b0410015008 4307a0000000041010 2f041f120102")
        b.peer.scripts["0622"] = [
            OK,
            apdu("040f", body + b"\x06" + bytes([len(tlv)]) + tlv),
            h("060f00"),
        ]
        outcome = await b.hold()
        assert isinstance(outcome, Done)
        assert outcome.evidence == Evidence(
            HoldRef("52523535", 231, 12, 10015008, "0405", "225558", "750071"),
            EUR50,
            {
                "aid": "750071",
                "payment_type": "60",
                "card_type": 6,
                "card_name": "MasterCard",
                "vu": "804011926",
                "text": "ok 4111",
                "card_last4": "8074",
                "emv_aid": "a0000000041010",
                "card_read_by": "contactless",
            },
        )

    run(case)
