"""When a transaction is final: the answer to 04 0F, broken links, power cuts, points to stop at."""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from support.terminal_ecr import ACK, Bench, Ecr, Told, frame, hexa, terminal

from hil.common.control import ControlError, ask
from hil.terminal.store import Store

OK = hexa("800000")
RESERVE = hexa("06220c0400000000500049097819 42".replace(" ", ""))
CAPTURE = hexa("06230d870231040000000037054909 78".replace(" ", ""))  # 50.00 - 37.05 = 12.95


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[Bench]:
    with terminal(tmp_path) as bench:
        bench.ecr.register("36")
        yield bench


def offer(bench: Bench, command: bytes) -> bytes:
    """Everything up to the 04 0F, which is on the line and not acknowledged."""
    bench.ecr.send(command)
    assert bench.ecr.receive() == OK
    apdu, good = bench.ecr.raw_block()
    assert good and apdu[:2] == hexa("040f")
    return apdu


# --- The commit point -----------------------------------------------------------------------------


def test_a_hold_without_ack_is_taken_back(bench: Bench) -> None:
    bench.tap_and_read()
    offer(bench, RESERVE)
    bench.until("auto_reversals", 1)
    assert bench.kinds() == ["hold", "auto_reversal"]
    reversal = bench.rows()[1]
    assert (reversal["hold_receipt"], reversal["amount_minor"]) == (231, 5000)
    assert bench.state()["open_holds"] == []
    bench.reopen()
    assert bench.ecr.open_receipts() == "061e04b887ffff"
    bench.ecr.reserve()  # taken back once, not again with every transaction
    assert bench.kinds() == ["hold", "auto_reversal", "hold"]


def test_a_hold_acknowledged_but_not_answered_is_taken_back(bench: Bench) -> None:
    bench.tap_and_read()
    offer(bench, RESERVE)
    bench.ecr.write(ACK)
    bench.until("auto_reversals", 1)
    assert bench.kinds() == ["hold", "auto_reversal"]
    assert bench.state()["complaints"] == {"message_not_answered": 1}
    assert bench.ecr.command("0620051234560303").messages == ["061e0183"]


def test_an_answered_hold_stands_though_the_completion_is_lost(bench: Bench) -> None:
    bench.tap_and_read()
    offer(bench, RESERVE)
    bench.ecr.write(ACK)
    bench.ecr.send(OK)
    for _ in range(3):
        assert bench.ecr.raw_block()[0] == hexa("060f00")
    bench.until_passed("link_broken")
    bench.reopen()
    assert bench.ecr.open_receipts() == "061e04b8870231"
    assert bench.kinds() == ["hold"]
    last = Told("", [bench.ecr.command("0620051234560303").messages[0]])
    assert (last.result().amount, last.result().receipt) == (5000, 231)


def test_a_negative_answer_takes_it_back(bench: Bench) -> None:
    bench.tap_and_read()
    told = bench.ecr.reserve(answers={"040f": "846600"})
    assert told.kinds == ["040f", "040f", "061e"]
    assert told.messages[-2].startswith("040f") and "276c" in told.messages[-2]
    assert told.messages[-1] == "061e016c"
    assert bench.kinds() == ["hold", "auto_reversal"]


def test_84_00_is_positive_too(bench: Bench) -> None:
    bench.tap_and_read()
    assert bench.ecr.reserve(answers={"040f": "840000"}).kinds == ["040f", "060f"]
    assert bench.kinds() == ["hold"]


def test_please_wait_gets_the_result_again(bench: Bench) -> None:
    bench.tap_and_read()
    bench.ecr.send(RESERVE)
    assert bench.ecr.receive() == OK
    first = bench.ecr.receive()
    bench.ecr.send(hexa("849c00"))
    assert bench.ecr.receive() == first
    bench.ecr.send(OK)
    assert bench.ecr.receive() == hexa("060f00")
    bench.ecr.send(OK)
    assert bench.kinds() == ["hold"]
    bench.ask("set", vending_repeats=1)
    told = bench.ecr.reserve(answers={"040f": "849c00"})
    assert told.kinds == ["040f", "040f", "040f", "061e"]
    assert bench.kinds() == ["hold", "hold", "auto_reversal"]


