"""The receipt: everything on it, nothing wider than the paper, numbers that can be checked by hand."""

from __future__ import annotations

import dataclasses
import re
from decimal import Decimal
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agent.driver_ui import LANGUAGES, ReceiptFacts, render
from agent.driver_ui.receipt import MAX_WIDTH, MIN_WIDTH
from agent.tariff import (
    Bill,
    EnergyPrice,
    FixedPrice,
    PriceBasis,
    Rounding,
    Tariff,
    TimePrice,
    Usage,
    session_price,
)
from agent.values import Money, Quality, Stamp

GOLDEN = Path(__file__).parent


def bill(usage: Usage, *, energy: str = "0.4900", currency: str = "EUR") -> Bill:
    t = Tariff(
        "adhoc-2026-01",
        currency,
        PriceBasis.INCLUDING_VAT,
        Decimal("19"),
        Rounding.HALF_UP,
        energy=(EnergyPrice(Decimal(energy)),),
        idle_time=(TimePrice(Decimal("0.10")),),
        fixed=(FixedPrice(Decimal("0.35")),),
    )
    return session_price(t, usage).bill


def stamp(utc_ms: int, quality: Quality = Quality.TRUSTED) -> Stamp:
    return Stamp(utc_ms, 0, "boot", quality)


FULL = ReceiptFacts(
    language="en",
    time_zone="Europe/Berlin",
    station="DE*ABC*S1",
    evse="DE*ABC*E1",
    receipt_no="7F3K9QX2AB",
    operator_name="Example Charging GmbH",
    operator_address=("Hauptstrasse 1", "10115 Berlin"),
    vat_id="DE123456789",
    helpline="+49 30 1234567",
    receipt_url="https://r.example.eu/7F3K9QX2AB",
    started=stamp(1_772_355_735_000),
    ended=stamp(1_772_358_447_999),
    meter_serial="12345678",
    begin_wh=1_042_118,
    end_wh=1_064_330,
    bill=bill(Usage(22_212, 2_712_345, 61_000)),
    tariff_id="adhoc-2026-01",
    card_brand="VISA",
    card_last4="1234",
    terminal_id="52523535",
    trace=975,
    terminal_receipt=231,
    aid="A0000000031010",
    held=Money(5000, "EUR"),
    charged=Money(1134, "EUR"),
    released=Money(3866, "EUR"),
    shortfall=Money(0, "EUR"),
    record_seq=17,
    key_fingerprint="3fa9c1d2e4b5a6978899aabbccddeeff",
)


@pytest.mark.parametrize(("width", "language"), [(40, "en"), (24, "en"), (40, "de"), (24, "de")])
def test_golden(width: int, language: str) -> None:
    text = render(dataclasses.replace(FULL, language=language), width)
    assert text + "\n" == (GOLDEN / f"receipt-{language}-{width}.txt").read_text("utf-8")


def value_of(text: str, label: str) -> Decimal:
    """The last number of the line that begins with `label`, as a person would read it."""
    line = next(line for line in text.splitlines() if line.startswith(label))
    return Decimal(re.findall(r"-?\d+[.,]?\d*", line)[-1].replace(",", "."))


@given(wh=st.integers(0, 200_000), idle_ms=st.integers(0, 10**8), begin=st.integers(0, 10**8))
def test_the_printed_figures_add_up(wh: int, idle_ms: int, begin: int) -> None:
    b = bill(Usage(wh, 0, idle_ms))
    text = render(
        dataclasses.replace(FULL, bill=b, begin_wh=begin, end_wh=begin + wh, charged=b.total), 48
    )
    total = value_of(text, "TOTAL EUR")
    rounding = value_of(text, "Rounding") if "\nRounding" in text else Decimal(0)
    lines = [value_of(text, label) for label in ("Energy", "Idle", "Start fee")]
    assert sum(lines) + rounding == total
    assert value_of(text, "Net") + value_of(text, "incl. VAT 19%") == total
    assert value_of(text, "Charged") == total
    meter = [
        Decimal(re.search(r"([\d.]+) kWh", line)[1])  # type: ignore[index]
        for line in text.splitlines()
        if line.startswith("Meter st")
    ]
    quantity = re.search(r"Energy\s+([\d.]+) kWh", text)
    assert quantity is not None
    assert meter[1] - meter[0] == Decimal(quantity[1])


words = st.text(
    st.characters(codec="latin-1", categories=("Lu", "Ll", "Nd", "Zs", "Po")), max_size=120
)


