"""The small parts of the station one by one: stop proof, health, logs, notification, clock, keys."""

from __future__ import annotations

import json
import socket
import stat
from dataclasses import replace
from pathlib import Path

import pytest
from support.session_events import reach

from agent.ports import DeviceUnavailable, EvseSnapshot, EvseState
from agent.session import S
from agent.station import drivers
from agent.station.build import station_card_key
from agent.station.clock import BUILD_FLOOR_UTC_MS, SystemClock
from agent.station.logs import make_log
from agent.station.notify import Progress, notify, watchdog_interval_ms
from agent.station.stop_proof import OFF_ALONE_MS, STOP_ALARM_MS, StopProof
from agent.station.taps import holds_open
from agent.values import Quality, Reading, ReadingState

# --- stop proof -----------------------------------------------------------------------------------


class Stopping:
    """A stop decided at 0, withdrawn at 100 ms; one look a second."""

    def __init__(self) -> None:
        self.proof = StopProof(0)
        self.now = 0
        self.off_since_ms: int | None = 100

    def look(
        self,
        state: EvseState,
        power_w: int | None,
        *,
        evse_silent_ms: int = 0,
        meter_lost: bool = False,
        bound_ms: int = 60_000,
    ) -> str:
        self.now += 1000
        ok = ReadingState.OK if power_w is not None else ReadingState.NO_ANSWER
        return self.proof.see(
            self.now,
            EvseSnapshot(state, self.now),
            Reading(ok, self.now, None if power_w is None else 5, power_w),
            off_since_ms=self.off_since_ms,
            evse_silent_ms=evse_silent_ms,
            silent_bound_ms=bound_ms,
            meter_lost=meter_lost,
        )


def test_controller_and_meter_together_prove_a_stop() -> None:
    s = Stopping()
    assert s.look(EvseState.FINISHED, 11_000) == "", "power still flows"
    assert s.look(EvseState.FINISHED, 0) == "", "one zero may be a torn moment"
    assert s.look(EvseState.FINISHED, 90) == "controller and meter"


@pytest.mark.parametrize("state", [EvseState.CHARGING, EvseState.READY, EvseState.UNKNOWN])
def test_no_state_that_may_deliver_is_a_proof(state: EvseState) -> None:
    s = Stopping()
    assert [s.look(state, 0) for _ in range(120)] == [""] * 120


@pytest.mark.parametrize(
    "state", [EvseState.UNPLUGGED, EvseState.PLUGGED, EvseState.SUSPENDED, EvseState.FAULT]
)
def test_a_standing_controller_and_a_quiet_meter(state: EvseState) -> None:
    s = Stopping()
    s.look(state, 0)
    assert s.look(state, 0) == "controller and meter"


def test_without_a_withdrawal_nothing_is_proven() -> None:
    s = Stopping()
    s.off_since_ms = None
    assert [s.look(EvseState.SUSPENDED, 0, meter_lost=True) for _ in range(100)] == [""] * 100


def test_what_was_seen_before_the_withdrawal_proves_nothing() -> None:
    s = Stopping()
    s.off_since_ms = 2_500
    assert s.look(EvseState.SUSPENDED, 0) == ""
    assert s.look(EvseState.SUSPENDED, 0) == ""
    assert s.look(EvseState.SUSPENDED, 0) == "", "the first look after it"
    assert s.look(EvseState.SUSPENDED, 0) == "controller and meter"


def test_without_a_meter_the_controller_must_stand_for_a_while() -> None:
    s = Stopping()
    proofs = [s.look(EvseState.FINISHED, None, meter_lost=True) for _ in range(12)]
    first = next(i for i, p in enumerate(proofs) if p)
    assert proofs[first] == "controller; meter lost"
    assert (first + 1) * 1000 - 100 >= OFF_ALONE_MS


def test_a_silent_controller_is_proven_by_a_long_silence_of_the_power() -> None:
    s = Stopping()
    s.off_since_ms = None
    for second in range(1, 61):
        assert s.look(EvseState.UNKNOWN, 0, evse_silent_ms=second * 1000) == ""
    assert s.look(EvseState.UNKNOWN, 0, evse_silent_ms=61_000) == "meter; controller lost"


def test_a_car_that_pauses_begins_the_silence_anew() -> None:
    s = Stopping()
    s.off_since_ms = None
    for second in range(1, 200):
        power_w = 5_000 if second % 50 == 0 else 0
        assert s.look(EvseState.UNKNOWN, power_w, evse_silent_ms=second * 1000) == ""


def test_a_stop_that_does_not_work_is_told_once() -> None:
    proof = StopProof(1_000)
    assert not proof.overdue(1_000 + STOP_ALARM_MS - 1)
    assert proof.overdue(1_000 + STOP_ALARM_MS)
    assert not proof.overdue(1_000 + STOP_ALARM_MS + 1)


# --- logs -----------------------------------------------------------------------------------------


