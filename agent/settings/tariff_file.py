"""The tariff file: shape and texts here, meaning in agent.tariff."""

from __future__ import annotations

from typing import Annotated, Literal

from agent.settings.fields import AsText, Currency, Exact, Id, Text
from agent.settings.shape import Section, setting
from agent.tariff import (
    EnergyPrice,
    FixedPrice,
    PriceBasis,
    Rounding,
    Tariff,
    TimePrice,
)


class EnergyElement(Section):
    """A price for energy."""

    price_kwh: Exact = setting(description='price of a kWh, in quotes: "0.4900"')


class TimeElement(Section):
    """A price for time."""

    price_minute: Exact = setting(description='price of a minute, in quotes: "0.10"')


class FixedElement(Section):
    """A price for the session."""

    price: Exact = setting(description='price of a session, in quotes: "0.35"')


class TariffFile(Section):
    """voltill tariff."""

    id: Id = setting(
        description="name of the tariff in records and on receipts; new prices, new id"
    )
    currency: Currency = setting(description="ISO 4217 code, such as EUR; there is no default")
    prices: Annotated[Literal["including_vat", "excluding_vat"], AsText] = setting(
        description="whether the prices below contain the tax; there is no default"
    )
    vat_percent: Exact = setting(description='value added tax, in quotes: "19"')
    rounding: Annotated[Literal["half_up", "half_even", "down"], AsText] = setting(
        description="how the total becomes whole cents, once, at the end; there is no default"
    )
    energy: list[EnergyElement] = setting(default_factory=list, description="prices of energy")
    charging_time: list[TimeElement] = setting(
        default_factory=list, description="prices of time while the car charges"
    )
    idle_time: list[TimeElement] = setting(
        default_factory=list, description="prices of time while the car does not charge"
    )
    fixed: list[FixedElement] = setting(default_factory=list, description="prices of a session")
    description: dict[Literal["en", "de"], Text] = setting(
        default_factory=dict, description="text for the driver, by language"
    )

    def tariff(self) -> Tariff:
        """Raises TariffInvalid when it cannot be evaluated as written."""
        return Tariff(
            id=self.id,
            currency=self.currency,
            prices=PriceBasis(self.prices),
            vat_percent=self.vat_percent,
            rounding=Rounding(self.rounding),
            energy=tuple(EnergyPrice(e.price_kwh) for e in self.energy),
            charging_time=tuple(TimePrice(e.price_minute) for e in self.charging_time),
            idle_time=tuple(TimePrice(e.price_minute) for e in self.idle_time),
            fixed=tuple(FixedPrice(e.price) for e in self.fixed),
            description={str(language): text for language, text in self.description.items()},
        )
