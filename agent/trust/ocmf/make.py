"""OCMF made by the station when the meter does not sign.

It proves that nobody changed the readings since the station took them down. It does not turn a meter into
a calibrated measuring system. What every known validator takes is made and nothing else: format 1.3, P-256,
DER in hex, ASCII, no | anywhere, keys in one order, every reading complete.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta, tzinfo
from decimal import Decimal
from typing import Protocol

from agent.trust.keys import SCALAR_BYTES, PublicKey, der_signature
from agent.trust.ocmf import exact, obis, terms
from agent.trust.ocmf.exact import JSON
from agent.trust.ocmf.findings import card_places
from agent.values import Quality, ReadingState, Stamp

FORMAT_VERSION = "1.3"  # the transparency software up to 1.4.1 refuses 1.4
IMPORT_REGISTER = "1-0:1.8.0"
MAX_TEXT_FIELD_CHARS = 100  # names and serial numbers; the format sets no bound, displays do
MAX_ID_CHARS = 40  # the format's data area of the identification
MAX_CABLE_NAME_CHARS = 20
MAX_MARKS = 100  # begin, end and every change of tariff of a day; far below what a reader takes
MAX_ENERGY_WH = 10**12  # no meter's register reaches a terawatt-hour
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_LAST_MS = 32_503_680_000_000  # the year 3000
_CLOCK = {Quality.TRUSTED: "S", Quality.RESTORED: "I", Quality.UNKNOWN: "U"}
SUBSTITUTE = "S"
_STATUS = {
    ReadingState.OK: "G",
    ReadingState.NO_ANSWER: "T",
    ReadingState.NOT_AVAILABLE: "F",
    ReadingState.OUT_OF_RANGE: "O",
    ReadingState.WRONG_SERIAL: "X",
    ReadingState.WRONG_MODEL: "X",
}


class CannotMake(ValueError):
    """The content is no record that may be signed; the message names the field, never a card number."""


class RecordSigner(Protocol):
    """What is needed of the station's record key, wherever its private half is."""

    @property
    def public(self) -> PublicKey: ...

    def sign(self, data: bytes) -> bytes:
        """Raw r||s, 64 bytes, over SHA-256 of `data`."""
        ...


def status(state: ReadingState) -> str:
    """ST for what became of a reading: G for a good one, E for a state the format has no letter for. A
    reading that is not good carries no number, so its mark bears the last confirmed register with the
    status SUBSTITUTE, or this."""
    return _STATUS.get(state, "E")


@dataclass(frozen=True, slots=True)
class Gateway:
    """Who signs: the station. `serial` is the station's id; with several connectors the meter's serial
    number and this one name the signer together."""

    serial: str
    version: str
    model: str = "voltill"


@dataclass(frozen=True, slots=True)
class MeterLabel:
    serial: str
    vendor: str = ""
    model: str = ""
    firmware: str = ""


@dataclass(frozen=True, slots=True)
class Customer:
    """Who charges. `flags`: how he was identified, one of each way."""

    kind: str
    id: str
    level: str = "TRUSTED"
    flags: tuple[str, ...] = ("RFID_NONE", "OCPP_NONE", "ISO15118_NONE", "PLMN_NONE")

    @classmethod
    def by_card(cls, transaction_number: str) -> Customer:
        """A payment at the terminal, by the number it is known by there (terminal id, receipt and trace
        joined by dashes, so that no run of digits can look like a card number). Trusted, not verified: the
        acquirer has said yes to the terminal, not to the signer."""
        return cls("CARD_TXN_NR", transaction_number)


@dataclass(frozen=True, slots=True)
class CableLoss:
    """`resistance` in `unit`, mOhm or uOhm."""

    resistance: Decimal | int
    unit: str = "mOhm"
    name: str = ""
    number: int | None = None


@dataclass(frozen=True, slots=True)
class Place:
    """Where: the connector's EVSE id (or, as `kind` CBIDC, charge box and connector)."""

    id: str = ""
    kind: str = "EVSEID"
    controller_firmware: str = ""
    cable: CableLoss | None = None


@dataclass(frozen=True, slots=True)
class Mark:
    """One reading. `reason`: B begin, E end or more precisely L local, R remote, A by an error, P power
    loss; C, S, T, X in between. `energy_wh` is the meter's register, not a difference."""

    reason: str
    energy_wh: int
    stamp: Stamp
    status: str = "G"
    error_flags: str = ""


