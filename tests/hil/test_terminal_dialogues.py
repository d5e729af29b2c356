"""Every dialogue of the terminal simulator, driven over its pty by a small ECR of the tests' own."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from support.terminal_ecr import Bench, LineSilent, hexa, terminal

from hil.common.control import ControlError


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[Bench]:
    with terminal(tmp_path) as bench:
        # Config byte with 04 FF but without printing: what is printed has tests of its own.
        bench.ecr.register("3e", "0978")
        yield bench


# --- Registration, status, display ----------------------------------------------------------------


def test_registration_tells_status_tid_and_currency(bench: Bench) -> None:
    told = bench.ecr.register("de", "0978")
    assert (told.answer, told.messages) == ("800000", ["060f0a19102952523535490978"])
    state = bench.state()
    assert state["registered"] is True
    assert state["config"] == "de"


def test_registration_without_currency_is_answered_without(bench: Bench) -> None:
    assert bench.ecr.register("de", "").messages == ["060f0719102952523535"]


@pytest.mark.parametrize(
    ("apdu", "answer"),
    [
        ("060006654321de0978", "843700"),  # wrong password
        ("060006123456de0826", "841e036f0978"),  # wrong currency, at once
        ("0693 03 654321", "843700"),
        ("069900", "848300"),  # unknown command
        ("06220a 04000000000500 99 0102", "848300"),  # unknown BMP
        ("062203 040000", "849a00"),  # a field that ends too early
        ("062203 490826", "841e036f0978"),
    ],
)
def test_refused_at_once(bench: Bench, apdu: str, answer: str) -> None:
    told = bench.ecr.command(apdu.replace(" ", ""))
    assert (told.answer, told.messages) == (answer, [])
    assert bench.rows() == []


def test_status_in_all_forms(bench: Bench) -> None:
    version = b"VOLTILL-PT-SIM 1.0"
    full = hexa("f0f1f8") + version + b"\0"
    told = bench.ecr.command("0501 03 123456".replace(" ", ""))
    assert told.messages == [(b"\x06\x0f" + bytes([len(full)]) + full).hex()]
    bench.ask("set", status=0xDC)
    assert bench.ecr.command("0501051234560302").messages == ["060f01dc"]
    assert bench.ecr.command("050100").messages[0].endswith("dc")
    tags = bench.ecr.command("0501051234560304").messages[0]
    assert "1f440452523535" in tags
    assert "1f420417fd1e3c" in tags
    bench.ask("set", status=0, eod_due=True)
    assert bench.ecr.command("0501051234560302").messages == ["060f01f0"]


def test_display_text_is_on_the_screen(bench: Bench) -> None:
    lines = [b"0.49 EUR/kWh", "für 2 €".encode("cp437", "replace")]
    data = b"\xf0\x00" + b"".join(
        bytes([0xF1 + i, 0xF0 + len(line) // 10, 0xF0 + len(line) % 10]) + line
        for i, line in enumerate(lines)
    )
    apdu = b"\x06\xe0" + bytes([len(data)]) + data
    assert bench.ecr.command(apdu.hex()).answer == "800000"
    assert bench.state()["screen"][:2] == ["0.49 EUR/kWh", "für 2 ?"]


def test_text_with_a_time_gives_way_to_the_text_below(bench: Bench) -> None:
    bench.ecr.command("06e0 08 f000 f1 f0f3 414243".replace(" ", ""))
    bench.ecr.command("06e0 08 f001 f1 f0f3 585858".replace(" ", ""))
    assert bench.state()["screen"][0] == "XXX"
    bench.until("screen", ["ABC", "", "", ""])


def test_charset_agreed_at_registration(bench: Bench) -> None:
    bench.ecr.register("de", "0978" + "0603" + "1401fe")
    text = "Grüße €".encode()
    data = b"\xf1\xf1\xf1" + text
    assert len(text) == 11
    bench.ecr.command((b"\x06\xe0" + bytes([len(data)]) + data).hex())
    assert bench.state()["screen"][0] == "Grüße €"


def test_log_off_resets_the_configuration(bench: Bench) -> None:
    assert bench.ecr.command("060200").answer == "800000"
    state = bench.state()
    assert (state["config"], state["registered"]) == ("86", False)


def test_other_administration(bench: Bench) -> None:
    assert bench.ecr.command("06700506031b0104").kinds == ["04ff", "060f"]
    bench.ask("set", status=0x51)
    assert bench.ecr.register("3e").messages[0].startswith("060f0a1911")
    assert bench.ecr.command("069303123456").kinds == ["060f"]
    assert bench.state()["status"] == 0
    bench.ask("set", set_clock_in_diagnosis=True)
    assert bench.ecr.command("067000").kinds == ["04ff", "0401", "060f"]
    info = bench.ecr.command("0fa1020001").messages[0]
    assert bytes.fromhex(info)[3:].startswith(b"17FD1E3CVOLTILL-PT-SIM 1.52523535")
    assert bench.ecr.command("06b000").answer == "800000"


def test_clock_can_be_set(bench: Bench) -> None:
    told = bench.ecr.command("06910b 123456 aa 310203 0c 040506".replace(" ", ""))
    assert told.kinds == ["060f"]
    result = bench.hold()
    assert result.apdu.hex().count("0d0203") == 1
    assert bench.ecr.command("06910b123456aa9913400c040506").answer == "849a00"


# --- Read card ------------------------------------------------------------------------------------


def test_bank_card_is_read_with_token_uid_and_application(bench: Bench) -> None:
    bench.ask("tap", card="mastercard")
    told = bench.ecr.read_card()
    assert told.kinds == ["040f"]  # no Completion follows
    message = told.messages[0]
    assert "1f14108e0d3f7712ab4c5590d1c2b3a4f5e602" in message
    assert "4c0a000000000000081ca72f" in message
    assert "60094307a0000000041010" in message
    assert bench.ecr.quiet(0.05)


def test_tags_come_only_when_asked_for(bench: Bench) -> None:
    bench.ask("tap", card="visa")
    assert "1f14" not in bench.ecr.command("06c00b051910fc0206041f150140").messages[0]
    bench.ask("tap", card="visa")
    assert "1f1410" in bench.ecr.command("06c00b051910fc0206041f150180").messages[0]
    bench.ask("tap", card="visa")
    masked = bench.ecr.command("06c00105").messages[0]
    assert masked == "040f0d270022f0f8411111eeeeee1111"


def test_rfid_girocard_and_fuel_card_look_different(bench: Bench) -> None:
    rfid = bench.tap_and_read("rfid").messages[0]
    assert "4c0a00000004a2b3c4d5e680" in rfid
    assert "4307" not in rfid
    girocard = bench.tap_and_read("girocard").messages[0]
    assert "62216010 41020005 430aa0000003591010028001".replace(" ", "") in girocard
    assert "4308a00000083" in bench.tap_and_read("fuel").messages[0]


def test_a_phone_shows_another_uid_and_the_same_token(bench: Bench) -> None:
    first, second = (bench.tap_and_read("phone").messages[0] for _ in range(2))
    assert first != second
    token = "1f1410f00dcafe55aa4b1e9a8b7c6d5e4f3a05"
    assert token in first
    assert token in second


def test_card_number_only_by_switch(bench: Bench) -> None:
    assert "411111" not in bench.tap_and_read("visa").messages[0]
    bench.ask("set", full_pan=True)
    assert "22f0f84111111111111111" in bench.tap_and_read("visa").messages[0]
    held = bench.ecr.reserve().result().apdu.hex()
    assert "22f0f84111111111111111" in held
    assert "4111111111111111d2912" in held


def test_nineteen_digits_are_padded_and_masked(bench: Bench) -> None:
    assert "22f1f0672590eeeeeeeee9999f" in bench.hold("girocard").apdu.hex()
    bench.ask("set", empty_pan=True)
    assert "22f0f029" in bench.hold("girocard").apdu.hex()


def test_no_card_in_time_and_unreadable_card(bench: Bench) -> None:
    assert bench.ecr.read_card(timeout_s=1).messages == ["061e016c"]
    assert bench.tap_and_read("unreadable").messages == ["061e0164"]


def test_state_tells_that_a_card_is_awaited_and_stop_ends_it(bench: Bench) -> None:
    assert bench.ask("press_stop") == {"was_waiting": False}
    bench.ecr.send(hexa("06c00b051910fc0206041f1501d0"))
    assert bench.ecr.receive() == hexa("800000")
    bench.until("reading_card", True)
    assert bench.ask("press_stop") == {"was_waiting": True}
    assert bench.ecr.receive() == hexa("061e016c")
    bench.ecr.send(hexa("800000"))
    bench.until("reading_card", False)


def test_abort_ends_a_card_read(bench: Bench) -> None:
    bench.ecr.send(hexa("06c0020519")[:4] + b"\x05")  # 06 C0 02 05 05: no field 05 alone
    assert bench.ecr.receive() == hexa("849a00")
    bench.ecr.send(hexa("06c00105"))
    bench.ecr.receive()
    bench.ecr.send(hexa("06b000"))
    assert bench.ecr.receive() == hexa("800000")
    assert bench.ecr.receive() == hexa("061e016c")
    bench.ecr.send(hexa("800000"))
    assert bench.ecr.command("050100").kinds == ["060f"]


def test_another_command_during_a_card_read_is_told_to_wait(bench: Bench) -> None:
    bench.ecr.send(hexa("06c00105"))
    bench.ecr.receive()
    bench.ecr.send(hexa("050100"))
    assert bench.ecr.receive() == hexa("849c00")
    assert bench.state()["complaints"] == {"command_while_busy": 1}
    bench.ask("tap", card="visa")
    assert bench.ecr.receive()[:2] == hexa("040f")
    bench.ecr.send(hexa("800000"))


def test_a_tap_is_one_presentation_and_a_card_may_stay(bench: Bench) -> None:
    bench.tap_and_read()
    assert bench.ecr.read_card(timeout_s=1).messages == ["061e016c"]
    bench.ask("tap", card="visa", stay=True)
    assert bench.ecr.read_card().kinds == ["040f"]
    assert bench.ecr.read_card().kinds == ["040f"]
    bench.ask("remove_card")
    assert bench.ecr.read_card(timeout_s=1).messages == ["061e016c"]


# --- Reservation ----------------------------------------------------------------------------------


def test_reservation_on_the_card_read_before(bench: Bench) -> None:
    bench.tap_and_read("mastercard")
    told = bench.ecr.reserve(5000)
    assert told.kinds == ["04ff", "04ff", "040f", "060f"]
    result = told.result()
    assert (result.code, result.amount, result.receipt) == (0, 5000, 231)
    text = result.apdu.hex()
    for field in ("2952523535", "490978", "8a06", "0b000975", "88000001", "22f0f8555555eeeeee4444"):
        assert field in text
    assert bench.state()["open_holds"][0]["amount_minor"] == 5000
    assert bench.state()["screen"][1] in ("Approved 50.00 EUR", "")
    assert bench.kinds() == ["hold"]
    row = bench.rows()[0]
    assert (row["amount_minor"], row["receipt"], row["hold_receipt"]) == (5000, 231, 231)
    assert (row["tid"], row["currency"], row["turnover"]) == ("52523535", "978", 1)


def test_nothing_protects_from_reserving_twice(bench: Bench) -> None:
    bench.tap_and_read()
    bench.ecr.reserve(5000)
    bench.ecr.reserve(5000)
    assert bench.kinds() == ["hold", "hold"]
    assert [hold["receipt"] for hold in bench.state()["open_holds"]] == [231, 232]
    assert bench.state()["commands"]["0622"] == 2
    assert bench.state()["complaints"] == {"second_reservation_on_one_tap": 1}


def test_without_a_card_the_driver_is_asked_for_one(bench: Bench) -> None:
    bench.ecr.send(hexa("06220c0400000000250049097819 40".replace(" ", "")))
    assert bench.ecr.receive() == hexa("800000")
    assert bench.ecr.receive() == hexa("04ff010a")
    bench.ecr.send(hexa("800000"))
    bench.until("prompting", True)
    assert bench.state()["screen"][1] == "Please present card"
    bench.ask("tap", card="visa")
    told = bench.ecr.rest()
    assert told.kinds == ["04ff", "04ff", "040f", "060f"]
    assert told.result().amount == 2500


@pytest.mark.parametrize("how", ["time", "stop", "abort"])
def test_no_card_ends_the_reservation(bench: Bench, how: str) -> None:
    bench.ask("set", card_wait_s=0.05 if how == "time" else 30)
    bench.ecr.send(hexa("06220c0400000000250049097819 40".replace(" ", "")))
    bench.ecr.receive()
    assert bench.ecr.receive() == hexa("04ff010a")
    bench.ecr.send(hexa("800000"))
    if how != "time":
        bench.until("prompting", True)
    if how == "stop":
        bench.ask("press_stop")
    if how == "abort":
        bench.ecr.send(hexa("06b000"))
        assert bench.ecr.receive() == hexa("800000")
    told = bench.ecr.rest()
    assert told.kinds == ["040f", "061e"]
    assert told.result().code == 0x6C
    assert told.messages[-1] == "061e016c"
    assert bench.rows() == []


def test_card_read_before_needs_bit_02_by_switch(bench: Bench) -> None:
    bench.ask("set", pay_type_02_required=True, card_wait_s=0.05)
    bench.tap_and_read()
    assert bench.ecr.reserve(pay_type="40").messages[-1] == "061e016c"
    assert bench.ecr.reserve(pay_type="42").kinds[-1] == "060f"


@pytest.mark.parametrize(
    ("card", "code"),
    [
        ("decline", "05"),
        ("expired", "78"),
        ("no_credit", "71"),
        ("pin", "ec"),
        ("pin_host", "33"),
        ("rfid", "68"),
    ],
)
def test_declined_cards(bench: Bench, card: str, code: str) -> None:
    bench.tap_and_read(card)
    told = bench.ecr.reserve()
    assert told.result().code == int(code, 16)
    assert told.messages[-1] == f"061e01{code}"
    assert bench.state()["open_holds"] == []
    assert bench.rows() == []


def test_partial_approval(bench: Bench) -> None:
    assert bench.hold("low", 5000).amount == 1500
    bench.ask("set", approve_at_most_minor=700)
    assert bench.hold("visa", 5000).amount == 700
    assert bench.hold("visa", 300).amount == 300


def test_refusals_by_verb_and_by_state(bench: Bench) -> None:
    bench.ask("refuse", command="reserve", code=0x9B)
    bench.tap_and_read()
    assert bench.ecr.reserve().messages[-1] == "061e019b"
    bench.ask("set", eod_due=True)
    assert bench.ecr.reserve().messages[-1] == "061e01f0"
    bench.ask("set", eod_due=False, locked=0xE0)
    assert bench.ecr.reserve().messages[-1] == "061e01e0"
    bench.ask("set", locked=None, max_holds=1)
    assert bench.ecr.reserve().kinds[-1] == "060f"
    assert bench.ecr.reserve().messages[-1] == "061e01b8"
    bench.ask("set", max_holds=9, require_registration=True)
    bench.ecr.command("060200")
    assert bench.ecr.reserve().messages[-1] == "061e016b"
    assert bench.kinds() == ["hold"]


# --- Capture, cancel, enquiry ---------------------------------------------------------------------


def test_partial_reversal_charges_the_rest_once(bench: Bench) -> None:
    bench.hold("visa", 2500)
    told = bench.ecr.release_part(231, 1205)
    assert told.kinds == ["04ff", "04ff", "040f", "060f"]
    assert (told.result().amount, told.result().receipt) == (1295, 232)
    row = bench.rows()[-1]
    assert (row["kind"], row["hold_receipt"], row["receipt"]) == ("capture", 231, 232)
    assert (row["amount_minor"], row["released_minor"]) == (1295, 1205)
    assert bench.state()["open_holds"] == []
    assert bench.ecr.release_part(231, 1205).messages == ["061e01b8"]
    assert bench.kinds() == ["hold", "capture"]


def test_amounts_that_do_not_fit(bench: Bench) -> None:
    bench.hold("visa", 2500)
    assert bench.ecr.release_part(231, 2501).messages == ["061e01b7"]
    assert bench.ecr.release_part(999, 1).messages == ["061e01b8"]
    assert bench.ecr.command("06240d870231040000000026014909 78".replace(" ", "")).messages == [
        "061e01b7"
    ]
    assert bench.ecr.open_receipts() == "061e04b8870231"
    assert bench.kinds() == ["hold"]


def test_releasing_all_is_a_release_and_nothing_is_a_full_capture(bench: Bench) -> None:
    bench.hold("visa", 2500)
    assert bench.ecr.release_part(231, 2500).result().amount == 0
    row = bench.rows()[-1]
    assert (row["kind"], row["amount_minor"]) == ("release", 2500)
    assert bench.state()["complaints"] == {"nothing_charged_without_06_25": 1}
    bench.hold("visa", 2500)
    assert bench.ecr.command("062303870233").result().amount == 2500
    assert bench.rows()[-1]["released_minor"] == 0


def test_book_total(bench: Bench) -> None:
    bench.hold("visa", 2500)
    told = bench.ecr.command("06240d8702310400000000129549 0978".replace(" ", ""))
    assert told.result().amount == 1295
    assert bench.rows()[-1]["released_minor"] == 1205
    bench.ask("set", book_total=False)
    bench.hold("visa", 2500)
    assert bench.ecr.command("062403870233").messages == ["061e0183"]


def test_cancel_reports_zero_or_the_reversed_amount(bench: Bench) -> None:
    bench.hold("visa", 2500)
    assert bench.ecr.cancel(231).result().amount == 0
    assert bench.rows()[-1]["kind"] == "release"
    bench.ask("set", cancel_amount="reversed")
    bench.hold("visa", 2500)
    assert bench.ecr.cancel(233).result().amount == 2500
    assert bench.rows()[-1]["amount_minor"] == 2500
    assert bench.ecr.cancel(233).messages == ["061e01b8"]


def test_a_refused_capture_leaves_the_hold_open(bench: Bench) -> None:
    bench.hold("visa", 2500)
    bench.ask("refuse", command="capture", code=0xA0, count=2)
    assert bench.ecr.release_part(231, 100).messages == ["061e01a0"]
    assert bench.ecr.release_part(231, 100).messages == ["061e01a0"]
    assert bench.ecr.release_part(231, 100).kinds[-1] == "060f"
    assert bench.kinds() == ["hold", "capture"]


def test_enquiry_in_all_its_forms(bench: Bench) -> None:
    assert bench.ecr.open_receipts() == "061e04b887ffff"
    for _ in range(3):
        bench.hold()
    assert bench.ecr.open_receipts() == "061e04b8870231"
    listed = "061e14b8870231060e230c080202310802023208020233"
    assert bench.ecr.command("06230587ffff0600").messages == [listed]
    bench.ask("set", enquiry="list")
    assert bench.ecr.open_receipts() == listed
    bench.ask("set", enquiry="one")
    assert bench.ecr.command("06230587ffff0600").messages == ["061e04b8870231"]
    bench.ask("set", enquiry="no_receipt")
    assert bench.ecr.open_receipts() == "061e01b8"


def test_repeat_receipt_gives_the_last_result_again(bench: Bench) -> None:
    assert bench.ecr.command("0620051234560303").messages == ["061e0183"]
    held = bench.hold().apdu.hex()
    assert bench.ecr.command("0620051234560303").messages == [held, "060f00"]
    assert bench.ecr.command("0620051234560302").messages == ["060f00"]
    bench.tap_and_read("decline")
    bench.ecr.reserve()
    assert bench.ecr.command("0620051234560303").result().code == 5


def test_end_of_day(bench: Bench) -> None:
    bench.hold("mastercard", 2500)
    assert bench.ecr.command("065003123456").messages == ["061e01b8"]
    bench.ecr.release_part(231, 1542)
    told = bench.ecr.command("065003123456")
    assert told.kinds == ["040f", "060f"]
    result = told.messages[0]
    assert "2700 04000000000958 0b".replace(" ", "") in result
    # Receipts from and to, then count and sum: girocard, JCB, Mastercard ...
    none, one = "00000000000000", "01000000000958"
    assert "60f0f5f3 0232 0232".replace(" ", "") + none * 2 + one + none * 4 in result
    assert bench.state()["turnover"] == 2
    assert bench.hold().apdu.hex().count("88000002") == 1


@pytest.mark.parametrize(
    ("rule", "kinds", "still_open"),
    [("charges_full", ["capture"], 0), ("cancels", ["release"], 0), ("keeps", [], 1)],
)
def test_end_of_day_with_an_open_hold(
    bench: Bench, rule: str, kinds: list[str], still_open: int
) -> None:
    bench.hold("mastercard", 2500)
    bench.ask("set", eod_open_holds=rule)
    assert bench.ecr.command("065003123456").kinds == ["040f", "060f"]
    assert bench.kinds() == ["hold", *kinds, "end_of_day"]
    assert len(bench.state()["open_holds"]) == still_open


# --- The look of its messages ---------------------------------------------------------------------


def test_prints_lines_or_a_block_or_nothing(bench: Bench) -> None:
    bench.ecr.register("de", "0978")
    bench.hold("visa", 2500)
    told = bench.ecr.release_part(231, 500)
    lines = [message for message in told.messages if message.startswith("06d1")]
    assert len(lines) > 10
    assert told.kinds[-2:] == ["040f", "060f"]
    assert b"20.00 EUR" in b"".join(bytes.fromhex(line) for line in lines)
    assert bytes.fromhex(lines[-1])[3] & 0x80
    bench.ecr.register("de", "0978" + "0606" + "26040a0206d3")
    bench.hold("visa", 2500)
    told = bench.ecr.release_part(233, 500)
    assert told.kinds == ["04ff", "04ff", "06d3", "040f", "060f"]
    block = told.first("06d3")
    assert block[2] == 0xFF  # longer than 254 bytes
    assert int.from_bytes(block[3:5], "little") == len(block) - 5
    bench.ask("set", print_before_result=False)
    bench.hold("visa", 2500)
    assert bench.ecr.cancel(235).kinds == ["04ff", "04ff", "040f", "06d3", "060f"]
    bench.ask("set", print="none")
    bench.hold("visa", 2500)
    assert bench.ecr.cancel(237).kinds == ["04ff", "04ff", "040f", "060f"]


def test_intermediate_status_only_when_registered_for_it(bench: Bench) -> None:
    bench.ask("set", extra_status_t4_min=9)
    bench.tap_and_read()
    told = bench.ecr.reserve()
    assert "04ff020409" in told.messages
    bench.ecr.register("36")
    bench.tap_and_read()
    assert bench.ecr.reserve().kinds == ["040f", "060f"]


def test_tags_in_results_only_when_allowed_and_unknown_ones_by_switch(bench: Bench) -> None:
    assert "1f2b" not in bench.hold().apdu.hex()
    asked = bench.ecr.command("06220e0400000000100049097819420600")
    assert "1f2b" in asked.result().apdu.hex()  # also an empty container asks for tags
    bench.ecr.register("3e", "0978" + "0600")
    assert "1f2b0400000977" in bench.hold().apdu.hex()
    bench.ask("set", unknown_tlv=True, unknown_bmp=True)
    text = bench.hold().apdu.hex()
    assert "1f7e021020" in text
    assert text.endswith("99010203")


# --- Control --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("request_", "says"),
    [
        ({"do": "tap", "card": "gold"}, "no card 'gold'"),
        ({"do": "tap"}, "card"),
        ({"do": "dance"}, "unknown verb"),
        ({"do": "hold", "at": "reserve:now"}, "no point"),
        ({"do": "resume"}, "nothing is held"),
        ({"do": "fault", "name": "rain"}, "no fault"),
        ({"do": "fault", "name": "nak", "count": -2}, "whole number"),
        ({"do": "set", "print": "loud"}, "one of"),
        ({"do": "set", "max_holds": True}, "whole number"),
        ({"do": "set", "colour": 1}, "no switch"),
        ({"do": "refuse", "command": "reserve", "code": 0}, "from 1 to 255"),
        ({"do": "power_on"}, "has power already"),
        ({"do": "wait", "at": "reserve:received", "timeout_s": 0.01}, "not at reserve:received"),
    ],
)
def test_bad_requests_are_told(bench: Bench, request_: dict[str, Any], says: str) -> None:
    with pytest.raises(ControlError, match=says):
        bench.ask(**request_)


def test_commands_are_counted_and_traced_by_name(bench: Bench) -> None:
    bench.hold()
    state = bench.state()
    assert state["commands"]["0622"] == state["commands"]["06c0"] == 1
    assert "reserve:result_answered" in state["trace"]
    assert "4111111111111111" not in str(state)


def test_a_silent_terminal_says_nothing(bench: Bench) -> None:
    bench.ask("fault", name="silent", count=-1)
    bench.ecr.write(hexa("1002050100100312 34".replace(" ", "")))
    with pytest.raises(LineSilent):
        bench.ecr.byte(0.3)
    bench.ask("clear_faults")
