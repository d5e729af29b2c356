"""Records that the station makes, judged by pyocmf and openssl, which know nothing of us."""

from __future__ import annotations

import json
import shutil
import subprocess
import warnings
from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta, timezone
from decimal import Decimal
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import pyocmf
import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec
from hypothesis import given
from hypothesis import strategies as st
from pyocmf.compliance import check_eichrecht_transaction
from pyocmf.models import PublicKey as JudgesKey

from agent.trust import ocmf
from agent.trust.keys import RecordKey
from agent.trust.ocmf.checks import eichrecht, errors
from agent.trust.ocmf.make import (
    CableLoss,
    CannotMake,
    Content,
    Customer,
    Gateway,
    Mark,
    MeterLabel,
    Place,
    SignedValue,
    make,
    payload,
    status,
)
from agent.values import Quality, ReadingState, Stamp

KEY = RecordKey.generate()
T0 = 1_787_306_400_123  # 2026-08-21T10:00:00.123Z


def stamp(after_s: int = 0, quality: Quality = Quality.TRUSTED, boot: str = "b1") -> Stamp:
    return Stamp(T0 + after_s * 1000, 5_000 + after_s * 1000, boot, quality)


BEGIN = Mark("B", 104_211, stamp())
END = Mark("L", 116_711, stamp(1800))
CONTENT = Content(
    page=41,
    gateway=Gateway("DE*ABC*S1", "1.0.0"),
    meter=MeterLabel("21340077", "Eastron", "SDM630", "1.12"),
    customer=Customer.by_card("52523535-231-975"),
    marks=(BEGIN, END),
    tariff_text="001;EUR;0;59;10;240",
    place=Place("DE*ABC*E1"),
    current="AC",
)


def judged(value: SignedValue) -> Any:
    """The record as pyocmf reads it, after it has found no fault with it at all."""
    with warnings.catch_warnings():
        warnings.simplefilter("error", pyocmf.SpecWarning)
        record = pyocmf.OCMF.from_string(value.text, strict=True)
        key = JudgesKey.from_string(value.public_key)
        assert record.verify_signature(key) is True
    return record


def faultless(value: SignedValue) -> Any:
    record = judged(value)
    assert record.check_eichrecht(errors_only=True) == []
    return record


def section(value: SignedValue, number: int) -> str:
    return value.text.split("|")[number]


# --- What is made ---------------------------------------------------------------------------------


def test_the_record_byte_for_byte() -> None:
    value = make(CONTENT, KEY)
    assert section(value, 1) == (
        '{"FV":"1.3","GI":"voltill","GS":"DE*ABC*S1","GV":"1.0.0","PG":"T41","MV":"Eastron",'
        '"MM":"SDM630","MS":"21340077","MF":"1.12","IS":true,"IL":"TRUSTED",'
        '"IF":["RFID_NONE","OCPP_NONE","ISO15118_NONE","PLMN_NONE"],"IT":"CARD_TXN_NR",'
        '"ID":"52523535-231-975","TT":"001;EUR;0;59;10;240","CT":"EVSEID","CI":"DE*ABC*E1","RD":['
        '{"TM":"2026-08-21T10:00:00,123+0000 S","TX":"B","RV":104.211,"RI":"1-0:1.8.0","RU":"kWh",'
        '"RT":"AC","EF":"","ST":"G"},'
        '{"TM":"2026-08-21T10:30:00,123+0000 S","TX":"L","RV":116.711,"RI":"1-0:1.8.0","RU":"kWh",'
        '"RT":"AC","EF":"","ST":"G"}]}'
    )
    signature = json.loads(section(value, 2))
    assert list(signature) == ["SA", "SD"]
    assert signature["SA"] == "ECDSA-secp256r1-SHA256"
    assert value.public_key == KEY.public.spki.hex().upper()
    assert value.json() == {
        "format": "OCMF",
        "signed_by": "station",
        "text": value.text,
        "public_key": value.public_key,
    }


def test_the_same_content_gives_the_same_text_with_a_key_in_a_file() -> None:
    assert make(CONTENT, KEY) == make(CONTENT, KEY)


def test_pyocmf_finds_no_fault() -> None:
    record = faultless(make(CONTENT, KEY))
    begin, end = record.payload.RD
    assert (Decimal("104.211"), Decimal("116.711")) == (begin.RV, end.RV)
    assert record.payload.PG == "T41"
    assert record.check_eichrecht() == []