def test_a_capture_taken_back_leaves_the_hold_open(bench: Bench) -> None:
    bench.hold()
    offer(bench, CAPTURE)
    bench.until("auto_reversals", 1)
    assert bench.kinds() == ["hold"]
    bench.reopen()
    assert bench.ecr.open_receipts() == "061e04b8870231"
    assert bench.ecr.release_part(231, 3705).result().amount == 1295
    assert bench.kinds() == ["hold", "capture"]


def test_reversal_at_the_next_transaction(bench: Bench) -> None:
    bench.ask("set", auto_reversal="next_transaction")
    bench.tap_and_read()
    offer(bench, RESERVE)
    bench.ecr.write(ACK)
    bench.until("pending", {"kind": "hold", "receipt": 231})
    bench.reopen()
    bench.ecr.register("3e")
    assert bench.kinds() == ["hold"]
    assert bench.ecr.open_receipts() == "061e04b887ffff"  # not stored, so not listed
    told = bench.ecr.release_part(231, 1)
    assert told.messages == ["04ff0105", "061e01b8"]
    assert bench.kinds() == ["hold", "auto_reversal"]


def test_no_reversal_at_all_by_switch(bench: Bench) -> None:
    bench.ask("set", auto_reversal="never")
    bench.tap_and_read()
    offer(bench, RESERVE)
    bench.ecr.write(ACK)
    bench.until("pending", None)
    bench.reopen()
    assert bench.ecr.open_receipts() == "061e04b8870231"
    assert bench.kinds() == ["hold"]


def test_with_printing_after_the_result_all_prints_must_be_answered(bench: Bench) -> None:
    bench.ecr.register("92")
    bench.hold()
    bench.ask("set", print_before_result=False)
    told = bench.ecr.release_part(231, 3705, answers={"06d1": "84cc00"})
    assert told.kinds == ["040f", "06d1", "040f", "061e"]
    assert bench.kinds() == ["hold"]
    bench.ask("set", print_before_result=True)
    told = bench.ecr.release_part(231, 3705, answers={"06d1": "84cc00"})
    assert told.kinds == ["06d1", "040f", "061e"]
    assert told.result().code == 0x6C
    assert bench.kinds() == ["hold"]


def test_a_register_that_starts_anew_ends_the_dialogue(bench: Bench) -> None:
    bench.tap_and_read()
    offer(bench, RESERVE)
    bench.ecr.write(ACK)
    bench.reopen()
    assert bench.ecr.register("36").kinds == ["060f"]
    assert bench.kinds() == ["hold", "auto_reversal"]


# --- Points ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("point", "kinds"),
    [
        ("reserve:received", []),
        ("reserve:result_sent", ["hold", "auto_reversal"]),
        ("reserve:result_answered", ["hold"]),
        ("reserve:completed", ["hold"]),
    ],
)
def test_a_broken_link_at_each_point_of_a_reservation(
    bench: Bench, point: str, kinds: list[str]
) -> None:
    bench.tap_and_read()
    bench.ask("hold", at=point)
    answer_until_held(bench, RESERVE, point)
    assert bench.state()["held_at"] == point
    bench.ask("resume", break_link=True)
    bench.until("held_at", None)
    bench.reopen()
    assert bench.ecr.register("36").kinds == ["060f"]
    assert bench.kinds() == kinds
    assert ("231" in bench.ecr.open_receipts()) == (kinds == ["hold"])


@pytest.mark.parametrize(
    ("point", "captured"),
    [
        ("capture:received", False),
        ("capture:result_sent", False),
        ("capture:result_answered", True),
        ("capture:completed", True),
    ],
)
def test_a_broken_link_at_each_point_of_a_capture(bench: Bench, point: str, captured: bool) -> None:
    bench.hold()
    bench.ask("hold", at=point)
    answer_until_held(bench, CAPTURE, point)
    bench.ask("resume", break_link=True)
    bench.until("held_at", None)
    bench.reopen()
    assert bench.ecr.register("36").kinds == ["060f"]
    assert bench.kinds() == (["hold", "capture"] if captured else ["hold"])
    assert ("231" in bench.ecr.open_receipts()) is not captured


