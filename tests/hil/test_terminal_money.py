"""Payments, increments, reversals, refunds, foreign holds; what the acquirer books for them."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from support.terminal_ecr import OK, Bench, frame, hexa, terminal

AID_231 = "37353039373500 00".replace(" ", "")  # AID of the first hold, trace 975


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[Bench]:
    with terminal(tmp_path) as bench:
        bench.ecr.register("36")
        yield bench


def raise_hold(bench: Bench, minor: int, trace: str = "000975", aid: str = AID_231, **how):  # type: ignore[no-untyped-def]
    return bench.ecr.fields("0622", f"04{minor:012d}", "490978", "0b", trace, "3b", aid, **how)


# --- 06 01 and the vending handshake --------------------------------------------------------------


def test_a_payment_is_booked_once_it_is_answered(bench: Bench) -> None:
    bench.tap_and_read("mastercard")
    told = bench.ecr.pay(1234)
    assert told.kinds == ["040f", "060f"]
    assert told.result().amount == 1234
    row = bench.rows()[0]
    assert (row["kind"], row["amount_minor"], row["receipt"]) == ("payment", 1234, 231)
    assert bench.state()["bookings"][0]["kind"] == "payment"
    assert bench.state()["open_holds"] == []


def test_a_payment_needs_no_registration(tmp_path: Path) -> None:
    with terminal(tmp_path) as bench:
        bench.ask("tap", card="visa")
        told = bench.ecr.pay(100)
        # After a log-off, and so at the start, the ECR prints (configuration byte 86).
        assert set(told.kinds) == {"06d1", "040f", "060f"}
        assert bench.kinds() == ["payment"]


def test_a_payment_without_an_amount_is_refused(bench: Bench) -> None:
    assert bench.ecr.command("060103490978").answer == "849a00"


def test_goods_that_are_not_ready_get_the_result_again(bench: Bench) -> None:
    bench.ask("set", vending_repeat_s=0.01)
    bench.tap_and_read()
    bench.ecr.send(hexa("06010a0400000000050049 0978".replace(" ", "")))
    assert bench.ecr.receive() == OK
    first = bench.ecr.receive()
    for _ in range(2):
        bench.ecr.send(hexa("849c00"))
        assert bench.ecr.receive() == first
    bench.ecr.send(OK)
    assert bench.ecr.receive() == hexa("060f00")
    bench.ecr.send(OK)
    assert bench.kinds() == ["payment"]


def test_bmp_02_limits_how_often(bench: Bench) -> None:
    bench.ask("set", vending_repeat_s=0.01)
    bench.tap_and_read()
    told = bench.ecr.pay(500, "0201", answers={"040f": "849c00"})
    assert told.messages.count("040f02276c") == 1
    assert told.kinds == ["040f", "040f", "040f", "061e"]
    assert bench.kinds() == ["payment", "auto_reversal"]
    assert bench.rows()[1]["reverses"] == "payment"


def test_bmp_01_is_how_long_the_goods_may_take(bench: Bench) -> None:
    bench.ask("set", t3_ms=50)
    bench.tap_and_read()
    bench.ecr.send(hexa("06010c0400000000050049 0978 0101".replace(" ", "")))
    assert bench.ecr.receive() == OK
    bench.ecr.receive()
    assert bench.ecr.quiet(0.3)  # T3 is long over
    bench.ecr.send(OK)
    assert bench.ecr.receive() == hexa("060f00")
    bench.ecr.send(OK)
    bench.tap_and_read()
    bench.ecr.send(hexa("06010c0400000000050049 0978 0100".replace(" ", "")))
    assert bench.ecr.receive() == OK
    bench.ecr.receive()
    bench.until("auto_reversals", 1)
    assert bench.kinds() == ["payment", "payment", "auto_reversal"]


@pytest.mark.parametrize(
    ("rule", "kinds", "booked"),
    [
        ("books", ["040f", "060f"], 220),
        ("books_and_tells", ["040f", "040f", "060f"], 220),
        ("refuses", ["040f", "040f", "061e"], None),
    ],
)
def test_only_a_part_of_the_goods(
    bench: Bench, rule: str, kinds: list[str], booked: int | None
) -> None:
    bench.ask("set", partial_issue=rule)
    bench.tap_and_read()
    told = bench.ecr.pay(500, answers={"040f": "849d0704000000000220"})
    assert told.kinds == kinds
    bookings = bench.state()["bookings"]
    assert [b["amount_minor"] for b in bookings] == ([] if booked is None else [booked])
    row = bench.rows()[-1]
    if booked is None:
        assert (row["kind"], row["amount_minor"]) == ("auto_reversal", 500)
    else:
        assert (row["kind"], row["amount_minor"], row["partial"]) == ("reversal", 280, True)
        assert bench.ecr.command("0620051234560303").result().amount == 220


@pytest.mark.parametrize("part", ["000000000501", "000000000000", "00000000050f"])
def test_a_part_that_cannot_be_is_a_no(bench: Bench, part: str) -> None:
    bench.tap_and_read()
    assert bench.ecr.pay(500, answers={"040f": f"849d0704{part}"}).kinds[-1] == "061e"
    assert bench.kinds() == ["payment", "auto_reversal"]


def test_a_reservation_cannot_be_issued_in_part(bench: Bench) -> None:
    bench.tap_and_read()
    assert bench.ecr.reserve(500, answers={"040f": "849d0704000000000220"}).kinds[-1] == "061e"
    assert bench.kinds() == ["hold", "auto_reversal"]


def test_the_result_may_come_more_often_than_needed(bench: Bench) -> None:
    bench.ask("set", extra_results=2)
    bench.tap_and_read()
    told = bench.ecr.pay(500)
    assert told.kinds == ["040f", "040f", "040f", "060f"]
    assert len(set(told.messages[:3])) == 1
    assert bench.kinds() == ["payment"]


@pytest.mark.parametrize(
    ("switches", "code"),
    [
        ({"min_amount_minor": 501}, "c8"),
        ({"max_amount_minor": 499}, "c3"),
        ({"pin_above_minor": 499}, "33"),
        ({"host_offline": 0xA1}, "a1"),
    ],
)
def test_what_is_not_approved(bench: Bench, switches: dict[str, int], code: str) -> None:
    bench.ask("set", **switches)
    bench.tap_and_read()
    assert bench.ecr.pay(500).messages[-1] == f"061e01{code}"
    assert bench.rows() == []


def test_without_the_host_a_hold_stays_open(bench: Bench) -> None:
    bench.hold("visa", 5000)
    bench.ask("set", host_offline=0x9B)
    assert bench.ecr.release_part(231, 100).messages == ["061e019b"]
    bench.ask("set", host_offline=None)
    assert bench.ecr.release_part(231, 100).result().amount == 4900
    assert bench.kinds() == ["hold", "capture"]


def test_a_lost_result_stands(bench: Bench) -> None:
    """Seen at real terminals: accepted, and never told."""
    bench.tap_and_read()
    bench.ask("fault", name="lost_result")
    bench.ecr.send(hexa("06220c04000000005000490978 1942".replace(" ", "")))
    assert bench.ecr.receive() == OK
    assert bench.ecr.quiet(0.2)
    assert bench.ecr.open_receipts() == "061e04b8870231"
    assert bench.ecr.command("0620051234560303").result().amount == 5000
    assert bench.kinds() == ["hold"]


# --- 06 22 with a trace number --------------------------------------------------------------------


def test_an_increment_raises_the_hold(bench: Bench) -> None:
    bench.hold("visa", 5000)
    told = raise_hold(bench, 1000)
    assert told.kinds == ["040f", "060f"]
    assert (told.result().amount, told.result().receipt) == (1000, 232)
    (hold,) = bench.state()["open_holds"]
    assert (hold["amount_minor"], hold["receipt"], hold["increments"]) == (6000, 231, 1)
    row = bench.rows()[1]
    assert (row["kind"], row["amount_minor"]) == ("increment", 1000)
    assert (row["receipt"], row["hold_receipt"]) == (232, 231)
    # The whole hold can be captured now.
    assert bench.ecr.release_part(231, 0).result().amount == 6000
    assert "increment:result_answered" in bench.state()["trace"]


def test_the_long_trace_names_the_hold_too(bench: Bench) -> None:
    bench.hold("visa", 5000)
    told = bench.ecr.fields("0622", "04000000001000", "3b", AID_231, "0607", "1f2b0400000975")
    assert told.kinds == ["040f", "060f"]
    assert bench.state()["open_holds"][0]["amount_minor"] == 6000


def test_the_numbers_in_an_increments_result_differ_by_terminal(bench: Bench) -> None:
    bench.hold("visa", 5000)
    bench.ask("set", increment_reports="total", increment_receipt="same")
    told = raise_hold(bench, 1000)
    assert (told.result().amount, told.result().receipt) == (6000, 231)
    row = bench.rows()[-1]
    assert (row["amount_minor"], row["receipt"], row["trace"]) == (1000, 231, 976)
    assert bench.hold().receipt == 232


@pytest.mark.parametrize(
    ("switches", "code"),
    [
        ({"increments": False}, "83"),
        ({"increment_count_max": 0}, "b8"),
        ({"increment_sum_max_minor": 5999}, "b7"),
    ],
)
def test_limits_of_increments(bench: Bench, switches: dict[str, object], code: str) -> None:
    bench.hold("visa", 5000)
    bench.ask("set", **switches)
    assert raise_hold(bench, 1000).messages[-1] == f"061e01{code}"
    assert bench.state()["open_holds"][0]["amount_minor"] == 5000
    assert bench.kinds() == ["hold"]


def test_an_increment_may_be_approved_in_part(bench: Bench) -> None:
    bench.hold("visa", 5000)
    bench.ask("set", increment_at_most_minor=300)
    assert raise_hold(bench, 1000).result().amount == 300
    assert bench.state()["open_holds"][0]["amount_minor"] == 5300


@pytest.mark.parametrize(("trace", "aid"), [("000976", AID_231), ("000975", "3939393939390000")])
def test_an_increment_of_another_hold_is_refused(bench: Bench, trace: str, aid: str) -> None:
    bench.hold("visa", 5000)
    assert raise_hold(bench, 1000, trace, aid).messages[-1] == "061e01b8"


def test_an_increment_needs_amount_and_aid(bench: Bench) -> None:
    bench.hold("visa", 5000)
    assert bench.ecr.fields("0622", "04000000001000", "0b000975").answer == "849a00"
    assert bench.ecr.fields("0622", "0b000975", "3b", AID_231).answer == "849a00"


def test_an_increment_that_is_not_answered_is_taken_back(bench: Bench) -> None:
    bench.hold("visa", 5000)
    told = raise_hold(bench, 1000, answers={"040f": "846600"})
    assert told.kinds[-1] == "061e"
    assert bench.kinds() == ["hold", "increment", "auto_reversal"]
    row = bench.rows()[-1]
    assert (row["reverses"], row["amount_minor"], row["hold_receipt"]) == ("increment", 1000, 231)
    assert bench.state()["open_holds"][0]["amount_minor"] == 5000


# --- Ending holds ---------------------------------------------------------------------------------


def test_traces_and_aids_are_asked_for_by_switch_and_always_checked(bench: Bench) -> None:
    bench.hold("visa", 5000)
    bench.ask("set", trace_required=True, aid_required=True)
    assert bench.ecr.release_part(231, 100).answer == "849a00"
    head = ("870231", "04000000000100")
    assert bench.ecr.fields("0623", *head, "0b000976").messages == ["061e01b8"]
    assert bench.ecr.fields("0624", *head, "0b000975").answer == "849a00"
    assert bench.ecr.fields("0624", *head, "0b000975", "3b", "31" * 8).messages == ["061e01b8"]
    told = bench.ecr.fields("0624", *head, "0b000975", "3b", AID_231)
    assert told.result().amount == 100
    assert bench.rows()[-1]["released_minor"] == 4900


def test_a_debit_hold_cannot_be_cancelled_by_switch(bench: Bench) -> None:
    bench.hold("girocard", 5000)
    bench.ask("set", cancel_debit=False)
    assert bench.ecr.cancel(231).messages == ["061e0183"]
    assert bench.kinds() == ["hold"]


def test_more_forms_of_the_enquiry(bench: Bench) -> None:
    bench.hold()
    bench.ask("set", enquiry="list_only")
    assert bench.ecr.open_receipts() == "061e09b806062304080202 31".replace(" ", "")
    bench.ask("set", enquiry="malformed")
    assert bench.ecr.open_receipts() == "061e0db8061123090802012308024567"
    bench.ask("set", abort_without_code=True)
    assert bench.ecr.open_receipts() == "061e00"


def test_a_hold_expires_at_the_bank_and_the_terminal_does_not_know(bench: Bench) -> None:
    bench.ask("set", hold_days=7)
    bench.hold("visa", 5000)
    assert bench.ask("advance", days=6, hours=23) == {"expired": []}
    assert bench.ask("advance", hours=2) == {"expired": [231]}
    assert bench.kinds() == ["hold", "expiry"]
    assert bench.ecr.open_receipts() == "061e04b8870231"
    assert bench.ecr.release_part(231, 100).messages == ["061e01b8"]
    assert raise_hold(bench, 100).messages[-1] == "061e01b8"
    assert bench.ecr.end_of_day().messages == ["061e01b8"]
    assert bench.ecr.cancel(231).kinds == ["040f", "060f"]
    assert bench.ecr.open_receipts() == "061e04b887ffff"
    assert bench.kinds() == ["hold", "expiry"]  # there was nothing left to release


def test_an_expired_hold_may_vanish(bench: Bench) -> None:
    bench.ask("set", hold_days=7, expired_holds="vanish")
    bench.hold("visa", 5000)
    before = bench.state()["clock"]
    bench.ask("advance", days=8)
    assert bench.ecr.open_receipts() == "061e04b887ffff"
    assert bench.state()["clock"] > before
    assert bench.rows()[1]["time"] > bench.rows()[0]["time"]


def test_a_hold_of_another_terminal_can_be_reversed(bench: Bench) -> None:
    bench.ask(
        "foreign_hold", card="visa", amount_minor=2500, trace=4711, aid="123456", tid="77777777"
    )
    aid = "3132333435360000"
    wrong = bench.ecr.fields("0626", "04000000002600", "490978", "0b004711", "3b", aid)
    assert wrong.messages == ["061e01b8"]
    told = bench.ecr.fields(
        "0626", "04000000002500", "490978", "0b004711", "3b", aid, "0604", "1f060102"
    )
    assert told.kinds == ["040f", "060f"]
    row = bench.rows()[-1]
    assert (row["kind"], row["tid"], row["amount_minor"]) == ("release", "77777777", 2500)
    assert bench.state()["foreign_holds"] == []
    assert bench.ecr.fields("0626", "04000000002500").answer == "849a00"


# --- 06 30 and 06 31 ------------------------------------------------------------------------------


def reverse(bench: Bench, receipt: int, minor: int | None = None):  # type: ignore[no-untyped-def]
    amount = "" if minor is None else f"04{minor:012d}"
    return bench.ecr.fields("0630", "123456", f"87{receipt:04d}", amount, "490978")


def test_a_reversal_takes_back_the_last_payment(bench: Bench) -> None:
    bench.tap_and_read()
    bench.ecr.pay(500)
    assert reverse(bench, 231, 499).messages[-1] == "061e01b5"
    assert reverse(bench, 231, 500).kinds == ["040f", "060f"]
    row = bench.rows()[-1]
    assert (row["kind"], row["amount_minor"], row["reverses"]) == ("reversal", 500, "payment")
    assert (row["hold_receipt"], row["reverses_receipt"]) == (231, 231)
    assert reverse(bench, 231, 500).messages[-1] == "061e01b4"
    assert bench.ecr.end_of_day().result().amount == 0
    assert reverse(bench, 231).messages[-1] == "061e01b5"  # only before the end of the day


def test_only_the_last_one_can_be_reversed_by_switch(bench: Bench) -> None:
    bench.tap_and_read()
    bench.ecr.pay(500)
    bench.tap_and_read()
    bench.ecr.pay(600)
    assert reverse(bench, 231).messages[-1] == "061e01b5"
    bench.ask("set", reversal="any")
    assert reverse(bench, 231).result().amount == 500
    bench.ask("set", reversal="none")
    assert reverse(bench, 232).messages[-1] == "061e01b5"


def test_a_payment_that_was_taken_back_is_not_the_last_one(bench: Bench) -> None:
    bench.tap_and_read()
    bench.ecr.pay(500)
    bench.tap_and_read()
    assert bench.ecr.pay(600, answers={"040f": "846600"}).kinds[-1] == "061e"
    assert reverse(bench, 232).messages[-1] == "061e01b5"
    assert reverse(bench, 231).result().amount == 500


def test_a_capture_can_be_reversed_and_its_hold_stays_gone(bench: Bench) -> None:
    bench.hold("visa", 5000)
    bench.ecr.release_part(231, 4000)
    assert reverse(bench, 232, 1000).kinds == ["040f", "060f"]
    row = bench.rows()[-1]
    assert (row["reverses"], row["hold_receipt"], row["amount_minor"]) == ("capture", 231, 1000)
    assert bench.ecr.open_receipts() == "061e04b887ffff"


def test_a_refund_needs_a_card_and_is_not_for_debit(bench: Bench) -> None:
    bench.ask("set", card_wait_s=0.05)
    refund = ("0631", "123456", "04000000000700", "490978", "1940")
    assert bench.ecr.fields(*refund).messages[-1] == "061e016c"
    bench.tap_and_read("girocard")
    assert bench.ecr.fields(*refund).messages[-1] == "061e01c5"
    bench.tap_and_read("visa")
    assert bench.ecr.fields(*refund).kinds == ["040f", "060f"]
    row = bench.rows()[-1]
    assert (row["kind"], row["amount_minor"]) == ("refund", 700)
    assert bench.ecr.fields("0631", "123456", "490978").answer == "849a00"
    assert bench.ecr.fields("0631", "654321", "04000000000700").answer == "843700"
    bench.ask("set", refund=False)
    assert bench.ecr.fields(*refund).messages[-1] == "061e0183"
    assert bench.kinds() == ["refund"]


# --- 06 E6 ----------------------------------------------------------------------------------------


def test_a_poll_charges_a_bank_card_and_names_any_other(bench: Bench) -> None:
    poll = ("06e6", "04000000000500", "490978", "0604", "1f5b0105")
    bench.ask("tap", card="visa")
    assert bench.ecr.fields(*poll).kinds == ["040f", "060f"]
    assert bench.kinds() == ["payment"]
    bench.ask("tap", card="rfid")
    told = bench.ecr.fields(*poll).messages
    assert told[0].startswith("061e") and told[0][6:8] == "7a"
    assert "4c0a00000004a2b3c4d5e680" in told[0]
    assert "1f4505" in told[0] and "e6" in told[0]
    bench.ask("tap", card="visa")
    nothing = ("06e6", "04000000000000", "490978", "0604", "1f5b0105")
    assert bench.ecr.fields(*nothing).kinds == ["040f", "060f"]
    assert bench.kinds() == ["payment"]


# --- 1F1F -----------------------------------------------------------------------------------------


def sync_reserve(last: str) -> bytes:
    data = (
        "0400000000500049097819"
        + "42"
        + f"06{len(last) // 2 + 3:02x}1f1f{len(last) // 2:02x}{last}"
    )
    return hexa(f"0622{len(data) // 2:02x}{data}")


def broken_hold(bench: Bench, last: str) -> None:
    bench.tap_and_read()
    bench.ecr.send(sync_reserve(last))
    assert bench.ecr.receive() == OK
    bench.ecr.receive()
    bench.until_passed("link_broken")
    bench.reopen()


def test_with_a_sync_id_nothing_is_taken_back_before_the_next_transaction(bench: Bench) -> None:
    broken_hold(bench, "")
    assert bench.kinds() == ["hold"]
    assert bench.state()["pending"] == {"kind": "hold", "receipt": 231}


@pytest.mark.parametrize(
    ("knows", "kinds", "open_receipts"),
    [
        ("0231", ["hold", "hold"], [231, 232]),  # in step: only the answer got lost
        ("", ["hold", "auto_reversal", "hold"], [232]),  # it knows of none
        ("0000", ["hold", "auto_reversal", "hold"], [232]),  # one behind
    ],
)
def test_the_ecrs_last_receipt_decides(
    bench: Bench, knows: str, kinds: list[str], open_receipts: list[int]
) -> None:
    broken_hold(bench, "")
    bench.tap_and_read()
    told = bench.ecr.command(sync_reserve(knows).hex())
    assert told.kinds[-1] == "060f"
    assert bench.kinds() == kinds
    assert [hold["receipt"] for hold in bench.state()["open_holds"]] == open_receipts


def test_an_ecr_that_lost_its_last_receipt_gets_it_taken_back(bench: Bench) -> None:
    bench.hold("visa", 5000)
    bench.ecr.release_part(231, 4000)  # receipt 232, answered and final
    bench.tap_and_read()
    bench.ecr.command(sync_reserve("0231").hex())
    assert bench.kinds() == ["hold", "capture", "auto_reversal", "hold"]
    assert bench.rows()[2]["reverses"] == "capture"
    assert [hold["receipt"] for hold in bench.state()["open_holds"]] == [231, 233]
    bench.tap_and_read()
    bench.ecr.command(sync_reserve("4242").hex())  # no number of ours: ignored
    assert bench.kinds()[-1] == "hold"
    assert bench.state()["auto_reversals"] == 1


def test_sync_ids_can_be_unknown(bench: Bench) -> None:
    bench.ask("set", sync_id=False)
    broken_hold(bench, "")
    assert bench.kinds() == ["hold", "auto_reversal"]


# --- Numbers --------------------------------------------------------------------------------------


def test_receipts_wrap_and_open_ones_are_passed_over(bench: Bench) -> None:
    bench.ask("numbers", receipt=1)
    assert bench.hold().receipt == 1
    bench.ask("numbers", receipt=9999, trace=999_999)
    assert bench.hold().receipt == 9999
    assert bench.hold().receipt == 2
    assert [hold["trace"] for hold in bench.state()["open_holds"]] == [975, 999_999, 1]
    bench.ask("set", receipt_reuse="reuses_open")
    bench.ask("numbers", receipt=1)
    again = bench.hold("visa", 700)
    assert again.receipt == 1
    # The newest of two equal ones is meant; the other stays.
    assert bench.ecr.release_part(1, 0).result().amount == 700
    assert [hold["amount_minor"] for hold in bench.state()["open_holds"]] == [5000, 5000, 5000]


def test_numbers_may_start_anew_every_day(bench: Bench) -> None:
    bench.ask("set", receipt_reset_at_eod=True)
    bench.tap_and_read()
    bench.ecr.pay(500)
    bench.ecr.end_of_day()
    assert bench.hold().receipt == 1


# --- Points ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("step", "kinds"),
    [
        ("received", []),
        ("host_asked", []),
        ("result_due", ["payment", "auto_reversal"]),
        ("result_sent", ["payment", "auto_reversal"]),
        ("result_answered", ["payment"]),
        ("completed", ["payment"]),
    ],
)
def test_a_reboot_at_every_step(bench: Bench, step: str, kinds: list[str]) -> None:
    bench.tap_and_read()
    bench.ask("reboot", at=f"pay:{step}", off_s=0.05)
    bench.ecr.send(hexa("06010a0400000000050049 0978".replace(" ", "")))
    if step != "received":
        assert bench.ecr.receive() == OK
    if step in ("result_sent", "result_answered", "completed"):
        bench.ecr.raw_block()
        if step != "result_sent":
            bench.ecr.write(b"\x06" + frame(OK))
            bench.ecr.byte()
        if step == "completed":
            bench.ecr.raw_block()
            bench.ecr.write(b"\x06")
    bench.until("boots", 2)
    bench.reopen()
    assert bench.ecr.register("36").kinds == ["060f"]
    assert bench.kinds() == kinds
