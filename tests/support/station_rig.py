"""A whole station for one test, or for the tests of one module: real processes, a real broker, a
configuration of its own.

Nothing here sleeps to let something happen: a step waits for the agent's log, for a simulator, or looks
again until what it wants to see is there."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from itertools import cycle
from pathlib import Path
from typing import Any

import pytest

from hil.broker import WAYS, Broker, BrokerError, Tls, find_broker
from hil.common.ports import free_port
from hil.rig import Event, Ports, Rig, RigError

ROOT = Path(__file__).resolve().parents[2]
STATION = "DE*ABC*S1"
EVSE = "DE*ABC*E1"
PRICE = "Tap card to start"  # the last line of the price screen
TARIFF = ROOT / "config/tariffs/adhoc.yaml"
HOLD_MINOR = 5000
PARTS = ("broker", "network", "backend", "terminal", "charger")
ENDS = ("capture", "release", "auto_reversal")
STEP_S = 30.0  # two cores, several tests at once
# One after the other: the same card twice within seconds counts as one tap.
DRIVERS = cycle(("visa", "mastercard", "girocard", "amex", "visa2"))
TAPS_MAX = 4
SAME_TAP_S = 4.5  # the agent's window is 4 s
CLOSE_S = 60.0  # stop, proof, end reading, record, capture

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
    evse: {{driver: phoenix_rtu, bus: rs485, unit: 3, options: {{estop_input: IN}}}}
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
  url: {scheme}://127.0.0.1:{proxy}
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
    load_w: int = 360_000,
    tariff: Path = TARIFF,
    tls: Tls | None = None,
    terminal_options: tuple[str, ...] = (),
    without: tuple[str, ...] = (),
    edit: Callable[[str], str] = str,
    start_agent: bool = True,
) -> Iterator[Rig]:
    """`without`: parts of PARTS that the test starts itself, or never. `edit`: changes the text of the
    configuration."""
    ports = Ports(free_port(), free_port())
    config = directory / "station.yaml"
    directory.mkdir(parents=True, exist_ok=True)
    text = CONFIG.format(
        proxy=ports.proxy,
        scheme="mqtt" if tls is None else "mqtts",
        tariff=tariff,
        connection_timeout_s=connection_timeout_s,
        on_sigterm=on_sigterm,
        protocol=protocol,
    )
    config.write_text(edit(text))
    rig = Rig(
        directory,
        config,
        ports,
        "abc",
        broker,
        protocol=protocol,
        tls=tls,
        terminal_options=("--delay-ms", "0", *terminal_options),
        charger_options=("--load-w", str(load_w), "--react-ms", "100", "--fall-ms", "100"),
    )
    with rig:
        rig.make_secrets("123456")
        for part in PARTS:
            if part not in without:
                getattr(rig, f"start_{part}")()
        if start_agent:
            rig.start_agent()
        yield rig


# --- a session, step by step ------------------------------------------------------------------------


def mark(rig: Rig) -> int:
    """How far the agent's log is now: what comes later is told apart by it."""
    return len(rig.log.events)


def wait_state(rig: Rig, *states: str, since: int = 0) -> str:
    """The id of the session that reached one of `states`."""
    event = rig.log.wait(
        lambda e: e.get("event") == "session" and e.get("state") in states, since=since
    )
    return str(event["session"])


def wait_event(rig: Rig, name: str, *, since: int = 0, **values: object) -> Event:
    """The first log line `name` after `since` that has these values."""
    return rig.log.wait(
        lambda e: e.get("event") == name and all(e.get(k) == v for k, v in values.items()),
        STEP_S,
        since,
    )


def reach(rig: Rig, session: str, *states: str, timeout_s: float = STEP_S) -> Event:
    """Until the session is (or was) in one of `states`."""
    return rig.log.wait(
        lambda e: e.get("event") == "session" and e["session"] == session and e["state"] in states,
        timeout_s,
    )


def tap(rig: Rig, card: str = "") -> str:
    """A driver taps, by default each with another card; the id of the session that this begins."""
    at = mark(rig)
    rig.tap(card or next(DRIVERS))
    return wait_state(rig, "authorizing", since=at)


def charge(rig: Rig, card: str = "", wh: int = 100) -> str:
    """Plug, tap, and let `wh` flow; the session's id."""
    rig.tell("charger", "plug")
    session = tap(rig, card)
    reach(rig, session, "charging")
    draw(rig, wh)
    return session


def draw(rig: Rig, wh: int) -> None:
    """Until the car has drawn `wh` more."""
    truth_mwh = rig.tell("charger", "state")["energy_truth_mwh"]
    rig.tell("charger", "wait", drawn_mwh=truth_mwh + wh * 1000, timeout_s=STEP_S)


def unplug(rig: Rig) -> None:
    rig.tell("charger", "unplug")


