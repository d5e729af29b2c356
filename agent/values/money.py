"""Money as integer minor units with its currency. No float ever comes near it."""

from __future__ import annotations

import re
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


# Plain ASCII digits only: Decimal also takes "1e3", "1_000", "NaN" and other scripts' digits. Twelve
# before the point are more than a payment terminal's amount field (six BCD bytes) can say.
_EXACT = re.compile(r"-?[0-9]{1,12}(\.[0-9]{1,6})?")


@dataclass(frozen=True, slots=True)
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

    def __lt__(self, other: Money) -> bool:
        self._same(other)
        return self.amount_minor < other.amount_minor

    def __le__(self, other: Money) -> bool:
        self._same(other)
        return self.amount_minor <= other.amount_minor

    def __gt__(self, other: Money) -> bool:
        return other < self

    def __ge__(self, other: Money) -> bool:
        return other <= self

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
        """Money from exact text such as "50.00". Raises ValueError for anything else, for an unknown
        currency, and for more digits than the currency has."""
        zero = cls(0, currency)
        if _EXACT.fullmatch(text) is None:
            raise ValueError(f"{text!r} is no amount; expected digits such as 50.00")
        exact = Decimal(text).scaleb(zero.digits)
        minor = int(exact)
        if exact != minor:
            raise ValueError(f"{text} {currency} has more digits than the currency")
        return cls(minor, currency)
