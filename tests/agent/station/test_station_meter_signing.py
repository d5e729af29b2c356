"""Signing meters in a session: the meter's own bytes in the record, whatever dies in between, and never in
the way of the money."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from support.signing_rig import MODELS
from support.signing_station import SigningStation
from support.station_world import CARD, OTHER_CARD, World, one_end_each
from support.virtual_loop import Killed

from agent.ports import DeviceUnavailable
from agent.session import E, S, Session, measured
from agent.session.events import Event
from agent.station import meter_signing
from agent.trust import ocmf
from agent.trust.ocmf import Expected, against
from agent.values import Quality, Reading, Stamp
from drivers.meter.signing.meter import SigningModbusMeter
from hil.meter.signing_common import SigningUnit

Make = Callable[..., World]
ROOT = Path(__file__).resolve().parents[3]


@pytest.fixture(params=MODELS)
def station(
    request: pytest.FixtureRequest, make: Make, monkeypatch: pytest.MonkeyPatch
) -> SigningStation:
    return SigningStation(make, monkeypatch, request.param)


def begin(s: SigningStation) -> World:
    s.world.start()
    s.world.run(20)
    return s.world


def charge(w: World, card: bytes = CARD, seconds: float = 120.0) -> None:
    w.plant.plug()
    w.run(3)
    w.terminal.tap(card)
    w.until_state(S.CHARGING, within_s=240)
    w.run(seconds)


def pay(w: World, card: bytes = CARD) -> None:
    charge(w, card)
    w.terminal.tap(card)
    w.until_state(S.CLOSED, within_s=300)
    w.plant.unplug()
    w.run(15)


def restart(w: World) -> None:
    w.passes(3)
    w.start()


def test_begin_and_end_have_the_time_at_which_the_meter_answered(
    station: SigningStation, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A signature may take seconds before the reading is stored."""
    answered: set[tuple[int | None, int]] = set()
    read = SigningModbusMeter.read

    async def noted(meter: SigningModbusMeter) -> Reading:
        reading = await read(meter)
        answered.add((reading.energy_import_wh, reading.boot_ms))
        return reading

    monkeypatch.setattr(SigningModbusMeter, "read", noted)
    w = begin(station)
    pay(w)
    s = w.session()
    assert s.began_at is not None and s.end_read_at is not None
    assert (s.begin_wh, s.began_at.boot_ms) in answered
    assert (s.end_wh, s.end_read_at.boot_ms) in answered
    rows = w.agent.ledger._ledger.events(s.id)
    stored_ms = {row.name: row.stamp.boot_ms for row in rows}
    assert stored_ms["began"] - s.began_at.boot_ms > 50, "the meter has signed in between"
    meter = next(body["meter"] for body in bodies(w))
    assert meter["begin"] == s.began_at.to_json() and meter["end"] == s.end_read_at.to_json()
    passed_ms = s.end_read_at.utc_ms - s.began_at.utc_ms
    assert passed_ms == s.end_read_at.boot_ms - s.began_at.boot_ms


def bodies(w: World) -> list[dict[str, Any]]:
    return [body for body in w.payloads() if body["type"] == "session"]


def genuine(body: dict[str, Any], w: World) -> None:
    """The meter's own, of this payment and this energy."""
    assert body["meter_signing"] is None and body["signed_values_missing"] is None
    assert {value["signed_by"] for value in body["signed_values"]} == {"meter"}
    for value in body["signed_values"]:
        assert ocmf.verify(value["text"], value["public_key"]).valid
    records = [ocmf.parse(value["text"]) for value in body["signed_values"]]
    hold = next(s for s in w.sessions() if s.id == body["session_id"]).hold
    number = f"{hold['terminal_id']}-{hold['receipt']}-{hold['trace']}"
    assert against(records, Expected(transaction_number=number)) == []


def test_what_the_meter_signed_is_in_the_record_byte_for_byte(station: SigningStation) -> None:
    w = begin(station)
    pay(w)
    pay(w, OTHER_CARD)
    one_end_each(w)
    first, second = bodies(w)
    genuine(first, w)
    genuine(second, w)
    assert first["signed_values"] != second["signed_values"]
    assert not w.logged("meter_not_signing") and not w.logged("meter_record_found")
    names = w.event_names(first["session_id"])
    assert names.index("signing") < names.index("began")


