"""The four-way check must accept a true story and find every planted lie."""

from __future__ import annotations

import copy
import hashlib
import json
import sqlite3
import struct
import sys
from collections.abc import Callable
from contextlib import closing
from dataclasses import replace
from fractions import Fraction
from pathlib import Path
from typing import Any

import pytest
from joserfc.jwk import ECKey
from support.station_records import RecordChain, payload_of

from hil.__main__ import main
from hil.backend.database import Database
from hil.backend.jose import load_public
from hil.verify import Evidence, Movement, Record, TariffRules, Truth, check
from hil.verify.cards import card_numbers
from hil.verify.price import load_tariff
from hil.verify.receipt import parse
from hil.verify.sessions import resolution_wh

TARIFF = """
id: adhoc
currency: EUR
prices: including_vat
vat_percent: "19"
rounding: half_up
energy: [{price_kwh: "0.4900"}]
idle_time: [{price_minute: "0.10"}]
fixed: [{price: "0.35"}]
"""
START_WH, MIDDLE_WH, END_WH = 1_042_118, 1_062_815, 1_172_815


def price_json(total: str, net: str, exact: str) -> dict[str, Any]:
    return {
        "currency": "EUR",
        "exact": {"total": {"excl": net, "incl": exact}},
        "rounded": {"total": {"excl": net, "incl": total}},
        "rounding": "half_up",
    }


def session(name: str, receipt: int, **values: Any) -> dict[str, Any]:
    made = {
        "id": name,
        "evse": "DE*ABC*E1",
        "terminal": "t1",
        "state": "closed",
        "started": f"2026-11-21T10:0{receipt}:00.000Z",
        "ended": None,
        "energy_wh": 0,
        "currency": "EUR",
        "held_minor": 5000,
        "cost_minor": None,
        "captured_minor": 0,
        "released_minor": 5000,
        "shortfall_minor": 0,
        "owed_minor": 0,
        "payment": "cancelled",
        "tariff_id": "adhoc",
        "hold": {
            "terminal_id": "52500001",
            "receipt": receipt,
            "turnover": 1,
            "trace": 100 + receipt,
            "date": "1121",
            "time": "100000",
        },
        "begin_wh": None,
        "end_wh": None,
        "charging_ms": 0,
        "idle_ms": 0,
        "price": {},
        "records": [],
    }
    return made | values


