"""Readings that the station signs because the meter does not: in every session record, page by page."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from decimal import Decimal
from typing import Any

import pyocmf
import pytest
from pyocmf.models import PublicKey as JudgesKey
from support.station_world import CARD, OTHER_CARD, World, charge, one_end_each

from agent.session import E, S
from agent.station import build, signed_readings
from agent.trust import ocmf
from agent.trust.keys import RecordKey
from agent.trust.ocmf import Expected, across, against, eichrecht
from agent.values import Quality

Make = Callable[..., World]


def session_bodies(w: World) -> list[dict[str, Any]]:
    return [body for body in w.payloads() if body["type"] == "session"]


def values(w: World) -> list[dict[str, str]]:
    return [value for body in session_bodies(w) for value in body["signed_values"]]


def pages(w: World) -> list[str]:
    return [ocmf.parse(value["text"]).get("PG") for value in values(w)]


def pay(w: World, card: bytes = CARD, seconds: float = 60.0) -> None:
    charge(w, card, seconds)
    w.terminal.tap(card)
    w.until_state(S.CLOSED)
    w.plant.unplug()
    w.run(10)


def restart(w: World) -> None:
    w.passes(3)
    w.start()
    w.run(3)


def billable(w: World) -> list[str]:
    return [f.code for value in values(w) for f in eichrecht(ocmf.parse(value["text"]))]


# --- What stands in the record ----------------------------------------------------------------------


def test_the_record_carries_begin_and_end_as_strangers_accept_them(make: Make) -> None:
    w = make()
    pay(w, seconds=600)
    (body,), (value,) = session_bodies(w), values(w)
    assert value["format"] == "OCMF" and value["signed_by"] == "station"
    assert body["signed_values_missing"] is None
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        judged = pyocmf.OCMF.from_string(value["text"], strict=True)
        judged.verify_signature(JudgesKey.from_string(value["public_key"]))
        assert judged.check_eichrecht(errors_only=True) == []
    assert billable(w) == []
    hold, meter = w.session().hold, body["meter"]
    expected = Expected(
        energy_wh=body["energy_wh"],
        tariff_text="0.49 EUR/kWh, 0.10 EUR/min idle, 0.35 EUR/session, incl. 19 % VAT",
        transaction_number=f"{hold['terminal_id']}-{hold['receipt']}-{hold['trace']}",
        meter_serial=meter["serial"],
    )
    record = ocmf.parse(value["text"])
    assert against([record], expected) == []
    assert [r.wh for r in record.readings] == [Decimal(meter["begin_wh"]), Decimal(meter["end_wh"])]
    assert (record.get("CI"), record.get("GS"), record.get("IT")) == (
        body["evse"],
        body["station"],
        "CARD_TXN_NR",
    )


def test_the_time_says_how_good_the_clock_was(make: Make) -> None:
    w = make(start=False)
    w.quality = Quality.UNKNOWN
    w.start()
    w.run(3)
    pay(w)
    record = ocmf.parse(values(w)[0]["text"])
    assert [r.time and r.time.status for r in record.readings] == ["U", "U"]


def test_an_end_by_the_last_durable_reading_is_a_substitute(make: Make) -> None:
    w = make()
    charge(w, seconds=300)
    w.plant.meter_answers = False
    w.until_state(S.CLOSED, within_s=600)
    record = ocmf.parse(values(w)[0]["text"])
    begin, end = record.readings
    assert (begin.st, end.st, end.tx) == ("G", "S", "A")
    assert session_bodies(w)[0]["meter"]["end_quality"] == "last_durable"
    assert "meter_status" in billable(w), "validators do not bill by it"


@pytest.mark.parametrize(
    ("stopped", "reason"),
    [("tap", "L"), ("unplugged", "L"), ("limit", "L"), ("emergency stop", "A"), ("restart", "E")],
)
def test_why_it_ended(stopped: str, reason: str) -> None:
    assert signed_readings._reason(stopped) == reason


# --- Pages --------------------------------------------------------------------------------------------


def test_pages_count_on_over_deaths_at_every_step_of_the_end(make: Make) -> None:
    w = make()
    for state in (S.CHARGING, S.STOPPING, S.ENDING, S.RECORDING, S.CAPTURING, S.SETTLED):
        w.plant.plug()
        w.run(3)
        w.terminal.tap(CARD)
        if state is not S.CHARGING:
            w.until_state(S.CHARGING)
            w.run(30)
            w.terminal.tap(CARD)
        w.until_killed_in(state)
        restart(w)
        if w.session().state is S.CHARGING:
            w.run(30)
            w.terminal.tap(CARD)
        w.until_state(S.CLOSED, within_s=900)
        w.plant.unplug()
        w.run(10)
    one_end_each(w)
    assert pages(w) == [f"T{n}" for n in range(1, 7)]
    assert across([ocmf.parse(v["text"]) for v in values(w)], whole=True) == []


def test_what_was_signed_and_not_stored_has_used_no_page(
    make: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Killed between signature and commit: nobody has seen that text, and another session may be next."""
    w = make()
    made: list[str] = []
    real = ocmf.make

    def doomed(content: ocmf.Content, key: Any) -> ocmf.SignedValue:
        value = real(content, key)
        made.append(value.text)
        if len(made) == 1:
            assert w.loop is not None
            w.loop.doom(w.session().id)
        return value

    monkeypatch.setattr(signed_readings.ocmf, "make", doomed)
    charge(w)
    w.terminal.tap(CARD)
    w.until_killed_in(S.CLOSED)
    restart(w)
    w.until_state(S.CLOSED)
    w.plant.unplug()
    w.run(10)
    pay(w, OTHER_CARD)
    assert pages(w) == ["T1", "T2"]
    assert made[1] == values(w)[0]["text"] == made[0], "a key in a file signs the same again"