def test_a_log_line_is_json_without_bytes_or_cards(capsys: pytest.CaptureFixture[str]) -> None:
    log = make_log("info")
    log("quiet", level="debug", session="S1")
    log(
        "said",
        level="error",
        id="STA-001",
        frame=b"\x10\x02",
        parts=[b"abc"],
        text="card 4111111111111111 blocked",
        where=Path("/x"),
        wh=104_211,
    )
    out, err = capsys.readouterr()
    assert out == ""
    [line] = err.splitlines()
    found = json.loads(line)
    assert found.pop("time").endswith("Z")
    assert found == {
        "event": "said",
        "level": "error",
        "id": "STA-001",
        "frame": "<2 bytes>",
        "parts": ["<3 bytes>"],
        "text": "<looks like a card number>",
        "where": "/x",
        "wh": 104_211,
    }


# --- notification and progress --------------------------------------------------------------------


@pytest.mark.parametrize("abstract", [False, True])
def test_systemd_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, abstract: bool) -> None:
    name = f"@voltill-test-{tmp_path.name}" if abstract else str(tmp_path / "notify")
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as s:
        s.bind("\0" + name[1:] if abstract else name)
        s.settimeout(5)
        monkeypatch.setenv("NOTIFY_SOCKET", name)
        notify("READY=1")
        assert s.recv(100) == b"READY=1"


def test_without_systemd_nothing_happens(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("NOTIFY_SOCKET", raising=False)
    notify("READY=1")
    monkeypatch.setenv("NOTIFY_SOCKET", str(tmp_path / "gone"))
    notify("READY=1")


def test_a_service_manager_that_does_not_listen_holds_nothing_up(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as s:
        s.bind(str(tmp_path / "notify"))
        monkeypatch.setenv("NOTIFY_SOCKET", str(tmp_path / "notify"))
        for _ in range(1000):
            notify("WATCHDOG=1")


@pytest.mark.parametrize(
    ("usec", "ms"), [("30000000", 15_000), ("", None), ("0", None), ("soon", None)]
)
def test_half_of_the_watchdogs_time(
    monkeypatch: pytest.MonkeyPatch, usec: str, ms: int | None
) -> None:
    monkeypatch.setenv("WATCHDOG_USEC", usec)
    assert watchdog_interval_ms() == ms


def test_progress_names_who_is_stuck() -> None:
    now = [0]
    progress = Progress(lambda: now[0])
    progress.beat("a", 100)
    progress.beat("b", 1000)
    now[0] = 100
    assert progress.stuck() == []
    now[0] = 101
    assert progress.stuck() == ["a"]
    progress.leave("a")
    assert progress.stuck() == []


# --- clock, drivers, keys -------------------------------------------------------------------------


def test_the_board_s_clocks() -> None:
    clock = SystemClock()
    first, second = clock.stamp(), clock.stamp()
    assert second.since_ms(first) in range(1000)
    assert clock.quality(BUILD_FLOOR_UTC_MS - 1) is Quality.UNKNOWN
    assert clock.quality(BUILD_FLOOR_UTC_MS) in (Quality.TRUSTED, Quality.RESTORED)


def test_a_clock_that_was_synchronised(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    mark = tmp_path / "synchronized"
    monkeypatch.setattr("agent.station.clock.SYNCHRONISED_MARK", mark)
    clock = SystemClock()
    assert clock.quality(BUILD_FLOOR_UTC_MS) is Quality.RESTORED
    mark.touch()
    assert clock.quality(BUILD_FLOOR_UTC_MS) is Quality.TRUSTED


def test_what_is_installed_is_looked_up_once() -> None:
    assert drivers.installed() is drivers.installed()


def test_drivers_are_found_by_name() -> None:
    assert {"zvt"} <= set(drivers.names("terminal"))
    assert callable(drivers.load("bus", "rtu"))
    with pytest.raises(
        DeviceUnavailable, match=r"STA-001: no driver terminal\.opi.*expected one of"
    ) as e:
        drivers.load("terminal", "opi")
    assert e.value.code == "STA-001"
    assert "eastron_sdm630" in drivers.known().meter_models


def test_the_card_key_is_made_once_and_for_this_user_alone(tmp_path: Path) -> None:
    path = tmp_path / "card.key"
    key = station_card_key(path)
    assert len(key) == 32 and station_card_key(path) == key
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


# --- how many holds a terminal keeps ------------------------------------------------------------------

OURS = "52523535"


@pytest.mark.parametrize("state", S)
def test_every_session_that_may_hold_something_counts(state: S) -> None:
    session = reach(state).session
    ended = state in (S.NEW, S.SETTLED, S.CLOSED)
    assert holds_open([session], (), OURS) == (0 if ended else 1)


@pytest.mark.parametrize(
    ("outcome", "freed", "count"),
    [
        ("unknown", False, 1),
        ("refused", False, 1),
        ("failed", False, 1),
        ("foreign", False, 1),
        ("refused", True, 0),
        ("captured", False, 0),
        ("away", False, 0),
    ],
)
def test_a_listed_session_counts_while_its_hold_may_be_open(
    outcome: str, freed: bool, count: int
) -> None:
    listed = replace(reach(S.UNRESOLVED).session, outcome=outcome, freed=freed)
    assert holds_open([listed], (), OURS) == count


def test_a_hold_counts_once_and_only_where_it_is() -> None:
    session = reach(S.CHARGING).session
    receipt = session.hold["receipt"]
    assert holds_open([session], (receipt,), OURS) == 1
    assert holds_open([session], (receipt, 17), OURS) == 2
    assert holds_open([session], (), "99999999") == 0, "it was made at another terminal"
    assert holds_open([], (17, 17), OURS) == 1