def receipt_of(s: dict[str, Any]) -> str:
    """As the agent prints it (tests/hil/test_verify_receipt.py reads a real one)."""

    def money(minor: int) -> str:
        return f"{minor // 100}.{minor % 100:02d}"

    def kwh(wh: int) -> str:
        return f"{wh / 1000:.3f} kWh"

    net = int(s["price"]["rounded"]["total"]["excl"].replace(".", ""))
    energy = s["cost_minor"] - 35 - s["idle_ms"] // 6000
    rows = [
        ("Meter start", kwh(s["begin_wh"])),
        ("Meter stop", kwh(s["end_wh"])),
        ("-" * 40, ""),
        (f"Energy {kwh(s['energy_wh'])} x 0.49", money(energy)),
        ("Idle 1:30 min" if s["idle_ms"] else "Idle 0:00 min", ""),
        ("  x 0.10", money(s["idle_ms"] // 6000)),
        ("Start fee", "0.35"),
        ("-" * 40, ""),
        ("TOTAL EUR", money(s["cost_minor"])),
        ("incl. VAT 19%", money(s["cost_minor"] - net)),
        ("Net", money(net)),
        ("-" * 40, ""),
        ("Held", money(s["held_minor"])),
        ("Charged", money(s["captured_minor"])),
        ("Released", money(s["released_minor"])),
    ]
    if s["shortfall_minor"]:
        rows.append(("Not collected", money(s["shortfall_minor"])))
    return "\n".join(f"{label:<30}{value:>10}".rstrip() for label, value in rows)


class World:
    """Two charged sessions (the second costs more than its hold), one cancelled, and one hold that the
    terminal took back by itself."""

    def __init__(self, folder: Path) -> None:
        self.chain = RecordChain()
        self.pem = self.chain.write_public(folder / "station.pem")
        self.tariff_file = folder / "adhoc.yaml"
        self.tariff_file.write_text(TARIFF)
        self.sessions = [
            session(
                "s1",
                1,
                energy_wh=MIDDLE_WH - START_WH,
                begin_wh=START_WH,
                end_wh=MIDDLE_WH,
                charging_ms=60_000,
                idle_ms=90_000,  # 20.697 kWh and 1.5 minutes: 10.14153 + 0.15 + 0.35
                cost_minor=1064,
                captured_minor=1064,
                released_minor=3936,
                payment="captured",
                price=price_json("10.64", "8.94", "10.64153"),
            ),
            session("s2", 3),
            session(
                "s3",
                4,
                energy_wh=END_WH - MIDDLE_WH,
                begin_wh=MIDDLE_WH,
                end_wh=END_WH,
                cost_minor=5425,
                captured_minor=5000,
                released_minor=0,
                shortfall_minor=425,
                payment="captured",
                price=price_json("54.25", "45.59", "54.25"),
            ),
        ]
        for each in self.sessions:
            self._sign(each)
        self.movements = [
            movement("hold", 1, 1),
            movement("capture", 2, 1, amount_minor=1064, released_minor=3936),
            movement("hold", 3, 3),
            movement("release", 5, 3),
            movement("hold", 4, 4),
            movement("capture", 6, 4, amount_minor=5000, released_minor=0),
            movement("hold", 7, 7),
            movement("auto_reversal", 7, 7),
        ]

    def _sign(self, s: dict[str, Any]) -> None:
        common = {k: s[k] for k in ("evse", "currency", "held_minor", "shortfall_minor")}
        common |= {"session_id": s["id"]}
        refers = None
        if s["cost_minor"] is not None:
            self.chain.add(
                "session",
                **common,
                energy_wh=s["energy_wh"],
                cost_minor=s["cost_minor"],
                to_capture_minor=min(s["cost_minor"], s["held_minor"]),
                meter={"begin_wh": s["begin_wh"], "end_wh": s["end_wh"]},
            )
            refers = len(self.chain.texts)
        self.chain.add(
            "settlement",
            **common,
            **{k: s[k] for k in ("captured_minor", "released_minor", "owed_minor")},
            outcome=s["payment"],
            refers_seq=refers,
            hold=s["hold"],
        )
        first = refers or len(self.chain.texts)
        s["records"] = [
            {"seq": n, "type": payload_of(text)["type"], "hash": sha(text)}
            for n, text in enumerate(self.chain.texts, 1)
            if n >= first
        ]

    def evidence(self) -> Evidence:
        chain = self.chain
        return Evidence(
            movements=list(self.movements),
            records=[
                Record(chain.station, chain.chain, n, sha(t), t, payload_of(t)["type"])
                for n, t in enumerate(chain.texts, 1)
            ],
            sessions=copy.deepcopy(self.sessions),
            receipts={s["id"]: receipt_of(s) for s in self.sessions if s["cost_minor"] is not None},
            tariffs={"adhoc": load_tariff(self.tariff_file)},
            keys={chain.kid: load_public(self.pem)},
            truth=Truth(START_WH, (END_WH - START_WH) * 1000),
            texts={"session s1": json.dumps(self.sessions[0])},
        )


def movement(kind: str, receipt: int, hold_receipt: int, **values: Any) -> Movement:
    made = Movement(kind, receipt, hold_receipt, 100 + receipt, 1, 5000, None, "EUR", "52500001")
    return replace(made, **values)


def sha(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


@pytest.fixture
def world(tmp_path: Path) -> World:
    return World(tmp_path)


def test_a_true_story_has_no_error(world: World) -> None:
    findings = check(world.evidence())
    assert [(f.code, f.severity) for f in findings] == [("hold_taken_back", "note")]


def test_a_hold_that_the_terminal_undid_was_not_held(world: World) -> None:
    """The agent stored the approval, its answer never arrived."""
    nothing = {"held_minor": 0, "released_minor": 0, "payment": "not_held"}
    world.sessions.append(session("s7", 7, **nothing))
    world._sign(world.sessions[-1])
    assert [f.code for f in check(world.evidence())] == []
    lie = world.evidence()
    lie.sessions[-1]["captured_minor"] = 100
    assert "held_differs" in {f.code for f in check(lie)}
    never_undone = world.evidence()
    never_undone.movements.pop()
    assert "held_differs" in {f.code for f in check(never_undone)}


def raised(e: Evidence) -> None:
    """Session s1's hold was raised by 10.00 and captured of the whole; one more raise was undone."""
    e.movements[1:1] = [
        movement("increment", 20, 1, amount_minor=1000),
        movement("increment", 21, 1, amount_minor=700),
        movement("auto_reversal", 21, 1, amount_minor=700, reverses="increment"),
    ]
    _amend(e.movements, 4, released_minor=4936)
    e.sessions[0] |= {"held_minor": 6000, "released_minor": 4936}


def test_a_hold_is_what_its_increments_made_it(world: World) -> None:
    evidence = world.evidence()
    raised(evidence)
    assert not {"held_differs", "split_differs", "released_differs"} & {
        f.code for f in check(evidence)
    }
    assert "movement_without_hold" not in {f.code for f in check(evidence)}
    kept = world.evidence()
    raised(kept)
    del kept.movements[3]
    assert {"held_differs", "split_differs"} <= {f.code for f in check(kept)}


def test_ends_that_were_undone_reversals_and_ends_of_day(world: World) -> None:
    fine = world.evidence()
    fine.movements[2:2] = [
        movement("auto_reversal", 2, 1, amount_minor=1064, reverses="capture"),
        movement("capture", 30, 1, amount_minor=1064, released_minor=3936),
    ]
    fine.movements.append(movement("end_of_day", 30, 0))
    assert [f.code for f in check(fine)] == ["hold_taken_back"]
    given_back = world.evidence()
    given_back.movements.append(movement("reversal", 31, 1, amount_minor=1064, reverses="capture"))
    assert "captured_differs" in {f.code for f in check(given_back)}
    expired = world.evidence()
    expired.movements[1] = movement("expiry", 1, 1)
    assert "captured_differs" in {f.code for f in check(expired)}
    charged = world.evidence()
    charged.movements.append(movement("payment", 32, 32))
    assert "movement_without_hold" in {f.code for f in check(charged)}


# --- planted lies: each must be found, by name ------------------------------------------------------


def _amend(list_: list[Any], n: int, **values: Any) -> None:
    list_[n] = replace(list_[n], **values)


def doubled_capture(e: Evidence) -> None:
    e.movements.insert(2, replace(e.movements[1], receipt=9, trace=109))


def captured_too_much(e: Evidence) -> None:
    _amend(e.movements, 1, amount_minor=5100, released_minor=-100)


def captured_but_agent_says_less(e: Evidence) -> None:
    _amend(e.movements, 1, amount_minor=2000, released_minor=3000)


def rest_not_released(e: Evidence) -> None:
    _amend(e.movements, 1, released_minor=0)


def hold_left_open(e: Evidence) -> None:
    del e.movements[3]


def hold_nobody_knows(e: Evidence) -> None:
    e.movements.append(movement("hold", 8, 8))


def foreign_hold_captured(e: Evidence) -> None:
    e.movements += [movement("hold", 8, 8), movement("capture", 9, 8, released_minor=0)]


def capture_without_hold(e: Evidence) -> None:
    e.movements.append(movement("capture", 9, 77, released_minor=0))


def hold_the_acquirer_never_had(e: Evidence) -> None:
    del e.movements[2:4]


def hold_of_another_batch(e: Evidence) -> None:
    _amend(e.movements, 2, turnover=2)


def other_amount_held(e: Evidence) -> None:
    _amend(e.movements, 2, amount_minor=4000)
    _amend(e.movements, 3, amount_minor=4000)


def ended_in_another_currency(e: Evidence) -> None:
    _amend(e.movements, 1, currency="CHF")


def two_sessions_on_one_hold(e: Evidence) -> None:
    e.sessions[1]["hold"] = e.sessions[0]["hold"]


def missing_last_record(e: Evidence) -> None:
    del e.records[-1]


def gap_in_the_chain(e: Evidence) -> None:
    del e.records[1]


def bad_signature(e: Evidence) -> None:
    body, signature = e.records[2].jws.rsplit(".", 1)
    other = e.records[0].jws.rsplit(".", 1)[1]
    assert signature != other
    text = f"{body}.{other}"
    _amend(e.records, 2, jws=text, hash=sha(text))


def signed_by_a_stranger(e: Evidence) -> None:
    e.keys.clear()


def hash_of_something_else(e: Evidence) -> None:
    _amend(e.records, 2, hash="0" * 64)


def filed_under_another_number(e: Evidence) -> None:
    _amend(e.records, 4, seq=6)


def fork_at_the_back_end(e: Evidence) -> None:
    e.forks = 1


def refused_at_the_back_end(e: Evidence) -> None:
    e.refused.append("DE*ABC*S1 3: bad_signature")


def session_the_agent_lost(e: Evidence) -> None:
    del e.sessions[0]


def wrong_price(e: Evidence) -> None:
    e.sessions[0]["energy_wh"] += 1000


def price_that_says_otherwise(e: Evidence) -> None:
    e.sessions[0]["price"] = price_json("10.65", "8.94", "10.64153")


def wrong_exact_price(e: Evidence) -> None:
    e.sessions[0]["price"] = price_json("10.64", "8.94", "10.6415")


def wrong_tax(e: Evidence) -> None:
    e.sessions[0]["price"] = price_json("10.64", "9.94", "10.64153")


def unknown_tariff(e: Evidence) -> None:
    e.tariffs.clear()


def shortfall_hidden(e: Evidence) -> None:
    e.sessions[2]["shortfall_minor"] = 0


def charged_less_than_cost(e: Evidence) -> None:
    e.sessions[0] |= {"captured_minor": 1000, "released_minor": 4000}
    _amend(e.movements, 1, amount_minor=1000, released_minor=4000)


def given_away(e: Evidence) -> None:
    e.sessions[0] |= {"captured_minor": 0, "released_minor": 5000, "payment": "released"}


def meter_ran_on(e: Evidence) -> None:
    assert e.truth is not None
    e.truth = replace(e.truth, energy_mwh=e.truth.energy_mwh + 3000)


def energy_between_sessions(e: Evidence) -> None:
    e.sessions[2]["begin_wh"] += 5


def wrong_total_on_receipt(e: Evidence) -> None:
    e.receipts["s1"] = e.receipts["s1"].replace(
        "TOTAL EUR                          10.64", "TOTAL 1.06"
    )


def wrong_line_on_receipt(e: Evidence) -> None:
    e.receipts["s1"] = e.receipts["s1"].replace("0.35", "0.36")


def wrong_tax_on_receipt(e: Evidence) -> None:
    e.receipts["s1"] = e.receipts["s1"].replace("8.94", "8.93")


def wrong_time_on_receipt(e: Evidence) -> None:
    e.receipts["s1"] = e.receipts["s1"].replace("1:30 min", "1:31 min")


def shortfall_not_printed(e: Evidence) -> None:
    e.receipts["s3"] = e.receipts["s3"].replace("Not collected", "Thank you")


def list_that_says_otherwise(e: Evidence) -> None:
    e.contradictions.append("s1: held_minor: list 5000, show 4000")


def wrong_energy_on_receipt(e: Evidence) -> None:
    e.receipts["s1"] = e.receipts["s1"].replace("20.697", "20.698")


def wrong_meter_on_receipt(e: Evidence) -> None:
    e.receipts["s3"] = e.receipts["s3"].replace("1172.815", "1172.816")


def released_not_printed(e: Evidence) -> None:
    text = e.receipts["s1"]
    e.receipts["s1"] = "\n".join(x for x in text.splitlines() if not x.startswith("Released"))


def no_receipt(e: Evidence) -> None:
    del e.receipts["s3"]


def card_number_in_a_log(e: Evidence) -> None:
    e.texts["log"] = '{"pan": "4111111111111111"}'


LIES: list[tuple[Callable[[Evidence], None], str]] = [
    (doubled_capture, "hold_ended_twice"),
    (captured_too_much, "captured_over_held"),
    (captured_but_agent_says_less, "captured_differs"),
    (rest_not_released, "split_differs"),
    (hold_left_open, "hold_open"),
    (hold_nobody_knows, "hold_without_session"),
    (foreign_hold_captured, "hold_without_session"),
    (capture_without_hold, "movement_without_hold"),
    (hold_the_acquirer_never_had, "session_without_hold"),
    (hold_of_another_batch, "session_without_hold"),
    (other_amount_held, "held_differs"),
    (ended_in_another_currency, "currency_differs"),
    (two_sessions_on_one_hold, "hold_shared"),
    (missing_last_record, "record_missing"),
    (missing_last_record, "settlement_missing"),
    (gap_in_the_chain, "chain_gap"),
    (bad_signature, "bad_signature"),
    (signed_by_a_stranger, "unknown_key"),
    (hash_of_something_else, "hash_differs"),
    (filed_under_another_number, "misfiled"),
    (fork_at_the_back_end, "fork"),
    (refused_at_the_back_end, "refused"),
    (session_the_agent_lost, "record_without_session"),
    (session_the_agent_lost, "hold_without_session"),
    (wrong_price, "price_differs"),
    (wrong_price, "record_differs"),
    (wrong_price, "energy_differs"),
    (price_that_says_otherwise, "price_differs"),
    (wrong_exact_price, "price_differs"),
    (wrong_tax, "tax_differs"),
    (unknown_tariff, "tariff_unknown"),
    (shortfall_hidden, "shortfall_differs"),
    (charged_less_than_cost, "captured_not_cost"),
    (given_away, "cost_given_away"),
    (meter_ran_on, "energy_truth_differs"),
    (energy_between_sessions, "energy_outside_session"),
    (wrong_total_on_receipt, "receipt_differs"),
    (wrong_line_on_receipt, "receipt_sum_differs"),
    (wrong_tax_on_receipt, "receipt_sum_differs"),
    (wrong_time_on_receipt, "receipt_differs"),
    (shortfall_not_printed, "receipt_lacks"),
    (list_that_says_otherwise, "list_show_differ"),
    (wrong_energy_on_receipt, "receipt_differs"),
    (wrong_meter_on_receipt, "receipt_differs"),
    (released_not_printed, "receipt_lacks"),
    (no_receipt, "receipt_missing"),
    (card_number_in_a_log, "card_number"),
]


@pytest.mark.parametrize(("lie", "code"), LIES, ids=lambda value: getattr(value, "__name__", value))
def test_a_planted_lie_is_found(world: World, lie: Callable[[Evidence], None], code: str) -> None:
    evidence = world.evidence()
    lie(evidence)
    errors = [finding.code for finding in check(evidence) if finding.severity == "error"]
    assert code in errors


def test_a_record_that_does_not_link_is_found(world: World) -> None:
    world.chain.add("settlement", prev="f" * 64, session_id="s2", outcome="cancelled")
    codes = {finding.code for finding in check(world.evidence())}
    assert {"chain_broken", "settled_twice", "record_foreign"} <= codes


def test_a_second_session_record_is_found(world: World) -> None:
    world.chain.add("session", session_id="s1")
    codes = {finding.code for finding in check(world.evidence())}
    assert "session_record_doubled" in codes


def test_a_settlement_that_refers_to_another_record_is_found(world: World) -> None:
    world.chain.texts.pop()
    world.chain.add("settlement", session_id="s3", outcome="captured", refers_seq=1)
    assert "reference_wrong" in {finding.code for finding in check(world.evidence())}


def test_an_open_hold_that_is_listed_is_a_note_unless_all_must_be_closed(world: World) -> None:
    evidence = world.evidence()
    del evidence.movements[3]
    evidence.sessions[1] |= {"state": "release_due", "payment": "release_due"}
    evidence.sessions[1] |= {"released_minor": 0}
    assert [f.code for f in check(evidence) if f.severity == "error"] == []
    evidence.must_be_closed = True
    assert [f.code for f in check(evidence) if f.severity == "error"] == ["session_not_closed"]


BY_HAND = {
    "payment": "written_off",
    "why": "ended at the counter",
    "released_minor": 0,
    "events": [{"name": "tapped"}, {"name": "closed_by_hand"}],
}


def about_holds(evidence: Evidence) -> list[tuple[str, str]]:
    return [(f.code, f.severity) for f in check(evidence) if f.where == "s2"]


def closed_by_hand(world: World, *, ended: bool, **changes: Any) -> Evidence:
    """The cancelled session, taken off the list by a person."""
    evidence = world.evidence()
    assert evidence.sessions[1]["payment"] == "cancelled"
    if not ended:
        receipt = evidence.sessions[1]["hold"]["receipt"]
        evidence.movements = [
            m for m in evidence.movements if m.kind == "hold" or m.hold_receipt != receipt
        ]
    evidence.sessions[1] |= BY_HAND | changes
    return evidence


@pytest.mark.parametrize("ended", [True, False])
def test_a_hold_of_a_session_closed_by_hand_is_a_note_with_its_reason(
    world: World, ended: bool
) -> None:
    evidence = closed_by_hand(world, ended=ended)
    assert ("closed_by_hand", "note") in about_holds(evidence)
    found = {f.code: f.text for f in check(evidence)}
    became = "0 captured and 5000 released" if ended else "still open"
    assert became in found["closed_by_hand"] and "ended at the counter" in found["closed_by_hand"]
    errors = {f.code for f in check(evidence) if f.severity == "error"}
    assert not errors & {"hold_open", "released_differs", "captured_differs"}


def test_the_word_without_its_event_excuses_nothing(world: World) -> None:
    evidence = closed_by_hand(world, ended=False, events=[{"name": "tapped"}])
    assert ("hold_open", "error") in about_holds(evidence)


def test_what_the_station_claims_to_have_moved_is_still_compared(world: World) -> None:
    for ended in (True, False):
        evidence = closed_by_hand(world, ended=ended, captured_minor=1)
        assert ("captured_differs", "error") in about_holds(evidence)
    evidence = closed_by_hand(world, ended=False, released_minor=5000)
    assert ("released_differs", "error") in about_holds(evidence)


# --- the parts --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("rounding", "basis", "minor"),
    [
        ("half_up", "including_vat", 25),
        ("half_even", "including_vat", 24),
        ("down", "including_vat", 24),
        ("half_up", "excluding_vat", 29),
    ],
)
def test_price_by_every_rule(tmp_path: Path, rounding: str, basis: str, minor: int) -> None:
    file = tmp_path / "t.yaml"
    text = TARIFF.replace("half_up", rounding).replace("including_vat", basis)
    file.write_text(text.replace('price: "0.35"', 'price: "0"'))
    rules = load_tariff(file)
    assert rules.gross(500, 0, 0) == Fraction("0.245") * (
        1 if rules.includes_vat else Fraction("1.19")
    )
    assert rules.round_minor(rules.gross(500, 0, 0)) == minor


def test_without_energy_nothing_is_due(tmp_path: Path) -> None:
    file = tmp_path / "t.yaml"
    file.write_text(TARIFF)
    rules = load_tariff(file)
    assert rules.gross(0, 600_000, 600_000) == 0
    assert rules.gross(1, 0, 600_000) == Fraction("0.00049") + 1 + Fraction("0.35")


def test_a_start_fee_for_nothing_is_found(world: World) -> None:
    evidence = world.evidence()
    nothing = price_json("0.00", "0.00", "0")
    unmoved = {"energy_wh": 0, "begin_wh": START_WH, "end_wh": START_WH, "price": nothing}
    evidence.sessions[0] |= unmoved | {"cost_minor": 0}
    assert "price_differs" not in {f.code for f in check(evidence)}
    evidence.sessions[0] |= {"cost_minor": 35}
    assert "price_differs" in {f.code for f in check(evidence)}


@pytest.mark.parametrize(
    ("old", "new"), [('"0.4900"', "0.49"), ("half_up", "up"), ("fixed:", "minimum:")]
)
def test_a_tariff_it_does_not_understand_is_refused(tmp_path: Path, old: str, new: str) -> None:
    file = tmp_path / "t.yaml"
    file.write_text(TARIFF.replace(old, new))
    with pytest.raises(ValueError, match=r"expected|rounding|quoted"):
        load_tariff(file)


def test_receipts_are_read_in_both_languages_and_with_the_number_below() -> None:
    german = """
    Energie                 20,697 kWh x 0,49
    Zählerstand Beginn           1042,118 kWh
    Zählerstand Ende             1062,815 kWh
    SUMME EUR
                                        10,64
    Reserviert                          50,00
    Belastet                            10,64
    Freigegeben                         39,36
    """
    assert parse(german, "EUR") == {
        "energy_wh": 20697,
        "begin_wh": 1042118,
        "end_wh": 1062815,
        "cost_minor": 1064,
        "held_minor": 5000,
        "captured_minor": 1064,
        "released_minor": 3936,
    }


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("pan 4111111111111111 end", True),
        ("card 5555 5555 5555 4444", True),
        ("x3782-8224-6310-005y", False),
        ("4111111111111112", False),  # no Luhn sum
        ('"utc_ms": 1795255200005', False),  # a time, although its Luhn sum fits
        ("e4111111111111111f", False),  # in a hash
        ("4222222222222", True),
        ("0.4111111111111111", False),  # digits of an exact price
    ],
)
def test_card_numbers_are_seen_and_lookalikes_are_not(text: str, found: bool) -> None:
    assert bool(card_numbers(text)) is found


