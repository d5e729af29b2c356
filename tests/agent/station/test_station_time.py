"""Time by design §2 rule 11: durations on the clock that never jumps, time of day as an anchor plus what has
elapsed, an honest word about the wall clock, and nothing charged that is not proven."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from support.station_world import CARD, UTC_MS, World, charge, one_end_each

from agent.session import S, Session
from agent.settings.load import load_station
from agent.station.receipts import receipt_text
from agent.values import Quality

Make = Callable[..., World]
MINUTE_MS, HOUR_MS, DAY_MS = 60_000, 3_600_000, 86_400_000
# 28 March 2027, 00:59 UTC: a minute before clocks in Berlin go from 02:00 to 03:00.
BEFORE_SUMMER_MS = 1_806_195_540_000
# 31 October 2027, 00:59 UTC: a minute before they go from 03:00 back to 02:00.
BEFORE_WINTER_MS = 1_824_944_340_000


def receipt(w: World) -> str:
    settings = load_station(w.folder / "station.yaml").settings
    return receipt_text(w.session(), settings, 40, "en")


def idle_session(w: World, change: Callable[[], None]) -> Session:
    """A minute of charging, then two minutes idle with `change` in the middle of them."""
    charge(w, seconds=60)
    w.plant.draw(0)
    w.until_state(S.SUSPENDED)
    w.run(60)
    change()
    w.run(60)
    w.terminal.tap(CARD)
    return w.until_state(S.CLOSED)


JUMPS = {
    "a year on": 365 * DAY_MS,
    "an hour on": HOUR_MS,
    "an hour back": -HOUR_MS,
    "to 1970": -UTC_MS,
}


@pytest.mark.parametrize("jump_ms", JUMPS.values(), ids=JUMPS)
def test_a_jump_of_the_wall_clock_changes_no_price(make: Make, jump_ms: int) -> None:
    w = make()

    def jump() -> None:
        w.skew_ms += jump_ms

    done = idle_session(w, jump)
    assert 118_000 < done.idle_ms < 130_000 and 55_000 < done.charging_ms < 70_000
    fees = done.cost_minor or 0
    assert fees == 35 + round(done.idle_ms * 10 / 60_000) + round(done.energy_wh * 49 / 1000)
    text = receipt(w)
    assert "2026-11-20 19:5" in text and "2027" not in text and "1970" not in text, (
        "its end neither"
    )
    session, settlement = w.payloads()
    assert session["meter"]["begin"]["utc_ms"] < settlement["stamp"]["utc_ms"] - jump_ms
    assert session["idle_ms"] == done.idle_ms
    one_end_each(w)


@pytest.mark.parametrize("jump_ms", [DAY_MS, -DAY_MS], ids=["on", "back"])
def test_nor_any_deadline(make: Make, jump_ms: int) -> None:
    w = make()
    w.terminal.tap(CARD)
    w.until_state(S.HELD)
    w.run(30)
    w.skew_ms += jump_ms
    w.run(80)
    assert w.session().state is S.HELD, "120 seconds for the cable"
    w.until_state(S.CLOSED, within_s=20)
    w.terminal.script["capture"].append("not_sent")
    w.run(10)
    charge(w)
    w.terminal.tap(CARD)
    w.until_state(S.CAPTURE_DUE)
    w.skew_ms -= 2 * jump_ms
    w.run(50)
    assert w.session().state is S.CAPTURE_DUE, "a minute until the next try"
    w.until_state(S.CLOSED, within_s=20)
    one_end_each(w)


def test_a_hold_lasts_no_longer_because_the_clock_was_set_back(make: Make) -> None:
    w = make(valid_h=3)
    charge(w)
    w.plant.draw(100)
    w.skew_ms -= 5 * HOUR_MS
    w.suspend(2 * 3600 - 120)
    w.run(30)
    assert w.session().state is S.CHARGING
    done = w.until_state(S.CLOSED, within_s=400)
    assert done.stop_reason == "hold expires"


def test_without_a_clock_at_boot_prices_are_right_and_the_time_is_called_unknown(
    make: Make,
) -> None:
    """It is set during the session: what was stamped before stays as it was."""
    w = make(start=False)
    w.quality, w.skew_ms = Quality.UNKNOWN, -UTC_MS
    w.start()
    w.run(3)

    def set_clock() -> None:
        w.quality, w.skew_ms = Quality.TRUSTED, 0

    done = idle_session(w, set_clock)
    assert 118_000 < done.idle_ms < 130_000
    session, settlement = w.payloads()
    assert session["meter"]["begin"]["quality"] == "unknown"
    assert session["meter"]["end"]["quality"] == settlement["stamp"]["quality"] == "trusted"
    assert session["meter"]["begin"]["utc_ms"] < HOUR_MS < session["meter"]["end"]["utc_ms"]
    text = receipt(w)
    assert "1970" in text and "2026" not in text, "one clock for both ends"
    assert "Time not verified" in text, "and it says so"
    one_end_each(w)


@pytest.mark.parametrize(
    ("start_ms", "first", "second"),
    [
        (BEFORE_SUMMER_MS, "2027-03-28 01:59:", "2027-03-28 03:0"),
        (BEFORE_WINTER_MS, "2027-10-31 02:59:", "2027-10-31 02:0"),
    ],
    ids=["summer", "winter"],
)
def test_daylight_saving_is_how_a_time_is_written_and_no_time(
    make: Make, start_ms: int, first: str, second: str
) -> None:
    w = make(start=False)
    w.skew_ms = start_ms - UTC_MS - w.now_ms
    w.start()
    w.run(3)
    done = idle_session(w, lambda: None)
    assert 118_000 < done.idle_ms < 130_000
    text = receipt(w)
    assert first in text and second in text, text
    assert "+01:00" in text and "+02:00" in text, "the hour that comes twice is told apart"
    assert all(p["time"].endswith("Z") for p in w.payloads())


# --- suspend ----------------------------------------------------------------------------------------


def test_a_board_that_sleeps_charges_what_ran_on(make: Make) -> None:
    """The boot-time clock runs through it, the car charged on, and nobody is called stuck or lost."""
    w = make()
    charge(w, seconds=60)
    for moment in range(6):
        w.suspend(100)
        w.run(5.9 - moment / 10)
    w.run(10)
    assert w.session().state is S.CHARGING
    assert w.errors() == [] and w.logged("stuck") == []
    w.terminal.tap(CARD)
    done = w.until_state(S.CLOSED)
    assert done.energy_wh == w.plant.delivered_wh > 1_800
    assert 655_000 < done.charging_ms < 730_000
    one_end_each(w)


def test_a_deadline_that_went_by_asleep_is_kept_soon_after(make: Make) -> None:
    w = make()
    w.terminal.tap(CARD)
    w.until_state(S.HELD)
    w.run(20)
    w.suspend(3_600)
    w.until_state(S.CLOSED, within_s=110)
    one_end_each(w)


def test_a_hold_that_expired_asleep_ends_at_once(make: Make) -> None:
    w = make(valid_h=3)
    charge(w)
    w.plant.draw(0)
    w.until_state(S.SUSPENDED)
    w.suspend(2 * 3600)
    done = w.until_state(S.CLOSED, within_s=330)
    assert done.stop_reason in ("hold expires", "limit")
    one_end_each(w)


def test_a_retry_comes_although_the_board_is_restarted_every_hour(make: Make) -> None:
    """The hourly retry counts from the try before, not from the last boot; the clock can be trusted."""
    w = make()
    charge(w, seconds=60)
    w.terminal.script["capture"].extend(["not_sent"] * 6)
    w.terminal.tap(CARD)
    w.until_state(S.CAPTURE_DUE)
    w.run(6 * 60)
    assert w.session().attempts == 6
    for _ in range(2):
        w.kill()
        w.reboot()
        w.passes(60)
        w.start()
        w.run(40 * 60)
    assert w.session().state is S.CLOSED
    one_end_each(w)


def test_a_clock_that_is_set_back_behind_a_reboot_holds_up_no_retry(make: Make) -> None:
    """Found by the simulator: seeds 30194, 30796 and 40039."""
    w = make()
    charge(w, seconds=60)
    w.terminal.script["capture"].append("not_sent")
    w.terminal.tap(CARD)
    w.until_state(S.CAPTURE_DUE)
    w.kill()
    w.reboot()
    w.skew_ms -= 400 * DAY_MS
    w.start()
    w.run(90)
    assert w.session().state is S.CLOSED
    one_end_each(w)


@pytest.mark.parametrize(
    ("then", "skew_ms"), [(Quality.UNKNOWN, -UTC_MS), (Quality.RESTORED, -3 * DAY_MS)]
)
def test_a_clock_that_is_right_only_after_a_reboot_lets_no_hold_expire(
    make: Make, then: Quality, skew_ms: int
) -> None:
    """Nobody knows how long the board was off; the driver who plugs in now gets his energy."""
    w = make(start=False)
    w.quality, w.skew_ms = then, skew_ms
    w.start()
    w.run(3)
    w.terminal.tap(CARD)
    w.until_state(S.HELD)
    w.kill()
    w.passes(10)
    w.reboot()
    w.quality, w.skew_ms = Quality.TRUSTED, 0
    w.start()
    w.run(5)
    w.plant.plug()
    w.run(60)
    assert w.session().state is S.CHARGING
    assert w.logged("hold_expires") == []


@pytest.mark.parametrize("quality", [Quality.TRUSTED, Quality.RESTORED])
def test_a_hold_that_expires_while_the_board_is_off_ends_at_once(
    make: Make, quality: Quality
) -> None:
    """Also where no network ever tells the time: a clock chip is compared with itself."""
    w = make(start=False, valid_h=3)
    w.quality = quality
    w.start()
    w.run(3)
    w.terminal.tap(CARD)
    w.until_state(S.HELD)
    w.kill()
    w.passes(2 * 3600)
    w.reboot()
    w.start()
    w.run(5)
    w.plant.plug()
    done = w.until_state(S.CLOSED, within_s=60)
    assert done.stop_reason == "hold expires"
    one_end_each(w)
