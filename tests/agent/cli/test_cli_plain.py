"""Commands that need no ledger, and what every command has in common."""

from __future__ import annotations

import importlib
import json
import stat
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import click
import pytest
from support.past_station import Answer
from support.station_world import TARIFF, World

from agent.cli.main import COMMANDS
from agent.cli.main import voltill as group

Voltill = Callable[..., Answer]


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A configuration that is right."""
    return World(tmp_path, monkeypatch).folder


# --- in common ------------------------------------------------------------------------------------


def commands() -> Iterator[tuple[str, click.Command]]:
    for name, (module, _) in COMMANDS.items():
        command = importlib.import_module(module).command
        if isinstance(command, click.Group):
            for sub, found in command.commands.items():
                yield f"{name} {sub}", found
        else:
            yield name, command


@pytest.mark.parametrize(
    ("name", "command"), list(commands()), ids=lambda v: v if isinstance(v, str) else ""
)
def test_every_command_speaks_json_and_explains_itself(name: str, command: click.Command) -> None:
    options = {o for p in command.params for o in p.opts}
    assert "--json" in options, name
    assert command.help, name


def test_the_list_of_commands(voltill: Voltill) -> None:
    answer = voltill("--help")
    assert answer.code == 0
    for name, (_, text) in COMMANDS.items():
        assert f"  {name} " in answer.out and text in answer.out
    assert "78 bad configuration" in answer.out
    assert isinstance(group, click.Group)


@pytest.mark.parametrize(
    "args",
    [
        ("nothing",),
        ("sessions", "nothing"),
        ("sessions", "list", "--limit", "0"),
        ("sessions", "list", "--limit", "many"),
        ("sessions", "show"),
        ("status", "--nothing"),
        ("zvt", "decode"),
        ("price", "--kwh", "twelve"),
        ("price", "--kwh", "0.0001"),
        ("price", "--kwh", "-1"),
        ("price", "--kwh", "NaN"),
        ("meter", "read"),
        ("meter", "read", "--model", "eastron_sdm630"),
        ("run", "--log-level", "loud"),
    ],
    ids=" ".join,
)
def test_a_wrong_call_is_64(voltill: Voltill, args: tuple[str, ...]) -> None:
    answer = voltill(*args)
    assert answer.code == 64 and answer.out == ""
    assert "Error:" in answer.err


def test_a_reader_that_has_read_enough(folder: Path) -> None:
    """`voltill schema | head -c 10`: no traceback, no error."""
    command = [sys.executable, "-m", "agent.cli.main", "schema"]
    done = subprocess.run(
        ["bash", "-o", "pipefail", "-c", '"$@" | head -c 10 > /dev/null', "-", *command],
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")


def test_a_caller_that_closed_the_output() -> None:
    """`voltill price ... >&-`, as some schedulers start a command."""
    command = [sys.executable, "-m", "agent.cli.main", "--version"]
    done = subprocess.run(
        ["bash", "-c", '"$@" >&-', "-", *command], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0 and "Traceback" not in done.stderr, done.stderr


# --- check, schema, run on a bad configuration ------------------------------------------------------


def test_check(voltill: Voltill, folder: Path) -> None:
    config = folder / "station.yaml"
    good = voltill("check", config)
    assert (good.code, good.out) == (0, f"{config}: all good\n")
    config.write_text(config.read_text().replace("max_power_w", "max_power", 1))
    bad = voltill("check", config)
    assert bad.code == 78 and f"{config}:" in bad.err and "CFG-010" in bad.err
    found = voltill("check", config, "--json")
    assert found.code == 78 and found.json["ok"] is False
    assert {"id", "line", "column"} <= set(found.json["problems"][0])


def test_check_warns_with_1(voltill: Voltill, folder: Path) -> None:
    config = folder / "station.yaml"
    config.write_text(config.read_text().replace('"50.00"', '"1.00"'))
    answer = voltill("check", config)
    assert answer.code == 1 and "CFG-031" in answer.err


def test_run_with_a_bad_configuration_starts_nothing(voltill: Voltill, folder: Path) -> None:
    config, state = folder / "station.yaml", folder / "fresh"
    config.write_text(config.read_text().replace("currency: EUR", "currency: EURO"))
    answer = voltill("run", "--config", config, "--state", state)
    assert answer.code == 78
    assert "Nothing was started" in answer.err and "currency" in answer.err
    assert not state.exists()
    found = voltill("run", "--config", config, "--state", state, "--json")
    assert found.code == 78 and found.json["problems"][0]["id"].startswith("CFG-")
    gone = voltill("run", "--config", folder / "nothing.yaml", "--state", state)
    assert gone.code == 78 and "CFG-001" in gone.err


def test_run_with_a_driver_that_refuses_its_options(
    voltill: Voltill, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.undo()
    config = folder / "station.yaml"
    text = config.read_text().replace(
        "{driver: phoenix_rtu, bus: rs485, unit: 101}",
        "{driver: phoenix_rtu, bus: rs485, unit: 101, options: {nothing: 1}}",
    )
    config.write_text(text)
    with pytest.MonkeyPatch.context() as m:
        m.setattr(
            "sys.argv", ["voltill", "run", "--config", str(config), "--state", str(folder / "s")]
        )
        from agent.cli.main import main

        with pytest.raises(SystemExit) as end:
            main()
    assert end.value.code == 78


def test_run_without_a_place_for_its_state(voltill: Voltill, folder: Path) -> None:
    (folder / "file").write_text("")
    answer = voltill("run", "--config", folder / "station.yaml", "--state", folder / "file" / "x")
    assert answer.code == 2 and answer.err.startswith("STA-014:") and "--state" in answer.err


def test_run_where_the_control_socket_cannot_be(voltill: Voltill, folder: Path) -> None:
    state = folder / ("x" * 120)
    answer = voltill("run", "--config", folder / "station.yaml", "--state", state)
    assert answer.code == 2
    line = json.loads(answer.err.splitlines()[-1])
    assert (line["event"], line["id"]) == ("start_failed", "STA-015")


def test_the_schemas(voltill: Voltill) -> None:
    station = voltill("schema").json
    tariff = voltill("schema", "--tariff", "--json").json
    assert station["properties"]["evses"] and tariff["properties"]["energy"]


# --- price ----------------------------------------------------------------------------------------


def test_price(voltill: Voltill, tmp_path: Path) -> None:
    tariff = tmp_path / "tariff.yaml"
    tariff.write_text(TARIFF)
    answer = voltill(
        "price", "--tariff", tariff, "--kwh", "22.212", "--idle-minutes", "10.5", "--json"
    )
    found = answer.json
    assert answer.code == 0 and found["currency"] == "EUR" and found["rounding"] == "half_up"
    parts = {"total", "energy", "time", "parking", "fixed", "reservation"}
    assert set(found["exact"]) == set(found["rounded"]) == parts
    assert found["exact"]["total"]["incl"] == "12.28388"
    assert found["rounded"]["total"]["incl"] == "12.28"
    text = voltill("price", "--tariff", tariff, "--kwh", "22.212").out
    assert "22.212 kWh" in text and "TOTAL" in text and "including 19 % VAT" in text


def test_price_with_a_bad_tariff(voltill: Voltill, tmp_path: Path) -> None:
    tariff = tmp_path / "tariff.yaml"
    tariff.write_text(TARIFF.replace('"0.4900"', "0.49"))
    answer = voltill("price", "--tariff", tariff)
    assert answer.code == 78 and "TAR-014" in answer.err
    gone = voltill("price", "--config", tmp_path / "nothing.yaml")
    assert gone.code == 78 and "CFG-001" in gone.err


# --- zvt, keys, meter, verify, withdraw -------------------------------------------------------------


def test_zvt_decode(voltill: Voltill) -> None:
    answer = voltill("zvt", "decode", "060f00", "--json")
    assert answer.code == 0 and answer.json["command"] == "060f"
    assert set(answer.json) >= {"command", "name", "fields", "dropped"}
    text = voltill("zvt", "decode", "060f00").out
    assert text.startswith("060f  ")
    for bad in ("06", "xyz", "060f05"):
        answer = voltill("zvt", "decode", bad, "--json")
        assert answer.code == 2 and {"error", "at"} <= set(answer.json)


def test_keys(voltill: Voltill, tmp_path: Path) -> None:
    path = tmp_path / "key.pem"
    made = voltill("keys", "new", path, "--json")
    assert made.code == 0 and len(made.json["kid"]) == 64
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert voltill("keys", "show", path, "--json").json == made.json
    assert "PRIVATE" not in voltill("keys", "show", path).out
    again = voltill("keys", "new", path)
    assert again.code == 2 and "KEY-005" in again.err
    gone = voltill("keys", "show", tmp_path / "nothing")
    assert gone.code == 2 and "KEY-001" in gone.err


def test_meter_read_of_an_unknown_model(voltill: Voltill) -> None:
    answer = voltill("meter", "read", "--model", "nothing", "--port", "/dev/null")
    assert answer.code == 2 and answer.err.startswith("MTR-008")


def test_meter_read_of_a_port_that_is_not_there(voltill: Voltill, tmp_path: Path) -> None:
    port = tmp_path / "nothing"
    args = ("meter", "read", "--model", "eastron_sdm630", "--port", port)
    answer = voltill(*args, "--json")
    assert answer.code == 2 and answer.json["state"] == "no_answer"
    assert answer.json["energy_import_wh"] is None and "MTR-001" in answer.json["why"]
    assert "MTR-001" in voltill(*args).err


def test_verify_of_nothing(voltill: Voltill, tmp_path: Path) -> None:
    assert voltill("verify", tmp_path / "nothing").code == 64
    (tmp_path / "x.txt").write_text("nothing of ours")
    answer = voltill("verify", tmp_path / "x.txt")
    assert answer.code == 2


class NoSecrets:
    """A configuration whose credentials are not there, as in ExecStopPost."""

    def __init__(self, folder: Path) -> None:
        self.config = folder / "station.yaml"
        text = self.config.read_text()
        self.config.write_text(text.replace("{file: zvt-password}", "{credential: zvt-password}"))
        (folder / "record-key.pem").unlink()
        (folder / "tariff.yaml").unlink()


@pytest.fixture
def released(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> World:
    monkeypatch.delenv("CREDENTIALS_DIRECTORY", raising=False)
    monkeypatch.delenv("SERVICE_RESULT", raising=False)
    w = World(tmp_path, monkeypatch)
    w.plant.plug()
    w.plant.release()
    return w


def test_withdraw_needs_no_secret(voltill: Voltill, released: World) -> None:
    config = NoSecrets(released.folder).config
    answer = voltill("withdraw", "--config", config, "--json")
    assert answer.code == 0 and not released.plant.released
    assert answer.json == {"withdrawn": ["DE*ABC*E1"], "failed": {}, "handed_over": []}
    assert voltill("withdraw", "--config", config).out == "DE*ABC*E1: withdrawn\n"


def test_withdraw_from_a_controller_that_is_silent(voltill: Voltill, released: World) -> None:
    released.plant.answers = False
    answer = voltill("withdraw", "--config", released.folder / "station.yaml")
    assert answer.code == 2 and "MTR-002" in answer.err and "check that energy is off" in answer.err


def test_withdraw_does_not_wait_for_ever(
    voltill: Voltill, released: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("agent.cli.withdraw.WITHDRAW_BOUND_S", 0.05)
    released.plant.bus_ms = 60_000
    answer = voltill("withdraw", "--config", released.folder / "station.yaml", "--json")
    assert answer.code == 2 and "STA-024" in answer.json["failed"]["DE*ABC*E1"]


@pytest.mark.parametrize(
    ("result", "hand_over", "failsafe_s", "withdrawn"),
    [
        ("success", True, 30, False),
        ("success", True, None, True),  # nobody else would ever end it
        ("success", False, 30, True),
        ("signal", True, 30, True),
        ("watchdog", True, 30, True),
        ("exit-code", True, 30, True),
    ],
)
def test_only_a_hand_over_to_a_controller_with_a_fail_safe_keeps_the_release(
    voltill: Voltill,
    released: World,
    monkeypatch: pytest.MonkeyPatch,
    result: str,
    hand_over: bool,
    failsafe_s: int | None,
    withdrawn: bool,
) -> None:
    monkeypatch.setenv("SERVICE_RESULT", result)
    released.plant.failsafe_s = failsafe_s
    config = released.folder / "station.yaml"
    if hand_over:
        config.write_text(config.read_text().replace("on_sigterm: end", "on_sigterm: hand_over"))
    answer = voltill("withdraw", "--config", config, "--unless-handed-over", "--json")
    assert answer.code == 0
    found: dict[str, Any] = answer.json
    assert bool(found["handed_over"]) is not withdrawn
    assert released.plant.released is not withdrawn


def test_a_broken_configuration_does_not_disarm_the_outside_hand(
    voltill: Voltill, released: World, tmp_path: Path
) -> None:
    from agent.station import in_force

    config = released.folder / "station.yaml"
    in_force.keep(config, tmp_path)
    config.write_text("station: [")
    answer = voltill("withdraw", "--config", config, "--state", tmp_path, "--json")
    assert answer.code == 0
    assert not released.plant.released
    assert voltill("withdraw", "--config", config, "--state", tmp_path / "none").code == 78
