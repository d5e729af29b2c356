"""Quantities to registers, as a meter does it: counters are cut off, measured values rounded. Pure."""

from __future__ import annotations

import struct
from collections.abc import Sequence
from fractions import Fraction

from hil.meter.wordmap import Register

NAN = 0x7FC00000
_BITS = {"u16": 16, "i16": 16, "u32": 32, "i32": 32, "u64": 64, "i64": 64}
# The mark of a quantity that is not there: the largest number of the type, all ones where it has no sign.
_ABSENT_SIGNED = {"i16": 0x8000, "i32": 0x7FFFFFFF, "idec24": 0x7FFFFFFF, "i64": 0x7FFFFFFFFFFFFFFF}
_DEC24_MOST = 0xFFFFFF
_IDEC24_MOST = 0x7FFFFF


def absent(register: Register) -> list[int]:
    """What the registers read where the meter has no value."""
    if register.kind == "f32":
        return _split(NAN, 2)
    raw = _ABSENT_SIGNED.get(register.kind, (1 << 16 * register.words) - 1)
    return _split(raw, register.words)


def encode(register: Register, value: Fraction, *, counter: bool) -> tuple[list[int], Fraction]:
    """The words, most significant first, and the exact value they stand for. A value that does not fit
    its registers is held at their limit, as displays do."""
    in_unit = value / register.unit
    if register.part:
        whole = int(in_unit)
        rest = int((in_unit - whole) * register.counts)
        raw = whole if register.part == "whole" else rest
        return _fitted(register, raw)[0], (whole + rest / register.counts) * register.unit
    if register.kind == "f32":
        (raw,) = struct.unpack(">I", struct.pack(">f", float(in_unit * register.counts)))
        (back,) = struct.unpack(">f", struct.pack(">I", raw))
        return _split(raw, 2), Fraction(back) / register.counts * register.unit
    if register.kind in ("dec24", "idec24"):
        return _decimal(register, in_unit)
    per_count = Fraction(1) / register.counts
    if register.exponent is not None:
        per_count = Fraction(10) ** register.exponent
    counted = in_unit / per_count
    raw = int(counted) if counter else _rounded(counted)
    words, raw = _fitted(register, raw)
    return words, raw * per_count * register.unit


def _decimal(register: Register, in_unit: Fraction) -> tuple[list[int], Fraction]:
    """As many decimals as three bytes hold, up to those of the map."""
    most = _DEC24_MOST if register.kind == "dec24" else _IDEC24_MOST
    exponent = register.exponent if register.exponent is not None else 0
    while abs(_rounded(in_unit / Fraction(10) ** exponent)) > most:
        exponent += 1
    number = _rounded(in_unit / Fraction(10) ** exponent)
    raw = (exponent & 0xFF) << 24 | number & 0xFFFFFF
    return _split(raw, 2), number * Fraction(10) ** exponent * register.unit


def _fitted(register: Register, raw: int) -> tuple[list[int], int]:
    bits = _BITS[register.kind]
    low = -(1 << (bits - 1)) if register.kind[0] == "i" else 0
    held = min(max(raw, low), low + (1 << bits) - 1)
    return _split(held & (1 << bits) - 1, register.words), held


def constant(register: Register, holds: int | str) -> list[int]:
    """The registers of a text or of a number that does not change."""
    if register.kind == "bcd":
        return _split(int(str(holds).zfill(4 * register.words), 16), register.words)
    if register.kind == "text":
        data = str(holds).encode("ascii").ljust(2 * register.words, b"\0")
        return [int.from_bytes(data[n : n + 2], "big") for n in range(0, 2 * register.words, 2)]
    if register.kind == "chars":
        return list(str(holds).encode("ascii").ljust(register.words, b"\0"))
    return _split(int(holds) & (1 << 16 * register.words) - 1, register.words)


def is_number(register: Register) -> bool:
    return register.kind not in ("text", "chars", "bcd")


def in_order(register: Register, words: Sequence[int], low_first: bool) -> list[int]:
    """As they stand on the wire: texts never turn."""
    return list(reversed(words)) if low_first and is_number(register) else list(words)


def _split(raw: int, words: int) -> list[int]:
    return [raw >> 16 * (words - 1 - n) & 0xFFFF for n in range(words)]


def _rounded(value: Fraction) -> int:
    return round(value)