def test_begin_and_end_in_two_records() -> None:
    first = make(replace(CONTENT, marks=(BEGIN,)), KEY)
    second = make(replace(CONTENT, page=42, marks=(END,)), KEY)
    begin, end = judged(first), judged(second)
    assert check_eichrecht_transaction(begin.payload, end.payload) == []
    records = [ocmf.parse(value.text) for value in (first, second)]
    assert ocmf.across(records, whole=True) == []
    assert (
        ocmf.against(records, ocmf.Expected(12_500, CONTENT.tariff_text, CONTENT.customer.id)) == []
    )


def test_openssl_verifies_the_payload_as_it_stands_in_the_text(tmp_path: Path) -> None:
    """Over the bytes between the first and second |, so anything serialised anew would fail."""
    if shutil.which("openssl") is None:
        pytest.skip("needs openssl: apt-get install openssl")
    value = make(CONTENT, KEY)
    (tmp_path / "payload").write_bytes(section(value, 1).encode())
    (tmp_path / "sig").write_bytes(bytes.fromhex(json.loads(section(value, 2))["SD"]))
    (tmp_path / "key.pem").write_text(KEY.public.pem())

    def openssl() -> subprocess.CompletedProcess[str]:
        command = [
            "openssl",
            "dgst",
            "-sha256",
            "-verify",
            "key.pem",
            "-signature",
            "sig",
            "payload",
        ]
        return subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)

    assert openssl().stdout.strip() == "Verified OK"
    (tmp_path / "payload").write_bytes(section(value, 1).replace(":", ": ", 1).encode())
    assert openssl().returncode != 0


def test_texts_with_every_character_stay_ascii_and_whole() -> None:
    text = 'Straße | 0,59 €/kWh "quoted" \\ \u00a0 🚗'
    value = make(replace(CONTENT, tariff_text=text), KEY)
    assert value.text.isascii()
    assert value.text.count("|") == 2
    assert ocmf.parse(value.text).get("TT") == text
    assert text == faultless(value).payload.TT


@pytest.mark.parametrize(
    ("energy_wh", "written"),
    [
        (0, "0.000"),
        (1, "0.001"),
        (10, "0.010"),
        (999, "0.999"),
        (1000, "1.000"),
        (907_199_254_740, "907199254.740"),
        (10**12, "1000000000.000"),
    ],
)
def test_readings_are_written_as_decimals_of_whole_wh(energy_wh: int, written: str) -> None:
    marks = (Mark("B", energy_wh, stamp()),)
    value = payload(replace(CONTENT, marks=marks)).decode()
    assert f'"RV":{written},' in value


@pytest.mark.parametrize(
    ("quality", "letter"),
    [(Quality.TRUSTED, "S"), (Quality.RESTORED, "I"), (Quality.UNKNOWN, "U")],
)
def test_the_state_of_the_clock(quality: Quality, letter: str) -> None:
    marks = (Mark("B", 1, stamp(0, quality)), Mark("E", 2, stamp(60, quality)))
    value = make(replace(CONTENT, marks=marks), KEY)
    assert [reading.time_status for reading in faultless(value).payload.RD] == [letter, letter]


def times(*stamps: Stamp) -> list[tuple[str, str]]:
    """(TM, EF) of marks at `stamps`."""
    marks = tuple(
        Mark("B" if n == 0 else "E" if n == len(stamps) - 1 else "C", n, one)
        for n, one in enumerate(stamps)
    )
    value = make(replace(CONTENT, marks=marks), KEY)
    faultless(value)
    return [(reading.tm or "", reading.ef or "") for reading in ocmf.parse(value.text).readings]


def test_a_clock_set_meanwhile_changes_neither_order_nor_duration() -> None:
    """Set back by a day, the end would stand before the begin; it is the begin plus what has elapsed."""
    later = Stamp(T0 - 86_400_000, 5_000 + 60_000, "b1", Quality.TRUSTED)
    assert times(stamp(), later) == [
        ("2026-08-21T10:00:00,123+0000 S", ""),
        ("2026-08-21T10:01:00,123+0000 S", ""),
    ]


def test_a_clock_that_became_good_does_not_ennoble_a_begin_that_was_not() -> None:
    begin = stamp(0, Quality.UNKNOWN)
    assert [tm[-1] for tm, _ in times(begin, stamp(60))] == ["U", "U"]


