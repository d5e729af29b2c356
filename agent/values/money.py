"""Money as integer minor units with its currency. No float ever comes near it."""

from __future__ import annotations

from dataclasses import dataclass
from decimal import Decimal

# ISO 4217 alphabetic code -> (numeric code as ZVT sends it, digits after the point).
CURRENCIES: dict[str, tuple[str, int]] = {
    "EUR": ("978", 2),
    "CHF": ("756", 2),
    "GBP": ("826", 2),
    "NOK": ("578", 2),
    "SEK": ("752", 2),
    "DKK": ("208", 2),
    "PLN": ("985", 2),
    "CZK": ("203", 2),
    "HUF": ("348", 2),
    "RON": ("946", 2),
    "BGN": ("975", 2),
    "ISK": ("352", 0),
    "USD": ("840", 2),
}


def currency_of_numeric(numeric: str) -> str | None:
    """The alphabetic code of an ISO 4217 numeric code, or None when it is not in the table."""
    return next((name for name, (code, _) in CURRENCIES.items() if code == numeric), None)


@dataclass(frozen=True, slots=True, order=True)
class Money:
    """An amount in minor units (cents) of `currency` (ISO 4217 alphabetic)."""

    amount_minor: int
    currency: str

    def __post_init__(self) -> None:
        if isinstance(self.amount_minor, bool) or not isinstance(self.amount_minor, int):
            raise TypeError(f"amount_minor is {self.amount_minor!r}; money is an integer")
        if self.currency not in CURRENCIES:
            raise ValueError(f"currency {self.currency!r} is not known; expected an ISO 4217 code")

    @property
    def digits(self) -> int:
        return CURRENCIES[self.currency][1]

    @property
    def numeric_currency(self) -> str:
        return CURRENCIES[self.currency][0]

    def _same(self, other: Money) -> None:
        if self.currency != other.currency:
            raise ValueError(f"{self} and {other} are of different currencies")

    def __add__(self, other: Money) -> Money:
        self._same(other)
        return Money(self.amount_minor + other.amount_minor, self.currency)

    def __sub__(self, other: Money) -> Money:
        self._same(other)
        return Money(self.amount_minor - other.amount_minor, self.currency)

    def __bool__(self) -> bool:
        return self.amount_minor != 0

    def text(self) -> str:
        """The amount alone with its digits: "50.00"."""
        return str(
            Decimal(self.amount_minor)
            .scaleb(-self.digits)
            .quantize(Decimal(1).scaleb(-self.digits))
        )

    def __str__(self) -> str:
        return f"{self.text()} {self.currency}"

    @classmethod
    def parse(cls, text: str, currency: str) -> Money:
        """Money from exact text such as "50.00"; more digits than the currency has are refused."""
        exact = Decimal(text).scaleb(CURRENCIES[currency][1])
        minor = int(exact)
        if exact != minor:
            raise ValueError(f"{text} {currency} has more digits than the currency")
        return cls(minor, currency)
