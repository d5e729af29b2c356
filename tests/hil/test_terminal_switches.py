"""The table of switches, the vendors' presets, the help, TCP and bad lines."""

import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import fields
from pathlib import Path
from typing import Any

import pytest
from support.terminal_ecr import ACK, OK, Bench, LineSilent, frame, hexa, terminal

from hil.common.control import ControlError, ask
from hil.terminal.faults import (
    CHAOS_RECEIVING,
    FAULT_HELP,
    RECEIVING,
    SENDING,
    Faults,
    Sending,
)
from hil.terminal.manual import VERBS, as_json, as_text
from hil.terminal.presets import ASSUMED, PRESETS, apply_preset
from hil.terminal.switches import Switches, switch_help

ROOT = Path(__file__).parents[2]
VENDORS = ("feig", "ccv", "valina", "ingenico", "verifone", "pax", "cardcomplete", "generic")

# --- Switches -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "name", "value"),
    [
        ("eod_due=on", "eod_due", True),
        ("eod_due=false", "eod_due", False),
        ("status=0x51", "status", 0x51),
        ("max_holds=3", "max_holds", 3),
        ("host_s=1.5", "host_s", 1.5),
        ("host_s=2", "host_s", 2),
        ("clock_skew_s=-60", "clock_skew_s", -60),
        ("hold_days=none", "hold_days", None),
        ("print=block", "print", "block"),
        ("baud_after_reboot=9600", "baud_after_reboot", "9600"),
        ("unsupported=0693 0850", "unsupported", "0693 0850"),
    ],
)
def test_a_switch_as_text(text: str, name: str, value: object) -> None:
    switches = Switches()
    switches.change_text(text)
    assert getattr(switches, name) == value
    assert type(getattr(switches, name)) is type(value)


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("eod_due", "name=value"),
        ("colour=red", "no switch 'colour'"),
        ("eod_due=3", "true or false"),
        ("max_holds=-1", "whole number"),
        ("max_holds=1.5", "whole number"),
        ("max_holds=none", "cannot be off"),
        ("tap_s=-1", "from 0 up"),
        ("tap_s=soon", "from 0 up"),
        ("print=loud", "one of auto, none, lines, block"),
    ],
)
def test_bad_switches_are_told(text: str, says: str) -> None:
    with pytest.raises(ValueError, match=says):
        Switches().change_text(text)


def test_a_text_switch_takes_only_text() -> None:
    with pytest.raises(ValueError, match="a text"):
        Switches().change("unsupported", 5)


def test_everything_has_its_line_of_help() -> None:
    told = as_json()
    assert set(told["switches"]) == {item.name for item in fields(Switches)}
    assert set(told["faults"]) == set(FAULT_HELP) == {*SENDING, *RECEIVING}
    assert all(line and "\n" not in line for line in [*VERBS.values(), *switch_help().values()])
    text = as_text()
    for name in (*VERBS, *told["switches"], *FAULT_HELP, *PRESETS):
        assert f"  {name}" in text


def test_help_over_the_control_socket(tmp_path: Path) -> None:
    with terminal(tmp_path) as bench:
        told = bench.ask("help")
        assert told["verbs"] == VERBS
        assert "tap" in told["verbs"] and "eod_due" in told["switches"]
        for verb in VERBS:  # all of them exist
            with pytest.raises(ControlError) as refused:
                bench.ask(verb, nonsense=1)
            assert "unknown verb" not in str(refused.value)


# --- Vendors --------------------------------------------------------------------------------------


def test_the_vendors() -> None:
    assert set(PRESETS) == set(VENDORS)
    made = {}
    for vendor in VENDORS:
        switches = Switches()
        apply_preset(vendor, switches)  # every name and value exists
        made[vendor] = tuple(sorted(switches.as_json().items(), key=lambda item: item[0]))
        names = [setting.switch for setting in PRESETS[vendor]]
        assert len(names) == len(set(names)), f"{vendor} sets a switch twice"
        assert all(setting.source for setting in PRESETS[vendor])
        assert any(setting.source != ASSUMED for setting in PRESETS[vendor])
    assert len(set(map(str, made.values()))) == len(VENDORS), "two vendors are equal"
    with pytest.raises(ValueError, match="no vendor 'acme'"):
        apply_preset("acme", Switches())


