"""Plain JSON: the only JSON that may be stored as an event or signed as a record.

Compact, ASCII, objects with text keys, whole numbers only. A float is refused in both directions: money
and billed energy must not become one in any reader (design §2 rule 8). Two equal keys in one object are
refused too, because readers disagree on which of them counts, and a signature covers both.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import NoReturn, TypeAlias, cast

JSON: TypeAlias = "bool | int | str | list[JSON] | dict[str, JSON] | None"

# Beyond 2**53 - 1 a reader that keeps numbers as doubles rounds silently (RFC 7493 ch. 2.2).
MAX_INTEGER = 2**53 - 1
# Ours nest five levels; the bound keeps a hostile text from exhausting the stack.
MAX_DEPTH = 20
MAX_DIGITS = len(str(MAX_INTEGER)) + 1


class NotPlain(ValueError):
    """The value or text is not plain JSON; the message names the place, never the value itself,
    which may be what must not be shown."""


def _check(value: object, where: str, depth: int) -> None:
    if depth > MAX_DEPTH:
        raise NotPlain(f"{where} is nested deeper than {MAX_DEPTH} levels")
    if value is None or isinstance(value, bool | str):
        return
    if isinstance(value, int):
        if abs(value) > MAX_INTEGER:
            raise NotPlain(f"{where} is a number beyond 2**53; write it as text")
        return
    if isinstance(value, Mapping):
        for key, item in value.items():
            if not isinstance(key, str) or not key.isascii():
                raise NotPlain(f"{where} has a key that is not ASCII text")
            _check(item, f"{where}.{key}", depth + 1)
        return
    if isinstance(value, Sequence) and not isinstance(value, bytes | bytearray):
        for index, item in enumerate(value):
            _check(item, f"{where}[{index}]", depth + 1)
        return
    kind = type(value).__name__
    raise NotPlain(f"{where} is a {kind}; expected text, a whole number, true, false or null")


def dumps(value: object) -> str:
    """`value` as compact ASCII JSON, keys in the order given. Raises NotPlain."""
    _check(value, "$", 0)
    return json.dumps(value, ensure_ascii=True, allow_nan=False, separators=(",", ":"))


def _pairs(pairs: list[tuple[str, JSON]]) -> dict[str, JSON]:
    out = dict(pairs)
    if len(out) != len(pairs):
        raise NotPlain("the same key stands twice in one object")
    return out


def _no_float(_: str) -> NoReturn:
    raise NotPlain("a number is not whole")


def _integer(digits: str) -> int:
    if len(digits) > MAX_DIGITS or abs(int(digits)) > MAX_INTEGER:
        raise NotPlain("a number is beyond 2**53")
    return int(digits)


def loads(text: str | bytes) -> JSON:
    """Parse plain JSON strictly. Raises NotPlain for anything else."""
    try:
        value = json.loads(
            text,
            object_pairs_hook=_pairs,
            parse_float=_no_float,
            parse_constant=_no_float,
            parse_int=_integer,
        )
        _check(value, "$", 0)
    except RecursionError:
        raise NotPlain(f"nested deeper than {MAX_DEPTH} levels") from None
    except UnicodeDecodeError:
        raise NotPlain("not UTF-8") from None
    except json.JSONDecodeError as error:
        raise NotPlain(f"not JSON: {error.msg} at character {error.pos}") from None
    return cast("JSON", value)


def loads_object(text: str | bytes) -> dict[str, JSON]:
    """Parse a plain JSON object. Raises NotPlain."""
    value = loads(text)
    if not isinstance(value, dict):
        raise NotPlain("not a JSON object")
    return value
