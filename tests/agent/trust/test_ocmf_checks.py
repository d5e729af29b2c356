"""What legal metrology asks of records, one fault at a time; pyocmf says whether it sees one, too."""

from __future__ import annotations

import json
import re
import warnings
from collections.abc import Callable, Mapping
from typing import Any

import pyocmf
import pytest
from pyocmf.compliance import check_eichrecht_payload, check_eichrecht_transaction
from support.tree import ROOT

from agent.trust import ocmf
from agent.trust.ocmf import Expected, Finding, Record
from agent.trust.ocmf.checks import billed, errors
from agent.trust.ocmf.findings import card_places, shown, without_cards
from agent.trust.ocmf.record import Time
from agent.trust.ocmf.series import transactions

Fields = dict[str, Any]
CARD = "4111111111111111"  # the schemes' own test number
SECTION = '{"SD":"3006020101020101"}'


def reading(tx: str = "B", rv: object = 104.211, at: str = "10:00:00", **more: object) -> Fields:
    return {
        "TM": f"2026-08-21T{at},000+0200 S",
        "TX": tx,
        "RV": rv,
        "RI": "1-0:1.8.0",
        "RU": "kWh",
        "EF": "",
        "ST": "G",
        **more,
    }


def end(**more: object) -> Fields:
    return reading(**{"tx": "E", "rv": 116.711, "at": "10:30:00", **more})  # type: ignore[arg-type]


def body(*readings: Fields, **more: object) -> Fields:
    return {
        "FV": "1.3",
        "GS": "S1",
        "PG": "T41",
        "MS": "M1",
        "IS": True,
        "IL": "TRUSTED",
        "IF": ["RFID_NONE", "OCPP_NONE"],
        "IT": "CARD_TXN_NR",
        "ID": "52523535-231",
        "TT": "0.59 EUR/kWh",
        "RD": list(readings) or [reading(), end()],
        **more,
    }


def text(fields: Mapping[str, object]) -> str:
    return f"OCMF|{json.dumps({k: v for k, v in fields.items() if v is not None})}|{SECTION}"


def record(*readings: Fields, **more: object) -> Record:
    return ocmf.parse(text(body(*readings, **more)))


def told(findings: list[Finding]) -> list[tuple[str, str]]:
    """(level, code), each once."""
    return list(dict.fromkeys((finding.level, finding.code) for finding in findings))


