"""What the terminal begins by itself: requests in a payment, calls over TCP, its daily reboot; and the
commands that go straight to the card."""

import os
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from datetime import datetime, timedelta
from pathlib import Path

import pytest
from support.terminal_ecr import PASSWORD, Bench, hexa, terminal
from support.tree import ROOT

from hil.common.control import ControlError, ask

INPUT_OFFERED, MENU_OFFERED = "0a02040d", "0a02040e"


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[Bench]:
    with terminal(tmp_path) as bench:
        bench.ecr.register("36")
        yield bench


def register_with(bench: Bench, *offered: str) -> None:
    commands = "".join(offered)
    tags = f"26{len(commands) // 2:02x}{commands}"
    bench.ecr.register("36", f"097806{len(tags) // 2:02x}{tags}")


def pay(bench: Bench, **answers: str) -> list[str]:
    bench.ask("tap", card="visa")
    return bench.ecr.pay(
        500, answers={f"0{name[1:]}": text for name, text in answers.items()}
    ).kinds


# --- 04 0D and 04 0E ------------------------------------------------------------------------------


def test_input_and_choice_are_asked_for_only_where_offered(bench: Bench) -> None:
    bench.ask("set", asks="both")
    assert pay(bench) == ["040f", "060f"]
    register_with(bench, INPUT_OFFERED)
    assert pay(bench) == ["040d", "040f", "060f"]
    register_with(bench, INPUT_OFFERED, MENU_OFFERED)
    assert pay(bench) == ["040d", "040e", "040f", "060f"]
    bench.ask("set", asks="menu")
    assert pay(bench) == ["040e", "040f", "060f"]


def test_what_the_ecr_answers_is_kept_and_a_refusal_changes_nothing(bench: Bench) -> None:
    bench.ask("set", asks="both")
    register_with(bench, INPUT_OFFERED, MENU_OFFERED)
    assert pay(bench, x40d="80000231 37".replace(" ", ""), x40e="848300")[-1] == "060f"
    assert bench.state()["asked"] == [
        {"asked": "040d", "answer": "8000023137"},
        {"asked": "040e", "answer": "848300"},
    ]
    assert bench.kinds() == ["payment"]


def test_a_terminal_may_ask_though_nobody_offered(bench: Bench) -> None:
    bench.ask("set", asks="both", asks_unoffered=True)
    assert pay(bench, x40d="848300", x40e="848300") == ["040d", "040e", "040f", "060f"]
    assert bench.kinds() == ["payment"]


# --- 06 C6 ----------------------------------------------------------------------------------------


def card_apdus(bench: Bench, *commands: str) -> str:
    """The container of the Completion, or the Abort."""
    tags = "".join(f"c{at}{len(c) // 2:02x}{c}" for at, c in enumerate(commands))
    return bench.ecr.fields("06c6", f"06{len(tags) // 2:02x}{tags}").messages[-1]


def test_commands_for_the_card_are_answered_one_by_one(bench: Bench) -> None:
    bench.tap_and_read("visa")
    visa, foreign = "a0000000031010", "a0000000041010"
    select = "00a4040007"
    told = card_apdus(bench, select + visa, select + foreign, "ffca000000", "00b2010c00")
    answers = ["6f098407" + visa + "9000", "6a82", "08b3c8809000", "6d00"]
    tags = "".join(f"c{at}{len(a) // 2:02x}{a}" for at, a in enumerate(answers))
    assert told == f"060f{len(tags) // 2 + 2:02x}06{len(tags) // 2:02x}{tags}"


def test_without_a_card_or_by_switch_nothing_is_sent_to_it(bench: Bench) -> None:
    assert card_apdus(bench, "ffca000000") == "061e0165"
    bench.ask("tap", card="rfid", stay=True)
    assert card_apdus(bench, "ffca000000").startswith("060f")
    assert bench.ecr.fields("06c6", "").answer == "849a00"
    bench.ask("set", card_apdus=False)
    assert bench.ecr.fields("06c6", "0602c000").answer == "848300"


# --- Service sockets ------------------------------------------------------------------------------


class Listener:
    """An ECR's service port that answers once."""

    def __init__(self, answer: bytes | None) -> None:
        self._socket = socket.create_server(("127.0.0.1", 0))
        self.port = self._socket.getsockname()[1]
        self.got = b""
        self._thread = threading.Thread(target=self._serve, args=(answer,))
        self._thread.start()

    def _serve(self, answer: bytes | None) -> None:
        connection, _ = self._socket.accept()
        with connection:
            self.got = connection.recv(100)
            if answer is not None:
                connection.sendall(answer[:2])
                connection.sendall(answer[2:])

    def close(self) -> None:
        self._thread.join(5)
        self._socket.close()


