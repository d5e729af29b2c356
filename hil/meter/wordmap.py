"""Register maps of simulated meters: `maps/NAME.yaml`, or a file of one's own.

line        baud, framing, unit: what the simulator uses where the command line says nothing
functions   read functions that are served (3 holding, 4 input registers)
low_first   true: the least significant word of a number comes first
phases      1 or 3;  serial: the number it has unless another is given (digits or text)
most_words  longest read it answers
gaps        zero: registers between the known ones read 0; refuse: exception 2
alone       addresses that are answered as a read of that single register only
walls       addresses that a read may begin at but not run across
turnaround_ms, refresh_ms, wraps_wh: time to an answer, how often its values are fresh (0: always),
            and where its energy counters begin again at zero
settings    address -> values: registers that can be written, as f32 or u16 (`f32: true`)
registers   address -> one of u16 i16 u32 i32 u64 i64 f32 dec24 idec24 text chars bcd, with the name of
            what it holds. Beside it: `per` unit and `counts` per unit; `exponent`: a power of ten
            instead of counts; `part: whole|rest` of a counter in two halves; `holds` for a constant;
            `words` for texts; `absent: true` for a quantity that this variant does not measure
holding     the same for registers that function 3 serves beside those of function 4
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from fractions import Fraction
from pathlib import Path
from typing import Any

import yaml

FOLDER = Path(__file__).with_name("maps")
WORDS_OF = {
    "u16": 1, "i16": 1, "u32": 2, "i32": 2, "u64": 4, "i64": 4, "f32": 2, "dec24": 2, "idec24": 2,
    "text": 0, "chars": 0, "bcd": 0,
}  # fmt: skip
PER = {
    "Wh": Fraction(1), "kWh": Fraction(1000), "W": Fraction(1), "kW": Fraction(1000), "V": Fraction(1),
    "A": Fraction(1), "Hz": Fraction(1), "degC": Fraction(1), "one": Fraction(1),
}  # fmt: skip
FRAMING_BITS = {"8N1": 10, "8E1": 11, "8O1": 11, "8N2": 11}


class MapError(ValueError):
    """The map is not one; the text says where and why."""


@dataclass(frozen=True, slots=True)
class Register:
    """A number or text at one place. `unit` times 1/`counts` is one count, unless `exponent` says so."""

    address: int
    kind: str
    name: str
    words: int
    unit: Fraction = Fraction(1)
    counts: Fraction = Fraction(1)
    exponent: int | None = None
    part: str = ""
    holds: int | str | None = None
    absent: bool = False

    @property
    def quantity(self) -> str:
        return self.name.partition(".")[0]


@dataclass(frozen=True, slots=True)
class Setting:
    """A register a master may write: `allowed` values, in one word or as a float in two."""

    address: int
    name: str
    is_float: bool
    allowed: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class WordMap:
    name: str
    baud: int
    framing: str
    unit: int
    functions: tuple[int, ...]
    low_first: bool
    phases: int
    serial: str
    most_words: int
    gaps_read_zero: bool
    walls: frozenset[int]
    turnaround_ms: int
    refresh_ms: int
    wraps_wh: int
    registers: tuple[Register, ...]
    holding: tuple[Register, ...] = ()
    settings: tuple[Setting, ...] = field(default=())


def names() -> list[str]:
    return sorted(path.stem for path in FOLDER.glob("*.yaml"))


def load(name: str) -> WordMap:
    """The map called `name`, or in the file `name`. Raises MapError, OSError."""
    path = Path(name) if "/" in name or name.endswith(".yaml") else FOLDER / f"{name}.yaml"
    if not path.is_file():
        raise MapError(f"no meter {name!r} to simulate; there is {', '.join(names())}")
    try:
        raw = yaml.safe_load(path.read_text())
        return _map(path.stem, raw)
    except (yaml.YAMLError, KeyError, TypeError, ValueError, AttributeError) as error:
        raise MapError(f"{path}: {type(error).__name__}: {error}") from error


def _map(name: str, raw: Mapping[str, Any]) -> WordMap:
    line = raw["line"]
    if line["framing"] not in FRAMING_BITS:
        raise MapError(f"framing {line['framing']!r}")
    return WordMap(
        name=name,
        baud=int(line["baud"]),
        framing=str(line["framing"]),
        unit=int(line["unit"]),
        functions=tuple(raw["functions"]),
        low_first=bool(raw["low_first"]),
        phases=int(raw["phases"]),
        serial=str(raw.get("serial", "")),
        most_words=int(raw.get("most_words", 125)),
        gaps_read_zero=raw["gaps"] == "zero",
        walls=frozenset(raw.get("walls", ())),
        turnaround_ms=int(raw.get("turnaround_ms", 20)),
        refresh_ms=int(raw.get("refresh_ms", 0)),
        wraps_wh=int(raw["wraps_wh"]),
        registers=_registers(raw["registers"]),
        holding=_registers(raw.get("holding", {})),
        settings=tuple(_setting(a, s) for a, s in raw.get("settings", {}).items()),
    )


def _registers(raw: Mapping[int, Mapping[str, Any]]) -> tuple[Register, ...]:
    found = sorted((_register(a, spec) for a, spec in raw.items()), key=lambda r: r.address)
    for one, two in itertools.pairwise(found):
        if one.address + one.words > two.address:
            raise MapError(f"{one.name} at {one.address:#06x} runs into {two.name}")
    return tuple(found)


def _register(address: int, spec: Mapping[str, Any]) -> Register:
    (kind,) = [key for key in spec if key in WORDS_OF]
    words = int(spec.get("words", WORDS_OF[kind]))
    unknown = set(spec) - {kind, "per", "counts", "exponent", "part", "holds", "words", "absent"}
    if unknown or words < 1 or spec.get("part", "") not in ("", "whole", "rest"):
        raise MapError(f"{address:#06x}: {dict(spec)}")
    return Register(
        address=int(address),
        kind=kind,
        name=str(spec[kind]),
        words=words,
        unit=PER[str(spec.get("per", "one"))],
        counts=Fraction(str(spec.get("counts", 1))),
        exponent=spec.get("exponent"),
        part=str(spec.get("part", "")),
        holds=spec.get("holds"),
        absent=bool(spec.get("absent", False)),
    )


def _setting(address: int, spec: Mapping[str, Any]) -> Setting:
    allowed = range(spec["from"], spec["to"] + 1)
    return Setting(int(address), str(spec["name"]), bool(spec.get("f32")), tuple(allowed))


def replaced(found: WordMap, name: str, holds: int | str) -> WordMap:
    """The map with another constant: a meter of another code or version."""
    registers = tuple(
        replace(register, holds=holds) if register.name == name else register
        for register in found.registers
    )
    return replace(found, registers=registers)
