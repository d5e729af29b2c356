"""The check reads receipts by their labels alone: a real one, as the agent prints it, in each language and
width, must come back as the numbers that went in."""

from __future__ import annotations

from decimal import Decimal

import pytest

from agent.driver_ui.receipt import ReceiptFacts, render
from agent.tariff import Bill, Line, LineKey
from agent.values import Money
from hil.verify.receipt import parse


def euro(minor: int) -> Money:
    return Money(minor, "EUR")


LINES = (
    Line(LineKey.ENERGY, 103_697, Decimal("0.4900"), 5081),
    Line(LineKey.TIME, 2_712_345, Decimal("0.05"), 226),
    Line(LineKey.PARKING, 90_000, Decimal("0.10"), 15),
    Line(LineKey.FIXED, 1, Decimal("0.35"), 35),
)


@pytest.mark.parametrize("language", ["en", "de"])
@pytest.mark.parametrize("width", [40, 48])
def test_a_printed_receipt_reads_back_as_its_facts(language: str, width: int) -> None:
    bill = Bill("EUR", LINES, 4502, 856, 5358, Decimal(19), "half_up")
    assert bill.rounding_minor == 1
    facts = ReceiptFacts(
        language=language,
        time_zone="Europe/Berlin",
        station="DE*ABC*S1",
        evse="DE*ABC*E1",
        receipt_no="S1-000123",
        meter_serial="12345678",
        begin_wh=1_042_118,
        end_wh=1_145_815,
        bill=bill,
        tariff_id="adhoc",
        held=euro(5000),
        charged=euro(5000),
        released=euro(0),
        shortfall=euro(358),
        terminal_id="52500001",
        trace=123,
        terminal_receipt=17,
    )
    assert parse(render(facts, width), "EUR") == {
        "energy_wh": 103_697,
        "charging_ms": 2_712_345,
        "idle_ms": 90_000,
        "begin_wh": 1_042_118,
        "end_wh": 1_145_815,
        "lines_minor": 5358,
        "cost_minor": 5358,
        "net_minor": 4502,
        "vat_minor": 856,
        "held_minor": 5000,
        "captured_minor": 5000,
        "released_minor": 0,
        "shortfall_minor": 358,
    }
