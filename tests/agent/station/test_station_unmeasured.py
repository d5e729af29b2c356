"""What nobody could read at a session's end is told in signed records: how the stop was proven, when the end
reading was taken, and how much the register had gone on when it was read next."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from support.station_world import UTC_MS, World, charge

from agent.session import S

Make = Callable[..., World]


def blind(w: World, for_s: float = 3 * 3600) -> None:
    """Neither controller nor meter answers any more; energy flows on."""
    w.plant.meter_answers = w.plant.answers = False
    w.run(for_s)


def record(w: World, kind: str) -> dict[str, Any]:
    found = [body for body in w.payloads() if body["type"] == kind]
    assert len(found) == 1, [body["type"] for body in w.payloads()]
    return found[0]


def test_the_record_says_when_the_end_reading_was_taken_and_what_proved_the_stop(
    make: Make,
) -> None:
    w = make()
    charge(w, seconds=90)
    fell_silent_ms = UTC_MS + w.now_ms
    blind(w)
    assert w.session().state is S.CLOSED
    body = record(w, "session")
    assert body["stop_proof"] == "none; controller and meter lost"
    assert body["meter"]["end_quality"] == "last_durable"
    assert abs(body["meter"]["end"]["utc_ms"] - fell_silent_ms) < 10_000
    assert body["meter"]["end_wh"] == w.session().last_wh


def test_a_confirmed_end_was_read_when_the_session_ended(make: Make) -> None:
    w = make()
    charge(w)
    w.plant.unplug()
    done = w.until_state(S.CLOSED)
    body = record(w, "session")
    assert done.ended_at is not None
    assert body["meter"]["end"] == done.ended_at.to_json()
    assert body["stop_proof"] == "controller and meter"