@pytest.mark.parametrize("vendor", VENDORS)
def test_a_session_at_every_vendor(tmp_path: Path, vendor: str) -> None:
    """Hold, capture or book, cancel, end of day: with what each of them asks for."""
    settings = ("random_refusal_permille=0", "lost_result_permille=0", "reboot_s=0.05")
    with terminal(tmp_path, vendor=vendor, settings=settings) as bench:
        bench.ecr.register("de", "0978" + "0606" + "26040a0206d3")
        first, second = (bench.hold("visa", 5000) for _ in range(2))
        state = bench.state()
        traces = [f"{hold['trace']:06d}" for hold in state["open_holds"]]
        aid = state["open_holds"][0]["aid"].encode().ljust(8, b"\0").hex()
        if state["switches"]["partial_reversal"]:
            ending = ("0623", f"87{first.receipt:04d}", "04000000003705")
        else:
            ending = ("0624", f"87{first.receipt:04d}", "04000000001295")
        told = bench.ecr.fields(*ending, "490978", f"0b{traces[0]}", "3b", aid)
        assert told.result().amount == 1295
        assert bench.ecr.cancel(second.receipt).kinds[-1] == "060f"
        assert bench.ecr.end_of_day().kinds[-1] == "060f"
        assert bench.kinds() == ["hold", "hold", "capture", "release", "end_of_day"]
        assert bench.rows()[2]["amount_minor"] == 1295


def test_vendor_and_settings_from_the_command_line(tmp_path: Path) -> None:
    paths = [
        part for name in ("link", "control", "store", "ledger") for part in (f"--{name}", name)
    ]
    given = [
        "--vendor",
        "cardcomplete",
        "--set",
        "eod_completion=plain",
        "--set",
        "max_holds=0x07",
        "--seed",
        "5",
    ]
    process = subprocess.Popen(
        [sys.executable, "-m", "hil", "terminal", *paths, *given],
        stdout=subprocess.PIPE,
        text=True,
        cwd=tmp_path,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
    )
    try:
        assert process.stdout is not None
        assert process.stdout.readline().startswith("ready")
        switches = ask(tmp_path / "control", do="state")["switches"]
        assert switches["cancel_amount"] == "reversed"
        assert (switches["eod_completion"], switches["max_holds"]) == ("plain", 7)
        changed = ask(tmp_path / "control", do="preset", vendor="pax")["switches"]
        assert changed["abort"] == "refused"
    finally:
        process.terminate()
        process.communicate(timeout=10)


def test_a_bad_setting_ends_the_start(tmp_path: Path) -> None:
    paths = [
        part for name in ("link", "control", "store", "ledger") for part in (f"--{name}", name)
    ]
    done = subprocess.run(
        [sys.executable, "-m", "hil", "terminal", *paths, "--set", "colour=1"],
        capture_output=True,
        text=True,
        check=False,
        cwd=tmp_path,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        timeout=20,
    )
    assert done.returncode == 2
    assert "cannot start: no switch 'colour'" in done.stderr
    assert sorted(tmp_path.iterdir()) == []


# --- Verbs ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("request_", "says"),
    [
        ({"do": "tap", "card": "rfid", "how": "chip"}, "contactless, not 'chip'"),
        ({"do": "press_key", "key": "x"}, "no key 'x'"),
        ({"do": "reboot", "at": "pay:never"}, "no point"),
        ({"do": "reboot", "off_s": -1}, "from 0 up"),
        ({"do": "lock", "for_s": 0}, "for_s above 0"),
        ({"do": "lock", "for_s": 1, "style": "loud"}, "style"),
        ({"do": "advance", "days": -1}, "does not go back"),
        ({"do": "numbers", "receipt": 10000}, "from 1 to 9999"),
        ({"do": "preset", "vendor": "acme"}, "no vendor"),
        (
            {"do": "foreign_hold", "card": "gold", "amount_minor": 1, "trace": 1, "aid": "1"},
            "known",
        ),
        ({"do": "refuse", "command": "dance", "code": 1}, "no command"),
    ],
)
def test_bad_requests_are_told(tmp_path: Path, request_: dict[str, Any], says: str) -> None:
    with terminal(tmp_path) as bench, pytest.raises(ControlError, match=says):
        bench.ask(**request_)


def test_the_mode_is_told(tmp_path: Path) -> None:
    with terminal(tmp_path) as bench:
        assert bench.state()["mode"] == "unregistered"
        bench.ecr.register("36")
        assert bench.state()["mode"] == "idle"
        bench.ecr.send(hexa("06c00105"))
        bench.ecr.receive()
        bench.until("mode", "reading_card")
        bench.ask("power_off")
        assert bench.state()["mode"] == "off"


# --- A bad line -----------------------------------------------------------------------------------


def spoiled(seed: int, permille: int) -> list[object]:
    faults = Faults(seed)
    faults.chaos_permille = lambda: permille
    seen: list[object] = []
    for _ in range(60):
        faults.chaos(CHAOS_RECEIVING)
        seen.append([name for name in CHAOS_RECEIVING if faults.take(name)])
        seen.append(faults.sending(OK, 0.2))
    return seen


