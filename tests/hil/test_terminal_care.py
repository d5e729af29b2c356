"""End of day in all its ways, setup, locks, reboots, files: what a terminal does beside payments."""

import hashlib
import termios
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from support.terminal_ecr import OK, Bench, LineSilent, Told, frame, hexa, terminal

STATUS = "050105" + "123456" + "0302"


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[Bench]:
    with terminal(tmp_path) as bench:
        bench.ecr.register("36")
        yield bench


def pay(bench: Bench, card: str, minor: int) -> Told:
    bench.ask("tap", card=card)
    return bench.ecr.pay(minor)


# --- End of day -----------------------------------------------------------------------------------


def test_totals_are_those_of_each_brand(bench: Bench) -> None:
    for card, minor in (
        ("girocard", 100),
        ("jcb", 200),
        ("mastercard", 400),
        ("amex", 800),
        ("visa", 1600),
        ("diners", 3200),
        ("maestro", 6400),
        ("visa", 1),
    ):
        assert pay(bench, card, minor).kinds[-1] == "060f"
    told = bench.ecr.fields("0610", "123456")
    assert bench.state()["turnover"] == 1  # nothing is closed by asking
    columns = [f"01{n:012d}" for n in (100, 200, 400, 800)] + ["02000000001601"]
    columns += [f"01{n:012d}" for n in (3200, 6400)]
    assert "60f0f5f3" + "0231" + "0238" + "".join(columns) in told.messages[0]
    assert told.result().amount == 12_701
    day = bench.ecr.end_of_day()
    assert "60f0f5f3" + "0231" + "0238" + "".join(columns) in day.messages[0]
    row = bench.rows()[-1]
    assert (row["kind"], row["amount_minor"], row["turnover"]) == ("end_of_day", 12_701, 1)
    assert row["totals"]["visa"] == [2, 1601]
    assert row["totals"]["others"] == [1, 6400]
    assert bench.state()["turnover"] == 2
    assert bench.state()["bookings"] == []
    assert bench.ecr.end_of_day().result().amount == 0


def test_reversed_and_refunded_money_is_not_in_the_totals(bench: Bench) -> None:
    pay(bench, "visa", 500)
    pay(bench, "visa", 300)
    bench.ecr.fields("0630", "123456", "870232")
    bench.ask("tap", card="visa")
    bench.ecr.fields("0631", "123456", "04000000000200", "490978")
    bench.ecr.end_of_day()
    assert bench.rows()[-1]["totals"]["visa"] == [2, 300]


def test_with_open_holds_it_may_say_77(bench: Bench) -> None:
    bench.hold()
    bench.ask("set", eod_refuse_code=0x77)
    assert bench.ecr.end_of_day().messages == ["061e0177"]
    bench.ask("set", eod_open_holds="charges_full")
    assert bench.ecr.end_of_day().result().amount == 5000
    assert bench.rows()[-1]["totals"]["visa"] == [1, 5000]


def test_it_may_end_with_a_code_or_without_the_host(bench: Bench) -> None:
    bench.ask("set", eod_code=0xA0)
    assert bench.ecr.end_of_day().messages == ["061e01a0"]
    bench.ask("set", eod_code=None, host_offline=0xA3)
    assert bench.ecr.end_of_day().messages == ["061e01a3"]
    assert bench.rows() == []
    assert bench.state()["turnover"] == 1


def test_it_may_be_slow_with_a_longer_t4(bench: Bench) -> None:
    bench.ecr.register("3e")
    bench.ask("set", eod_statuses=2, eod_t4_min=15)
    told = bench.ecr.end_of_day()
    assert told.messages[:2] == ["04ff020e15", "04ff020e15"]
    assert told.kinds == ["04ff", "04ff", "040f", "060f"]


