"""The simulated bus as a master sees it: pymodbus and mbpoll over the pty, faults, SIGKILL."""

from __future__ import annotations

import os
import select
import shutil
import struct
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from pymodbus import FramerType
from pymodbus.client import ModbusSerialClient
from pymodbus.exceptions import ModbusIOException
from support.simulator import Simulator

from hil.common.control import ControlError

METER, EVSE = 1, 3
START_WH = 1_042_118
QUICK = ("--react-ms", "1", "--fall-ms", "30", "--load-w", "3600000")


@pytest.fixture
def charger(tmp_path: Path) -> Iterator[Simulator]:
    with Simulator("charger", tmp_path, *QUICK) as simulator:
        yield simulator


class Master:
    """pymodbus without retries, so that a test sees every single answer."""

    def __init__(self, link: Path, timeout_s: float = 1.0) -> None:
        self.client = ModbusSerialClient(
            str(link), framer=FramerType.RTU, baudrate=9600, timeout=timeout_s, retries=0
        )

    def __enter__(self) -> Master:
        assert self.client.connect()
        return self

    def __exit__(self, *_: object) -> None:
        self.client.close()

    def kwh(self) -> float:
        answer = self.client.read_input_registers(0x48, count=2, device_id=METER)
        assert not answer.isError(), answer
        return self.client.convert_from_registers(
            answer.registers, self.client.DATATYPE.FLOAT32, word_order="big"
        )

    def state(self) -> str:
        answer = self.client.read_input_registers(24000, count=1, device_id=EVSE)
        return bytes(divmod(answer.registers[0], 256)).decode()

    def release(self, on: bool = True) -> None:
        assert not self.client.write_coil(20000, on, device_id=EVSE).isError()


def test_a_charge_as_a_master_sees_it(charger: Simulator) -> None:
    with Master(charger.link) as master:
        serial = master.client.read_holding_registers(0xFC00, count=2, device_id=METER).registers
        assert serial[0] << 16 | serial[1] == 12345678
        assert master.kwh() == struct.unpack(">f", struct.pack(">f", 1042.118))[0]
        assert master.state() == "A1"
        charger.ask("plug")
        assert master.state() == "B1"
        assert not master.client.write_register(22000, 16, device_id=EVSE).isError()
        master.release()
        charger.ask("wait", cp="C2", drawn_mwh=100_000, timeout_s=10)
        assert master.state() == "C2"
        assert master.client.read_input_registers(24003, count=1, device_id=EVSE).registers == [16]
        live = master.client.read_input_registers(0, count=76, device_id=METER).registers
        watts = struct.unpack(">f", struct.pack(">HH", *live[0x34:0x36]))[0]
        assert watts == 3_600_000
        master.release(False)
        state = charger.ask("wait", cp="B1", power_w=0, timeout_s=10)
        drawn_wh = state["energy_truth_mwh"] / 1000
        assert abs(master.kwh() * 1000 - START_WH - drawn_wh) < 0.2
        assert round(master.kwh() * 1000) == state["register_wh"]
        charger.ask("unplug")
        assert master.state() == "A1"
        assert charger.ask("state")["requests"]["3"]["5"] == 2


def test_what_the_meter_refuses(charger: Simulator) -> None:
    with Master(charger.link) as master:
        read = master.client.read_input_registers
        assert read(0, count=82, device_id=METER).exception_code == 3  # over 40 parameters
        assert read(0x49, count=2, device_id=METER).exception_code == 2  # half of a float
        assert read(0x2000, count=2, device_id=METER).exception_code == 2
        assert master.client.read_coils(0, count=1, device_id=METER).exception_code == 1
        assert master.client.write_register(22000, 5, device_id=EVSE).exception_code == 3
        with pytest.raises(ModbusIOException):
            read(0x48, count=2, device_id=9)  # nobody there, so nobody answers
        assert master.kwh() > 1042


