"""The kinds of values settings have. Each turns a scalar as written into what its field means, and says
in a person's words what it wanted instead."""

from __future__ import annotations

import os
import re
from decimal import Decimal
from pathlib import Path
from typing import Annotated, Any, Literal, NoReturn
from urllib.parse import urlsplit

from agent.settings.document import Scalar
from agent.settings.shape import After, AfterIn, Before, Limits, Schema, Unfit
from agent.values.money import CURRENCIES

_WHOLE = re.compile(r"-?(0|[1-9][0-9]{0,17})")
# At most 12 digits before the point and 9 after: more is a typing error in any currency.
_EXACT = re.compile(r"(0|[1-9][0-9]{0,11})(\.[0-9]{1,9})?")
# Without user and password: they would be a secret in the configuration.
_BROKER = re.compile(r"mqtts?://([A-Za-z0-9._-]+|\[[0-9A-Fa-f:.]+\])(:[1-9][0-9]{0,4})?")
FROM_TARIFF = "from_tariff"
EXACT_PATTERN = r"^(0|[1-9][0-9]{0,11})(\.[0-9]{1,9})?$"


def fail(kind: str, seen: str, expected: str = "") -> NoReturn:
    """Refuse a value. `kind` is a name of codes.Kind; the texts go to the person as they are."""
    raise Unfit(kind, seen=seen, expected=expected)


def _scalar(value: Any, wanted: str) -> Scalar:
    if isinstance(value, Scalar):
        return value
    if value is None:
        fail("WRONG_KIND", "is empty", f"expected {wanted}")
    found = "a list" if isinstance(value, list) else "a section (name: value)"
    fail("WRONG_KIND", f"is {found}", f"expected {wanted}")


def _text(value: Any) -> str:
    text = str.__str__(_scalar(value, "text"))
    if not text.strip():
        fail("WRONG_KIND", "is empty", "expected text")
    if not text.isprintable():
        fail(
            "NOT_ALLOWED", "holds a line break or a control character", "expected one line of text"
        )
    return text


def _integer(value: Any) -> int:
    scalar = _scalar(value, "a whole number")
    if scalar.plain and _WHOLE.fullmatch(scalar):
        return int(scalar)
    if not scalar.plain and _WHOLE.fullmatch(scalar):
        fail(
            "WRONG_KIND", f'"{scalar}" is text', f"expected a whole number: {scalar} without quotes"
        )
    fail("WRONG_KIND", f"{_short(scalar)} is no whole number", "expected digits only, such as 9600")


def _exact(value: Any) -> Decimal:
    scalar = _scalar(value, "an exact amount in quotes")
    if scalar.plain:
        better = f'"{scalar}"' if _EXACT.fullmatch(scalar) else 'such as "0.4900"'
        fail(
            "MONEY",
            f"{_short(scalar)} is not in quotes",
            f"money and percentages are written in quotes, so that no digit is lost: {better}",
        )
    if not _EXACT.fullmatch(scalar):
        fail(
            "MONEY",
            f"{_short(scalar)} is no exact amount",
            'expected digits with a point, without sign, currency or exponent, such as "0.4900"',
        )
    return Decimal(scalar)


def _hold_amount(value: Any) -> Decimal | str:
    """An amount in quotes, or the one word without them."""
    return FROM_TARIFF if isinstance(value, Scalar) and value == FROM_TARIFF else _exact(value)


def _option(value: Any) -> str | int | bool:
    scalar = _scalar(value, "a single value")
    if scalar.plain and scalar in ("true", "false"):
        return scalar == "true"
    if scalar.plain and _WHOLE.fullmatch(scalar):
        return int(scalar)
    return str.__str__(scalar)


def _short(text: str) -> str:
    """A value inside a sentence: in quotes, cut when it is long."""
    return f'"{text}"' if len(text) <= 40 else f'"{text[:37]}..."'


def matching(pattern: str, expected: str) -> After:
    """A check of the whole text against `pattern`."""
    compiled = re.compile(pattern)

    def check(value: str) -> str:
        if not compiled.fullmatch(value):
            fail("NOT_ALLOWED", f"{_short(value)} is not allowed", f"expected {expected}")
        return value

    return After(check)


