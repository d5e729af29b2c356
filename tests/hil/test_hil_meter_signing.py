"""The signing meters of the simulator over a pty, with the driver on a real bus: power cuts,
SIGKILL, faults."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from support.rtu_slave import driver_env
from support.signing_rig import MODELS, text
from support.simulator import Simulator

from agent.cli import meter as meter_cli
from agent.ports import DeviceUnavailable, LineSpec, MeterSpec, SigningMeter
from agent.trust import ocmf
from drivers.meter.catalogue import load_model
from drivers.meter.modbus_meter import open_meter
from drivers.meter.rtu import open_bus
from drivers.meter.signing.meter import SigningModbusMeter
from hil.common.control import ControlError, ask_async

START_WH = 104_211
QUICK = {"turnaround_ms": 200, "longest_reply_ms": 200, "min_gap_ms": 0, "signing_reply_ms": 600}


@asynccontextmanager
async def driver(link: Path, model: str) -> AsyncIterator[SigningModbusMeter]:
    """As a freshly started agent has it."""
    found = load_model(model)
    assert found.baud and found.framing and found.unit
    env, _, _ = driver_env()
    bus = open_bus(LineSpec(str(link), found.baud, found.framing), env)
    try:
        meter = open_meter(MeterSpec(model, found.unit, options=QUICK), bus, env)
        assert isinstance(meter, SigningModbusMeter)
        yield meter
    finally:
        await bus.close()


def simulated(folder: Path, model: str, *options: str) -> Simulator:
    return Simulator("meter", folder, "--model", model, "--start-wh", str(START_WH), *options)


def pages(data: bytes) -> list[dict[str, Any]]:
    return [json.loads(line.split(b"|")[1]) for line in data.split(b"\n")]


def registers_wh(data: bytes) -> list[int]:
    found = []
    for payload in pages(data):
        for reading in payload["RD"]:
            factor = 1000 if reading["RU"] == "kWh" else 1
            found.append(round(reading.get("XV", reading["RV"]) * factor))
    return found


@pytest.mark.parametrize("model", MODELS)
def test_agent_and_meter_lose_power_between_fetch_and_acknowledgement(
    tmp_path: Path, model: str
) -> None:
    """The simulator as a process that is killed with SIGKILL, a new driver each time; bytes are the same."""

    async def main(meter: Simulator) -> None:
        async def ask(do: str, **values: Any) -> dict[str, Any]:
            return await ask_async(meter.control, do=do, **values)

        async with driver(meter.link, model) as one:
            assert isinstance(one, SigningMeter)
            reading = await one.read()
            assert reading.ok, reading.why
            await one.begin(text("975-231"))
        await ask("flow", wh=7_350)
        async with driver(meter.link, model) as two:
            two.resume(text("975-231"))
            await two.begin(text("975-231"))  # it runs: nothing is begun again
            await two.end()
            data = await two.fetch()
        meter.kill()
        meter.start()
        async with driver(meter.link, model) as three:
            assert await three.fetch() == data
            with pytest.raises(DeviceUnavailable, match="MTR-031"):
                await three.begin(text("975-232"))
            await three.acknowledge()
            key = await three.public_key()
            state = await ask("state")
            assert key is not None and state["signing"]["public_key"] == key.hex()
            assert state["signing"]["discarded"] == 0
            for line in data.split(b"\n"):
                assert ocmf.verify(line, key).signature == "valid"
            step = 1 if model == "carlogavazzi_em580" else 10
            told = registers_wh(data)
            assert told == [START_WH // step * step, (START_WH + 7_350) // step * step]
            assert state["import_mwh"] == (START_WH + 7_350) * 1000

    with simulated(tmp_path, model) as meter:
        asyncio.run(main(meter))


def test_wm3m4_loses_power_while_energy_flows(tmp_path: Path) -> None:
    async def main(meter: Simulator) -> None:
        async with driver(meter.link, "iskra_wm3m4") as one:
            await one.begin(text("975-231"))
            await ask_async(meter.control, do="flow", wh=500)
            await ask_async(meter.control, do="power_off")
            with pytest.raises(DeviceUnavailable, match="MTR-002"):
                await one.end()
            await ask_async(meter.control, do="power_on")
            await ask_async(meter.control, do="flow", wh=500)
            await one.end()
            data = await one.fetch()
        told = registers_wh(data)
        assert told[1] - told[0] == 1_000 and pages(data)[0]["ID"] == "975-231"

    with simulated(tmp_path, "iskra_wm3m4") as meter:
        asyncio.run(main(meter))


def test_faults_of_signing_by_the_control_socket(tmp_path: Path) -> None:
    async def main(meter: Simulator) -> None:
        async with driver(meter.link, "iskra_wm3m4") as one:
            await ask_async(meter.control, do="fault", name="no_signature", code=254)
            with pytest.raises(DeviceUnavailable, match=r"MTR-033.*254 \(signature\)"):
                await one.begin(text("1"))
            await ask_async(meter.control, do="fault", name="slow_signature", ms=700)
            # The reply to the command is lost, and the command is not sent again.
            await ask_async(meter.control, do="fault", name="timeout", function=6, address=7051)
            await one.begin(text("1"))
            state = await ask_async(meter.control, do="state")
            assert state["signing"]["commands"] == [0x4200, 0x4200]  # the refused one and this
            assert state["signing"]["page"] == 1
            await ask_async(meter.control, do="clear_faults")
            await one.end()
            assert len(registers_wh(await one.fetch())) == 2

    with simulated(tmp_path, "iskra_wm3m4") as meter:
        asyncio.run(main(meter))


def test_a_meter_that_does_not_sign_has_no_such_faults(tmp_path: Path) -> None:
    async def main(meter: Simulator) -> None:
        with pytest.raises(ControlError, match="signs nothing"):
            await ask_async(meter.control, do="fault", name="no_signature")

    with simulated(tmp_path, "eastron_sdm630") as meter:
        asyncio.run(main(meter))


@pytest.mark.parametrize("model", ["carlogavazzi_em580", "iskra_wm3m4"])
def test_meter_read_shows_that_it_signs_and_its_key(tmp_path: Path, model: str) -> None:
    with simulated(tmp_path, model) as meter:
        given = ["read", "--model", model, "--port", str(meter.link)]
        given += ["--state", str(tmp_path), "--config", str(tmp_path / "none.yaml")]
        shown = CliRunner().invoke(meter_cli.command, given)
        told = CliRunner().invoke(meter_cli.command, [*given, "--json"])
        key = meter.ask("state")["signing"]["public_key"]
    assert shown.exit_code == 0, shown.output
    assert "signs its records; now: free" in shown.output
    assert f"public key {key}" in shown.output
    assert json.loads(told.stdout)["signing"] == {"state": "free", "public_key": key, "why": ""}


def test_bsm_answers_late_while_it_signs(tmp_path: Path) -> None:
    """With the usual patience the readings would be lost; with its own they come."""

    async def main(meter: Simulator) -> None:
        async with driver(meter.link, "bauer_bsm_ws36a") as one:
            assert (await one.read()).ok
            await ask_async(meter.control, do="fault", name="slow_signature", ms=300)
            ending = asyncio.ensure_future(one.begin(text("1")))
            while not (await ask_async(meter.control, do="state"))["signing"]["signing"]:
                await asyncio.sleep(0.01)
            assert (await one.read()).ok  # some 450 ms late
            await ending
            assert one.timing.longest_reply_ms == QUICK["longest_reply_ms"]

    with simulated(tmp_path, "bauer_bsm_ws36a") as meter:
        asyncio.run(main(meter))