@settings(max_examples=200)
@given(
    data=st.data(),
    width=st.integers(MIN_WIDTH, MAX_WIDTH),
    language=st.sampled_from([*LANGUAGES, "xx"]),
    currency=st.sampled_from(["EUR", "HUF", "ISK"]),
    energy=st.sampled_from(["0", "0.49", "999999.999999", "0.000001"]),
    wh=st.integers(0, 99_999_999),
    idle_ms=st.integers(0, 10**10),
    quality=st.sampled_from(Quality),
)
def test_no_line_is_wider_than_the_paper(
    data: st.DataObject,
    width: int,
    language: str,
    currency: str,
    energy: str,
    wh: int,
    idle_ms: int,
    quality: Quality,
) -> None:
    large = Money(10**11, currency)
    facts = ReceiptFacts(
        language=language,
        time_zone=data.draw(st.sampled_from(["Europe/Berlin", "Asia/Kathmandu", "UTC"])),
        station=data.draw(words),
        evse="DE*ABC*E" + "1" * 40,
        receipt_no=data.draw(words),
        operator_name=data.draw(words),
        operator_address=tuple(data.draw(st.lists(words, max_size=4))),
        vat_id=data.draw(words),
        helpline=data.draw(words),
        receipt_url="https://" + "r" * data.draw(st.integers(0, 100)) + "/7F3K9QX2AB",
        started=stamp(0, quality),
        ended=stamp(4_102_444_800_000, quality),
        meter_serial=data.draw(words),
        begin_wh=0,
        end_wh=99_999_999_999,
        estimated_end=True,
        bill=bill(Usage(wh, 0, idle_ms), energy=energy, currency=currency),
        card_brand=data.draw(words),
        card_last4="1234",
        trace=999_999,
        held=large,
        charged=large,
        released=large,
        shortfall=large,
        owed=large,
        pending=True,
        record_seq=10**9,
        key_fingerprint="f" * 64,
    )
    text = render(facts, width)
    assert all(len(line) <= width for line in text.split("\n"))
    # Wrapped or not, the amounts are all there.
    squeezed = re.sub(r"\s", "", text)
    mark = "," if language == "de" else "."
    assert large.text().replace(".", mark) in squeezed


def test_nothing_billed_says_so_and_prints_no_total() -> None:
    text = render(
        ReceiptFacts(
            language="en",
            time_zone="Europe/Berlin",
            station="S1",
            evse="E1",
            receipt_no="R1",
            held=Money(5000, "EUR"),
            released=Money(5000, "EUR"),
        ),
        40,
    )
    assert "NO CHARGE" in text
    assert "TOTAL" not in text
    assert value_of(text, "Released") == Decimal("50.00")


@pytest.mark.parametrize(("wh", "said"), [(0, True), (1_000, False)])
def test_a_session_without_energy_says_so_below_its_lines(wh: int, said: bool) -> None:
    usage = Usage(wh, 0, 60_000)
    facts = dataclasses.replace(FULL, bill=bill(usage), begin_wh=5_000, end_wh=5_000 + wh)
    text = render(facts, 40)
    assert ("NO CHARGE" in text) is said
    assert (value_of(text, "TOTAL EUR") == 0) is said
    assert "1:00 min" in text, "the time that was seen is printed all the same"


def test_pending_payment_is_not_called_no_charge() -> None:
    text = render(dataclasses.replace(FULL, bill=None, charged=None, pending=True), 40)
    assert "NO CHARGE" not in text
    assert "The payment is being checked" in text


def test_shortfall_and_owed_only_when_there_are_any() -> None:
    text = render(FULL, 40)
    assert "Not collected" not in text
    assert "Still owed" not in text
    more = dataclasses.replace(FULL, shortfall=Money(12, "EUR"), owed=Money(34, "EUR"))
    assert value_of(render(more, 40), "Not collected") == Decimal("0.12")
    assert value_of(render(more, 40), "Still owed") == Decimal("0.34")


def test_the_approval_code_is_no_application_id() -> None:
    text = render(dataclasses.replace(FULL, approval_code="750071"), 40)
    assert re.search(r"^Approval +750071$", text, re.MULTILINE)
    assert re.search(r"^AID +A0000000031010$", text, re.MULTILINE)
    assert "Approval" not in render(FULL, 40)


def test_times_are_local_with_their_offset_across_the_change_of_the_clocks() -> None:
    summer = dataclasses.replace(
        FULL, started=stamp(1_774_745_999_000), ended=stamp(1_774_746_000_000)
    )
    text = render(summer, 40)
    assert "2026-03-29 01:59:59 +01:00" in text
    assert "2026-03-29 03:00:00 +02:00" in text


def test_an_unverified_clock_is_named() -> None:
    doubtful = dataclasses.replace(FULL, started=stamp(1_772_355_735_000, Quality.RESTORED))
    assert "Time not verified" in render(doubtful, 40)
    assert "Time not verified" not in render(FULL, 40)


@pytest.mark.parametrize("width", [MIN_WIDTH - 1, MAX_WIDTH + 1])
def test_other_papers_are_refused(width: int) -> None:
    with pytest.raises(ValueError, match="expected 24 to 48"):
        render(FULL, width)
