"""A meter model as the driver uses it; `catalogue.py` makes it from a file. Values only."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

from drivers.meter.timing import DeviceTiming
from drivers.meter.values import TYPES, WordOrder


@dataclass(frozen=True, slots=True)
class Block:
    """One request: function 3 or 4, wire address, registers."""

    function: int
    address: int
    count: int


@dataclass(frozen=True, slots=True)
class Part:
    """A second number added to the first: the decimals of a counter, or what flows the other way.
    `most` is the largest raw number it may have, so that a part out of step is seen."""

    at: int
    type: str
    factor: Fraction
    most: int | None

    @property
    def registers(self) -> int:
        return TYPES[self.type][0]


@dataclass(frozen=True, slots=True)
class Value:
    """A number in a block: `at` registers behind its start. `factor` takes the raw number to the base
    unit (Wh, W, V ...); `low` and `high` bound it there, where the file says so. `exponent_at` is the
    register with a signed power of ten that goes with the number."""

    block: str
    at: int
    type: str
    word_order: WordOrder
    not_available: tuple[str, ...]
    unit: str
    factor: Fraction
    low: Fraction | None
    high: Fraction | None
    exponent_at: int | None = None
    plus: Part | None = None

    @property
    def registers(self) -> int:
        return TYPES[self.type][0]


@dataclass(frozen=True, slots=True)
class Text:
    """Something told rather than measured: `type` is one of `values.TEXT_TYPES` over `registers`."""

    block: str
    at: int
    type: str
    registers: int
    word_order: WordOrder
    not_available: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Mark:
    """A register that tells which model this is. `expected` are the texts this model tells; `others`
    names what else is known to be told there. `sure`: two sources or one good one, so that another
    text refuses the meter; otherwise it is only a hint for a person."""

    name: str
    text: Text
    expected: tuple[str, ...]
    others: Mapping[str, str]
    sure: bool


@dataclass(frozen=True, slots=True)
class SigningUnit:
    """`protocol`: which sequence the meter signs by. `reply_ms`: how late it may answer while it signs;
    None where it answers as always."""

    protocol: str
    reply_ms: int | None


@dataclass(frozen=True, slots=True)
class Model:
    """`baud`, `framing` and `unit` are factory settings, None where no source has them."""

    id: str
    vendor: str
    models: tuple[str, ...]
    phases: int
    baud: int | None
    framing: str | None
    unit: int | None
    timing: DeviceTiming
    word_order: WordOrder
    signing: str
    blocks: Mapping[str, Block]
    values: Mapping[str, Value]
    texts: Mapping[str, Text]
    identity: tuple[Mark, ...]
    confidence: Mapping[str, str]
    gotchas: tuple[str, ...]
    sources: tuple[str, ...]
    path: Path
    signing_unit: SigningUnit | None = None

    @property
    def energy_import(self) -> Value:
        return self.values["energy_import"]

    @property
    def power(self) -> Value:
        return self.values["power"]

    @property
    def serial_number(self) -> Text | None:
        return self.texts.get("serial_number")