def answer_until_held(bench: Bench, command: bytes, point: str) -> None:
    """An ECR that goes on as far as it can before the terminal stands still."""
    bench.ecr.send(command)
    step = point.partition(":")[2]
    if step != "received":
        assert bench.ecr.receive() == OK
        assert bench.ecr.receive()[:2] == hexa("040f")
    if step in ("result_answered", "completed"):
        bench.ecr.send(OK)
    if step == "completed":
        assert bench.ecr.receive() == hexa("060f00")
    assert bench.ask("wait", at=point, timeout_s=3) == {"held_at": point}


def test_nothing_is_said_and_nothing_read_at_a_point(bench: Bench) -> None:
    bench.tap_and_read()
    bench.ask("hold", at="reserve:received")
    bench.ecr.send(RESERVE)
    bench.ask("wait", at="reserve:received", timeout_s=3)
    assert bench.ecr.quiet(0.2)
    assert bench.rows() == []
    bench.ask("resume")
    told = Told(bench.ecr.receive().hex())
    bench.ecr.listen(told)
    assert told.kinds == ["040f", "060f"]


def test_what_was_answered_while_it_was_held_counts_afterwards(bench: Bench) -> None:
    """The bytes were on the line: killing the ECR does not take them back."""
    bench.tap_and_read()
    bench.ask("hold", at="reserve:result_sent")
    offer(bench, RESERVE)
    bench.ask("wait", at="reserve:result_sent", timeout_s=3)
    bench.ecr.write(ACK + frame(OK))
    assert bench.ecr.quiet(0.2)
    assert bench.state()["pending"] == {"kind": "hold", "receipt": 231}
    bench.ask("resume")
    assert bench.ecr.byte() == ACK[0]
    assert bench.ecr.receive() == hexa("060f00")
    bench.ecr.send(OK)
    assert bench.kinds() == ["hold"]


def test_what_was_answered_while_it_was_held_is_lost_with_the_link(bench: Bench) -> None:
    bench.tap_and_read()
    bench.ask("hold", at="reserve:result_sent")
    offer(bench, RESERVE)
    bench.ask("wait", at="reserve:result_sent", timeout_s=3)
    before = bench.state()["bytes_in"]
    bench.ecr.write(ACK + frame(OK))
    bench.until("bytes_in", before + len(ACK + frame(OK)))
    bench.ask("resume", break_link=True)
    bench.until("auto_reversals", 1)
    assert bench.ecr.quiet(0.2)  # no ACK for an answer that never arrived
    assert bench.ecr.command("050100").kinds == ["060f"]
    assert bench.kinds() == ["hold", "auto_reversal"]


def test_a_card_read_can_be_held_and_an_armed_point_disarmed(bench: Bench) -> None:
    bench.ask("tap", card="visa")
    bench.ask("hold", at="read_card:result_sent")
    bench.ecr.send(hexa("06c00105"))
    assert bench.ecr.receive() == OK
    bench.ask("wait", at="read_card:result_sent", timeout_s=3)
    bench.ask("resume")
    assert bench.ecr.receive()[:2] == hexa("040f")
    bench.ecr.send(OK)
    bench.ask("hold", at="status:received")
    assert bench.state()["armed"] == "status:received"
    bench.ask("resume")
    assert bench.ecr.command("050100").kinds == ["060f"]


# --- Power ----------------------------------------------------------------------------------------


def test_a_power_cut_keeps_the_store_and_drops_the_line(bench: Bench) -> None:
    result = bench.hold()
    bench.ask("power_off")
    assert bench.state()["screen"] == ["", "", "", ""]
    with pytest.raises(ControlError, match="no power"):
        bench.ask("tap", card="visa")
    bench.ecr.write(hexa("1002050100 1003"))
    assert bench.ecr.quiet(0.2)
    bench.ask("power_on")
    state = bench.state()
    assert state["registered"] is True
    assert [hold["receipt"] for hold in state["open_holds"]] == [231]
    assert bench.ecr.command("0620051234560303").messages[0] == result.apdu.hex()
    assert bench.ecr.release_part(231, 3705).result().receipt == 232
    assert bench.kinds() == ["hold", "capture"]
    bench.ask("set", forget_registration=True)
    bench.ask("power_off")
    bench.ask("power_on")
    assert bench.state()["registered"] is False