@dataclass(frozen=True, slots=True)
class Content:
    """`page` counts all records of this signer by one, over restarts too: the caller keeps it. `current`: AC
    or DC, empty when it is not known. `zone`: the station's time zone."""

    page: int
    gateway: Gateway
    meter: MeterLabel
    customer: Customer
    marks: Sequence[Mark]
    tariff_text: str = ""
    place: Place = Place()
    current: str = ""
    register: str = IMPORT_REGISTER
    zone: tzinfo = UTC


@dataclass(frozen=True, slots=True)
class SignedValue:
    """A record as it goes into the session record and to the customer. `signed_by`: station or meter; a
    station's signature is evidence, not legal metrology, so it is never left out."""

    text: str
    public_key: str  # DER SubjectPublicKeyInfo in hex; empty when it is not known
    signed_by: str

    def json(self) -> dict[str, str]:
        return {
            "format": "OCMF",
            "signed_by": self.signed_by,
            "text": self.text,
            "public_key": self.public_key,
        }


def make(content: Content, signer: RecordSigner) -> SignedValue:
    """Sign one record, with begin and end or one of them. The payload is the same for the same content; the
    signature only where the key signs deterministically, so what was made is stored, not made again.
    Raises CannotMake, and what the signer raises."""
    signed = payload(content)
    raw = signer.sign(signed)
    if len(raw) != 2 * SCALAR_BYTES or not signer.public.verify(raw, signed):
        raise CannotMake("the key gave a signature that does not fit its public key")
    section = exact.dumps({"SA": terms.DEFAULT_ALGORITHM, "SD": der_signature(raw).hex().upper()})
    text = f"OCMF|{signed.decode('ascii')}|{section}"
    return SignedValue(text, signer.public.spki.hex().upper(), "station")


def payload(content: Content) -> bytes:
    """The bytes to sign. Raises CannotMake."""
    _check(content)
    fields: dict[str, JSON] = {
        "FV": FORMAT_VERSION,
        "GI": _text("GI", content.gateway.model),
        "GS": _text("GS", content.gateway.serial, least=1),
        "GV": _text("GV", content.gateway.version),
        "PG": f"T{content.page}",
        "MV": _text("MV", content.meter.vendor),
        "MM": _text("MM", content.meter.model),
        "MS": _text("MS", content.meter.serial, least=1),
        "MF": _text("MF", content.meter.firmware),
        "IS": content.customer.kind != "NONE",
        "IL": content.customer.level,
        "IF": list(content.customer.flags),
        "IT": content.customer.kind,
        "ID": _text("ID", content.customer.id, MAX_ID_CHARS),
        "TT": _text("TT", content.tariff_text, terms.MAX_TARIFF_CHARS),
        "CF": _text("CF", content.place.controller_firmware, terms.MAX_FIRMWARE_CHARS),
        "LC": _cable(content.place.cable),
        "CT": content.place.kind if content.place.id else None,
        "CI": _text("CI", content.place.id),
        "RD": _readings(content),
    }
    written = {name: value for name, value in fields.items() if value is not None and value != ""}
    if places := card_places(written):
        raise CannotMake(f"{places[0]} looks like a card number; it is not signed")
    # A | can stand in a text only, where JSON knows another way to write it.
    return exact.dumps(written).replace("|", "\\u007c").encode("ascii")


def _text(name: str, value: str, most: int = MAX_TEXT_FIELD_CHARS, least: int = 0) -> str:
    if not least <= len(value) <= most:
        raise CannotMake(f"{name} has {len(value)} characters; expected {least} to {most}")
    if any(unicodedata.category(char) in ("Cc", "Cs") for char in value):
        raise CannotMake(f"{name} holds a control character or half a character")
    return value


def _cable(cable: CableLoss | None) -> JSON:
    if cable is None:
        return None
    resistance = Decimal(cable.resistance)
    plausible = resistance.is_finite() and 0 <= resistance < 10**6
    if cable.unit not in ("mOhm", "uOhm") or not plausible:
        raise CannotMake("LC: expected a resistance below 1000000 in mOhm or uOhm")
    out: dict[str, JSON] = {}
    if cable.name:
        out["LN"] = _text("LN", cable.name, MAX_CABLE_NAME_CHARS)
    if cable.number is not None:
        out["LI"] = cable.number
    return out | {"LR": cable.resistance, "LU": cable.unit}


