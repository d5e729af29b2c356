"""What a terminal asks for beside payments, and refusals after which none can succeed."""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise
from zoneinfo import ZoneInfo

import pytest
from support.fake_terminal import Hold
from support.station_world import CARD, E1, E2, OTHER_CARD, UTC_MS, World, charge

from agent.ports import HoldRef, Upkeep
from agent.session import S
from agent.station import daily
from agent.station.needs import TASK
from agent.values import Quality

Make = Callable[..., World]
TASKS = (Upkeep.DIAGNOSIS, Upkeep.SET_CLOCK, Upkeep.INITIALISATION)
MINUTE_S = 60.0


def told(w: World) -> list[Upkeep]:
    return [task for task, _ in w.terminal.tasks]


@pytest.mark.parametrize(
    ("need", "task"),
    [
        ("diagnosis", Upkeep.DIAGNOSIS),
        ("clock", Upkeep.SET_CLOCK),
        ("initialisation", Upkeep.INITIALISATION),
    ],
)
def test_what_an_idle_terminal_asks_for_is_done_and_it_is_open_again(
    make: Make, need: str, task: Upkeep
) -> None:
    w = make()
    w.terminal.maintains = TASKS
    w.terminal.wants = [need]
    w.until(lambda: told(w) == [task], within_s=2 * MINUTE_S)
    w.run(5)
    assert told(w) == [task], "once"
    charge(w)


@pytest.mark.parametrize("need", ["activation", "maintenance", "operator"])
def test_what_is_not_the_stations_is_left_to_people(make: Make, need: str) -> None:
    w = make()
    w.terminal.maintains = TASKS
    w.terminal.wants = [need]
    w.run(5 * MINUTE_S)
    assert told(w) == [] and "Out of order" in w.terminal.screen


def test_the_clock_is_set_to_the_time_of_the_place_and_only_by_one_that_knows(make: Make) -> None:
    w = make()
    w.terminal.maintains = TASKS
    w.quality = Quality.UNKNOWN
    w.terminal.wants = ["clock"]
    w.run(3 * MINUTE_S)
    assert told(w) == []
    w.quality = Quality.RESTORED
    w.until(lambda: told(w) == [Upkeep.SET_CLOCK])
    value = str(w.terminal.tasks[0][1]["local_time"])
    assert value.startswith("2026-11-20T19:59:"), "Berlin is an hour ahead of UTC"


def test_an_initialisation_waits_until_no_money_is_held(make: Make) -> None:
    w = make(evses=(E1, E2))
    w.terminal.maintains = TASKS
    charge(w)
    w.terminal.wants = ["initialisation"]
    w.run(3 * MINUTE_S)
    assert told(w) == [] and w.session().state is S.CHARGING
    w.plant.unplug()
    w.until_state(S.CLOSED)
    w.until(lambda: told(w) == [Upkeep.INITIALISATION])
    rows = w.agent.ledger._ledger.upkeep(TASK)[0].steps
    assert [row.step for row in rows] == ["intent", "over"]


def test_nor_is_it_done_over_a_hold_of_nobody(make: Make) -> None:
    w = make()
    w.terminal.maintains = TASKS
    w.terminal.holds.append(Hold(HoldRef("52523535", 17), 5000))
    w.terminal.wants = ["initialisation"]
    w.run(4 * MINUTE_S)
    assert told(w) == [] and "STA-042" in {e["id"] for e in w.errors()}
    w.terminal.holds.clear()
    w.until(lambda: told(w) == [Upkeep.INITIALISATION], within_s=2 * MINUTE_S)


def test_a_diagnosis_is_made_beside_a_session(make: Make) -> None:
    w = make()
    w.terminal.maintains = TASKS
    charge(w)
    w.terminal.wants = ["diagnosis"]
    w.until(lambda: told(w) == [Upkeep.DIAGNOSIS], within_s=2 * MINUTE_S)
    w.terminal.tap(CARD)
    w.until_state(S.CLOSED)


def test_what_is_refused_is_not_hammered(make: Make) -> None:
    w = make()
    w.terminal.wants = ["diagnosis"]
    w.run(110 * MINUTE_S)
    assert 6 <= len(told(w)) <= 8, "a minute apart, then every hour"


# --- refusals that block ----------------------------------------------------------------------------


@pytest.mark.parametrize("reason", ["blocked", "busy"])
def test_after_a_refusal_that_blocks_it_is_asked_at_once_and_no_hold_is_offered(
    make: Make, reason: str
) -> None:
    w = make(evses=(E1, E2))
    w.plant.plug()
    w.run(3)
    w.terminal.script["authorize"].append(reason)
    w.terminal.tap(CARD)
    w.until(lambda: "authorize" in w.terminal.commands)
    w.terminal.wants = ["operator"]
    w.until_state(S.CLOSED)
    before = w.now_ms
    w.until(lambda: w.agent.parts.desks["t1"].trouble, within_s=5)
    assert w.now_ms - before < 3_000
    w.terminal.tap(OTHER_CARD)
    w.run(60)
    assert w.terminal.commands.count("authorize") == 1 and len(w.sessions()) == 1
    assert "Out of order" in w.terminal.screen
    w.terminal.wants = []
    w.terminal.on_reader.clear()
    w.run(15)
    w.terminal.tap(OTHER_CARD)
    w.until_state(S.CHARGING)


def test_a_refusal_of_one_card_does_not_close_the_terminal(make: Make) -> None:
    w = make()
    w.plant.plug()
    w.run(3)
    w.terminal.script["authorize"].append("declined")
    w.terminal.tap(CARD)
    w.until_state(S.CLOSED)
    w.run(2)
    w.terminal.tap(OTHER_CARD)
    w.until_state(S.CHARGING)


# --- times of day: pure -----------------------------------------------------------------------------

BERLIN = ZoneInfo("Europe/Berlin")
HOUR_MS = 3_600_000


def test_the_last_and_the_coming_moment() -> None:
    assert daily.local_time(BERLIN, UTC_MS) == "2026-11-20T19:40:00"
    assert daily.last("19:40", BERLIN, UTC_MS) == UTC_MS
    assert daily.coming("19:40", BERLIN, UTC_MS) == UTC_MS + 24 * HOUR_MS
    assert daily.last("19:41", BERLIN, UTC_MS) == UTC_MS + 60_000 - 24 * HOUR_MS
    assert daily.coming("00:10", BERLIN, UTC_MS) == UTC_MS + 4 * HOUR_MS + 30 * 60_000


@pytest.mark.parametrize(
    ("utc_ms", "name"),
    [(1_774_742_400_000, "spring"), (1_792_879_200_000, "autumn"), (1_795_200_000_000, "winter")],
)
@pytest.mark.parametrize("at", ["01:59", "02:00", "02:30", "03:00", "23:59", "00:00"])
def test_each_day_has_each_moment_once(utc_ms: int, name: str, at: str) -> None:
    """Also on the days of 23 and 25 hours (29 March and 25 October 2026)."""
    days = {daily.last(at, BERLIN, utc_ms + step * 60_000) for step in range(0, 3 * 24 * 60, 7)}
    moments = sorted(days)
    assert 3 <= len(moments) <= 5
    gaps = {b - a for a, b in pairwise(moments)}
    assert gaps <= {23 * HOUR_MS, 24 * HOUR_MS, 25 * HOUR_MS}
    dates = [daily.local_time(BERLIN, m)[:10] for m in moments]
    assert len(set(dates)) == len(dates), "one a day"
    for moment in moments:
        assert daily.coming(at, BERLIN, moment - 1) == moment
        assert daily.last(at, BERLIN, moment) == moment
