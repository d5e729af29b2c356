"""Model files: what a meter is asked and how its registers read. One YAML file per model.

The form (`format: voltill-meter-1`), all keys required unless said otherwise, others refused:

    id              the file's own name
    vendor, models  for people;  phases: 1 or 3
    line            factory setting: baud, framing, unit; other_baud (optional): what it can be set to
    timing          min_gap_ms: pause from its reply to the next request to it
                    turnaround_ms: how long its reply is waited for, wire time apart
                    longest_reply_ms: how late a reply may still begin (the quarantine after a timeout)
    word_order      big (most significant word first) or little
    max_registers   most registers it gives in one request
    blocks          name -> function (3 or 4), address (on the wire, from zero), count. One block is one
                    request: "billing" is needed, "serial" only where there is a serial number
    values          name -> block, address, type (u16 i16 u32 i32 u64 i64 f32), scale (exact decimal text),
                    unit (Wh kWh MWh W kW), min and max (decimal text, in `unit`), not_available (marks:
                    nan, all_ones, zero, or a raw number in hex as text). energy_import and power are
                    needed. serial_number has no scale, unit, min, max; its type may be ascii with
                    `registers`
    together        groups of values that are wrong unless read in one request; each must share a block
    confidence      name -> high (two independent sources agree), medium (one), low (check on the device)
    gotchas         texts;  sources: where it is from

A technician's own folder is looked at first, so a file there can correct a shipped one.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Mapping
from dataclasses import dataclass
from decimal import Decimal, InvalidOperation
from fractions import Fraction
from pathlib import Path

from drivers.meter.timing import DeviceTiming
from drivers.meter.values import MARKS, TYPES, UNITS, WordOrder
from drivers.yaml_nodes import Entry, Problem, read_document

SHIPPED = Path(__file__).with_name("models")
FORMAT = "voltill-meter-1"
_NAME = re.compile(r"[a-z0-9][a-z0-9_]{0,63}")
_BASE_OF = {"energy_import": "Wh", "power": "W"}
_CONFIDENCES = ("high", "medium", "low")
_TOP_KEYS = [
    "format",
    "id",
    "vendor",
    "models",
    "phases",
    "line",
    "timing",
    "word_order",
    "max_registers",
    "blocks",
    "values",
    "together",
    "confidence",
    "gotchas",
    "sources",
]


class ModelError(ValueError):
    """A model is not known (MTR-008) or its file is wrong (MTR-009). `problems` has all of them."""

    def __init__(self, code: str, problems: list[Problem] | str) -> None:
        text = problems if isinstance(problems, str) else "\n".join(map(str, problems))
        super().__init__(f"{code}: {text}")
        self.code = code
        self.problems = [] if isinstance(problems, str) else problems


@dataclass(frozen=True, slots=True)
class Block:
    """One request: function 3 or 4, wire address, registers."""

    function: int
    address: int
    count: int


@dataclass(frozen=True, slots=True)
class Value:
    """A number in a block: `at` registers behind its start. `factor` takes the raw number to the base
    unit (Wh or W); `low` and `high` bound it there."""

    block: str
    at: int
    type: str
    not_available: tuple[str, ...]
    factor: Fraction
    low: Fraction
    high: Fraction

    @property
    def registers(self) -> int:
        return TYPES[self.type][0]


@dataclass(frozen=True, slots=True)
class SerialNumber:
    """Where the serial number is: `type` u16, u32, u64 or ascii over `registers`."""

    block: str
    at: int
    type: str
    registers: int
    not_available: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Model:
    id: str
    vendor: str
    models: tuple[str, ...]
    phases: int
    baud: int
    framing: str
    unit: int
    timing: DeviceTiming
    word_order: WordOrder
    blocks: Mapping[str, Block]
    energy_import: Value
    power: Value
    serial_number: SerialNumber | None
    gotchas: tuple[str, ...]
    path: Path


def known_models(models_dir: Path | None = None) -> list[str]:
    """Names of all models there are files for."""
    folders = [folder for folder in (models_dir, SHIPPED) if folder is not None and folder.is_dir()]
    return sorted({path.stem for folder in folders for path in folder.glob("*.yaml")})


def load_model(name: str, models_dir: Path | None = None) -> Model:
    """The model called `name`, from `models_dir` or from those shipped. Raises ModelError."""
    if models_dir is not None and not models_dir.is_dir():
        raise ModelError("MTR-008", f"models_dir {models_dir} is not a folder")
    for folder in (models_dir, SHIPPED):
        if folder is None or not _NAME.fullmatch(name):
            continue
        path = folder / f"{name}.yaml"
        if path.is_file():
            return load_file(path)
    known = known_models(models_dir)
    close = difflib.get_close_matches(name, known, 1)
    hint = f"did you mean {close[0]}?" if close else f"expected one of: {', '.join(known)}"
    raise ModelError("MTR-008", f"meter model {name!r} is not known; {hint}")


def load_file(path: Path) -> Model:
    """The model in this file. Raises ModelError with every problem, each with file, line and reason."""
    problems: list[Problem] = []
    top = read_document(path, problems)
    if top is None:
        raise ModelError("MTR-009", problems)
    model = _model(top, path)
    if model is None or problems:
        raise ModelError("MTR-009", sorted(problems, key=lambda problem: problem.line))
    return model


# --- Sections. Each returns None after it has noted a problem. --------------------------------------


def _model(top: Entry, path: Path) -> Model | None:
    top.only(_TOP_KEYS)
    top.choice("format", (FORMAT,))
    name = top.text("id")
    if name is not None and (name != path.stem or not _NAME.fullmatch(name)):
        top.problem("id", f"{name!r}: expected the file's name, {path.stem!r} (a-z, 0-9, _)")
    vendor, models = top.text("vendor"), top.texts("models")
    phases = top.integer("phases", 1, 3)
    line, timing = _line(top), _timing(top)
    order = top.choice("word_order", tuple(WordOrder))
    most = top.integer("max_registers", 1, 125)
    blocks = _blocks(top, most or 125)
    energy = _value(top, "energy_import", blocks)
    power = _value(top, "power", blocks)
    serial = _serial(top, blocks)
    _together(top)
    _confidence(top)
    gotchas = top.texts("gotchas", may_be_empty=True)
    top.texts("sources")
    if None in (name, vendor, models, phases, line, timing, order, energy, power, gotchas):
        return None
    assert name and vendor and models and phases and line and timing and order
    assert energy is not None and power is not None and gotchas is not None
    return Model(
        name, vendor, models, phases, *line, timing, WordOrder(order), blocks, energy, power, serial,
        gotchas, path,
    )  # fmt: skip


def _line(top: Entry) -> tuple[int, str, int] | None:
    line = top.mapping("line")
    if line is None:
        return None
    line.only(["baud", "framing", "unit", "other_baud"])
    baud, unit = line.integer("baud", 300, 1_000_000), line.integer("unit", 1, 247)
    framing = line.choice("framing", ("8N1", "8E1", "8O1", "8N2"))
    if baud is None or unit is None or framing is None:
        return None
    return baud, framing, unit


def _timing(top: Entry) -> DeviceTiming | None:
    timing = top.mapping("timing")
    if timing is None:
        return None
    keys = ["turnaround_ms", "longest_reply_ms", "min_gap_ms"]
    timing.only(keys)
    numbers = [timing.integer(key, 0, 60_000) for key in keys]
    if any(number is None for number in numbers):
        return None
    try:
        return DeviceTiming(*(number for number in numbers if number is not None))
    except ValueError as error:
        top.problem("timing", str(error))
        return None


def _blocks(top: Entry, most: int) -> dict[str, Block]:
    found: dict[str, Block] = {}
    entries = top.mapping("blocks")
    for name in entries.names if entries is not None else ():
        block = entries.mapping(name) if entries is not None else None
        if block is None:
            continue
        block.only(["function", "address", "count"])
        function, address = block.integer("function", 3, 4), block.integer("address", 0, 0xFFFF)
        count = block.integer("count", 1, most)
        if function is not None and address is not None and count is not None:
            if address + count > 0x10000:
                block.problem("count", f"{address} + {count} is beyond register 65535")
            found[name] = Block(function, address, count)
    if entries is not None and "billing" not in entries.names:
        top.problem("blocks", "no block called billing")
    return found


def _place(value: Entry, blocks: Mapping[str, Block], registers: int) -> tuple[str, int] | None:
    """Block and offset of a value, which must lie inside."""
    name, address = value.text("block"), value.integer("address", 0, 0xFFFF)
    if name is None or address is None:
        return None
    if name not in blocks:
        value.problem("block", f"{name!r}: expected one of {', '.join(blocks) or 'no blocks'}")
        return None
    block = blocks[name]
    last = block.address + block.count - 1
    if not block.address <= address <= last - registers + 1:
        value.problem(
            "address",
            f"{address:#06x} with {registers} registers is outside block {name} "
            f"({block.address:#06x} to {last:#06x})",
        )
        return None
    return name, address - block.address


def _marks(value: Entry) -> tuple[str, ...]:
    marks = value.texts("not_available", may_be_empty=True) or ()
    for mark in marks:
        if mark not in MARKS and not re.fullmatch(r"0x[0-9A-Fa-f]{1,16}", mark):
            expected = ", ".join(MARKS)
            value.problem("not_available", f"{mark!r}: expected {expected} or a number as 0x..")
    return marks


def _decimal(value: Entry, key: str) -> Fraction | None:
    text = value.text(key)
    if text is None:
        return None
    try:
        number = Decimal(text)
        if not number.is_finite() or abs(number.adjusted()) > 30:
            raise InvalidOperation
        return Fraction(number)
    except InvalidOperation:
        value.problem(key, f'{text!r}: expected a decimal number as text, such as "0.1"')
        return None


def _value(top: Entry, name: str, blocks: Mapping[str, Block]) -> Value | None:
    values = top.mapping("values")
    if values is None:
        return None
    values.only(["energy_import", "power", "serial_number"])
    value = values.mapping(name)
    if value is None:
        return None
    value.only(["block", "address", "type", "scale", "unit", "not_available", "min", "max"])
    kind = value.choice("type", tuple(TYPES))
    place = _place(value, blocks, TYPES[kind][0] if kind else 1)
    units = tuple(unit for unit, (base, _) in UNITS.items() if base == _BASE_OF[name])
    unit, marks = value.choice("unit", units), _marks(value)
    scale, low, high = (_decimal(value, key) for key in ("scale", "min", "max"))
    if (
        place is None
        or kind is None
        or unit is None
        or scale is None
        or low is None
        or high is None
    ):
        return None
    if place[0] != "billing":
        value.problem("block", f"{name} is read for billing, so its block must be billing")
    if scale <= 0:
        value.problem("scale", "expected more than 0")
    if low >= high:
        value.problem("min", "expected less than max")
    base = UNITS[unit][1]
    return Value(*place, kind, marks, scale * base, low * base, high * base)


def _serial(top: Entry, blocks: Mapping[str, Block]) -> SerialNumber | None:
    values = top.mapping("values")
    if values is None or "serial_number" not in values.names:
        return None
    value = values.mapping("serial_number")
    if value is None:
        return None
    value.only(["block", "address", "type", "registers", "not_available"])
    kind = value.choice("type", ("u16", "u32", "u64", "ascii"))
    if kind is None:
        return None
    registers = value.integer("registers", 1, 64) if kind == "ascii" else TYPES[kind][0]
    marks = _marks(value)
    place = _place(value, blocks, registers or 1)
    if place is None or registers is None:
        return None
    return SerialNumber(*place, kind, registers, marks)


def _together(top: Entry) -> None:
    values = top.mapping("values")
    for group in top.groups("together"):
        blocks = set()
        for name in group:
            value = values.mapping(name) if values is not None and name in values.names else None
            if value is None:
                top.problem("together", f"{name!r} is none of the values")
            else:
                blocks.add(value.text("block"))
        if len(blocks) > 1:
            names = ", ".join(group)
            top.problem("together", f"{names}: must be in one block, else they can be torn")


def _confidence(top: Entry) -> None:
    confidence = top.mapping("confidence")
    for name in confidence.names if confidence is not None else ():
        if confidence is not None:
            confidence.choice(name, _CONFIDENCES)
