"""Registers to exact numbers. No float anywhere: float32 is taken apart into integers.

A value is decoded to a `Fraction` of its base unit (Wh, W ...), and rounded once, by who bills it.
"""

from __future__ import annotations

from collections.abc import Sequence
from enum import StrEnum
from fractions import Fraction


class NotAvailable(Exception):
    """The meter says itself that it has no value: NaN, infinity or another mark of the model."""


class WordOrder(StrEnum):
    BIG = "big"  # most significant word first
    LITTLE = "little"


# Type name -> (registers, kind). "ascii" has as many registers as the model file says.
TYPES: dict[str, tuple[int, str]] = {
    "u16": (1, "unsigned"),
    "i16": (1, "signed"),
    "u32": (2, "unsigned"),
    "i32": (2, "signed"),
    "u64": (4, "unsigned"),
    "i64": (4, "signed"),
    "f32": (2, "float"),
}

# Unit -> (base unit, how many base units one is).
UNITS: dict[str, tuple[str, int]] = {
    "Wh": ("Wh", 1),
    "kWh": ("Wh", 1_000),
    "MWh": ("Wh", 1_000_000),
    "W": ("W", 1),
    "kW": ("W", 1_000),
}

# Marks a model file may name, besides a raw number such as "0x7FFFFFFF".
MARKS = ("nan", "all_ones", "zero")


def raw_number(words: Sequence[int], order: WordOrder) -> int:
    """The registers as one unsigned number."""
    number = 0
    for word in words if order is WordOrder.BIG else reversed(words):
        number = number << 16 | word
    return number


def float32(raw: int) -> Fraction:
    """IEEE 754 binary32, exactly. Raises NotAvailable for NaN and infinity."""
    sign, exponent, mantissa = raw >> 31, raw >> 23 & 0xFF, raw & 0x7FFFFF
    if exponent == 0xFF:
        raise NotAvailable("not a number" if mantissa else "infinite")
    if exponent:
        mantissa |= 0x800000
    value = Fraction(mantissa) * Fraction(2) ** (max(exponent, 1) - 150)
    return -value if sign else value


def float32_step(raw: int) -> Fraction:
    """The distance from this float32 to the next larger one: what the register can tell apart."""
    return Fraction(2) ** (max(raw >> 23 & 0xFF, 1) - 150)


def is_marked(raw: int, bits: int, marks: Sequence[str]) -> str | None:
    """The mark that `raw` bears, if any. NaN is found by `float32`, whatever its payload."""
    for mark in marks:
        if mark == "all_ones" and raw == (1 << bits) - 1:
            return "all ones"
        if mark == "zero" and raw == 0:
            return "zero"
        if mark not in MARKS and raw == int(mark, 16):
            return mark
    return None


def decode(raw: int, type_name: str, marks: Sequence[str]) -> Fraction:
    """The number in the register's own unit. Raises NotAvailable."""
    registers, kind = TYPES[type_name]
    bits = 16 * registers
    mark = is_marked(raw, bits, marks)
    if mark is not None:
        raise NotAvailable(mark)
    if kind == "float":
        return float32(raw)
    if kind == "signed" and raw >> (bits - 1):
        return Fraction(raw - (1 << bits))
    return Fraction(raw)
