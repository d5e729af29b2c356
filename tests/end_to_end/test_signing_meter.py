"""A signing meter on a line of its own, with the real agent: its record in the session's, through the deaths
of both."""

from __future__ import annotations

import signal
from pathlib import Path
from typing import Any

import pytest
from support.simulator import Simulator
from support.station_rig import (
    broker,
    closed,
    mark,
    movements,
    nobody_there,
    reach,
    station,
    tap,
    unplug,
    wait_event,
)

from hil.broker import Broker
from hil.rig import Rig

__all__ = ["broker"]  # the fixture
pytestmark = pytest.mark.timeout(180)

# So little at once that no pause between two readings makes it a jump.
MODEL, START_WH, FLOWN_WH = "carlogavazzi_em580", 104_211, 20
LINE = "  rs485: {port: bus, baud: 9600, framing: 8N1}"


def with_signing_meter(link: Path) -> Any:
    def edit(text: str) -> str:
        text = text.replace(LINE, f"{LINE}\n  own: {{port: {link}, baud: 115200, framing: 8N1}}")
        return text.replace("model: eastron_sdm630, bus: rs485", f"model: {MODEL}, bus: own")

    return edit


def verified(rig: Rig, session: str, folder: Path) -> str:
    """What the command line gives out, after its own verdict on it; the page."""
    found = rig.session(session)
    assert found["meter_signing"] is None, found["meter_signing"]
    (value,) = found["signed_values"]
    assert value["signed_by"] == "meter"
    file = folder / f"{session}.ocmf"
    file.write_text(rig.voltill("sessions", "ocmf", session, "--state", str(rig.state)))
    verdict = rig.voltill_json("ocmf", "verify", str(file), "--key", value["public_key"], "--json")
    assert verdict["signature"] == "valid"
    assert verdict["charges"][0]["energy_wh"] in (f"{FLOWN_WH}", f"{FLOWN_WH}.0", f"{FLOWN_WH}.00")
    assert found["energy_wh"] == FLOWN_WH
    assert verdict["payload"]["ID"].startswith(found["hold"]["terminal_id"])
    return str(verdict["payload"]["PG"])


def charge(rig: Rig, meter: Simulator) -> str:
    rig.tell("charger", "plug")
    session = tap(rig)
    reach(rig, session, "charging")
    meter.ask("flow", wh=FLOWN_WH)
    return session


def test_its_record_is_stored_before_it_is_acknowledged(tmp_path: Path, broker: Broker) -> None:
    """Killed as soon as the end is durable: the meter may not have been told, and keeps its record over its
    own death, too."""
    with Simulator("meter", tmp_path, "--model", MODEL, "--start-wh", str(START_WH)) as meter:
        edit = with_signing_meter(meter.link)
        with station(tmp_path / "station", broker, edit=edit) as rig:
            first = charge(rig, meter)
            unplug(rig)
            reach(rig, first, "recording")
            assert rig.kill_agent() == -signal.SIGKILL
            meter.kill()
            meter.start()
            at = mark(rig)
            rig.start_agent()
            wait_event(rig, "station_ready", since=at)
            closed(rig, first)
            nobody_there(rig)
            second = charge(rig, meter)
            unplug(rig)
            closed(rig, second)
            pages = [verified(rig, session, tmp_path) for session in (first, second)]
            assert len(set(pages)) == 2
            assert len(movements(rig, "capture")) == 2
            assert meter.ask("state")["signing"]["discarded"] == 0
