"""price(): usage and tariff to an exact price. Fractions inside, because a third of a minute and a net
amount behind 19 percent have no finite decimal form."""

from __future__ import annotations

from dataclasses import dataclass
from decimal import Decimal
from fractions import Fraction

from agent.tariff.bill import Bill, Line, LineKey
from agent.tariff.model import PriceBasis, Rounding, Tariff, Usage
from agent.values import Money
from agent.values.money import CURRENCIES

WH_PER_KWH = 1000
MS_PER_MINUTE = 60_000
# Digits after the point of an exact amount that has no finite decimal form; the last one is rounded
# half to even. Far below anything that could move a cent.
EXACT_DIGITS = 12

# The names of OCPP 2.1 CostDetails' dimensions in our JSON, in the order they are written.
DIMENSIONS = ("energy", "time", "parking", "fixed", "reservation")


@dataclass(frozen=True, slots=True)
class Amount:
    """Major units, exact, without and with tax."""

    excl: Fraction = Fraction(0)
    incl: Fraction = Fraction(0)

    def __add__(self, other: Amount) -> Amount:
        return Amount(self.excl + other.excl, self.incl + other.incl)

    def to_json(self) -> dict[str, str]:
        return {"excl": decimal_text(self.excl), "incl": decimal_text(self.incl)}


@dataclass(frozen=True, slots=True)
class Price:
    """The price of a usage. Only `total_minor` is ever billed; everything else explains it."""

    tariff: Tariff
    usage: Usage
    energy: Amount
    time: Amount
    parking: Amount
    fixed: Amount
    reservation: Amount = Amount()

    @property
    def currency(self) -> str:
        return self.tariff.currency

    @property
    def exact(self) -> Amount:
        return self.energy + self.time + self.parking + self.fixed + self.reservation

    @property
    def total_minor(self) -> int:
        """The gross total in minor units, rounded once, by the tariff's rule."""
        parts = (self.energy, self.time, self.parking, self.fixed, self.reservation)
        return self._minor(sum((part.incl for part in parts), Fraction(0)))

    @property
    def net_minor(self) -> int:
        """The total without tax. Where prices contain the tax, the net is taken out of the amount that
        is billed, so that it can be recomputed from the receipt; where they do not, it is the exact net."""
        if self.tariff.prices is PriceBasis.INCLUDING_VAT:
            billed = Fraction(self.total_minor, self._scale)
            return self._minor(billed / self.tariff.vat_factor)
        return self._minor(self.exact.excl)

    @property
    def total(self) -> Money:
        return Money(self.total_minor, self.currency)

    @property
    def lines(self) -> tuple[Line, ...]:
        """One line for each price of the tariff, also where its quantity is zero, in the order the
        law asks of the display: kWh, minute, occupancy, session."""
        t, u = self.tariff, self.usage
        rows: list[tuple[LineKey, int, Decimal, Amount]] = []
        rows += [(LineKey.ENERGY, u.energy_wh, e.price_kwh, self.energy) for e in t.energy]
        rows += [(LineKey.TIME, u.charging_ms, e.price_minute, self.time) for e in t.charging_time]
        rows += [(LineKey.PARKING, u.idle_ms, e.price_minute, self.parking) for e in t.idle_time]
        rows += [(LineKey.FIXED, 1, e.price, self.fixed) for e in t.fixed]
        return tuple(
            Line(key, quantity, t.including_vat(each), self._minor(amount.incl))
            for key, quantity, each, amount in rows
        )

    @property
    def bill(self) -> Bill:
        total = self.total_minor
        net = self.net_minor
        return Bill(
            self.currency,
            self.lines,
            net,
            total - net,
            total,
            self.tariff.vat_percent,
            str(self.tariff.rounding),
        )

    def json(self) -> dict[str, object]:
        """{"currency", "exact", "rounded", "rounding"}: `exact` and `rounded` hold "total" and each
        dimension as {"excl", "incl"} decimal strings. Exact amounts without a finite decimal form are
        written with 12 digits after the point."""
        parts = {name: self._part(name) for name in DIMENSIONS}
        rounded_total = {
            "excl": self._text(self.net_minor),
            "incl": self._text(self.total_minor),
        }
        return {
            "currency": self.currency,
            "exact": {"total": self.exact.to_json()}
            | {name: part.to_json() for name, part in parts.items()},
            "rounded": {"total": rounded_total}
            | {
                name: {
                    "excl": self._text(self._minor(part.excl)),
                    "incl": self._text(self._minor(part.incl)),
                }
                for name, part in parts.items()
            },
            "rounding": str(self.tariff.rounding),
        }

    def _part(self, name: str) -> Amount:
        part = getattr(self, name)
        assert isinstance(part, Amount)
        return part

    @property
    def _scale(self) -> int:
        return int(10 ** CURRENCIES[self.currency][1])

    def _minor(self, major: Fraction) -> int:
        return round_minor(major * self._scale, self.tariff.rounding)

    def _text(self, amount_minor: int) -> str:
        return Money(amount_minor, self.currency).text()


