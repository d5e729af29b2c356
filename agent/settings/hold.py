"""How much is reserved on a card, and for how long."""

from __future__ import annotations

from decimal import Decimal
from typing import Annotated, Literal

from agent.settings.fields import AsText, Exact, HoldAmount, Whole, matching
from agent.settings.shape import Limits, Section, setting
from agent.tariff import Tariff, expected_price
from agent.values import Money

Scheme = Annotated[
    str, matching(r"[A-Za-z0-9][A-Za-z0-9 ]{1,29}", "a card scheme such as visa, 2 to 30 letters")
]


class Hold(Section):
    """How much is reserved on the card."""

    strategy: Annotated[Literal["maximum", "increment"], AsText] = setting(
        description="maximum: one fixed amount before the start; increment: a small one, raised by step"
        " while energy flows, where the terminal can"
    )
    amount: HoldAmount = setting(
        description='amount in the terminal\'s currency, in quotes: "50.00"; or from_tariff: what'
        " expected_min or expected_kwh cost at the connector's power, rounded up to a whole unit; there is"
        " no default"
    )
    expected_min: Annotated[Whole, Limits(ge=1, le=1440)] | None = setting(
        default=None,
        description="from_tariff: minutes of charging at full power that the hold should last",
    )
    expected_kwh: Annotated[Whole, Limits(ge=1, le=1000)] | None = setting(
        default=None, description="from_tariff: energy that the hold should last, in kWh"
    )
    least: Exact | None = setting(
        default=None,
        description='from_tariff: the hold is never less than this: "20.00"; no default',
    )
    step: Exact | None = setting(
        default=None,
        description='increment: what is added each time, in quotes: "20.00"; no default',
    )
    most: Exact | None = setting(
        default=None,
        description='increment: the hold is never raised above this: "100.00"; from_tariff: it is never more;'
        " no default",
    )
    raises: Annotated[Whole, Limits(ge=1, le=50)] = setting(
        default=5, description="increment: how often a hold may be raised"
    )
    partial: Annotated[Literal["accept", "release"], AsText] = setting(
        default="accept",
        description="when less is approved than asked for: accept it as the limit, or release it",
    )
    valid_h: Annotated[Whole, Limits(ge=3, le=720)] = setting(
        default=24,
        description="hours the acquirer keeps a hold; energy stops an hour before, with an alarm two"
        " hours before",
    )
    valid_h_by_scheme: dict[Scheme, Annotated[Whole, Limits(ge=3, le=720)]] = setting(
        default_factory=dict,
        description="the same for card schemes, by the name the terminal gives with the hold, such as"
        " {visa: 168, mastercard: 720}; for a card that is not among them the shortest of all counts",
    )

    @property
    def fixed(self) -> Decimal | None:
        """The amount as it is written; None when it is computed."""
        return None if isinstance(self.amount, str) else self.amount

    def computed(self, tariff: Tariff, max_power_w: int, currency: str) -> Money:
        """The hold for a connector of this power. Needs `least`, `most` and what is expected, as
        cross_check sees to."""
        if self.least is None or self.most is None:
            raise ValueError("from_tariff without least and most")
        minutes, kwh = self.expected_min, self.expected_kwh
        wanted = expected_price(
            tariff,
            max_power_w,
            energy_wh=None if kwh is None else kwh * 1000,
            duration_ms=None if minutes is None else minutes * 60_000,
        )
        least, most = (Money.parse(f"{x:f}", currency) for x in (self.least, self.most))
        return Money(min(most.amount_minor, max(least.amount_minor, wanted.amount_minor)), currency)
