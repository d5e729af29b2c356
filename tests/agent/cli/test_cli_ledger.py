"""Commands that read the ledger: stopped and through the running service they say the same."""

from __future__ import annotations

import re
from collections.abc import Callable

import pytest
from support.past_station import Answer, Past, running

from agent.station.control import control_path

Voltill = Callable[..., Answer]

# design §3: what scripts rely on
LISTED = {
    "id",
    "evse",
    "state",
    "started",
    "ended",
    "energy_wh",
    "currency",
    "held_minor",
    "captured_minor",
    "released_minor",
    "shortfall_minor",
    "owed_minor",
    "payment",
}


@pytest.fixture(params=["stopped", "running"])
def way(request: pytest.FixtureRequest, past: Past, monkeypatch: pytest.MonkeyPatch) -> object:
    """Both ways to the ledger."""
    if request.param == "stopped":
        yield "stopped"
        return
    with running(past, monkeypatch):
        yield "running"


# --- sessions -------------------------------------------------------------------------------------


def test_sessions_list(voltill: Voltill, past: Past, way: str) -> None:
    answer = voltill("sessions", "list", "--state", past.state, "--json")
    assert answer.code == 0 and answer.err == ""
    rows = answer.json
    assert [row["id"] for row in rows] == [past.open, past.declined, past.paid], "newest first"
    assert all(set(row) >= LISTED for row in rows)
    paid, declined, left = rows[2], rows[1], rows[0]
    assert (paid["state"], paid["payment"]) == ("closed", "captured")
    assert paid["captured_minor"] + paid["released_minor"] == paid["held_minor"] == 5000
    assert (declined["payment"], declined["held_minor"], declined["ended"]) == ("refused", 0, None)
    assert (left["state"], left["payment"]) == ("unresolved", "refused")
    assert left["owed_minor"] > 0 and left["captured_minor"] == 0
    assert all(isinstance(row.pop("limits"), dict) for row in rows)
    assert all(isinstance(v, int | str | None) for row in rows for v in row.values())
    short = voltill("sessions", "list", "--state", past.state, "--json", "--limit", 1)
    assert [row["id"] for row in short.json] == [past.open]


def test_sessions_list_for_people(voltill: Voltill, past: Past) -> None:
    lines = voltill("sessions", "list", "--state", past.state).out.splitlines()
    assert lines[0].split() == [
        "SESSION",
        "EVSE",
        "STARTED",
        "UTC",
        "kWh",
        "CHARGED",
        "OWED",
        "SHORT",
        "STATE",
    ]
    assert lines[3].split()[:2] == [past.paid, "DE*ABC*E1"]
    assert lines[3].endswith(" captured") and lines[2].endswith(" declined")
    assert lines[1].endswith(" charge refused")
    assert lines[4].startswith("Amounts in EUR.")


def test_sessions_show(voltill: Voltill, past: Past, way: str) -> None:
    answer = voltill("sessions", "show", past.paid, "--state", past.state, "--json")
    found = answer.json
    assert answer.code == 0 and set(found) >= LISTED | {"events"}
    events = found["events"]
    assert [e["n"] for e in events] == list(range(1, len(events) + 1))
    assert [events[0]["name"], events[-1]["name"]] == ["tapped", "recorded"]
    assert events[0]["data"]["amount_minor"] == 5000
    assert [r["type"] for r in found["records"]] == ["session", "settlement"]
    assert found["end_quality"] == "confirmed"
    text = voltill("sessions", "show", past.paid, "--state", past.state).out
    assert text.startswith(f"Session {past.paid} on DE*ABC*E1: closed\n")
    assert "payment   captured" in text and "record 1 (session)" in text


def test_a_session_that_is_not_there(voltill: Voltill, past: Past, way: str) -> None:
    for command in ("show", "receipt"):
        answer = voltill(
            *("sessions", command, "NOBODY", "--state", past.state),
            *(("--config", past.config) if command == "receipt" else ()),
        )
        assert answer.code == 2 and answer.out == ""
        assert answer.err.startswith("STA-012: no session NOBODY")