def test_an_update_follows_and_the_terminal_is_busy(bench: Bench) -> None:
    bench.ask("set", eod_completion="e0", eod_busy_s=0.4)
    assert bench.ecr.end_of_day().messages[-1] == "060f0227e0"
    assert bench.state()["mode"] == "locked"
    assert bench.ecr.status() == 0xE0
    assert bench.ecr.reserve().messages == ["061e01e0"]
    assert bench.ecr.register("36").kinds == ["060f"]  # still allowed
    bench.until("mode", "idle")
    assert bench.ecr.status() == 0


def test_an_update_follows_and_the_terminal_is_silent(bench: Bench) -> None:
    bench.ask("set", eod_completion="e0", eod_busy_s=0.4, eod_busy_style="silent")
    bench.ecr.end_of_day()
    assert bench.state()["mode"] == "silent"
    bench.ecr.write(frame(hexa(STATUS)))
    with pytest.raises(LineSilent):
        bench.ecr.byte(0.1)
    bench.until("mode", "idle")
    assert bench.ecr.status() == 0


def test_a_reboot_follows(bench: Bench) -> None:
    bench.ask("set", eod_completion="fc", reboot_s=0.1)
    assert bench.ecr.end_of_day().messages[-1] == "060f0227fc"
    bench.until("boots", 2)
    assert bench.ecr.register("36").kinds == ["060f"]


def test_the_last_result_after_an_end_of_day(bench: Bench) -> None:
    for rule, amount in (("payment", 500), ("day", 700)):
        bench.ask("set", repeat_after_eod=rule)
        pay(bench, "visa", amount)
        bench.ecr.end_of_day()
        assert bench.ecr.command("0620051234560303").result().amount == amount
    bench.ask("set", repeat_after_eod="nothing")
    pay(bench, "visa", 900)
    bench.ecr.end_of_day()
    assert bench.ecr.command("0620051234560303").messages == ["061e0183"]


def test_the_last_result_only_for_an_ecr_in_control(bench: Bench) -> None:
    pay(bench, "visa", 500)
    bench.ask("set", repeat_needs_control=True)
    assert bench.ecr.command("0620051234560303").kinds == ["040f", "060f"]
    bench.ecr.register("16")
    assert bench.ecr.command("0620051234560303").kinds == ["060f"]


@pytest.mark.parametrize("how", [{"eod_due": True}, {"eod_due_count": 1}, {"eod_due_h": 24}])
def test_payments_stop_while_an_end_of_day_is_due(bench: Bench, how: dict[str, Any]) -> None:
    bench.hold("visa", 5000)
    bench.ask("set", **how)
    if "eod_due_h" in how:
        assert bench.ecr.status() == 0
        bench.ask("advance", hours=25)
    bench.ecr.release_part(231, 100)
    assert bench.ecr.status() == 0xF0
    bench.tap_and_read()
    assert bench.ecr.pay(100).messages[-1] == "061e01f0"
    assert bench.ecr.reserve(100).messages[-1] == "061e01f0"
    bench.ask("set", eod_due_blocks_read=True)
    assert bench.ecr.read_card().messages == ["061e01f0"]
    assert bench.ecr.end_of_day().kinds == ["040f", "060f"]
    assert bench.ecr.status() == 0
    assert bench.hold().code == 0


# --- Setup ----------------------------------------------------------------------------------------


def test_an_uninitialised_terminal_is_blocked(bench: Bench) -> None:
    bench.ask("set", status=0x51)
    assert bench.ecr.register("36", "0978" + "0600").messages[0].startswith("060f0a1911")
    told = bench.ecr.reserve()
    assert told.result().code == 0xDF
    abort = bytes.fromhex(told.messages[-1])
    assert abort[:2].hex() + abort[3:4].hex() == "061edf"
    assert bytes.fromhex("1f17") in abort and b"Terminal is blocked" in abort
    bench.ask("set", host_offline=0xA1)
    assert bench.ecr.command("069303123456").messages == ["061e01a1"]
    bench.ask("set", host_offline=None)
    assert bench.ecr.command("069303123456").kinds == ["060f"]
    assert bench.hold().code == 0