@pytest.mark.parametrize(
    ("point", "kinds"),
    [
        ("reserve:received", []),
        ("reserve:result_sent", ["hold", "auto_reversal"]),
        ("reserve:result_answered", ["hold"]),
    ],
)
def test_a_power_cut_in_mid_dialogue(bench: Bench, point: str, kinds: list[str]) -> None:
    bench.tap_and_read()
    bench.ask("hold", at=point)
    answer_until_held(bench, RESERVE, point)
    bench.ask("power_off")
    bench.ask("power_on")
    bench.reopen()
    assert bench.ecr.register("36").kinds == ["060f"]
    assert bench.kinds() == kinds


def test_everything_the_terminal_knows_survives_a_power_cut(bench: Bench) -> None:
    bench.ecr.fields("0691", "123456", "aa", "300102", "0c", "030405")
    bench.ecr.register("be", "0978" + "0606" + "26040a0206d3")
    bench.hold()
    bench.ask("numbers", receipt=400, trace=5000, turnover=7)
    kept = ("registered", "config", "tid", "turnover", "open_holds", "last_result", "ecr_commands")
    before = bench.state()
    bench.ask("power_off")
    bench.ask("power_on")
    after = bench.state()
    assert {name: after[name] for name in kept} == {name: before[name] for name in kept}
    assert after["clock"].startswith("2030-01-02T03:")
    assert (after["config"], after["turnover"]) == ("be", 7)
    # Tags are still allowed, and the numbers go on.
    bench.ask("tap", card="visa")
    result = bench.reopen().reserve().result()
    assert result.receipt == 400
    assert hexa("1f12") in result.apdu, "a tag that only an ECR gets that allowed them"


def test_only_the_file_survives_a_power_cut(bench: Bench) -> None:
    bench.hold()
    bench.ask("power_off")
    path = bench.folder / "store.json"
    path.write_text(path.read_text().replace("52523535", "60606060"))
    bench.ask("power_on")
    assert bench.state()["tid"] == "60606060"


def test_a_register_that_starts_anew_ends_a_card_read(bench: Bench) -> None:
    bench.ecr.send(hexa("06c00100"))  # for ever
    assert bench.ecr.receive() == OK
    bench.until("reading_card", True)
    bench.reopen()
    assert bench.ecr.register("36").kinds == ["060f"]
    assert bench.state()["reading_card"] is False


def test_a_card_read_before_the_power_cut_is_forgotten(bench: Bench) -> None:
    bench.ask("set", card_wait_s=0.05)
    bench.tap_and_read()
    bench.ask("power_off")
    bench.ask("power_on")
    assert bench.ecr.reserve().messages[-1] == "061e016c"


def test_pulling_the_plug_gives_a_new_device_under_the_same_name(bench: Bench) -> None:
    bench.ask("unplug")
    assert not bench.link.exists()
    with pytest.raises(OSError):
        os.write(bench.ecr.fd, b"\x06")
    bench.ask("replug")
    bench.reopen()
    assert bench.ecr.command("050100").kinds == ["060f"]


# --- The store ------------------------------------------------------------------------------------


def test_rows_that_a_crash_kept_out_of_the_ledger_are_booked_once(tmp_path: Path) -> None:
    path, ledger = tmp_path / "store.json", tmp_path / "ledger.jsonl"
    with terminal(tmp_path) as bench:
        bench.hold()
    rows = ledger.read_text().splitlines()
    assert len(rows) == 1
    data = json.loads(path.read_text())
    data["rows_due"] = [json.loads(rows[0])]
    path.write_text(json.dumps(data))
    ledger.write_text("")  # as if the crash came between the two files
    assert [row["kind"] for row in Store(path, ledger, "1" * 8, "978").rows()] == ["hold"]
    assert [row["kind"] for row in Store(path, ledger, "1" * 8, "978").rows()] == ["hold"]
    with ledger.open("a") as file:
        file.write('{"kind": "capt')  # a row that was never finished
    assert [row["kind"] for row in Store(path, ledger, "1" * 8, "978").rows()] == ["hold"]
    assert ledger.read_text().endswith("}\n")


