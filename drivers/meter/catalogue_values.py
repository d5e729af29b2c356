"""The values of a model file: where each is, how it reads, and what is wrong with how that is written."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from decimal import Decimal, InvalidOperation
from fractions import Fraction

from drivers.meter.model import Block, Mark, Part, Text, Value
from drivers.meter.values import MARKS as MARK_NAMES
from drivers.meter.values import TEXT_TYPES, TYPES, UNITS, WordOrder
from drivers.yaml_nodes import Entry

_NEEDED = ("energy_import", "power")
_NAME = re.compile(r"[a-z][a-z0-9_]{0,39}")
# First part of a value's name -> base unit it must have.
_BASE_OF = (
    ("voltage", "V"), ("current", "A"), ("power_factor", ""), ("power", "W"), ("apparent", "VA"),
    ("reactive", "var"), ("energy", "Wh"), ("frequency", "Hz"), ("temperature", "degC"),
)  # fmt: skip
_LEVELS_SURE = ("high", "medium")
# Registers of a text: the longest in any catalogue has 16, 32 characters.
_TEXT_REGISTERS_MOST = 64


@dataclass(frozen=True, slots=True)
class Marks:
    """What values refer to: the blocks, and the file's word order."""

    blocks: Mapping[str, Block]
    word_order: WordOrder


@dataclass(slots=True)
class Values:
    """`names` are all that were written, also those that could not be read (`wrong`)."""

    numbers: dict[str, Value] = field(default_factory=dict)
    texts: dict[str, Text] = field(default_factory=dict)
    names: list[str] = field(default_factory=list)
    wrong: bool = False


def read_values(top: Entry, marks: Marks) -> Values:
    found = Values()
    entries = top.mapping("values")
    if entries is None:
        return found
    found.names = entries.names
    for name in _NEEDED:
        if name not in entries.names:
            entries.problem(name, "missing")
            found.wrong = True
    for name in entries.names:
        entry = entries.mapping(name)
        if not _NAME.fullmatch(name):
            entries.problem(name, "expected a name of a-z, 0-9 and _")
        read: Value | Text | None = None
        if entry is not None and _is_text(name, entry):
            read = _text(entry, marks)
        elif entry is not None:
            read = _number(name, entry, marks)
        if isinstance(read, Value):
            found.numbers[name] = read
        elif read is not None:
            found.texts[name] = read
        else:
            found.wrong = True
    return found


def read_identity(top: Entry, marks: Marks, confidence: Mapping[str, str]) -> tuple[Mark, ...]:
    """Empty where the file has none: such a meter is known by its values only."""
    if "identity" not in top.names:
        return ()
    entries = top.mapping("identity")
    found = []
    for name in entries.names if entries is not None else ():
        entry = entries.mapping(name) if entries is not None else None
        if entry is None:
            continue
        text = _text(entry, marks, ("expected", "others"))
        expected = entry.texts("expected") or ()
        others: dict[str, str] = {}
        known = entry.mapping("others") if "others" in entry.names else None
        for key in known.names if known is not None else ():
            said = known.text(key) if known is not None else None
            if said is not None:
                others[key] = said
        if text is not None and expected:
            sure = confidence.get(name) in _LEVELS_SURE
            found.append(Mark(name, text, expected, others, sure))
    return tuple(found)


def _is_text(name: str, entry: Entry) -> bool:
    return name == "serial_number" or entry.word("type") in ("ascii", "ascii_low", "bcd")


def _text(entry: Entry, marks: Marks, also: tuple[str, ...] = ()) -> Text | None:
    entry.only(["block", "address", "type", "registers", "word_order", "not_available", *also])
    kind = entry.choice("type", TEXT_TYPES)
    if kind is None:
        return None
    registers: int | None
    if kind in TYPES:
        registers = TYPES[kind][0]
        if "registers" in entry.names:
            entry.problem("registers", f"{kind} has {registers}; leave it out")
    else:
        registers = entry.integer("registers", 1, _TEXT_REGISTERS_MOST)
    not_available = _not_available(entry)
    order = _order(entry, marks)
    place = _place(entry, marks.blocks, "address", registers or 1)
    if place is None or registers is None or order is None:
        return None
    return Text(*place, kind, registers, order, not_available)