def test_behind_a_restart_the_wall_clock_counts_with_its_own_state() -> None:
    after = Stamp(T0 + 60_000, 7, "b2", Quality.RESTORED)
    assert times(stamp(), after)[1] == ("2026-08-21T10:01:00,123+0000 I", "")


def test_behind_a_restart_a_time_before_the_begin_is_worth_nothing_and_says_so() -> None:
    after = Stamp(T0 - 60_000, 7, "b2", Quality.RESTORED)
    assert times(stamp(), after)[1] == ("2026-08-21T10:00:00,123+0000 U", "t")


def test_the_stations_time_zone_over_the_change_to_winter_time() -> None:
    """25 October 2026, 03:00 becomes 02:00: local time goes back, the moments do not."""
    before = Stamp(1_792_889_400_000, 0, "b1", Quality.TRUSTED)  # 00:50 UTC
    after = Stamp(1_792_889_400_000 + 1_200_000, 1_200_000, "b1", Quality.TRUSTED)
    marks = (Mark("B", 1, before), Mark("E", 2, after))
    value = make(replace(CONTENT, marks=marks, zone=ZoneInfo("Europe/Berlin")), KEY)
    first, last = (reading.tm for reading in ocmf.parse(value.text).readings)
    assert (first, last) == ("2026-10-25T02:50:00,000+0200 S", "2026-10-25T02:10:00,000+0100 S")
    assert faultless(value).check_eichrecht() == []


@pytest.mark.parametrize("state", ReadingState)
def test_every_state_of_a_reading_has_a_letter_of_the_format(state: ReadingState) -> None:
    letter = status(state)
    assert (letter == "G") == (state is ReadingState.OK)
    value = make(replace(CONTENT, marks=(BEGIN, replace(END, status=letter))), KEY)
    assert letter == judged(value).payload.RD[1].ST


def test_a_substitute_value_is_signed_and_told() -> None:
    value = make(replace(CONTENT, marks=(BEGIN, replace(END, status="S"))), KEY)
    judged(value)
    assert [finding.code for finding in errors(eichrecht(ocmf.parse(value.text)))] == [
        "meter_status"
    ]


def test_everything_that_is_optional() -> None:
    place = Place(
        "STEVE_01 1", "CBIDC", "fw 2.11", CableLoss(Decimal("4.5"), "mOhm", "cable 5 m", 7)
    )
    value = make(replace(CONTENT, place=place, current="DC"), KEY)
    record = faultless(value).payload
    assert (record.CT, record.CI, record.CF) == ("CBIDC", "STEVE_01 1", "fw 2.11")
    assert ("cable 5 m", 7, Decimal("4.5")) == (record.LC.LN, record.LC.LI, record.LC.LR)
    least = replace(
        CONTENT,
        gateway=Gateway("S1", "", ""),
        meter=MeterLabel("M1"),
        customer=Customer("NONE", "", "NONE", ()),
        tariff_text="",
        place=Place(),
        current="",
    )
    value = make(least, KEY)
    assert list(json.loads(section(value, 1))) == [
        "FV", "GS", "PG", "MS", "IS", "IL", "IF", "IT", "RD",
    ]  # fmt: skip
    assert faultless(value).payload.IS is False


@pytest.mark.parametrize("reason", "ELRAP")
def test_every_way_to_end(reason: str) -> None:
    value = make(replace(CONTENT, marks=(BEGIN, replace(END, reason=reason))), KEY)
    assert reason == faultless(value).payload.RD[1].TX


def test_changes_of_tariff_and_pauses_in_between() -> None:
    middle = [Mark(r, 104_300 + n, stamp(60 + n)) for n, r in enumerate("CTSXC")]
    value = make(replace(CONTENT, marks=(BEGIN, *middle, END)), KEY)
    assert [reading.TX for reading in judged(value).payload.RD] == list("BCTSXCL")


# --- What is refused ------------------------------------------------------------------------------


def marks(*listed: Mark) -> Callable[[Content], Content]:
    return lambda content: replace(content, marks=listed)


