"""A tariff in one line, as signed readings carry it (OCMF's TT) for a direct payment."""

from __future__ import annotations

from decimal import Decimal

from agent.tariff.model import Tariff
from agent.values import Money

# Every one of them at its largest, with tax and separators, stays below the 250 characters of the format.
_WORDS = {
    "energy": "{currency}/kWh",
    "charging_time": "{currency}/min charging",
    "idle_time": "{currency}/min idle",
    "fixed": "{currency}/session",
}


def tariff_text(tariff: Tariff) -> str:
    """Every price as the driver pays it, such as "0.49 EUR/kWh, 0.35 EUR/session, incl. 19 % VAT"."""
    digits = Money(0, tariff.currency).digits
    parts = []
    for where, value in tariff.unit_prices():
        word = _WORDS[where.partition("[")[0]].format(currency=tariff.currency)
        parts.append(f"{_plain(tariff.including_vat(value), digits)} {word}")
    return ", ".join([*parts, f"incl. {_plain(tariff.vat_percent, 0)} % VAT"])


def _plain(value: Decimal, digits: int) -> str:
    """Without an exponent and without zeros beyond `digits`."""
    whole, _, rest = f"{value:f}".partition(".")
    rest = rest.rstrip("0").ljust(digits, "0")
    return f"{whole}.{rest}" if rest else whole
