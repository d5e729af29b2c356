"""Bodies of records and the summary: plain JSON, the agreed names, the same again from the same events."""

import json
from collections.abc import Iterator, Mapping
from dataclasses import fields
from typing import Any

import pytest
from support.session_events import DATA, HOLD, PRICE, RESULT, UTC_MS, Story, reach, stamp

from agent.session import E, S, Session, fold
from agent.session.records import iso_utc, session_record, settlement_record
from agent.session.summary import summary
from agent.values import Quality, Stamp

SESSION_KEYS = {
    "session_id",
    "evse",
    "terminal",
    "currency",
    "tariff_id",
    "energy_wh",
    "meter",
    "charging_s",
    "cost",
    "cost_minor",
    "held_minor",
    "to_capture_minor",
    "shortfall_minor",
    "stop_reason",
}
METER_KEYS = {"serial", "begin_wh", "end_wh", "begin", "end", "end_quality"}
SETTLEMENT_KEYS = {
    "session_id",
    "refers_seq",
    "outcome",
    "held_minor",
    "captured_minor",
    "released_minor",
    "shortfall_minor",
    "owed_minor",
    "currency",
    "hold",
    "result",
    "reason",
}
OUTCOMES = {"captured", "released", "refused", "cancelled", "unknown", "not_held"}
OUTCOMES |= {"away", "foreign", "gone", "paid", "written_off"}
SUMMARY_KEYS = {
    "id",
    "evse",
    "state",
    "started",
    "ended",
    "energy_wh",
    "currency",
    "held_minor",
    "captured_minor",
    "released_minor",
    "shortfall_minor",
    "owed_minor",
    "payment",
}
# What the frame around a body says; a body that says it too would be refused when it is signed.
FRAME_KEYS = {"chain", "seq", "prev", "type", "station", "time", "stamp"}


def leaves(value: object, path: str = "") -> Iterator[tuple[str, object]]:
    if isinstance(value, Mapping):
        for key, inner in value.items():
            assert isinstance(key, str) and key.isascii()
            yield from leaves(inner, f"{path}.{key}")
    elif isinstance(value, (list, tuple)):
        for n, inner in enumerate(value):
            yield from leaves(inner, f"{path}[{n}]")
    else:
        yield path, value


def assert_plain(body: Mapping[str, object]) -> None:
    for path, value in leaves(body):
        assert value is None or type(value) in (int, str, bool), f"{path} is {value!r}"
    assert json.loads(json.dumps(body, allow_nan=False)) == body


@pytest.mark.parametrize("state", [s for s in S if s is not S.NEW])
def test_every_body_is_plain_json(state: S) -> None:
    session = reach(state).session
    for body in (session_record(session), settlement_record(session), summary(session)):
        assert_plain(body)


@pytest.mark.parametrize("make", [session_record, settlement_record, summary])
def test_the_same_events_give_the_same_bytes(make: Any) -> None:
    story = reach(S.SETTLED)
    again = fold("S1", json_round_trip(story))
    assert json.dumps(make(again)) == json.dumps(make(story.session))


def json_round_trip(story: Story) -> list[Any]:
    return [type(e)(e.name, e.stamp, json.loads(json.dumps(e.data))) for e in story.events]


def test_the_session_record() -> None:
    story = reach(S.CHARGING).passes(90_500).all(E.STOP, E.STOPPED, E.ENDED)
    body = session_record(story.session)
    assert set(body) >= SESSION_KEYS
    meter = body["meter"]
    assert isinstance(meter, dict)
    assert set(meter) >= METER_KEYS
    assert not set(body) & FRAME_KEYS
    began = next(e for e in story.events if e.name is E.BEGAN)
    ended = story.events[-1]
    expected = {
        "session_id": "S1",
        "evse": "DE*ABC*E1",
        "terminal": "t1",
        "currency": "EUR",
        "tariff_id": "adhoc",
        "energy_wh": 8134,
        "charging_s": 90,
        "cost": PRICE,
        "cost_minor": 480,
        "held_minor": 5000,
        "to_capture_minor": 480,
        "shortfall_minor": 0,
        "stop_reason": "tap",
    }
    assert {key: body[key] for key in expected} == expected
    assert {key: meter[key] for key in METER_KEYS} == {
        "serial": "S1",
        "begin_wh": 104_211,
        "end_wh": 112_345,
        "begin": began.stamp.to_json(),
        "end": ended.stamp.to_json(),
        "end_quality": "confirmed",
    }