def theirs(made: Record) -> bool:
    """Whether pyocmf sees an error."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", pyocmf.SpecWarning)
        payload = pyocmf.OCMF.from_string(made.text).payload
        return any(issue.severity == "error" for issue in check_eichrecht_payload(payload))


def test_a_faultless_record_has_no_findings() -> None:
    assert ocmf.eichrecht(record()) == []


# Fault -> (record, findings). The findings in order; pyocmf must see an error exactly where we do, unless the
# name ends in "!", where the reason stands beside it.
FAULTS: dict[str, tuple[Callable[[], Record], list[tuple[str, str]]]] = {
    "status": (lambda: record(reading(ST="F"), end()), [("error", "meter_status")]),
    "status of the end": (
        lambda: record(reading(), end(ST="S")),
        [("error", "meter_status")],
    ),
    "no status": (lambda: record(reading(ST=None), end(ST=None)), [("error", "meter_status")]),
    "energy flag": (lambda: record(reading(EF="E"), end(EF="")), [("error", "energy_error")]),
    "time flag": (lambda: record(reading(EF="t"), end(EF="")), [("warning", "time_error")]),
    "odd flag": (lambda: record(reading(EF="q"), end(EF="")), [("warning", "error_flags")]),
    "identification failed": (lambda: record(IL="MISMATCH"), [("error", "identification")]),
    "identification invalid": (lambda: record(IL="INVALID"), [("error", "identification")]),
    "identification outdated": (lambda: record(IL="OUTDATED"), [("error", "identification")]),
    "identification unknown": (lambda: record(IL="UNKNOWN "), [("error", "identification")]),
    "identification odd": (lambda: record(IL="SURE"), [("warning", "identification")]),
    "SEAL's flag": (lambda: record(IF=["OCCP_AUTH"]), [("warning", "identification")]),
    "too many flags": (lambda: record(IF=["RFID_NONE"] * 5), [("warning", "identification")]),
    "flags that are no list!": (
        lambda: record(IF="RFID_NONE"),
        [("warning", "identification")],
    ),
    "odd type": (lambda: record(IT="CARD"), [("warning", "identification")]),
    "not said whether identified": (lambda: record(IS=None), [("warning", "identification")]),
    "clock informative": (
        lambda: record(reading(TM="2026-08-21T10:00:00,000+0200 I"), end()),
        [("warning", "time_status")],
    ),
    "clock not set": (
        lambda: record(reading(), end(TM="2026-08-21T10:30:00,000+0200 U")),
        [("warning", "time_status")],
    ),
    "clock not told": (
        lambda: record(reading(TM="2026-08-21T08:00:00,000Z"), end()),
        [("warning", "time_status")],
    ),
    "time backwards": (
        lambda: record(reading(), end(at="09:59:59")),
        [("error", "time_backwards")],
    ),
    "end below begin": (lambda: record(reading(), end(rv=104.21)), [("error", "end_below_begin")]),
    "other register": (
        lambda: record(reading(), end(RI="1-0:1.8.1")),
        [("error", "register_differs")],
    ),
    "other unit": (
        lambda: record(reading(), end(RU="Wh", rv=116711)),
        [("error", "unit_differs")],
    ),
    "no register": (
        lambda: record(reading(RI="1-b"), end(RI="1-b")),
        [("error", "register")],
    ),
    "power": (
        lambda: record(reading(RI="1-0:1.7.0"), end(RI="1-0:1.7.0")),
        [("error", "register")],
    ),
    "another F": (
        lambda: record(reading(RI="1-0:1.8.0*5"), end(RI="1-0:1.8.0*5")),
        [("error", "register")],
    ),
    "two begins": (lambda: record(reading(), reading(), end()), [("error", "several_begins")]),
    "two ends": (lambda: record(reading(), end(), end(TX="L")), [("error", "several_ends")]),
    "aborted": (lambda: record(reading(), end(TX="A")), [("warning", "ended_badly")]),
    "power loss": (lambda: record(reading(), end(TX="P")), [("warning", "ended_badly")]),
    "begin only": (lambda: record(reading()), [("warning", "begin_only")]),
    "end only": (lambda: record(end()), [("warning", "end_only")]),
    "value is text": (
        lambda: record(reading(rv="     104.211"), end()),
        [("warning", "value_is_text")],
    ),
    "no readings": (lambda: record(RD=[]), [("error", "no_readings")]),
    "tariff too long": (lambda: record(TT="x" * 251), [("warning", "tariff_text")]),
    "firmware too long": (lambda: record(CF="x" * 26), [("warning", "firmware")]),
    "odd charge point": (lambda: record(CT="HOUSE"), [("warning", "charge_point")]),
    "format 1.4": (lambda: record(FV="1.4"), [("warning", "format_version")]),
    "format 2": (lambda: record(FV="2.0"), [("warning", "format_version")]),
    "only the gateway's number": (lambda: record(MS=None), [("warning", "serial")]),
    "not ASCII": (
        lambda: ocmf.parse(text(body()).replace("0.59 EUR", "0.59 €")),
        [("warning", "not_ascii")],
    ),
    "key appended": (lambda: ocmf.parse(f"{text(body())}|3059"), [("warning", "key_appended")]),
    "cable loss negative": (
        lambda: record(reading(CL=-1, RI="1-0:B1.8.0"), end(RI="1-0:B1.8.0")),
        [("warning", "cable_loss")],
    ),
    "cable loss at begin": (
        lambda: record(reading(CL=1, RI="1-0:B1.8.0"), end(RI="1-0:B1.8.0", CL=2)),
        [("warning", "cable_loss")],
    ),
    # pyocmf does not look, or takes it for a fault of the format, which it tells otherwise.
    "no page!": (lambda: record(PG=None), [("error", "page")]),
    "page with zeros!": (lambda: record(PG="T041"), [("error", "page")]),
    "no serial number!": (lambda: record(MS=None, GS=None), [("error", "serial")]),
    "an error in between!": (
        lambda: record(reading(), reading(tx="X", at="10:10:00"), end()),
        [("error", "exception")],
    ),
    "time backwards in between!": (
        lambda: record(reading(), reading(tx="C", at="09:10:00"), end()),
        [("error", "time_backwards")],
    ),
    "no reason!": (
        lambda: record(reading(tx="C"), end(TX="C")),
        [("error", "no_begin_no_end")],
    ),
    "other unit for energy!": (
        lambda: record(reading(RU="Ws"), end(RU="Ws")),
        [("error", "unit")],
    ),
    "no value!": (lambda: record(reading(), end(rv=None)), [("error", "value")]),
    "card number!": (lambda: record(ID=CARD), [("error", "card_number")]),
    "card number type!": (lambda: record(IT="ISO7812", ID="12345678"), [("error", "card_number")]),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_each_fault_is_found_and_nothing_else(fault: str) -> None:
    make, expected = FAULTS[fault]
    made = make()
    findings = ocmf.eichrecht(made)
    assert told(findings) == expected
    if not fault.endswith("!"):
        assert theirs(made) == bool(errors(findings))


@pytest.mark.parametrize("rv", ["1" * 60, "1e999", "12,5", "0x10", "", True, [1], "١٢"])
def test_values_that_are_no_number(rv: object) -> None:
    assert ("error", "value") in told(ocmf.eichrecht(record(reading(), end(rv=rv))))


def test_times_that_cannot_be_read() -> None:
    for tm in (
        "",
        "yesterday",
        "2026-13-21T10:00:00,000+0200 S",
        "1899-01-01T00:00:00,000+0000 S",
        5,
    ):
        findings = ocmf.eichrecht(record(reading(TM=tm), end()))
        assert told(findings) == [("error", "time")]


@pytest.mark.parametrize(
    "tm",
    [
        "2026-08-21T10:00:00,000+02:00 S",
        " 2026-08-21T10:00:00.000+0200 S ",
        "2026-08-21T10:00:00,0+0200 S",
        "2026-08-21T10:00:00,000-0330 S",
    ],
)
def test_times_that_deviate_a_little_are_read(tm: str) -> None:
    assert "time" not in dict(told(ocmf.eichrecht(record(reading(TM=tm)))))


def test_the_offset_of_a_time_has_a_sign() -> None:
    utc, west, east = (
        Time.parse(f"2026-08-21T{clock},500{offset} S")
        for clock, offset in (("12:30:00", "+0000"), ("09:00:00", "-0330"), ("14:30:00", "+0200"))
    )
    assert utc is not None and utc == west == east
    assert (utc.at.microsecond, utc.status) == (500_000, "S")


# --- Meters in the field --------------------------------------------------------------------------


def test_bauers_second_register() -> None:
    """RV counts from the begin of the charge in a register of its own; XV, XI and XU hold the meter's."""
    extra = {"RI": "1-0:1.8.0*198", "XV": 13820, "XI": "1-0:1.8.0*255", "XU": "Wh", "RU": "Wh"}
    made = record(reading(rv=0, **extra), end(rv=890, **extra))
    assert told(ocmf.eichrecht(made)) == [("warning", "register")]
    (charge,) = transactions([made])
    assert charge.energy_wh == 890


