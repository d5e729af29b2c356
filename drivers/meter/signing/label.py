"""What a transaction is called in the meter's record: the `text` of the port's `begin`.

A JSON object in ASCII with keys of OCMF: ID (identification, different for each transaction), IT, IL, IF,
IS, TT (tariff text), CT and CI (charge point), and TM, the time of day of this call in OCMF's own writing
("2026-11-21T12:40:00,000+0100 S"). Only a time with status S or I is given to the meter: a clock that is
not known must not end in a record that claims a time.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from datetime import datetime

from drivers.meter.signing.steps import wrong_text

ID_TYPES = (
    "NONE", "DENIED", "UNDEFINED", "ISO14443", "ISO15693", "EMAID", "EVCCID", "EVCOID", "ISO7812",
    "CARD_TXN_NR", "CENTRAL", "CENTRAL_1", "CENTRAL_2", "LOCAL", "LOCAL_1", "LOCAL_2", "PHONE_NUMBER",
    "KEY_CODE",
)  # fmt: skip
ID_LEVELS = (
    "NONE", "HEARSAY", "TRUSTED", "VERIFIED", "CERTIFIED", "SECURE", "MISMATCH", "INVALID", "OUTDATED",
    "UNKNOWN",
)  # fmt: skip
PLACE_TYPES = ("EVSEID", "CBIDC")
FLAGS_MOST = 4
# OCMF ch. "Identification": a card number must not enter a signed record, so ISO7812 is not offered.
_REFUSED_TYPE = "ISO7812"
_TEXT_MOST = 4096
# The first would cut the record in two (OCMF ch. "Format"); the others end a JSON text where firmware does
# not escape them.
_FORBIDDEN = '|"\\'
_TIME = re.compile(r"(\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d),(\d{3})([+-]\d{4}) ([USIR])")
_KEYS = frozenset({"ID", "IT", "IL", "IF", "IS", "TT", "CT", "CI", "TM"})


@dataclass(frozen=True, slots=True)
class TimeOfDay:
    """A time of day as it was at `at_ms` of the boot-time clock. `synchronised`: with status S."""

    utc_ms: int
    offset_min: int
    at_ms: int
    synchronised: bool

    def utc_s(self, now_ms: int) -> int:
        """Whole seconds since 1970 at `now_ms`."""
        return (self.utc_ms + now_ms - self.at_ms) // 1000


@dataclass(frozen=True, slots=True)
class Label:
    """Printable ASCII, without what would break the record."""

    id: str
    id_type: str = "UNDEFINED"
    level: str = "NONE"
    flags: tuple[str, ...] = ()
    assigned: bool = True
    tariff: str = ""
    place_type: str = "EVSEID"
    place: str = ""
    time: TimeOfDay | None = None


def parse(text: str, now_ms: int) -> Label:
    """Raises SigningTrouble MTR-034."""
    if len(text) > _TEXT_MOST:
        raise wrong_text(f"a text of {len(text)} characters")
    try:
        raw = json.loads(text)
    except ValueError:
        raise wrong_text("a text that is no JSON") from None
    if not isinstance(raw, dict) or not raw.keys() <= _KEYS:
        raise wrong_text(f"a text that is no object with keys of {', '.join(sorted(_KEYS))}")
    flags, assigned = raw.get("IF", []), raw.get("IS", True)
    if not isinstance(flags, list) or len(flags) > FLAGS_MOST or not isinstance(assigned, bool):
        raise wrong_text("IF is no list of up to 4 flags, or IS is neither true nor false")
    found = Label(
        _text(raw, "ID"), _one_of(raw, "IT", ID_TYPES, "UNDEFINED"), _one_of(raw, "IL", ID_LEVELS, "NONE"),
        tuple(_plain("IF", flag) for flag in flags), assigned, _text(raw, "TT"),
        _one_of(raw, "CT", PLACE_TYPES, "EVSEID"), _text(raw, "CI"), _time(_text(raw, "TM"), now_ms),
    )  # fmt: skip
    if not found.id.strip():
        raise wrong_text("ID is empty, and without it a transaction cannot be told from the next")
    if found.id_type == _REFUSED_TYPE:
        raise wrong_text("IT is ISO7812, but a card number must not be in a signed record")
    return found


def _text(raw: dict[str, object], key: str) -> str:
    return _plain(key, raw.get(key, ""))


def _plain(key: str, value: object) -> str:
    if not isinstance(value, str):
        raise wrong_text(f"{key} is no text")
    if not value.isascii() or not value.isprintable() or any(sign in value for sign in _FORBIDDEN):
        raise wrong_text(f"{key} has characters other than printable ASCII, or one of {_FORBIDDEN}")
    return value


def _one_of(raw: dict[str, object], key: str, known: tuple[str, ...], default: str) -> str:
    value = raw.get(key, default)
    if value not in known or not isinstance(value, str):
        raise wrong_text(f"{key} is none of {', '.join(known)}")
    return value


def _time(text: str, now_ms: int) -> TimeOfDay | None:
    if not text:
        return None
    match = _TIME.fullmatch(text)
    try:
        if match is None:
            raise ValueError
        at = datetime.strptime(match[1] + match[3], "%Y-%m-%dT%H:%M:%S%z")
    except ValueError:
        raise wrong_text("TM is no time such as 2026-11-21T12:40:00,000+0100 S") from None
    if match[4] not in "SI":
        return None
    offset = at.utcoffset()
    assert offset is not None
    utc_ms = int(at.timestamp()) * 1000 + int(match[2])
    return TimeOfDay(utc_ms, int(offset.total_seconds()) // 60, now_ms, match[4] == "S")


def limit(name: str, value: str, most: int) -> bytes:
    """`value` as the meter gets it. Raises SigningTrouble MTR-034 rather than cut anything off."""
    if len(value) > most:
        raise wrong_text(f"{name} has {len(value)} characters; this meter takes {most}")
    return value.encode("ascii")
