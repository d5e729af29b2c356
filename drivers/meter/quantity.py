"""Values and texts of a model out of the registers of a block. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from decimal import Decimal
from fractions import Fraction

from drivers.meter.model import Text, Value
from drivers.meter.values import decode, power_of_ten, raw_number, step_of, text_of


class OutOfRange(Exception):
    """A number that the model file rules out."""


@dataclass(frozen=True, slots=True)
class Number:
    """`value` in the base unit, exact; `step` is what the registers can tell apart there."""

    value: Fraction
    step: Fraction


def words_of(value: Value, block: Sequence[int]) -> list[int]:
    """The registers that make up the value, in the order of the wire: of the number, then of its
    exponent or second part."""
    words = list(block[value.at : value.at + value.registers])
    if value.exponent_at is not None:
        words.append(block[value.exponent_at])
    if value.plus is not None:
        words += block[value.plus.at : value.plus.at + value.plus.registers]
    return words


def number_in(value: Value, block: Sequence[int]) -> Number:
    """Raises NotAvailable for the meter's own marks, OutOfRange for what the model file rules out."""
    raw = raw_number(block[value.at : value.at + value.registers], value.word_order)
    number = decode(raw, value.type, value.not_available)
    factor = value.factor
    if value.exponent_at is not None:
        factor *= power_of_ten(block[value.exponent_at])
    found, step = number * factor, step_of(raw, value.type) * factor
    if value.plus is not None:
        part = value.plus
        raw = raw_number(block[part.at : part.at + part.registers], value.word_order)
        more = decode(raw, part.type, value.not_available)
        if part.most is not None and not 0 <= more <= part.most:
            raise OutOfRange(f"its second part reads {shown(more)}; expected 0 to {part.most}")
        found += more * part.factor
        step = min(step, abs(step_of(raw, part.type) * part.factor))
    if (value.low is not None and found < value.low) or (
        value.high is not None and found > value.high
    ):
        low = "any" if value.low is None else shown(value.low)
        high = "any" if value.high is None else shown(value.high)
        raise OutOfRange(f"reads {shown(found)}; expected {low} to {high}")
    return Number(found, step)


def text_in(text: Text, block: Sequence[int]) -> str | None:
    """None where the meter tells none."""
    words = block[text.at : text.at + text.registers]
    return text_of(words, text.type, text.word_order, text.not_available)


def shown(number: Fraction) -> str:
    """For a person: at most nine digits, no exponent."""
    text = f"{Decimal(number.numerator) / number.denominator:.9g}"
    return f"{Decimal(text):f}"
