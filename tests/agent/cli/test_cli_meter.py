"""`voltill meter read|scan|models` in front of a meter."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from support.meter_thread import meter_thread
from support.modbus_gateway import gateway
from support.past_station import Answer, Past, running
from support.rtu_slave import driver_env
from support.station_world import World

from agent.cli import meter as meter_cli
from agent.cli import meter_way
from agent.ports import LineSpec, MeterSpec
from drivers.meter import catalogue
from drivers.meter.catalogue import ModelError
from drivers.meter.modbus_meter import open_meter
from drivers.meter.rtu import open_bus

Voltill = Callable[..., Answer]
EM340 = "carlogavazzi_em340_family"


@pytest.fixture(autouse=True)
def quick(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    """The shipped models without their pauses: a simulated meter needs none."""
    folder = tmp_path_factory.mktemp("quick")
    for name in (
        EM340,
        "carlogavazzi_em24_rs485",
        "abb_b21_b23_b24",
        "eastron_sdm72dm_v2",
        "eastron_sdm630",
    ):
        text = (catalogue.SHIPPED / f"{name}.yaml").read_text()
        timing = "timing: {min_gap_ms: 0, turnaround_ms: 100, longest_reply_ms: 100}"
        (folder / f"{name}.yaml").write_text(re.sub("timing: {.*}", timing, text, count=1))
    monkeypatch.setattr(catalogue, "OWN", folder)


@pytest.fixture
def state(tmp_path: Path) -> Path:
    """No service runs here."""
    folder = tmp_path / "state"
    folder.mkdir()
    return folder


# --- read -----------------------------------------------------------------------------------------


def test_a_meter_is_read_with_nothing_but_model_and_port(
    voltill: Voltill, tmp_path: Path, state: Path
) -> None:
    options = ("--model", EM340, "--start-wh", "1042118", "--load-w", "0")
    with meter_thread(tmp_path, *options) as meter:
        args = ("meter", "read", "--model", EM340, "--port", meter.link, "--state", state)
        answer = voltill(*args, "--json")
        shown = voltill(*args, "--raw")
    assert answer.code == 0, answer.err
    told = answer.json
    contract = ("model", "serial", "energy_import_wh", "power_w", "state")
    assert {key: told[key] for key in contract} == {
        "model": EM340,
        "serial": "KZ12345",
        "energy_import_wh": 1_042_118,
        "power_w": 0,
        "state": "ok",
    }
    assert told["identity"] == {"model_code": "341"}
    values = {value["name"]: value for value in told["values"]}
    assert (values["voltage_l2"]["value"], values["voltage_l2"]["unit"]) == ("230.1", "V")
    assert values["energy_import"]["raw"] == "0412 0000 0076 0000"  # 1042 kWh and 118 Wh
    assert shown.code == 0
    lines = shown.out.splitlines()
    assert lines[0] == f"{EM340}, serial KZ12345 ({meter.link}, 9600 8N1, unit 1)"
    assert lines[1] == "  energy 1042.118 kWh, power 0 W"
    assert any(line.split() == ["voltage_l2", "230.1", "V", "08fd", "0000"] for line in lines)
    assert any(line.split()[:2] == ["serial_number", "KZ12345"] for line in lines)


def test_behind_a_modbus_tcp_gateway_a_meter_has_no_speed(
    voltill: Voltill, tmp_path: Path, state: Path
) -> None:
    with (
        meter_thread(tmp_path, "--model", EM340, "--unit", "7") as meter,
        gateway(meter.link) as at,
    ):
        port = f"modbus-tcp://127.0.0.1:{at}"
        args = ("--port", port, "--state", state)
        shown = voltill("meter", "read", "--model", EM340, "--unit", "7", *args)
        told = voltill("meter", "read", "--model", EM340, "--unit", "7", *args, "--json").json
        nobody = voltill("meter", "read", "--model", EM340, *args)
        found = voltill("meter", "scan", *args, "--units", "5-8")
        found_json = voltill("meter", "scan", *args, "--units", "7", "--json").json
    assert shown.code == 0
    assert shown.out.splitlines()[0] == f"{EM340}, serial KZ12345 ({port}, unit 7)"
    assert (told["state"], told["baud"], told["framing"]) == ("ok", None, None)
    assert nobody.code == 2 and f"tried {port}, unit 1;" in nobody.err
    assert found.code == 0
    assert "line settings" not in found.err and "4 addresses" in found.err
    assert found.out.splitlines()[1].split() == ["Modbus", "TCP", "7", EM340, "KZ12345"]
    read = f"Read it: voltill meter read --model {EM340} --port {port} --unit 7"
    assert found.out.splitlines()[-1] == read
    assert [(e["unit"], e["baud"], e["framing"]) for e in found_json["found"]] == [(7, None, None)]


@pytest.mark.parametrize("what", [("read", "--model", EM340), ("scan",)])
@pytest.mark.parametrize(
    ("options", "named"),
    [
        (("--baud", "9600"), "--baud say"),
        (("--framing", "8N1"), "--framing say"),
        (("--baud", "9600", "--framing", "8N1"), "--baud and --framing say"),
    ],
)
def test_speed_and_framing_are_refused_for_modbus_tcp(
    voltill: Voltill, state: Path, what: tuple[str, ...], options: tuple[str, ...], named: str
) -> None:
    port = "modbus-tcp://127.0.0.1:1"
    answer = voltill("meter", *what, "--port", port, *options, "--state", state)
    assert answer.code == 64
    assert named in answer.err and "nothing on modbus-tcp://" in answer.err


def test_a_wrong_model_is_named_and_its_numbers_are_not_shown(
    voltill: Voltill, tmp_path: Path, state: Path
) -> None:
    with meter_thread(tmp_path, "--model", EM340) as meter:
        args = ("meter", "read", "--model", "carlogavazzi_em24_rs485", "--port", meter.link)
        answer = voltill(*args, "--state", state)
        as_json = voltill(*args, "--state", state, "--json")
    assert answer.code == as_json.code == 2
    assert "wrong_model" in answer.err and f"claims to be {EM340}" in answer.err
    assert answer.out == ""
    assert as_json.json["state"] == "wrong_model" and as_json.json["values"] == []


def test_nobody_there_says_what_was_tried_and_what_to_do(
    voltill: Voltill, tmp_path: Path, state: Path
) -> None:
    with meter_thread(tmp_path, "--model", EM340, "--unit", "5") as meter:
        answer = voltill("meter", "read", "--model", EM340, "--port", meter.link, "--state", state)
    assert answer.code == 2
    assert "no_answer: MTR-002" in answer.err
    assert f"tried {meter.link}, 9600 8N1, unit 1" in answer.err
    assert f"voltill meter scan --port {meter.link}" in answer.err


def test_what_looks_wrong_is_said_and_warns(voltill: Voltill, tmp_path: Path, state: Path) -> None:
    with meter_thread(tmp_path, "--model", EM340) as meter:
        meter.ask("fault", name="missing_phase", phase=3)
        answer = voltill("meter", "read", "--model", EM340, "--port", meter.link, "--state", state)
    assert answer.code == 1
    assert "look: voltage_l3 is 0 V: is the phase connected?" in answer.err


def test_watching_is_a_line_a_look_and_ends(
    voltill: Voltill, tmp_path: Path, state: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(meter_cli, "EVERY_MS", 50)
    with meter_thread(tmp_path, "--model", EM340, "--start-wh", "5000") as meter:
        args = (
            "meter",
            "read",
            "--model",
            EM340,
            "--port",
            meter.link,
            "--state",
            state,
            "--watch",
        )
        answer = voltill(*args, "--times", "3")
        lines = answer.out.splitlines()
        assert answer.code == 0
        assert lines[0].startswith(f"{EM340}, serial KZ12345")
        assert [line.split() for line in lines[1:]] == 3 * [["5.000", "kWh", "0", "W"]]
        as_json = voltill(*args, "--times", "2", "--json")
        told = [json.loads(line) for line in as_json.out.splitlines()]
        assert [t["energy_import_wh"] for t in told] == [5000, 5000]
        meter.ask("fault", name="exception", code=4, count=0, address=0x400)
        broken = voltill(*args, "--times", "3")
        assert broken.code == 2  # the worst of them
        assert "not_available: MTR-017" in broken.out
    assert voltill(*args[:-1], "--times", "3").code == 64


def test_watching_in_a_pipe_comes_line_by_line_until_it_is_stopped(
    tmp_path: Path, state: Path
) -> None:
    with meter_thread(tmp_path, "--model", "eastron_sdm630") as meter:
        command = [
            sys.executable,
            "-m",
            "agent.cli.main",
            "meter",
            "read",
            "--model",
            "eastron_sdm630",
        ]
        command += ["--port", str(meter.link), "--state", str(state), "--watch"]
        pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
        # A shell's background jobs inherit that it is ignored, and so would the command.
        before = signal.signal(signal.SIGINT, signal.default_int_handler)
        with subprocess.Popen(command, **pipes) as process:
            signal.signal(signal.SIGINT, before)
            assert process.stdout is not None
            assert b"serial 12345678" in process.stdout.readline()
            # The first looks may follow each other at once: finding the meter took a moment.
            assert b"kWh" in process.stdout.readline()
            assert b"kWh" in process.stdout.readline()
            begun = time.monotonic()
            assert b"kWh" in process.stdout.readline()
            assert time.monotonic() - begun > 0.5  # a second apart
            os.kill(process.pid, signal.SIGINT)
            _, error = process.communicate(timeout=20)
    assert process.returncode == 0, error
    assert b"Traceback" not in error


def test_a_model_without_a_known_line_wants_to_be_told(voltill: Voltill, state: Path) -> None:
    args = ("meter", "read", "--model", "janitza_b23", "--port", "/dev/null", "--state", state)
    answer = voltill(*args, "--unit", "3")
    assert answer.code == 64
    assert "give --baud, --framing as the meter's menu says" in answer.err
    assert voltill(*args, "--unit", "3", "--baud", "9600", "--framing", "8N1").code == 2


def test_a_model_file_of_ones_own_and_what_is_wrong_with_it(
    voltill: Voltill, tmp_path: Path, state: Path
) -> None:
    text = (catalogue.OWN / f"{EM340}.yaml").read_text().replace(f"id: {EM340}", "id: acme")
    own = tmp_path / "acme.yaml"
    own.write_text(text)
    with meter_thread(tmp_path, "--model", EM340) as meter:
        rest = ("--port", meter.link, "--state", state, "--json")
        assert voltill("meter", "read", "--model", own, *rest).json["model"] == "acme"
        by_name = ("--model", "acme", "--models-dir", tmp_path)
        assert voltill("meter", "read", *by_name, *rest).json["state"] == "ok"
    own.write_text(text.replace("phases: 3", "phases: 4").replace("unit: Hz", "unit: Hertz"))
    answer = voltill("meter", "read", "--model", own, *rest)
    assert answer.code == 2
    lines = answer.err.splitlines()
    assert lines[0].startswith(
        f"MTR-009: {own}:6: phases: '4': expected a whole number from 1 to 3"
    )
    assert len(lines) == 2 and "'Hertz': expected one of Hz" in lines[1]


def test_a_configuration_may_name_a_model_of_ones_own(
    voltill: Voltill, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = World(tmp_path, monkeypatch).folder / "station.yaml"
    text = config.read_text()
    assert "model: eastron_sdm630" in text
    config.write_text(text.replace("model: eastron_sdm630", "model: acme"))
    refused = voltill("check", config)
    assert refused.code == 78 and 'no meter model "acme" is installed' in refused.err
    # Beside the configuration ...
    own = catalogue.OWN / "acme.yaml"
    shipped = (catalogue.SHIPPED / "eastron_sdm630.yaml").read_text()
    own.write_text(shipped.replace("id: eastron_sdm630", "id: acme"))
    assert voltill("check", config).code == 0
    # ... or in the folder that the meter's option names. A wrong file is told here and at the start.
    own.unlink()
    folder = tmp_path / "mine"
    folder.mkdir()
    named = f"model: acme, options: {{models_dir: {folder}}}"
    config.write_text(text.replace("model: eastron_sdm630", named))
    assert "MTR-008" in voltill("check", config).err
    (folder / "acme.yaml").write_text(shipped.replace("id: eastron_sdm630", "id: acme"))
    assert voltill("check", config).code == 0
    (folder / "acme.yaml").write_text(shipped)
    assert "MTR-009" in voltill("check", config).err
    spec = MeterSpec("acme", options={"models_dir": str(folder)})
    env, _, _ = driver_env()
    bus = open_bus(LineSpec("/dev/null"), env)
    with pytest.raises(ModelError, match=f"MTR-009: {folder}/acme.yaml:3: id: 'eastron_sdm630'"):
        open_meter(spec, bus, env)


# --- the service has the port -----------------------------------------------------------------------


def test_a_port_of_the_running_service_is_left_to_it(
    voltill: Voltill, past: Past, monkeypatch: pytest.MonkeyPatch
) -> None:
    port = "/dev/null"
    assert port in past.config.read_text()
    held = ("--port", port, "--state", past.state, "--config", past.config)
    with running(past, monkeypatch):
        answer = voltill("meter", "read", "--model", EM340, *held)
        assert answer.code == 2
        assert answer.err.startswith(f"MTR-016: {port} belongs to the running service as bus")
        assert "--evse DE*ABC*E1" in answer.err
        assert voltill("meter", "scan", *held).err.startswith("MTR-016")
        other = ("--port", "/dev/other", "--state", past.state, "--config", past.config)
        assert "MTR-001" in voltill("meter", "read", "--model", EM340, *other).err
    assert "MTR-016" not in voltill("meter", "read", "--model", EM340, *held).err


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        ("/dev/ttyUSB0", "/dev/../dev/ttyUSB0", True),
        ("/dev/ttyUSB0", "/dev/ttyUSB1", False),
        ("socket://gateway:502", "socket://gateway:502", True),
        ("socket://gateway:502", "/dev/ttyUSB0", False),
    ],
)
def test_one_port_by_two_names(one: str, other: str, same: bool) -> None:
    assert meter_way._same(one, other) is same


# --- scan -----------------------------------------------------------------------------------------


def scanned(voltill: Voltill, port: Path, state: Path, *options: str) -> tuple[Answer, Any]:
    args = ("meter", "scan", "--port", port, "--state", state, "--wait-ms", "60", *options)
    answer = voltill(*args, "--json")
    return answer, answer.json["found"]


@pytest.mark.parametrize(
    ("model", "maybe", "sure", "serial", "code"),
    [
        (EM340, [EM340], True, "KZ12345", 0),
        # The two share every register.
        ("eastron_sdm72dm_v2", ["eastron_sdm630", "eastron_sdm72dm_v2"], False, "12345678", 1),
    ],
)
def test_a_scan_finds_the_address_and_guesses_the_model(
    voltill: Voltill, tmp_path: Path, state: Path,
    model: str, maybe: list[str], sure: bool, serial: str, code: int,
) -> None:  # fmt: skip
    with meter_thread(tmp_path, "--model", model, "--unit", "3") as meter:
        answer, found = scanned(
            voltill, meter.link, state, "--baud", "9600", "--framing", "8N1", "--units", "2-4"
        )
        asked = meter.ask("state")["requests"]
    (entry,) = found
    assert (entry["unit"], entry["models"], entry["sure"]) == (3, maybe, sure), entry
    assert entry["serial"] == serial
    assert answer.code == code
    functions = {function for by_unit in asked.values() for function in by_unit}
    assert functions <= {"3", "4"}  # a scan only reads


def test_a_scan_finds_the_speed_and_says_how_to_go_on(
    voltill: Voltill, tmp_path: Path, state: Path
) -> None:
    options = ("--model", "abb_b21_b23_b24", "--strict-rate")
    with meter_thread(tmp_path, *options) as meter:
        args = ("meter", "scan", "--port", meter.link, "--state", state, "--wait-ms", "40")
        answer = voltill(*args, "--framing", "8N1", "--baud", "9600,19200", "--units", "1-2")
        assert answer.code == 0, answer.err
        again = answer.out.splitlines()[-1].removeprefix("Read it: voltill ").split()
        assert voltill(*again, "--state", state, "--json").json["serial"] == "3057391"
    assert answer.out.splitlines()[1].split() == ["19200", "8N1", "1", "abb_b21_b23_b24", "3057391"]
    assert answer.err.startswith("2 line settings, 2 addresses: up to about")


def test_a_scan_of_nobody_and_of_noise(voltill: Voltill, tmp_path: Path, state: Path) -> None:
    with meter_thread(tmp_path, "--model", EM340, "--unit", "9") as meter:
        few = ("--baud", "9600", "--framing", "8N1", "--wait-ms", "40", "--state", state)
        nobody = voltill("meter", "scan", "--port", meter.link, "--units", "1-2", *few)
        assert nobody.code == 2 and nobody.out == ""
        assert "nobody answered" in nobody.err and "--units 1-247" in nobody.err
        meter.ask("fault", name="crc", count=0)
        noise = voltill("meter", "scan", "--port", meter.link, "--units", "8,9", *few)
        assert noise.code == 1
        assert "not understood: a wrong checksum" in noise.out
    gone = voltill("meter", "scan", "--port", tmp_path / "nothing", "--units", "1", *few)
    assert gone.code == 2 and "MTR-001" in gone.err


@pytest.mark.parametrize(
    ("option", "value", "why"),
    [
        ("--units", "0-3", "addresses from 1 to 247"),
        ("--units", "all", "expected such as 1-32"),
        ("--units", "4-3", "addresses from 1 to 247"),
        ("--baud", "9601", "expected numbers out of"),
        ("--framing", "7E1", "expected one of 8N1"),
        ("--wait-ms", "5", "not in the range"),
    ],
)
def test_a_scan_called_wrongly(
    voltill: Voltill, state: Path, option: str, value: str, why: str
) -> None:
    answer = voltill("meter", "scan", "--port", "/dev/null", "--state", state, option, value)
    assert answer.code == 64 and why in answer.err


# --- models ---------------------------------------------------------------------------------------


def test_the_models_and_a_wrong_file(voltill: Voltill, tmp_path: Path) -> None:
    answer = voltill("meter", "models")
    assert answer.code == 0
    assert len(answer.out.splitlines()) == 13
    told = voltill("meter", "models", "--json").json
    assert len(told["models"]) == 12 and told["problems"] == []
    bad = tmp_path / "bad.yaml"
    bad.write_text("format: voltill-meter-1\nid: good\n")
    answer = voltill("meter", "models", "--models-dir", tmp_path)
    assert answer.code == 2
    assert len(answer.out.splitlines()) == 13  # the others are there all the same
    assert f"{bad}:2: id: 'good'" in answer.err and f"{bad}:1: vendor: missing" in answer.err
