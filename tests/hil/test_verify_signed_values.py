"""The judge of signed readings accepts true ones and finds every lie. What it judges is made by code of the
agent, of which it shares nothing."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from cryptography.hazmat.primitives import serialization
from support.ledger_rows import STATION

from agent.trust import ocmf
from agent.trust.chain import GENESIS, seal
from agent.trust.keys import RecordKey
from agent.values import Quality, Stamp
from hil.verify import Evidence, Record
from hil.verify.signed_values import check_signed_values

KEY, STRANGER = RecordKey.generate(), RecordKey.generate()
BEGIN = Stamp(1_795_200_000_000, 5_000, "b1", Quality.TRUSTED)
END = Stamp(1_795_201_800_000, 1_805_000, "b1", Quality.TRUSTED)
LATER = Stamp(1_795_201_900_000, 7_000, "b2", Quality.RESTORED)
BEFORE = replace(LATER, utc_ms=BEGIN.utc_ms - 1, quality=Quality.TRUSTED)

Body = dict[str, Any]


def value(page: int, end: Stamp = END, status: str = "G", **changes: Any) -> ocmf.SignedValue:
    marks = (ocmf.Mark("B", 104_211, BEGIN), ocmf.Mark("L", 116_711, end, status))
    content = ocmf.Content(
        page=page,
        gateway=ocmf.Gateway(STATION, "1.0"),
        meter=ocmf.MeterLabel("21340077"),
        customer=ocmf.Customer.by_card(changes.get("number", "52500001-7-107")),
        marks=changes.get("marks", marks),
        place=ocmf.Place("DE*ABC*E1"),
        zone=ZoneInfo("Europe/Berlin"),
    )
    return ocmf.make(content, changes.get("key", KEY))


def body(page: int, end: Stamp = END, quality: str = "confirmed", **changes: Any) -> Body:
    made = value(page, end, "G" if quality == "confirmed" else "S", **changes)
    return {
        "session_id": f"s{page}",
        "evse": "DE*ABC*E1",
        "energy_wh": 12_500,
        "meter": {
            "serial": "21340077",
            "begin_wh": 104_211,
            "end_wh": 116_711,
            "begin": BEGIN.to_json(),
            "end": end.to_json(),
            "end_quality": quality,
        },
        "signed_values": [made.json()],
        "signed_values_missing": None,
    }


def codes(*bodies: Body | tuple[str, Body]) -> list[str]:
    records, prev = [], GENESIS
    for seq, given in enumerate(bodies, 1):
        kind, content = given if isinstance(given, tuple) else ("session", given)
        frame = {"chain": "c" * 32, "seq": seq, "prev": prev, "type": kind, "station": STATION}
        made = seal(KEY, stamp=END, body=content, **frame)  # type: ignore[arg-type]  # of plain JSON
        records.append(Record(STATION, "c" * 32, seq, made.hash, made.jws, kind))
        prev = made.hash
    hold = {"terminal_id": "52500001", "receipt": 7, "trace": 107}
    key = serialization.load_der_public_key(KEY.public.spki)
    evidence = Evidence(
        movements=[],
        records=records,
        sessions=[{"id": f"s{n}", "hold": hold} for n in range(1, 10)],
        receipts={},
        tariffs={},
        keys={KEY.public.kid: key},  # type: ignore[dict-item]  # as the verifier loads it
    )
    return [finding.code for finding in check_signed_values(evidence)]


def test_true_ones_are_accepted() -> None:
    assert codes(body(1), body(2, LATER), body(3, BEFORE), body(4, quality="last_durable")) == []


def test_records_from_before_there_were_any_are_accepted() -> None:
    old = body(1)
    del old["signed_values"], old["signed_values_missing"]
    assert codes(old, body(1)) == []


def test_none_with_a_reason_is_a_note_and_takes_no_page() -> None:
    none = body(1) | {"signed_values": [], "signed_values_missing": {"id": "STA-060", "why": "MS"}}
    assert codes(body(1), none, body(2)) == ["signed_value_missing"]
    assert codes(none | {"signed_values_missing": None}) == ["signed_value_unexplained"]


@pytest.mark.parametrize(
    ("pages", "found"),
    [
        ((1, 1), ["page_reused"]),
        ((1, 3), ["page_gap"]),
        ((2,), ["page_gap"]),
        ((1, 2, 1, 3), ["page_reused"]),
        ((2, 1), ["page_gap", "page_reused"]),
    ],
)
def test_pages_count_by_one(pages: tuple[int, ...], found: list[str]) -> None:
    assert codes(*(body(page) for page in pages)) == found


def test_a_gap_record_says_where_they_go_on() -> None:
    gap = ("gap", {"pages_behind": 500})
    assert codes(gap, body(501, number="52500001-7-107") | {"session_id": "s1"}) == []
    assert codes(gap, body(502) | {"session_id": "s1"}) == ["page_gap"]


def text_of(change: Callable[[str], str]) -> Callable[[Body], None]:
    def lie(given: Body) -> None:
        given["signed_values"][0]["text"] = change(given["signed_values"][0]["text"])

    return lie


def of_meter(**changes: Any) -> Callable[[Body], None]:
    return lambda given: given["meter"].update(changes)


def twice(text: str) -> str:
    return text.replace('"RU":"kWh"', '"RU":"kWh","RU":"kWh"', 1)


LIES: list[tuple[Callable[[Body], None], str]] = [
    (text_of(lambda t: t.replace("116.711", "116.712")), "signed_value_forged"),
    (text_of(lambda t: t.replace("{", "{ ", 1)), "signed_value_forged"),
    (text_of(twice), "signed_value_forged"),
    (text_of(lambda t: t[:-4]), "signed_value_malformed"),
    (text_of(lambda t: t.replace("OCMF|", "OCMG|")), "signed_value_malformed"),
    (
        lambda b: b["signed_values"][0].update(public_key=STRANGER.public.spki.hex()),
        "signed_value_key",
    ),
    (lambda b: b["signed_values"][0].update(value(1, key=STRANGER).json()), "signed_value_key"),
    (lambda b: b.update(energy_wh=12_501), "signed_value_differs"),
    (of_meter(begin_wh=104_210), "signed_value_differs"),
    (of_meter(end_wh=116_710), "signed_value_differs"),
    (of_meter(serial="21340078"), "signed_value_differs"),
    (of_meter(end_quality="last_durable"), "signed_value_differs"),
    (lambda b: b.update(evse="DE*ABC*E2"), "signed_value_differs"),
    (
        lambda b: b["signed_values"][0].update(value(1, number="52500001-8-108").json()),
        "signed_value_differs",
    ),
    (of_meter(end=replace(END, boot_ms=END.boot_ms + 1).to_json()), "signed_value_time"),
    (
        of_meter(begin=replace(BEGIN, quality=Quality.UNKNOWN).to_json()),
        "signed_value_time",
    ),
]


@pytest.mark.parametrize(("lie", "code"), LIES, ids=range(len(LIES)))
def test_every_lie_is_found(lie: Callable[[Body], None], code: str) -> None:
    told = json.loads(json.dumps(body(1)))
    lie(told)
    assert code in codes(told)


# --- Of a meter that signs --------------------------------------------------------------------------


def metered(**changes: Any) -> Body:
    """Two records of a meter's own key, as one that signs begin and end apart hands them out."""
    marks = (ocmf.Mark("B", 104_211, BEGIN), ocmf.Mark("E", 116_711, END))
    values = [value(n, key=STRANGER, marks=(mark,)).json() for n, mark in enumerate(marks, 7)]
    signed = [each | {"signed_by": "meter"} for each in values]
    return body(1) | {"signed_values": signed, "meter_signing": None} | changes


def test_a_meters_own_records_are_accepted_and_take_no_page_of_ours() -> None:
    in_hex = metered()
    in_hex["signed_values"][0]["text"] = in_hex["signed_values"][0]["text"].encode().hex()
    assert codes(body(1), metered(), in_hex, body(2)) == []


def test_what_a_meter_signed_otherwise_is_found_unless_the_record_says_so() -> None:
    other = metered(energy_wh=12_502)
    assert codes(other) == ["signed_value_differs"]
    named = {"id": "STA-063", "why": "the meter has signed 12500 Wh"}
    assert codes(other | {"meter_signing": named}) == []
    forged = metered()
    forged["signed_values"][1]["text"] = forged["signed_values"][1]["text"].replace("116", "117")
    assert codes(forged) == ["signed_value_forged"]
