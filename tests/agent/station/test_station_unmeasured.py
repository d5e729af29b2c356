"""What nobody could read at a session's end is told in signed records: how the stop was proven, when the end
reading was taken, and how much the register had gone on when it was read next."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from typing import Any

import pytest
from support.station_world import UTC_MS, World, charge

from agent.ledger import LedgerFull
from agent.session import S
from agent.station import unmeasured

Make = Callable[..., World]


def blind(w: World) -> None:
    """Neither controller nor meter answers until the session is billed all the same; energy flows on."""
    w.plant.meter_answers = w.plant.answers = False
    w.until_state(S.CLOSED, within_s=5_000)


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


def comes_back(w: World) -> None:
    w.plant.meter_answers = w.plant.answers = True
    w.run(60)


def test_unmeasured_energy_is_named(make: Make) -> None:
    w = make()
    charge(w, seconds=90)
    blind(w)
    billed = w.session()
    comes_back(w)
    body = record(w, "unmeasured")
    assert body["session_id"] == billed.id and body["refers_seq"] == billed.record_seq
    assert body["energy_wh"] == w.plant.delivered_wh - billed.energy_wh > 10_000
    assert body["meter"]["begin_wh"] == billed.end_wh
    assert body["meter"]["end_wh"] == w.plant.register_wh
    assert w.session().cost_minor == billed.cost_minor
    assert [line["id"] for line in w.logged("energy_unmeasured")] == ["STA-053"]
    w.kill()
    w.start()
    w.run(60)
    record(w, "unmeasured")  # still the only one


def test_it_is_named_by_the_next_life(make: Make) -> None:
    w = make()
    charge(w, seconds=90)
    blind(w)
    billed = w.session()
    w.kill()
    w.passes(600)
    w.plant.meter_answers = w.plant.answers = True
    w.start()
    w.run(60)
    assert record(w, "unmeasured")["energy_wh"] == w.plant.delivered_wh - billed.energy_wh


def test_the_next_session_is_not_counted(make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    """What it drew is on its own bill; its begin reading is where the unmeasured energy ends."""
    monkeypatch.setattr(unmeasured, "LOOK_S", 300)  # nobody looks before it has begun
    w = make()
    charge(w, seconds=90)
    blind(w)
    billed = w.session()
    w.plant.meter_answers = w.plant.answers = True
    w.until(lambda: not w.plant.released and w.plant.power_w == 0, within_s=10)
    w.kill()
    before_wh = w.plant.register_wh
    w.start()
    w.plant.unplug()
    w.run(2)
    second = charge(w, b"second", seconds=120)
    assert second.id != billed.id
    w.run(300)
    assert w.session().state is S.CHARGING
    assert record(w, "unmeasured")["meter"]["end_wh"] == before_wh == second.begin_wh


def test_a_bill_that_names_everything_has_no_such_record(make: Make) -> None:
    w = make()
    charge(w, seconds=90)
    w.plant.draw(0)
    w.run(90)  # a durable reading a minute
    w.plant.meter_answers = w.plant.answers = False
    w.until_state(S.CLOSED, within_s=5_000)
    assert w.session().end_quality == "last_durable"
    comes_back(w)
    assert "unmeasured" not in [body["type"] for body in w.payloads()]


def test_another_meter_says_nothing_about_it(make: Make) -> None:
    w = make()
    charge(w, seconds=90)
    blind(w)
    w.plant.serial, w.plant.begin_wh = "SDM-2", 900_000
    comes_back(w)
    assert "unmeasured" not in [body["type"] for body in w.payloads()]


def test_whoever_sends_records_is_told_of_it(make: Make) -> None:
    """No event of an open session says so. Found by the simulator: seed 4897."""
    w = make()
    charge(w, seconds=90)
    blind(w)
    told: list[int] = []
    w.agent.recorder.stored = lambda: told.append(len(w.records()))
    comes_back(w)
    assert told == [len(w.records())]
    assert w.records()[-1][0] == "unmeasured"


def test_a_disk_that_is_full_for_long_is_told_once_and_not_hammered(
    make: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    w = make()
    charge(w, seconds=90)
    blind(w)
    billed = w.session()
    tries: list[int] = []
    use = w.agent.ledger.use

    async def full(_: object) -> None:
        tries.append(w.now_ms)
        raise LedgerFull("LED-008", "the disk is full")

    monkeypatch.setattr(w.agent.ledger, "use", full)
    w.plant.meter_answers = w.plant.answers = True
    w.run(3 * 3600)
    (told,) = w.logged("unmeasured_kept")
    assert (told["id"], told["session"]) == ("LED-008", billed.id)
    pauses = [b - a for a, b in itertools.pairwise(tries)]
    assert pauses == sorted(pauses) and max(pauses) <= unmeasured.PAUSE_MOST_MS + 5_000
    assert 15 < len(tries) < 30
    monkeypatch.setattr(w.agent.ledger, "use", use)
    w.run(unmeasured.PAUSE_MOST_MS / 1000 + 10)
    assert record(w, "unmeasured")["energy_wh"] == w.plant.delivered_wh - billed.energy_wh