def test_the_terminal_calls_the_ecr_and_gets_its_answer(bench: Bench) -> None:
    listener = Listener(hexa("84830106"))
    try:
        told = bench.ask("service_call", port=listener.port, apdu="0401080a")
        assert told["answer"] == "84830106"
        assert listener.got == hexa("0401080a")
    finally:
        listener.close()


def test_a_call_that_nobody_takes_is_told(bench: Bench) -> None:
    listener = Listener(None)
    with pytest.raises(ControlError, match="the connection was closed"):
        bench.ask("service_call", port=listener.port, apdu="060f00")
    listener.close()
    with pytest.raises(ControlError, match="nobody listens on"):
        bench.ask("service_call", port=listener.port, apdu="060f00")
    with pytest.raises(ControlError, match="apdu is hexadecimal"):
        bench.ask("service_call", port=listener.port, apdu="x")


# --- The daily reboot -----------------------------------------------------------------------------


def in_minutes(bench: Bench, minutes: int) -> str:
    clock = datetime.fromisoformat(bench.state()["clock"])
    return (clock + timedelta(minutes=minutes)).strftime("%H:%M")


def test_it_reboots_once_a_day_at_its_hour(bench: Bench) -> None:
    bench.ask("set", reboot_daily=in_minutes(bench, 10), reboot_s=0.02)
    bench.ask("advance", seconds=5 * 60)
    assert bench.state()["boots"] == 1
    bench.ask("advance", seconds=10 * 60)
    bench.until("boots", 2)
    bench.until("powered", True)
    bench.ask("advance", hours=23)
    assert bench.state()["boots"] == 2
    bench.ask("advance", hours=2)
    bench.until("boots", 3)
    bench.until("powered", True)
    bench.ask("set", reboot_daily="")
    bench.ask("advance", days=3)
    assert bench.state()["boots"] == 3


def test_it_waits_for_the_end_of_a_dialogue(bench: Bench) -> None:
    bench.ask("set", reboot_daily=in_minutes(bench, 10), reboot_s=0.02)
    bench.ask("hold", at="status:received")
    bench.ecr.send(hexa("050100"))
    bench.ask("wait", at="status:received")
    bench.ask("advance", seconds=15 * 60)
    assert bench.state()["boots"] == 1
    bench.ask("resume")
    assert bench.ecr.receive() == hexa("800000")
    assert bench.ecr.rest().kinds == ["060f"]
    bench.until("boots", 2)


def test_what_passed_without_power_is_past(bench: Bench) -> None:
    bench.ask("set", reboot_daily=in_minutes(bench, 10), reboot_s=0.02)
    bench.ask("power_off")
    bench.ask("advance", seconds=15 * 60)
    bench.ask("power_on")
    assert bench.reopen().register("36").kinds == ["060f"]
    assert bench.state()["boots"] == 2


def test_its_clock_set_over_the_hour_makes_it_reboot(bench: Bench) -> None:
    bench.ask("set", reboot_daily=in_minutes(bench, 10), reboot_s=0.02)
    later = datetime.fromisoformat(bench.state()["clock"]) + timedelta(minutes=12)
    bench.ecr.fields(
        "0691", PASSWORD, "aa", later.strftime("%y%m%d"), "0c", later.strftime("%H%M%S")
    )
    bench.until("boots", 2)


@pytest.mark.parametrize("hour", ["25:00", "7:00", 5, None])
def test_an_hour_that_is_none_is_refused(bench: Bench, hour: object) -> None:
    with pytest.raises(ControlError, match="HH:MM"):
        bench.ask("set", reboot_daily=hour)


# --- And ------------------------------------------------------------------------------------------


def test_an_enquiry_may_deny_every_hold(bench: Bench) -> None:
    bench.hold()
    assert bench.ecr.open_receipts() == "061e04b8870231"
    bench.ask("set", enquiry="none")
    assert bench.ecr.open_receipts() == "061e04b887ffff"


def test_faults_from_the_command_line(tmp_path: Path) -> None:
    paths = [
        part for name in ("link", "control", "store", "ledger") for part in (f"--{name}", name)
    ]

    def run(*faults: str) -> "subprocess.Popen[str]":
        given = [word for fault in faults for word in ("--fault", fault)]
        return subprocess.Popen(
            [sys.executable, "-m", "hil", "terminal", *paths, *given],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            cwd=tmp_path,
            env=os.environ | {"PYTHONPATH": str(ROOT)},
        )

    process = run("bad_crc=3", "nak", "silent=-1")
    try:
        assert process.stdout is not None
        assert process.stdout.readline().startswith("ready")
        active = ask(tmp_path / "control", do="state")["faults"]
        assert active == {"bad_crc": 3, "nak": 1, "silent": -1}
    finally:
        process.terminate()
        process.communicate(timeout=10)
    for fault, says in (("rust", "no fault 'rust'"), ("nak=many", "fault nak=many")):
        process = run(fault)
        _, error = process.communicate(timeout=20)
        assert process.returncode == 2
        assert says in error
