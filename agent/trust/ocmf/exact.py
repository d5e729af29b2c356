"""JSON of foreign records: numbers stay exact, one key counts once, and nothing exhausts the reader.

Meters write readings as decimal numbers, so plain.py, which refuses them, does not fit. They become
`Decimal` with the digits they were written with, never a float.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from decimal import Decimal
from typing import NoReturn, TypeAlias, cast

JSON: TypeAlias = "bool | int | Decimal | str | Sequence[JSON] | Mapping[str, JSON] | None"

# A register has about ten digits; vendors put 32-bit counters and hashes beside it. More would only
# serve to make arithmetic slow.
MAX_NUMBER_CHARS = 40
MAX_EXPONENT = 40
# The deepest known record nests three levels (a cable's data in a reading).
MAX_DEPTH = 20


class OcmfRefused(ValueError):
    """The text is no record that can be used. `reason` is one of format, duplicate_key, size;
    `text` says what was seen, without quoting it."""

    def __init__(self, reason: str, text: str) -> None:
        super().__init__(text)
        self.reason, self.text = reason, text


def _pairs(pairs: list[tuple[str, JSON]]) -> dict[str, JSON]:
    out = dict(pairs)
    if len(out) != len(pairs):
        # Readers take the first or the last of them: the signature would cover both meanings.
        raise OcmfRefused("duplicate_key", "the same key stands twice in one object")
    return out


def _integer(digits: str) -> int:
    if len(digits) > MAX_NUMBER_CHARS:
        raise OcmfRefused("format", f"a number has more than {MAX_NUMBER_CHARS} characters")
    return int(digits)


def decimal(digits: str) -> Decimal:
    """An exact decimal from JSON's number syntax. Raises OcmfRefused when it is out of all proportion."""
    if len(digits) > MAX_NUMBER_CHARS:
        raise OcmfRefused("format", f"a number has more than {MAX_NUMBER_CHARS} characters")
    value = Decimal(digits)
    if abs(value.adjusted()) > MAX_EXPONENT:
        raise OcmfRefused("format", "a number is larger or smaller than any reading")
    return value


def _constant(name: str) -> NoReturn:
    raise OcmfRefused("format", f"{name} is no number in JSON")


def _check(value: JSON, depth: int) -> None:
    if depth > MAX_DEPTH:
        raise OcmfRefused("format", f"nested deeper than {MAX_DEPTH} levels")
    if isinstance(value, str):
        if any("\ud800" <= char <= "\udfff" for char in value):
            raise OcmfRefused("format", "a text holds half a character (a lone surrogate)")
    elif isinstance(value, Mapping):
        for key, item in value.items():
            _check(key, depth + 1)
            _check(item, depth + 1)
    elif isinstance(value, Sequence):
        for item in value:
            _check(item, depth + 1)


def loads_object(text: str, what: str) -> dict[str, JSON]:
    """The JSON object in `text`. Raises OcmfRefused, naming it `what`."""
    try:
        value = json.loads(
            text,
            object_pairs_hook=_pairs,
            parse_float=decimal,
            parse_int=_integer,
            parse_constant=_constant,
        )
        _check(value, 0)
    except OcmfRefused as refused:
        raise OcmfRefused(refused.reason, f"{what}: {refused.text}") from None
    except RecursionError:
        raise OcmfRefused("format", f"{what}: nested deeper than {MAX_DEPTH} levels") from None
    except json.JSONDecodeError as error:
        text = f"{what}: not JSON: {error.msg} at character {error.pos}"
        raise OcmfRefused("format", text) from None
    if not isinstance(value, dict):
        raise OcmfRefused("format", f"{what}: not a JSON object")
    return cast("dict[str, JSON]", value)


def dumps(value: JSON, *, indent: int = 0) -> str:
    """`value` as JSON in ASCII, decimals digit for digit. Compact, or with `indent` blanks a level."""
    return _dump(value, indent, 0)


def _dump(value: JSON, indent: int, depth: int) -> str:
    if isinstance(value, Decimal):
        return str(value)
    if isinstance(value, str) or value is None or isinstance(value, bool | int):
        return json.dumps(value)
    colon = ": " if indent else ":"
    if isinstance(value, Mapping):
        parts = [
            f"{json.dumps(key)}{colon}{_dump(item, indent, depth + 1)}"
            for key, item in value.items()
        ]
        ends = "{}"
    else:
        parts = [_dump(item, indent, depth + 1) for item in value]
        ends = "[]"
    if not indent or not parts:
        return f"{ends[0]}{','.join(parts)}{ends[1]}"
    inner, outer = "\n" + " " * indent * (depth + 1), "\n" + " " * indent * depth
    return f"{ends[0]}{inner}{f',{inner}'.join(parts)}{outer}{ends[1]}"
