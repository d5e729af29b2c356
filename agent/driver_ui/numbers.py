"""Money, energy and time as drivers read them. From integers and decimals, never through a float."""

from __future__ import annotations

from decimal import Decimal

from agent.driver_ui.words import DECIMAL_MARK
from agent.values import Money


def mark(text: str, language: str) -> str:
    """A number written with a point, with the language's decimal mark."""
    return text.replace(".", DECIMAL_MARK.get(language, "."))


def amount(money: Money, language: str) -> str:
    """ "50.00 EUR" or "50,00 EUR"."""
    return f"{mark(money.text(), language)} {money.currency}"


def number(money: Money, language: str) -> str:
    """The amount without its currency."""
    return mark(money.text(), language)


def unit_price(price: Decimal, digits: int, language: str) -> str:
    """An exact unit price: at least the currency's digits, more only where they are not zero."""
    text = f"{price:f}"
    whole, _, fraction = text.partition(".")
    fraction = fraction.rstrip("0").ljust(digits, "0")
    return mark(f"{whole}.{fraction}" if fraction else whole, language)


def percent(value: Decimal, language: str) -> str:
    """ "19" or "5.5"."""
    return unit_price(value, 0, language)


def energy(wh: int, language: str) -> str:
    """ "22.212 kWh": every Wh, because a bill must be computable from what is printed."""
    return mark(f"{wh // 1000}.{wh % 1000:03d} kWh", language)


def clock(ms: int) -> str:
    """A duration in whole seconds, "45:12" or "1:45:12"."""
    seconds = ms // 1000
    hours, rest = divmod(seconds, 3600)
    minutes = rest // 60
    return f"{hours}:{minutes:02d}:{rest % 60:02d}" if hours else f"{minutes}:{rest % 60:02d}"