def _number(name: str, entry: Entry, marks: Marks) -> Value | None:
    entry.only([
        "block", "address", "type", "scale", "unit", "word_order", "not_available", "min", "max",
        "exponent", "plus",
    ])  # fmt: skip
    needed = name in _NEEDED
    kind = entry.choice("type", tuple(TYPES))
    place = _place(entry, marks.blocks, "address", TYPES[kind][0] if kind else 1)
    base = next((unit for prefix, unit in _BASE_OF if name.startswith(prefix)), None)
    units = tuple(unit for unit, (of, _) in UNITS.items() if base is None or of == base)
    unit, order = entry.choice("unit", units), _order(entry, marks)
    not_available = _not_available(entry, may_be_missing=not needed)
    scale = _decimal(entry, "scale")
    low = _decimal(entry, "min") if needed or "min" in entry.names else None
    high = _decimal(entry, "max") if needed or "max" in entry.names else None
    if place is not None and name == "energy_import" and place[0] != "billing":
        entry.problem("block", f"{name} is read for billing, so its block must be billing")
    exponent = _beside(entry, "exponent", marks.blocks) if "exponent" in entry.names else None
    if kind is None or place is None or unit is None or scale is None or order is None:
        return None
    if needed and (low is None or high is None):
        return None
    if scale <= 0:
        entry.problem("scale", "expected more than 0")
    if low is not None and high is not None and low >= high:
        entry.problem("min", "expected less than max")
    of, by = UNITS[unit]
    plus = _plus(entry, marks.blocks, by) if "plus" in entry.names else None
    return Value(
        *place, kind, order, not_available, of, scale * by, None if low is None else low * by,
        None if high is None else high * by, exponent, plus,
    )  # fmt: skip


def _plus(entry: Entry, blocks: Mapping[str, Block], by: Fraction) -> Part | None:
    """The second number; it must lie in the block of the first."""
    plus = entry.mapping("plus")
    if plus is None:
        return None
    plus.only(["address", "type", "scale", "most"])
    kind, scale = plus.choice("type", tuple(TYPES)), _decimal(plus, "scale")
    most = plus.integer("most", 0, 0x7FFF_FFFF) if "most" in plus.names else None
    if kind is None or scale is None:
        return None
    if scale == 0:
        plus.problem("scale", "expected something else than 0")
    at = _offset(plus, entry.text("block"), blocks, "address", TYPES[kind][0])
    return None if at is None else Part(at, kind, scale * by, most)


def _beside(entry: Entry, key: str, blocks: Mapping[str, Block]) -> int | None:
    return _offset(entry, entry.text("block"), blocks, key, 1)


def _place(
    entry: Entry, blocks: Mapping[str, Block], key: str, registers: int
) -> tuple[str, int] | None:
    """Block and offset of a value, which must lie inside."""
    name = entry.text("block")
    if name is not None and name not in blocks:
        entry.problem("block", f"{name!r}: expected one of {', '.join(blocks) or 'no blocks'}")
        return None
    at = _offset(entry, name, blocks, key, registers)
    return None if name is None or at is None else (name, at)


def _offset(
    entry: Entry, name: str | None, blocks: Mapping[str, Block], key: str, registers: int
) -> int | None:
    address = entry.integer(key, 0, 0xFFFF)
    block = blocks.get(name or "")
    if address is None or block is None:
        return None
    last = block.address + block.count - 1
    if not block.address <= address <= last - registers + 1:
        entry.problem(
            key,
            f"{address:#06x} with {registers} registers is outside block {name} "
            f"({block.address:#06x} to {last:#06x})",
        )
        return None
    return address - block.address


def _order(entry: Entry, marks: Marks) -> WordOrder | None:
    if "word_order" not in entry.names:
        return marks.word_order
    order = entry.choice("word_order", tuple(WordOrder))
    return None if order is None else WordOrder(order)


def _not_available(entry: Entry, *, may_be_missing: bool = True) -> tuple[str, ...]:
    if may_be_missing and "not_available" not in entry.names:
        return ()
    marks = entry.texts("not_available", may_be_empty=True) or ()
    for mark in marks:
        if mark not in MARK_NAMES and not re.fullmatch(r"0x[0-9A-Fa-f]{1,16}", mark):
            expected = ", ".join(MARK_NAMES)
            entry.problem("not_available", f"{mark!r}: expected {expected} or a number as 0x..")
    return marks


def _decimal(entry: Entry, key: str) -> Fraction | None:
    text = entry.text(key)
    if text is None:
        return None
    try:
        number = Decimal(text)
        if not number.is_finite() or abs(number.adjusted()) > 30:
            raise InvalidOperation
        return Fraction(number)
    except InvalidOperation:
        entry.problem(key, f'{text!r}: expected a decimal number as text, such as "0.1"')
        return None