def price(tariff: Tariff, usage: Usage) -> Price:
    """What `usage` costs under `tariff`. Time is charged by the exact millisecond, energy by the Wh."""
    kwh = Fraction(usage.energy_wh, WH_PER_KWH)
    charging_min = Fraction(usage.charging_ms, MS_PER_MINUTE)
    idle_min = Fraction(usage.idle_ms, MS_PER_MINUTE)

    factor, gross = tariff.vat_factor, tariff.prices is PriceBasis.INCLUDING_VAT

    def amount(quantity: Fraction, each: list[Decimal]) -> Amount:
        cost = sum((quantity * Fraction(value) for value in each), Fraction(0))
        if not cost:  # most dimensions of most tariffs; this is asked several times a second
            return Amount()
        return Amount(cost / factor, cost) if gross else Amount(cost, cost * factor)

    return Price(
        tariff,
        usage,
        energy=amount(kwh, [e.price_kwh for e in tariff.energy]),
        time=amount(charging_min, [e.price_minute for e in tariff.charging_time]),
        parking=amount(idle_min, [e.price_minute for e in tariff.idle_time]),
        fixed=amount(Fraction(1), [e.price for e in tariff.fixed]),
    )


def session_price(tariff: Tariff, usage: Usage) -> Price:
    """What a session is billed: `price`, and nothing at all where the register did not move (OCPP 2.1
    C20). No start fee and no time is charged for energy that nobody got; the times stay in the usage."""
    if usage.energy_wh:
        return price(tariff, usage)
    return Price(tariff, usage, energy=Amount(), time=Amount(), parking=Amount(), fixed=Amount())


def round_minor(exact: Fraction, rule: Rounding) -> int:
    """A non-negative exact number of minor units as a whole one."""
    if exact < 0:
        raise ValueError(f"{exact} minor units; a price is never negative")
    whole, rest = divmod(exact.numerator, exact.denominator)
    twice = 2 * rest
    if rule is Rounding.DOWN or twice < exact.denominator:
        return whole
    if twice > exact.denominator or rule is Rounding.HALF_UP:
        return whole + 1
    return whole + whole % 2


def decimal_text(value: Fraction) -> str:
    """A non-negative fraction as a plain decimal without trailing zeros, exact where it can be."""
    rest, digits = value.denominator, 0
    while rest % 10 == 0:
        rest, digits = rest // 10, digits + 1
    for prime in (2, 5):
        while rest % prime == 0:
            rest, digits = rest // prime, digits + 1
    if rest != 1:
        digits = EXACT_DIGITS
    scaled = round(value * 10**digits)  # exact when the form is finite, else half to even
    text = f"{scaled:0{digits + 1}d}"
    if not digits:
        return text
    return f"{text[:-digits]}.{text[-digits:]}".rstrip("0").rstrip(".")
