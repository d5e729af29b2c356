"""A tariff as text that is kept: a session is priced by what it began by, whatever the file says later."""

from __future__ import annotations

import hashlib
import json
from decimal import Decimal
from typing import Any

from agent.tariff.model import EnergyPrice, FixedPrice, PriceBasis, Rounding, Tariff, TimePrice

# 64 bits: told apart are the few tariffs of one station, and nobody gains by two that look alike.
DIGEST_CHARS = 16


def to_text(tariff: Tariff) -> str:
    """ASCII JSON with exact decimals as text; the same tariff gives the same text."""
    body = {
        "id": tariff.id,
        "currency": tariff.currency,
        "prices": str(tariff.prices),
        "vat_percent": str(tariff.vat_percent),
        "rounding": str(tariff.rounding),
        "energy": [str(e.price_kwh) for e in tariff.energy],
        "charging_time": [str(e.price_minute) for e in tariff.charging_time],
        "idle_time": [str(e.price_minute) for e in tariff.idle_time],
        "fixed": [str(e.price) for e in tariff.fixed],
        "description": dict(tariff.description),
    }
    return json.dumps(body, sort_keys=True, separators=(",", ":"))


_KEYS = frozenset(
    {
        *("id", "currency", "prices", "vat_percent", "rounding", "description"),
        *("energy", "charging_time", "idle_time", "fixed"),
    }
)


def from_text(text: str) -> Tariff:
    """Raises ValueError for what `to_text` did not make, or what this version cannot evaluate: a price that
    it does not know must not be left out."""
    try:
        body: dict[str, Any] = json.loads(text)
        if strange := body.keys() - _KEYS:
            raise ValueError(f"not known in a tariff: {', '.join(sorted(strange))}")
        return Tariff(
            id=body["id"],
            currency=body["currency"],
            prices=PriceBasis(body["prices"]),
            vat_percent=Decimal(body["vat_percent"]),
            rounding=Rounding(body["rounding"]),
            energy=tuple(EnergyPrice(Decimal(p)) for p in body["energy"]),
            charging_time=tuple(TimePrice(Decimal(p)) for p in body["charging_time"]),
            idle_time=tuple(TimePrice(Decimal(p)) for p in body["idle_time"]),
            fixed=tuple(FixedPrice(Decimal(p)) for p in body["fixed"]),
            description=body["description"],
        )
    except (KeyError, TypeError, AttributeError, ArithmeticError) as error:
        raise ValueError(f"not a tariff that was kept: {error!r}") from None


def from_named(name: str, text: str) -> Tariff:
    """As `from_text`; raises ValueError, too, where the text is not the one that `name` was made of."""
    tariff = from_text(text)
    if digest(tariff) != name:
        raise ValueError(f"not the tariff that was kept as {name}")
    return tariff


def digest(tariff: Tariff) -> str:
    """Names the text, as hex."""
    return hashlib.sha256(to_text(tariff).encode("ascii")).hexdigest()[:DIGEST_CHARS]