REFUSED: dict[str, Callable[[Content], Content]] = {
    "page": lambda c: replace(c, page=0),
    "no reading": marks(),
    "too many": marks(*[replace(BEGIN, reason="C")] * 101),
    "two begins": marks(BEGIN, BEGIN),
    "end first": marks(END, BEGIN),
    "two ends": marks(BEGIN, END, END),
    "reason": marks(replace(BEGIN, reason="Q")),
    "less at the end": marks(BEGIN, replace(END, energy_wh=104_210)),
    "negative": marks(replace(BEGIN, energy_wh=-1)),
    "too much": marks(replace(BEGIN, energy_wh=10**12 + 1)),
    "bool": marks(replace(BEGIN, energy_wh=True)),
    "float": marks(replace(BEGIN, energy_wh=1.5)),  # type: ignore[arg-type]
    "status": marks(replace(BEGIN, status="Q")),
    "error flags": marks(replace(BEGIN, error_flags="x")),
    "before 1970": marks(replace(BEGIN, stamp=Stamp(-1, 0, "b", Quality.TRUSTED))),
    "after 3000": marks(replace(BEGIN, stamp=Stamp(10**15, 0, "b", Quality.TRUSTED))),
    "zone": lambda c: replace(c, zone=timezone(timedelta(seconds=30))),
    "no serial": lambda c: replace(c, meter=MeterLabel("")),
    "no station": lambda c: replace(c, gateway=Gateway("", "1")),
    "long tariff": lambda c: replace(c, tariff_text="x" * 251),
    "long id": lambda c: replace(c, customer=Customer.by_card("x" * 41)),
    "long firmware": lambda c: replace(c, place=Place("E1", controller_firmware="x" * 26)),
    "line feed": lambda c: replace(c, tariff_text="a\nb"),
    "half a character": lambda c: replace(c, tariff_text="\ud83d"),
    "no id": lambda c: replace(c, customer=Customer.by_card("")),
    "an id of nobody": lambda c: replace(c, customer=Customer("NONE", "1")),
    "card number type": lambda c: replace(c, customer=Customer("ISO7812", "1")),
    "unknown type": lambda c: replace(c, customer=Customer("CARD", "1")),
    "level": lambda c: replace(c, customer=replace(c.customer, level="SURE")),
    "flag": lambda c: replace(c, customer=replace(c.customer, flags=("OCCP_AUTH",))),
    "flags": lambda c: replace(c, customer=replace(c.customer, flags=("RFID_NONE",) * 5)),
    "place": lambda c: replace(c, place=Place("E1", "HOUSE")),
    "current": lambda c: replace(c, current="3"),
    "register": lambda c: replace(c, register="1-0:1.7.0"),
    "register of Bauer": lambda c: replace(c, register="1-0:1.8.0*198"),
    "cable unit": lambda c: replace(c, place=Place("E1", cable=CableLoss(1, "Ohm"))),
    "cable": lambda c: replace(c, place=Place("E1", cable=CableLoss(-1))),
    "cable NaN": lambda c: replace(c, place=Place("E1", cable=CableLoss(Decimal("NaN")))),
    "cable name": lambda c: replace(c, place=Place("E1", cable=CableLoss(1, name="x" * 21))),
    "card number": lambda c: replace(c, customer=Customer.by_card("4111 1111 1111 1111")),
    "card number in the tariff": lambda c: replace(c, tariff_text="card 4111111111111111"),
}


@pytest.mark.parametrize("what", REFUSED)
def test_what_may_not_be_signed(what: str) -> None:
    with pytest.raises(CannotMake) as refused:
        make(REFUSED[what](CONTENT), KEY)
    assert "4111" not in str(refused.value)


class Wrong:
    """A key device that answers with something else than a signature of what it was given."""

    def __init__(self, answer: bytes) -> None:
        self.public, self.answer = KEY.public, answer

    def sign(self, _: bytes) -> bytes:
        return self.answer


@pytest.mark.parametrize(
    "answer",
    [b"", bytes(64), KEY.sign(b"something else"), bytes(72)],
    ids=["nothing", "zeros", "of something else", "too long"],
)
def test_a_key_device_that_answers_wrongly_makes_no_record(answer: bytes) -> None:
    with pytest.raises(CannotMake):
        make(CONTENT, Wrong(answer))


# --- Changes that must fail -----------------------------------------------------------------------


def spki(key: ec.EllipticCurvePrivateKey) -> bytes:
    return key.public_key().public_bytes(
        serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo
    )


MADE = make(CONTENT, KEY)


def reordered(text: str) -> str:
    header, body, signature = text.split("|")
    whole = json.loads(body, parse_float=str)
    turned = {name: whole[name] for name in reversed(whole)}
    return "|".join((header, json.dumps(turned, separators=(",", ":")), signature))