def closed(rig: Rig, session: str) -> dict[str, Any]:
    """The session as the command line shows it once it is closed."""
    reach(rig, session, "closed", timeout_s=CLOSE_S)
    return rig.session(session)


def tap_until(rig: Rig, session: str, card: str, *states: str) -> None:
    """Tap until the session is in one of `states`: a second tap soon after the first counts as the
    same one, so the driver tries again when nothing has happened."""
    for _ in range(TAPS_MAX):
        rig.tap(card)
        with suppress(RigError):
            reach(rig, session, *states, timeout_s=SAME_TAP_S)
            return
    raise AssertionError(f"{TAPS_MAX} taps and session {session} did not become {states}")


def nobody_there(rig: Rig) -> None:
    """No car, and the terminal asks the next driver for a card."""
    unplug(rig)
    rig.tell("charger", "estop_clear")
    rig.until(lambda: status(rig)["evses"][0]["state"] == "unplugged", "the car to be gone")
    rig.until(
        lambda: bool(rig.tell("terminal", "state")["reading_card"]), "the terminal to be idle"
    )


# --- what must hold ---------------------------------------------------------------------------------


def status(rig: Rig) -> dict[str, Any]:
    found: dict[str, Any] = rig.voltill_json("status", "--state", str(rig.state))
    return found


def outbox(rig: Rig) -> dict[str, Any]:
    found: dict[str, Any] = rig.voltill_json("outbox", "list", "--state", str(rig.state))
    return found


def moved(rig: Rig, found: dict[str, Any]) -> list[dict[str, Any]]:
    """What the acquirer booked for the hold of a session, the hold first."""
    receipt = found["hold"].get("receipt")
    return [row for row in booked(rig) if (row.get("hold_receipt") or row["receipt"]) == receipt]


def booked(rig: Rig) -> list[dict[str, Any]]:
    """The acquirer's whole ledger."""
    if not rig.acquirer_ledger.exists():
        return []
    return [json.loads(line) for line in rig.acquirer_ledger.read_text().splitlines()]


def movements(rig: Rig, kind: str) -> list[dict[str, Any]]:
    """The acquirer's ledger rows of a kind."""
    return [row for row in booked(rig) if row["kind"] == kind]


def check_captured(rig: Rig, session: str) -> dict[str, Any]:
    """Closed; one hold, one capture of exactly the cost, the rest released; two records."""
    found = closed(rig, session)
    rows = moved(rig, found)
    assert [row["kind"] for row in rows] == ["hold", "capture"], rows
    assert rows[1]["amount_minor"] == found["cost_minor"] == found["captured_minor"] > 0
    assert rows[1]["released_minor"] == found["held_minor"] - found["cost_minor"]
    assert [record["type"] for record in found["records"]] == ["session", "settlement"]
    assert found["energy_wh"] > 0
    return found


def check_released(rig: Rig, session: str) -> dict[str, Any]:
    """Closed; one hold, released once and whole; no energy; a settlement record only."""
    found = closed(rig, session)
    rows = moved(rig, found)
    assert len(rows) == 2, rows
    assert rows[0]["kind"] == "hold"
    assert rows[1]["kind"] in ENDS[1:]
    assert found["captured_minor"] == 0
    assert found["energy_wh"] in (0, None)
    assert [record["type"] for record in found["records"]] == ["settlement"]
    return found


def check_no_energy(rig: Rig, truth_mwh: int) -> None:
    """Nothing was delivered since the truth stood at `truth_mwh`, and nothing may be."""
    state = rig.tell("charger", "state")
    assert state["energy_truth_mwh"] == truth_mwh
    assert not state["released"], state


def truth_mwh(rig: Rig) -> int:
    return int(rig.tell("charger", "state")["energy_truth_mwh"])


def losses(rig: Rig) -> list[Event]:
    return [e for e in rig.log.events if e.get("event") == "device_lost"]


def check_books(rig: Rig, *, tariff: Path = TARIFF) -> dict[str, Any]:
    """Every record has arrived and is acknowledged, and the four books agree."""
    rig.until(lambda: outbox(rig)["unacked"] == 0, "every record to be acknowledged", CLOSE_S)
    return four_way(rig, tariff=tariff)


def four_way(rig: Rig, *, tariff: Path = TARIFF) -> dict[str, Any]:
    """The independent check; its findings must be empty."""
    voltill = f"{sys.executable} -m agent.cli.main"
    done = subprocess.run(
        [
            *(sys.executable, "-m", "hil", "verify", "--json"),
            *("--ledger", str(rig.acquirer_ledger), "--db", str(rig.backend_db)),
            *("--voltill", voltill, "--state", str(rig.state), "--config", str(rig.config)),
            *("--tariff", str(tariff)),
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
