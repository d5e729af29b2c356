"""A whole station for one test: real processes, a real broker, a configuration of its own."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from hil.broker import WAYS, Broker, BrokerError, find_broker, free_port
from hil.rig import Ports, Rig

ROOT = Path(__file__).resolve().parents[2]
EVSE = "DE*ABC*E1"

CONFIG = """
station:
  id: DE*ABC*S1
  tenant: abc
  place: DE
  time_zone: Europe/Berlin
  languages: [en]
  operator:
    name: Example CPO
    address: [Main Street 1, 10115 Berlin]
    vat_id: DE123456789
    helpline: "+49 30 1234567"
evses:
  - id: DE*ABC*E1
    max_power_w: 360000
    max_current_a: 32
    evse: {{driver: phoenix_rtu, bus: rs485, unit: 3}}
    meter: {{model: eastron_sdm630, bus: rs485, unit: 1}}
buses:
  rs485: {{port: bus, baud: 9600, framing: 8N1}}
terminals:
  - id: t1
    protocol: zvt
    profile: feig_cvend
    port: terminal
    baud: 115200
    framing: 8N2
    password: {{file: zvt-password}}
    currency: EUR
    serves: [DE*ABC*E1]
payment:
  hold: {{strategy: maximum, amount: "50.00"}}
  start: tap
  stop: [tap, unplug]
  connection_timeout_s: {connection_timeout_s}
  on_sigterm: {on_sigterm}
  card_poll_s: 2
  meter_lost_s: 10
tariff: {{file: {tariff}}}
keys: {{record: {{file: record-key.pem}}}}
uplink:
  url: mqtt://127.0.0.1:{proxy}
  root: voltill
  trust: [backend.pem]
  protocol: "{protocol}"
  ack_timeout_s: 5
"""


@pytest.fixture(scope="session")
def broker(tmp_path_factory: pytest.TempPathFactory) -> Broker:
    """mosquitto as installed; these tests do not fetch one."""
    try:
        return find_broker(tmp_path_factory.mktemp("broker"), ways=WAYS[:1])
    except BrokerError:
        pytest.skip("needs mosquitto: apt-get install mosquitto")


@contextmanager
def station(
    directory: Path,
    broker: Broker,
    *,
    connection_timeout_s: int = 60,
    on_sigterm: str = "end",
    protocol: str = "5",
    load_w: int = 120_000,
    terminal_options: tuple[str, ...] = (),
    start_agent: bool = True,
) -> Iterator[Rig]:
    ports = Ports(free_port(), free_port())
    config = directory / "station.yaml"
    directory.mkdir(parents=True, exist_ok=True)
    config.write_text(
        CONFIG.format(
            proxy=ports.proxy,
            tariff=ROOT / "config/tariffs/adhoc.yaml",
            connection_timeout_s=connection_timeout_s,
            on_sigterm=on_sigterm,
            protocol=protocol,
        )
    )
    rig = Rig(
        directory,
        config,
        ports,
        "abc",
        broker,
        protocol=protocol,
        terminal_options=("--delay-ms", "0", *terminal_options),
        charger_options=("--load-w", str(load_w), "--react-ms", "100", "--fall-ms", "100"),
    )
    with rig:
        rig.make_secrets("123456")
        rig.start()
        if start_agent:
            rig.start_agent()
        yield rig


def state_is(*states: str) -> Any:
    return lambda e: e.get("event") == "session" and e.get("state") in states


def wait_state(rig: Rig, *states: str, since: int = 0) -> str:
    """The id of the session that reached one of `states`."""
    return str(rig.log.wait(state_is(*states), since=since)["session"])


def four_way(rig: Rig) -> dict[str, Any]:
    """The independent check; its findings must be empty."""
    voltill = f"{sys.executable} -m agent.cli.main"
    done = subprocess.run(
        [
            *(sys.executable, "-m", "hil", "verify", "--json"),
            *("--ledger", str(rig.acquirer_ledger), "--db", str(rig.backend_db)),
            *("--voltill", voltill, "--state", str(rig.state), "--config", str(rig.config)),
            *("--tariff", str(ROOT / "config/tariffs/adhoc.yaml")),
            *("--trust", str(rig.station_key), "--all-closed"),
            *("--energy-truth", str(rig.socket("charger"))),
        ],
        capture_output=True,
        text=True,
        check=False,
    )
    report: dict[str, Any] = json.loads(done.stdout or "{}")
    assert done.returncode == 0, f"{done.stdout}\n{done.stderr}"
    return report


def movements(rig: Rig, kind: str) -> list[dict[str, Any]]:
    """The acquirer's ledger rows of a kind."""
    if not rig.acquirer_ledger.exists():
        return []
    rows = [json.loads(line) for line in rig.acquirer_ledger.read_text().splitlines()]
    return [row for row in rows if row["kind"] == kind]
