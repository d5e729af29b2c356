"""One OCMF record taken apart: OCMF|payload|signature (Open Charge Metering Format 1.0 to 1.4).

The structure is read strictly. What meters in the field write differently is let pass and told by the
checks in checks.py. The signed bytes are never made again: they are kept as they came.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from datetime import datetime, timedelta, timezone
from decimal import Decimal

from agent.trust.ocmf import exact
from agent.trust.ocmf.exact import JSON, OcmfRefused
from agent.trust.ocmf.terms import END_REASONS

HEADER = "OCMF"
# The longest seen in the field, with a certificate inside, has 3 KiB; 100 readings have 12 KiB.
MAX_TEXT_CHARS = 64 * 1024
MAX_READINGS = 1000

_HEX_CODED = re.compile(r"4f434d46(?:20)*7c(?:[0-9a-f]{2})+", re.IGNORECASE)
_NUMBER = re.compile(r"-?[0-9]+(\.[0-9]+)?([eE][+-]?[0-9]+)?")
_TIME = re.compile(
    r"(\d{4})-(\d{2})-(\d{2})T(\d{2}):(\d{2}):(\d{2})[,.](\d{1,3})"
    r"(?:Z|([+-])(\d{2}):?(\d{2})) *([A-Z]?)",
    re.ASCII,
)
_FIRST_YEAR, _LAST_YEAR = 1969, 3000  # a meter without a clock says 1970, west of Greenwich 1969
_WH = {"kWh": Decimal(1000), "Wh": Decimal(1)}
# What a reading takes over from the one before it; RV and CL belong to one reading alone.
_INHERITED = ("TM", "TX", "RI", "RU", "RT", "EF", "ST")


@dataclass(frozen=True, slots=True)
class Time:
    """`status`: U unknown, I informative, S synchronised, R relative; empty when it is missing."""

    at: datetime
    status: str

    @classmethod
    def parse(cls, text: str) -> Time | None:
        match = _TIME.fullmatch(text.strip())
        if match is None:
            return None
        year, month, day, hour, minute, second = (int(part) for part in match.groups()[:6])
        fraction, sign, offset_h, offset_min, status = match.groups()[6:]
        if not _FIRST_YEAR <= year <= _LAST_YEAR:
            return None
        try:
            offset = timedelta(hours=int(offset_h or 0), minutes=int(offset_min or 0))
            zone = timezone(-offset if sign == "-" else offset)
            micro = int(fraction.ljust(3, "0")) * 1000
            return cls(datetime(year, month, day, hour, minute, second, micro, zone), status)
        except ValueError:
            return None


@dataclass(frozen=True, slots=True)
class Reading:
    """One reading with what it inherits. Texts are None where they are missing or no text."""

    tm: str | None
    tx: str | None
    ri: str | None
    ru: str | None
    rt: str | None
    ef: str | None
    st: str | None
    rv: JSON
    cl: JSON
    own: dict[str, JSON] = field(repr=False)  # as it stands in the record

    @property
    def time(self) -> Time | None:
        return None if self.tm is None else Time.parse(self.tm)

    @property
    def value(self) -> Decimal | None:
        """RV as a number; also where it is a text, as DZG's blank-padded "   9.038"."""
        return number(self.rv)

    @property
    def wh(self) -> Decimal | None:
        """The register in Wh, exact, or None when RV or RU are not there or no energy."""
        value, factor = self.value, _WH.get(self.ru or "")
        return None if value is None or factor is None else value * factor

    @property
    def begins(self) -> bool:
        return self.tx == "B"

    @property
    def ends(self) -> bool:
        return self.tx in END_REASONS


def number(value: JSON) -> Decimal | None:
    """`value` as an exact number, or None when it is none."""
    if isinstance(value, Decimal):
        return value
    if isinstance(value, int) and not isinstance(value, bool):
        return Decimal(value)
    if isinstance(value, str) and _NUMBER.fullmatch(stripped := value.strip()):
        try:
            return exact.decimal(stripped)
        except OcmfRefused:
            return None
    return None


@dataclass(frozen=True, slots=True)
class Record:
    """`signed`: the bytes the signature covers. `key`: the public key, where it was put into a fourth
    section, which the format does not know but readers take."""

    text: str = field(repr=False)
    signed: bytes = field(repr=False)
    payload: dict[str, JSON]
    signature: dict[str, JSON]
    key: str = ""
    readings: tuple[Reading, ...] = ()

    def get(self, name: str) -> str:
        """A text of the payload; empty where it is missing or no text."""
        value = self.payload.get(name)
        return value if isinstance(value, str) else ""


def parse(text: str | bytes) -> Record:
    """Take a record apart; `text` may be coded in hex as a whole. Raises OcmfRefused and nothing else."""
    plain = _decoded(text)
    header, *sections = plain.split("|")
    if header.strip() != HEADER:
        raise OcmfRefused("format", "does not begin with OCMF|")
    if len(sections) not in (2, 3):
        seen = f"{len(sections)} sections after OCMF, where a | may stand in none of them"
        raise OcmfRefused("format", f"{seen}; expected payload and signature")
    payload = exact.loads_object(sections[0], "payload")
    signature = exact.loads_object(sections[1], "signature section")
    signed = sections[0].encode("utf-8")  # half characters were refused with the JSON
    key = sections[2].strip() if len(sections) == 3 else ""
    return Record(plain, signed, payload, signature, key, _readings(payload))


def _decoded(text: str | bytes) -> str:
    if len(text) > 2 * MAX_TEXT_CHARS:
        raise OcmfRefused("size", f"longer than {MAX_TEXT_CHARS} characters")
    if isinstance(text, bytes):
        try:
            text = text.decode("utf-8-sig")
        except UnicodeDecodeError:
            raise OcmfRefused("format", "not UTF-8") from None
    text = text.strip()
    if _HEX_CODED.fullmatch(text):
        try:
            text = bytes.fromhex(text).decode("utf-8").strip()
        except UnicodeDecodeError:
            raise OcmfRefused("format", "coded in hex, but not UTF-8") from None
    if len(text) > MAX_TEXT_CHARS:
        raise OcmfRefused("size", f"longer than {MAX_TEXT_CHARS} characters")
    return text


def _readings(payload: dict[str, JSON]) -> tuple[Reading, ...]:
    listed = payload.get("RD")
    if not isinstance(listed, list):
        raise OcmfRefused("format", "payload: RD is no list of readings")
    if len(listed) > MAX_READINGS:
        raise OcmfRefused("size", f"more than {MAX_READINGS} readings")
    out: list[Reading] = []
    seen: dict[str, JSON] = {}
    for own in listed:
        if not isinstance(own, dict):
            raise OcmfRefused("format", "payload: a reading in RD is no object")
        seen |= {name: own[name] for name in _INHERITED if name in own}
        tm, tx, ri, ru, rt, ef, st = (_text(seen.get(name)) for name in _INHERITED)
        rv, cl = own.get("RV"), own.get("CL")
        out.append(Reading(tm, tx, ri, ru, rt, ef, st, rv, cl, own))
    return tuple(out)


def _text(value: JSON) -> str | None:
    """TX and EF with stray blanks are known from the field; a number is no text."""
    return value.strip() if isinstance(value, str) else None