def test_lems_cable_data_and_its_export_register() -> None:
    cable = {"UC": {"UN": "No_Comp", "UI": 2, "UR": 0}}
    export = {"RV": 4.405, "RI": "1-0:2.8.0", "RU": "kWh", "ST": "G"}
    back = end(RI="1-0:1.8.0")
    made = record(reading(**cable), export, back, {**export, "RV": 4.406})
    assert ocmf.eichrecht(made) == []
    (charge,) = transactions([made])
    assert charge.energy_wh == 12_500


def test_dzgs_seconds_beside_the_energy() -> None:
    seconds = reading(tx="E", RI="01-00:00.08.06.FF", RU="sec", rv="      30")
    made = record(seconds, end(RI="01-00:01.08.00.FF", rv="   9.038"))
    assert told(ocmf.eichrecht(made)) == [("warning", "end_only"), ("warning", "value_is_text")]


def test_compensated_registers_go_before_plain_ones_and_import_before_export() -> None:
    codes = ["1-0:1.8.0", "01-00:B2.08.00", "01-00:B3.08.00", "01-00:C3.08.00", "1-0:1.8.0*198"]
    made = record(*[reading(RI=code) for code in codes])
    assert [one.ri for one in billed(made.readings)] == ["01-00:B3.08.00"]
    assert [one.ri for one in billed(made.readings[:2])] == codes[:2]
    assert [one.ri for one in billed(made.readings[3:4])] == ["01-00:C3.08.00"]
    assert [one.ri for one in billed(made.readings[4:])] == ["1-0:1.8.0*198"]