def _resolve(value: str, folder: Path) -> Path:
    """Relative paths are relative to the file they stand in, wherever the agent was started."""
    return Path(os.path.normpath(folder / value))


def _port(value: str, folder: Path) -> str:
    if "://" in value or value.startswith("/"):
        return value
    return str(_resolve(value, folder))


def _broker(value: str) -> str:
    good = _BROKER.fullmatch(value) is not None
    try:
        _ = urlsplit(value).port
    except ValueError:  # a port above 65535, or no address between the brackets
        good = False
    if not good:
        fail(
            "NOT_ALLOWED",
            f"{_short(value)} is not allowed",
            "expected mqtts://host or mqtts://host:port, without user or path",
        )
    return value


def _currency(value: str) -> str:
    if value not in CURRENCIES:
        raise Unfit(
            "NOT_ALLOWED",
            seen=f"{_short(value)} is not a currency this version knows",
            expected="expected an ISO 4217 code: " + ", ".join(CURRENCIES),
            word=value,
            words=list(CURRENCIES),
        )
    return value


def _time_zone(value: str) -> str:
    from zoneinfo import ZoneInfo, available_timezones

    try:
        ZoneInfo(value)
    except (KeyError, ValueError, OSError):
        raise Unfit(
            "NOT_ALLOWED",
            seen=f"{_short(value)} is no time zone of this system",
            expected="expected an IANA name such as Europe/Berlin (package tzdata)",
            word=value,
            words=sorted(available_timezones()),
        ) from None
    return value


AsText = Before(_text)
AsWhole = Before(_integer)

Text = Annotated[str, AsText, Limits(max_length=200)]
Whole = Annotated[int, AsWhole]
# Money and percentages: quoted, exact.
Exact = Annotated[
    Decimal,
    Before(_exact),
    Schema({"type": "string", "pattern": EXACT_PATTERN}),
]
HoldAmount = Annotated[
    Decimal | Literal["from_tariff"],
    Before(_hold_amount),
    Schema({"anyOf": [{"type": "string", "pattern": EXACT_PATTERN}, {"const": FROM_TARIFF}]}),
]
Option = Annotated[
    str | int | bool,
    Before(_option),
    Schema({"type": ["string", "integer", "boolean"]}),
]
# A serial number of digits is text to us, and to an editor a number when it stands without quotes.
SerialNumber = Annotated[Text, Schema({"type": ["string", "integer"]})]
FilePath = Annotated[Path, AsText, AfterIn(_resolve), Schema({"type": "string"})]
Port = Annotated[Text, AfterIn(_port)]
BrokerUrl = Annotated[
    Text,
    After(_broker),
    Schema({"type": "string", "pattern": f"^{_BROKER.pattern}$"}),
]
Currency = Annotated[
    str,
    AsText,
    After(_currency),
    Schema({"type": "string", "enum": list(CURRENCIES)}),
]
TimeZone = Annotated[Text, After(_time_zone)]

_TIME_PATTERN = r"([01][0-9]|2[0-3]):[0-5][0-9]"
TimeOfDay = Annotated[
    Text,
    matching(_TIME_PATTERN, "a time of day with four digits, such as 03:30"),
    Schema({"type": "string", "pattern": f"^{_TIME_PATTERN}$"}),
]

# Ids stand in MQTT topics and in file names: no slash, no wildcard, no blank.
ID_PATTERN = r"[A-Za-z0-9*_.-]{1,48}"
Id = Annotated[
    Text,
    matching(ID_PATTERN, "1 to 48 of A-Z a-z 0-9 * _ . - (it stands in MQTT topics)"),
    Schema({"type": "string", "pattern": f"^{ID_PATTERN}$"}),
]
NAME_PATTERN = r"[a-z][a-z0-9_-]{0,31}"
_NAME = matching(NAME_PATTERN, "1 to 32 of a-z 0-9 _ -, beginning with a letter")
Name = Annotated[
    Text,
    _NAME,
    Schema({"type": "string", "pattern": f"^{NAME_PATTERN}$"}),
]
# As a key of a section a name is already text.
NameKey = Annotated[str, _NAME, Schema({"type": "string", "pattern": f"^{NAME_PATTERN}$"})]
