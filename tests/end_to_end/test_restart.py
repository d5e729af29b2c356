"""The agent dies and comes back: killed in states that have no byte on a line to be held at, told to hand
over, told to end. One session stays one session."""

from __future__ import annotations

import signal
import subprocess
from pathlib import Path

import pytest
from support.station_rig import (
    STEP_S,
    booked,
    broker,
    charge,
    check_books,
    check_captured,
    check_no_energy,
    check_released,
    draw,
    mark,
    reach,
    station,
    tap,
    tap_until,
    truth_mwh,
    unplug,
    wait_event,
)

from hil.broker import Broker
from hil.rig import Rig, voltill_command

__all__ = ["broker"]  # the fixture
pytestmark = pytest.mark.timeout(120)

LOAD_W = 360_000


def kill_and_start(rig: Rig) -> int:
    """SIGKILL, and what systemd does then; where the log stood."""
    assert rig.kill_agent() == -signal.SIGKILL
    at = mark(rig)
    rig.start_agent()
    return at


def stored_state(rig: Rig, session: str) -> str:
    """Of the last durable event, from the ledger of a dead agent."""
    return str(rig.session(session)["events"][-1]["state"])


def test_killed_while_held_then_starting_then_stopping(tmp_path: Path, broker: Broker) -> None:
    with station(tmp_path / "rig", broker) as rig:
        session = tap(rig, "visa")
        reach(rig, session, "held")
        kill_and_start(rig)
        assert stored_state(rig, session) == "held"
        check_no_energy(rig, 0)
        rig.tell("charger", "load", w=0)  # the car is not ready yet
        rig.tell("charger", "plug")
        reach(rig, session, "starting")
        at = kill_and_start(rig)
        wait_event(rig, "session_resumed", since=at, session=session)
        rig.tell("charger", "load", w=LOAD_W)
        reach(rig, session, "charging")
        draw(rig, 100)
        rig.tell("charger", "stop_ineffective")  # so that the stop is not proven before the kill
        tap_until(rig, session, "visa", "stopping")
        kill_and_start(rig)
        assert stored_state(rig, session) == "stopping"
        rig.tell("charger", "clear_faults")
        found = check_captured(rig, session)
        assert found["stop_reason"] == "tap"
        assert [row["kind"] for row in booked(rig)] == ["hold", "capture"]
        check_books(rig)


def test_killed_while_the_hold_is_being_released(tmp_path: Path, broker: Broker) -> None:
    with station(tmp_path / "rig", broker) as rig:
        session = tap(rig, "visa")
        reach(rig, session, "held")
        rig.tell("terminal", "hold", at="cancel:received")
        tap_until(rig, session, "visa", "releasing")
        rig.tell("terminal", "wait", at="cancel:received", timeout_s=STEP_S)
        assert rig.kill_agent() == -signal.SIGKILL
        assert stored_state(rig, session) == "releasing"
        rig.tell("terminal", "resume")
        rig.start_agent()
        check_released(rig, session)
        check_no_energy(rig, 0)
        check_books(rig)


def test_handed_over_then_killed_then_withdrawn_by_the_outside_hand(
    tmp_path: Path, broker: Broker
) -> None:
    """Three runs of the agent, one session, one bill. Only a controller that would withdraw by itself is
    left alone at a hand-over."""

    def failsafe(text: str) -> str:
        return text.replace("estop_input: IN", "estop_input: IN, failsafe_s: 60")

    with station(tmp_path / "rig", broker, on_sigterm="hand_over", edit=failsafe) as rig:
        session = charge(rig)
        rig.signal_agent(signal.SIGTERM)
        assert rig.await_agent() == 0
        assert rig.tell("charger", "state")["released"], "the release is left for the next start"
        draw(rig, 50)
        at = mark(rig)
        rig.start_agent()
        wait_event(rig, "session_resumed", since=at, session=session)
        assert rig.kill_agent() == -signal.SIGKILL
        draw(rig, 50)  # a dead agent: energy flows until somebody takes the release back
        withdraw(rig)
        state = rig.tell("charger", "wait", released=False, power_w=0, timeout_s=STEP_S)
        before = state["energy_truth_mwh"]
        assert stored_state(rig, session) == "charging"
        at = mark(rig)
        rig.start_agent()
        wait_event(rig, "session_resumed", since=at, session=session)
        rig.tell("charger", "wait", released=True, timeout_s=STEP_S)
        unplug(rig)
        found = check_captured(rig, session)
        assert found["energy_wh"] >= 200
        assert truth_mwh(rig) >= before
        assert len(booked(rig)) == 2
        check_books(rig)


def withdraw(rig: Rig) -> None:
    """`voltill withdraw`, as systemd's ExecStopPost runs it: without any secret."""
    secrets = [rig.path(name) for name in ("zvt-password", "record-key.pem")]
    hidden = [path.rename(path.with_suffix(".hidden")) for path in secrets]
    try:
        done = subprocess.run(
            [*voltill_command(), "withdraw", "--config", str(rig.config)],
            capture_output=True,
            text=True,
            check=False,
        )
    finally:
        for path, secret in zip(hidden, secrets, strict=True):
            path.rename(secret)
    assert done.returncode == 0, done