def test_the_receipt(voltill: Voltill, past: Past, way: str) -> None:
    where = ("--state", past.state, "--config", past.config)
    answer = voltill("sessions", "receipt", past.paid, *where)
    assert answer.code == 0
    assert all(len(line) <= 40 for line in answer.out.splitlines())
    assert past.paid in answer.out and "TOTAL" in answer.out and "Visa" not in answer.out
    narrow = voltill("sessions", "receipt", past.paid, *where, "--width", 24, "--json").json
    assert (narrow["session"], narrow["width"]) == (past.paid, 24)
    assert all(len(line) <= 24 for line in narrow["lines"])
    german = voltill("sessions", "receipt", past.paid, *where, "--language", "de").out
    assert "Gehalten" in german or "Beleg" in german
    assert re.search(r"^Approval +000231$", answer.out, re.MULTILINE)
    assert re.search(r"^Genehmigung +000231$", german, re.MULTILINE)
    free = voltill("sessions", "receipt", past.declined, *where).out
    assert "NO CHARGE" in free
    assert voltill("sessions", "receipt", past.paid, *where, "--width", 23).code == 64


# --- records --------------------------------------------------------------------------------------


def test_the_outbox(voltill: Voltill, past: Past, way: str) -> None:
    found = voltill("outbox", "list", "--state", past.state, "--json").json
    assert (found["unacked"], found["acked_through"], found["parked"]) == (5, 0, 0)
    assert [r["seq"] for r in found["records"]] == [1, 2, 3, 4, 5]
    assert [r["type"] for r in found["records"]] == (
        ["session", "settlement", "settlement", "session", "settlement"]
    )
    text = voltill("outbox", "list", "--state", past.state).out
    assert "5 waiting, the oldest since 2026-" in text


def test_verify_the_own_ledger(voltill: Voltill, past: Past, way: str) -> None:
    where = ("--state", past.state, "--config", past.config)
    own = voltill("verify", *where, "--json")
    assert own.code == 1, "nobody else vouches for the key"
    assert (own.json["ok"], own.json["trust"], own.json["records"]) == (True, "self_asserted", 5)
    public = past.world.folder / "public.pem"
    public.write_text(
        voltill("keys", "show", past.world.folder / "record-key.pem", "--json").json["public_key"]
    )
    anchored = voltill("verify", *where, "--trust", public, "--json")
    assert anchored.code == 0 and anchored.json["trust"] == "anchored"
    text = voltill("verify", *where, "--trust", public).out
    assert text.splitlines()[-1] == "5 records, all good, keys anchored"


# --- status ---------------------------------------------------------------------------------------


def test_status(voltill: Voltill, past: Past, way: str) -> None:
    answer = voltill("status", "--state", past.state, "--json")
    found = answer.json
    assert answer.code == 1, "a refused capture needs a person"
    assert found["station"] == "DE*ABC*S1" and found["running"] is (way == "running")
    assert [s["id"] for s in found["open"]] == [past.open]
    text = voltill("status", "--state", past.state).out
    assert text.startswith(
        "Station DE*ABC*S1: "
        + ("running" if way == "running" else "stopped (read from the ledger)")
    )
    assert f"session {past.open} " in text and "unresolved (charge refused)\n" in text


def test_status_of_a_running_station(
    voltill: Voltill, past: Past, monkeypatch: pytest.MonkeyPatch
) -> None:
    with running(past, monkeypatch) as station:
        station.parts.desks["t1"].trouble = "TRM-006: no terminal answers"
        text = voltill("status", "--state", past.state).out
    assert "  terminal t1: TRM-006: no terminal answers (TID " in text
    assert "  connector DE*ABC*E1: " in text


