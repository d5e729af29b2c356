"""A price as the driver sees it: lines, tax and total in the currency. Kept with the session, so that a
receipt printed years later needs no tariff and computes nothing again."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from decimal import Decimal
from enum import StrEnum
from typing import cast

from agent.values import Money


class LineKey(StrEnum):
    """What a line is for; the display and the receipt have words for it in each language."""

    ENERGY = "energy"
    TIME = "time"
    PARKING = "parking"
    FIXED = "fixed"


@dataclass(frozen=True, slots=True)
class Line:
    """One dimension of the price, tax included.

    `quantity` is in Wh (energy), ms (time, parking) or pieces (fixed); `unit_price` is the exact price
    in major units for a kWh, a minute or the piece; `amount_minor` is rounded for reading only: the
    total is not the sum of the lines but rounded once from the exact sum."""

    key: LineKey
    quantity: int
    unit_price: Decimal
    amount_minor: int

    @property
    def quantity_text(self) -> str:
        """The billed quantity with all its digits and a point: "22.212 kWh", "45:12.345 min", "1"."""
        if self.key is LineKey.ENERGY:
            return f"{self.quantity // 1000}.{self.quantity % 1000:03d} kWh"
        if self.key is LineKey.FIXED:
            return str(self.quantity)
        seconds, ms = divmod(self.quantity, 1000)
        fraction = f".{ms:03d}" if ms else ""
        return f"{seconds // 60}:{seconds % 60:02d}{fraction} min"

    def to_json(self) -> dict[str, int | str]:
        return {
            "key": str(self.key),
            "quantity": self.quantity,
            "unit_price": f"{self.unit_price:f}",
            "amount_minor": self.amount_minor,
        }

    @classmethod
    def from_json(cls, data: Mapping[str, int | str]) -> Line:
        return cls(
            LineKey(str(data["key"])),
            int(data["quantity"]),
            Decimal(str(data["unit_price"])),
            int(data["amount_minor"]),
        )


@dataclass(frozen=True, slots=True)
class Bill:
    """Lines, tax and total of one session. `net_minor` + `vat_minor` = `total_minor` always."""

    currency: str
    lines: tuple[Line, ...]
    net_minor: int
    vat_minor: int
    total_minor: int
    vat_percent: Decimal
    rounding: str

    def __post_init__(self) -> None:
        if self.net_minor + self.vat_minor != self.total_minor:
            raise ValueError(
                f"net {self.net_minor} and tax {self.vat_minor} do not make {self.total_minor}"
            )

    @property
    def total(self) -> Money:
        return Money(self.total_minor, self.currency)

    @property
    def rounding_minor(self) -> int:
        """What the one rounding at the end adds to the sum of the lines as they are printed."""
        return self.total_minor - sum(line.amount_minor for line in self.lines)

    def to_json(self) -> dict[str, object]:
        return {
            "currency": self.currency,
            "lines": [line.to_json() for line in self.lines],
            "net_minor": self.net_minor,
            "vat_minor": self.vat_minor,
            "total_minor": self.total_minor,
            "vat_percent": f"{self.vat_percent:f}",
            "rounding": self.rounding,
        }

    @classmethod
    def from_json(cls, data: Mapping[str, object]) -> Bill:
        rows = cast(list[Mapping[str, int | str]], data["lines"])
        return cls(
            str(data["currency"]),
            tuple(Line.from_json(row) for row in rows),
            int(cast(int, data["net_minor"])),
            int(cast(int, data["vat_minor"])),
            int(cast(int, data["total_minor"])),
            Decimal(str(data["vat_percent"])),
            str(data["rounding"]),
        )
