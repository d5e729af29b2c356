"""One session with everything that could spoil its evidence, and what is left of it.

The terminal sends whole card numbers, the meter answers late and with wrong checksums, the command line asks
while the service runs, a second service is started on the same state, and at the end SIGTERM comes while
the car charges. Each test looks at one side of what that left behind."""

from __future__ import annotations

import hashlib
import json
import signal
import sqlite3
import subprocess
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives import serialization
from joserfc import jws
from joserfc.jwk import ECKey
from support.station_rig import (
    EVSE,
    STATION,
    STEP_S,
    broker,
    charge,
    four_way,
    mark,
    movements,
    station,
    wait_event,
)

from hil.broker import Broker
from hil.rig import Rig

__all__ = ["broker"]  # the fixture
pytestmark = pytest.mark.timeout(120)

# The card of this session as hil/terminal/cards.py has it; published test data, nobody's.
CARD = "girocard"
PAN = "6725904499999999999"
EXPIRY = "3112"  # hil/terminal/results.py
UID = "08ff6914"
TOKEN = "3b77e1904d2f4a4b8c6d5e4f3a2b1c03"
RUN_LENGTH = 11  # more digits of a card number than anybody may see
GENESIS = "0" * 64
FAULTY = 3  # replies of the meter that are late, and as many with a wrong checksum
LATE_MS = 700  # later than the agent waits: such a reply must not be taken for the next one's


@dataclass
class Story:
    """What was said while the session ran, and how it ended."""

    rig: Rig
    session: str
    asked: dict[str, Any] = field(default_factory=dict)
    second: subprocess.CompletedProcess[str] | None = None
    state_when_stopped: dict[str, Any] = field(default_factory=dict)
    exit_status: int = -1
    socket_left: bool = True

    def json(self, *words: str) -> Any:
        return self.rig.voltill_json(*words, "--state", str(self.rig.state))


@pytest.fixture(scope="module")
def story(tmp_path_factory: pytest.TempPathFactory, broker: Broker) -> Iterator[Story]:
    with station(tmp_path_factory.mktemp("evidence"), broker) as rig:
        rig.tell("terminal", "set", full_pan=True)
        told = Story(rig, charge(rig, CARD))
        ask_the_running_service(told)
        start_a_second_one(told)
        rig.tell("charger", "fault", name="late", ms=LATE_MS, count=FAULTY)
        rig.tell("charger", "fault", name="crc", count=FAULTY)
        rig.until(lambda: not rig.tell("charger", "state")["faults"]["meter"], "the faults' end")
        at = mark(rig)
        rig.signal_agent(signal.SIGTERM)
        wait_event(rig, "stopping", since=at)
        told.exit_status = rig.await_agent()
        told.state_when_stopped = rig.tell("charger", "state")
        told.socket_left = told.rig.path("state/control.sock").exists()
        # The settlement's record may be made after the last message: the next start sends it.
        rig.start_agent()
        rig.tell("backend", "wait", station=STATION, seq=2, timeout_s=STEP_S)
        assert rig.stop_agent() == 0
        yield told


def ask_the_running_service(told: Story) -> None:
    for words in (("status",), ("sessions", "list"), ("outbox", "list")):
        told.asked[words[0]] = told.json(*words)
    told.asked["show"] = told.json("sessions", "show", told.session)
    told.asked["meter"] = told.json("meter", "read", "--evse", EVSE)


def start_a_second_one(told: Story) -> None:
    told.second = subprocess.run(
        told.rig.run_command(), capture_output=True, text=True, timeout=STEP_S, check=False
    )


def test_sigterm_ends_the_session_and_the_service(story: Story) -> None:
    assert story.exit_status == 0
    found = story.json("sessions", "show", story.session)
    assert (found["state"], found["payment"]) == ("closed", "captured")
    assert found["stop_reason"] == "station shuts down"
    assert [row["amount_minor"] for row in movements(story.rig, "capture")] == [found["cost_minor"]]
    assert not story.state_when_stopped["released"]
    assert story.state_when_stopped["power_w"] == 0
    assert not story.socket_left


def test_four_books_agree_although_the_meter_stammered(story: Story) -> None:
    """The check compares the billed energy with the simulator's truth, within what a register shows."""
    state = story.rig.tell("charger", "state")
    assert state["faults"]["meter"] == [], "every fault was met"
    billed_wh = story.json("sessions", "show", story.session)["energy_wh"]
    assert abs(billed_wh * 1000 - state["energy_truth_mwh"]) < 2_000
    assert four_way(story.rig)["sessions"] == 1


def test_the_command_line_while_the_service_ran(story: Story) -> None:
    asked = story.asked
    assert asked["status"]["running"] is True
    (evse,) = asked["status"]["evses"]
    (bus,) = asked["status"]["buses"]
    devices = {unit["device"] for unit in bus["units"].values()}
    assert devices == {f"{what} of {evse['id']}" for what in ("meter", "controller")}
    assert bus["answered"] > 10
    assert (evse["id"], evse["session"], evse["session_state"]) == (EVSE, story.session, "charging")
    assert asked["sessions"][0]["id"] == story.session
    assert asked["show"]["state"] == "charging"
    assert asked["show"]["events"][0]["name"] == "tapped"
    assert asked["outbox"]["unacked"] == 0
    assert (asked["meter"]["state"], asked["meter"]["serial"]) == ("ok", "12345678")
    assert asked["meter"]["energy_import_wh"] > asked["show"]["begin_wh"]