def test_status_prints_every_digit_without_fractions(
    voltill: Voltill, past: Past, monkeypatch: pytest.MonkeyPatch
) -> None:
    from agent.cli import status

    found = {
        "running": True,
        "station": "S",
        "terminals": [
            {"id": "t1", "tid": None, "trouble": "", "closing": "it is time", "strange_holds": [7]}
        ],
        "evses": [
            {
                "id": "E1",
                "state": "fault",
                "estop": True,
                "faults": ["E"],
                "meter": "ok",
                "register_wh": 9_007_199_254_740_993,
                "power_w": 11_000,
            }
        ],
        "uplink": {
            "url": "mqtts://b",
            "connected": False,
            "since_ms": 61_000,
            "backend": "unknown",
            "unacked": 3,
            "acked_through": 4,
            "parked": 1,
            "trouble": {"id": "UPL-001", "text": "no address"},
            "alarms": {"UPL-012": "refused"},
        },
        "open": [],
        "totals": [],
        "ends_of_day": [
            {
                "terminal": "t1",
                "outcome": "done",
                "ordered": "2026-11-21T02:00:00.000Z",
                "ended": "2026-11-21T02:00:09.000Z",
                "why": "completed by the terminal",
                "totals": {
                    "total_minor": 12345,
                    "currency": "EUR",
                    "brands": [{"brand": "visa", "count": 7, "amount_minor": 12345}],
                },
            },
            {
                "terminal": "t2",
                "outcome": "ordered",
                "ordered": "2026-11-21T02:00:00.000Z",
                "ended": None,
                "why": "",
                "totals": None,
            },
        ],
        "set_aside": {"S9": "held"},
        "stuck": ["evse E1"],
    }
    monkeypatch.setattr(status, "from_ledger", lambda *_: found)
    answer = voltill("status", "--state", past.state)
    assert answer.code == 1
    assert answer.out == (
        "Station S: running\n"
        "  terminal t1: ready (TID unknown)\n"
        "    its day is being ended (it is time): no new sessions\n"
        "    holds nobody here made: receipts [7]\n"
        "  connector E1: fault, meter ok 9007199254740.993 kWh, 11000 W\n"
        "    emergency stop, E\n"
        "  uplink mqtts://b: not connected for 61 s, back end unknown\n"
        "    3 records wait, acknowledged through 4, 1 refused and parked\n"
        "    UPL-001: no address\n"
        "    UPL-012: refused\n"
        "  stuck: evse E1\n"
        "No open sessions.\n"
        "  end of day of t1 on 2026-11-21 02:00:09 UTC: done, 7 bookings, 123.45 EUR\n"
        "  end of day of t2 on 2026-11-21 02:00:00 UTC: not known how it ended\n"
        "  session S9 set aside: stored state held not reproduced\n"
    )


# --- no ledger, no right, no service --------------------------------------------------------------


@pytest.mark.parametrize("command", [("sessions", "list"), ("outbox", "list"), ("status",)])
def test_without_a_ledger(voltill: Voltill, tmp_path: object, command: tuple[str, ...]) -> None:
    answer = voltill(*command, "--state", f"{tmp_path}/nowhere")
    assert answer.code == 2 and answer.out == ""
    assert answer.err.startswith("LED-002:") and "check --state" in answer.err


def test_a_service_of_another_user(
    voltill: Voltill, past: Past, monkeypatch: pytest.MonkeyPatch
) -> None:
    import socket

    def refuse(*_: object) -> None:
        raise PermissionError

    monkeypatch.setattr(socket.socket, "connect", refuse)
    for command in (("status",), ("meter", "read", "--evse", "DE*ABC*E1")):
        answer = voltill(*command, "--state", past.state)
        assert answer.code == 2 and answer.err.startswith("STA-011:")


def test_the_socket_of_a_killed_service_is_no_service(voltill: Voltill, past: Past) -> None:
    import socket

    left = socket.socket(socket.AF_UNIX)
    left.bind(str(control_path(past.state)))
    left.close()
    assert voltill("sessions", "list", "--state", past.state, "--json").code == 0


def test_a_second_service_is_refused_and_harms_nothing(
    voltill: Voltill, past: Past, monkeypatch: pytest.MonkeyPatch
) -> None:
    with running(past, monkeypatch):
        answer = voltill("run", "--config", past.config, "--state", past.state)
        assert answer.code == 2
        assert '"id": "LED-001"' in answer.err and "in use by another process" in answer.err
        assert control_path(past.state).exists(), "the first one's"
        assert voltill("status", "--state", past.state, "--json").json["running"] is True


def test_the_meter_through_the_service(
    voltill: Voltill, past: Past, monkeypatch: pytest.MonkeyPatch
) -> None:
    with running(past, monkeypatch):
        answer = voltill("meter", "read", "--evse", "DE*ABC*E1", "--state", past.state, "--json")
        assert answer.code == 0
        assert answer.json["state"] == "ok" and answer.json["serial"] == "SDM-1"
        assert isinstance(answer.json["energy_import_wh"], int)
        text = voltill("meter", "read", "--evse", "DE*ABC*E1", "--state", past.state).out
        assert text.splitlines()[0] == "fake, serial SDM-1"
        wrong = voltill("meter", "read", "--evse", "nobody", "--state", past.state)
        assert wrong.code == 2 and wrong.err.startswith("STA-013: no EVSE 'nobody'")
    stopped = voltill("meter", "read", "--evse", "DE*ABC*E1", "--state", past.state)
    assert stopped.code == 2 and "STA-013: the service is not running" in stopped.err