def test_a_store_that_is_none_is_refused(tmp_path: Path) -> None:
    (tmp_path / "store.json").write_text("[]")
    with pytest.raises(ValueError, match="no terminal store"):
        Store(tmp_path / "store.json", tmp_path / "ledger.jsonl", "1" * 8, "978")


# --- As a process ---------------------------------------------------------------------------------


class Process:
    """`python -m hil terminal`; killed at the end of the test if it still lives."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.process = self.start()

    def __enter__(self) -> "Process":
        return self

    def __exit__(self, *_: object) -> None:
        self.process.kill()
        self.process.communicate(timeout=10)

    def start(self) -> "subprocess.Popen[str]":
        paths = ("link", "control", "store", "ledger")
        files = [part for name in paths for part in (f"--{name}", str(self.folder / name))]
        process = subprocess.Popen(
            [sys.executable, "-m", "hil", "terminal", *files, "--delay-ms", "0"],
            stdout=subprocess.PIPE,
            text=True,
            cwd=Path(__file__).parents[2],
        )
        assert process.stdout is not None
        assert process.stdout.readline().startswith("ready terminal 52523535 on ")
        return process

    def end(self, number: int) -> int:
        self.process.send_signal(number)
        self.process.communicate(timeout=10)
        return self.process.returncode


@pytest.fixture
def process(tmp_path: Path) -> Iterator[Process]:
    with Process(tmp_path) as process:
        yield process


def test_the_process_survives_sigkill_with_its_memory_and_leaves_nothing(
    tmp_path: Path, process: Process
) -> None:
    ecr = Ecr(tmp_path / "link")
    ecr.register("36")
    ask(tmp_path / "control", do="tap", card="visa")
    ecr.read_card()
    ecr.reserve()
    ask(tmp_path / "control", do="hold", at="reserve:result_sent")
    ecr.send(RESERVE)
    assert ecr.receive() == OK
    ask(tmp_path / "control", do="wait", at="reserve:result_sent", timeout_s=5)
    assert process.end(signal.SIGKILL) == -signal.SIGKILL
    ecr.close()

    process.process = process.start()  # over the link and socket of the dead one
    state = ask(tmp_path / "control", do="state")
    rows = ask(tmp_path / "control", do="ledger")["rows"]
    assert [row["kind"] for row in rows] == ["hold", "hold", "auto_reversal"]
    assert [hold["receipt"] for hold in state["open_holds"]] == [231]
    ecr = Ecr(tmp_path / "link")
    assert ecr.release_part(231, 3705).result().receipt == 233
    ecr.close()
    assert process.end(signal.SIGTERM) == 0
    assert sorted(path.name for path in tmp_path.iterdir()) == ["ledger", "store"]


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["--tid", "12"], "8 digits"),
        (["--speed", "0"], "above 0"),
        ([], "give --link, --tcp or both"),
    ],
)
def test_bad_arguments_are_told(tmp_path: Path, arguments: list[str], says: str) -> None:
    paths = ("control", "store", "ledger")
    files = [part for name in paths for part in (f"--{name}", str(tmp_path / name))]
    done = subprocess.run(
        [sys.executable, "-m", "hil", "terminal", *files, *arguments],
        capture_output=True,
        text=True,
        timeout=20,
        check=False,
        cwd=Path(__file__).parents[2],
    )
    assert done.returncode == 2
    assert says in done.stderr


def test_a_link_that_is_a_file_is_not_overwritten(tmp_path: Path) -> None:
    (tmp_path / "terminal").write_text("precious")
    with pytest.raises(OSError, match="no symlink"), terminal(tmp_path):
        pass
    assert (tmp_path / "terminal").read_text() == "precious"
    assert not (tmp_path / "control").exists()


def test_two_terminals_do_not_share_a_control_socket(tmp_path: Path) -> None:
    with (
        terminal(tmp_path),
        pytest.raises(OSError, match="another simulator"),
        terminal(tmp_path),
    ):
        pass