@pytest.mark.parametrize(
    ("loss", "fine"),
    [
        ({"LN": "cable", "LI": 1, "LR": 2, "LU": "mOhm"}, True),
        ({"LR": 2.5, "LU": "uOhm"}, True),
        ({"LR": 2}, False),
        ({"LU": "mOhm"}, False),
        ({"LR": 2, "LU": "Ohm"}, False),
        ("cable", False),
    ],
)
def test_cable_data(loss: object, fine: bool) -> None:
    expected = [] if fine else [("warning", "cable_loss")]
    assert told(ocmf.eichrecht(record(LC=loss))) == expected


def test_records_without_a_charge_need_neither_user_nor_begin() -> None:
    made = record(reading(tx=None), PG="F7", IS=None, IT=None, ID=None)  # type: ignore[arg-type]
    assert ocmf.eichrecht(made) == []


def test_the_page_names_every_finding_and_every_reason() -> None:
    listed = (ROOT / "docs" / "ocmf.md").read_text()
    code = "\n".join(path.read_text() for path in (ROOT / "agent/trust/ocmf").glob("*.py"))
    findings = set(re.findall(r'(?:error|warning|tell)\(\s*"([a-z_]+)"', code))
    reasons = set(re.findall(r'(?:OcmfRefused|KeyProblem)\(\s*"([a-z_]+)"', code))
    assert len(findings) > 30 and len(reasons) > 5
    assert [
        name for name in sorted(findings | reasons) if not re.search(rf"\b{name}\b", listed)
    ] == []


# --- Card numbers ---------------------------------------------------------------------------------


def test_card_numbers_are_found_anywhere_and_never_shown() -> None:
    made = record(
        reading(XN=int(CARD)), ID=f"card {CARD}", TT="4111 1111 1111 1111", UX={"deep": [CARD, "x"]}
    )
    assert sorted(card_places(made.payload)) == ["ID", "RD[0].XN", "TT", "UX.deep[0]"]
    output = json.dumps(without_cards(made.payload), default=str)
    assert "4111" not in output.replace("*1111", "")
    assert "************1111" in output
    assert CARD not in shown(f"no {CARD} here")


def test_what_is_meant_to_be_a_card_number_is_hidden_even_when_its_check_digit_is_wrong() -> None:
    made = record(IT="ISO7812", ID="4111111111111112")
    assert card_places(made.payload) == ["ID"]
    assert without_cards(made.payload)["ID"] == "************1112"


def test_serial_numbers_are_no_card_numbers() -> None:
    made = record(MS=CARD, GS=CARD)
    assert ocmf.eichrecht(made) == []
    assert without_cards(made.payload)["MS"] == CARD


def test_what_is_shown_moves_no_cursor_and_fills_no_screen() -> None:
    assert shown("\x1b[2Jgone\u202e\n") == "\\x1b[2Jgone\\u202e\\n"
    assert len(shown("x" * 10_000)) == 60


# --- Across records -------------------------------------------------------------------------------


def first(**more: object) -> Record:
    return record(reading(), **more)


def last(**more: object) -> Record:
    return record(end(), PG=more.pop("PG", "T42"), **more)


def test_begin_and_end_in_two_records_make_one_charge() -> None:
    records = [first(), last()]
    (charge,) = transactions(records)
    assert (charge.begin_at, charge.end_at, charge.energy_wh) == (0, 1, 12_500)
    assert ocmf.across(records, whole=True) == []


def test_the_same_record_listed_under_begin_and_end_is_one_charge() -> None:
    """As the transparency software's own sample files do."""
    records = [record(), record()]
    assert ocmf.across(records, whole=True) == []
    assert len(transactions(records)) == 1


ACROSS: dict[str, tuple[Callable[[], list[Record]], list[tuple[str, str]]]] = {
    "swapped": (lambda: [last(), first()], [("error", "page_order")]),
    "page used again": (lambda: [first(), last(PG="T41")], [("error", "page_reused")]),
    "page missing": (lambda: [first(), last(PG="T43")], [("warning", "page_gap")]),
    "meter": (lambda: [first(), last(MS="M2")], [("error", "serial_differs")]),
    "gateway": (lambda: [first(), last(GS="S2")], [("error", "serial_differs")]),
    "charge point": (lambda: [first(CI="A"), last(CI="B")], [("error", "charge_point_differs")]),
    "other customer": (lambda: [first(), last(ID="x")], [("error", "id_differs")]),
    "customer known later": (lambda: [first(ID=""), last()], [("warning", "id_differs")]),
    "tariff": (lambda: [first(), last(TT="0.69 EUR/kWh")], [("error", "tariff_differs")]),
    "less at the end": (
        lambda: [first(), record(end(rv=1), PG="T42")],
        [("error", "end_below_begin")],
    ),
    "earlier at the end": (
        lambda: [first(), record(end(at="09:00:00"), PG="T42")],
        [("error", "time_backwards")],
    ),
    "other register": (
        lambda: [first(), record(end(RI="1-0:1.8.1"), PG="T42")],
        [("error", "register_differs")],
    ),
    "relative begin only": (
        lambda: [record(reading(TM="2026-08-21T10:00:00,000+0200 R")), last()],
        [("warning", "time_status")],
    ),
}