@pytest.mark.parametrize(
    "state", [S.BEGINNING, S.STARTING, S.CHARGING, S.ENDING, S.RECORDING, S.CAPTURING]
)
def test_killed_anywhere_the_meters_record_is_there_once(station: SigningStation, state: S) -> None:
    """RECORDING: it is stored, and the meter was not told yet."""
    w = begin(station)
    w.plant.plug()
    w.run(3)
    w.terminal.tap(CARD)
    if state not in (S.BEGINNING, S.STARTING, S.CHARGING):
        w.until_state(S.CHARGING, within_s=240)
        w.run(60)
        w.terminal.tap(CARD)
    w.until_killed_in(state)
    restart(w)
    w.run(20)
    if w.session().state in (S.BEGINNING, S.STARTING, S.CHARGING):
        w.until_state(S.CHARGING, within_s=300)
        w.run(60)
        w.terminal.tap(CARD)
    w.until_state(S.CLOSED, within_s=600)
    w.plant.unplug()
    w.run(15)
    pay(w, OTHER_CARD)
    one_end_each(w)
    for body in bodies(w):
        genuine(body, w)
    stray = w.logged("meter_record_found")
    if state is S.RECORDING:
        assert len(stray) == 1
    elif state is not S.CAPTURING:  # the capture begins beside the acknowledgement
        assert not stray
    if stray:
        found = [e.data.get("found") for e in events(w) if e.name == "signing"]
        texts = "\n".join(value["text"] for value in bodies(w)[0]["signed_values"])
        assert texts in found, "what is in the record already is stored once more, not lost"


def events(w: World) -> list[Any]:
    ledger = w.agent.ledger._ledger
    return [row for s in w.sessions() for row in ledger.events(s.id)]


# What a session writes into an EM580: clock, zone, identification, place, tariff, kind, begin, end, and the
# acknowledgement.
WRITES = 9


@pytest.mark.parametrize("when", ["before", "after"])
def test_killed_at_any_frame_that_writes_into_the_meter(
    make: Make, monkeypatch: pytest.MonkeyPatch, when: str
) -> None:
    station = SigningStation(make, monkeypatch, "carlogavazzi_em580")
    w = begin(station)
    for nth in range(1, WRITES + 1):
        station.kill = (when, station.writes + nth)
        w.plant.plug()
        w.run(3)
        w.terminal.tap((CARD, OTHER_CARD)[nth % 2])
        through(w, lambda nth=nth: len(w.sessions()) == nth and w.state_is(S.CHARGING)())
        through(w, lambda until=w.now_ms + 60_000: w.now_ms > until)
        w.terminal.tap((CARD, OTHER_CARD)[nth % 2])
        through(w, w.state_is(S.CLOSED))
        w.plant.unplug()
        through(w, lambda until=w.now_ms + 15_000: w.now_ms > until)
        assert station.kill is None, f"nobody died {when} write {nth}"
    one_end_each(w)
    assert len(bodies(w)) == WRITES
    for body in bodies(w):
        genuine(body, w)


def through(w: World, wanted: Callable[[], object]) -> None:
    """Until it comes, over a death in between."""
    try:
        w.until(wanted, within_s=400)
    except Killed:
        w._bury()
        restart(w)
        w.until(wanted, within_s=400)


