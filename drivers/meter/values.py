"""Registers to exact numbers and texts. No float anywhere: float32 is taken apart into integers.

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


# Type name -> (registers, kind). The two decimal formats hold a signed power of ten in the top byte and
# a number in the other three (Iskra calls them T5 and T6).
TYPES: dict[str, tuple[int, str]] = {
    "u16": (1, "unsigned"),
    "i16": (1, "signed"),
    "u32": (2, "unsigned"),
    "i32": (2, "signed"),
    "u64": (4, "unsigned"),
    "i64": (4, "signed"),
    "f32": (2, "float"),
    "decimal_u24": (2, "decimal"),
    "decimal_i24": (2, "signed_decimal"),
}

# Texts. `ascii` has two characters in a register, `ascii_low` one in its low byte; `bcd` four digits.
# The number of registers of these three is given by the model file.
TEXT_TYPES = ("u16", "u32", "u64", "ascii", "ascii_low", "bcd")

# Unit -> (base unit, how many base units one is).
UNITS: dict[str, tuple[str, Fraction]] = {
    "Wh": ("Wh", Fraction(1)),
    "kWh": ("Wh", Fraction(1_000)),
    "MWh": ("Wh", Fraction(1_000_000)),
    "W": ("W", Fraction(1)),
    "kW": ("W", Fraction(1_000)),
    "V": ("V", Fraction(1)),
    "A": ("A", Fraction(1)),
    "Hz": ("Hz", Fraction(1)),
    "VA": ("VA", Fraction(1)),
    "var": ("var", Fraction(1)),
    "degC": ("degC", Fraction(1)),
    "none": ("", Fraction(1)),
}

# Marks a model file may name, besides a raw number such as "0x7FFFFFFF".
MARKS = ("nan", "all_ones", "zero")

# Powers of ten that a register may hold (SunSpec names this range); anything else is no exponent.
EXPONENT_MOST = 10


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


def power_of_ten(word: int, bits: int = 16) -> Fraction:
    """Ten to the signed number in `word`. Raises NotAvailable for what is no exponent."""
    exponent = signed(word, bits)
    if abs(exponent) > EXPONENT_MOST:
        raise NotAvailable(f"{exponent} as a power of ten")
    return Fraction(10) ** exponent


def signed(raw: int, bits: int) -> int:
    """Two's complement."""
    return raw - (1 << bits) if raw >> (bits - 1) else raw


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
    match kind:
        case "float":
            return float32(raw)
        case "signed":
            return Fraction(signed(raw, bits))
        case "decimal":
            return (raw & 0xFFFFFF) * power_of_ten(raw >> 24, 8)
        case "signed_decimal":
            return signed(raw & 0xFFFFFF, 24) * power_of_ten(raw >> 24, 8)
        case _:
            return Fraction(raw)


def step_of(raw: int, type_name: str) -> Fraction:
    """What the register can tell apart at this value, in its own unit."""
    kind = TYPES[type_name][1]
    if kind == "float":
        return float32_step(raw)
    if kind in ("decimal", "signed_decimal"):
        return power_of_ten(raw >> 24, 8)
    return Fraction(1)


def text_of(
    words: Sequence[int], type_name: str, order: WordOrder, marks: Sequence[str]
) -> str | None:
    """The text in these registers; None where the meter tells none. Characters stand in the order of the
    registers, whatever the word order; numbers are told in decimal.

    Zero and all ones are nobody's serial number or code, whatever the model's marks: a meter that has just
    been switched on answers so for a moment."""
    raw = raw_number(words, order)
    if is_marked(raw, 16 * len(words), ("zero", "all_ones", *marks)):
        return None
    if type_name == "bcd":
        digits = f"{raw:0{4 * len(words)}X}"
        return digits if digits.isdecimal() else None
    if type_name not in ("ascii", "ascii_low"):
        return str(raw)
    if type_name == "ascii":
        data = b"".join(word.to_bytes(2, "big") for word in words)
    else:
        data = bytes(word & 0xFF for word in words)
    text = data.split(b"\0")[0].strip(b" \xff").decode("ascii", "backslashreplace")
    return "".join(c if c.isprintable() else "?" for c in text) or None
