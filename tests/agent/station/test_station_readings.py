"""What the station does with readings: how old one may be, and what the driver is told of the connector."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from support.station_world import CARD, World, charge

from agent.ports import MeterSpec
from agent.session import S
from agent.station import build
from agent.station.register import READ_SLACK_MS

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