def test_a_driver_who_leaves_while_it_begins_takes_nothing_from_the_next(
    make: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    station = SigningStation(make, monkeypatch, "bauer_bsm_ws36a")
    w = begin(station)
    unit(station).faults.slow_ms = 8_000
    w.plant.plug()
    w.run(3)
    w.terminal.tap(CARD)
    w.until_state(S.BEGINNING)
    w.run(2)
    w.plant.unplug()
    w.until_state(S.CLOSED)
    assert w.session().begin_wh is None and not bodies(w)
    pay(w, OTHER_CARD)
    one_end_each(w)
    (body,) = bodies(w)
    genuine(body, w)
    assert not w.logged("meter_not_signing")


# --- Trouble ------------------------------------------------------------------------------------------


def unit(station: SigningStation) -> SigningUnit:
    return station.site.unit


def test_a_meter_that_cannot_sign_is_named_and_the_station_signs(
    make: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    station = SigningStation(make, monkeypatch, "iskra_wm3m4")
    unit(station).faults.refuse, unit(station).faults.code = 99, 132
    w = begin(station)
    pay(w)
    (body,) = bodies(w)
    assert body["meter_signing"]["id"] == "MTR-033"
    assert [value["signed_by"] for value in body["signed_values"]] == ["station"]
    assert w.payloads()[-1]["captured_minor"] == body["cost_minor"] > 0
    assert w.logged("meter_not_signing")[0]["id"] == "MTR-033"
    unit(station).faults.refuse = 0
    pay(w, OTHER_CARD)
    genuine(bodies(w)[1], w)


def test_a_meter_that_is_away_at_the_end_holds_no_capture_back(
    make: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its record is stored with the next session."""
    station = SigningStation(make, monkeypatch, "carlogavazzi_em580")
    w = begin(station)
    charge(w)
    station.site.cut()
    station.site.off_until_s = 1e12
    w.until_state(S.CLOSED, within_s=900)
    (body,) = bodies(w)
    assert body["meter_signing"]["id"] == "STA-023"
    assert body["meter"]["end_quality"] == "last_durable"
    assert [value["signed_by"] for value in body["signed_values"]] == ["station"]
    w.plant.unplug()
    station.site.off_until_s = 0
    w.run(60)
    pay(w, OTHER_CARD)
    genuine(bodies(w)[1], w)
    (line,) = w.logged("meter_record_found")
    assert line["id"] == "MTR-031"
    found = [e.data["found"] for e in events(w) if e.name == "signing" and "found" in e.data]
    assert len(found) == 1 and ocmf.verify(str(found[0]), station_key(body, w)).valid
    assert bodies(w)[1]["meter_found"] == found and body["meter_found"] == []


def station_key(_: dict[str, Any], w: World) -> str:
    return str(bodies(w)[1]["signed_values"][0]["public_key"])


def test_a_difference_between_signature_and_bill_is_named(
    make: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    """EM580 ends its transaction when it loses power: what flows afterwards is in no record of it."""
    station = SigningStation(make, monkeypatch, "carlogavazzi_em580")
    w = begin(station)
    charge(w)
    station.site.cut()
    w.run(120)
    w.terminal.tap(CARD)
    w.until_state(S.CLOSED, within_s=600)
    (body,) = bodies(w)
    assert body["meter_signing"]["id"] == "STA-063"
    assert {value["signed_by"] for value in body["signed_values"]} == {"meter"}
    assert w.payloads()[-1]["captured_minor"] == body["cost_minor"] > 0
    assert w.logged("meter_values_amiss")[0]["id"] == "STA-063"


def test_a_card_number_that_the_meter_quotes_reaches_no_event(
    make: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    station = SigningStation(make, monkeypatch, "carlogavazzi_em580")

    async def refuses(*_: object) -> None:
        raise DeviceUnavailable("MTR-034", "a text with '4111111111111111' in it")

    monkeypatch.setattr(SigningModbusMeter, "begin", refuses)
    w = begin(station)
    pay(w)
    (body,) = bodies(w)
    assert body["meter_signing"]["id"] == "MTR-034"
    assert body["meter_signing"]["why"].endswith("a text with '************1111' in it")
    assert "41111" not in str(w.log_lines)
    one_end_each(w)


def test_a_record_without_its_key_is_kept(make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    """The key is printed on the meter, too."""
    station = SigningStation(make, monkeypatch, "carlogavazzi_em580")

    async def refuses(_: object) -> None:
        raise DeviceUnavailable("MTR-002", "nothing came")

    w = begin(station)
    with monkeypatch.context() as broken:
        broken.setattr(SigningModbusMeter, "public_key", refuses)
        pay(w)
    (body,) = bodies(w)
    (value,) = body["signed_values"]
    assert (value["signed_by"], value["public_key"]) == ("meter", "")
    assert body["meter_signing"]["id"] == "STA-064"
    assert w.logged("meter_key_not_told")[0]["id"] == "MTR-002"
    pay(w, OTHER_CARD)
    genuine(bodies(w)[1], w)
    assert ocmf.verify(value["text"], bodies(w)[1]["signed_values"][0]["public_key"]).valid


def test_a_serial_number_like_a_cards_costs_no_evidence(
    make: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    station = SigningStation(make, monkeypatch, "carlogavazzi_em580")
    station.site.slave.serial = "4222222222222"
    w = begin(station)
    pay(w)
    (body,) = bodies(w)
    genuine(body, w)
    assert '"MS":"4222222222222"' in body["signed_values"][0]["text"]


def test_another_tariff_than_the_meter_was_told_is_named(
    make: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    station = SigningStation(make, monkeypatch, "carlogavazzi_em580")
    told = meter_signing.tariff_text
    monkeypatch.setattr(meter_signing, "tariff_text", lambda tariff: told(tariff) + "!")
    w = begin(station)
    pay(w)
    (body,) = bodies(w)
    assert body["meter_signing"]["id"] == "STA-063"
    assert "another tariff" in body["meter_signing"]["why"]


def test_a_key_that_is_told_slowly_costs_no_record(
    make: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    station = SigningStation(make, monkeypatch, "carlogavazzi_em580")

    async def slow(_: object) -> None:
        await asyncio.sleep(1000)

    monkeypatch.setattr(SigningModbusMeter, "public_key", slow)
    w = begin(station)
    pay(w)
    (body,) = bodies(w)
    assert [value["signed_by"] for value in body["signed_values"]] == ["meter"]
    assert not w.logged("meter_not_signing")


def test_a_time_limit_begins_when_energy_may_flow(
    make: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    station = SigningStation(make, monkeypatch, "bauer_bsm_ws36a")
    w = begin(station)
    unit(station).faults.slow_ms = 14_000
    w.plant.plug()
    w.run(3)
    w.terminal.tap(CARD)
    session = w.until_state(S.BEGINNING)
    w.request("limit", session=session.id, max_time_s=60)
    w.until_state(S.STOPPING, within_s=300)
    assert w.session().stop_reason == "time limit"
    assert w.session().charging_ms > 55_000


def test_what_is_found_is_told_once_however_often_the_agent_dies() -> None:
    stamp = Stamp(1, 1, "boot", Quality.TRUSTED)
    s = Session("1")
    for found in ("first", "first", "second", "first"):
        s = measured.signing(s, Event(E.SIGNING, stamp, {"text": "t", "found": found}))
    assert s.meter_found == ("first", "second")
    for n in range(20):
        s = measured.signing(s, Event(E.SIGNING, stamp, {"text": "t", "found": f"another {n}"}))
    assert len(s.meter_found) == measured.FOUND_MOST == schema_most("meter_found")


def schema_most(name: str) -> int:
    """How many the back end takes (docs/interfaces/asyncapi.yaml)."""
    text = (ROOT / "docs/interfaces/asyncapi.yaml").read_text().partition(f" {name}:")[2]
    return int(text.partition("maxItems: ")[2].split()[0])


def test_what_was_not_stored_is_not_acknowledged(
    make: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The end of a session that moved on meanwhile is not taken: nor is the record of it."""
    station = SigningStation(make, monkeypatch, "carlogavazzi_em580")
    acknowledged: list[int] = []

    async def noted(_: object) -> None:
        acknowledged.append(1)

    w = begin(station)
    charge(w)
    monkeypatch.setattr(SigningModbusMeter, "acknowledge", noted)
    tell = w.agent.keeper.tell

    async def refuses(session_id: str, name: E, *more: Any, **others: Any) -> Any:
        step = await tell(session_id, name, *more, **others)
        return step._replace(taken=False) if name is E.ENDED else step

    monkeypatch.setattr(w.agent.keeper, "tell", refuses)
    w.terminal.tap(CARD)
    w.until_state(S.CLOSED, within_s=300)
    assert acknowledged == []