@pytest.mark.parametrize(("status", "command"), [(0xC2, "067000"), (0x62, "067000")])
def test_a_diagnosis_heals(bench: Bench, status: int, command: str) -> None:
    bench.ask("set", status=status)
    assert bench.ecr.status() == status
    bench.tap_and_read()
    assert bench.ecr.reserve().result().code == (0xC2 if status == 0xC2 else 0)
    bench.ecr.command(command)
    assert bench.ecr.status() == 0


def test_kinds_of_diagnosis(bench: Bench) -> None:
    for kind in range(1, 6):
        assert bench.ecr.command(f"067005 06031b01{kind:02x}".replace(" ", "")).kinds == ["060f"]
    assert bench.ecr.command("06700506031b0106").messages == ["061e0183"]
    bench.ask("set", diagnosis_type_required=True)
    assert bench.ecr.command("067000").answer == "848300"
    bench.ask("set", host_offline=0xA3)
    assert bench.ecr.command("06700506031b0104").messages == ["061e01a3"]


def test_a_terminal_id_needs_an_empty_store_and_a_new_setup(bench: Bench) -> None:
    pay(bench, "visa", 500)
    set_tid = ("061b", "123456", "29", "60600001")
    assert bench.ecr.fields(*set_tid).messages == ["061e0183"]
    bench.ecr.end_of_day()
    assert bench.ecr.fields(*set_tid).kinds == ["060f"]
    assert bench.ecr.status() == 0xC2
    assert bench.ecr.command("069303123456").messages == ["061e01c2"]
    assert bench.ecr.reserve().result().code == 0xC2
    bench.ecr.command("067000")  # not the one that fetches the configuration
    assert bench.ecr.status() == 0xC2
    bench.ecr.command("06700506031b0104")
    assert bench.ecr.status() == 0x51
    bench.ask("power_off")
    bench.ask("power_on")
    assert bench.ecr.status() == 0x51
    bench.ecr.command("069303123456")
    assert bench.ecr.status() == 0
    assert bench.ecr.register("36").messages[0].startswith("060f0a19102960600001")
    assert bench.ecr.fields("061b", "123456").answer == "848300"


def test_a_terminal_may_only_pretend_to_take_its_id(bench: Bench) -> None:
    bench.ask("set", set_tid="pretends")
    assert bench.ecr.fields("061b", "123456", "2960600001").kinds == ["060f"]
    assert bench.state()["tid"] == "52523535"
    bench.ask("set", set_tid="refuses")
    assert bench.ecr.fields("061b", "123456", "2960600001").messages == ["061e0183"]


def test_the_clock_may_be_wrong_until_it_is_set(bench: Bench) -> None:
    bench.ask("set", status=0x62, clock_skew_s=-86_400 * 400)
    year = time.strftime("%Y")
    assert not bench.state()["clock"].startswith(year)
    now = time.strftime("aa%y%m%d0c%H%M%S")
    assert bench.ecr.fields("0691", "123456", now).kinds == ["060f"]
    assert bench.state()["clock"].startswith(year)
    assert bench.ecr.status() == 0


def test_languages_and_texts(bench: Bench) -> None:
    bench.tap_and_read("expired")
    assert b"Card expired" in bench.ecr.reserve().result().apdu
    assert bench.ecr.command("08300100").kinds == ["060f"]
    bench.tap_and_read("expired")
    assert "Karte ungültig".encode("cp437") in bench.ecr.reserve().result().apdu
    assert bench.ecr.command("08300109").answer == "848300"
    assert bench.state()["language"] == 0


def test_odds_and_ends(bench: Bench) -> None:
    assert bench.ecr.command("06c500").answer == "800000"
    assert bench.ecr.command("085002fa00").answer == "800000"
    assert bench.ecr.command("067900").kinds == ["060f"]
    assert bench.ecr.command("067700").answer == "848300"
    bench.ask("set", unsupported="0693 06C5")
    assert bench.ecr.command("06c500").answer == "848300"
    assert bench.ecr.command("069303123456").answer == "848300"


