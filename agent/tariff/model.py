"""The tariff model, after OCPP 2.1 TariffType (block I): one ordered price list for each dimension.

Today each list has at most one element, because elements are told apart by conditions (time of day,
energy, power ...) and conditions are not evaluated yet. Taxes with stack levels belong into each
dimension, minimum and maximum cost beside the lists; neither changes the shape of what is here.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from decimal import Decimal
from enum import StrEnum
from fractions import Fraction

from agent.values import Money

# OCPI and OCPP carry prices with four decimals; two more leave room for prices derived from a
# wholesale market. The bound keeps every exact price short enough to be printed.
MAX_PRICE_DECIMALS = 6
MAX_PRICE = Decimal(1_000_000)  # in major units; more than any unit price in any listed currency
MAX_VAT_PERCENT = Decimal(100)
MAX_VAT_DECIMALS = 3
# One element without conditions is all that can be chosen from (see above).
MAX_ELEMENTS = 1


class TariffInvalid(ValueError):
    """A tariff that cannot be evaluated. `where` names the setting, for example "energy[0].price_kwh"."""

    def __init__(self, where: str, text: str) -> None:
        super().__init__(f"{where}: {text}")
        self.where, self.text = where, text


class PriceBasis(StrEnum):
    """Whether the prices of the file contain the tax. It is stated, never assumed."""

    INCLUDING_VAT = "including_vat"
    EXCLUDING_VAT = "excluding_vat"


class Rounding(StrEnum):
    """How the gross total becomes an amount of the currency, once, at the end. No act of law read for
    this project fixes a rule, so the tariff states it and the receipt and the record repeat it."""

    HALF_UP = "half_up"  # 0.005 becomes 0.01: nearest, ties to the larger amount
    HALF_EVEN = "half_even"  # nearest, ties to the even amount
    DOWN = "down"  # never more than the exact total


@dataclass(frozen=True, slots=True)
class EnergyPrice:
    """OCPP TariffEnergyPriceType: `price_kwh` in major units for each kWh."""

    price_kwh: Decimal


@dataclass(frozen=True, slots=True)
class TimePrice:
    """OCPP TariffTimePriceType: `price_minute` in major units; charged by the exact millisecond."""

    price_minute: Decimal


@dataclass(frozen=True, slots=True)
class FixedPrice:
    """OCPP TariffFixedPriceType: `price` in major units, once for each session."""

    price: Decimal


@dataclass(frozen=True, slots=True)
class Tariff:
    """Prices for one session. `description` is free text for the driver, by language.

    Raises TariffInvalid when it could not be evaluated as written."""

    id: str
    currency: str
    prices: PriceBasis
    vat_percent: Decimal
    rounding: Rounding
    energy: tuple[EnergyPrice, ...] = ()
    charging_time: tuple[TimePrice, ...] = ()
    idle_time: tuple[TimePrice, ...] = ()
    fixed: tuple[FixedPrice, ...] = ()
    description: Mapping[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        try:
            Money(0, self.currency)
        except ValueError as e:
            raise TariffInvalid("currency", str(e)) from None
        _check(
            "vat_percent",
            self.vat_percent,
            MAX_VAT_PERCENT,
            MAX_VAT_DECIMALS,
        )
        lists: dict[str, tuple[object, ...]] = {
            "energy": self.energy,
            "charging_time": self.charging_time,
            "idle_time": self.idle_time,
            "fixed": self.fixed,
        }
        if not any(lists.values()):
            raise TariffInvalid(
                "energy", 'no price at all; a free tariff says so: energy: [{price_kwh: "0"}]'
            )
        for name, elements in lists.items():
            if len(elements) > MAX_ELEMENTS:
                raise TariffInvalid(
                    f"{name}[{MAX_ELEMENTS}]",
                    "a second element needs conditions, which this version does not evaluate",
                )
        for where, value in self.unit_prices():
            _check(where, value, MAX_PRICE, MAX_PRICE_DECIMALS)

    def unit_prices(self) -> list[tuple[str, Decimal]]:
        """Every price of the file with the path of its setting."""
        rows = [(f"energy[{i}].price_kwh", e.price_kwh) for i, e in enumerate(self.energy)]
        rows += [
            (f"{name}[{i}].price_minute", e.price_minute)
            for name, times in (
                ("charging_time", self.charging_time),
                ("idle_time", self.idle_time),
            )
            for i, e in enumerate(times)
        ]
        return rows + [(f"fixed[{i}].price", e.price) for i, e in enumerate(self.fixed)]

    @property
    def vat_factor(self) -> Fraction:
        """What a net amount is multiplied with: 119/100 at 19 percent."""
        return 1 + Fraction(self.vat_percent) / 100

    def including_vat(self, value: Decimal) -> Decimal:
        """A price of this tariff as the driver pays it. Exact: a percentage is a finite decimal."""
        if self.prices is PriceBasis.INCLUDING_VAT:
            return value
        return value * (1 + self.vat_percent / 100)


def _check(where: str, value: Decimal, most: Decimal, decimals: int) -> None:
    if not value.is_finite() or value < 0:
        raise TariffInvalid(where, f"{value} is not a number of zero or more")
    if value > most:
        raise TariffInvalid(where, f"{value} is more than {most}")
    exponent = value.as_tuple().exponent
    if isinstance(exponent, int) and -exponent > decimals:
        raise TariffInvalid(where, f"{value} has more than {decimals} digits after the point")


@dataclass(frozen=True, slots=True)
class Usage:
    """What is billed: whole Wh from the meter, milliseconds of the boot-time clock.

    `charging_ms` runs while energy may flow and the car takes it, `idle_ms` while it does not."""

    energy_wh: int
    charging_ms: int = 0
    idle_ms: int = 0

    def __post_init__(self) -> None:
        for name, value in (
            ("energy_wh", self.energy_wh),
            ("charging_ms", self.charging_ms),
            ("idle_ms", self.idle_ms),
        ):
            if isinstance(value, bool) or not isinstance(value, int):
                raise TypeError(f"{name} is {value!r}; expected an integer")
            if value < 0:
                raise ValueError(f"{name} is {value}; usage is never negative")
