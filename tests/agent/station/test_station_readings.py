"""What the station does with readings: how old one may be, and what the driver is told of the connector."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
from support.fake_charger import MeterDriver
from support.station_world import CARD, E1, World, charge

from agent.ports import MeterSpec
from agent.session import E, S, Session, acts
from agent.session.events import Event
from agent.station import build
from agent.station.register import LEAST_STEP_WH, READ_SLACK_MS
from agent.values import Quality, Reading, ReadingState, Stamp

Make = Callable[..., World]


def stored(w: World) -> list[tuple[int, int]]:
    """(when, Wh) of each reading that the session made durable after its begin."""
    rows = w.agent.ledger._ledger.events(w.session().id)
    return [
        (row.stamp.boot_ms, int(str(row.data["energy_wh"])))
        for row in rows
        if row.name == "progress"
    ]


def test_an_old_reading_is_not_made_durable_as_one_of_now(make: Make) -> None:
    """Its time would be taken for the reading's when a later register is judged by the rated power."""
    w = make()
    charge(w, seconds=100)
    good = w.plant.register_wh
    w.plant.meter_answers = False
    silent_ms = w.boot_ms()
    w.until_state(S.STOPPING, within_s=70)  # the meter is lost
    w.run(2)
    after = [(at, wh) for at, wh in stored(w) if at > silent_ms]
    assert after, "the last one was stored when the meter fell silent"
    assert all(at <= silent_ms + READ_SLACK_MS for at, _ in after), after
    assert all(abs(wh - good) <= 5 for _, wh in after)


@pytest.mark.parametrize("step_wh", [10, 100, 1000])
def test_the_last_step_of_a_coarse_register_is_billed(make: Make, step_wh: int) -> None:
    """Some meters count in 100 Wh: between two readings of one second theirs rises by a whole step."""
    w = make()
    w.plant.meter_step_wh = step_wh
    charge(w, seconds=60)
    w.until(lambda: w.plant.register_wh % step_wh >= step_wh - 3, within_s=600)
    before_wh = w.plant.register_wh
    w.terminal.tap(CARD)
    session = w.until_state(S.CLOSED)
    assert w.plant.register_wh // step_wh > before_wh // step_wh, "the car lets go behind the step"
    assert (session.end_quality, w.logged("end_unconfirmed")) == ("confirmed", [])
    assert session.end_wh == w.plant.register_wh // step_wh * step_wh


def test_the_meter_is_bounded_by_what_its_connector_can_do(
    make: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    w = make(start=False, max_power_w=43_000)
    specs: list[MeterSpec] = []

    def load(kind: str, name: str) -> Callable[..., Any]:
        factory = w._load(kind, name)

        def made(spec: Any, *more: Any) -> Any:
            specs.extend([spec] if isinstance(spec, MeterSpec) else [])
            return factory(spec, *more)

        return made

    monkeypatch.setattr(build, "load", load)
    w.start()
    assert [spec.options["rated_power_w"] for spec in specs] == [43_000]


def test_the_limit_and_the_end_count_with_the_meters_own_step(make: Make) -> None:
    w = make()
    charge(w, seconds=120)
    point, now = w.agent.parts.points[E1], w.agent.clock.stamp()
    good = point.register.good
    assert good is not None
    fine, coarse = replace(good, step_wh=1), replace(good, step_wh=400)
    margin = [point._limit.ask(w.session(), reading, now).margin_wh for reading in (fine, coarse)]
    assert margin[1] - margin[0] == 400 - LEAST_STEP_WH
    s = replace(w.session(), held_minor=10)
    hour_ms = 3_600_000
    short = [point._limit.short_of_time(s, reading, now, hour_ms) for reading in (fine, coarse)]
    assert short[0] is not None and short[1] is not None
    assert short[1].margin_wh - short[0].margin_wh == 400 - LEAST_STEP_WH
    gone = replace(w.session(), gone_wh=(good.energy_import_wh or 0) - 300, gone_unwatched=True)
    ends = [point._ends._ended(gone, reading)["quality"] for reading in (fine, coarse)]
    assert ends == ["last_durable", "confirmed"]


@pytest.mark.parametrize(("step_wh", "begins"), [(10, True), (1_000, False)])
def test_a_hold_that_one_step_would_exceed_releases_no_energy(
    make: Make, step_wh: int, begins: bool
) -> None:
    w = make()
    w.plant.meter_step_wh = step_wh
    w.run(40)
    w.terminal.approves_minor = 60  # 0.35 at the start, 0.49 a kWh
    w.plant.plug()
    w.run(3)
    w.terminal.tap(CARD)
    w.run(15)
    assert (w.session().begin_wh is not None) is begins
    assert begins or "too small" in w.session().why


def test_progress_bears_the_time_of_its_reading() -> None:
    stored = Stamp(90_000, 50_000, "boot", Quality.TRUSTED)
    read = {"energy_wh": 7, "read_boot_ms": 48_500}
    for act, name in ((acts.began, E.BEGAN), (acts.progress, E.PROGRESS)):
        s = act(Session("1"), Event(name, stored, read | {"serial": None, "model": "m"}))
        assert s.last_at == Stamp(88_500, 48_500, "boot", Quality.TRUSTED)
    s = acts.progress(Session("1"), Event(E.PROGRESS, stored, {"energy_wh": 7}))
    assert s.last_at == stored, "as the version before has stored it"


@pytest.mark.parametrize("serial", ["4222222222222", "KX1"])
def test_what_the_meter_says_keeps_no_session_from_ending(
    make: Make, monkeypatch: pytest.MonkeyPatch, serial: str
) -> None:
    """No event is stored that looks as if it held a card number: without its words it is."""
    w = make()

    async def wrong(self: MeterDriver) -> Reading:
        why = f"MTR-010: serial number {serial}; expected 8"
        return Reading(ReadingState.WRONG_SERIAL, w.boot_ms(), why=why)

    w.plant.plug()
    w.run(3)
    w.terminal.tap(CARD)
    w.until_state(S.AUTHORIZING, S.APPROVED, S.BEGINNING)
    monkeypatch.setattr(MeterDriver, "read", wrong)
    done = w.until_state(S.CLOSED)
    assert done.outcome in ("released", "cancelled") and done.why.startswith("meter: ")
    assert ("4222" not in done.why) and not w.logged("part_died")