def test_the_session_record_carries_what_was_signed() -> None:
    session = reach(S.RECORDING).session
    value = {"format": "OCMF", "signed_by": "station", "text": "OCMF|{}|{}", "public_key": "30"}
    amiss = {"id": "MTR-033", "why": "it could not"}
    body = session_record(session, [value], None, amiss)
    assert (body["signed_values"], body["signed_values_missing"]) == ([value], None)
    assert body["meter_signing"] == amiss
    none = session_record(session, (), {"id": "STA-060", "why": "MS"})
    assert none["signed_values"] == [] and none["meter_signing"] is None
    assert none["signed_values_missing"] == {"id": "STA-060", "why": "MS"}


def test_what_a_signing_meter_says_is_kept_with_the_session() -> None:
    story = reach(S.BEGINNING).tell(E.SIGNING, text="T")
    story.tell(E.SIGNING, text="other", found="of before")
    assert (story.session.state, story.session.signing_text) == (S.BEGINNING, "T")
    trouble = {"id": "MTR-033", "why": "it could not"}
    began = story.tell(E.BEGAN, meter_trouble=trouble)
    assert began.session.meter_trouble == trouble
    ended = began.all(E.ENERGY_FLOWS, E.STOP, E.STOPPED, E.ENDED)
    assert ended.session.meter_trouble == trouble and ended.session.meter_values == {}
    story = reach(S.ENDING).tell(E.ENDED, meter_values={"text": "OCMF|", "public_key": ""})
    assert story.session.meter_values["text"] == "OCMF|"


@pytest.mark.parametrize(
    ("hold", "details", "code"),
    [
        (HOLD, {"card_name": "girocard", "aid": "750071"}, "750071"),
        (HOLD | {"aid": "750072"}, {"aid": "750071"}, "750072"),  # what the terminal wants back
        (HOLD, {}, ""),
    ],
)
def test_both_records_have_the_approval_code(
    hold: dict[str, Any], details: dict[str, Any], code: str
) -> None:
    story = Story().tell(E.TAPPED).tell(E.APPROVED, hold=hold, details=details)
    assert settlement_record(story.session)["approval_code"] == code
    assert session_record(story.session)["approval_code"] == code
    assert summary(story.session)["approval_code"] == code


def test_seconds_are_counted_down_never_up() -> None:
    story = reach(S.CHARGING).passes(59_999).all(E.STOP, E.STOPPED, E.ENDED)
    assert session_record(story.session)["charging_s"] == 59
    assert session_record(story.session)["charging_ms"] == 59_999


def test_the_settlement_record_of_a_capture() -> None:
    body = settlement_record(reach(S.SETTLED).session)
    assert set(body) >= SETTLEMENT_KEYS
    assert not set(body) & FRAME_KEYS
    expected = {
        "session_id": "S1",
        "refers_seq": 7,
        "outcome": "captured",
        "held_minor": 5000,
        "captured_minor": 480,
        "released_minor": 4520,
        "shortfall_minor": 0,
        "owed_minor": 0,
        "currency": "EUR",
        "hold": HOLD,
        "result": RESULT,
        "reason": "",
    }
    assert {key: body[key] for key in SETTLEMENT_KEYS} == expected


CASES: list[tuple[Story, str, str]] = [
    (Story().all(E.TAPPED, E.REFUSED), "refused", "declined"),
    (Story().all(E.TAPPED, E.NOT_SENT), "not_held", "port gone"),
    (Story().all(E.TAPPED, E.UNCLEAR, E.HOLD_ABSENT), "not_held", "not listed"),
    (reach(S.HELD).all(E.CANCELLED, E.SETTLED), "cancelled", "driver"),
    (reach(S.HELD).all(E.CONNECTION_TIMEOUT, E.SETTLED), "cancelled", "no car"),
    (reach(S.BEGINNING).all(E.BEGIN_FAILED, E.SETTLED), "cancelled", "meter silent"),
    (
        reach(S.ENDING).tell(E.ENDED, cost_minor=0).all(E.RECORDED, E.SETTLED),
        "released",
        "",
    ),
    (reach(S.CAPTURING).tell(E.REFUSED), "refused", "declined"),
    (reach(S.UNRESOLVED), "unknown", "gone"),
    (reach(S.CAPTURE_DUE).tell(E.AWAY), "away", DATA[E.AWAY]["why"]),
    (reach(S.RELEASE_UNCLEAR).tell(E.AWAY), "unknown", DATA[E.AWAY]["why"]),
    (Story().tell(E.FOREIGN), "foreign", "no session of this station explains this hold"),
    (Story().all(E.FOREIGN, E.RECORDED, E.VANISHED), "gone", "gone"),
    (Story().all(E.FOREIGN, E.CANCELLED, E.SETTLED), "cancelled", "driver"),
    (reach(S.UNRESOLVED).all(E.RECORDED, E.CLOSED_BY_HAND), "paid", "paid by transfer"),
]