def test_a_long_print_out_comes_in_an_extended_block(bench: Bench) -> None:
    bench.ecr.register("b6", "0978" + "0606" + "26040a0206d3")
    told = bench.ecr.command("061a00")
    assert told.kinds == ["06d3", "060f"]
    block = bytes.fromhex(told.messages[0])
    assert block[2] == 0xFF and len(block) > 2000
    bench.ecr.register("b6", "0978" + "060a" + "26040a0206d3" + "1a020400")
    blocks = [bytes.fromhex(m) for m in bench.ecr.command("061a00").messages[:-1]]
    assert len(blocks) > 2
    assert all(len(block) <= 0x400 for block in blocks)
    # Only the last one closes the receipt.
    assert [block.endswith(hexa("090180")) for block in blocks] == [False] * (len(blocks) - 1) + [
        True
    ]


def test_a_reset_reboots(bench: Bench) -> None:
    bench.ask("set", reboot_s=0.1)
    assert bench.ecr.command("061800").kinds == ["060f"]
    bench.until("boots", 2)
    assert bench.ecr.status() == 0


def test_a_factory_reset_forgets_the_holds_but_the_bank_does_not(bench: Bench) -> None:
    bench.hold("visa", 5000)
    bench.ask("set", reboot_s=0.1)
    assert bench.ecr.command("0fa1056543210255").answer == "843700"
    assert bench.ecr.command("0fa1020002").answer == "848300"
    assert bench.ecr.command("0fa1051234560255").kinds == ["060f"]
    bench.until("boots", 2)
    assert bench.ecr.open_receipts() == "061e04b887ffff"
    assert bench.ecr.status() == 0xC2
    assert bench.state()["foreign_holds"][0]["receipt"] == 231
    bench.ask("set", hold_days=7)
    bench.ask("advance", days=8)
    assert bench.kinds() == ["hold", "expiry"]


# --- Passwords and refusals -----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("form", "answer", "messages"),
    [
        ("plain", "843700", []),
        ("1e", "841e0137", []),
        ("abort", "800000", ["061e0137"]),
    ],
)
def test_wrong_password_by_vendor(
    bench: Bench, form: str, answer: str, messages: list[str]
) -> None:
    bench.ask("set", wrong_password=form)
    told = bench.ecr.command("065003654321")
    assert (told.answer, told.messages) == (answer, messages)
    assert bench.ecr.register("36").answer == "800000"


def test_some_compare_only_five_digits(bench: Bench) -> None:
    bench.ask("set", password_digits=5)
    assert bench.ecr.command("065003123459").answer == "800000"
    assert bench.ecr.command("065003123956").answer == "843700"


def test_commands_may_be_refused_at_random(tmp_path: Path) -> None:
    answers = []
    for seed in (1, 1, 2):
        folder = tmp_path / str(len(answers))
        folder.mkdir()
        with terminal(folder, seed=seed, settings=("random_refusal_permille=500",)) as bench:
            answers.append([bench.ecr.command("06c500").answer for _ in range(20)])
    assert set(answers[0]) == {"800000", "841e017d"}
    assert answers[0] == answers[1] != answers[2]


def test_a_locked_terminal_does_little(bench: Bench) -> None:
    bench.ask("set", locked=0x9C)
    bench.ask("tap", card="visa")
    assert bench.ecr.read_card().kinds == ["040f"]
    assert bench.ecr.command("06e006f000f1f0f141").answer == "800000"
    assert bench.ecr.command("06b000").answer == "800000"
    assert bench.ecr.end_of_day().messages == ["061e019c"]
    assert bench.ecr.release_part(231, 1).messages == ["061e019c"]
    assert bench.ecr.status() == 0x9C
    bench.ask("set", locked_style="silent")
    bench.ecr.write(frame(hexa(STATUS)))
    assert bench.ecr.quiet(0.1)
    bench.ask("set", locked=None)
    bench.ask("lock", for_s=0.2, code=0xE0, style="silent")
    bench.ecr.write(frame(hexa(STATUS)))
    assert bench.ecr.quiet(0.1)
    bench.until("mode", "idle")
    assert bench.ecr.status() == 0