def _check(content: Content) -> None:
    """What the format asks of the values that are not plain texts."""
    if content.page < 1:
        raise CannotMake(f"page {content.page}; pages count from 1")
    customer = content.customer
    if customer.kind not in terms.IDENTIFICATION_TYPES or customer.kind == "ISO7812":
        raise CannotMake(f"IT {customer.kind!r} is none, or asks for a card number")
    if bool(customer.id) == (customer.kind == "NONE"):
        raise CannotMake("ID and IT must both be there, or neither (NONE)")
    if customer.level not in terms.IDENTIFICATION_LEVELS + terms.IDENTIFICATION_ERRORS:
        raise CannotMake(f"IL {customer.level!r} is no level of the format")
    flags = customer.flags
    if len(flags) > terms.MAX_FLAGS or not terms.IDENTIFICATION_FLAGS.issuperset(flags):
        raise CannotMake(f"IF {flags!r}: expected at most {terms.MAX_FLAGS} of the format's flags")
    if content.place.kind not in ("EVSEID", "CBIDC"):
        raise CannotMake(f"CT {content.place.kind!r}; expected EVSEID or CBIDC")
    if content.current not in ("", "AC", "DC"):
        raise CannotMake(f"RT {content.current!r}; expected AC or DC")
    code = obis.parse(content.register)
    if code is None or not code.accepted:
        raise CannotMake(f"RI {content.register!r} is no register that may be billed")
    _check_marks(content.marks)


def _check_marks(marks: Sequence[Mark]) -> None:
    if not 1 <= len(marks) <= MAX_MARKS:
        raise CannotMake(f"{len(marks)} readings; expected 1 to {MAX_MARKS}")
    reasons = [mark.reason for mark in marks]
    if not terms.REASONS.issuperset(reasons):
        raise CannotMake(f"TX {reasons!r} holds a reason that the format does not know")
    if "B" in reasons[1:] or any(reason in terms.END_REASONS for reason in reasons[:-1]):
        raise CannotMake("a record begins at most once, first, and ends at most once, last")
    before = 0
    for mark in marks:
        if isinstance(mark.energy_wh, bool) or not isinstance(mark.energy_wh, int):
            raise CannotMake("RV comes from whole Wh")
        if not before <= mark.energy_wh <= MAX_ENERGY_WH:
            raise CannotMake(f"RV: {mark.energy_wh} Wh after {before} Wh")
        before = mark.energy_wh
        if mark.status != "G" and mark.status not in terms.STATUS_TEXTS:
            raise CannotMake(f"ST {mark.status!r} is no status of the format")
        if mark.error_flags not in ("", "E", "t", "Et"):
            raise CannotMake(f"EF {mark.error_flags!r}; expected E, t or both")


def _readings(content: Content) -> list[JSON]:
    """Every reading complete: nothing is left to be inherited. Time of day is the first mark's plus what
    has elapsed, so a clock that is set meanwhile changes nothing. Behind a restart only the wall clock is
    left; where it says less than before, its time is worth nothing and is marked so."""
    anchor = content.marks[0].stamp
    before_ms = anchor.utc_ms
    out: list[JSON] = []
    for mark in content.marks:
        elapsed_ms, flags = mark.stamp.since_ms(anchor), mark.error_flags
        utc_ms, clock = anchor.utc_ms + (elapsed_ms or 0), _CLOCK[anchor.quality]
        if elapsed_ms is None:
            utc_ms, clock = mark.stamp.utc_ms, _CLOCK[mark.stamp.quality]
        if utc_ms < before_ms:
            utc_ms, clock, flags = before_ms, "U", "Et" if "E" in flags else "t"
        before_ms = utc_ms
        reading: dict[str, JSON] = {
            "TM": f"{time_text(utc_ms, content.zone)} {clock}",
            "TX": mark.reason,
            "RV": Decimal(mark.energy_wh).scaleb(-3),
            "RI": content.register,
            "RU": "kWh",
            "RT": content.current,
            "EF": flags,
            "ST": mark.status,
        }
        if not content.current:
            del reading["RT"]
        out.append(reading)
    return out


def clock_text(now: Stamp, zone: tzinfo) -> str:
    """2026-08-21T12:00:00,123+0200 S: a time of day with the state of the clock. Raises CannotMake."""
    return f"{time_text(now.utc_ms, zone)} {_CLOCK[now.quality]}"


def time_text(utc_ms: int, zone: tzinfo) -> str:
    """2026-08-21T12:00:00,123+0200"""
    if not 0 <= utc_ms < _LAST_MS:
        raise CannotMake(f"TM: {utc_ms} ms since 1970 is no time of day")
    local = (_EPOCH + timedelta(milliseconds=utc_ms)).astimezone(zone)
    offset = local.strftime("%z")
    if len(offset) != len("+0000"):
        raise CannotMake("TM: the time zone is no whole number of minutes from UTC")
    return f"{local:%Y-%m-%dT%H:%M:%S},{local.microsecond // 1000:03d}{offset}"