@pytest.mark.parametrize(("story", "outcome", "reason"), CASES, ids=range(len(CASES)))
def test_every_outcome_says_how_and_why(story: Story, outcome: str, reason: str) -> None:
    body = settlement_record(story.session)
    assert (body["outcome"], body["reason"]) == (outcome, reason)
    assert body["outcome"] in OUTCOMES
    assert body["refers_seq"] == (7 if story.session.cost_minor is not None else None)


@pytest.mark.parametrize("how", ["paid", "written_off"])
@pytest.mark.parametrize(
    ("end", "captured", "open_minor"),
    [(E.REFUSED, 0, 480), (E.UNCLEAR, 0, 480), (E.EVIDENCE, 400, 80)],
)
def test_a_person_takes_what_stands_open_off_the_list(
    how: str, end: E, captured: int, open_minor: int
) -> None:
    """What the terminal said stays said; only what stood open has another word."""
    story = reach(S.CAPTURING)
    if end is E.EVIDENCE:
        story.tell(E.EVIDENCE, amount_minor=400).tell(E.SETTLED)
    else:
        story.tell(end)
    if end is E.UNCLEAR:
        story.tell(E.VANISHED)
    story.tell(E.RECORDED).tell(E.CLOSED_BY_HAND, how=how).tell(E.RECORDED, seq=9)
    body = settlement_record(story.session)
    assert story.state is S.CLOSED
    assert (body["outcome"], body["captured_minor"]) == (how, captured)
    assert (body["closed_minor"], body["owed_minor"]) == (open_minor, 0)
    assert summary(story.session)["payment"] == how


def test_a_record_carries_no_card_and_no_internal_state() -> None:
    names = {f.name for f in fields(Session)}
    for body in (
        session_record(reach(S.SETTLED).session),
        settlement_record(reach(S.SETTLED).session),
    ):
        assert "card" in names and "card" not in body
        assert "state" not in body and "events" not in body


def test_the_summary() -> None:
    story = reach(S.CLOSED)
    shown = summary(story.session)
    assert set(shown) >= SUMMARY_KEYS
    assert shown["state"] == "closed"
    assert shown["started"] == iso_utc(story.events[0].stamp)
    ended = next(e for e in story.events if e.name is E.ENDED)
    assert shown["ended"] == iso_utc(ended.stamp)
    assert (shown["record_seq"], shown["settlement_seq"]) == (7, 7)


PAYMENT = {
    S.NEW: "held",
    S.AUTHORIZING: "authorizing",
    S.APPROVED: "authorizing",
    S.HOLD_UNCLEAR: "unknown",
    S.HELD: "held",
    S.BEGINNING: "held",
    S.STARTING: "held",
    S.CHARGING: "held",
    S.SUSPENDED: "held",
    S.STOPPING: "held",
    S.ENDING: "held",
    S.RAISE_OPEN: "raising",
    S.RECORDING: "held",
    S.CAPTURING: "capturing",
    S.CAPTURE_DUE: "capture_due",
    S.CAPTURE_UNCLEAR: "unknown",
    S.RELEASING: "releasing",
    S.RELEASE_DUE: "release_due",
    S.RELEASE_UNCLEAR: "unknown",
    S.SETTLED: "captured",
    S.UNRESOLVED: "unknown",
    S.CLOSED: "captured",
}


@pytest.mark.parametrize("state", S)
def test_the_word_for_the_payment(state: S) -> None:
    assert summary(reach(state).session)["payment"] == PAYMENT[state]


@pytest.mark.parametrize(
    ("utc_ms", "text"),
    [
        (0, "1970-01-01T00:00:00.000Z"),
        (UTC_MS + 7, "2026-11-20T18:40:00.007Z"),
        (1_798_761_599_999, "2026-12-31T23:59:59.999Z"),
        (-1, "1969-12-31T23:59:59.999Z"),
    ],
)
def test_time_of_day_is_utc_with_milliseconds(utc_ms: int, text: str) -> None:
    assert iso_utc(Stamp(utc_ms, 0, "b", Quality.UNKNOWN)) == text
    assert DATA[E.TAPPED]["currency"] == "EUR"
    assert stamp(0).utc_ms == UTC_MS
