"""The tariff in one line, as signed readings carry it."""

from __future__ import annotations

from decimal import Decimal

import pytest

from agent.tariff import EnergyPrice, FixedPrice, PriceBasis, Rounding, Tariff, TimePrice
from agent.tariff.model import MAX_PRICE
from agent.tariff.text import tariff_text


def tariff(currency: str, basis: PriceBasis, vat: str, kwh: str, **more: str) -> Tariff:
    return Tariff(
        "adhoc",
        currency,
        basis,
        Decimal(vat),
        Rounding.HALF_UP,
        (EnergyPrice(Decimal(kwh)),),
        tuple(TimePrice(Decimal(more[name])) for name in ("minute",) if name in more),
        tuple(TimePrice(Decimal(more[name])) for name in ("idle",) if name in more),
        tuple(FixedPrice(Decimal(more[name])) for name in ("fixed",) if name in more),
    )


@pytest.mark.parametrize(
    ("given", "text"),
    [
        (
            tariff("EUR", PriceBasis.INCLUDING_VAT, "19", "0.4900"),
            "0.49 EUR/kWh, incl. 19 % VAT",
        ),
        (
            tariff("EUR", PriceBasis.EXCLUDING_VAT, "8.1", "0.5", fixed="1"),
            "0.5405 EUR/kWh, 1.081 EUR/session, incl. 8.1 % VAT",
        ),
        (
            tariff("ISK", PriceBasis.INCLUDING_VAT, "24", "60", minute="5.00", idle="10"),
            "60 ISK/kWh, 5 ISK/min charging, 10 ISK/min idle, incl. 24 % VAT",
        ),
        (tariff("EUR", PriceBasis.INCLUDING_VAT, "0", "0"), "0.00 EUR/kWh, incl. 0 % VAT"),
    ],
)
def test_prices_as_the_driver_pays_them(given: Tariff, text: str) -> None:
    assert tariff_text(given) == text


def test_the_longest_fits() -> None:
    dear = f"{MAX_PRICE - Decimal('0.000001')}"
    most = tariff(
        "EUR", PriceBasis.EXCLUDING_VAT, "99.999", dear, minute=dear, idle=dear, fixed=dear
    )
    assert len(tariff_text(most)) <= 250