def shorter(text: str) -> str:
    return text[:-4] + text[-2:]


MUTATIONS: dict[str, Callable[[str], str]] = {
    "one digit of the reading": lambda text: text.replace('"RV":116.711', '"RV":116.712'),
    "a blank": lambda text: text.replace('"ST":"G"', '"ST": "G"', 1),
    "the order of the keys": reordered,
    "the time alone": lambda text: text.replace("10:30:00,123", "10:30:00,124"),
    "the signature cut": shorter,
    "the page": lambda text: text.replace('"PG":"T41"', '"PG":"T42"'),
    "the tariff": lambda text: text.replace("001;EUR;0;59", "001;EUR;0;49"),
    "another algorithm": lambda text: text.replace("secp256r1", "secp256k1"),
}


@pytest.mark.parametrize("what", MUTATIONS)
def test_a_changed_record_is_not_valid(what: str) -> None:
    changed = MUTATIONS[what](MADE.text)
    assert changed != MADE.text
    assert ocmf.verify(MADE.text, MADE.public_key).valid
    assert not ocmf.verify(changed, MADE.public_key).valid


@pytest.mark.parametrize("curve", [ec.SECP256R1, ec.SECP256K1, ec.SECP384R1])
def test_another_key_does_not_fit(curve: type[ec.EllipticCurve]) -> None:
    assert not ocmf.verify(MADE.text, spki(ec.generate_private_key(curve()))).valid


def test_a_signature_of_another_record_does_not_fit() -> None:
    other = make(replace(CONTENT, page=42), KEY)
    mixed = "|".join((*MADE.text.split("|")[:2], other.text.split("|")[2]))
    assert not ocmf.verify(mixed, MADE.public_key).valid


# --- Any content ----------------------------------------------------------------------------------

TEXTS = st.text(st.characters(exclude_categories=("Cs", "Cc")), max_size=60).filter(
    lambda text: not any(char.isdigit() for char in text)
)


@st.composite
def contents(draw: st.DrawFn) -> Content:
    energy = sorted(draw(st.lists(st.integers(0, 10**12), min_size=2, max_size=2)))
    quality = draw(st.sampled_from(Quality))
    begin_ms = draw(st.integers(0, 4_000_000_000_000))
    elapsed_ms = draw(st.integers(0, 200_000_000))
    return Content(
        page=draw(st.integers(1, 10**9)),
        gateway=Gateway(draw(TEXTS.filter(bool)), draw(TEXTS)),
        meter=MeterLabel(draw(TEXTS.filter(bool)), draw(TEXTS), draw(TEXTS), draw(TEXTS)),
        customer=Customer.by_card(
            f"{draw(st.integers(0, 99999999)):08}-{draw(st.integers(0, 9999))}"
        ),
        marks=(
            Mark("B", energy[0], Stamp(begin_ms, 10, "b", quality)),
            Mark(
                draw(st.sampled_from("ELRAP")),
                energy[1],
                Stamp(draw(st.integers(0, 4_000_000_000_000)), 10 + elapsed_ms, "b", quality),
            ),
        ),
        tariff_text=draw(TEXTS),
        place=Place(draw(TEXTS), draw(st.sampled_from(["EVSEID", "CBIDC"]))),
        current=draw(st.sampled_from(["", "AC", "DC"])),
        zone=timezone(timedelta(minutes=draw(st.integers(-720, 840)))),
    )


@given(contents())
def test_any_content_comes_back_as_it_went_in(content: Content) -> None:
    """Through our own reader and through pyocmf's: energy to the Wh, texts, page and elapsed time."""
    value = make(content, KEY)
    record = ocmf.parse(value.text)
    assert ocmf.verify(value.text, value.public_key).valid
    assert errors(eichrecht(record)) == []
    begin, end = record.readings
    first, last = content.marks
    assert (begin.wh, end.wh) == (first.energy_wh, last.energy_wh)
    assert begin.time is not None and end.time is not None
    elapsed = (end.time.at - begin.time.at) / timedelta(milliseconds=1)
    assert elapsed == last.stamp.boot_ms - first.stamp.boot_ms
    assert (record.get("TT"), record.get("CI")) == (content.tariff_text, content.place.id)
    assert (record.get("PG"), record.get("ID")) == (f"T{content.page}", content.customer.id)
    theirs = faultless(value)
    assert [reading.RV * 1000 for reading in theirs.payload.RD] == [begin.wh, end.wh]
