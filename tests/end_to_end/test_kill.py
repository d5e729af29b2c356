"""SIGKILL of the real agent at five points of a session. The simulators hold the dialogue at the point,
so nothing depends on timing; afterwards every hold has ended once and all four books agree."""

from __future__ import annotations

import itertools
import os
import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from support.station_rig import broker, four_way, movements, station, wait_state

from hil.broker import Broker
from hil.rig import Rig

__all__ = ["broker"]  # the fixture
pytestmark = pytest.mark.timeout(180)

STATION = "DE*ABC*S1"


def kill(rig: Rig) -> None:
    """The agent dies of SIGKILL and of nothing else."""
    assert rig.agent is not None
    assert rig.agent.running(), "the agent died before it was killed"
    assert rig.kill_agent() == -signal.SIGKILL


def last_event(rig: Rig, session: str) -> tuple[str, str]:
    """(name, state) of the last durable event, read from the ledger of the dead agent."""
    event = rig.session(session)["events"][-1]
    return event["name"], event["state"]


def only_session(rig: Rig) -> dict[str, Any]:
    sessions = rig.sessions()
    assert len(sessions) == 1, sessions
    return rig.session(sessions[0]["id"])


def charge_and_stop(rig: Rig, session: str) -> None:
    """From a charging session to its end."""
    rig.tell("charger", "unplug")
    rig.log.wait(
        lambda e: (
            e.get("event") == "session" and e["session"] == session and e["state"] == "closed"
        ),
        60,
    )


def check_ended_once(rig: Rig, session: str, *, captured: bool, session_records: int) -> None:
    """Exactly one capture or release at the acquirer, one story in the records, four books agree."""
    found = rig.session(session)
    assert found["state"] == "closed"
    holds = movements(rig, "hold")
    ends = [m for kind in ("capture", "release", "auto_reversal") for m in movements(rig, kind)]
    assert len(ends) == len(holds) <= 1, (holds, ends)
    assert bool(movements(rig, "capture")) == captured
    kinds = [r["type"] for r in found["records"]]
    assert kinds.count("session") == session_records
    assert kinds.count("settlement") == 1
    rig.tell("backend", "wait", station=STATION, seq=len(kinds), timeout_s=30)
    four_way(rig)


def begin(rig: Rig) -> None:
    rig.tell("charger", "plug")
    rig.tap("visa")


def test_killed_after_the_tap(tmp_path: Path, broker: Broker) -> None:
    with station(tmp_path / "rig", broker) as rig:
        rig.tell("terminal", "hold", at="reserve:received")
        begin(rig)
        rig.tell("terminal", "wait", at="reserve:received", timeout_s=30)
        kill(rig)
        session = rig.sessions()[0]["id"]
        assert last_event(rig, session) == ("tapped", "authorizing")
        rig.tell("terminal", "resume", break_link=True)
        rig.start_agent()
        wait_closed(rig, session)
        check_ended_once(rig, session, captured=False, session_records=0)


def test_killed_with_the_approval_unanswered(tmp_path: Path, broker: Broker) -> None:
    """The agent is stopped before the approval's bytes are written and killed after: they have
    arrived, it never answered, and the terminal takes the hold back by itself."""
    with station(tmp_path / "rig", broker) as rig:
        rig.tell("terminal", "hold", at="reserve:result_due")
        begin(rig)
        rig.tell("terminal", "wait", at="reserve:result_due", timeout_s=30)
        assert rig.agent is not None
        os.kill(rig.agent.pid, signal.SIGSTOP)
        rig.tell("terminal", "hold", at="reserve:result_sent")
        rig.tell("terminal", "resume")
        rig.tell("terminal", "wait", at="reserve:result_sent", timeout_s=30)
        kill(rig)
        session = rig.sessions()[0]["id"]
        assert last_event(rig, session) == ("tapped", "authorizing")
        rig.tell("terminal", "resume", break_link=True)
        rig.start_agent()
        wait_closed(rig, session)
        check_ended_once(rig, session, captured=False, session_records=0)
        assert len(movements(rig, "auto_reversal")) == 1


def test_killed_while_charging(tmp_path: Path, broker: Broker) -> None:
    with station(tmp_path / "rig", broker) as rig:
        begin(rig)
        session = wait_state(rig, "charging")
        rig.tell("charger", "wait", drawn_mwh=100_000, timeout_s=30)
        kill(rig)
        assert last_event(rig, session)[1] == "charging"
        rig.start_agent()
        rig.log.wait(lambda e: e.get("event") == "session_resumed" and e["session"] == session)
        rig.tell("charger", "wait", released=True, timeout_s=30)
        charge_and_stop(rig, session)
        check_ended_once(rig, session, captured=True, session_records=1)


def test_killed_after_the_capture_left(tmp_path: Path, broker: Broker) -> None:
    with station(tmp_path / "rig", broker) as rig:
        begin(rig)
        session = wait_state(rig, "charging")
        rig.tell("charger", "wait", drawn_mwh=100_000, timeout_s=30)
        rig.tell("terminal", "hold", at="capture:received")
        rig.tell("charger", "unplug")
        rig.tell("terminal", "wait", at="capture:received", timeout_s=60)
        kill(rig)
        assert last_event(rig, session) == ("recorded", "capturing")
        rig.tell("terminal", "resume")
        rig.start_agent()
        wait_closed(rig, session)
        check_ended_once(rig, session, captured=True, session_records=1)
        trace = rig.tell("terminal", "state")["trace"]
        sent = [i for i, step in enumerate(trace) if step == "capture:received"]
        for before, again in itertools.pairwise(sent):
            assert "ecr 0620" in trace[before:again], "sent again without asking"


def test_killed_before_the_ack(tmp_path: Path, broker: Broker) -> None:
    with station(tmp_path / "rig", broker) as rig:
        rig.tell("backend", "hold_acks")
        begin(rig)
        session = wait_state(rig, "charging")
        rig.tell("charger", "wait", drawn_mwh=100_000, timeout_s=30)
        charge_and_stop(rig, session)
        rig.tell("backend", "wait", station=STATION, seq=2, timeout_s=30)
        kill(rig)
        assert last_event(rig, session) == ("recorded", "closed")
        assert rig.voltill_json("outbox", "list", "--state", str(rig.state))["unacked"] == 2
        rig.tell("backend", "resume_acks")
        rig.start_agent()
        until(lambda: rig.voltill_json("outbox", "list", "--state", str(rig.state))["unacked"] == 0)
        check_ended_once(rig, session, captured=True, session_records=1)


def wait_closed(rig: Rig, session: str) -> None:
    until(lambda: rig.session(session)["state"] == "closed")


def until(holds: Callable[[], bool]) -> None:
    """Ask again until it holds. Bounded by the test's own timeout."""
    while not holds():
        time.sleep(0.1)