def test_every_reply_fault_reaches_the_master_once(charger: Simulator) -> None:
    with Master(charger.link, timeout_s=0.3) as master:
        for name in ("timeout", "crc", "wrong_unit"):
            charger.ask("fault", name=name)
            with pytest.raises(ModbusIOException):
                master.kwh()
            assert master.kwh() > 1042, name
        charger.ask("fault", name="exception", code=6)
        answer = master.client.read_input_registers(0x48, count=2, device_id=METER)
        assert answer.exception_code == 6
        charger.ask("fault", name="wrong_count")
        answer = master.client.read_input_registers(0x48, count=2, device_id=METER)
        assert len(answer.registers) == 1
        charger.ask("fault", name="nan")
        assert master.kwh() != master.kwh()
        charger.ask("clear_faults")
        before = master.kwh()
        charger.ask("fault", name="jump_back", wh=1000)
        assert abs(before - master.kwh() - 1.0) < 0.001


def test_a_late_reply_is_really_late_and_shifts_an_unwary_master(charger: Simulator) -> None:
    """The trap the strict master of the agent has to survive: here an unwary one falls into it."""
    line = os.open(charger.link, os.O_RDWR | os.O_NOCTTY)
    try:
        energy = bytes.fromhex("010400480002f1dd")
        volts = bytes.fromhex("01040000000271cb")
        charger.ask("fault", name="late", ms=400, address=0x48)
        sent = time.monotonic()
        os.write(line, energy)
        os.write(line, volts)
        first = _read(line, 9)
        assert time.monotonic() - sent >= 0.4
        second = _read(line, 9)
        assert struct.unpack(">f", first[3:7])[0] > 1042, "the late energy comes first"
        assert struct.unpack(">f", second[3:7])[0] == 230.0
    finally:
        os.close(line)


def test_the_other_device_answers_while_one_is_late(charger: Simulator) -> None:
    with Master(charger.link) as master:
        charger.ask("fault", name="late", ms=500)
        line = os.open(charger.link, os.O_RDWR | os.O_NOCTTY)
        try:
            os.write(line, bytes.fromhex("010400480002f1dd"))
        finally:
            os.close(line)
        charger.ask("wait", requests=1, timeout_s=5)
        assert master.state() == "A1"


def test_register_serial_and_configuration_survive_sigkill(tmp_path: Path) -> None:
    charger = Simulator("charger", tmp_path, *QUICK, "--serial", "4711", "--start-wh", "5000000")
    with charger, Master(charger.link) as master:
        charger.ask("plug")
        master.release()
        unit = [*struct.unpack(">HH", struct.pack(">f", 7.0))]
        assert not master.client.write_registers(0x14, unit, device_id=METER).isError()
        charger.ask("wait", drawn_mwh=200_000, timeout_s=10)
        shown = master.kwh()
        charger.kill()
    assert charger.link.is_symlink(), "SIGKILL leaves the link behind"
    charger = Simulator("charger", tmp_path, *QUICK)  # the store wins over the defaults
    with charger:
        state = charger.ask("state")
        assert state["serial"] == "4711"
        assert state["units"]["meter"] == 7
        assert state["register_wh"] >= round(shown * 1000), "what a master has seen is kept"
        assert state["register_wh"] - round(shown * 1000) < 1_000
        assert (state["cp"], state["released"]) == ("B1", False), (
            "the coil is volatile, the car stays"
        )
        assert charger.stop() == 0
    assert not charger.link.is_symlink()
    assert not charger.control.exists()


def test_a_power_cut_stops_energy_and_silences_the_bus(charger: Simulator) -> None:
    with Master(charger.link, timeout_s=0.3) as master:
        charger.ask("plug")
        master.release()
        charger.ask("wait", cp="C2", timeout_s=10)
        charger.ask("fault", name="late", ms=100)
        dark = charger.ask("power_off")
        with pytest.raises(ModbusIOException):
            master.kwh()
        assert charger.ask("state")["energy_truth_mwh"] == dark["energy_truth_mwh"]
        assert charger.ask("power_on")["cp"] == "B1"
        charger.ask("clear_faults")
        assert round(master.kwh() * 1000) == dark["register_wh"]