def test_an_abort_can_be_impossible(bench: Bench) -> None:
    bench.ask("set", abort="refused")
    assert bench.ecr.command("06b000").answer == "848300"
    bench.ecr.send(hexa("06c00105"))
    assert bench.ecr.receive() == OK
    bench.ecr.send(hexa("06b000"))
    assert bench.ecr.receive() == hexa("848300")
    bench.ask("tap", card="visa")
    assert bench.ecr.receive()[:2] == hexa("040f")
    bench.ecr.send(OK)


def test_a_terminal_of_another_protocol(bench: Bench) -> None:
    bench.ask("set", wrong_protocol=True)
    bench.ecr.write(frame(hexa("050100")))
    assert [bench.ecr.byte() for _ in range(4)] == [0x06, 0x15, 0x03, 0x69]


def test_lengths_without_f_are_refused_by_switch(bench: Bench) -> None:
    assert bench.ecr.command("06e006f000f1000141").answer == "800000"
    bench.ask("set", strict_ll=True)
    assert bench.ecr.command("06e006f000f1000141").answer == "849a00"
    assert bench.ecr.command("06e006f000f1f0f141").answer == "800000"


# --- 06 E1 ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("how", "key"),
    [("ok", "0d"), ("stop", "1b"), ("f2", "32"), ("card", "dc"), ("abort", "6c"), ("time", "6c")],
)
def test_a_key_is_asked_for(bench: Bench, how: str, key: str) -> None:
    bench.ecr.send(hexa(f"06e106f0{'01' if how == 'time' else '05'}f1f0f141"))
    bench.until("mode", "busy")
    assert bench.state()["screen"][0] == "A"
    if how == "card":
        bench.ask("tap", card="visa")
    elif how == "abort":
        bench.ecr.send(hexa("06b000"))
        assert bench.ecr.receive() == OK
    elif how != "time":
        bench.ask("press_key", key=how)
    assert bench.ecr.receive() == hexa(f"800001{key}")
    assert bench.ecr.status() == 0


# --- 08 40 ----------------------------------------------------------------------------------------


def set_rate(bench: Bench, rate: int) -> None:
    attributes = termios.tcgetattr(bench.ecr.fd)
    attributes[4] = attributes[5] = rate
    termios.tcsetattr(bench.ecr.fd, termios.TCSANOW, attributes)


def test_a_new_rate_counts_after_a_while(tmp_path: Path) -> None:
    with terminal(tmp_path, baud=9600, settings=("check_baud=on", "baud_wait_s=1")) as bench:
        set_rate(bench, termios.B9600)
        assert bench.ecr.register("36").kinds == ["060f"]
        assert bench.ecr.command("08400102").answer == "84fd00"
        assert bench.ecr.command("08400107").answer == "800000"
        bench.until("baud", 115_200)
        set_rate(bench, termios.B115200)
        bench.ecr.write(frame(hexa(STATUS)))
        assert bench.ecr.quiet(1.1)  # too early
        assert bench.ecr.status() == 0
        set_rate(bench, termios.B9600)
        bench.ecr.write(frame(hexa(STATUS)))
        assert bench.ecr.quiet(0.25)  # what it hears is no block, and it does not answer
        set_rate(bench, termios.B115200)
        bench.ask("power_off")
        bench.ask("power_on")
        assert bench.ecr.status() == 0
        bench.ask("set", baud_after_reboot="9600")
        bench.ask("power_off")
        bench.ask("power_on")
        assert bench.state()["baud"] == 9600
        bench.ecr.write(frame(hexa(STATUS)))
        assert bench.ecr.quiet(0.25)
        set_rate(bench, termios.B9600)
        assert bench.ecr.status() == 0
        bench.ask("set", baud_change=False)
        assert bench.ecr.command("08400107").answer == "84fd00"