@pytest.mark.parametrize("fault", ACROSS)
def test_each_fault_across_records_is_found_at_the_later_one(fault: str) -> None:
    records = ACROSS[fault][0]()
    findings = ocmf.across(records)
    assert told(findings) == ACROSS[fault][1]
    assert {finding.record for finding in findings} == {2}


@pytest.mark.parametrize(
    "fault", ["meter", "less at the end", "earlier at the end", "other register"]
)
def test_pyocmf_sees_these_faults_too(fault: str) -> None:
    records = ACROSS[fault][0]()
    begin, finish = (pyocmf.OCMF.from_string(one.text).payload for one in records)
    # It compares the gateway's number alone where there is one.
    begin.GS = finish.GS = None
    issues = check_eichrecht_transaction(begin, finish)
    assert [issue for issue in issues if issue.severity == "error"]


def test_a_missing_page_is_an_error_where_the_whole_run_is_given() -> None:
    records = [first(), last(PG="T43")]
    assert told(ocmf.across(records, whole=True)) == [("error", "page_gap")]


def test_each_signer_and_each_context_counts_its_own_pages() -> None:
    records = [
        record(PG="T7", GS="S1"),
        record(PG="T1", GS="S2"),
        record(PG="F1", GS="S1"),
        record(PG="T8", GS="S1"),
        record(PG="T2", GS="S2"),
        record(PG="F2", GS="S1"),
    ]
    assert ocmf.across(records, whole=True) == []


def test_two_connectors_of_one_station_are_kept_apart() -> None:
    records = [
        record(reading(), PG="T1", MS="M1"),
        record(reading(rv=5), PG="T2", MS="M2"),
        record(end(), PG="T3", MS="M1"),
        record(end(rv=6), PG="T4", MS="M2"),
    ]
    assert [charge.energy_wh for charge in transactions(records)] == [12_500, 1000]
    assert ocmf.across(records, whole=True) == []


def test_records_without_a_page_or_without_a_value_break_nothing() -> None:
    records = [first(PG=None), record(end(rv=None), PG="T42")]
    assert [charge.energy_wh for charge in transactions(records)] == [None]
    assert ocmf.across(records, whole=True) == []


def test_an_end_that_belongs_to_nothing_open_is_no_charge() -> None:
    assert transactions([last()]) == []
    open_twice = [record(reading(), PG=f"T{n}", MS=f"M{n}") for n in (1, 2)]
    assert transactions([*open_twice, record(end(), PG="T3", MS="M3")]) == []


# --- Against the receipt and the bill -------------------------------------------------------------

AGREED = Expected(12_500, "0.59 EUR/kWh", "52523535-231", "M1")


def test_record_receipt_and_bill_agree() -> None:
    assert ocmf.against([record()], AGREED) == []
    assert ocmf.against([first(), last()], AGREED) == []
    assert ocmf.against([record()], Expected()) == []


@pytest.mark.parametrize(
    ("expected", "code"),
    [
        (Expected(energy_wh=12_499), "energy_differs"),
        (Expected(tariff_text="0.49 EUR/kWh"), "tariff_differs"),
        (Expected(transaction_number="52523535-232"), "id_differs"),
        (Expected(meter_serial="M2"), "serial_differs"),
    ],
)
def test_what_does_not_agree_is_told(expected: Expected, code: str) -> None:
    assert told(ocmf.against([record()], expected)) == [("error", code)]


def test_without_a_whole_charge_no_energy_agrees() -> None:
    assert told(ocmf.against([first()], AGREED)) == [("error", "energy_differs")]
    assert told(ocmf.against([record(), record(PG="T42")], Expected(12_500))) == [
        ("error", "energy_differs")
    ]