def test_the_command_line_after_the_stop(story: Story) -> None:
    assert story.json("status")["running"] is False
    assert [s["id"] for s in story.json("sessions", "list")] == [story.session]
    outbox = story.json("outbox", "list")
    assert outbox["acked_through"] + outbox["unacked"] == 2
    verified = story.json("verify", "--trust", str(story.rig.station_key))
    assert (verified["ok"], verified["trust"], verified["records"]) == (True, "anchored", 2)
    assert "TOTAL EUR" in story.rig.receipt(story.session)


def test_a_second_service_is_refused_and_harms_nothing(story: Story) -> None:
    assert story.second is not None
    assert story.second.returncode == 2
    (line,) = story.second.stderr.splitlines()
    assert "LED-" in line
    assert "another" in line, "it says who holds it"
    assert story.json("sessions", "show", story.session)["state"] == "closed"


def test_the_records_verify_with_joserfc(story: Story) -> None:
    """An implementation that is not ours, on the very bytes that the ledger holds and the back end got."""
    key = ECKey.import_key(story.rig.station_key.read_text())
    der = key.public_key.public_bytes(
        serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo
    )
    texts = [row["jws"] for row in story.rig.tell("backend", "records")["records"]]
    ledger = cells(story.rig.state / "ledger.db")
    before = GENESIS
    for seq, text in enumerate(texts, 1):
        found = jws.deserialize_compact(text, key, algorithms=["ES256"])
        header, payload = found.headers(), json.loads(found.payload)
        assert header["kid"] == hashlib.sha256(der).hexdigest()
        assert header["typ"] == "voltill-record+jws"
        assert (payload["seq"], payload["prev"], payload["station"]) == (seq, before, STATION)
        assert payload["session_id"] == story.session
        before = hashlib.sha256(text.encode()).hexdigest()
        assert text.encode() in ledger, "on disk are other bytes"
    assert [json.loads(jws.extract_compact(t.encode()).payload)["type"] for t in texts] == [
        "session",
        "settlement",
    ]


def cells(database: Path) -> list[bytes]:
    """Every value of every table: in the file itself long ones are cut into pages."""
    with closing(sqlite3.connect(f"file:{database}?mode=ro", uri=True)) as db:
        tables = [
            name for (name,) in db.execute("SELECT name FROM sqlite_master WHERE type='table'")
        ]
        rows = [row for table in tables for row in db.execute(f'SELECT * FROM "{table}"')]
    values = [value for row in rows for value in row]
    return [v if isinstance(v, bytes) else str(v).encode() for v in values]


def haystacks(story: Story) -> dict[str, bytes]:
    """Everything that the agent has written or said."""
    rig = story.rig
    found = {str(path): path.read_bytes() for path in rig.state.rglob("*") if path.is_file()}
    in_ledger = cells(rig.state / "ledger.db")
    found["ledger's values"] = b"\n".join(in_ledger)
    found["records' payloads"] = b"\n".join(
        jws.extract_compact(cell).payload for cell in in_ledger if cell.startswith(b"eyJ")
    )
    found["log"] = rig.log.path.read_bytes()
    found["records"] = json.dumps(rig.tell("backend", "records")).encode()
    found["back end's database"] = rig.backend_db.read_bytes()
    found["receipt"] = rig.receipt(story.session).encode()
    found["show"] = json.dumps(story.json("sessions", "show", story.session)).encode()
    found["asked"] = json.dumps(story.asked).encode()
    return found


def needles() -> dict[str, bytes]:
    """Runs of the card number as text and as BCD in both alignments, and the card's tokens."""
    runs = [PAN[i : i + RUN_LENGTH] for i in range(len(PAN) - RUN_LENGTH + 1)]
    made = {f"digits {run}": run.encode() for run in runs}
    for run in runs:
        even = run[: len(run) // 2 * 2]
        made[f"BCD {even}"] = bytes.fromhex(even)
        made[f"BCD {run[1:]}"] = bytes.fromhex(run[1:])
    for name, value in (("uid", UID), ("token", TOKEN)):
        made[name] = bytes.fromhex(value)
        made[f"{name} as text"] = value.encode()
        made[f"{name} as capitals"] = value.upper().encode()
    made["track 2"] = f"{PAN}D{EXPIRY}".encode()
    return made


def test_no_card_data_anywhere(story: Story) -> None:
    places = haystacks(story)
    assert places["records' payloads"].count(story.session.encode()) >= 2
    hits = [
        f"{what} in {where}"
        for where, content in places.items()
        for what, needle in needles().items()
        if needle in content
    ]
    assert hits == []
    assert b"9999" in places["show"], "the last four digits may be seen"


def test_the_search_for_card_data_can_find_some(tmp_path: Path) -> None:
    """The terminal really sent it: what it remembers would be found by the same search."""
    planted = b"\x00" + bytes.fromhex(PAN[1:13]) + b"\x00"
    assert any(needle in planted for needle in needles().values())
    assert any(needle in f"x{PAN}y".encode() for needle in needles().values())
