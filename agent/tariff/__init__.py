"""What a session costs, and when it must stop. Pure; exact fractions inside, one rounding at the end."""

from agent.tariff.bill import Bill, Line, LineKey
from agent.tariff.expected import expected_price
from agent.tariff.limit import Headroom, headroom, limit_reached
from agent.tariff.model import (
    EnergyPrice,
    FixedPrice,
    PriceBasis,
    Rounding,
    Tariff,
    TariffInvalid,
    TimePrice,
    Usage,
)
from agent.tariff.price import Amount, Price, price, session_price

__all__ = [
    "Amount",
    "Bill",
    "EnergyPrice",
    "FixedPrice",
    "Headroom",
    "Line",
    "LineKey",
    "Price",
    "PriceBasis",
    "Rounding",
    "Tariff",
    "TariffInvalid",
    "TimePrice",
    "Usage",
    "expected_price",
    "headroom",
    "limit_reached",
    "price",
    "session_price",
]