def test_a_record_that_was_made_again_takes_one_page(make: Make) -> None:
    w = make()
    real = w.agent.signing.use
    moved: list[str] = []

    async def slow(work: Any) -> Any:
        done = await real(work)
        session = w.session()
        if session.state is S.RECORDING and not moved:
            moved.append(session.id)
            await w.agent.keeper.tell(session.id, E.RESTARTED, {"resume": False})
        return done

    w.agent.signing.use = slow  # type: ignore[method-assign]  # the queue, made slow
    pay(w)
    pay(w, OTHER_CARD)
    assert moved and pages(w) == ["T1", "T2"]


# --- Never in the way of the money ----------------------------------------------------------------------


def test_a_meter_without_a_serial_number_is_billed_and_named(make: Make) -> None:
    w = make()
    w.plant.serial = None  # type: ignore[assignment]  # a meter that tells none
    pay(w)
    body = session_bodies(w)[0]
    assert body["signed_values"] == []
    assert body["signed_values_missing"]["id"] == "STA-060"
    assert "MS" in body["signed_values_missing"]["why"]
    assert w.payloads()[-1]["captured_minor"] == body["cost_minor"] > 0
    (line,) = w.logged("readings_not_signed")
    assert line["id"] == "STA-060" and line["level"] == "error"


def test_no_page_is_lost_to_a_value_that_cannot_be_made(
    make: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    w = make()
    pay(w)
    with monkeypatch.context() as broken:
        broken.setattr(signed_readings, "tariff_text", lambda _: 1 // 0)
        pay(w, OTHER_CARD)
    pay(w)
    assert [len(body["signed_values"]) for body in session_bodies(w)] == [1, 0, 1]
    assert session_bodies(w)[1]["signed_values_missing"]["why"] == "ZeroDivisionError"
    assert pages(w) == ["T1", "T2"]
    one_end_each(w)


def test_a_serial_number_that_looks_like_a_card_is_none(make: Make) -> None:
    w = make()
    w.plant.serial = "4111111111111111"
    pay(w)
    body = session_bodies(w)[0]
    (value,) = body["signed_values"]
    assert body["meter"]["serial"] == "4111111111111111" == ocmf.parse(value["text"]).get("MS")
    one_end_each(w)


def test_a_station_that_cannot_make_any_says_so_at_the_start(
    make: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What settings let through and OCMF does not: here half a character in the configured serial number."""
    monkeypatch.setattr(build, "TRIAL_SERIAL", "4\ud800")
    w = make()
    (line,) = w.logged("readings_cannot_be_signed")
    assert line["id"] == "STA-060" and line["evse"] == "DE*ABC*E1"


def test_an_ordinary_station_says_nothing_of_it(make: Make) -> None:
    w = make()
    pay(w)
    assert not w.logged("readings_cannot_be_signed") and not w.logged("readings_not_signed")


def test_pages_go_on_over_another_key(make: Make) -> None:
    w = make()
    pay(w)
    readings = w.agent.recorder._readings
    made = readings.of(
        w.session(), {"an older key": 41}, RecordKey.load(w.folder / "record-key.pem")
    )
    assert ocmf.parse(made.values[0]["text"]).get("PG") == "T42"
    assert made.page is not None and made.page.number == 42