def test_a_new_rate_is_kept_in_the_store(tmp_path: Path) -> None:
    with terminal(tmp_path, baud=9600, settings=("baud_wait_s=0",)) as bench:
        bench.ecr.command("08400106")
        bench.until("baud", 57_600)
    with terminal(tmp_path, baud=9600) as bench:
        assert bench.state()["baud"] == 57_600


# --- Files ----------------------------------------------------------------------------------------


def tag(number: str, value: bytes) -> bytes:
    size = len(value)
    length = bytes([size]) if size < 0x80 else b"\x82" + size.to_bytes(2, "big")
    return hexa(number) + length + value


def answer_block(request: bytes, content: bytes, block: int, offset: int | None = None) -> bytes:
    at = int.from_bytes(request[-4:], "big")
    data = content[at : at + block]
    where = (at if offset is None else offset).to_bytes(4, "big")
    body = tag("06", tag("2d", tag("1d", b"\x23") + tag("1e", where) + tag("1c", data)))
    return hexa("8000ff") + len(body).to_bytes(2, "little") + body


def write_file(size: int) -> bytes:
    entry = tag("2d", tag("1d", b"\x23") + tag("1f00", size.to_bytes(4, "big")))
    body = hexa("123456") + tag("06", entry)
    return hexa("0814") + bytes([len(body)]) + body


@pytest.mark.parametrize("block", [32_768, 1000])
def test_a_file_is_taken_in_blocks(bench: Bench, block: int) -> None:
    content = bytes(range(256)) * 20
    content = content * 8 if block > 10_000 else content
    bench.ecr.send(write_file(len(content)))
    assert bench.ecr.receive() == OK
    asked = []
    while (message := bench.ecr.receive())[:2] == hexa("040c"):
        assert message[:12] == hexa("040c0d060b2d091d01231e04")
        asked.append(int.from_bytes(message[-4:], "big"))
        bench.ecr.send(answer_block(message, content, block))
    assert message == hexa("060f00")
    bench.ecr.send(OK)
    assert asked == list(range(0, len(content), block))
    kept = bench.state()["files"]["23"]
    assert kept == {"size": len(content), "sha256": hashlib.sha256(content).hexdigest()}


@pytest.mark.parametrize("how", ["no", "other_offset", "too_much", "rubbish"])
def test_a_file_that_comes_wrong_is_given_up(bench: Bench, how: str) -> None:
    content = bytes(100)
    bench.ecr.send(write_file(50 if how == "too_much" else 100))
    assert bench.ecr.receive() == OK
    request = bench.ecr.receive()
    answers = {
        "no": hexa("846c00"),
        "other_offset": answer_block(request, content, 10, offset=7),
        "too_much": answer_block(request, content, 100),
        "rubbish": hexa("80000206ff"),
    }
    bench.ecr.send(answers[how])
    assert bench.ecr.receive() == hexa("061e016c" if how == "no" else "061e019a")
    bench.ecr.send(OK)
    assert bench.state()["files"] == {}


def test_files_need_a_name_and_a_size(bench: Bench) -> None:
    assert bench.ecr.fields("0814", "123456", "0605", "2d031d0123").answer == "849a00"
    assert bench.ecr.fields("0814", "123456").answer == "849a00"


def test_the_configuration_can_be_changed(bench: Bench) -> None:
    settings = "ff4003123456" + "ff41080a00000155f0c001"
    told = bench.ecr.fields(
        "0813", f"06{len(settings) // 2 + 2:02x}e4{len(settings) // 2:02x}", settings
    )
    assert told.kinds == ["060f"]
    assert bench.state()["configuration"] == {"ff41": "0a00000155f0c001"}
    assert bench.ecr.command("081300").answer == "849a00"


# --- Reboots by hand ------------------------------------------------------------------------------


def test_a_reboot_at_any_time(bench: Bench) -> None:
    held = bench.hold("visa", 5000).receipt
    bench.ask("reboot", off_s=0.1)
    bench.until("boots", 2)
    bench.reopen()
    assert bench.ecr.register("36").kinds == ["060f"]
    assert f"{held:04d}" in bench.ecr.open_receipts()
    assert bench.link.is_symlink()