def test_a_late_reply_does_not_outlive_a_power_cut(charger: Simulator) -> None:
    line = os.open(charger.link, os.O_RDWR | os.O_NOCTTY)
    try:
        charger.ask("fault", name="late", ms=200)
        os.write(line, bytes.fromhex("010400480002f1dd"))
        charger.ask("wait", requests=1, timeout_s=5)
        charger.ask("power_off")
        charger.ask("power_on")
        os.write(line, bytes.fromhex("01040000000271cb"))
        assert struct.unpack(">f", _read(line, 9)[3:7])[0] == 230.0
        assert not select.select([line], [], [], 0.3)[0], (
            "the reply of before the cut came after all"
        )
    finally:
        os.close(line)


def test_a_frame_in_two_pieces_is_one_frame_and_noise_is_none(charger: Simulator) -> None:
    line = os.open(charger.link, os.O_RDWR | os.O_NOCTTY)
    try:
        os.write(line, bytes.fromhex("0104"))
        os.write(line, bytes.fromhex("00480002f1dd"))
        assert _read(line, 9)[:3] == bytes.fromhex("010404")
        os.write(line, b"\xff\xff\xff")
        with Master(charger.link) as master:
            time.sleep(0.1)  # the silence that ends the noise is what is tested here
            assert master.kwh() > 1042
        assert charger.ask("state")["bad_frames"] == 1
    finally:
        os.close(line)


def test_a_paced_line_takes_the_time_of_its_bits(tmp_path: Path) -> None:
    with Simulator("charger", tmp_path, "--pace", "--baud", "9600") as charger:
        with Master(charger.link) as master:
            master.kwh()
            began = time.monotonic()
            answer = master.client.read_input_registers(0, count=76, device_id=METER)
            took = time.monotonic() - began
        assert len(answer.registers) == 76
        # (8 + 157) characters of 10 bits at 9600, plus the meter's turnaround
        assert took >= 0.17


def test_the_fail_safe_withdraws_the_release_when_the_master_falls_silent(tmp_path: Path) -> None:
    with Simulator("charger", tmp_path, *QUICK, "--failsafe-s", "1") as charger:
        charger.ask("plug")
        with Master(charger.link) as master:
            master.release()
        state = charger.ask("wait", released=False, power_w=0, timeout_s=10)
        assert (state["cp"], state["failsafe_trips"]) == ("B1", 1)


def test_a_separate_meter_carries_the_power_of_a_separate_controller(tmp_path: Path) -> None:
    with Simulator("meter", tmp_path, "--start-wh", "0") as meter:
        options = [*QUICK, "--meter-control", str(meter.control)]
        with Simulator("evse", tmp_path, *options) as evse:
            evse.ask("plug")
            with Master(evse.link) as master:
                master.release()
                meter.ask("wait", power_w=3_600_000, drawn_mwh=50_000, timeout_s=10)
                master.release(False)
                state = meter.ask("wait", power_w=0, timeout_s=10)
            with Master(meter.link) as master:
                assert round(master.kwh() * 1000) == state["register_wh"] > 50


def test_mbpoll_reads_the_same_register(charger: Simulator) -> None:
    if shutil.which("mbpoll") is None:
        pytest.skip("needs mbpoll: apt-get install mbpoll")
    rtu = ["mbpoll", "-m", "rtu", "-b", "9600", "-P", "none", "-0", "-1", "-q"]
    meter = [*rtu, "-a", "1", "-t", "3:float", "-B", "-r", "72", "-c", "1", str(charger.link)]
    out = subprocess.run(meter, capture_output=True, text=True, timeout=20, check=True).stdout
    assert "1042.12" in out
    state = [*rtu, "-a", "3", "-t", "3:hex", "-r", "24000", "-c", "1", str(charger.link)]
    out = subprocess.run(state, capture_output=True, text=True, timeout=20, check=True).stdout
    assert "0x4131" in out


def test_a_wrong_verb_or_value_is_refused_in_words(charger: Simulator) -> None:
    with pytest.raises(ControlError, match="expected whole watts"):
        charger.ask("load", w=-1)
    with pytest.raises(ControlError, match="knows no fault 'melt'"):
        charger.ask("fault", name="melt")
    with pytest.raises(ControlError, match="not within"):
        charger.ask("wait", cp="C2", timeout_s=0.05)


def _read(line: int, count: int) -> bytes:
    data = b""
    while len(data) < count:
        data += os.read(line, count - len(data))
    return data