def test_the_tolerance_is_what_a_float32_register_can_show() -> None:
    (up,) = struct.unpack(
        ">f", struct.pack(">I", struct.unpack(">I", struct.pack(">f", 10_000.0))[0] + 1)
    )
    assert resolution_wh(10_000_000) == 1 + Fraction(up - 10_000.0) * 1000
    assert 1 < resolution_wh(1_042_118) < Fraction(113, 100)
    assert resolution_wh(65_536_001) > 8


# --- from files and commands ------------------------------------------------------------------------

FAKE_VOLTILL = """
import json, pathlib, sys
folder = pathlib.Path({folder!r})
assert sys.argv[1] == "sessions"
options = sys.argv[3:]
assert options[options.index("--state") + 1] == "the-state"
sessions = json.loads((folder / "sessions.json").read_text())
if sys.argv[2] == "list":
    keys = ("id", "state", "held_minor", "cost_minor")
    print(json.dumps([{{k: s[k] for k in keys}} for s in sessions]))
elif sys.argv[2] == "show":
    print(json.dumps(next(s for s in sessions if s["id"] == sys.argv[3])))
else:
    assert options[options.index("--config") + 1] == "the-config"
    print((folder / f"receipt-{{sys.argv[3]}}").read_text())
"""


def write_sources(world: World, folder: Path) -> list[str]:
    """Everything as files; the arguments of `python -m hil verify`."""
    evidence = world.evidence()
    rows = [
        {key: getattr(m, key) for key in Movement.__slots__ if getattr(m, key) is not None}
        for m in evidence.movements
    ]
    (folder / "acquirer.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    Database(folder / "db.sqlite").close()
    with closing(sqlite3.connect(folder / "db.sqlite")) as db, db:
        for r in evidence.records:
            row = (r.station, r.chain, r.seq, r.hash, r.jws, r.type, "now")
            db.execute("INSERT INTO record VALUES (?,?,?,?,?,?,?)", row)
    (folder / "sessions.json").write_text(json.dumps(evidence.sessions))
    for name, text in evidence.receipts.items():
        (folder / f"receipt-{name}").write_text(text)
    script = folder / "voltill.py"
    script.write_text(FAKE_VOLTILL.format(folder=str(folder)))
    truth = folder / "truth.json"
    assert evidence.truth is not None
    truth.write_text(
        json.dumps({"start_wh": START_WH, "energy_truth_mwh": evidence.truth.energy_mwh})
    )
    return [
        *("verify", "--ledger", str(folder / "acquirer.jsonl"), "--db", str(folder / "db.sqlite")),
        *("--voltill", f"{sys.executable} {script}", "--state", "the-state"),
        *("--config", "the-config", "--tariff", str(world.tariff_file)),
        *("--trust", str(world.pem), "--energy-truth", str(truth)),
    ]


def test_the_command_says_all_agree_and_exits_0(
    world: World, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = write_sources(world, tmp_path)
    assert main(arguments) == 0
    out = capsys.readouterr().out
    assert "52500001/1/1  50.00 EUR  10.64" in out
    assert "all four agree: 3 sessions, 4 holds, 5 records, 2 receipts" in out
    assert main([*arguments, "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["ok"] is True


def test_the_command_names_a_lie_and_exits_1(
    world: World, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = write_sources(world, tmp_path)
    receipt = tmp_path / "receipt-s1"
    receipt.write_text(receipt.read_text() + "\n4111 1111 1111 1111")
    assert main(arguments) == 1
    out = capsys.readouterr().out
    assert "error: card_number: receipt s1: 16 digits that end in 1111" in out
    assert "4111 1111 1111 1111" not in out
    assert "THEY DISAGREE" in out


def test_a_source_that_cannot_be_read_exits_2(
    world: World, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = write_sources(world, tmp_path)
    (tmp_path / "acquirer.jsonl").write_text('{"kind": "hold"}\n')
    assert main(arguments) == 2
    assert "acquirer's ledger, line 1" in capsys.readouterr().err
    (tmp_path / "db.sqlite").unlink()
    assert main(arguments) == 2


def test_keys_of_joserfc_and_ours_have_the_same_name(world: World) -> None:
    evidence = world.evidence()
    assert list(evidence.keys) == [world.chain.kid]
    assert isinstance(world.chain.key, ECKey)
    assert isinstance(evidence.tariffs["adhoc"], TariffRules)