def test_chaos_is_the_same_for_the_same_seed() -> None:
    first = spoiled(7, 300)
    assert first == spoiled(7, 300)
    assert first != spoiled(8, 300)
    clean = spoiled(7, 0)
    assert clean == [[], Sending(frame(OK))] * 60
    hit = sum(a != b for a, b in zip(first, clean, strict=True))
    assert 18 <= hit <= 54  # of 120, 36 expected


def test_chaos_reaches_the_line(tmp_path: Path) -> None:
    with terminal(tmp_path) as bench:
        bench.ask("set", chaos_permille=1000)
        bench.ecr.write(frame(hexa("06c500")))
        heard = b""
        with pytest.raises(LineSilent):
            while True:
                heard += bytes([bench.ecr.byte(0.1)])
        assert heard != ACK + frame(OK)


# --- TCP ------------------------------------------------------------------------------------------


class TcpEcr:
    def __init__(self, port: int) -> None:
        self.socket = socket.create_connection(("127.0.0.1", port), 3)
        self.pieces: list[bytes] = []
        self._ahead = b""

    def send(self, text: str) -> None:
        self.socket.sendall(hexa(text))

    def receive(self) -> str:
        while len(self._ahead) < 3 or len(self._ahead) < 3 + self._ahead[2]:
            piece = self.socket.recv(4096)
            if not piece:
                raise EOFError
            self.pieces.append(piece)
            self._ahead += piece
        size = 3 + self._ahead[2]
        apdu, self._ahead = self._ahead[:size], self._ahead[size:]
        return apdu.hex()

    def dialogue(self, text: str) -> list[str]:
        self.send(text)
        told = [self.receive()]
        while told[-1][:4] not in ("060f", "061e"):
            told.append(self.receive())
            self.send("800000")
        return told


@pytest.fixture
def tcp(tmp_path: Path) -> Iterator[tuple[Bench, int]]:
    with terminal(tmp_path, tcp_port=0) as bench:
        assert bench.simulator.tcp_port is not None
        yield bench, bench.simulator.tcp_port


@contextmanager
def connected(port: int) -> Iterator[TcpEcr]:
    ecr = TcpEcr(port)
    with ecr.socket:
        yield ecr


def test_tcp_in_small_pieces(tcp: tuple[Bench, int]) -> None:
    bench, port = tcp
    bench.ask("set", tcp_chunk=1)
    with connected(port) as ecr:
        told = ecr.dialogue("060006123456360978")
        assert told == ["800000", "060f0a19102952523535490978"]
        assert len(ecr.pieces) > 3


def test_tcp_idle_connections_are_closed_but_not_in_a_dialogue(tcp: tuple[Bench, int]) -> None:
    bench, port = tcp
    bench.ask("set", tcp_idle_s=0.15)
    with connected(port) as ecr:
        ecr.send("06c00101")  # one second without a word
        begin = time.monotonic()
        assert ecr.receive() == "800000"
        assert ecr.receive() == "061e016c"
        assert time.monotonic() - begin > 0.9
        ecr.send("800000")
        with pytest.raises(EOFError):
            ecr.receive()
    with connected(port) as ecr:
        assert ecr.dialogue("050100")[0] == "800000"


def test_tcp_a_closed_socket_ends_the_transaction(tcp: tuple[Bench, int]) -> None:
    bench, port = tcp
    bench.ask("set", t3_ms=5000)
    with connected(port) as ecr:
        ecr.dialogue("060006123456360978")
        bench.ask("tap", card="visa")
        ecr.send("06220c04000000005000490978194" + "2")
        assert ecr.receive() == "800000"
        assert ecr.receive()[:4] == "040f"
    bench.until("auto_reversals", 1, timeout_s=2)  # at once, not after T3
    assert bench.kinds() == ["hold", "auto_reversal"]
    with connected(port) as ecr:
        ecr.send("06c00100")
        assert ecr.receive() == "800000"
        bench.until("mode", "reading_card")
    bench.until("mode", "idle")


def test_tcp_a_reset_on_request(tcp: tuple[Bench, int]) -> None:
    bench, port = tcp
    bench.ask("fault", name="reset")
    with connected(port) as ecr:
        ecr.send("050100")
        with pytest.raises((ConnectionResetError, EOFError)):
            ecr.receive()
    with connected(port) as ecr:
        assert ecr.dialogue("050100")[0] == "800000"


def test_tcp_another_protocol_and_silence(tcp: tuple[Bench, int]) -> None:
    bench, port = tcp
    bench.ask("set", wrong_protocol=True)
    with connected(port) as ecr:
        ecr.send("050100")
        assert ecr.socket.recv(100) == hexa("150369")
    bench.ask("set", wrong_protocol=False, locked=0xE0, locked_style="silent")
    with connected(port) as ecr:
        ecr.socket.settimeout(0.2)
        ecr.send("050100")
        with pytest.raises(TimeoutError):
            ecr.receive()
