"""The price of a session computed a second time, straight from the tariff file. A few lines on purpose."""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any

import yaml

WITHOUT_MINOR = ("ISK", "JPY")  # currencies without cents; all others we take have two digits
MS_PER_MINUTE, WH_PER_KWH = 60_000, 1000


@dataclass(frozen=True, slots=True)
class TariffRules:
    """Unit prices as written in the file; `vat` is 19/100 for 19 percent."""

    id: str
    currency: str
    includes_vat: bool
    vat: Fraction
    rounding: str
    kwh: Fraction
    charging_minute: Fraction
    idle_minute: Fraction
    session: Fraction

    def gross(self, energy_wh: int, charging_ms: int, idle_ms: int) -> Fraction:
        """Exact, in major units, with tax. Without energy nothing is due, whatever else the tariff has."""
        if energy_wh == 0:
            return Fraction(0)
        amount = (
            self.kwh * Fraction(energy_wh, WH_PER_KWH)
            + self.charging_minute * Fraction(charging_ms, MS_PER_MINUTE)
            + self.idle_minute * Fraction(idle_ms, MS_PER_MINUTE)
            + self.session
        )
        return amount if self.includes_vat else amount * (1 + self.vat)

    def round_minor(self, major: Fraction) -> int:
        minor = major * minor_units(self.currency)
        if self.rounding == "down":
            return minor.numerator // minor.denominator
        if self.rounding == "half_up":
            return (2 * minor.numerator + minor.denominator) // (2 * minor.denominator)
        return round(minor)  # Python rounds a Fraction half to even


def minor_units(currency: str) -> int:
    return 1 if currency in WITHOUT_MINOR else 100


def load_tariff(path: Path) -> TariffRules:
    """Raises ValueError for a file this check does not understand: it must not guess prices."""
    raw = yaml.safe_load(path.read_text())
    known = {"id", "currency", "prices", "vat_percent", "rounding", "description"}
    known |= {"energy", "charging_time", "idle_time", "fixed"}
    if not isinstance(raw, dict) or set(raw) - known:
        raise ValueError(f"{path}: expected only the keys {sorted(known)}")
    if raw["prices"] not in ("including_vat", "excluding_vat"):
        raise ValueError(f"{path}: prices is {raw['prices']!r}")
    if raw["rounding"] not in ("half_up", "half_even", "down"):
        raise ValueError(f"{path}: rounding is {raw['rounding']!r}")
    return TariffRules(
        id=str(raw["id"]),
        currency=str(raw["currency"]),
        includes_vat=raw["prices"] == "including_vat",
        vat=_exact(raw["vat_percent"]) / 100,
        rounding=str(raw["rounding"]),
        kwh=_sum(raw, "energy", "price_kwh"),
        charging_minute=_sum(raw, "charging_time", "price_minute"),
        idle_minute=_sum(raw, "idle_time", "price_minute"),
        session=_sum(raw, "fixed", "price"),
    )


def _sum(raw: dict[str, Any], part: str, key: str) -> Fraction:
    return sum((_exact(element[key]) for element in raw.get(part) or []), Fraction(0))


def _exact(value: object) -> Fraction:
    if not isinstance(value, str):
        raise ValueError(f"{value!r} is not quoted text; a price must not pass through a float")
    return Fraction(value)
